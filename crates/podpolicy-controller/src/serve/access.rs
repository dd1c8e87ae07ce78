//! Who may read the metrics: whoever shows a token that the API server knows, and may `get` the URL `/metrics`. The API server is asked both;
//! what it said is remembered for a while. Tokens are never logged, and kept as digests only.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, UserInfo},
    authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};
use sha2::{Digest as _, Sha256};
use tokio::{sync::Semaphore, time::timeout};

use super::METRICS_PATH;

/// How long an answer counts.
const REMEMBERED: Duration = Duration::from_mins(1);
/// How many answers are remembered. Those who read metrics are few.
const MOST_REMEMBERED: usize = 256;
/// How many questions may be under way: whoever shows wrong tokens burdens the API server with no more.
const MOST_QUESTIONS: usize = 8;
/// How long the API server may take.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);

/// What the API server says of a token.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// Its owner may read the metrics.
    Allowed,
    /// Its owner, who has this name, may not.
    Forbidden(String),
    /// It is nobody's.
    Unknown,
}

/// Why the API server says nothing. The caller is told to come back.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// Too many are asking.
    #[error("too many callers are being looked up; ask again later")]
    Busy,
    /// It did not answer in time.
    #[error("the API server did not say within {} s who the caller is", QUESTION_TIMEOUT.as_secs())]
    Timeout,
    /// It refused to answer, or could not be asked.
    #[error("the API server does not say who the caller is: {0}")]
    Refused(#[from] kube::Error),
}

/// Looks callers up.
pub(super) struct Access {
    client: Client,
    questions: Semaphore,
    remembered: Mutex<Remembered>,
}

impl Access {
    pub(super) fn new(client: Client) -> Self {
        Self { client, questions: Semaphore::new(MOST_QUESTIONS), remembered: Mutex::default() }
    }

    /// What there is to say of whoever shows this token.
    pub(super) async fn verdict(&self, token: &str) -> Result<Verdict, AskError> {
        let digest = Sha256::digest(token).into();
        if let Some(verdict) = self.remembered().get(&digest, Instant::now()) {
            return Ok(verdict);
        }
        let _turn = self.questions.try_acquire().map_err(|_| AskError::Busy)?;
        let verdict = timeout(QUESTION_TIMEOUT, self.ask(token)).await.map_err(|_| AskError::Timeout)??;
        self.remembered().put(digest, verdict.clone(), Instant::now());
        Ok(verdict)
    }

    async fn ask(&self, token: &str) -> Result<Verdict, AskError> {
        let spec = TokenReviewSpec { token: token.to_owned(), ..TokenReviewSpec::default() };
        let reviews: Api<TokenReview> = Api::all(self.client.clone());
        let review = reviews.create(&PostParams::default(), &TokenReview { spec, ..TokenReview::default() }).await?;
        let Some(user) = review.status.filter(|status| status.authenticated == Some(true)).and_then(|status| status.user) else {
            return Ok(Verdict::Unknown);
        };
        let name = user.username.clone().unwrap_or_default();
        let reviews: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let review = SubjectAccessReview { spec: may_read_metrics(user), ..SubjectAccessReview::default() };
        let review = reviews.create(&PostParams::default(), &review).await?;
        let is_allowed = review.status.is_some_and(|status| status.allowed && status.denied != Some(true));
        Ok(if is_allowed { Verdict::Allowed } else { Verdict::Forbidden(name) })
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn may_read_metrics(user: UserInfo) -> SubjectAccessReviewSpec {
    let UserInfo { extra, groups, uid, username } = user;
    SubjectAccessReviewSpec {
        extra,
        groups,
        non_resource_attributes: Some(NonResourceAttributes { path: Some(METRICS_PATH.to_owned()), verb: Some("get".to_owned()) }),
        uid,
        user: username,
        ..SubjectAccessReviewSpec::default()
    }
}

/// What the API server said lately, by the digest of the token.
#[derive(Default)]
struct Remembered(HashMap<[u8; 32], (Verdict, Instant)>);

impl Remembered {
    fn get(&self, digest: &[u8; 32], now: Instant) -> Option<Verdict> {
        let (verdict, since) = self.0.get(digest)?;
        (now.duration_since(*since) < REMEMBERED).then(|| verdict.clone())
    }

    /// When there are too many, all are asked about again: that is rare, and somebody is trying out tokens.
    fn put(&mut self, digest: [u8; 32], verdict: Verdict, now: Instant) {
        if self.0.len() >= MOST_REMEMBERED {
            self.0.retain(|_, (_, since)| now.duration_since(*since) < REMEMBERED);
        }
        if self.0.len() >= MOST_REMEMBERED {
            self.0.clear();
        }
        self.0.insert(digest, (verdict, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_count_for_a_while_and_are_bounded_in_number() {
        let (mut remembered, now) = (Remembered::default(), Instant::now());
        remembered.put([0; 32], Verdict::Allowed, now);
        assert_eq!(remembered.get(&[0; 32], now + REMEMBERED / 2), Some(Verdict::Allowed));
        assert_eq!(remembered.get(&[0; 32], now + REMEMBERED), None);
        assert_eq!(remembered.get(&[1; 32], now), None);
        for number in 0..10 * MOST_REMEMBERED {
            let mut digest = [1; 32];
            digest[..8].copy_from_slice(&number.to_le_bytes());
            remembered.put(digest, Verdict::Unknown, now);
            assert!(remembered.0.len() <= MOST_REMEMBERED);
            assert_eq!(remembered.get(&digest, now), Some(Verdict::Unknown));
        }
    }
}
