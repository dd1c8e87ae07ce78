//! What a status says of the rollout to pods that already run: a policy is ready when nothing is left that the rollout could do.

use podpolicy_api::{ConditionReason, RolloutStatus};

use super::{Verdict, reconciling, stalled};
use crate::rollout::{Planned, Stand};

/// Why the policy is not ready; nothing when it is, as far as its rollout goes.
pub(super) fn readiness(planned: &Planned) -> Option<Vec<Verdict>> {
    let progress = || format!("{} of {} pods have the create-time settings", planned.status.updated, planned.status.total);
    Some(match &planned.stand {
        Stand::Complete => return None,
        Stand::Progressing(message) => reconciling(ConditionReason::RollingOut, format!("{}; {message}", progress())),
        Stand::Blocked(message) => reconciling(ConditionReason::RolloutBlocked, format!("{}; {message}", progress())),
        Stand::Reverting(message) => reconciling(ConditionReason::RolloutFailed, message.clone()),
        Stand::Paused(message) => stalled(ConditionReason::RolloutPaused, message.clone()),
        Stand::Failed(message) => stalled(ConditionReason::RolloutFailed, message.clone()),
        Stand::Forbidden(message) => stalled(ConditionReason::Forbidden, message.clone()),
        Stand::NotAtCreation(message) => stalled(ConditionReason::NotAtCreation, message.clone()),
    })
}

/// Whether only numbers and texts differ: what the next step relies on, and what people wait for, is written at once.
pub(super) fn can_wait(present: Option<&RolloutStatus>, wanted: Option<&RolloutStatus>) -> bool {
    let kept = |status: &RolloutStatus| RolloutStatus {
        updated: 0,
        total: 0,
        workload_updated: None,
        workload_total: None,
        message: None,
        ..status.clone()
    };
    present.map(kept) == wanted.map(kept)
}
