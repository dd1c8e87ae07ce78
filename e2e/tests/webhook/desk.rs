//! A webhook in the test's process, on a port of its own, with a configuration and a Secret of its own.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::PostParams;
use kube::{Api, Client};
use podpolicy_admission::webhook::{Certificates, Endpoint, Options, State, maintain, serve};
use podpolicy_controller::Metrics;
use podpolicy_e2e::objects;
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_engine::{Policy, Program, Settings};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The label that shows that a pod went by the webhook.
pub(crate) const LABEL: (&str, &str) = ("team", "shop");

/// A running webhook. Dropping it ends it, and leaves its configuration.
pub(crate) struct Desk {
    pub(crate) client: Client,
    pub(crate) options: Options,
    pub(crate) address: std::net::SocketAddr,
    pub(crate) programs: watch::Sender<Option<Arc<Program>>>,
    pub(crate) state: watch::Receiver<State>,
    server: JoinSet<()>,
    leader: JoinSet<()>,
}

impl Desk {
    /// Starts one whose Secret is in this namespace, and whose configuration is named like it.
    pub(crate) async fn open(client: Client, namespace: &str, adjust: impl FnOnce(&mut Options)) -> anyhow::Result<Self> {
        let anywhere = "127.0.0.1:0".parse()?;
        let mut options = Options::new(anywhere, Endpoint::url("https://127.0.0.1")?, "podpolicy-system");
        options.certificates = Certificates::Own { namespace: namespace.to_owned(), secret: "webhook".to_owned() };
        options.name = format!("podpolicy-{namespace}");
        adjust(&mut options);
        let (programs, receiver) = watch::channel(None);
        let metrics = Arc::new(Metrics::default());
        let (address, serving) = serve(client.clone(), &options, receiver.clone(), metrics, std::future::pending()).await?;
        options.endpoint = Endpoint::url(&format!("https://{address}"))?;
        let (sender, state) = watch::channel(State::default());
        let (mut server, mut leader) = (JoinSet::new(), JoinSet::new());
        server.spawn(async move { serving.await.expect("the webhook can be served") });
        leader.spawn(maintain(client.clone(), options.clone(), receiver, sender));
        Ok(Self { client, options, address, programs, state, server, leader })
    }

    /// Puts a program in force, and waits until the API server knows.
    pub(crate) async fn decide(&self, program: Program) -> anyhow::Result<()> {
        let program = Arc::new(program);
        self.programs.send_replace(Some(Arc::clone(&program)));
        self.in_force(&program).await
    }

    pub(crate) async fn in_force(&self, program: &Arc<Program>) -> anyhow::Result<()> {
        eventually("the configuration to be right", DEADLINE, async || {
            let state = self.state.borrow().clone();
            let is_in_force = state.in_force.is_some_and(|found| Arc::ptr_eq(&found, program)) && state.problem.is_none();
            Ok(Seen::when(is_in_force, state.problem))
        })
        .await
    }

    /// Waits until pods in the namespace go by the webhook, which nothing but a try can tell.
    pub(crate) async fn reaches(&self, namespace: &str) -> anyhow::Result<()> {
        eventually("the API server to ask the webhook", DEADLINE, async || {
            let seen = self.try_out(namespace).await;
            Ok(Seen::when(seen.as_ref().is_ok_and(|is_asked| *is_asked), seen))
        })
        .await
    }

    /// Waits until pods in the namespace do not go by the webhook any more.
    pub(crate) async fn spares(&self, namespace: &str) -> anyhow::Result<()> {
        eventually("the API server not to ask the webhook", DEADLINE, async || {
            let seen = self.try_out(namespace).await;
            Ok(Seen::when(seen.as_ref().is_ok_and(|is_asked| !*is_asked), seen))
        })
        .await
    }

    async fn try_out(&self, namespace: &str) -> kube::Result<bool> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let params = PostParams { dry_run: true, ..PostParams::default() };
        pods.create(&params, &objects::pod("probe", &[])).await.map(|pod| is_asked_about(&pod))
    }

    /// Ends the server, as a crash would.
    pub(crate) async fn crash(&mut self) {
        self.server.shutdown().await;
    }

    /// Ends the upkeep, as a crash would.
    pub(crate) async fn abdicate(&mut self) {
        self.leader.shutdown().await;
    }

    pub(crate) fn configurations(&self) -> Api<MutatingWebhookConfiguration> {
        Api::all(self.client.clone())
    }

    pub(crate) async fn configuration(&self) -> anyhow::Result<Option<MutatingWebhookConfiguration>> {
        Ok(self.configurations().get_opt(&self.options.name).await?)
    }

    pub(crate) async fn secret(&self) -> anyhow::Result<Secret> {
        let Certificates::Own { namespace, secret } = &self.options.certificates else { anyhow::bail!("the certificates are in files") };
        Ok(Api::namespaced(self.client.clone(), namespace).get(secret).await?)
    }

    /// Takes the configuration away, so that no later pod waits for a webhook that has gone.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        podpolicy_admission::webhook::remove(self.client.clone(), &self.options.name).await?;
        Ok(())
    }
}

pub(crate) fn is_asked_about(pod: &Pod) -> bool {
    pod.metadata.labels.as_ref().and_then(|labels| labels.get(LABEL.0)).is_some_and(|value| value == LABEL.1)
}

/// A program of policies in this namespace, or of ClusterPodPolicies, from their specs in YAML.
pub(crate) fn program(policies: &[(Option<&str>, &str)]) -> Program {
    let parse = |(index, (namespace, spec)): (usize, &(Option<&str>, &str))| {
        let spec: serde_json::Value = objects::yaml(spec);
        let mut policy = json!({ "metadata": { "name": format!("standard-{index}") }, "spec": spec });
        let policy = match namespace {
            Some(namespace) => {
                policy["metadata"]["namespace"] = (*namespace).into();
                Policy::from_namespaced(&serde_json::from_value(policy).expect("a spec"))
            }
            None => Policy::from_cluster(&serde_json::from_value(policy).expect("a spec")),
        };
        assert_eq!(policy.problems(), &[] as &[String]);
        Arc::new(policy)
    };
    let excluded_namespaces = ["kube-system", "kube-public", "kube-node-lease", "podpolicy-system"].map(str::to_owned).into();
    let settings = Settings { excluded_namespaces, ..Settings::default() };
    Program::new(policies.iter().enumerate().map(parse), HashMap::new(), settings)
}

/// One policy that sets [`LABEL`] on every pod of the namespace.
pub(crate) fn label_in(namespace: &str) -> Program {
    program(&[(Some(namespace), "{ selector: {}, labels: { team: shop } }")])
}
