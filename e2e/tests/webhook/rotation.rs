//! Certificates change under load, and nobody notices.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use podpolicy_admission::webhook::{FailurePolicy, Lifetimes};
use podpolicy_e2e::objects::pod;
use podpolicy_e2e::{ControlPlane, Options, TestNamespace};
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::desk::{Desk, is_asked_about, label_in};

/// More than 50 creations a second. Those that come late are made up for.
const PACE: Duration = Duration::from_millis(19);
/// How long it may take until everything has changed.
const PATIENCE: Duration = Duration::from_mins(2);

#[tokio::test]
async fn certificates_change_under_load_without_a_pod_that_fails_or_is_missed() -> anyhow::Result<()> {
    let plane = ControlPlane::start(Options { crds: true, controller_manager: false }).await?;
    let namespace = TestNamespace::create(&plane.config(), "rotation").await?;
    let desk = Desk::open(plane.client(), namespace.name(), |options| {
        options.failure_policy = FailurePolicy::Fail;
        options.lifetimes = Lifetimes {
            leaf: Duration::from_secs(12),
            ca: Duration::from_secs(24),
            publication: Duration::from_secs(2),
            overlap: Duration::from_secs(3),
        };
        // So that there are always new handshakes.
        options.limits.connection_time = Duration::from_millis(200);
    })
    .await?;
    desk.decide(label_in(namespace.name())).await?;
    desk.reaches(namespace.name()).await?;

    let first_ca = desk.secret().await?.data.expect("it has data")["ca.crt"].clone();
    let (mut leaves, mut bundles) = (BTreeSet::new(), BTreeSet::new());
    let pods: Api<Pod> = Api::namespaced(plane.client(), namespace.name());
    let (mut creations, mut ticks, start) = (JoinSet::new(), interval(PACE), Instant::now());
    let mut created = 0_u32;
    loop {
        ticks.tick().await;
        let (pods, name) = (pods.clone(), format!("web-{created}"));
        created += 1;
        creations.spawn(async move {
            match pods.create(&PostParams::default(), &pod(&name, &[])).await {
                Ok(pod) if is_asked_about(&pod) => None,
                Ok(_) => Some(format!("{name} was missed")),
                Err(error) => Some(format!("{name} failed: {error}")),
            }
        });
        if created.is_multiple_of(10) {
            let data = desk.secret().await?.data.expect("it has data");
            leaves.insert(data["tls.crt"].0.clone());
            let live = desk.configuration().await?.and_then(|found| found.webhooks).expect("it is there");
            bundles.insert(live[0].client_config.ca_bundle.clone().expect("it has a bundle").0);
            let is_over = data["ca.crt"] != first_ca && !data.contains_key("previous-ca.crt") && leaves.len() >= 3;
            if is_over {
                break;
            }
            anyhow::ensure!(start.elapsed() < PATIENCE, "only {} leaves and {} bundles so far", leaves.len(), bundles.len());
        }
    }
    let problems: Vec<_> = creations.join_all().await.into_iter().flatten().collect();
    let rate = f64::from(created) / start.elapsed().as_secs_f64();
    #[expect(clippy::print_stderr, reason = "the figure is what the test is for")]
    {
        eprintln!(
            "{created} pods at {rate:.0}/s, {} serving certificates, {} bundles: {} failed or were missed",
            leaves.len(),
            bundles.len(),
            problems.len()
        );
    }
    assert_eq!(problems, Vec::<String>::new());
    assert!(bundles.len() >= 3, "old, old and new, new and old, new: {}", bundles.len());
    desk.close().await
}
