//! What users install: the kustomizations in `config/`, the chart, the image; and what other tools run of it. They are rendered by the real kustomize and helm, which are built
//! from Go modules the first time, and given to a real API server. No node runs them.

#![allow(clippy::unwrap_used, reason = "the helpers of these tests are as much test as the tests")]

mod alerts;
mod chart;
mod cluster;
mod image;
mod plugs;
mod render;
mod rights;
