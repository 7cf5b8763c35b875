//! The newest dead letters, bounded for each topic and reason: a flood of one kind does not push the
//! rare ones out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use leadpulse_records::KeptLetter;
use serde::Serialize;

use crate::machine::ErasedNames;

/// Dead letters kept of one topic and reason; older ones are in their topic.
pub const LETTERS_KEPT_OF_A_KIND: usize = 100;
/// Dead letters kept in all. One takes at most about 140 KB, mostly less than 2 KB.
pub const LETTERS_KEPT: usize = 1000;

/// Counts of one topic and reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LetterKind {
    /// Topic of the original records.
    pub topic: String,
    /// Code of the reason.
    pub reason: String,
    /// Letters kept.
    pub kept: usize,
}

/// Dead letters, newest first.
#[derive(Clone, Debug)]
pub struct LettersPage {
    /// Number that changes whenever a letter is added.
    pub version: u64,
    /// The letters, newest first.
    pub letters: Vec<Arc<KeptLetter>>,
    /// Everything kept, by topic and reason.
    pub kinds: Vec<LetterKind>,
}

/// Letters of one topic and reason with their numbers, newest last.
type KeptOfAKind = VecDeque<(u64, Arc<KeptLetter>)>;

#[derive(Clone, Debug, Default)]
pub(super) struct Letters {
    /// Number of the newest letter: the order over all kinds.
    version: u64,
    /// By topic and reason.
    kinds: BTreeMap<(String, String), KeptOfAKind>,
    kept: usize,
}

impl Letters {
    /// Adds letters, oldest first. The oldest of a full kind go, then the oldest of all.
    pub fn extend(&mut self, letters: Vec<KeptLetter>) {
        for letter in letters {
            self.version += 1;
            let kind = (letter.topic.clone(), letter.reason.clone());
            let kept = self.kinds.entry(kind).or_default();
            kept.push_back((self.version, Arc::new(letter)));
            self.kept += 1;
            if kept.len() > LETTERS_KEPT_OF_A_KIND {
                kept.pop_front();
                self.kept -= 1;
            }
        }
        while self.kept > LETTERS_KEPT {
            self.drop_oldest();
        }
    }

    /// Drops letters whose bytes name an erased person.
    pub fn forget(&mut self, names: &ErasedNames) {
        self.version += 1;
        for letters in self.kinds.values_mut() {
            letters.retain(|(_, letter)| !letter.has_text(|text| names.are_in(text)));
        }
        self.kinds.retain(|_, letters| !letters.is_empty());
        self.kept = self.kinds.values().map(VecDeque::len).sum();
    }

    fn drop_oldest(&mut self) {
        let oldest = self
            .kinds
            .iter()
            .filter_map(|(kind, kept)| Some((kept.front()?.0, kind.clone())))
            .min();
        let Some((_, kind)) = oldest else { return };
        if let Some(kept) = self.kinds.get_mut(&kind) {
            kept.pop_front();
            self.kept -= 1;
            if kept.is_empty() {
                self.kinds.remove(&kind);
            }
        }
    }

    pub fn page(&self, topic: Option<&str>, reason: Option<&str>, limit: usize) -> LettersPage {
        let fits = |(of_topic, of_reason): &(String, String)| {
            topic.is_none_or(|topic| topic == of_topic)
                && reason.is_none_or(|reason| reason == of_reason)
        };
        let mut letters: Vec<&(u64, Arc<KeptLetter>)> = self
            .kinds
            .iter()
            .filter(|(kind, _)| fits(kind))
            .flat_map(|(_, kept)| kept)
            .collect();
        letters.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
        letters.truncate(limit);
        LettersPage {
            version: self.version,
            letters: letters
                .into_iter()
                .map(|(_, letter)| letter.clone())
                .collect(),
            kinds: self
                .kinds
                .iter()
                .map(|((topic, reason), kept)| LetterKind {
                    topic: topic.clone(),
                    reason: reason.clone(),
                    kept: kept.len(),
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use leadpulse_records::{Reason, Rejected};
    use leadpulse_schema::units::AsOf;

    use super::*;

    fn letter(topic: &str, reason: Reason, offset: i64) -> KeptLetter {
        let rejected = Rejected {
            topic,
            partition: 0,
            offset,
            timestamp_ms: 0,
            key: None,
            value: None,
            headers: Vec::new(),
        };
        KeptLetter::of(&rejected.dead_letter(reason, "m", AsOf::from_ms(0))).unwrap()
    }

    #[test]
    fn a_flood_of_one_kind_leaves_the_rare_ones() {
        let mut letters = Letters::default();
        letters.extend(vec![letter("a", Reason::Validation, 7)]);
        for offset in 0..5_000 {
            letters.extend(vec![letter("b", Reason::WireFormat, offset)]);
        }
        let page = letters.page(None, None, LETTERS_KEPT);
        assert_eq!(page.version, 5_001);
        assert_eq!(page.letters.len(), LETTERS_KEPT_OF_A_KIND + 1);
        assert_eq!(page.letters[0].offset, 4_999, "the newest first");
        assert_eq!(page.letters.last().unwrap().topic, "a");
        let offsets = |topic, reason| -> Vec<i64> {
            let page = letters.page(topic, reason, 2);
            page.letters.iter().map(|letter| letter.offset).collect()
        };
        assert_eq!(offsets(Some("b"), None), [4_999, 4_998]);
        assert_eq!(offsets(None, Some("validation")), [7]);
        assert_eq!(offsets(Some("a"), Some("wire_format")), [0_i64; 0]);
    }

    #[test]
    fn all_kinds_together_are_bounded() {
        let mut letters = Letters::default();
        for topic in 0..30 {
            let kind = (0..100).map(|n| letter(&format!("t{topic}"), Reason::Validation, n));
            letters.extend(kind.collect());
        }
        let page = letters.page(None, None, usize::MAX);
        assert_eq!(page.letters.len(), LETTERS_KEPT);
        assert_eq!(page.kinds.len(), 10);
        assert_eq!(page.letters.last().unwrap().topic, "t20");
    }
}
