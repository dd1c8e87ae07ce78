//! What pods get when they are created, and what whoever creates them is told.

use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};
use podpolicy_e2e::objects::{IMAGE, pod, yaml};
use podpolicy_e2e::stage::record;
use podpolicy_e2e::{TestNamespace, shared};
use serde_json::{Value, json};

use crate::desk::{Desk, is_asked_about, label_in, program};

const STANDARD: &str = "
    selector: {}
    labels: { team: shop }
    annotations: { example.com/oncall: shop@example.com }
    terminationGracePeriodSeconds: 60
    containers:
      - names: [web, proxy]
        livenessProbe: { httpGet: { path: /healthz, port: http }, periodSeconds: 5 }
        readinessProbe: { tcpSocket: { port: 8080 } }
        startupProbe: { grpc: { port: 9090 }, failureThreshold: 30 }
        lifecycle: { preStop: { sleep: { seconds: 5 } }, postStart: { httpGet: { path: /warm, port: 8080 } } }
";

#[tokio::test]
async fn pod_is_created_with_all_that_policies_say() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "created").await?;
    let elsewhere = TestNamespace::create(&plane.config(), "elsewhere").await?;
    let desk = Desk::open(plane.client(), namespace.name(), |_| {}).await?;
    desk.decide(program(&[(Some(namespace.name()), STANDARD)])).await?;
    desk.reaches(namespace.name()).await?;

    let pods: Api<Pod> = Api::namespaced(plane.client(), namespace.name());
    let wanted: Pod = yaml(&format!(
        "
        metadata: {{ name: web }}
        spec:
          initContainers:
            - {{ name: proxy, image: {IMAGE}, restartPolicy: Always, ports: [{{ name: http, containerPort: 8081 }}] }}
          containers:
            - {{ name: other, image: {IMAGE} }}
            - {{ name: web, image: {IMAGE}, ports: [{{ name: http, containerPort: 8080 }}], lifecycle: {{ preStop: {{ sleep: {{ seconds: 7 }} }} }} }}
        "
    ));
    let created = pods.create(&PostParams::default(), &wanted).await?;
    assert_eq!(created.labels()["team"], "shop");
    assert_eq!(created.annotations()["example.com/oncall"], "shop@example.com");
    let spec: Value = serde_json::to_value(created.spec.as_ref().expect("a pod has a spec"))?;
    assert_eq!(spec["terminationGracePeriodSeconds"], 60);
    for (container, slept) in [(&spec["containers"][1], 7), (&spec["initContainers"][0], 5)] {
        assert_eq!(
            (&container["livenessProbe"]["periodSeconds"], &container["livenessProbe"]["httpGet"]["port"]),
            (&json!(5), &json!("http"))
        );
        assert_eq!(container["readinessProbe"]["tcpSocket"]["port"], 8080);
        assert_eq!(container["startupProbe"]["failureThreshold"], 30);
        assert_eq!(container["lifecycle"]["preStop"]["sleep"]["seconds"], slept);
        assert_eq!(container["lifecycle"]["postStart"]["httpGet"]["path"], "/warm");
    }
    assert_eq!((spec["containers"][0].get("livenessProbe"), spec["containers"][0].get("lifecycle")), (None, None));
    let record = record(&created);
    assert_eq!(record["labels"]["team"]["by"], "PodPolicy/standard-0");
    assert_eq!(record["created"]["terminationGracePeriodSeconds"]["by"], "PodPolicy/standard-0");
    assert_eq!(record["created"]["containers[web].livenessProbe"]["by"], "PodPolicy/standard-0");

    let dry = pods.create(&PostParams { dry_run: true, ..PostParams::default() }, &pod("dry", &[])).await?;
    assert!(is_asked_about(&dry) && pods.get_opt("dry").await?.is_none());
    let others: Api<Pod> = Api::namespaced(plane.client(), elsewhere.name());
    let untouched = others.create(&PostParams::default(), &pod("web", &[])).await?;
    assert_eq!((untouched.labels().len(), untouched.annotations().len()), (0, 0));
    desk.close().await
}

#[tokio::test]
async fn what_is_kept_or_refused_is_told_to_whoever_creates_the_pod() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "warned").await?;
    let desk = Desk::open(plane.client(), namespace.name(), |_| {}).await?;
    let spec = "{ selector: {}, labels: { team: shop, tier: front, pod-template-hash: '1' } }";
    desk.decide(program(&[(Some(namespace.name()), spec)])).await?;
    desk.reaches(namespace.name()).await?;
    let mut kubectl = plane.kubectl();
    kubectl.args(["-n", namespace.name(), "run", "web", "--image", IMAGE, "--labels", "tier=back"]);
    let output = tokio::task::spawn_blocking(move || kubectl.output()).await??;
    let told = String::from_utf8(output.stderr)?;
    assert!(output.status.success(), "{told}");
    let lines: Vec<_> = told.lines().collect();
    let policy = format!("Warning: PodPolicy {namespace}/standard-0");
    assert_eq!(lines.len(), 2, "{told}");
    assert!(lines[0].starts_with(&format!("{policy}: labels[pod-template-hash]: pod-template-hash is generated")), "{told}");
    assert!(lines[1].starts_with(&format!("{policy}: labels[tier]: ")), "{told}");
    let created = Api::<Pod>::namespaced(plane.client(), namespace.name()).get("web").await?;
    assert_eq!((created.labels()["tier"].as_str(), created.labels()["team"].as_str()), ("back", "shop"));
    desk.close().await
}

#[tokio::test]
async fn mirror_pods_are_not_asked_about() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "mirror").await?;
    let mut desk = Desk::open(plane.client(), namespace.name(), |options| {
        options.failure_policy = podpolicy_admission::webhook::FailurePolicy::Fail;
    })
    .await?;
    desk.decide(label_in(namespace.name())).await?;
    desk.reaches(namespace.name()).await?;
    desk.crash().await;
    let pods: Api<Pod> = Api::namespaced(plane.client(), namespace.name());
    assert!(pods.create(&PostParams::default(), &pod("web", &[])).await.is_err(), "the webhook is down");
    let mut mirror = pod("static", &[]);
    mirror.annotations_mut().insert("kubernetes.io/config.mirror".to_owned(), "1".to_owned());
    // The API server wants a mirror pod to be somewhere.
    mirror.spec.as_mut().expect("a pod has a spec").node_name = Some("nowhere".to_owned());
    pods.create(&PostParams::default(), &mirror).await?;
    desk.close().await
}
