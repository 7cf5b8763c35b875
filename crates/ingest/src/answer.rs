//! Answers to calls: a line for each record, and a status that says whether to send again.

use serde_json::{Value as Json, json};

use crate::shapes::Taken;

/// Kafka's part in the fate of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acknowledgement {
    /// All replicas in sync have it.
    Stored {
        /// Partition number.
        partition: i32,
        /// Offset in the partition.
        offset: i64,
    },
    /// It was not sent: too many records wait for brokers.
    Full,
    /// It may be stored or not; in words.
    Unknown(String),
    /// It can never be stored; in words.
    Refused(String),
}

/// An answer to a call.
#[derive(Clone, Debug, PartialEq)]
pub struct IngestAnswer {
    /// Status of HTTP: 200 all was accepted or ignored, 207 some was refused, 400 all was, 429 and
    /// 503 something must be sent again.
    pub status: u16,
    /// Seconds after which to send again.
    pub retry_after_s: Option<u64>,
    /// JSON.
    pub body: Json,
}

/// Seconds after which a full queue may have room.
const FULL_WAIT_S: u64 = 1;
/// Seconds after which brokers may answer.
const UNKNOWN_WAIT_S: u64 = 5;

/// Numbers of records by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Acknowledged by Kafka.
    pub accepted: u64,
    /// Never to be sent again.
    pub refused: u64,
    /// Read by no source.
    pub ignored: u64,
    /// Not sent to Kafka: to be sent again.
    pub full: u64,
    /// Not acknowledged in time: to be sent again.
    pub unknown: u64,
}

impl Outcomes {
    /// The answer for the items of a call. `acknowledgements` are those of its records, in order.
    pub fn answer(taken: &[Taken], acknowledgements: &[Acknowledgement]) -> (Self, IngestAnswer) {
        let mut outcomes = Self::default();
        let mut acknowledgements = acknowledgements.iter();
        let mut lines = Vec::with_capacity(taken.len());
        for one in taken {
            lines.push(match one {
                Taken::Refused(reason) => {
                    outcomes.refused += 1;
                    json!({"status": "refused", "reason": reason})
                }
                Taken::Ignored(reason) => {
                    outcomes.ignored += 1;
                    json!({"status": "ignored", "reason": reason})
                }
                Taken::Record(record) => {
                    let missing = Acknowledgement::Unknown("nothing is known of it".to_owned());
                    let fate = acknowledgements.next().unwrap_or(&missing);
                    outcomes.line(&record.topic, fate)
                }
            });
        }
        let answer = outcomes.with(lines);
        (outcomes, answer)
    }

    fn line(&mut self, topic: &str, fate: &Acknowledgement) -> Json {
        match fate {
            Acknowledgement::Stored { partition, offset } => {
                self.accepted += 1;
                json!({"status": "accepted", "topic": topic, "partition": partition, "offset": offset})
            }
            Acknowledgement::Refused(reason) => {
                self.refused += 1;
                json!({"status": "refused", "reason": reason})
            }
            Acknowledgement::Full => {
                self.full += 1;
                json!({"status": "not_accepted", "reason": "too many records wait; send it again"})
            }
            Acknowledgement::Unknown(reason) => {
                self.unknown += 1;
                json!({"status": "not_accepted", "reason": format!("{reason}; send it again")})
            }
        }
    }

    fn with(self, lines: Vec<Json>) -> IngestAnswer {
        let (status, retry_after_s) = match self {
            Self { unknown: 1.., .. } => (503, Some(UNKNOWN_WAIT_S)),
            Self { full: 1.., .. } => (429, Some(FULL_WAIT_S)),
            Self { refused: 0, .. } => (200, None),
            Self {
                accepted: 0,
                ignored: 0,
                ..
            } => (400, None),
            _ => (207, None),
        };
        let not_accepted = self.full + self.unknown;
        let body = json!({
            "accepted": self.accepted, "refused": self.refused, "ignored": self.ignored,
            "not_accepted": not_accepted, "records": lines,
        });
        IngestAnswer {
            status,
            retry_after_s,
            body,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shapes::IngestRecord;

    #[test]
    fn the_status_says_whether_to_send_again() {
        use Acknowledgement::{Full, Refused, Stored, Unknown};
        let stored = || Stored {
            partition: 1,
            offset: 7,
        };
        let record = || {
            Taken::Record(IngestRecord {
                topic: "t".into(),
                key: None,
                value: vec![],
            })
        };
        let bad = || Taken::Refused("why".into());
        let cases = [
            (vec![], vec![], 200, None),
            (
                vec![record(), record()],
                vec![stored(), stored()],
                200,
                None,
            ),
            (
                vec![record(), Taken::Ignored("why".into())],
                vec![stored()],
                200,
                None,
            ),
            (vec![bad(), record()], vec![stored()], 207, None),
            (vec![bad(), Taken::Ignored("why".into())], vec![], 207, None),
            (vec![bad()], vec![], 400, None),
            (vec![record()], vec![Refused("too large".into())], 400, None),
            (vec![record(), record()], vec![stored(), Full], 429, Some(1)),
            (
                vec![record(), record(), bad()],
                vec![Unknown("late".into()), Full],
                503,
                Some(5),
            ),
            (vec![record()], vec![], 503, Some(5)),
        ];
        for (taken, fates, status, wait) in cases {
            let (_, answer) = Outcomes::answer(&taken, &fates);
            assert_eq!(
                (answer.status, answer.retry_after_s),
                (status, wait),
                "{}",
                answer.body
            );
            assert_eq!(
                answer.body["records"].as_array().unwrap().len(),
                taken.len()
            );
        }
        let (outcomes, answer) = Outcomes::answer(&[bad(), record(), record()], &[stored(), Full]);
        let line = json!({"status": "accepted", "topic": "t", "partition": 1, "offset": 7});
        assert_eq!(answer.body["records"][1], line);
        assert_eq!(
            (outcomes.accepted, outcomes.refused, outcomes.full),
            (1, 1, 1)
        );
    }
}
