//! Pods are right from birth: what the engine decides about a pod that is about to be created, in the two forms that an API server
//! takes. [`cel`] compiles a program to MutatingAdmissionPolicy objects, so that the API server decides by itself. [`webhook`] is the server
//! that it asks otherwise, over [`https`].
//!
//! No rule about pods is made here. What a pod should look like is `podpolicy-engine`'s business, and the two forms must give the
//! same pod.

pub mod cel;
pub mod https;
mod namespaces;
mod patch;
pub mod webhook;

pub use patch::{Content, Operation, patch};
