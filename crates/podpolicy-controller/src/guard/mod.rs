//! The guard: whether the API server lets only those write commands into policies who may run commands in the pods. It is a
//! ValidatingAdmissionPolicy that an administrator installs (`config/guard`); here it is found out what it is worth.
//!
//! It runs beside the loop, on every replica, because all of them decide. It never writes: what it sends is read, or a dry run. As long as no
//! policy has commands it asks nothing at all.

mod found;
mod question;
mod vouching;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt as _, Stream, StreamExt as _, future, stream};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use kube::{
    Api, Client,
    core::PartialObjectMeta,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, watcher},
    },
};
use podpolicy_engine::PolicyId;
use tokio::{sync::watch, task::JoinSet};

use crate::{
    Watched,
    apply::WriteError,
    beside::Beside,
    observe::{Failure, failure},
};

use found::{Found, Identity, NAME};
use question::Answer;
pub(crate) use vouching::{GuardState, Written};
use vouching::{InForce, SETTLED};

/// How often it is looked whether the guard is still in force, beside what watches tell.
const CHECK_AGAIN: Duration = Duration::from_mins(1);
/// How soon it is asked again whether the guard has come into force; the wait grows up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The policies with commands.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Questions {
    pub(crate) policies: Vec<PolicyId>,
    /// How many generations of policies with commands had been seen then.
    pub(crate) seen: u64,
}

/// How the guard stands to who only reads: whether it enforces what its objects say cannot be seen without writing. Who may not read its objects goes
/// by what statuses remember.
pub(crate) async fn as_read(client: &Client) -> GuardState {
    match found::find(client).await {
        Ok(Found::Absent) => GuardState::Absent,
        Ok(Found::Foreign(why)) => GuardState::Unclear(why),
        Ok(Found::Guard(Identity { id, since })) => GuardState::InForce(InForce { id, since, baseline: None, confirmed: 0 }),
        Err(_) => GuardState::as_remembered(),
    }
}

/// Starts the task that looks: what policies have commands goes in. `client` is one that may ask while another operator leads.
pub(crate) fn start(client: &Client, watched: &Watched) -> Beside<Questions, GuardState> {
    let (inputs, received) = watch::channel(Questions::default());
    let (sender, states) = watch::channel(Arc::new(GuardState::Asking));
    let mut tasks = JoinSet::new();
    tasks.spawn(run(Watch::new(client.clone(), watched.clone(), Instant::now()), received, sender));
    Beside { inputs, states, tasks }
}

async fn run(mut watch: Watch, mut questions: watch::Receiver<Questions>, states: watch::Sender<Arc<GuardState>>) {
    if questions.wait_for(|questions| !questions.policies.is_empty()).await.is_err() {
        return;
    }
    let mut news = changes(&watch.client).boxed();
    loop {
        let asked = questions.borrow_and_update().clone();
        if !asked.policies.is_empty() {
            let seen = watch.look(&asked).await;
            if **states.borrow() != seen {
                log(&seen);
                states.send_replace(Arc::new(seen));
            }
        }
        tokio::select! {
            changed = questions.changed() => if changed.is_err() { return },
            Some(()) = news.next() => {
                while let Some(Some(())) = news.next().now_or_never() {}
                watch.wait = FIRST_WAIT;
            }
            () = tokio::time::sleep_until(watch.next.into()), if !asked.policies.is_empty() => {}
        }
    }
}

fn log(state: &GuardState) {
    match state {
        GuardState::Asking => {}
        GuardState::Absent => tracing::info!("there is no guard; commands in policies are refused"),
        GuardState::Unclear(why) => tracing::warn!(why, "commands in policies are refused"),
        GuardState::InForce(guard) => tracing::info!(guard = guard.id, "the guard is in force"),
    }
}

/// Tells when one of the guard's two objects may be another.
fn changes(client: &Client) -> impl Stream<Item = ()> + Send + use<> {
    let by_name = || watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    let policies: Api<PartialObjectMeta<ValidatingAdmissionPolicy>> = Api::all(client.clone());
    let bindings: Api<PartialObjectMeta<ValidatingAdmissionPolicyBinding>> = Api::all(client.clone());
    let policies = watcher(policies, by_name()).default_backoff();
    let bindings = watcher(bindings, by_name()).default_backoff();
    let policies = news(policies, "validatingadmissionpolicies");
    let bindings = news(bindings, "validatingadmissionpolicybindings");
    stream::select(policies.boxed(), bindings.boxed())
}

/// What a watch brings. One that fails is no news: it is looked again from time to time.
fn news<K>(
    watch: impl Stream<Item = Result<watcher::Event<K>, watcher::Error>> + Send,
    plural: &'static str,
) -> impl Stream<Item = ()> + Send {
    let mut missing = None;
    watch.filter_map(move |event| {
        let now_missing = match event.as_ref().map_err(failure) {
            Ok(_) => None,
            Err(Failure::Forbidden { verb }) => Some(verb),
            Err(Failure::NotServed | Failure::Other(_)) => missing,
        };
        if let Some(verb) = now_missing.filter(|_| now_missing != missing) {
            tracing::warn!(
                "the operator may not {verb} {plural}, and sees changes of the guard late; grant it the rights of config/rbac/role.yaml"
            );
        }
        missing = now_missing;
        future::ready(event.ok().map(drop))
    })
}

/// What has been seen of the guard.
struct Watch {
    client: Client,
    watched: Watched,
    /// What was found out last.
    state: GuardState,
    /// When the guard of the state was first seen in force.
    since: Instant,
    /// When to look again, and how long to wait the time after.
    next: Instant,
    wait: Duration,
}

impl Watch {
    fn new(client: Client, watched: Watched, now: Instant) -> Self {
        Self { client, watched, state: GuardState::Asking, since: now, next: now, wait: FIRST_WAIT }
    }

    /// Looks at the guard as it is now. What cannot be asked stays as it was.
    async fn look(&mut self, questions: &Questions) -> GuardState {
        match self.ask(questions).await {
            Ok(state) => self.state = state,
            Err(WriteError::Forbidden(message)) => {
                self.state = GuardState::Unclear(format!("{message}; grant the operator the rights of config/rbac/role.yaml"));
            }
            Err(error) => tracing::debug!(%error, "could not look at the guard; trying again"),
        }
        let now = Instant::now();
        self.next = match &self.state {
            GuardState::InForce(guard) if guard.baseline.is_none() => {
                let settled = self.since + SETTLED;
                if settled > now { settled } else { now + LONGEST_WAIT }
            }
            GuardState::InForce(_) | GuardState::Absent => now + CHECK_AGAIN,
            GuardState::Asking | GuardState::Unclear(_) => {
                let next = now + self.wait;
                self.wait = (self.wait * 2).min(LONGEST_WAIT);
                next
            }
        };
        self.state.clone()
    }

    async fn ask(&mut self, questions: &Questions) -> Result<GuardState, WriteError> {
        let identity = match found::find(&self.client).await? {
            Found::Absent => return Ok(GuardState::Absent),
            Found::Foreign(why) => return Ok(GuardState::Unclear(why)),
            Found::Guard(identity) => identity,
        };
        match question::ask(&self.client, &questions.policies).await? {
            Answer::InForce => {}
            Answer::NotInForce => {
                return Ok(GuardState::Unclear(format!(
                    "the API server does not act on ValidatingAdmissionPolicy {NAME}, which takes a moment after it is installed; asked again"
                )));
            }
            Answer::Other(message) => {
                return Ok(GuardState::Unclear(format!(
                    "the question whether the guard is in force is answered with something else: {message}"
                )));
            }
        }
        let before = match &self.state {
            GuardState::InForce(guard) if guard.id == identity.id => guard.baseline.clone(),
            GuardState::InForce(_) | GuardState::Asking | GuardState::Absent | GuardState::Unclear(_) => {
                self.since = Instant::now();
                self.wait = FIRST_WAIT;
                None
            }
        };
        let is_settled = Instant::now().duration_since(self.since) >= SETTLED;
        let baseline = match before {
            None if is_settled => match question::generations(&self.client, &self.watched).await {
                Ok(generations) => Some(Arc::new(generations)),
                Err(error) => {
                    tracing::debug!(%error, "could not list policies to see what the guard has found");
                    None
                }
            },
            before => before,
        };
        Ok(GuardState::InForce(InForce { id: identity.id, since: identity.since, baseline, confirmed: questions.seen }))
    }
}
