//! What is waited for after a step: pods that come, are ready, and stay so.

use jiff::Timestamp;

use super::{Planner, Scene, Stand};
use crate::rollout::snapshot::{PodView, PolicyView, Workload};

impl<'a> Planner<'a> {
    /// How many pods the workload's controller has still to make.
    pub(super) fn missing(&self, workload: &Workload) -> u32 {
        let present = workload.pods.iter().filter(|pod| !pod.is_leaving && !self.memory.was_sent(&pod.uid)).count();
        workload.own.replicas.saturating_sub(u32::try_from(present).unwrap_or(u32::MAX))
    }

    /// The pod that has still to show that the settings do no harm to the workload; nothing when one has, or none is there.
    pub(super) fn unproven(&mut self, scene: Scene<'a>, workload: &'a Workload) -> Option<Stand> {
        let Scene { policy, .. } = scene;
        let proofs = scene.fresh(workload).map(|pod| (pod, pod.available_at(policy.proof)));
        let (pod, first) = proofs.min_by_key(|(_, proof)| (proof.is_none(), *proof))?;
        let Some(at) = first else { return Some(self.waiting_for(policy, workload, pod)) };
        if self.has_come(at) {
            return None;
        }
        let seconds = policy.proof.as_secs();
        Some(Stand::Progressing(format!("watching {} of {}, the first with the settings there, for {seconds} s", pod.name, workload.id)))
    }

    /// What is waited for at a workload that the rollout has touched; nothing when it is whole.
    pub(super) fn unsettled(&mut self, scene: Scene<'a>, workload: &'a Workload) -> Option<Stand> {
        let Scene { policy, .. } = scene;
        let waiting = scene.fresh(workload).find(|pod| !self.is_available(policy, pod));
        if let Some(pod) = waiting {
            return Some(self.waiting_for(policy, workload, pod));
        }
        if let Some(stand) = self.unproven(scene, workload) {
            return Some(stand);
        }
        if self.missing(workload) > 0 {
            return Some(match &workload.own.failure {
                Some(failure) => Stand::Blocked(format!("{} cannot make pods: {failure}", workload.id)),
                None => Stand::Progressing(format!("waiting for {} to replace a pod", workload.id)),
            });
        }
        if workload.own.is_rolling {
            return Some(Stand::Progressing(format!("waiting for {} to finish its rolling update", workload.id)));
        }
        if self.unavailable(policy, workload) == 0 {
            return None;
        }
        let waiting = workload.pods.iter().find(|pod| !pod.is_leaving && !self.is_available(policy, pod))?;
        Some(self.waiting_for(policy, workload, waiting))
    }

    pub(super) fn waiting_for(&mut self, policy: &PolicyView, workload: &Workload, pod: &PodView) -> Stand {
        let name = format!("{} of {}", pod.name, workload.id);
        let trouble = pod.trouble.as_ref().map(|trouble| trouble.message.as_str());
        if let (false, Some(trouble)) = (pod.is_scheduled, trouble) {
            return Stand::Blocked(format!("pod {name} cannot be scheduled: {trouble}"));
        }
        // Where no scheduler works, none says that it cannot.
        if !pod.is_ready && !pod.is_scheduled && self.is_overdue(policy, pod.created) {
            let seconds = policy.rollout.progress_deadline_seconds;
            return Stand::Blocked(format!(
                "pod {name} has had no node for {seconds} s, and no scheduler says why; see whether the scheduler runs that its schedulerName names"
            ));
        }
        match pod.available_at(policy.min_ready()) {
            Some(at) => {
                self.wakes.insert(at);
                Stand::Progressing(format!("waiting for {name} to stay ready for {} s", policy.rollout.min_ready_seconds))
            }
            None => Stand::Progressing(format!("waiting for {name} to be ready")),
        }
    }

    /// Whether what has lasted since then has for too long. If not, it is looked again once it has.
    pub(super) fn is_overdue(&mut self, policy: &PolicyView, since: Timestamp) -> bool {
        self.has_come(since.saturating_add(policy.deadline()).unwrap_or(Timestamp::MAX))
    }

    /// Whether it is that time. If not, it is looked again then.
    fn has_come(&mut self, at: Timestamp) -> bool {
        let has_come = at <= self.now;
        if !has_come {
            self.wakes.insert(at);
        }
        has_come
    }
}
