//! Nobody is held up who must not be.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use podpolicy_admission::webhook::FailurePolicy;
use podpolicy_e2e::objects::pod;
use podpolicy_e2e::wait::DEADLINE;
use podpolicy_e2e::{ControlPlane, Options, TestNamespace, shared};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::desk::{Desk, is_asked_about, label_in, program};

async fn create(client: &Client, namespace: &str, name: &str) -> kube::Result<Pod> {
    Api::namespaced(client.clone(), namespace).create(&PostParams::default(), &pod(name, &[])).await
}

#[tokio::test]
async fn webhook_that_is_down_or_not_ready_lets_pods_in_by_default() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "down").await?;
    let mut desk = Desk::open(plane.client(), namespace.name(), |_| {}).await?;
    desk.decide(label_in(namespace.name())).await?;
    desk.reaches(namespace.name()).await?;
    let program = desk.programs.send_replace(None);
    assert!(!is_asked_about(&create(&desk.client, namespace.name(), "unready").await?));
    desk.programs.send_replace(program);
    assert!(is_asked_about(&create(&desk.client, namespace.name(), "ready").await?));
    desk.crash().await;
    assert!(!is_asked_about(&create(&desk.client, namespace.name(), "down").await?));
    desk.close().await
}

#[tokio::test]
async fn kubernetes_own_and_the_operators_namespaces_are_never_held_up() -> anyhow::Result<()> {
    let plane = ControlPlane::start(Options { crds: true, controller_manager: false }).await?;
    let client = plane.client();
    let own =
        Namespace { metadata: ObjectMeta { name: Some("podpolicy-system".to_owned()), ..ObjectMeta::default() }, ..Namespace::default() };
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &own).await?;
    let mut desk = Desk::open(client.clone(), "podpolicy-system", |options| options.failure_policy = FailurePolicy::Fail).await?;
    let label = "{ selector: {}, labels: { team: shop } }";
    desk.decide(program(&[(None, label), (Some("kube-system"), label), (Some("podpolicy-system"), label), (Some("default"), label)]))
        .await?;
    for namespace in ["default", "kube-system", "podpolicy-system"] {
        desk.reaches(namespace).await?;
    }
    assert!(!is_asked_about(&create(&client, "kube-public", "excluded").await?));
    desk.crash().await;
    let refused = create(&client, "default", "down").await.expect_err("the failure policy is Fail").to_string();
    assert!(refused.contains("failed calling webhook"), "{refused}");
    for namespace in ["kube-system", "podpolicy-system", "kube-public", "kube-node-lease"] {
        create(&client, namespace, "down").await?;
    }
    Ok(())
}

#[tokio::test]
async fn clients_that_are_slow_silent_or_too_many_do_not_keep_others_out() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "slow").await?;
    let desk = Desk::open(plane.client(), namespace.name(), |options| {
        options.limits.first_request_time = Duration::from_millis(500);
        options.limits.connections = 8;
    })
    .await?;
    desk.decide(label_in(namespace.name())).await?;
    desk.reaches(namespace.name()).await?;
    let mut idlers = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(desk.address).await?;
        // The beginning of a handshake, or nothing; those beyond the bound are closed already.
        let _ = stream.write_all(b"\x16\x03\x01").await;
        idlers.push(stream);
    }
    for mut stream in idlers {
        // All are closed by the server, which a read shows, be it with an error.
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await?;
    }
    assert!(is_asked_about(&create(&desk.client, namespace.name(), "web").await?));
    desk.close().await
}
