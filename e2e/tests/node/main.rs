//! What only running pods show, on a cluster with a real node: probes, hooks, signals, the network of pods.
//!
//! `just e2e` runs these: they need root, or a cluster that is named.

mod access;
mod commands;
mod containers;
mod harness;
mod hooks;
mod manifest;
mod operator;
mod pods;
mod probes;
mod rollout;
mod scene;
mod selection;
mod takeover;
mod webhook;
