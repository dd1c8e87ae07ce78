//! Pods are right from birth, whoever makes them and whichever backend gives them their settings: the first version of a pod that anybody
//! can see has what policies say; and nothing else is touched.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests are as much test as the tests")]

mod backends;
mod budget;
mod first_sight;
mod moving;
mod others;
mod replicas;
mod scope;
mod workloads;
