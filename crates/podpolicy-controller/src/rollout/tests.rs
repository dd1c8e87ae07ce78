//! The planner against clusters that are made up.
