//! Writer schemas without a registry, and what every store of schemas shares: answers remembered, one question at a time.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use leadpulse_engine::ports::{SchemaLookupError, SchemaStore};
use leadpulse_schema::{FolderRegistry, RegistryError, SchemaRef};

/// The schemas of a folder; ids follow from the schemas.
#[derive(Clone, Debug)]
pub struct FolderStore {
    registry: Arc<FolderRegistry>,
}

impl FolderStore {
    /// Reads the folder, its `versions/` and its `outputs/`.
    ///
    /// # Errors
    /// A file that is no schema, or two schemas of one id.
    pub fn load(dir: &Path) -> Result<Self, RegistryError> {
        Ok(Self {
            registry: Arc::new(FolderRegistry::load(dir)?),
        })
    }
}

impl SchemaStore for FolderStore {
    fn lookup(&self, schema: &SchemaRef) -> Result<Arc<str>, SchemaLookupError> {
        self.registry
            .get(*schema)
            .ok_or_else(|| SchemaLookupError::Unknown(name_of(schema)))
    }

    fn id_of(&self, subject: &str, schema_json: &str) -> Result<u32, SchemaLookupError> {
        FolderRegistry::id_of(schema_json)
            .map_err(|error| SchemaLookupError::Unknown(format!("{subject}: {error}")))
    }
}

/// `7`, or a GUID in its usual form.
pub(crate) fn name_of(schema: &SchemaRef) -> String {
    match schema {
        SchemaRef::Id(id) => id.to_string(),
        SchemaRef::Guid(guid) => {
            let hex = guid.iter().fold(String::with_capacity(32), |hex, byte| {
                format!("{hex}{byte:02x}")
            });
            format!(
                "{}-{}-{}-{}-{}",
                &hex[..8],
                &hex[8..12],
                &hex[12..16],
                &hex[16..20],
                &hex[20..]
            )
        }
    }
}

enum Slot<V> {
    /// Somebody is asking.
    Asked,
    /// True for ever.
    Known { answer: V, number: u64 },
    /// True until then; an answer that nobody has heard yet, for [`UNHEARD`] at least.
    Failed {
        error: SchemaLookupError,
        at: Instant,
        until: Instant,
        heard: bool,
        number: u64,
    },
}

/// How long failures are believed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailureTtl {
    pub(crate) unknown: Duration,
    pub(crate) unavailable: Duration,
}

/// How much is remembered, and how much asked at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Answers, good and bad. Bad ones make room first, the oldest before the others.
    pub(crate) answers: usize,
    /// Questions under way.
    pub(crate) questions: usize,
}

/// The state of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State<V> {
    /// The remembered answer.
    Answered(Result<V, SchemaLookupError>),
    /// Somebody is asking.
    UnderWay,
    /// The caller has to ask, and to give the answer to [`Answers::answer`].
    Yours,
    /// As many questions are under way as may be.
    Full,
}

/// Answers by question: good ones for ever, failures for a while, no question asked twice at once. Bounded, whatever ids the records carry.
pub(crate) struct Answers<K, V> {
    slots: Mutex<Slots<K, V>>,
    answered: Condvar,
    ttl: FailureTtl,
    bounds: Bounds,
}

struct Slots<K, V> {
    by_question: HashMap<K, Slot<V>>,
    /// Questions by the number of their answer: from the oldest.
    known: BTreeMap<u64, K>,
    failed: BTreeMap<u64, K>,
    asked: usize,
    number: u64,
}

impl<K: Clone + Eq + Hash, V: Clone> Slots<K, V> {
    fn remove(&mut self, question: &K) {
        match self.by_question.remove(question) {
            Some(Slot::Asked) => self.asked -= 1,
            Some(Slot::Known { number, .. }) => drop(self.known.remove(&number)),
            Some(Slot::Failed { number, .. }) => drop(self.failed.remove(&number)),
            None => {}
        }
    }

    fn state(&mut self, question: &K) -> Option<State<V>> {
        match self.by_question.get_mut(question)? {
            Slot::Asked => Some(State::UnderWay),
            Slot::Known { answer, .. } => Some(State::Answered(Ok(answer.clone()))),
            Slot::Failed {
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

/// An answer that nobody has heard is good for so long, even where failures are not believed at all: the question was asked for somebody.
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

    /// How many good answers are held.
    pub(crate) fn known(&self) -> usize {
        self.lock().known.len()
    }

    /// The answer, or who is to ask. Never waits.
    pub(crate) fn begin(&self, question: &K) -> State<V> {
        let mut slots = self.lock();
        if let Some(state) = slots.state(question) {
            return state;
        }
        if slots.asked >= self.bounds.questions {
            return State::Full;
        }
        slots.remove(question);
        slots.by_question.insert(question.clone(), Slot::Asked);
        slots.asked += 1;
        State::Yours
    }

    /// Keeps the answer and wakes those who wait for it.
    pub(crate) fn answer(&self, question: &K, answer: Result<V, SchemaLookupError>) {
        let mut slots = self.lock();
        slots.remove(question);
        slots.number += 1;
        let number = slots.number;
        let at = Instant::now();
        let failed = |error, ttl| Slot::Failed {
            error,
            at,
            until: at + ttl,
            heard: false,
            number,
        };
        let slot = match answer {
            Ok(answer) => Slot::Known { answer, number },
            Err(error @ SchemaLookupError::Unknown(_)) => failed(error, self.ttl.unknown),
            Err(error @ SchemaLookupError::Unavailable(_)) => failed(error, self.ttl.unavailable),
        };
        let order = if matches!(slot, Slot::Known { .. }) {
            &mut slots.known
        } else {
            &mut slots.failed
        };
        order.insert(number, question.clone());
        slots.by_question.insert(question.clone(), slot);
        while slots.known.len() + slots.failed.len() > self.bounds.answers {
            let Some(oldest) = slots
                .failed
                .values()
                .next()
                .or_else(|| slots.known.values().next())
                .cloned()
            else {
                break;
            };
            slots.remove(&oldest);
        }
        drop(slots);
        self.answered.notify_all();
    }

    /// The answer to a question that is under way. `None` if nobody is asking it any more.
    pub(crate) fn wait(&self, question: &K) -> Option<Result<V, SchemaLookupError>> {
        let mut slots = self.lock();
        loop {
            match slots.by_question.get(question) {
                Some(Slot::Asked) => {
                    slots = self
                        .answered
                        .wait(slots)
                        .unwrap_or_else(PoisonError::into_inner)
                }
                // It came while the caller waited: it is fresh, whatever its time to live.
                Some(Slot::Known { answer, .. }) => return Some(Ok(answer.clone())),
                Some(Slot::Failed { error, .. }) => return Some(Err(error.clone())),
                None => return None,
            }
        }
    }
}

/// A question that the caller has to answer. Dropped without an answer, it is open again, and those who wait are woken.
pub(crate) struct Question<K: Clone + Eq + Hash, V: Clone> {
    answers: Arc<Answers<K, V>>,
    question: K,
    answered: bool,
}

impl<K: Clone + Eq + Hash, V: Clone> Question<K, V> {
    /// For the one whose state is [`State::Yours`].
    pub(crate) fn new(answers: &Arc<Answers<K, V>>, question: K) -> Self {
        Self {
            answers: Arc::clone(answers),
            question,
            answered: false,
        }
    }

    pub(crate) fn answer(mut self, answer: Result<V, SchemaLookupError>) {
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

    fn unknown(question: u32) -> Result<u32, SchemaLookupError> {
        Err(SchemaLookupError::Unknown(question.to_string()))
    }

    #[test]
    fn good_answers_are_kept_and_failures_expire() {
        let unavailable = Err(SchemaLookupError::Unavailable("x".into()));
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
    fn one_question_is_asked_once_however_many_need_it() {
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
    fn a_question_that_is_dropped_is_open_again() {
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

    #[test]
    fn the_shipped_schemas_are_found_by_id() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
        let store = FolderStore::load(&folder).unwrap();
        let json = std::fs::read_to_string(folder.join("accounts.avsc")).unwrap();
        let id = store.id_of("crm.accounts.v1-value", &json).unwrap();
        assert_eq!(store.lookup(&SchemaRef::Id(id)).unwrap().as_ref(), json);
        assert_eq!(
            store.lookup(&SchemaRef::Id(id ^ 1)),
            Err(SchemaLookupError::Unknown((id ^ 1).to_string()))
        );
        assert!(matches!(
            store.id_of("s", "{}"),
            Err(SchemaLookupError::Unknown(_))
        ));
    }

    #[test]
    fn guids_are_named_as_usual() {
        let guid = std::array::from_fn(|byte| byte as u8 * 17);
        assert_eq!(
            name_of(&SchemaRef::Guid(guid)),
            "00112233-4455-6677-8899-aabbccddeeff"
        );
        assert_eq!(name_of(&SchemaRef::Id(12)), "12");
    }
}
