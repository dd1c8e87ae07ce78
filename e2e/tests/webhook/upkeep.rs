//! Whoever touches the configuration or the Secret: they come right again; and what is right is left alone.

use std::fs;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use podpolicy_admission::webhook::{self, Certificates, FailurePolicy};
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{TestNamespace, shared};
use serde_json::json;
use tempfile::TempDir;

use crate::desk::{Desk, label_in, program};

#[tokio::test]
async fn configuration_that_somebody_breaks_or_deletes_comes_right_again() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "broken").await?;
    let desk = Desk::open(plane.client(), namespace.name(), |_| {}).await?;
    desk.decide(label_in(namespace.name())).await?;
    desk.reaches(namespace.name()).await?;
    let whole = desk.configuration().await?.expect("it is there").webhooks;
    let breaks = [
        json!([{ "op": "remove", "path": "/webhooks/0/clientConfig/caBundle" }]),
        json!([{ "op": "replace", "path": "/webhooks/0/clientConfig/caBundle", "value": "bm9uc2Vuc2U=" }]),
        json!([{ "op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Fail" }]),
        json!([{ "op": "remove", "path": "/webhooks/0/namespaceSelector" }]),
        json!([{ "op": "remove", "path": "/webhooks" }]),
        json!([{ "op": "remove", "path": "/metadata/labels" }, { "op": "remove", "path": "/webhooks" }]),
    ];
    for broken in breaks {
        // The API server refuses bundles that are none, so that somebody can only write another's.
        let patch = Patch::Json::<()>(serde_json::from_value(broken.clone())?);
        if let Err(kube::Error::Api(status)) = desk.configurations().patch(&desk.options.name, &PatchParams::default(), &patch).await {
            assert_eq!(status.code, 422, "{status}");
            continue;
        }
        right_again(&desk, whole.as_ref(), &broken.to_string()).await?;
    }
    desk.configurations().delete(&desk.options.name, &DeleteParams::default()).await?;
    right_again(&desk, whole.as_ref(), "deletion").await?;
    desk.reaches(namespace.name()).await?;
    desk.close().await
}

async fn right_again(desk: &Desk, whole: Option<&Vec<MutatingWebhook>>, after: &str) -> anyhow::Result<()> {
    eventually(&format!("the configuration to be right after {after}"), DEADLINE, async || {
        let live = desk.configuration().await?;
        Ok(Seen::when(live.as_ref().is_some_and(|live| live.webhooks.as_ref() == whole && live.labels().len() == 2), live))
    })
    .await
}

#[tokio::test]
async fn secret_that_somebody_deletes_or_spoils_is_made_anew() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "secret").await?;
    let desk = Desk::open(plane.client(), namespace.name(), |_| {}).await?;
    desk.decide(label_in(namespace.name())).await?;
    desk.reaches(namespace.name()).await?;
    let secrets: Api<Secret> = Api::namespaced(plane.client(), namespace.name());
    for is_deleted in [true, false] {
        let before = desk.secret().await?;
        if is_deleted {
            secrets.delete("webhook", &DeleteParams::default()).await?;
        } else {
            let spoilt = Patch::Merge(json!({ "data": { "ca.key": null, "tls.crt": "bm9uc2Vuc2U=" } }));
            secrets.patch("webhook", &PatchParams::default(), &spoilt).await?;
        }
        eventually("certificates to be made anew", DEADLINE, async || {
            let now = secrets.get_opt("webhook").await?.and_then(|secret| secret.data).unwrap_or_default();
            let is_new = now.contains_key("ca.key") && before.data.as_ref().is_some_and(|before| before["tls.crt"] != now["tls.crt"]);
            Ok(Seen::when(is_new, now.keys().collect::<Vec<_>>()))
        })
        .await?;
        desk.reaches(namespace.name()).await?;
    }
    desk.close().await
}

#[tokio::test]
async fn what_is_right_is_left_alone() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "still").await?;
    let mut desk = Desk::open(plane.client(), namespace.name(), |_| {}).await?;
    desk.decide(label_in(namespace.name())).await?;
    let versions = async |desk: &Desk| -> anyhow::Result<_> {
        Ok((desk.configuration().await?.and_then(|found| found.resource_version()), desk.secret().await?.resource_version()))
    };
    let before = versions(&desk).await?;
    desk.decide(program(&[(Some(namespace.name()), "{ selector: {}, labels: { team: bank } }")])).await?;
    assert_eq!(versions(&desk).await?, before, "another program for the same namespaces");
    // Another replica takes over.
    desk.abdicate().await;
    let other = Desk::open(plane.client(), namespace.name(), |_| {}).await?;
    let program = Arc::new(label_in(namespace.name()));
    other.programs.send_replace(Some(Arc::clone(&program)));
    other.in_force(&program).await?;
    let (configuration, secret) = versions(&other).await?;
    assert_eq!(secret, before.1, "certificates are for all replicas");
    assert!(configuration != before.0, "this one has another port");
    other.reaches(namespace.name()).await?;
    other.close().await
}

#[tokio::test]
async fn configuration_goes_with_the_last_policy_and_when_it_is_removed() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "gone").await?;
    let mut desk = Desk::open(plane.client(), namespace.name(), |_| {}).await?;
    desk.decide(label_in(namespace.name())).await?;
    desk.reaches(namespace.name()).await?;
    desk.decide(program(&[])).await?;
    assert!(desk.configuration().await?.is_none());
    desk.spares(namespace.name()).await?;

    desk.decide(label_in(namespace.name())).await?;
    desk.reaches(namespace.name()).await?;
    desk.abdicate().await;
    webhook::remove(plane.client(), &desk.options.name).await?;
    assert!(desk.configuration().await?.is_none());
    desk.spares(namespace.name()).await?;
    desk.close().await
}

#[tokio::test]
async fn what_belongs_to_others_is_left_alone_and_told() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "foreign").await?;
    let secrets: Api<Secret> = Api::namespaced(plane.client(), namespace.name());
    let metadata = ObjectMeta { name: Some("webhook".to_owned()), ..ObjectMeta::default() };
    let data = Some([("password".to_owned(), ByteString(b"1234".to_vec()))].into());
    secrets.create(&PostParams::default(), &Secret { metadata, data, ..Secret::default() }).await?;
    let desk = Desk::open(plane.client(), namespace.name(), |_| {}).await?;
    desk.programs.send_replace(Some(Arc::new(label_in(namespace.name()))));
    told(&desk, "holds something else").await?;
    assert_eq!(secrets.get("webhook").await?.data.map(|data| data.len()), Some(1));

    let webhook = json!({
        "name": "pods.example.com",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Ignore",
        "clientConfig": { "url": "https://127.0.0.1:1/" },
    });
    let metadata = json!({ "name": desk.options.name });
    let foreign: MutatingWebhookConfiguration = serde_json::from_value(json!({ "metadata": metadata, "webhooks": [webhook] }))?;
    let foreign = desk.configurations().create(&PostParams::default(), &foreign).await?;
    secrets.delete("webhook", &DeleteParams::default()).await?;
    told(&desk, "delete it, or choose another name").await?;
    let live = desk.configuration().await?.expect("it is still there");
    assert_eq!(live.resource_version(), foreign.resource_version());
    desk.configurations().delete(&desk.options.name, &DeleteParams::default()).await?;
    desk.reaches(namespace.name()).await?;
    desk.close().await
}

async fn told(desk: &Desk, words: &str) -> anyhow::Result<()> {
    eventually(&format!("to be told {words}"), DEADLINE, async || {
        let problem = desk.state.borrow().problem.clone();
        Ok(Seen::when(problem.as_ref().is_some_and(|problem| problem.contains(words)), problem))
    })
    .await
}

#[tokio::test]
async fn what_others_add_is_kept_and_said_and_not_fought() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "added").await?;
    let other = TestNamespace::create(&plane.config(), "added").await?;
    let desk = Desk::open(plane.client(), namespace.name(), |_| {}).await?;
    desk.decide(label_in(namespace.name())).await?;
    desk.reaches(namespace.name()).await?;

    let added: LabelSelectorRequirement =
        serde_json::from_value(json!({ "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [namespace.name()] }))?;
    let condition = json!({ "name": "no-jobs", "expression": "object.metadata.name != 'job'" });
    let patch = json!([
        { "op": "add", "path": "/webhooks/0/namespaceSelector/matchExpressions/-", "value": added },
        { "op": "add", "path": "/webhooks/0/matchConditions/-", "value": condition },
        { "op": "add", "path": "/metadata/labels/team", "value": "platform" },
    ]);
    let changed = alter(&desk, &patch).await?;
    narrowed(&desk, Some(&format!("kubernetes.io/metadata.name NotIn ({namespace})"))).await?;
    desk.spares(namespace.name()).await?;
    desk.decide(label_in(namespace.name())).await?;
    let live = desk.configuration().await?.expect("it is there");
    assert_eq!(live.resource_version(), changed.resource_version(), "nobody writes in turns");

    // The operator wants something else: it writes its part, and keeps what was added.
    let spec = "{ selector: {}, labels: { team: shop } }";
    desk.decide(program(&[(Some(namespace.name()), spec), (Some(other.name()), spec)])).await?;
    desk.reaches(other.name()).await?;
    desk.spares(namespace.name()).await?;
    let live = desk.configuration().await?.expect("it is there");
    assert_eq!(live.labels().get("team").map(String::as_str), Some("platform"));
    let webhook = &live.webhooks.as_ref().expect("it has webhooks")[0];
    let expressions = webhook.namespace_selector.as_ref().and_then(|selector| selector.match_expressions.clone()).unwrap_or_default();
    assert_eq!((expressions.len(), expressions.last()), (2, Some(&added)));
    assert_eq!(webhook.match_conditions.as_ref().map(Vec::len), Some(2));

    alter(&desk, &json!([{ "op": "remove", "path": "/webhooks/0/namespaceSelector/matchExpressions/1" }])).await?;
    narrowed(&desk, Some("\"no-jobs\" in matchConditions")).await?;
    desk.reaches(namespace.name()).await?;
    alter(&desk, &json!([{ "op": "remove", "path": "/webhooks/0/matchConditions/1" }])).await?;
    narrowed(&desk, None).await?;
    desk.close().await
}

#[tokio::test]
async fn whoever_keeps_changing_the_configuration_is_named_and_not_fought_without_end() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "fight").await?;
    let desk = Desk::open(plane.client(), namespace.name(), |options| options.failure_policy = FailurePolicy::Ignore).await?;
    desk.decide(label_in(namespace.name())).await?;
    let is_ignore = |live: &MutatingWebhookConfiguration| {
        live.webhooks.as_ref().is_some_and(|webhooks| webhooks[0].failure_policy.as_deref() == Some("Ignore"))
    };
    let problem = || desk.state.borrow().problem.clone();
    let mut changes = 0;
    // It is restored at once, until that has happened too often.
    loop {
        changes += 1;
        alter(&desk, &json!([{ "op": "replace", "path": "/webhooks/0/failurePolicy", "value": "Fail" }])).await?;
        let is_waiting = eventually("the configuration to be restored, or a wait", DEADLINE, async || {
            let is_right = desk.configuration().await?.as_ref().is_some_and(is_ignore);
            let is_waiting = desk.state.borrow().in_force.is_none();
            let outcome = if is_waiting { Some(true) } else { is_right.then_some(false) };
            Ok(outcome.map_or_else(|| Seen::NotYet(format!("{:?}", problem())), Seen::Done))
        })
        .await?;
        if is_waiting {
            break;
        }
        anyhow::ensure!(changes < 30, "it was restored at once each time");
    }
    assert!(changes > 5, "only {changes} changes");
    told(&desk, "again and again by enforcer").await?;
    // Nobody changes it any more.
    eventually("the configuration to be right in the end", DEADLINE, async || {
        let live = desk.configuration().await?;
        Ok(Seen::when(live.as_ref().is_some_and(is_ignore) && desk.state.borrow().in_force.is_some(), live))
    })
    .await?;
    told(&desk, "again and again by enforcer").await?;
    desk.close().await
}

/// Changes the configuration, as somebody who is not the operator.
async fn alter(desk: &Desk, patch: &serde_json::Value) -> anyhow::Result<MutatingWebhookConfiguration> {
    let params = PatchParams { field_manager: Some("enforcer".to_owned()), ..PatchParams::default() };
    let patch = Patch::Json::<()>(serde_json::from_value(patch.clone())?);
    Ok(desk.configurations().patch(&desk.options.name, &params, &patch).await?)
}

async fn narrowed(desk: &Desk, words: Option<&str>) -> anyhow::Result<()> {
    eventually(&format!("narrowed to be {words:?}"), DEADLINE, async || {
        let message = desk.state.borrow().narrowed.as_ref().map(|narrowed| narrowed.message.clone());
        let is_so = match (&message, words) {
            (Some(message), Some(words)) => message.contains(words),
            (message, words) => message.is_none() && words.is_none(),
        };
        Ok(Seen::when(is_so, message))
    })
    .await
}

#[tokio::test]
async fn missing_namespace_is_said_and_waited_for() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "homeless").await?;
    let home = format!("{namespace}-home");
    let desk = Desk::open(plane.client(), &home, |_| {}).await?;
    let program = Arc::new(label_in(namespace.name()));
    desk.programs.send_replace(Some(Arc::clone(&program)));
    told(&desk, &format!("namespace {home} does not exist")).await?;
    assert!(desk.configuration().await?.is_none(), "nobody could answer");

    let namespaces: Api<Namespace> = Api::all(plane.client());
    let metadata = ObjectMeta { name: Some(home.clone()), ..ObjectMeta::default() };
    namespaces.create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() }).await?;
    desk.in_force(&program).await?;
    desk.reaches(namespace.name()).await?;
    desk.close().await?;
    namespaces.delete(&home, &DeleteParams::default()).await?;
    Ok(())
}

#[tokio::test]
async fn namespace_that_is_being_deleted_is_said() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "leaving").await?;
    // Somebody's finalizer, by which the namespace stays for as long as the test wants.
    let maps: Api<ConfigMap> = Api::namespaced(plane.client(), namespace.name());
    let finalizers = Some(vec!["example.com/hold".to_owned()]);
    let metadata = ObjectMeta { name: Some("hold".to_owned()), finalizers, ..ObjectMeta::default() };
    maps.create(&PostParams::default(), &ConfigMap { metadata, ..ConfigMap::default() }).await?;
    Api::<Namespace>::all(plane.client()).delete(namespace.name(), &DeleteParams::default()).await?;

    let desk = Desk::open(plane.client(), namespace.name(), |_| {}).await?;
    desk.programs.send_replace(Some(Arc::new(label_in(namespace.name()))));
    told(&desk, &format!("namespace {namespace} is being deleted")).await?;
    maps.patch("hold", &PatchParams::default(), &Patch::Merge(json!({ "metadata": { "finalizers": null } }))).await?;
    desk.close().await
}

#[tokio::test]
async fn replicas_that_start_at_once_end_up_with_one_certificate() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "race").await?;
    // All think that they lead; each has a configuration of its own, so that each one's trust in the certificate shows.
    let mut desks = Vec::new();
    for number in 0..4 {
        let desk = Desk::open(plane.client(), namespace.name(), |options| options.name = format!("{}-{number}", options.name)).await?;
        desks.push(desk);
    }
    for desk in &desks {
        desk.programs.send_replace(Some(Arc::new(label_in(namespace.name()))));
    }
    let ca = eventually("one bundle in all configurations", DEADLINE, async || {
        let mut bundles = Vec::new();
        for desk in &desks {
            let webhooks = desk.configuration().await?.and_then(|found| found.webhooks).unwrap_or_default();
            bundles.push(webhooks.first().and_then(|webhook| webhook.client_config.ca_bundle.clone()));
        }
        let first = bundles[0].clone();
        Ok(match first {
            Some(first) if bundles.iter().all(|bundle| bundle.as_ref() == Some(&first)) => Seen::Done(first),
            _ => Seen::NotYet(format!("{} bundles", bundles.iter().flatten().count())),
        })
    })
    .await?;
    assert_eq!(desks[0].secret().await?.data.expect("it has data")["ca.crt"], ca);
    for desk in desks {
        desk.close().await?;
    }
    Ok(())
}

#[tokio::test]
async fn certificates_from_files_are_read_again_when_they_change() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "files").await?;
    let folder = TempDir::new()?;
    let write = |folder: &TempDir| -> anyhow::Result<Vec<u8>> {
        let made = rcgen::KeyPair::generate()?;
        let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])?.self_signed(&made)?;
        let text = |tag: &str, der: &[u8]| pem::encode(&pem::Pem::new(tag, der));
        let chain = text("CERTIFICATE", certificate.der());
        for (name, content) in [("tls.crt", &chain), ("tls.key", &text("PRIVATE KEY", made.serialized_der())), ("ca.crt", &chain)] {
            fs::write(folder.path().join(name), content)?;
        }
        Ok(chain.into_bytes())
    };
    write(&folder)?;
    let files = Certificates::Files(folder.path().to_owned());
    let desk = Desk::open(plane.client(), namespace.name(), |options| options.certificates = files).await?;
    desk.decide(label_in(namespace.name())).await?;
    desk.reaches(namespace.name()).await?;
    fs::write(folder.path().join("tls.key"), "nonsense")?;
    told(&desk, "cannot be used").await?;
    desk.reaches(namespace.name()).await?;
    let bundle = write(&folder)?;
    eventually("the new bundle", DEADLINE, async || {
        let webhooks = desk.configuration().await?.and_then(|found| found.webhooks).unwrap_or_default();
        let live = webhooks.first().and_then(|webhook| webhook.client_config.ca_bundle.clone());
        Ok(Seen::when(live.as_ref().is_some_and(|live| live.0 == bundle), "another"))
    })
    .await?;
    desk.reaches(namespace.name()).await?;
    desk.close().await
}
