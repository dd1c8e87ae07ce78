//! What the end-to-end tests stand on: a real Kubernetes control plane without nodes, built from source and run as ordinary
//! processes on this machine; for what only running pods show, a cluster with a real node; and tools to ask them questions.
//!
//! The tests themselves are in `tests/`. Nothing here judges what a policy does; and nothing here may outlive the process
//! that started it. Linux only.

pub mod backend;
mod binaries;
mod binary;
pub mod cluster;
mod control_plane;
mod controller_manager;
pub mod environment;
mod fewest;
mod history;
mod in_process;
pub mod installation;
mod kubectl;
pub mod kubelet;
mod namespace;
mod node;
pub mod objects;
mod overlay;
pub mod pods;
pub mod policies;
mod process;
mod proxy;
pub mod requests;
mod servers;
pub mod stage;
pub mod tap;
mod tunnel;
pub mod wait;
mod watchdog;
pub mod workload;

pub use binary::{Operator, program};
pub use cluster::Cluster;
pub use control_plane::{ControlPlane, Options, shared};
pub use fewest::Fewest;
pub use history::History;
pub use in_process::InProcess;
pub use installation::Installation;
pub use kubectl::Kubectl;
pub use namespace::TestNamespace;
pub use node::Node;
pub use overlay::Overlay;
pub use process::Process;
pub use proxy::Proxy;
pub use requests::Requests;
pub use servers::WATCHED;
pub use stage::Stage;
pub use tap::Tap;
