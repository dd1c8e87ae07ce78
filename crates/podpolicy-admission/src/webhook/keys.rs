//! Keeps the certificate that is served up to date: from the operator's Secret, or from files. What cannot be used is logged, and what was
//! served before stays. Only reads.

use std::{
    convert::Infallible,
    fs, io,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt as _, watcher::watch_object},
};
use rustls::sign::CertifiedKey;
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};

use super::{
    Certificates,
    certificate::{Stored, UnusableError, certified_from_pem},
};

/// How often files are looked at: the kubelet itself brings changes of a Secret within about a minute.
pub(super) const FILES_INTERVAL: Duration = Duration::from_secs(5);

/// What the files of a folder hold.
#[derive(Clone, Default, Eq, PartialEq)]
pub(super) struct Files {
    chain: Vec<u8>,
    key: Vec<u8>,
    /// The CAs that API servers should trust; none if somebody else tells them.
    pub(super) bundle: Option<Vec<u8>>,
}

/// Why files cannot be used. What was in use before stays.
#[derive(Debug, thiserror::Error)]
pub(super) enum FilesError {
    /// A file cannot be read. It is tried again.
    #[error("{file} in {} cannot be read: {error}", folder.display())]
    Unreadable {
        /// The folder.
        folder: PathBuf,
        /// The file's name.
        file: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// The files are no certificate and key, or do not fit together: they may be in the middle of a change. Tried again.
    #[error("the files in {} cannot be used: {error}", folder.display())]
    Unusable {
        /// The folder.
        folder: PathBuf,
        /// Why.
        error: UnusableError,
    },
}

impl Files {
    /// Reads the files of a folder. `ca.crt` may be missing.
    pub(super) fn read(folder: &Path) -> Result<Self, FilesError> {
        let unreadable = |file, error| FilesError::Unreadable { folder: folder.to_owned(), file, error };
        // They are small, and the kubelet keeps them in memory.
        let read = |file| fs::read(folder.join(file));
        let chain = read("tls.crt").map_err(|error| unreadable("tls.crt", error))?;
        let key = read("tls.key").map_err(|error| unreadable("tls.key", error))?;
        let bundle = match read("ca.crt") {
            Ok(bundle) => Some(bundle),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(unreadable("ca.crt", error)),
        };
        Ok(Self { chain, key, bundle })
    }

    /// The certificate to serve.
    pub(super) fn certified_key(&self, folder: &Path) -> Result<Arc<CertifiedKey>, FilesError> {
        certified_from_pem(&self.chain, &self.key).map_err(|error| FilesError::Unusable { folder: folder.to_owned(), error })
    }
}

/// Sends the certificate to serve, and each that takes its place.
pub(super) async fn keep(client: Client, certificates: Certificates, sender: watch::Sender<Option<Arc<CertifiedKey>>>) -> Infallible {
    match certificates {
        Certificates::Own { namespace, secret } => keep_secret(client, &namespace, &secret, &sender).await,
        Certificates::Files(folder) => keep_files(&folder, &sender).await,
    }
}

async fn keep_secret(client: Client, namespace: &str, name: &str, sender: &watch::Sender<Option<Arc<CertifiedKey>>>) -> Infallible {
    let secrets: Api<Secret> = Api::namespaced(client, namespace);
    let mut found = pin!(watch_object(secrets, name).default_backoff());
    loop {
        let usable = match found.next().await {
            Some(Ok(Some(secret))) => Stored::from_data(&secret.data.unwrap_or_default())
                .and_then(|stored| stored.certified_key())
                .map_err(|error| error.to_string()),
            Some(Ok(None)) => continue,
            Some(Err(error)) => Err(error.to_string()),
            // A watch goes on for ever.
            None => std::future::pending().await,
        };
        match usable {
            Ok(key) => serve_from_now_on(key, sender),
            Err(error) => tracing::warn!(secret = %format!("{namespace}/{name}"), error, "could not use the webhook's certificate"),
        }
    }
}

/// Sends the certificate in `tls.crt` and `tls.key` of a folder, and each that takes its place.
pub async fn keep_files(folder: &Path, sender: &watch::Sender<Option<Arc<CertifiedKey>>>) -> Infallible {
    let mut ticks = interval(FILES_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut last, mut complaint) = (Files::default(), String::new());
    loop {
        ticks.tick().await;
        let usable = match Files::read(folder) {
            Ok(files) if files == last => continue,
            Ok(files) => files.certified_key(folder).map(|key| (files, key)),
            Err(error) => Err(error),
        };
        match usable {
            Ok((files, key)) => {
                (last, complaint) = (files, String::new());
                serve_from_now_on(key, sender);
            }
            Err(error) if error.to_string() == complaint => {}
            Err(error) => {
                complaint = error.to_string();
                tracing::warn!(%error, "could not use a certificate");
            }
        }
    }
}

fn serve_from_now_on(key: Arc<CertifiedKey>, sender: &watch::Sender<Option<Arc<CertifiedKey>>>) {
    let is_new = sender.send_if_modified(|current| {
        let is_new = current.as_ref().is_none_or(|current| current.cert != key.cert);
        if is_new {
            *current = Some(key);
        }
        is_new
    });
    if is_new {
        tracing::info!("serving a new certificate");
    }
}
