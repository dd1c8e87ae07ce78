//! What people and their tools learn of the operator, on a real API server: metrics and who may read them, events, health as GitOps tools
//! see it.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests are as much test as the tests")]

mod access;
mod events;
mod gitops;
mod metrics;
