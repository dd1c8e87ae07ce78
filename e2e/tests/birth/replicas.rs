//! Beside other operators.

use std::time::Duration;

use kube::ResourceExt as _;
use podpolicy_admission::webhook::{Endpoint, FailurePolicy};
use podpolicy_controller::{Config, Election, ElectionTimes};
use podpolicy_e2e::wait::{DEADLINE, Seen, eventually};
use podpolicy_e2e::{InProcess, Stage, Tap, shared};

use crate::backends::{Backend, STANDARD, config, ready};

fn beside(stage: &Stage, config: Config, identity: &str) -> Config {
    let times = ElectionTimes { duration: Duration::from_secs(3), deadline: Duration::from_secs(2), period: Duration::from_millis(300) };
    let election = Election { namespace: stage.name().to_owned(), name: "podpolicy".to_owned(), identity: identity.to_owned(), times };
    Config { election: Some(election), ..config }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operator_that_does_not_lead_answers_the_webhook() -> anyhow::Result<()> {
    let stage = Stage::set("replicas").await?;
    let plane = shared().await;
    let (one, other) = (Tap::default(), Tap::default());
    let following = config(&stage, Backend::Webhook)?;
    let address = following.webhook.as_ref().unwrap().address;
    let mut leading = config(&stage, Backend::Webhook)?;
    {
        // All pods go by the one that does not lead; without it they could not be created.
        let options = leading.webhook.as_mut().unwrap();
        options.endpoint = Endpoint::url(&format!("https://{address}"))?;
        options.failure_policy = FailurePolicy::Fail;
    }
    let leader = InProcess::start(one.client(plane.config())?, beside(&stage, leading, "leader")).await?;
    stage.policy("standard", STANDARD).await?;
    ready(&stage, "standard").await?;
    let refused = stage.create_pod("early", &[]).await.unwrap_err();
    assert!(format!("{refused:#}").contains("failed calling webhook"), "nobody answers yet: {refused:#}");

    let follower = InProcess::start(other.client(plane.config())?, beside(&stage, following, "follower")).await?;
    let pod = eventually("the follower to answer", DEADLINE, async || {
        Ok(match stage.create_pod("web", &[]).await {
            Ok(pod) => Seen::Done(pod),
            Err(error) => Seen::NotYet(format!("{error:#}")),
        })
    })
    .await?;
    assert_eq!(pod.labels().get("team").map(String::as_str), Some("shop"));
    assert_eq!(pod.spec.unwrap().termination_grace_period_seconds, Some(60));
    let written = other.exchanges().into_iter().filter(|exchange| exchange.method != http::Method::GET);
    // PodTemplates are only ever sent as a dry run.
    let written: Vec<_> = written.filter(|exchange| exchange.resource != "podtemplates").collect();
    assert!(written.is_empty(), "{written:?}");
    leader.stop().await?;
    follower.stop().await
}
