//! The native backend: keeps the API server's objects in step with the program, and finds out what is in force: compile -> compare ->
//! write -> probe -> tell. Between two changes it asks nothing but now and then what is in force.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt as _, StreamExt as _, stream};
use kube::Client;
use podpolicy_admission::cel;
use podpolicy_engine::Program;

use super::{
    Context, HAND_OVER,
    compiled::Compiled,
    failures::Failures,
    force::Force,
    objects::{self, Objects, Seen},
    probe,
    scope::{OTHERS, Scope},
    standing::{AdmissionState, Problem},
    steps::{Scene, Step, steps},
    write::{self, Taken, Written},
};
use crate::{apply::WriteError, observe::Failure};

/// Changes that come within this time are compiled at once; longer where compiling takes long.
const QUIET: Duration = Duration::from_millis(100);
/// How many objects are written, or policies asked, at once.
const CONCURRENCY: usize = 8;
/// How soon after a write it is asked whether that is in force; the wait grows up to the longest.
const FIRST_PROBE: Duration = Duration::from_millis(250);
const LONGEST_PROBE: Duration = Duration::from_secs(3);
/// How often it is asked whether what was in force still is.
const CHECK_AGAIN: Duration = Duration::from_mins(5);
/// How long to wait before an API server that does not serve the resource any more is asked what it serves.
const NOT_SERVED_WAIT: Duration = Duration::from_secs(5);

/// Runs until the API server no longer serves the objects.
pub(super) async fn run(ctx: &mut Context) {
    let mut events = objects::watch(&ctx.client).boxed();
    let mut native = Native::new(ctx.client.clone(), ctx.scope.clone(), Instant::now());
    ctx.programs.mark_changed();
    loop {
        let program = ctx.programs.borrow().clone();
        if let Some(state) = native.act(program).await {
            ctx.tell(state);
        }
        tokio::select! {
            changed = ctx.programs.changed() => match changed {
                Ok(()) => native.compile_soon(Instant::now()),
                // The operator stops.
                Err(_) => return std::future::pending().await,
            },
            Some(seen) = events.next() => {
                native.observe(seen);
                while let Some(Some(seen)) = events.next().now_or_never() {
                    native.observe(seen);
                }
            }
            () = tokio::time::sleep_until(native.next_wake(Instant::now()).into()) => {}
        }
        if native.watching.values().any(|problem| *problem == Problem::NotServed) {
            tokio::time::sleep(NOT_SERVED_WAIT).await;
            return;
        }
    }
}

/// What is known, and when what is due.
struct Native {
    client: Client,
    scope: Scope,
    objects: Objects,
    compiled: Arc<Compiled>,
    force: Force,
    failures: Failures,
    /// Why objects cannot be watched, by the plural of their resource.
    watching: BTreeMap<&'static str, Problem>,
    /// Why nobody can tell what is in force.
    probing: Option<Problem>,
    compile_at: Option<Instant>,
    compiling_takes: Duration,
    probe_at: Instant,
    probe_wait: Duration,
    /// When the binding of all others was last written, as far as is known.
    others_written: Instant,
    has_news: bool,
}

impl Native {
    fn new(client: Client, scope: Scope, now: Instant) -> Self {
        Self {
            client,
            objects: Objects::new(scope.clone()),
            scope,
            compiled: Arc::default(),
            force: Force::default(),
            failures: Failures::default(),
            watching: BTreeMap::new(),
            probing: None,
            compile_at: None,
            compiling_takes: Duration::ZERO,
            probe_at: now,
            probe_wait: FIRST_PROBE,
            others_written: now,
            has_news: true,
        }
    }

    fn compile_soon(&mut self, now: Instant) {
        self.compile_at.get_or_insert(now + QUIET.max(2 * self.compiling_takes));
    }

    fn observe(&mut self, seen: Seen) {
        let plural = seen.plural();
        let problem = match self.objects.observe(seen) {
            Ok(()) => None,
            Err(Failure::NotServed) => Some(Problem::NotServed),
            Err(Failure::Forbidden { verb }) => Some(Problem::Forbidden(format!("the operator may not {verb} {plural}"))),
            Err(Failure::Other(error)) => Some(Problem::Failing(format!("cannot watch {plural}: {error}"))),
        };
        if problem.as_ref() != self.watching.get(plural) {
            match problem {
                Some(problem) => {
                    tracing::warn!("{problem}");
                    self.watching.insert(plural, problem);
                }
                None => _ = self.watching.remove(plural),
            }
            self.has_news = true;
        }
    }

    /// Does what is due, and returns the state when it is another.
    async fn act(&mut self, program: Option<Arc<Program>>) -> Option<AdmissionState> {
        let program = program?;
        if self.compile_at.is_some_and(|at| at <= Instant::now()) {
            self.compile_at = None;
            self.compile(program).await;
        }
        // Before that nobody can say how any policy stands: that there are none would be taken for all being well.
        self.compiled.program.as_ref()?;
        self.force.forget_lost(Instant::now());
        if self.objects.is_listed() {
            if !self.force.is_known() {
                self.look_around().await;
            }
            self.write().await;
            if self.probe().await {
                // What is in force now allows what had to wait.
                self.write().await;
            }
        }
        std::mem::take(&mut self.has_news).then(|| {
            let problem = self.watching.values().next().or(self.probing.as_ref());
            AdmissionState::On(self.force.standings(&self.compiled, &self.failures, problem))
        })
    }

    /// Finds out what is in force before anything is written: afterwards nobody could tell whose it is.
    async fn look_around(&mut self) {
        self.probe().await;
        self.force.leave_without_objects(&self.objects.present());
        if self.force.awaits(&self.compiled) {
            self.probe_soon();
        }
    }

    async fn compile(&mut self, program: Arc<Program>) {
        let started = Instant::now();
        let compile = move || {
            let compilation = cel::compile(&program);
            (program, compilation)
        };
        let (program, compilation) = match tokio::task::spawn_blocking(compile).await {
            Ok(compiled) => compiled,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends.
                Err(_) => return,
            },
        };
        self.compiling_takes = started.elapsed();
        let compiled = Compiled::new(program, compilation, &self.scope);
        compiled.log_omissions(&self.compiled);
        self.failures.retain(|name| self.compiled.digest(name) == compiled.digest(name));
        self.force.compiled(&compiled);
        self.compiled = Arc::new(compiled);
        self.has_news = true;
        if self.force.awaits(&self.compiled) {
            self.probe_soon();
        }
    }

    async fn write(&mut self) {
        let due = self.due_steps(Instant::now());
        if due.is_empty() {
            return;
        }
        for step in &due {
            // Before it is sent: it can arrive without an answer.
            if let Step::Apply { name, policy: true, .. } = step {
                self.force.written(name, self.compiled.digest(name).unwrap_or_default(), Instant::now());
            }
        }
        let (client, compiled) = (&self.client, &self.compiled);
        let taking = due.into_iter().map(|step| {
            let unit = compiled.units.get(step.name());
            write::take(client, step, unit)
        });
        let taken: Vec<_> = stream::iter(taking).buffer_unordered(CONCURRENCY).collect().await;
        for taken in taken {
            self.taken(taken);
        }
        self.has_news = true;
        self.probe_soon();
    }

    fn due_steps(&self, now: Instant) -> Vec<Step> {
        let scene = Scene {
            wanted: &self.compiled.wanted,
            present: &self.objects.present(),
            in_force: self.force.digests(),
            unclear: &self.force.unclear(&self.compiled),
            refused: &self.failures.refused(),
            is_handed_over: now.duration_since(self.others_written) >= HAND_OVER,
        };
        let mut due = steps(&scene);
        due.retain(|step| self.failures.is_due(step.name(), now));
        due
    }

    fn taken(&mut self, Taken { step, written, result }: Taken) {
        let name = step.name();
        if name == OTHERS {
            self.others_written = Instant::now();
        }
        let is_policy_missing =
            matches!(step, Step::Apply { policy: true, .. }) && !written.iter().any(|written| matches!(written, Written::Policy(_)));
        for written in written {
            match &written {
                Written::Policy(_) | Written::Binding(_) => {}
                Written::NoPolicy(name) | Written::NoBinding(name) => self.force.removed(name),
            }
            self.objects.written(written);
        }
        match (result, &step) {
            (Ok(()), Step::Apply { .. }) => {
                tracing::info!(name, "applied MutatingAdmissionPolicy");
                self.failures.forget(name);
            }
            (Ok(()), Step::Remove { .. }) => {
                tracing::info!(name, "removed MutatingAdmissionPolicy");
                self.failures.forget(name);
            }
            (Err(error @ (WriteError::Gone | WriteError::Changed)), _) => {
                tracing::debug!(name, %error, "did not write MutatingAdmissionPolicy");
                self.failures.failed(name, error, Instant::now());
            }
            (Err(error), _) => {
                if is_policy_missing && matches!(error, WriteError::Refused(_) | WriteError::Forbidden(_)) {
                    self.force.not_written(name);
                }
                tracing::warn!(name, %error, "could not write MutatingAdmissionPolicy; trying again");
                self.failures.failed(name, error, Instant::now());
            }
        }
    }

    fn probe_soon(&mut self) {
        self.probe_wait = FIRST_PROBE;
        self.probe_at = self.probe_at.min(Instant::now() + FIRST_PROBE);
    }

    /// Asks what is in force, if it is time. Says whether that is news.
    async fn probe(&mut self) -> bool {
        if Instant::now() < self.probe_at {
            return false;
        }
        let is_check = self.force.is_known() && !self.force.awaits(&self.compiled);
        let namespaces = if is_check || !self.force.is_known() { None } else { Some(self.force.awaited_namespaces(&self.compiled)) };
        let targets = self.compiled.targets(namespaces.as_ref());
        let client = &self.client;
        let asking = targets.into_iter().map(|id| async move {
            let answer = probe::ask(client, &id).await;
            (id, answer)
        });
        let answers: Vec<_> = stream::iter(asking).buffer_unordered(CONCURRENCY).collect().await;
        let mut problem = None;
        let mut found = Vec::new();
        for (id, answer) in answers {
            match answer {
                Ok(units) => found.push((id, units)),
                // The next program will not have it.
                Err(WriteError::Gone) => {}
                Err(WriteError::Forbidden(message)) => problem = Some(Problem::Forbidden(message)),
                Err(error) => problem = Some(Problem::Failing(format!("cannot ask what is in force: {error}"))),
            }
        }
        if problem != self.probing {
            if let Some(problem) = &problem {
                tracing::warn!("{problem}");
            }
            self.probing = problem;
            self.has_news = true;
        }
        let is_news = self.force.found(&self.compiled, found, self.probing.is_none());
        self.has_news |= is_news;
        self.probe_again();
        is_news
    }

    fn probe_again(&mut self) {
        let now = Instant::now();
        if self.force.is_known() && !self.force.awaits(&self.compiled) {
            self.probe_wait = FIRST_PROBE;
            self.probe_at = now + CHECK_AGAIN;
        } else {
            self.probe_at = now + self.probe_wait;
            self.probe_wait = (self.probe_wait * 3 / 2).min(LONGEST_PROBE);
        }
    }

    fn next_wake(&self, now: Instant) -> Instant {
        let hand_over = Some(self.others_written + HAND_OVER).filter(|at| *at > now);
        let probe = self.objects.is_listed().then_some(self.probe_at);
        [self.compile_at, self.failures.next_due(now), hand_over, probe].into_iter().flatten().fold(now + CHECK_AGAIN, Instant::min)
    }
}
