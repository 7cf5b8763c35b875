//! Fates of records: delivered, refused for good, or to be sent again.

use std::time::Duration;

use crate::request::HttpAnswer;

/// A reason to send again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Later {
    /// Words for people.
    pub reason: String,
    /// Least time until the next try; `None` leaves it to the back-off.
    pub after: Option<Duration>,
}

impl Later {
    pub(crate) fn because(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            after: None,
        }
    }
}

/// The fate of one record of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The other side has it.
    Delivered,
    /// No repetition can succeed; the reason is for the dead letter.
    Refused(String),
    /// A repetition may succeed.
    Later(Later),
}

/// The meaning of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// One fate for all records of the request. A request of several that is refused as a whole is
    /// sent again in halves, because one record may be at fault.
    Together(Fate),
    /// A fate for each record of the request, in its order.
    Each(Vec<Fate>),
}

/// The fate by status alone. 401, 408, 409, 425, 429 and everything that is neither success nor 4xx
/// may pass: a token is renewed, a redirect or an outage is mended.
pub(crate) fn by_status(answer: &HttpAnswer) -> Fate {
    match answer.status {
        200..=299 => Fate::Delivered,
        401 | 408 | 409 | 425 | 429 => later(answer),
        400..=499 => Fate::Refused(answer.shown()),
        _ => later(answer),
    }
}

/// Sending again after the time that the answer names.
pub(crate) fn later(answer: &HttpAnswer) -> Fate {
    let mut reason = answer.shown();
    if (300..400).contains(&answer.status) {
        reason.push_str(" (a redirect is not followed; write its target as url)");
    }
    Fate::Later(Later {
        reason,
        after: answer.retry_after,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_that_no_repetition_changes_refuse() {
        let word = |status| {
            let answer = HttpAnswer {
                status,
                ..HttpAnswer::default()
            };
            match by_status(&answer) {
                Fate::Delivered => "delivered",
                Fate::Refused(_) => "refused",
                Fate::Later(_) => "later",
            }
        };
        for status in [200, 201, 202, 204] {
            assert_eq!(word(status), "delivered", "{status}");
        }
        for status in [400, 402, 403, 404, 405, 410, 413, 422] {
            assert_eq!(word(status), "refused", "{status}");
        }
        for status in [302, 307, 401, 408, 409, 425, 429, 500, 502, 503, 504] {
            assert_eq!(word(status), "later", "{status}");
        }
    }
}
