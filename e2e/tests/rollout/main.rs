//! Rollouts to pods that already run, on a real API server with real controllers and a kubelet that runs nothing.

mod crash;
mod evict;
mod failure;
mod gates;
mod nodes;
mod policies;
mod restart;
mod rights;
mod scale;
mod scene;
