//! The effects of PodPolicy: it watches, lets the engine decide, patches pods and writes status.
//!
//! No rule about pods lives here: what a pod should look like is `podpolicy-engine`'s business. [`run`] is the whole of it, but for
//! [`clean_up`], which takes away what it leaves behind, and [`Snapshots`], for who only looks; the loop in `reconcile` reads as its summary: observe -> plan -> apply -> status.

mod admission;
mod apply;
mod beside;
mod causes;
mod cleanup;
mod config;
mod events;
mod guard;
mod health;
mod leadership;
mod metrics;
mod observe;
mod projection;
mod reconcile;
mod retry;
mod rollout;
mod serve;
mod snapshot;
mod source;
mod status;
mod support;
mod world;

pub use cleanup::{CleanUp, CleanUpError, CleanedPods, CleanedUp, clean_up};
pub use config::{AdmissionMode, Config, DEFAULT_EXCLUDED_NAMESPACES, DEFAULT_OWN_NAMESPACE, Watched};
pub use health::Health;
pub use leadership::{Election, ElectionTimes, LEASE_NAME};
pub use metrics::Metrics;
pub use reconcile::{RunError, run};
pub use serve::{ServeError, Shown, serve, serve_protected};
pub use snapshot::{SeenPod, SeenPolicy, Snapshot, SnapshotError, Snapshots};
pub use support::{SupportError, ask as ask_support};
