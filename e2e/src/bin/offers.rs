//! Prints what the API server of a control plane offers, for the table of `matrix.sh`: the backend that the operator takes there, a tab, and
//! the fields of policies that the API server drops.

use std::io::{self, Write as _};

use podpolicy_controller::ask_support;
use podpolicy_e2e::{ControlPlane, Options, backend};
use podpolicy_engine::Feature;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let plane = ControlPlane::start(Options { crds: false, controller_manager: false }).await?;
    let backend = if backend::has_native(&plane).await? { "MutatingAdmissionPolicy" } else { "webhook" };
    let support = ask_support(&plane.client(), "default").await?;
    // Policies do not set the one that is left.
    let settable = Feature::ALL.into_iter().filter(|feature| *feature != Feature::ContainerRestartPolicy);
    let dropped: Vec<_> = settable.filter(|feature| !support.has(*feature)).map(Feature::name).collect();
    let dropped = if dropped.is_empty() { "none".to_owned() } else { dropped.join(", ") };
    writeln!(io::stdout(), "{backend}\t{dropped}")?;
    Ok(())
}
