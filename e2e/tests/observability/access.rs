//! Protected metrics: the API server says who may read them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};
use podpolicy_e2e::objects::apply;
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{ControlPlane, Operator, TestNamespace, environment, shared};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

#[tokio::test]
async fn metrics_are_for_tokens_with_the_right_only() -> anyhow::Result<()> {
    let plane = shared().await;
    let namespace = TestNamespace::create(&plane.config(), "access").await?;
    // With the rights that the manifests give it for this, and no others.
    let manifest = std::fs::read_to_string(rbac("metrics_auth_role.yaml"))?;
    apply(&plane.client(), namespace.name(), &manifest.replace("podpolicy-system", namespace.name())).await?;
    let directory = TempDir::new()?;
    let kubeconfig = kubeconfig_as(plane, &format!("system:serviceaccount:{}:podpolicy", namespace.name()), &directory)?;
    let operator = operator(&namespace, &kubeconfig, &[])?;
    let address = address(&operator, "serving /metrics to those").await?;

    let (code, headers, body) = get(address, "/metrics", None).await?;
    assert_eq!((code, headers.as_deref()), (401, Some("Bearer")), "{body}");
    for token in ["nonsense", &format!("{}x", token(plane, &namespace, "nobody").await?)] {
        let (code, _, body) = get(address, "/metrics", Some(token)).await?;
        assert_eq!((code, body.as_str()), (401, "the API server does not know the token\n"));
    }

    let stranger = token(plane, &namespace, "stranger").await?;
    let (code, _, body) = get(address, "/metrics", Some(&stranger)).await?;
    assert_eq!(code, 403, "{body}");
    assert!(body.contains(":stranger may not get /metrics") && body.contains("podpolicy-metrics-reader"), "{body}");

    let reader = token(plane, &namespace, "reader").await?;
    let_read(&plane.client(), &namespace, "reader").await?;
    eventually("the right to be known", DEADLINE, async || {
        let user = format!("--as=system:serviceaccount:{}:reader", namespace.name());
        let answer = plane.kubectl().args(["auth", "can-i", "get", "/metrics", &user]).output()?;
        Ok(Seen::when(answer.status.success(), answer))
    })
    .await?;
    let (code, _, body) = get(address, "/metrics", Some(&reader)).await?;
    assert_eq!(code, 200, "{body}");
    assert!(body.contains("podpolicy_build_info") && body.ends_with("# EOF\n"), "{body}");
    assert_eq!(get(address, "/metrics", Some(&stranger)).await?.0, 403, "one token says nothing of another");
    assert_eq!(get(address, "/healthz", Some(&reader)).await?.0, 404, "nothing else is here");

    // Health is for all, and metrics are no longer there.
    let open = self::address(&operator, "serving /healthz and /readyz").await?;
    assert_eq!((plain(open, "/healthz").await?, plain(open, "/readyz").await?, plain(open, "/metrics").await?), (200, 200, 404));
    assert!(!operator.output().contains(&reader) && !operator.output().contains("nonsense"), "tokens are not logged");
    Ok(())
}

#[tokio::test]
async fn nobody_is_let_in_when_the_operator_may_not_ask() -> anyhow::Result<()> {
    let plane = shared().await;
    let (namespace, directory) = (TestNamespace::create(&plane.config(), "may-not-ask").await?, TempDir::new()?);
    let operator = operator(&namespace, &kubeconfig_as(plane, "nobody", &directory)?, &[])?;
    let address = address(&operator, "serving /metrics to those").await?;
    let reader = token(plane, &namespace, "reader").await?;
    let_read(&plane.client(), &namespace, "reader").await?;
    let (code, _, body) = get(address, "/metrics", Some(&reader)).await?;
    assert_eq!(code, 503, "{body}");
    assert!(body.contains("cannot create resource \"tokenreviews\""), "{body}");
    Ok(())
}

#[tokio::test]
async fn certificate_of_a_folder_is_served() -> anyhow::Result<()> {
    let plane = shared().await;
    let (namespace, directory) = (TestNamespace::create(&plane.config(), "folder").await?, TempDir::new()?);
    let keys = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])?.self_signed(&keys)?;
    for (file, tag, content) in [("tls.crt", "CERTIFICATE", certificate.der().to_vec()), ("tls.key", "PRIVATE KEY", keys.serialize_der())] {
        std::fs::write(directory.path().join(file), pem::encode(&pem::Pem::new(tag, content)))?;
    }
    let folder = directory.path().to_str().context("UTF-8")?;
    let operator = operator(&namespace, plane.kubeconfig_path(), &["--metrics-certificates", folder])?;
    let address = address(&operator, "serving /metrics to those").await?;
    eventually("the certificate to be served", DEADLINE, async || {
        let served = connect(address).await.ok().and_then(|stream| Some(stream.get_ref().1.peer_certificates()?.first()?.to_vec()));
        Ok(Seen::when(served.as_deref() == Some(&**certificate.der()), served.is_some()))
    })
    .await
}

/// An operator of one namespace with protected metrics.
fn operator(namespace: &TestNamespace, kubeconfig: &Path, more: &[&str]) -> anyhow::Result<Operator> {
    let protected = environment::free_address()?.to_string();
    let arguments =
        ["run", "--metrics-address", "127.0.0.1:0", "--metrics-protected-address", &protected, "--namespaces", namespace.name()];
    Operator::spawn(kubeconfig, &[&arguments[..], more].concat(), &[])
}

/// The address in the first line with this text.
async fn address(operator: &Operator, text: &str) -> anyhow::Result<SocketAddr> {
    eventually(text, DEADLINE, async || {
        let output = operator.output();
        let line = output.lines().find(|line| line.contains(text));
        let found = line.and_then(|line| line.split_once("address=")?.1.split_whitespace().next()?.parse().ok());
        Ok(found.map_or(Seen::NotYet(output.clone()), Seen::Done))
    })
    .await
}

/// A kubeconfig with which requests are those of this user.
fn kubeconfig_as(plane: &ControlPlane, user: &str, directory: &TempDir) -> anyhow::Result<PathBuf> {
    let mut kubeconfig: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(plane.kubeconfig_path())?)?;
    kubeconfig["users"][0]["user"]["as"] = user.into();
    let file = directory.path().join("kubeconfig");
    std::fs::write(&file, kubeconfig.to_string())?;
    Ok(file)
}

fn rbac(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/rbac").join(file)
}

/// A token of a new ServiceAccount.
async fn token(plane: &ControlPlane, namespace: &TestNamespace, account: &str) -> anyhow::Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(plane.client(), namespace.name());
    accounts.create(&PostParams::default(), &serde_json::from_value(json!({ "metadata": { "name": account } }))?).await?;
    Ok(plane.kubectl_output(&["create", "token", account, "--namespace", namespace.name()])?.trim().to_owned())
}

/// Binds the right, as it is in the manifests, to an account.
async fn let_read(client: &Client, namespace: &TestNamespace, account: &str) -> anyhow::Result<()> {
    apply(client, namespace.name(), &std::fs::read_to_string(rbac("metrics_reader_role.yaml"))?).await?;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": { "name": namespace.name() },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "podpolicy-metrics-reader" },
        "subjects": [{ "kind": "ServiceAccount", "namespace": namespace.name(), "name": account }],
    });
    apply(client, namespace.name(), &binding.to_string()).await?;
    Ok(())
}

type Stream = tokio_rustls::client::TlsStream<TcpStream>;

async fn connect(address: SocketAddr) -> anyhow::Result<Stream> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(Anybody)).with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    Ok(TlsConnector::from(Arc::new(config)).connect(ServerName::from(address.ip()), stream).await?)
}

/// Code, challenge and body of the answer to a GET over TLS.
async fn get(address: SocketAddr, path: &str, token: Option<&str>) -> anyhow::Result<(u16, Option<String>, String)> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(connect(address).await?)).await?;
    let driving = tokio::spawn(connection);
    let mut request = http::Request::get(path).header("host", "operator");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let response = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    let code = response.status().as_u16();
    let challenge = response.headers().get("www-authenticate").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = response.into_body().collect().await?.to_bytes();
    driving.abort();
    Ok((code, challenge, String::from_utf8(body.to_vec())?))
}

/// The code of the answer to a GET without TLS.
async fn plain(address: SocketAddr, path: &str) -> anyhow::Result<u16> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(TcpStream::connect(address).await?)).await?;
    let driving = tokio::spawn(connection);
    let request = http::Request::get(path).header("host", "operator").body(Empty::<Bytes>::new())?;
    let code = sender.send_request(request).await?.status().as_u16();
    driving.abort();
    Ok(code)
}

/// Takes every certificate, as a scraper that does not verify does.
#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
