//! Writer schemas without a registry, and what every store of schemas shares: answers remembered, one question at a time.

use std::collections::HashMap;
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
        Ok(Self { registry: Arc::new(FolderRegistry::load(dir)?) })
    }
}

impl SchemaStore for FolderStore {
    fn lookup(&self, schema: &SchemaRef) -> Result<Arc<str>, SchemaLookupError> {
        self.registry.get(*schema).ok_or_else(|| SchemaLookupError::Unknown(name_of(schema)))
    }

    fn id_of(&self, subject: &str, schema_json: &str) -> Result<u32, SchemaLookupError> {
        FolderRegistry::id_of(schema_json).map_err(|error| SchemaLookupError::Unknown(format!("{subject}: {error}")))
    }
}

/// `7`, or a GUID in its usual form.
pub(crate) fn name_of(schema: &SchemaRef) -> String {
    match schema {
        SchemaRef::Id(id) => id.to_string(),
        SchemaRef::Guid(guid) => {
            let hex = guid.iter().fold(String::with_capacity(32), |hex, byte| format!("{hex}{byte:02x}"));
            format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
        }
    }
}

enum Slot<V> {
    /// Somebody is asking.
    Asked,
    /// True for ever.
    Known(V),
    /// True until then.
    Failed(SchemaLookupError, Instant),
}

/// How long failures are believed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FailureTtl {
    pub(crate) unknown: Duration,
    pub(crate) unavailable: Duration,
}

/// Answers by question: good ones for ever, failures for a while, and never two callers asking the same at once.
pub(crate) struct Answers<K, V> {
    slots: Mutex<HashMap<K, Slot<V>>>,
    answered: Condvar,
    ttl: FailureTtl,
}

impl<K: Clone + Eq + Hash, V: Clone> Answers<K, V> {
    pub(crate) fn new(ttl: FailureTtl) -> Self {
        Self { slots: Mutex::default(), answered: Condvar::new(), ttl }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Slot<V>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many good answers are held.
    pub(crate) fn known(&self) -> usize {
        self.lock().values().filter(|slot| matches!(slot, Slot::Known(_))).count()
    }

    /// The remembered answer, or that of `ask`.
    pub(crate) fn get(&self, question: &K, ask: impl FnOnce() -> Result<V, SchemaLookupError>) -> Result<V, SchemaLookupError> {
        let mut slots = self.lock();
        loop {
            match slots.get(question) {
                Some(Slot::Known(answer)) => return Ok(answer.clone()),
                Some(Slot::Failed(error, until)) if Instant::now() < *until => return Err(error.clone()),
                Some(Slot::Asked) => slots = self.answered.wait(slots).unwrap_or_else(PoisonError::into_inner),
                Some(Slot::Failed(..)) | None => break,
            }
        }
        slots.insert(question.clone(), Slot::Asked);
        drop(slots);
        let asking = Asking { answers: self, question };
        let answer = ask();
        let slot = match &answer {
            Ok(answer) => Slot::Known(answer.clone()),
            Err(error @ SchemaLookupError::Unknown(_)) => Slot::Failed(error.clone(), Instant::now() + self.ttl.unknown),
            Err(error @ SchemaLookupError::Unavailable(_)) => Slot::Failed(error.clone(), Instant::now() + self.ttl.unavailable),
        };
        self.lock().insert(question.clone(), slot);
        drop(asking);
        answer
    }
}

/// Wakes those who wait for an answer, also if asking panicked: then the next of them asks.
struct Asking<'a, K: Clone + Eq + Hash, V: Clone> {
    answers: &'a Answers<K, V>,
    question: &'a K,
}

impl<K: Clone + Eq + Hash, V: Clone> Drop for Asking<'_, K, V> {
    fn drop(&mut self) {
        let mut slots = self.answers.lock();
        if matches!(slots.get(self.question), Some(Slot::Asked)) {
            slots.remove(self.question);
        }
        drop(slots);
        self.answers.answered.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn answers(unknown: Duration, unavailable: Duration) -> Answers<u32, u32> {
        Answers::new(FailureTtl { unknown, unavailable })
    }

    #[test]
    fn good_answers_are_kept_and_failures_expire() {
        let cases = [
            (Ok(7), Duration::ZERO, 1),
            (Err(SchemaLookupError::Unknown("1".into())), LONG, 1),
            (Err(SchemaLookupError::Unknown("1".into())), Duration::ZERO, 3),
            (Err(SchemaLookupError::Unavailable("x".into())), LONG, 1),
            (Err(SchemaLookupError::Unavailable("x".into())), Duration::ZERO, 3),
        ];
        for (answer, ttl, expected) in cases {
            let answers = answers(ttl, ttl);
            let mut asked = 0;
            for _ in 0..3 {
                let got = answers.get(&1, || {
                    asked += 1;
                    answer.clone()
                });
                assert_eq!(got, answer);
            }
            assert_eq!(asked, expected, "{answer:?} {ttl:?}");
            assert_eq!(answers.known(), usize::from(answer.is_ok()));
        }
    }

    #[test]
    fn one_question_is_asked_once_however_many_need_it() {
        let (answers, asked, start) = (answers(LONG, LONG), AtomicU32::new(0), Barrier::new(8));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    start.wait();
                    let answer = answers.get(&5, || {
                        asked.fetch_add(1, Ordering::SeqCst);
                        Ok(11)
                    });
                    assert_eq!(answer, Ok(11));
                });
            }
        });
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn asking_that_panics_leaves_the_question_open() {
        let answers = answers(LONG, LONG);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| answers.get(&1, || panic!("expected by the test"))));
        assert!(panicked.is_err());
        assert_eq!(answers.get(&1, || Ok(2)), Ok(2));
    }

    #[test]
    fn the_shipped_schemas_are_found_by_id() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
        let store = FolderStore::load(&folder).unwrap();
        let json = std::fs::read_to_string(folder.join("accounts.avsc")).unwrap();
        let id = store.id_of("crm.accounts.v1-value", &json).unwrap();
        assert_eq!(store.lookup(&SchemaRef::Id(id)).unwrap().as_ref(), json);
        assert_eq!(store.lookup(&SchemaRef::Id(id ^ 1)), Err(SchemaLookupError::Unknown((id ^ 1).to_string())));
        assert!(matches!(store.id_of("s", "{}"), Err(SchemaLookupError::Unknown(_))));
    }

    #[test]
    fn guids_are_named_as_usual() {
        let guid = std::array::from_fn(|byte| byte as u8 * 17);
        assert_eq!(name_of(&SchemaRef::Guid(guid)), "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(name_of(&SchemaRef::Id(12)), "12");
    }
}
