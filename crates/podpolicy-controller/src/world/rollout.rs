//! What rollouts are decided on, made of what is known.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;
use podpolicy_api::Strategy;
use podpolicy_engine::{Life, Policy, PolicyId, PolicyKind, Record};

use super::{Known, PodSlot, PolicySlot, World};
use crate::{
    admission::{AtCreation, Problem, Progress},
    observe::Key,
    rollout::{Gate, PodView, PolicyView, Snapshot, Standing, Strays, Workload, WorkloadId},
};

impl World {
    /// Whether some policy has a rollout.
    pub(crate) fn has_rollouts(&self) -> bool {
        self.policies.values().any(has_rollout)
    }

    /// All that rollouts are decided on.
    pub(crate) fn rollouts(&self) -> Snapshot {
        let ranked = self.program.policies().iter().filter_map(|policy| self.policies.get_key_value(policy.id()));
        let ranked: Vec<_> = ranked.filter(|(_, slot)| has_rollout(slot)).collect();
        let ranks: HashMap<&PolicyId, usize> = ranked.iter().enumerate().map(|(rank, (id, _))| (*id, rank)).collect();
        let exempting: Vec<_> =
            ranked.iter().map(|(_, slot)| &*slot.policy).enumerate().filter(|(_, it)| !it.exempt().is_empty()).collect();
        let mut strays = vec![Strays::default(); ranked.len()];
        let mut workloads: BTreeMap<WorkloadId, Workload> = BTreeMap::new();
        for (key, slot) in self.pods_of_namespaces(&ranked) {
            let view = view(key, slot, &ranks, &exempting);
            let found = slot.pod.owner.as_ref().and_then(|owner| self.workloads.of(&key.namespace, owner));
            let Some((kind, workload_key, known, failure)) = found else {
                note_stray(&mut strays, &view, key);
                continue;
            };
            let id = WorkloadId { kind, key: workload_key };
            let workload = workloads.entry(id).or_insert_with_key(|id| workload(id, known));
            if workload.own.failure.is_none() {
                workload.own.failure = failure.map(str::to_owned);
            }
            workload.pods.push(view);
        }
        let is_concerned = |workload: &Workload| workload.pods.iter().any(|pod| !pod.standings.is_empty());
        // While the last pod of a workload is gone and the next has not come, only the policy's status knows that it is concerned.
        for (id, slot) in &ranked {
            self.add_touched(id, slot, &mut workloads);
        }
        let touched: HashSet<_> = ranked.iter().filter_map(|(id, slot)| touched(id, slot)).collect();
        let policies = ranked.into_iter().zip(strays).map(|((id, slot), strays)| self.policy_view(id, slot, strays)).collect();
        let workloads = workloads.into_values().filter(|workload| is_concerned(workload) || touched.contains(&workload.id)).collect();
        Snapshot { policies, workloads, epoch: self.epoch }
    }

    /// The pods of the namespaces in which one of the policies selects any, those that are not selected as well: they count for whether
    /// their workload is healthy.
    fn pods_of_namespaces(&self, policies: &[(&PolicyId, &PolicySlot)]) -> impl Iterator<Item = (&Key, &PodSlot)> {
        let mut namespaces = HashSet::new();
        for (id, slot) in policies {
            match id.kind {
                PolicyKind::PodPolicy => _ = namespaces.insert(id.namespace.as_str()),
                PolicyKind::ClusterPodPolicy => namespaces.extend(slot.members.iter().map(|key| key.namespace.as_str())),
            }
        }
        namespaces.into_iter().map(str::to_owned).collect::<Vec<_>>().into_iter().flat_map(|namespace| {
            let from = Key { namespace: namespace.clone(), name: String::new() };
            self.pods.range(from..).take_while(move |(key, _)| key.namespace == namespace)
        })
    }

    fn add_touched(&self, id: &PolicyId, slot: &PolicySlot, workloads: &mut BTreeMap<WorkloadId, Workload>) {
        let Some(touched) = touched(id, slot).filter(|touched| !workloads.contains_key(touched)) else { return };
        if let Some(known) = self.workloads.get(touched.kind, &touched.key) {
            let workload = workload(&touched, known);
            workloads.insert(touched, workload);
        }
    }

    fn policy_view(&self, id: &PolicyId, slot: &PolicySlot, strays: Strays) -> PolicyView {
        let rollout = slot.policy.rules().rollout.clone().unwrap_or_default();
        PolicyView {
            id: id.clone(),
            uid: slot.uid.clone(),
            generation: slot.generation.unwrap_or_default(),
            proof: PolicyView::proof(&slot.policy, &rollout),
            rollout,
            exempt: slot.policy.exempt().clone(),
            // What the status said before a restart may be about before an exemption.
            at_creation: gate(self.admission.of(&slot.policy)),
            before: slot.status.rollout.clone(),
            strays,
        }
    }
}

fn has_rollout(slot: &PolicySlot) -> bool {
    let strategy = slot.policy.rules().rollout.as_ref().map(|rollout| rollout.strategy);
    let replaces = match strategy {
        None | Some(Strategy::OnCreate) => false,
        Some(Strategy::Evict | Strategy::Restart) => true,
    };
    replaces && !slot.policy.is_audit() && slot.policy.problems().is_empty()
}

/// The workload that the policy's status says it has touched.
fn touched(id: &PolicyId, slot: &PolicySlot) -> Option<WorkloadId> {
    WorkloadId::parse(slot.status.rollout.as_ref()?.workload.as_ref()?, id)
}

fn gate(at_creation: Option<AtCreation>) -> Gate {
    let Some(AtCreation { backend: _, progress, omitted, narrowed }) = at_creation else {
        let message = "nothing gives pods their settings when they are created (--admission none), so that replacing them is of no use";
        return Gate::Never(message.to_owned());
    };
    // A pod that is left out would be replaced by one that lacks the settings as well.
    match (progress, omitted.or(narrowed)) {
        (Progress::InForce, None) => Gate::InForce,
        (Progress::InForce, Some(left_out)) => Gate::Never(left_out),
        // What fails is tried again.
        (Progress::Unknown(message) | Progress::Waiting(message) | Progress::Stuck(Problem::Failing(message)), _) => Gate::Waiting(message),
        (Progress::Stuck(problem), _) => Gate::Never(problem.to_string()),
    }
}

fn workload(id: &WorkloadId, known: &Known) -> Workload {
    Workload { id: id.clone(), own: known.own.clone(), pods: Vec::new() }
}

fn view(key: &Key, slot: &PodSlot, ranks: &HashMap<&PolicyId, usize>, exempting: &[(usize, &Policy)]) -> PodView {
    let running = &slot.pod.running;
    let standings = slot.outcome.verdicts.iter().filter_map(|verdict| {
        let policy = *ranks.get(verdict.policy.id())?;
        Some(Standing { policy, is_outdated: verdict.is_outdated, has_given: verdict.has_given })
    });
    // Pods of an exempt owner with settings of the policy are to be replaced by pods without.
    let exempted = exempting.iter().filter(|(_, policy)| {
        let owner = slot.pod.owner.as_ref();
        owner.is_some_and(|owner| policy.exempt().contains(&owner.uid))
            && Record::of(&slot.pod).created.values().any(|entry| entry.by == policy.in_record())
    });
    let exempted = exempted.map(|(policy, _)| Standing { policy: *policy, is_outdated: true, has_given: true });
    PodView {
        owner_uid: slot.pod.owner.as_ref().map(|owner| owner.uid.clone()),
        name: key.name.clone(),
        uid: slot.pod.uid.clone(),
        created: running.created.unwrap_or(Timestamp::UNIX_EPOCH),
        is_ready: running.is_ready,
        since: running.since,
        is_scheduled: running.is_scheduled,
        is_leaving: match slot.pod.life {
            Life::Live => false,
            Life::Ended | Life::Untouchable => true,
        },
        restarts: running.restarts,
        trouble: running.trouble.as_deref().cloned(),
        standings: standings.chain(exempted).collect(),
    }
}

fn note_stray(strays: &mut [Strays], view: &PodView, key: &Key) {
    for standing in &view.standings {
        let stray = &mut strays[standing.policy];
        stray.matched += 1;
        if standing.is_outdated {
            stray.outdated += 1;
            stray.example.clone_from(&key.name);
        }
    }
}
