//! The decision to take over, from looks at the owner.

use std::time::Duration;

use crate::ports::OwnerSight;

/// The reason for which a follower takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vacancy {
    /// Nobody ever owned the outputs.
    NeverOwned,
    /// The owner ended on purpose.
    Left,
    /// Nothing was written for the time of silence.
    Silent,
}

impl Vacancy {
    /// The reason in words, for the log.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::NeverOwned => "nobody has owned the outputs yet",
            Self::Left => "the owner has left",
            Self::Silent => "the owner is silent",
        }
    }
}

/// One answer about the owner. Moments are of the clock port's elapsed time.
pub(super) struct Look {
    /// The moment of the question.
    pub asked: Duration,
    /// The moment of the answer.
    pub answered: Duration,
    pub sight: OwnerSight,
    /// True if every committed epoch of the sight is applied.
    pub is_at_end: bool,
}

/// A span in which every look showed the same.
struct Quiet {
    sight: OwnerSight,
    /// The answer of the first look.
    since: Duration,
    /// The question of the last look: what is written after it may not be seen yet.
    until: Duration,
}

/// The memory of looks at the owner.
pub(super) struct Silence {
    limit: Duration,
    quiet: Option<Quiet>,
}

impl Silence {
    /// A memory that takes `limit` without a sign for silence.
    pub fn new(limit: Duration) -> Self {
        Self { limit, quiet: None }
    }

    /// Forgets the looks so far: the cluster did not answer. An owner that lives could not write
    /// meanwhile either.
    pub fn interrupt(&mut self) {
        self.quiet = None;
    }

    /// Takes a look. Returns the reason for taking over, if there is one now.
    // Decision: docs/decisions/0064-a-standby-that-follows.md
    pub fn note(&mut self, look: Look) -> Option<Vacancy> {
        let Look {
            asked,
            answered,
            sight,
            is_at_end,
        } = look;
        let continues = self.quiet.take().filter(|quiet| {
            // Between looks further apart nobody watched: this process may have stood still
            // together with the owner.
            quiet.sight == sight && asked.saturating_sub(quiet.until) <= self.limit / 2
        });
        let since = continues.map_or(answered, |quiet| quiet.since);
        let silent = asked.saturating_sub(since) >= self.limit;
        let vacancy = if sight.committed.is_none() && sight.sign.is_none() {
            Some(Vacancy::NeverOwned)
        } else if sight.owner_left() {
            Some(Vacancy::Left)
        } else if silent {
            Some(Vacancy::Silent)
        } else {
            None
        };
        self.quiet = Some(Quiet {
            sight,
            since,
            until: asked,
        });
        vacancy.filter(|_| is_at_end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::{CommitMark, SignOfLife};

    const LIMIT_MS: u64 = 1_500;

    fn sight(epoch: u64, count: u64) -> OwnerSight {
        OwnerSight {
            committed: Some(CommitMark {
                epoch,
                nonce: None,
                owner: Some("a".into()),
            }),
            sign: Some(SignOfLife {
                owner: "a".into(),
                count,
                left: false,
            }),
        }
    }

    fn left(owner: &str) -> OwnerSight {
        let mut sight = sight(1, 1);
        sight.sign = Some(SignOfLife {
            owner: owner.into(),
            count: 2,
            left: true,
        });
        sight
    }

    /// The decisions after looks that are asked at these moments and answered 10 ms later; `None`
    /// is a look without an answer.
    fn decided(looks: &[(u64, Option<OwnerSight>, bool)]) -> Vec<Option<Vacancy>> {
        let mut silence = Silence::new(Duration::from_millis(LIMIT_MS));
        let mut decisions = Vec::new();
        for (asked_ms, sight, is_at_end) in looks {
            let Some(sight) = sight.clone() else {
                silence.interrupt();
                decisions.push(None);
                continue;
            };
            decisions.push(silence.note(Look {
                asked: Duration::from_millis(*asked_ms),
                answered: Duration::from_millis(asked_ms + 10),
                sight,
                is_at_end: *is_at_end,
            }));
        }
        decisions
    }

    /// Looks every half second that show the same.
    fn same(range: std::ops::RangeInclusive<u64>) -> Vec<(u64, Option<OwnerSight>, bool)> {
        let looks = range.map(|half| (half * 500, Some(sight(1, 1)), true));
        looks.collect()
    }

    #[test]
    fn silence_begins_at_an_answer_and_ends_at_a_question() {
        let found = decided(&same(0..=4));
        // Asked at 1500, 1490 ms after the first answer: not yet.
        assert_eq!(found[..4], [None; 4]);
        assert_eq!(found[4], Some(Vacancy::Silent));
    }

    #[test]
    fn a_sign_an_epoch_or_a_missing_answer_begins_it_anew() {
        let breaks = [
            Some(sight(1, 2)),
            Some(sight(2, 1)),
            None, // no answer
        ];
        for between in breaks {
            let mut looks = same(0..=2);
            looks.push((1_499, between.clone(), true));
            looks.extend(same(3..=5));
            assert!(
                decided(&looks).iter().all(Option::is_none),
                "after {between:?}"
            );
            looks.extend(same(6..=7));
            assert_eq!(decided(&looks).pop(), Some(Some(Vacancy::Silent)));
        }
    }

    #[test]
    fn looks_far_apart_prove_no_silence() {
        let far = [
            (0, Some(sight(1, 1)), true),
            (60_000, Some(sight(1, 1)), true),
        ];
        assert_eq!(decided(&far), [None, None]);
    }

    #[test]
    fn nobody_takes_over_before_the_end() {
        let mut looks = same(0..=6);
        looks.iter_mut().for_each(|look| look.2 = false);
        assert!(decided(&looks).iter().all(Option::is_none));
        looks.push((3_500, Some(sight(1, 1)), true));
        assert_eq!(decided(&looks).pop(), Some(Some(Vacancy::Silent)));
    }

    #[test]
    fn only_the_owner_itself_leaves() {
        assert_eq!(
            decided(&[(0, Some(left("a")), true)]),
            [Some(Vacancy::Left)]
        );
        assert_eq!(decided(&[(0, Some(left("b")), true)]), [None]);
        let empty = OwnerSight::default();
        assert_eq!(
            decided(&[(0, Some(empty), true)]),
            [Some(Vacancy::NeverOwned)]
        );
    }
}
