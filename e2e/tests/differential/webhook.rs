//! The webhook backend: the server and the answers are the operator's own. One server asks for each pair the program of its namespace.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::StatusCode;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, Client};
use podpolicy_admission::webhook::{Limits, answer, server};
use podpolicy_e2e::environment::self_signed;
use podpolicy_e2e::objects;
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_engine::Program;
use serde_json::{Value as Json, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::pair::Backend;

/// The namespace by which one sees that the API server asks: its pods get a label from the server itself.
const WITNESS: &str = "witness";

type Programs = Arc<Mutex<HashMap<String, Arc<Program>>>>;

/// A running webhook.
pub struct Webhook {
    client: Client,
    programs: Programs,
    _tasks: JoinSet<()>,
}

impl Webhook {
    /// Starts it, and waits until the API server asks it.
    pub async fn start(client: Client) -> anyhow::Result<Self> {
        let (served, certificate) = self_signed()?;
        let (sender, certificates) = watch::channel(Some(served));
        let (address, listener) = server::bind("127.0.0.1:0".parse()?).await?;
        let programs = Programs::default();
        let serving = server::serve(listener, certificates, Dispatch(Arc::clone(&programs)), Limits::default(), std::future::pending());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _keeps_the_certificate = sender;
            serving.await.expect("the webhook can be served");
        });
        let webhook = Self { client, programs, _tasks: tasks };
        webhook.configure(address, pem::encode(&pem::Pem::new("CERTIFICATE", certificate.to_vec()))).await?;
        Ok(webhook)
    }

    async fn configure(&self, address: SocketAddr, bundle: String) -> anyhow::Result<()> {
        let mut configuration: MutatingWebhookConfiguration = objects::yaml(&format!(
            "
            metadata: {{ name: differential }}
            webhooks:
              - name: pods.differential.podpolicy.dev
                admissionReviewVersions: [v1]
                sideEffects: None
                failurePolicy: Fail
                reinvocationPolicy: IfNeeded
                clientConfig: {{ url: 'https://{address}/mutate' }}
                rules: [{{ apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [pods] }}]
            "
        ));
        for webhook in configuration.webhooks.iter_mut().flatten() {
            webhook.client_config.ca_bundle = Some(ByteString(bundle.clone().into_bytes()));
        }
        Api::<MutatingWebhookConfiguration>::all(self.client.clone()).create(&PostParams::default(), &configuration).await?;
        let mut namespace = k8s_openapi::api::core::v1::Namespace::default();
        namespace.metadata.name = Some(WITNESS.to_owned());
        Api::all(self.client.clone()).create(&PostParams::default(), &namespace).await?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), WITNESS);
        let params = PostParams { dry_run: true, ..PostParams::default() };
        eventually("the API server to ask the webhook", DEADLINE, async || {
            // The server knows no program for it, and refuses to answer.
            let answer = pods.create(&params, &objects::pod("pod", &[])).await;
            Ok(Seen::when(answer.as_ref().is_err_and(|error| error.to_string().contains("pods.differential.podpolicy.dev")), answer))
        })
        .await
    }
}

impl Backend for Webhook {
    async fn enforce(&self, programs: &[(String, Arc<Program>)]) -> anyhow::Result<()> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner).extend(programs.iter().cloned());
        Ok(())
    }

    async fn withdraw(&self, programs: &[(String, Arc<Program>)]) -> anyhow::Result<()> {
        let mut known = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        for (namespace, _) in programs {
            known.remove(namespace);
        }
        drop(known);
        Ok(())
    }
}

/// Answers with the program of the pod's namespace, which knows it under the name that it was generated with.
struct Dispatch(Programs);

impl server::Handler for Dispatch {
    fn handle(&self, body: &[u8]) -> Result<Vec<u8>, server::Refusal> {
        let refuse = |message: String| server::Refusal::new(StatusCode::BAD_REQUEST, message);
        let mut review: Json = serde_json::from_slice(body).map_err(|error| refuse(error.to_string()))?;
        let namespace = review["request"]["namespace"].as_str().unwrap_or_default().to_owned();
        if review["request"]["dryRun"] == json!(true) && namespace != WITNESS {
            // What the pod is without policies is found out by a dry run.
            let allowed = json!({
                "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                "response": { "uid": review["request"]["uid"], "allowed": true },
            });
            return Ok(allowed.to_string().into_bytes());
        }
        let program = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&namespace).cloned();
        let program = program.ok_or_else(|| refuse(format!("no program for namespace {namespace}")))?;
        review["request"]["namespace"] = "shop".into();
        answer(&program, review.to_string().as_bytes()).map_err(|error| refuse(error.to_string()))
    }
}
