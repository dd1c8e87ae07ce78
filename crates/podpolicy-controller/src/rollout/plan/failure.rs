//! Pods that fail with a policy's settings: what stops a rollout, for how long, and how it is taken back.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use podpolicy_api::{FailureAction, RolloutFailure};
use podpolicy_engine::PolicyId;

use super::{Planner, Scene, Stand, Step, is_broken_by};
use crate::rollout::snapshot::{Gate, PodView, PolicyView, Workload};

impl<'a> Planner<'a> {
    /// That a pod with the policy's settings has failed, and the question why.
    pub(super) fn new_failure(&mut self, scene: Scene<'a>) -> Option<(Stand, Step)> {
        let (workload, pod, message) = self.failed_pod(scene)?;
        let failure = RolloutFailure {
            workload: workload.id.named_by(&scene.policy.id),
            workload_uid: workload.own.uid.clone(),
            template: workload.own.template.clone(),
            pod: pod.name.clone(),
            exempt: pod.owner_uid.clone().filter(|_| scene.policy.rollout.on_failure == FailureAction::Revert),
            container: pod.trouble.as_ref().and_then(|trouble| trouble.container.clone()),
            message,
            time: Time(Timestamp::from_second(self.now.as_second()).unwrap_or(self.now)),
        };
        let stand = Stand::Progressing(format!("pod {} of {} failed; looking why", pod.name, workload.id));
        let namespace = workload.id.key.namespace.clone();
        Some((stand, Step::Explain { failure, pod_uid: pod.uid.clone(), namespace }))
    }

    /// Whether a failure still counts: the workload is the same, with the same template.
    pub(super) fn stands(&self, policy: &PolicyView, failure: &RolloutFailure) -> bool {
        let workload = self.snapshot.workloads.iter().find(|workload| workload.own.uid == failure.workload_uid);
        workload.is_some_and(|workload| workload.own.template == failure.template && workload.id.named_by(&policy.id) == failure.workload)
    }

    /// Nothing, but for the pods of a workload that is exempt by now.
    pub(super) fn after_failure(
        &mut self,
        scene: Scene<'a>,
        failure: &RolloutFailure,
        touched: &mut Option<String>,
    ) -> (Stand, Option<Step>) {
        let failed = Stand::Failed(failure_message(&scene.policy.id, failure));
        let workload = self.snapshot.workloads.iter().find(|workload| workload.own.uid == failure.workload_uid);
        let (Some(workload), Some(owner)) = (workload, &failure.exempt) else { return (failed, None) };
        // Pods that were exempt when they were created have nothing of the policy's.
        let given = workload.pods.iter().filter(|pod| {
            pod.owner_uid.as_ref() == Some(owner)
                && pod.is_outdated(scene.index)
                && pod.standing(scene.index).is_some_and(|it| it.has_given)
        });
        let given: Vec<_> = given.filter(|pod| !self.memory.was_sent(&pod.uid)).collect();
        let is_exempt = scene.policy.exempt.contains(owner);
        if is_exempt && given.is_empty() && self.unavailable(scene.policy, workload) == 0 {
            return (failed, None);
        }
        let reverting = |what: String| Stand::Reverting(format!("{}; taking it back: {what}", failure_message(&scene.policy.id, failure)));
        match &scene.policy.at_creation {
            Gate::InForce => {}
            Gate::Waiting(message) | Gate::Never(message) => return (reverting(message.clone()), None),
        }
        *touched = Some(failure.workload.clone());
        if !is_exempt || !scene.has_touched(workload) {
            return (reverting("beginning".to_owned()), None);
        }
        // By eviction also where the rollout restarts workloads: a template that is stamped again would be another.
        let blocked = self.memory.blocked(workload).filter(|blocked| blocked.until > self.now);
        if let Some(blocked) = blocked {
            let message = blocked.message.clone();
            return (if blocked.is_forbidden { Stand::Forbidden(message) } else { reverting(message) }, None);
        }
        let is_awaited = self.missing(workload) > 0 || workload.pods.iter().any(|pod| self.is_coming_back(scene, failure, pod));
        let has_room = self.unavailable(scene.policy, workload) < scene.policy.max_unavailable(workload.own.replicas);
        let next = given.iter().min_by_key(|pod| (!is_broken_by(scene.index, pod), workload.turn(pod)));
        let next = next.filter(|pod| has_room || !self.is_available(scene.policy, pod));
        let step = next.filter(|_| !is_awaited).map(|pod| Step::Evict {
            workload: workload.target(),
            pod: pod.name.clone(),
            pod_uid: pod.uid.clone(),
        });
        let what =
            step.as_ref().map_or_else(|| "waiting for pods to be ready".to_owned(), |_| format!("replacing pods of {}", workload.id));
        (reverting(what), step)
    }

    /// Whether the pod has come without the policy's settings because of the failure, and is not ready yet.
    pub(super) fn is_coming_back(&mut self, scene: Scene<'a>, failure: &RolloutFailure, pod: &PodView) -> bool {
        let at = pod.available_at(scene.policy.min_ready());
        self.wakes.extend(at);
        pod.created >= failure.time.0 && !pod.is_leaving && pod.standing(scene.index).is_none() && at.is_none_or(|at| at > self.now)
    }

    /// A pod with the policy's settings that has failed, and in which way.
    pub(super) fn failed_pod(&mut self, scene: Scene<'a>) -> Option<(&'a Workload, &'a PodView, String)> {
        let snapshot = self.snapshot;
        snapshot.workloads.iter().find_map(|workload| {
            let fresh: Vec<_> = scene.fresh(workload).collect();
            let failed = fresh.into_iter().find_map(|pod| Some((workload, pod, self.failure_of(scene, pod)?)));
            failed.or_else(|| self.bare_replacement(scene, workload))
        })
    }

    pub(super) fn failure_of(&mut self, scene: Scene<'a>, pod: &PodView) -> Option<String> {
        let Scene { policy, .. } = scene;
        let trouble = pod.trouble.as_ref().map(|trouble| format!(": {}", trouble.message)).unwrap_or_default();
        if pod.restarts > 0 && (pod.created >= scene.started || !pod.is_ready) {
            let times = if pod.restarts == 1 { "once".to_owned() } else { format!("{} times", pod.restarts) };
            return Some(format!("was started again {times}{trouble}"));
        }
        if pod.is_ready || !pod.is_scheduled {
            return None;
        }
        let since = pod.since.map_or(pod.created, |since| since.max(pod.created));
        self.is_overdue(policy, since).then(|| format!("was not ready within {} s{trouble}", policy.rollout.progress_deadline_seconds))
    }

    /// A pod that came after an eviction, and without the settings.
    pub(super) fn bare_replacement(&self, scene: Scene<'a>, workload: &'a Workload) -> Option<(&'a Workload, &'a PodView, String)> {
        if scene.policy.at_creation != Gate::InForce || !scene.has_touched(workload) {
            return None;
        }
        let is_bare = |pod: &&PodView| pod.is_outdated(scene.index) && self.memory.is_replacement(workload, &pod.uid);
        let pod = workload.pods.iter().find(is_bare)?;
        let message = "was created in place of an evicted pod, and lacks the settings; look for an admission plugin that takes them away";
        Some((workload, pod, message.to_owned()))
    }
}

pub(super) fn failure_message(policy: &PolicyId, failure: &RolloutFailure) -> String {
    let RolloutFailure { workload, pod, container, message, exempt, .. } = failure;
    let exempt = exempt.as_ref().map(|_| format!("; {workload} is exempt from the policy until then")).unwrap_or_default();
    let container = container.as_ref().map(|container| format!(", container {container},")).unwrap_or_default();
    format!(
        "the rollout of {policy} has stopped at {workload}: pod {pod}{container} {message}; correct the policy or the workload's pod template{exempt}"
    )
}
