//! The guard: who may write commands into policies, and when the operator believes that they were checked, on a real API server.
//!
//! A guard is one for a whole cluster, so that each story that installs or deletes one has a control plane of its own.

mod authors;
mod reach;
mod scene;
mod vouching;
