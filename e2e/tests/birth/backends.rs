//! Operators with either backend, each in one namespace, on a control plane of this test binary.

use std::collections::BTreeSet;

use podpolicy_admission::webhook::{Certificates, Endpoint, Options, configuration_name};
use podpolicy_controller::{AdmissionMode, Config, Watched};
use podpolicy_e2e::environment::free_address;
use podpolicy_e2e::policies::{status, verdict};
use podpolicy_e2e::{InProcess, Stage, shared};

/// Who gives pods their settings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Backend {
    Native,
    Webhook,
}

/// A policy with one of each setting, by the name `standard`.
pub const STANDARD: &str = "{
    selector: {}, labels: { team: shop }, annotations: { example.com/oncall: shop@example.com }, terminationGracePeriodSeconds: 60,
    containers: [{ readinessProbe: { httpGet: { path: /ready, port: 8080 } }, lifecycle: { preStop: { sleep: { seconds: 5 } } } }],
}";

/// How an operator of the stage's namespace is configured.
pub fn config(stage: &Stage, backend: Backend) -> anyhow::Result<Config> {
    let watched = Watched::Namespaces(BTreeSet::from([stage.name().to_owned()]));
    let address = free_address()?;
    let mut options = Options::new(address, Endpoint::url(&format!("https://{address}"))?, "podpolicy-system");
    options.certificates = Certificates::Own { namespace: stage.name().to_owned(), secret: "webhook".to_owned() };
    options.name = configuration_name(&BTreeSet::from([stage.name().to_owned()]));
    let admission = match backend {
        Backend::Native => AdmissionMode::Native,
        Backend::Webhook => AdmissionMode::Webhook,
    };
    Ok(Config { watched, admission, webhook: Some(options), ..Config::default() })
}

/// Starts an operator with the backend, and waits until the policy `standard` is in force.
pub async fn operator(stage: &Stage, backend: Backend) -> anyhow::Result<InProcess> {
    let client = stage.tap.client(shared().await.config())?;
    let operator = InProcess::start(client, config(stage, backend)?).await?;
    stage.policy("standard", STANDARD).await?;
    ready(stage, "standard").await?;
    Ok(operator)
}

/// Waits until the policy is ready for its present spec: pods that are created now have its settings.
pub async fn ready(stage: &Stage, policy: &str) -> anyhow::Result<()> {
    status(&stage.policies, policy, "ready", |status| verdict(status, "Ready").starts_with("True")).await?;
    Ok(())
}
