//! Operators with either backend, each in one namespace, on a control plane of this test binary.

use podpolicy_controller::{AdmissionMode, Config};
use podpolicy_e2e::policies::{status, verdict};
use podpolicy_e2e::{InProcess, Stage, backend, shared};

/// Who gives pods their settings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Backend {
    Native,
    Webhook,
}

impl Backend {
    /// Those that the API server can have.
    pub async fn all() -> anyhow::Result<Vec<Self>> {
        let native = backend::has_native(shared().await).await?.then_some(Self::Native);
        Ok(native.into_iter().chain([Self::Webhook]).collect())
    }
}

/// A policy with one of each setting, by the name `standard`.
pub const STANDARD: &str = "{
    selector: {}, labels: { team: shop }, annotations: { example.com/oncall: shop@example.com }, terminationGracePeriodSeconds: 60,
    containers: [{ readinessProbe: { httpGet: { path: /ready, port: 8080 } }, lifecycle: { preStop: { sleep: { seconds: 5 } } } }],
}";

/// How an operator of the stage's namespace is configured.
pub fn config(stage: &Stage, backend: Backend) -> anyhow::Result<Config> {
    let admission = match backend {
        Backend::Native => AdmissionMode::Native,
        Backend::Webhook => AdmissionMode::Webhook,
    };
    backend::operator_in(stage.name(), admission)
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
