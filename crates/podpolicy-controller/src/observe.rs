//! Watches: one task for each source turns what the API server sends into messages for the loop. It never decides and never
//! writes. A watch that fails is tried again for ever, with backoff; the loop is told why.

use std::{collections::HashSet, fmt::Debug};

use futures::StreamExt;
use kube::{
    Api, Client, Resource,
    api::WatchParams,
    runtime::{
        WatchStreamExt,
        watcher::{self, DefaultBackoff, Event, watcher},
    },
};
use podpolicy_api::{ClusterPodPolicy, PodPolicy};
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    causes::causes,
    config::Watched,
    projection::{ProjectedNamespace, ProjectedPod, Selecting},
    source::{SelectingKind, Source, Watchable},
};

/// Something that a watch saw.
#[derive(Debug)]
pub(crate) struct Observation {
    pub(crate) source: Source,
    pub(crate) what: What,
}

/// What a watch saw.
#[derive(Debug)]
pub(crate) enum What {
    /// An object is there, new or changed.
    Applied(Box<Observed>),
    /// An object is gone.
    Deleted(Key),
    /// The whole list has been sent: whatever is not in it is gone.
    Listed(HashSet<Key>),
    /// The watch fails.
    Failing(Failure),
}

/// An object of a watched resource.
#[derive(Debug)]
pub(crate) enum Observed {
    PodPolicy(PodPolicy),
    ClusterPodPolicy(ClusterPodPolicy),
    Pod(ProjectedPod),
    Namespace(ProjectedNamespace),
    Selecting(Selecting),
}

/// Namespace and name; an empty namespace for cluster-scoped objects.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self { namespace: meta.namespace.clone().unwrap_or_default(), name: meta.name.clone().unwrap_or_default() }
    }
}

/// Why a watch fails.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Failure {
    /// The operator lacks the right to do this.
    Forbidden { verb: &'static str },
    /// The API server does not know the resource: its CRD is not installed, or its group is not served.
    NotServed,
    /// Anything else; it is likely to pass.
    Other(String),
}

/// The sources that are watched.
pub(crate) fn sources(watched: &Watched) -> Vec<Source> {
    let namespaced = [Watchable::PodPolicies, Watchable::Pods].into_iter().chain(SelectingKind::ALL.map(Watchable::Selecting));
    match watched {
        Watched::Cluster => namespaced
            .chain([Watchable::ClusterPodPolicies, Watchable::Namespaces])
            .map(|resource| Source { resource, namespace: None })
            .collect(),
        Watched::Namespaces(names) => {
            namespaced.flat_map(|resource| names.iter().map(move |name| Source { resource, namespace: Some(name.clone()) })).collect()
        }
    }
}

/// Starts a watch for each source. They end when the set is dropped.
pub(crate) fn start(client: &Client, sources: &[Source], observations: &mpsc::Sender<Observation>) -> JoinSet<()> {
    let mut watches = JoinSet::new();
    for source in sources {
        let (client, source, sender) = (client.clone(), source.clone(), observations.clone());
        match source.resource {
            Watchable::PodPolicies => watches.spawn(watch(namespaced(client, &source), source, Observed::PodPolicy, sender)),
            Watchable::ClusterPodPolicies => watches.spawn(watch(Api::all(client), source, Observed::ClusterPodPolicy, sender)),
            Watchable::Pods => watches.spawn(watch(namespaced(client, &source), source, Observed::Pod, sender)),
            Watchable::Namespaces => watches.spawn(watch(Api::all(client), source, Observed::Namespace, sender)),
            Watchable::Selecting(kind) => {
                let resource = kind.api_resource();
                let api = match &source.namespace {
                    Some(namespace) => Api::namespaced_with(client, namespace, &resource),
                    None => Api::all_with(client, &resource),
                };
                watches.spawn(watch(api, source, Observed::Selecting, sender))
            }
        };
    }
    watches
}

fn namespaced<K>(client: Client, source: &Source) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    match &source.namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    }
}

async fn watch<K>(api: Api<K>, source: Source, wrap: fn(K) -> Observed, sender: mpsc::Sender<Observation>)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    loop {
        let mut listed = HashSet::new();
        let mut events = watcher(api.clone(), watcher::Config::default()).default_backoff().boxed();
        while let Some(event) = events.next().await {
            let what = match event {
                Ok(Event::Init) => {
                    listed.clear();
                    continue;
                }
                Ok(Event::InitApply(object)) => {
                    listed.insert(Key::of(&object));
                    What::Applied(Box::new(wrap(object)))
                }
                Ok(Event::InitDone) => What::Listed(std::mem::take(&mut listed)),
                Ok(Event::Apply(object)) => What::Applied(Box::new(wrap(object))),
                Ok(Event::Delete(object)) => What::Deleted(Key::of(&object)),
                Err(error) => What::Failing(failure(&error)),
            };
            let may_not_watch = matches!(what, What::Failing(Failure::Forbidden { verb: "watch" }));
            if sender.send(Observation { source: source.clone(), what }).await.is_err() {
                return;
            }
            if may_not_watch {
                until_watch_is_allowed(&api, &source, &sender).await;
                // From a new list: the watcher would resume silently, and nobody would learn that it sees again.
                break;
            }
        }
    }
}

/// Asks again and again, with backoff, until the right to watch is no longer missing.
async fn until_watch_is_allowed<K>(api: &Api<K>, source: &Source, sender: &mpsc::Sender<Observation>)
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    // No object has this name, so that nothing is sent.
    let nothing = WatchParams::default().fields("metadata.name=-");
    for wait in DefaultBackoff::default() {
        tokio::time::sleep(wait).await;
        match api.watch(&nothing, "0").await {
            Err(kube::Error::Api(status)) if status.code == 403 => {
                let what = What::Failing(Failure::Forbidden { verb: "watch" });
                if sender.send(Observation { source: source.clone(), what }).await.is_err() {
                    return;
                }
            }
            Ok(_) | Err(_) => return,
        }
    }
}

/// Whether a version of an object is older than the one that is known. Versions of one resource can be compared as numbers; where they
/// cannot, the later message counts.
pub(crate) fn is_older(version: &str, known: &str) -> bool {
    let number = |version: &str| version.parse::<u64>().ok();
    number(version).zip(number(known)).is_some_and(|(version, known)| version < known)
}

pub(crate) fn failure(error: &watcher::Error) -> Failure {
    let (verb, status) = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) => ("list", status),
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) | watcher::Error::WatchError(status) => ("watch", status),
        watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => return Failure::Other(causes(error)),
    };
    match status.code {
        403 => Failure::Forbidden { verb },
        404 => Failure::NotServed,
        _ => Failure::Other(status.message.clone()),
    }
}
