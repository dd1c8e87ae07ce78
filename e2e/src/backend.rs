//! How the operators of tests give pods their settings at creation, and tests that do not apply to the API server at hand.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::thread;

use podpolicy_admission::webhook::{Certificates, Endpoint, Options, configuration_name};
use podpolicy_controller::{AdmissionMode, Config, Watched};

use crate::ControlPlane;
use crate::environment::free_address;

/// An operator of one namespace, which keeps the certificates of its webhook there. `AdmissionMode::Auto` takes whichever backend the API
/// server has.
pub fn operator_in(namespace: &str, admission: AdmissionMode) -> anyhow::Result<Config> {
    let namespaces = BTreeSet::from([namespace.to_owned()]);
    let address = free_address()?;
    let mut options = Options::new(address, Endpoint::url(&format!("https://{address}"))?, "podpolicy-system");
    options.certificates = Certificates::Own { namespace: namespace.to_owned(), secret: "webhook".to_owned() };
    options.name = configuration_name(&namespaces);
    Ok(Config { watched: Watched::Namespaces(namespaces), admission, webhook: Some(options), ..Config::default() })
}

/// Whether the API server serves MutatingAdmissionPolicies of v1.
pub async fn has_native(plane: &ControlPlane) -> anyhow::Result<bool> {
    let resources = plane.client().list_api_group_resources("admissionregistration.k8s.io/v1").await?.resources;
    Ok(resources.iter().any(|resource| resource.name == "mutatingadmissionpolicies"))
}

/// Whether a test of these policies does not apply, because the API server does not serve them. Says so in a line, which `matrix.sh` counts,
/// so a test that ends early never looks like one that passed.
pub async fn lacks_native(plane: &ControlPlane) -> anyhow::Result<bool> {
    if has_native(plane).await? {
        return Ok(false);
    }
    let version = plane.client().apiserver_version().await?.git_version;
    let current = thread::current();
    let test = current.name().unwrap_or("a test");
    // Past the test runner, which keeps what tests print to itself.
    writeln!(io::stdout(), "does not apply to Kubernetes {version}: {test} needs MutatingAdmissionPolicies of v1")?;
    Ok(true)
}
