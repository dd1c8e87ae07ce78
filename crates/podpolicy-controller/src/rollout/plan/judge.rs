//! The gates before a step: whether a workload may be touched now, and which step that is.

use podpolicy_api::Strategy;
use podpolicy_engine::PolicyId;

use super::{Planner, Scene, Stand, Step, Verdict, can_replace, is_broken_by, work};
use crate::rollout::snapshot::{Gate, PodView, Workload};

impl<'a> Planner<'a> {
    /// What may be done to a workload that has pods to replace.
    pub(super) fn judge(&mut self, scene: Scene<'a>, workload: &'a Workload) -> Verdict {
        let Scene { index, policy, .. } = scene;
        if let Err(message) = can_replace(policy, workload) {
            return Verdict::Skip(Stand::Blocked(message));
        }
        if let Some(other) = self.claims.get(workload.own.uid.as_str()).filter(|other| **other != index) {
            let other = &self.snapshot.policies[*other].id;
            return Verdict::Skip(Stand::Blocked(format!("{} is rolled out by {other}, which goes first", workload.id)));
        }
        if let Some(blocked) = self.memory.blocked(workload).filter(|blocked| blocked.until > self.now) {
            let message = blocked.message.clone();
            return Verdict::Skip(if blocked.is_forbidden { Stand::Forbidden(message) } else { Stand::Blocked(message) });
        }
        if let Some((other, message)) = self.not_yet_in_force(scene, workload) {
            return Verdict::Wait(Stand::Progressing(format!("waiting until pods are created with the settings of {other}: {message}")));
        }
        let broken = workload.pods.iter().filter(|pod| is_broken_by(index, pod) && !self.memory.was_sent(&pod.uid));
        let broken = broken.min_by_key(|pod| workload.turn(pod));
        if !self.is_ours(scene, workload)
            && let Some(stand) = self.ill(scene, workload)
        {
            return Verdict::Skip(stand);
        }
        match policy.rollout.strategy {
            Strategy::OnCreate | Strategy::Evict => self.judge_eviction(scene, workload, broken),
            Strategy::Restart => self.judge_restart(scene, workload, broken.is_some()),
        }
    }

    pub(super) fn judge_eviction(&mut self, scene: Scene<'a>, workload: &'a Workload, broken: Option<&'a PodView>) -> Verdict {
        let Scene { index, policy, .. } = scene;
        let unavailable = self.unavailable(policy, workload);
        // One that fails because of us is not needed, and its replacement shows whether the change of the policy helps.
        let is_awaited = scene.fresh(workload).any(|pod| !self.is_available(policy, pod)) || self.missing(workload) > 0;
        if let Some(stand) = self.unproven(scene, workload) {
            return Verdict::Wait(stand);
        }
        let pod = match broken {
            Some(pod) if !is_awaited && (!self.is_available(policy, pod) || unavailable == 0) => pod,
            Some(_) | None => {
                // The first one goes alone.
                let is_proven = scene.fresh(workload).next().is_some();
                let most = if is_proven { policy.max_unavailable(workload.own.replicas) } else { 1 };
                let ready = work(policy, index, workload).into_iter().filter(|pod| self.is_available(policy, pod));
                let next = ready.min_by_key(|pod| workload.turn(pod));
                let Some(pod) = next.filter(|_| unavailable < most) else {
                    let waits = || Stand::Progressing(format!("waiting for the pods of {} to be ready", workload.id));
                    return Verdict::Wait(self.unsettled(scene, workload).unwrap_or_else(waits));
                };
                if self.left == 0 {
                    return Verdict::Skip(over_budget(workload));
                }
                pod
            }
        };
        Verdict::Step(Step::Evict { workload: workload.target(), pod: pod.name.clone(), pod_uid: pod.uid.clone() })
    }

    pub(super) fn judge_restart(&mut self, scene: Scene<'a>, workload: &'a Workload, has_broken: bool) -> Verdict {
        let Scene { index, policy, .. } = scene;
        let stamp = policy.stamp();
        if self.memory.was_stamped(workload, &stamp) {
            return Verdict::Wait(Stand::Progressing(format!("restarting {}", workload.id)));
        }
        if workload.own.stamp.as_ref() == Some(&stamp) {
            if let Some(stand) = self.unsettled(scene, workload) {
                return Verdict::Wait(stand);
            }
            let example = work(policy, index, workload).first().map(|pod| pod.name.clone()).unwrap_or_default();
            return Verdict::Skip(Stand::Blocked(format!(
                "{} was restarted for this spec, and {example} lacks the settings all the same, because something else has changed since; \
                 run kubectl rollout restart",
                workload.id
            )));
        }
        if !has_broken {
            if let Some(stand) = self.unsettled(scene, workload) {
                return Verdict::Wait(stand);
            }
            // Its own rolling update takes such pods away at once, however many they are.
            if workload.own.unavailable > 0 {
                let stand = Stand::Progressing(format!(
                    "waiting until all {} pods of {} are available by the workload's own minReadySeconds; it would replace several at once",
                    workload.own.replicas, workload.id
                ));
                return if scene.has_touched(workload) { Verdict::Wait(stand) } else { Verdict::Skip(stand) };
            }
        }
        if self.left == 0 {
            return Verdict::Skip(over_budget(workload));
        }
        Verdict::Step(Step::Restart { workload: workload.target(), stamp })
    }

    /// A policy whose settings a replacement would lack.
    pub(super) fn not_yet_in_force(&self, scene: Scene<'a>, workload: &Workload) -> Option<(&'a PolicyId, &'a str)> {
        let outdated = workload.pods.iter().filter(|pod| pod.is_outdated(scene.index)).flat_map(|pod| &pod.standings);
        outdated.filter(|standing| standing.is_outdated).find_map(|standing| {
            let policy = &self.snapshot.policies[standing.policy];
            match &policy.at_creation {
                Gate::Waiting(message) => Some((&policy.id, message.as_str())),
                Gate::InForce | Gate::Never(_) => None,
            }
        })
    }

    /// Whether what the workload lacks may be lacking because of this rollout.
    pub(super) fn is_ours(&self, scene: Scene<'a>, workload: &'a Workload) -> bool {
        scene.has_touched(workload)
            && (workload.own.is_rolling
                || self.missing(workload) > 0
                || workload.pods.iter().any(|pod| pod.is_leaving || self.memory.was_sent(&pod.uid))
                || scene.fresh(workload).next().is_some())
    }

    /// Why a workload is left alone that this rollout has not touched.
    pub(super) fn ill(&mut self, scene: Scene<'a>, workload: &Workload) -> Option<Stand> {
        let Scene { index, policy, .. } = scene;
        let broken = workload.pods.iter().filter(|pod| is_broken_by(index, pod) && !self.is_available(policy, pod)).count();
        let lacking = self.unavailable(policy, workload).saturating_sub(u32::try_from(broken).unwrap_or(u32::MAX));
        if lacking > 0 {
            self.wakes.extend(workload.pods.iter().filter_map(|pod| pod.available_at(policy.min_ready())));
            let not_long_ready = |pod: &&PodView| pod.available_at(policy.min_ready()).is_some_and(|at| at > self.now);
            let mut young = workload.pods.iter().filter(not_long_ready);
            // That comes by itself.
            if young.clone().count() >= usize::try_from(lacking).unwrap_or(usize::MAX)
                && let Some(pod) = young.next()
            {
                return Some(self.waiting_for(policy, workload, pod));
            }
            let lacks = match workload.own.replicas {
                1 => "its pod is not ready".to_owned(),
                replicas => format!("{lacking} of its {replicas} pods are not ready"),
            };
            return Some(Stand::Blocked(format!("{} is not healthy: {lacks}; it is left alone until that changes", workload.id)));
        }
        (workload.own.is_rolling && broken == 0)
            .then(|| Stand::Blocked(format!("{} is rolling by itself, which is waited for", workload.id)))
    }
}

fn over_budget(workload: &Workload) -> Stand {
    Stand::Blocked(format!(
        "{} waits for other rollouts: as many pods are unavailable as the operator's --rollout-max-unavailable allows",
        workload.id
    ))
}
