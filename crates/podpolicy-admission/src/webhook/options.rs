//! How the webhook is configured. Values only, checked when they are made.

use std::{collections::BTreeSet, fmt, net::SocketAddr, path::PathBuf};

use hyper::Uri;
use rustls::pki_types::ServerName;

use super::{certificate::Lifetimes, server::PATH};
use crate::https::Limits;

/// The name of the MutatingWebhookConfiguration, unless another is chosen.
pub const CONFIGURATION_NAME: &str = "podpolicy";

/// The name of the MutatingWebhookConfiguration of an operator that acts in these namespaces only.
pub fn configuration_name(namespaces: &BTreeSet<String>) -> String {
    let mut names = namespaces.iter();
    let first = names.next().map_or("none", String::as_str);
    match names.count() {
        0 => format!("{CONFIGURATION_NAME}-{first}"),
        more => format!("{CONFIGURATION_NAME}-{first}-and-{more}-more"),
    }
}

/// How the webhook is served, and how API servers are told of it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where API servers find it.
    pub endpoint: Endpoint,
    /// Where its certificates come from.
    pub certificates: Certificates,
    /// What becomes of a pod when it does not answer.
    pub failure_policy: FailurePolicy,
    /// The operator's own namespace: pods there are never held up.
    pub own_namespace: String,
    /// The name of the MutatingWebhookConfiguration.
    pub name: String,
    /// How long own certificates live.
    pub lifetimes: Lifetimes,
    /// What a client can hold.
    pub limits: Limits,
}

impl Options {
    /// The defaults: own certificates in the Secret `podpolicy-webhook` of the operator's own namespace, failure policy Ignore.
    pub fn new(address: SocketAddr, endpoint: Endpoint, own_namespace: impl Into<String>) -> Self {
        let own_namespace = own_namespace.into();
        Self {
            address,
            endpoint,
            certificates: Certificates::Own { namespace: own_namespace.clone(), secret: "podpolicy-webhook".to_owned() },
            failure_policy: FailurePolicy::Ignore,
            own_namespace,
            name: CONFIGURATION_NAME.to_owned(),
            lifetimes: Lifetimes::default(),
            limits: Limits::default(),
        }
    }
}

/// Where the webhook's certificates come from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Certificates {
    /// The operator makes them, keeps them in a Secret and renews them.
    Own {
        /// The Secret's namespace.
        namespace: String,
        /// The Secret's name.
        secret: String,
    },
    /// Somebody else makes them, cert-manager for example: a folder with `tls.crt`, `tls.key` and, unless somebody else writes the
    /// configuration's caBundle as well, `ca.crt`. The files are read again when they change.
    Files(PathBuf),
}

/// What becomes of a pod when the webhook does not answer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum FailurePolicy {
    /// It is created as it is. The default.
    #[default]
    Ignore,
    /// It is refused, except in Kubernetes' own, the operator's own and excluded namespaces.
    Fail,
}

impl fmt::Display for FailurePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Where API servers find the webhook.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    pub(super) target: Target,
    /// The names that the serving certificate is for; never empty.
    pub(super) names: Vec<String>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Target {
    Service { namespace: String, name: String, port: u16 },
    Url(String),
}

/// Why an endpoint cannot be used. The operator does not start.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// No Service can have such a name.
    #[error("{0:?} can be no Service; give its namespace and name")]
    Service(String),
    /// API servers take no such URL.
    #[error("{0:?} is not https://HOST:PORT/mutate, the only form in which API servers can be told of the webhook")]
    Url(String),
}

impl Endpoint {
    /// A Service in the cluster.
    pub fn service(namespace: &str, name: &str, port: u16) -> Result<Self, EndpointError> {
        let full = format!("{name}.{namespace}.svc");
        let is_name = |text: &str| !text.is_empty() && !text.contains('.');
        if !is_name(namespace) || !is_name(name) || port == 0 || ServerName::try_from(full.as_str()).is_err() {
            return Err(EndpointError::Service(format!("{namespace}/{name}:{port}")));
        }
        let names = vec![full.clone(), format!("{full}.cluster.local"), format!("{name}.{namespace}")];
        Ok(Self { target: Target::Service { namespace: namespace.to_owned(), name: name.to_owned(), port }, names })
    }

    /// A URL, for an operator outside the cluster.
    pub fn url(text: &str) -> Result<Self, EndpointError> {
        let unusable = || EndpointError::Url(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| unusable())?;
        let authority = uri.authority().ok_or_else(unusable)?;
        if uri.scheme_str() != Some("https") || uri.query().is_some() || text.contains(['#', '@']) {
            return Err(unusable());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if ServerName::try_from(host).is_err() {
            return Err(unusable());
        }
        let path = match uri.path() {
            "" | "/" => PATH,
            path => path,
        };
        Ok(Self { target: Target::Url(format!("https://{authority}{path}")), names: vec![host.to_owned()] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_is_for_the_names_that_api_servers_use() {
        let service = Endpoint::service("podpolicy-system", "podpolicy-webhook", 443).unwrap();
        assert_eq!(service.names[0], "podpolicy-webhook.podpolicy-system.svc");
        for (url, name) in [
            ("https://127.0.0.1:8443", "127.0.0.1"),
            ("https://[::1]:8443/", "::1"),
            ("https://operator.example/mutate", "operator.example"),
        ] {
            let endpoint = Endpoint::url(url).unwrap();
            assert_eq!(endpoint.names, [name]);
            let Target::Url(full) = endpoint.target else { panic!("{url}") };
            assert!(full.ends_with("/mutate"), "{full}");
        }
    }

    #[test]
    fn endpoint_that_no_api_server_could_use_is_refused() {
        for url in ["", "127.0.0.1", "http://127.0.0.1", "https://", "https://a b", "https://a@b", "https://a?b=c", "https://-/", "/mutate"]
        {
            assert!(Endpoint::url(url).is_err(), "{url}");
        }
        for (namespace, name, port) in [("", "a", 1), ("a", "", 1), ("a", "b", 0), ("a b", "c", 1), ("a", "b.c", 1)] {
            assert!(Endpoint::service(namespace, name, port).is_err(), "{namespace}/{name}");
        }
    }
}
