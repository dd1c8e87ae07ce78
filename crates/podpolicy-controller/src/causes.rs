//! Errors of others, in words for people: what happened and why, once each, and no structures.

use std::{error::Error, iter};

/// An error with what caused it, as long as each says more than the one before.
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    for cause in iter::successors(error.source(), |&cause| cause.source()) {
        let cause = cause.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Why a request failed: the API server's own words, or what kept it from answering.
pub(crate) fn of_request(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => causes(other),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use kube::core::Status;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot ask: {0}")]
    struct Repeats(#[source] Plain);

    #[derive(Debug, thiserror::Error)]
    #[error("no connection")]
    struct Plain(#[source] io::Error);

    #[test]
    fn each_cause_is_told_once() {
        let error = Repeats(Plain(io::Error::other("refused")));
        assert_eq!(causes(&error), "cannot ask: no connection: refused");
    }

    #[test]
    fn answers_of_the_api_server_are_told_in_its_words() {
        let status = Status::failure("namespaces \"shop\" not found", "NotFound").with_code(404);
        assert_eq!(of_request(&kube::Error::Api(status.boxed())), "namespaces \"shop\" not found");
    }
}
