//! What tests and benchmarks take from the machine they run on: numbers that a person sets, free ports, certificates of their own.
//!
//! Must never listen elsewhere than on loopback.

use std::net::{SocketAddr, TcpListener};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// The number in an environment variable, or the default.
pub fn number<T: FromStr>(variable: &str, default: T) -> anyhow::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable}={text} is not a number")),
        Err(_) => Ok(default),
    }
}

/// An address on loopback with a port that was free a moment ago.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A certificate for 127.0.0.1 that vouches for itself, with its key.
pub fn self_signed() -> anyhow::Result<(Arc<CertifiedKey>, CertificateDer<'static>)> {
    let keys = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])?.self_signed(&keys)?;
    let certificate = CertificateDer::from(certificate.der().to_vec());
    let key = PrivateKeyDer::try_from(keys.serialize_der()).map_err(anyhow::Error::msg)?;
    let certified = CertifiedKey::from_der(vec![certificate.clone()], key, &ring::default_provider())?;
    Ok((Arc::new(certified), certificate))
}
