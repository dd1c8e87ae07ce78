//! The webhook on a real API server: pods get what policies say, nobody is held up who must not be, certificates change without a failure.
//! The tests give the webhook its program themselves; no operator runs.

mod creation;
mod desk;
mod failure;
mod rotation;
mod upkeep;
