//! Pods right from birth without a webhook: policies as MutatingAdmissionPolicy objects on a real API server.
//!
//! The operators of most tests act in one namespace, so that they can run side by side; one for the whole cluster has a control plane of
//! its own.

mod cluster;
mod compile;
mod creation;
mod faults;
mod objects;
mod scene;
