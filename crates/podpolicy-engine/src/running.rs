//! How a pod runs: what a rollout looks at, beside what decisions do. No decision about a pod's settings depends on it.

use jiff::Timestamp;
use serde::Deserialize;

/// How a pod runs, as its kubelet reports it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Running {
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Whether it is ready.
    pub is_ready: bool,
    /// Since when it is ready; or not, with a node.
    pub since: Option<Timestamp>,
    /// Whether it has a node.
    pub is_scheduled: bool,
    /// How often its containers were started again: application containers and native sidecars.
    pub restarts: u32,
    /// What is wrong with it, while it is not ready or has been started again.
    pub trouble: Option<Box<Trouble>>,
}

/// What is wrong with a pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trouble {
    /// The container; none where it is the pod as a whole.
    pub container: Option<String>,
    /// What the kubelet or the scheduler says.
    pub message: String,
}

/// `status` of a pod, as far as it says how it runs.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    phase: Option<Phase>,
    conditions: Option<Vec<Condition>>,
    container_statuses: Option<Vec<ContainerStatus>>,
    init_container_statuses: Option<Vec<ContainerStatus>>,
}

#[derive(Deserialize)]
enum Phase {
    Succeeded,
    Failed,
    #[serde(other)]
    Other,
}

impl Status {
    /// Whether the pod has succeeded or failed.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.phase, Some(Phase::Succeeded | Phase::Failed))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    last_transition_time: Option<Timestamp>,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerStatus {
    #[serde(default)]
    name: String,
    #[serde(default)]
    restart_count: u32,
    state: Option<State>,
    last_state: Option<State>,
}

#[derive(Deserialize)]
struct State {
    waiting: Option<Waiting>,
    terminated: Option<Terminated>,
}

#[derive(Deserialize)]
struct Waiting {
    reason: Option<String>,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Terminated {
    exit_code: i32,
    reason: Option<String>,
}

impl Running {
    /// `is_sidecar` says of an init container whether it is a native sidecar.
    pub(crate) fn new(created: Option<Timestamp>, is_scheduled: bool, status: Status, is_sidecar: impl Fn(&str) -> bool) -> Self {
        let Status { phase: _, conditions, container_statuses, init_container_statuses } = status;
        let conditions = conditions.unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition.kind == "Ready");
        let is_ready = ready.is_some_and(|ready| ready.status == "True");
        let sidecars = init_container_statuses.unwrap_or_default().into_iter().filter(|container| is_sidecar(&container.name));
        let containers: Vec<_> = container_statuses.unwrap_or_default().into_iter().chain(sidecars).collect();
        let restarts = containers.iter().map(|container| container.restart_count).sum();
        let scheduled = conditions.iter().find(|condition| condition.kind == "PodScheduled");
        let of_pod = scheduled.filter(|condition| condition.status == "False");
        let of_pod = of_pod.and_then(|condition| condition.message.clone()).map(|message| Trouble { container: None, message });
        let trouble = containers.iter().find_map(ContainerStatus::trouble).or(of_pod).filter(|_| !is_ready || restarts > 0);
        Self {
            created,
            is_ready,
            // A kubelet says nothing of a pod that has just got its node.
            since: ready.into_iter().chain(scheduled.filter(|_| !is_ready)).filter_map(|condition| condition.last_transition_time).max(),
            is_scheduled,
            restarts,
            trouble: trouble.map(Box::new),
        }
    }
}

impl ContainerStatus {
    fn trouble(&self) -> Option<Trouble> {
        let trouble = |message| Some(Trouble { container: Some(self.name.clone()), message });
        let states = || [&self.state, &self.last_state].into_iter().flatten();
        if let Some(Terminated { exit_code, reason }) = states().find_map(|state| state.terminated.as_ref()) {
            let reason = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            return trouble(format!("it ended with exit code {exit_code}{reason}"));
        }
        let Waiting { reason, message } = states().find_map(|state| state.waiting.as_ref())?;
        // What any container goes through.
        let reason = reason.as_deref().filter(|reason| !matches!(*reason, "ContainerCreating" | "PodInitializing"))?;
        trouble(message.as_ref().map_or_else(|| reason.to_owned(), |message| format!("{reason}: {message}")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pod_that_waits_for_a_node_is_not_ready_since_it_has_one() {
        let at = |minute: u8| format!("2026-01-02T03:{minute:02}:00Z");
        let condition = |kind: &str, status: &str, minute| json!({ "type": kind, "status": status, "lastTransitionTime": at(minute) });
        let since = |conditions: &[serde_json::Value]| {
            let running = Running::new(None, true, serde_json::from_value(json!({ "conditions": conditions })).unwrap(), |_| false);
            running.since.map(|since| since.to_string())
        };
        let scheduled = condition("PodScheduled", "True", 10);
        assert_eq!(since(std::slice::from_ref(&scheduled)), Some(at(10)), "before the kubelet has said anything");
        assert_eq!(since(&[condition("Ready", "False", 11), scheduled.clone()]), Some(at(11)));
        assert_eq!(since(&[scheduled, condition("Ready", "True", 9)]), Some(at(9)), "of a ready one only that counts");
    }

    #[test]
    fn restarts_and_troubles_are_those_of_containers_that_policies_concern() {
        let status = json!({
            "conditions": [{ "type": "Ready", "status": "False", "lastTransitionTime": "2026-01-02T03:04:05Z" }],
            "initContainerStatuses": [
                { "name": "setup", "restartCount": 7, "state": {} },
                { "name": "proxy", "restartCount": 1, "state": { "running": {} } },
            ],
            "containerStatuses": [{
                "name": "web", "restartCount": 2, "state": { "waiting": { "reason": "CrashLoopBackOff", "message": "back-off 10s" } },
                "lastState": { "terminated": { "exitCode": 137, "reason": "Error" } },
            }],
        });
        let running = Running::new(None, true, serde_json::from_value(status).unwrap(), |name| name == "proxy");
        assert_eq!((running.restarts, running.is_ready), (3, false));
        assert_eq!(running.since, Some("2026-01-02T03:04:05Z".parse().unwrap()));
        let trouble = *running.trouble.unwrap();
        assert_eq!(trouble, Trouble { container: Some("web".into()), message: "it ended with exit code 137 (Error)".into() });
    }
}
