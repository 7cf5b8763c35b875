//! Memory for answers that come over a network: no question is asked twice at once, failures
//! expire.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::lookup::LookupError;

/// Memory of one question.
enum AnswerSlot<V> {
    /// A request is under way.
    Asked,
    /// A good answer: schemas never change under their id.
    Known { answer: V, number: u64 },
    /// A failure, believed until `until`; one that no caller has heard yet, for [`UNHEARD`] at
    /// least.
    Failed {
        error: LookupError,
        at: Instant,
        until: Instant,
        heard: bool,
        number: u64,
    },
}

/// Times for which failures are believed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailureTtl {
    pub(crate) unknown: Duration,
    pub(crate) unavailable: Duration,
}

/// Limits of the memory and of the questions under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Answers kept, good and bad. Bad ones make room first, the oldest before the others.
    pub(crate) answers: usize,
    /// Questions under way at once.
    pub(crate) questions: usize,
}

/// The state of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State<V> {
    /// The remembered answer.
    Answered(Result<V, LookupError>),
    /// Another caller is asking.
    UnderWay,
    /// The caller has to ask, and to give the answer to [`Answers::answer`].
    Yours,
    /// No further question may be asked now.
    Full,
}

/// Answers by question: good ones for ever, failures for a while, no question asked twice at once.
///
/// Memory is bounded, because records may carry any of 2³² ids.
pub(crate) struct Answers<K, V> {
    slots: Mutex<Slots<K, V>>,
    answered: Condvar,
    ttl: FailureTtl,
    bounds: Bounds,
}

struct Slots<K, V> {
    by_question: HashMap<K, AnswerSlot<V>>,
    /// Questions by the number of their answer, from the oldest.
    known: BTreeMap<u64, K>,
    failed: BTreeMap<u64, K>,
    asked: usize,
    number: u64,
}

impl<K: Clone + Eq + Hash, V: Clone> Slots<K, V> {
    fn remove(&mut self, question: &K) {
        match self.by_question.remove(question) {
            Some(AnswerSlot::Asked) => self.asked -= 1,
            Some(AnswerSlot::Known { number, .. }) => drop(self.known.remove(&number)),
            Some(AnswerSlot::Failed { number, .. }) => drop(self.failed.remove(&number)),
            None => {}
        }
    }

    /// Forgets answers beyond a limit: failures before good answers, the oldest first.
    fn make_room(&mut self, limit: usize) {
        while self.known.len() + self.failed.len() > limit {
            let mut oldest = self.failed.values().chain(self.known.values());
            let Some(question) = oldest.next().cloned() else {
                break;
            };
            self.remove(&question);
        }
    }

    fn state(&mut self, question: &K) -> Option<State<V>> {
        match self.by_question.get_mut(question)? {
            AnswerSlot::Asked => Some(State::UnderWay),
            AnswerSlot::Known { answer, .. } => Some(State::Answered(Ok(answer.clone()))),
            AnswerSlot::Failed {
                error,
                at,
                until,
                heard,
                ..
            } => {
                let now = Instant::now();
                let valid = now < *until || (!*heard && now < *at + UNHEARD);
                *heard = true;
                valid.then(|| State::Answered(Err(error.clone())))
            }
        }
    }
}

/// Life of a failure that no caller has heard. Without it, a caller of `find` would never learn the
/// answer where failures are not believed at all.
const UNHEARD: Duration = Duration::from_secs(60);

impl<K: Clone + Eq + Hash, V: Clone> Answers<K, V> {
    pub(crate) fn new(ttl: FailureTtl, bounds: Bounds) -> Self {
        let slots = Slots {
            by_question: HashMap::new(),
            known: BTreeMap::new(),
            failed: BTreeMap::new(),
            asked: 0,
            number: 0,
        };
        Self {
            slots: Mutex::new(slots),
            answered: Condvar::new(),
            ttl,
            bounds,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slots<K, V>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of good answers kept.
    pub(crate) fn known(&self) -> usize {
        self.lock().known.len()
    }

    /// The answer, or the caller's part in getting one. Never waits.
    pub(crate) fn begin(&self, question: &K) -> State<V> {
        let mut slots = self.lock();
        if let Some(state) = slots.state(question) {
            return state;
        }
        if slots.asked >= self.bounds.questions {
            return State::Full;
        }
        slots.remove(question);
        slots
            .by_question
            .insert(question.clone(), AnswerSlot::Asked);
        slots.asked += 1;
        State::Yours
    }

    /// Keeps the answer and wakes the callers that wait for it.
    pub(crate) fn answer(&self, question: &K, answer: Result<V, LookupError>) {
        let mut slots = self.lock();
        slots.remove(question);
        slots.number += 1;
        let number = slots.number;
        let slot = self.slot(answer, number);
        let order = if matches!(slot, AnswerSlot::Known { .. }) {
            &mut slots.known
        } else {
            &mut slots.failed
        };
        order.insert(number, question.clone());
        slots.by_question.insert(question.clone(), slot);
        slots.make_room(self.bounds.answers);
        drop(slots);
        self.answered.notify_all();
    }

    fn slot(&self, answer: Result<V, LookupError>, number: u64) -> AnswerSlot<V> {
        let (error, ttl) = match answer {
            Ok(answer) => return AnswerSlot::Known { answer, number },
            Err(error @ LookupError::Unknown(_)) => (error, self.ttl.unknown),
            Err(error @ (LookupError::Unavailable(_) | LookupError::Denied(_))) => {
                (error, self.ttl.unavailable)
            }
        };
        let at = Instant::now();
        AnswerSlot::Failed {
            error,
            at,
            until: at + ttl,
            heard: false,
            number,
        }
    }

    /// Waits for the answer to a question that is under way. `None` if the question was dropped.
    pub(crate) fn wait(&self, question: &K) -> Option<Result<V, LookupError>> {
        let mut slots = self.lock();
        loop {
            match slots.by_question.get(question) {
                Some(AnswerSlot::Asked) => {
                    slots = self
                        .answered
                        .wait(slots)
                        .unwrap_or_else(PoisonError::into_inner)
                }
                // The answer came while the caller waited: it is fresh, whatever its time to live.
                Some(AnswerSlot::Known { answer, .. }) => return Some(Ok(answer.clone())),
                Some(AnswerSlot::Failed { error, .. }) => return Some(Err(error.clone())),
                None => return None,
            }
        }
    }
}

/// A question that its owner has to answer. Dropped without an answer, the question is open again,
/// and waiting callers wake.
pub(crate) struct Question<K: Clone + Eq + Hash, V: Clone> {
    answers: Arc<Answers<K, V>>,
    question: K,
    answered: bool,
}

impl<K: Clone + Eq + Hash, V: Clone> Question<K, V> {
    /// For the caller that got [`State::Yours`].
    pub(crate) fn new(answers: &Arc<Answers<K, V>>, question: K) -> Self {
        Self {
            answers: Arc::clone(answers),
            question,
            answered: false,
        }
    }

    pub(crate) fn answer(mut self, answer: Result<V, LookupError>) {
        self.answered = true;
        self.answers.answer(&self.question, answer);
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Drop for Question<K, V> {
    fn drop(&mut self) {
        if !self.answered {
            self.answers.lock().remove(&self.question);
            self.answers.answered.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);
    const WIDE: Bounds = Bounds {
        answers: 100,
        questions: 100,
    };

    fn answers(ttl: Duration, bounds: Bounds) -> Arc<Answers<u32, u32>> {
        Arc::new(Answers::new(
            FailureTtl {
                unknown: ttl,
                unavailable: ttl,
            },
            bounds,
        ))
    }

    fn unknown(question: u32) -> Result<u32, LookupError> {
        Err(LookupError::Unknown(question.to_string()))
    }

    #[test]
    fn good_answers_are_kept_and_failures_expire() {
        let unavailable = Err(LookupError::Unavailable("x".into()));
        let cases = [
            (Ok(7), Duration::ZERO, 1),
            (unknown(1), LONG, 1),
            (unknown(1), Duration::ZERO, 3),
            (unavailable.clone(), LONG, 1),
            (unavailable, Duration::ZERO, 3),
        ];
        for (answer, ttl, expected) in cases {
            let answers = answers(ttl, WIDE);
            let mut asked = 0;
            for _ in 0..3 {
                // An answer is heard once, even where it is not believed any longer.
                let state = match answers.begin(&1) {
                    State::Yours => {
                        asked += 1;
                        answers.answer(&1, answer.clone());
                        answers.begin(&1)
                    }
                    state => state,
                };
                assert_eq!(state, State::Answered(answer.clone()), "{ttl:?}");
            }
            assert_eq!(asked, expected, "{answer:?} {ttl:?}");
            assert_eq!(answers.known(), usize::from(answer.is_ok()));
        }
    }

    #[test]
    fn concurrent_callers_ask_a_question_once() {
        let (answers, asked, start) = (answers(LONG, WIDE), AtomicU32::new(0), Barrier::new(8));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    let answer = match answers.begin(&5) {
                        State::Yours => {
                            asked.fetch_add(1, Ordering::SeqCst);
                            answers.answer(&5, Ok(11));
                            Ok(11)
                        }
                        State::UnderWay => answers.wait(&5).unwrap(),
                        State::Answered(answer) => answer,
                        State::Full => panic!("there is room"),
                    };
                    assert_eq!(answer, Ok(11));
                });
            }
        });
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_dropped_question_can_be_asked_again() {
        let answers = answers(
            LONG,
            Bounds {
                answers: 1,
                questions: 1,
            },
        );
        assert_eq!(answers.begin(&1), State::Yours);
        assert_eq!(
            (answers.begin(&1), answers.begin(&2)),
            (State::UnderWay, State::Full)
        );
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| answers.wait(&1));
            drop(Question::new(&answers, 1));
            assert_eq!(waiting.join().unwrap(), None);
        });
        assert_eq!(answers.begin(&1), State::Yours);
    }

    #[test]
    fn failures_make_room_before_good_answers() {
        let answers = answers(
            LONG,
            Bounds {
                answers: 4,
                questions: 9,
            },
        );
        for question in 0..100 {
            assert_eq!(answers.begin(&question), State::Yours);
            answers.answer(
                &question,
                if question < 3 {
                    Ok(question)
                } else {
                    unknown(question)
                },
            );
        }
        let state = |question| answers.begin(&question);
        for question in 0..3 {
            assert_eq!(state(question), State::Answered(Ok(question)));
        }
        assert_eq!(
            (state(99), state(98)),
            (State::Answered(unknown(99)), State::Yours)
        );
        // Good answers are bounded too; the oldest goes.
        for question in 200..204 {
            answers.answer(&question, Ok(question));
        }
        assert_eq!(
            (answers.known(), state(0), state(99)),
            (4, State::Yours, State::Yours)
        );
        assert_eq!(state(203), State::Answered(Ok(203)));
    }
}
