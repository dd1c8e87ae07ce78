//! What the leading replica does for the webhook: it keeps the certificates' Secret and the MutatingWebhookConfiguration right, whoever
//! touches them. What to do is decided in `certificate` and `configuration`; here it is done.

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::{
    api::{admissionregistration::v1::MutatingWebhookConfiguration, core::v1::Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::{WatchStreamExt as _, watcher, watcher::watch_object},
};
use podpolicy_engine::Program;
use tokio::{
    sync::watch,
    time::{interval, sleep, timeout},
};

use super::{
    Certificates, Options, Programs,
    certificate::{Step, Stored, next, take},
    configuration::{configuration, is_as_wanted, is_own},
    fights::Fights,
    keys::{FILES_INTERVAL, Files, FilesError},
    others::{Narrowed, keep_additions, last_writer, narrowed},
};
use crate::cel::OWNER_LABEL;

/// The name under which writes show in managedFields.
const FIELD_MANAGER: &str = "podpolicy";

/// No call may hang longer.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// The longest wait after failures, and the longest time without a look at what there is to do.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// How often a removal, or a write of the Secret, is tried while others write.
const TRIES: u32 = 5;

/// How the configuration stands.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The program that the configuration was last right for: its namespaces are asked about. API servers see a change within a second or
    /// so. None before it is right for the first time, and where another replica leads.
    pub in_force: Option<Arc<Program>>,
    /// When the configuration was last changed by this replica: only then API servers have something to see.
    pub written: Option<Instant>,
    /// Why it is not right for the newest program or does not stay right, and what to do; none if it is right.
    pub problem: Option<String>,
    /// Which pods somebody else keeps from the webhook; none if nobody does.
    pub narrowed: Option<Arc<Narrowed>>,
}

/// Why something could not be kept right. The leader tries again, with growing waits of at most 30 s.
#[derive(Debug, thiserror::Error)]
pub enum UpkeepError {
    /// The API server refused a call, or could not be asked.
    #[error("could not {doing}: {error}")]
    Call {
        /// What was to be done.
        doing: String,
        /// What the API server said.
        error: Box<kube::Error>,
    },
    /// The API server did not answer.
    #[error("could not {doing}: no answer within {} s", CALL_TIMEOUT.as_secs())]
    Timeout {
        /// What was to be done.
        doing: String,
    },
    /// Somebody else's Secret has the name: it is left alone.
    #[error(
        "Secret {0} holds something else and is not labelled {label}; choose another Secret for the webhook's certificates, or delete it",
        label = owner_label()
    )]
    ForeignSecret(String),
    /// Somebody else's configuration has the name: it is left alone.
    #[error(
        "MutatingWebhookConfiguration {0} is not labelled {label}; delete it, or choose another name for the operator's",
        label = owner_label()
    )]
    ForeignConfiguration(String),
    /// Somebody else keeps changing what the operator writes. It is written again, with waits of at most a minute.
    #[error(
        "MutatingWebhookConfiguration {name} is changed or deleted again and again{}; find out who does it, and stop that",
        by(manager.as_ref())
    )]
    Fight {
        /// The configuration.
        name: String,
        /// Who changed it, by the name that managedFields have.
        manager: Option<String>,
    },
    /// The Secret's namespace does not exist. Tried again: it goes on once there is one.
    #[error(
        "namespace {0} does not exist, and the webhook's certificates are kept in a Secret there; create it \
         (kubectl create namespace {0}), or run the operator with another --own-namespace"
    )]
    NoNamespace(String),
    /// The Secret's namespace is being deleted. Tried again: it goes on once there is a new one.
    #[error(
        "namespace {0} is being deleted, and the webhook's certificates are kept in a Secret there; create it again once it is gone, \
         or run the operator with another --own-namespace"
    )]
    NamespaceTerminating(String),
    /// Others write the same fields, and theirs stay.
    #[error("MutatingWebhookConfiguration {0} was changed back at once; find out who else writes it, in its managedFields")]
    ChangedBack(String),
    /// The certificate files cannot be used.
    #[error("{0}")]
    Files(String),
}

impl From<FilesError> for UpkeepError {
    fn from(error: FilesError) -> Self {
        Self::Files(error.to_string())
    }
}

fn by(manager: Option<&String>) -> String {
    manager.map(|manager| format!(" by {manager}")).unwrap_or_default()
}

/// Keeps Secret and configuration right. It never ends; the replica that no longer leads drops it.
pub async fn maintain(client: Client, options: Options, programs: Programs, state: watch::Sender<State>) {
    state.send_replace(State::default());
    Upkeep::new(&client, &options, programs, &state).run().await;
}

/// Whether API servers have been told of the operator's webhook.
pub async fn is_configured(client: &Client, name: &str) -> Result<bool, UpkeepError> {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let live = call(|| format!("get MutatingWebhookConfiguration {name}"), api.get_opt(name)).await?;
    Ok(live.is_some_and(|live| is_own(&live)))
}

/// Takes the configuration away, if it is the operator's: from then on no API server asks the webhook.
pub async fn remove(client: Client, name: &str) -> Result<(), UpkeepError> {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client);
    let mut tries = 0;
    loop {
        tries += 1;
        let live = call(|| format!("get MutatingWebhookConfiguration {name}"), api.get_opt(name)).await?;
        let Some(live) = live.filter(is_own) else { return Ok(()) };
        match delete(&api, name, &live).await {
            // Somebody has just written it.
            Err(UpkeepError::Call { error, .. }) if code(&error) == Some(409) && tries < TRIES => {}
            done => return done,
        }
    }
}

async fn delete(api: &Api<MutatingWebhookConfiguration>, name: &str, live: &MutatingWebhookConfiguration) -> Result<(), UpkeepError> {
    let preconditions = Preconditions { uid: live.metadata.uid.clone(), resource_version: live.metadata.resource_version.clone() };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    let deleted = call(|| format!("delete MutatingWebhookConfiguration {name}"), api.delete(name, &params)).await;
    match deleted {
        Ok(_) => {
            tracing::info!(name, "took the webhook's configuration away");
            Ok(())
        }
        Err(UpkeepError::Call { error, .. }) if code(&error) == Some(404) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What is known while this replica leads.
struct Upkeep<'a> {
    options: &'a Options,
    programs: Programs,
    state: &'a watch::Sender<State>,
    secrets: Option<(Api<Secret>, String)>,
    configurations: Api<MutatingWebhookConfiguration>,
    secret: Seen<Secret>,
    files: Option<Files>,
    live: Seen<MutatingWebhookConfiguration>,
    /// The bundle that API servers have been told, and since when.
    published: Option<(Vec<u8>, Timestamp)>,
    written: Option<Instant>,
    /// The configuration as it was last right: only changes of this one are somebody else's.
    right: Option<MutatingWebhookConfiguration>,
    fights: Fights,
    /// Who changed the configuration when it was last restored.
    opponent: Option<String>,
    narrowed: Option<Arc<Narrowed>>,
    /// What is wrong with what is watched.
    troubles: BTreeMap<Source, String>,
    failures: u32,
    /// What the log says is wrong.
    complaint: Option<String>,
}

/// How an object was when it was seen last.
enum Seen<T> {
    /// Nobody has looked yet.
    NotYet,
    /// There was none.
    Absent,
    /// It was there.
    There(Box<T>),
}

impl<T> From<Option<T>> for Seen<T> {
    fn from(found: Option<T>) -> Self {
        found.map_or(Self::Absent, |object| Self::There(Box::new(object)))
    }
}

impl<T> Seen<T> {
    fn object(&self) -> Option<&T> {
        match self {
            Self::There(object) => Some(object),
            Self::NotYet | Self::Absent => None,
        }
    }

    fn is_known(&self) -> bool {
        match self {
            Self::NotYet => false,
            Self::Absent | Self::There(_) => true,
        }
    }
}

/// What is watched. `Display` says what is done with it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Source {
    Certificates,
    Configuration,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificates => "read the webhook's certificates",
            Self::Configuration => "watch the webhook's configuration",
        })
    }
}

enum Event {
    Secret(Result<Option<Secret>, watcher::Error>),
    Configuration(Result<Option<MutatingWebhookConfiguration>, watcher::Error>),
    Files(Result<Files, FilesError>),
}

impl<'a> Upkeep<'a> {
    fn new(client: &Client, options: &'a Options, programs: Programs, state: &'a watch::Sender<State>) -> Self {
        let secrets = match &options.certificates {
            Certificates::Own { namespace, secret } => Some((Api::namespaced(client.clone(), namespace), secret.clone())),
            Certificates::Files(_) => None,
        };
        Self {
            options,
            programs,
            state,
            secrets,
            configurations: Api::all(client.clone()),
            secret: Seen::NotYet,
            files: None,
            live: Seen::NotYet,
            published: None,
            written: None,
            right: None,
            fights: Fights::default(),
            opponent: None,
            narrowed: None,
            troubles: BTreeMap::new(),
            failures: 0,
            complaint: None,
        }
    }

    /// Ends when nobody sends programs any more.
    async fn run(mut self) {
        let mut events = pin!(self.events());
        let mut wait = LONGEST_WAIT;
        loop {
            tokio::select! {
                Some(event) = events.next() => self.see(event),
                changed = self.programs.changed() => if changed.is_err() { return },
                () = sleep(wait) => {}
            }
            wait = match self.pass().await {
                Ok(wait) => {
                    self.failures = 0;
                    if self.complaint.take().is_some() {
                        tracing::info!("the webhook is right again");
                    }
                    wait
                }
                Err(error) => {
                    let problem = error.to_string();
                    if self.complaint.as_ref() != Some(&problem) {
                        tracing::warn!(%error, "could not keep the webhook right; trying again");
                        self.complaint = Some(problem.clone());
                    }
                    self.state.send_modify(|state| {
                        if let UpkeepError::Fight { .. } = error {
                            // Until it is restored it is right for no program.
                            state.in_force = None;
                        }
                        state.problem = Some(problem);
                    });
                    self.failures += 1;
                    self.wait_after(&error)
                }
            };
        }
    }

    fn wait_after(&self, error: &UpkeepError) -> Duration {
        let now = Instant::now();
        match error {
            UpkeepError::Fight { .. } => self.fights.next(now).map_or(Duration::ZERO, |next| next.saturating_duration_since(now)),
            UpkeepError::Call { .. }
            | UpkeepError::Timeout { .. }
            | UpkeepError::ForeignSecret(_)
            | UpkeepError::ForeignConfiguration(_)
            | UpkeepError::NoNamespace(_)
            | UpkeepError::NamespaceTerminating(_)
            | UpkeepError::ChangedBack(_)
            | UpkeepError::Files(_) => {
                Duration::from_millis(500).saturating_mul(2_u32.saturating_pow(self.failures.min(10))).min(LONGEST_WAIT)
            }
        }
    }

    fn events(&self) -> impl Stream<Item = Event> + use<> {
        let configurations = watch_object(self.configurations.clone(), &self.options.name).default_backoff().map(Event::Configuration);
        let certificates = match (&self.secrets, &self.options.certificates) {
            (Some((api, name)), _) => watch_object(api.clone(), name).default_backoff().map(Event::Secret).boxed(),
            (None, Certificates::Files(folder)) => files(folder).map(Event::Files).boxed(),
            (None, Certificates::Own { .. }) => stream::pending().boxed(),
        };
        stream::select(configurations, certificates)
    }

    fn see(&mut self, event: Event) {
        match event {
            Event::Secret(secret) => {
                if let Some(secret) = self.or_trouble(Source::Certificates, secret) {
                    self.secret = secret.into();
                }
            }
            Event::Files(files) => {
                if let Some(files) = self.or_trouble(Source::Certificates, files) {
                    self.files = Some(files);
                }
            }
            Event::Configuration(live) => {
                if let Some(live) = self.or_trouble(Source::Configuration, live) {
                    self.live = live.into();
                }
            }
        }
    }

    /// Notes what is wrong with a source, until it is well again.
    fn or_trouble<T, E: fmt::Display>(&mut self, source: Source, seen: Result<T, E>) -> Option<T> {
        match seen {
            Ok(value) => {
                self.troubles.remove(&source);
                Some(value)
            }
            Err(error) => {
                let trouble = format!("could not {source}: {error}");
                if self.troubles.get(&source) != Some(&trouble) {
                    tracing::warn!(%error, "could not {source}");
                    self.state.send_modify(|state| state.problem = Some(trouble.clone()));
                    self.troubles.insert(source, trouble);
                }
                None
            }
        }
    }

    /// Puts right what is not, and returns how long there is nothing to do if nothing happens.
    async fn pass(&mut self) -> Result<Duration, UpkeepError> {
        let Some(program) = self.programs.borrow_and_update().clone() else { return Ok(LONGEST_WAIT) };
        if !self.live.is_known() {
            return Ok(LONGEST_WAIT);
        }
        let bundle = match &self.options.certificates {
            Certificates::Own { namespace, .. } => {
                let namespace = namespace.clone();
                match self.certificates(&namespace).await? {
                    Some(stored) => Some(stored.bundle()),
                    None => return Ok(LONGEST_WAIT),
                }
            }
            Certificates::Files(_) => match &self.files {
                Some(files) => files.bundle.clone(),
                None => return Ok(LONGEST_WAIT),
            },
        };
        let wanted = configuration(&program, self.options, bundle.as_deref());
        self.configure(wanted.as_ref()).await?;
        self.look_at_additions(wanted.as_ref(), &program);
        self.right = wanted;
        let now = Timestamp::now();
        if let Some(bundle) = bundle
            && self.published.as_ref().is_none_or(|(published, _)| *published != bundle)
        {
            self.published = Some((bundle, now));
        }
        // In a fight the configuration may be changed again at any moment.
        let fight = || self.fights.is_on(Instant::now()).then(|| self.fight().to_string());
        let problem = self.troubles.values().next().cloned().or_else(fight);
        let narrowed = self.narrowed.clone();
        self.state.send_replace(State { in_force: Some(program), written: self.written, problem, narrowed });
        Ok(self.wait(now))
    }

    /// Takes the steps that are due, and returns what is stored then; none if that is not known yet.
    async fn certificates(&mut self, namespace: &str) -> Result<Option<Stored>, UpkeepError> {
        let Some((api, name)) = self.secrets.clone() else { return Ok(None) };
        let (names, lifetimes) = (&self.options.endpoint.names, &self.options.lifetimes);
        let mut tries = 0;
        loop {
            tries += 1;
            if !self.secret.is_known() {
                return Ok(None);
            }
            let secret = self.secret.object();
            let now = Timestamp::now();
            let stored = self.stored();
            let step = next(now, stored.as_ref(), self.published_at(), names, lifetimes);
            let Some(after) = take(step, now, stored.clone(), names, lifetimes) else { return Ok(stored) };
            let full = format!("{namespace}/{name}");
            if secret.is_some_and(is_foreign) {
                return Err(UpkeepError::ForeignSecret(full));
            }
            let written = match secret {
                None => {
                    let secret = new_secret(&name, &after);
                    let created = call(|| format!("create Secret {full}"), api.create(&post_params(), &secret)).await;
                    created.map_err(|error| without_namespace(error, namespace))
                }
                Some(secret) => {
                    // With its resourceVersion: of two replicas that both think they lead, one loses.
                    let secret = Secret { data: Some(after.to_data()), ..secret.clone() };
                    call(|| format!("update Secret {full}"), api.replace(&name, &post_params(), &secret)).await
                }
            };
            match written {
                Ok(secret) => {
                    tracing::info!(secret = full, ?step, "renewed the webhook's certificates");
                    self.secret = Some(secret).into();
                }
                Err(UpkeepError::Call { error, .. }) if matches!(code(&error), Some(404 | 409)) && tries < TRIES => {
                    // Somebody else was faster: look at what is there now.
                    self.secret = call(|| format!("get Secret {full}"), api.get_opt(&name)).await?.into();
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn stored(&self) -> Option<Stored> {
        let secret = self.secret.object()?;
        match Stored::from_data(secret.data.as_ref()?) {
            Ok(stored) => Some(stored),
            Err(error) => {
                tracing::warn!(%error, "could not use the webhook's certificates");
                None
            }
        }
    }

    /// Since when API servers have been told the bundle of what is stored.
    fn published_at(&self) -> Option<Timestamp> {
        let (published, since) = self.published.as_ref()?;
        (*published == self.stored()?.bundle()).then_some(*since)
    }

    async fn configure(&mut self, wanted: Option<&MutatingWebhookConfiguration>) -> Result<(), UpkeepError> {
        if is_right(self.live.object(), wanted) {
            return Ok(());
        }
        // What the watch showed may be older than what was written since.
        let name = self.options.name.clone();
        self.live = call(|| format!("get MutatingWebhookConfiguration {name}"), self.configurations.get_opt(&name)).await?.into();
        let live = self.live.object();
        if is_right(live, wanted) {
            return Ok(());
        }
        let Some(wanted) = wanted else {
            if let Some(live) = live {
                delete(&self.configurations, &name, live).await?;
            }
            self.live = Seen::Absent;
            return Ok(());
        };
        if live.is_some_and(|live| !is_own(live) && live.webhooks.as_ref().is_some_and(|webhooks| !webhooks.is_empty())) {
            return Err(UpkeepError::ForeignConfiguration(name));
        }
        let opponent = live.and_then(|live| last_writer(live, FIELD_MANAGER));
        let mut whole = wanted.clone();
        if let Some(live) = live {
            keep_additions(live, &mut whole);
        }
        if self.right.as_ref() == Some(wanted) {
            self.restore(opponent)?;
        }
        self.apply(wanted, &whole).await
    }

    /// Counts that somebody else changed what was right, and refuses to write if that happens too often.
    fn restore(&mut self, opponent: Option<String>) -> Result<(), UpkeepError> {
        let now = Instant::now();
        self.opponent = opponent;
        if self.fights.next(now).is_some() {
            return Err(self.fight());
        }
        self.fights.restored(now);
        Ok(())
    }

    fn fight(&self) -> UpkeepError {
        UpkeepError::Fight { name: self.options.name.clone(), manager: self.opponent.clone() }
    }

    /// Writes the configuration: `whole` is what is wanted, and what others added to it.
    async fn apply(&mut self, wanted: &MutatingWebhookConfiguration, whole: &MutatingWebhookConfiguration) -> Result<(), UpkeepError> {
        let name = &self.options.name;
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let doing = || format!("apply MutatingWebhookConfiguration {name}");
        let applied = call(doing, self.configurations.patch(name, &params, &Patch::Apply(whole))).await?;
        let is_kept = is_as_wanted(&applied, wanted);
        self.live = Some(applied).into();
        self.written = Some(Instant::now());
        // From now on a difference is somebody else's, also if it was made while this was written.
        self.right = Some(wanted.clone());
        if !is_kept {
            return Err(UpkeepError::ChangedBack(name.clone()));
        }
        tracing::info!(name, "applied the webhook's configuration");
        Ok(())
    }

    /// Notes which pods others keep from the webhook.
    fn look_at_additions(&mut self, wanted: Option<&MutatingWebhookConfiguration>, program: &Program) {
        let live = self.live.object();
        let found = live.zip(wanted).and_then(|(live, wanted)| narrowed(live, wanted, program)).map(Arc::new);
        let message = |narrowed: &Option<Arc<Narrowed>>| narrowed.as_ref().map(|narrowed| narrowed.message.clone());
        if message(&found) != message(&self.narrowed) {
            if let Some(narrowed) = &found {
                tracing::warn!("{}", narrowed.message);
            } else {
                tracing::info!("nobody keeps pods from the webhook any more");
            }
        }
        self.narrowed = found;
    }

    fn wait(&self, now: Timestamp) -> Duration {
        let Some(stored) = self.stored() else { return LONGEST_WAIT };
        let (names, lifetimes) = (&self.options.endpoint.names, &self.options.lifetimes);
        match next(now, Some(&stored), self.published_at(), names, lifetimes) {
            Step::Wait(until) => Duration::try_from(until.duration_since(now)).unwrap_or_default().min(LONGEST_WAIT),
            Step::Create | Step::RenewLeaf | Step::AddNextCa | Step::Switch | Step::DropPreviousCa => Duration::ZERO,
        }
    }
}

fn owner_label() -> String {
    format!("{}={}", OWNER_LABEL.0, OWNER_LABEL.1)
}

/// Whether there is nothing to do about the configuration.
fn is_right(live: Option<&MutatingWebhookConfiguration>, wanted: Option<&MutatingWebhookConfiguration>) -> bool {
    match (live, wanted) {
        (None, None) => true,
        (Some(live), None) => !is_own(live),
        (None, Some(_)) => false,
        (Some(live), Some(wanted)) => is_as_wanted(live, wanted),
    }
}

/// A Secret with content that the operator did not write.
fn is_foreign(secret: &Secret) -> bool {
    let is_labelled =
        secret.metadata.labels.as_ref().and_then(|labels| labels.get(OWNER_LABEL.0)).is_some_and(|owner| owner == OWNER_LABEL.1);
    !is_labelled && secret.data.as_ref().is_some_and(|data| !data.is_empty())
}

fn new_secret(name: &str, stored: &Stored) -> Secret {
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some([(OWNER_LABEL.0.to_owned(), OWNER_LABEL.1.to_owned())].into()),
        ..ObjectMeta::default()
    };
    Secret { metadata, type_: Some("kubernetes.io/tls".to_owned()), data: Some(stored.to_data()), ..Secret::default() }
}

/// The files of the folder, now and whenever they change to something usable.
fn files(folder: &Path) -> impl Stream<Item = Result<Files, FilesError>> + use<> {
    let state = (folder.to_owned(), interval(FILES_INTERVAL), None::<Files>);
    stream::unfold(state, |(folder, mut ticks, mut last)| async move {
        loop {
            ticks.tick().await;
            let read = Files::read(&folder).and_then(|files| files.certified_key(&folder).map(|_| files));
            match read {
                Ok(files) if last.as_ref() == Some(&files) => {}
                Ok(files) => {
                    last = Some(files.clone());
                    return Some((Ok(files), (folder, ticks, last)));
                }
                Err(error) => return Some((Err(error), (folder, ticks, last))),
            }
        }
    })
}

fn post_params() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

/// Explains a Secret that cannot be created because of its namespace.
fn without_namespace(error: UpkeepError, namespace: &str) -> UpkeepError {
    let UpkeepError::Call { error: cause, .. } = &error else { return error };
    let kube::Error::Api(status) = &**cause else { return error };
    let details = status.details.as_ref();
    let is_terminating = details.is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"));
    match status.code {
        // Nothing else can be missing when something is created.
        404 => UpkeepError::NoNamespace(namespace.to_owned()),
        403 if is_terminating => UpkeepError::NamespaceTerminating(namespace.to_owned()),
        _ => error,
    }
}

fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

async fn call<T>(doing: impl Fn() -> String, request: impl Future<Output = kube::Result<T>>) -> Result<T, UpkeepError> {
    match timeout(CALL_TIMEOUT, request).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(UpkeepError::Call { doing: doing(), error: Box::new(error) }),
        Err(_) => Err(UpkeepError::Timeout { doing: doing() }),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::{Status, response::StatusDetails};
    use serde_json::json;

    use super::*;

    fn refused(code: u16, reason: &str, causes: &[&str]) -> UpkeepError {
        let causes: Vec<_> = causes.iter().map(|reason| json!({ "reason": reason, "message": "", "field": "" })).collect();
        let details: StatusDetails = serde_json::from_value(json!({ "causes": causes })).unwrap();
        let status = Status::failure("", reason).with_code(code).with_details(details);
        UpkeepError::Call { doing: "create Secret a/b".to_owned(), error: Box::new(kube::Error::Api(status.boxed())) }
    }

    #[test]
    fn secret_without_a_namespace_says_what_to_create() {
        let said = |error| without_namespace(error, "operators").to_string();
        let missing = said(refused(404, "NotFound", &[]));
        assert!(missing.contains("namespace operators does not exist") && missing.contains("--own-namespace"), "{missing}");
        let terminating = said(refused(403, "Forbidden", &["NamespaceTerminating"]));
        assert!(terminating.contains("namespace operators is being deleted"), "{terminating}");
        let forbidden = said(refused(403, "Forbidden", &[]));
        assert!(forbidden.contains("could not create Secret a/b"), "{forbidden}");
        assert!(said(refused(409, "AlreadyExists", &[])).contains("could not create Secret a/b"));
    }
}
