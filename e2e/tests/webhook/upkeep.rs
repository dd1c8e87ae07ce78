//! Whoever touches the configuration or the Secret: they come right again; and what is right is left alone.

use std::fs;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhook, MutatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use podpolicy_admission::webhook::{self, Certificates};
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
        Ok(Seen::when(live.as_ref().is_some_and(|live| live.webhooks.as_ref() == whole && live.labels().len() == 1), live))
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
