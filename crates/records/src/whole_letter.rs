//! Dead letters read back whole: the original record, to be judged again or sent again.
//!
//! A record that is sent again has the original's key, value and headers, and two headers that name
//! letters by their [`LetterPlace`]. A dead letter of that record has them too, so it names the
//! first letter of the record. A *mark* is a record without key and value in the dead-letter
//! topic: it names a letter of its own partition whose record was sent again.

use std::fmt::{Display, Formatter};
use std::str::FromStr;

use leadpulse_schema::units::AsOf;

use crate::dead_letter::{
    HEADER_HEADERS_BYTES, HEADER_KEY_BYTES, HEADER_TOPIC, HEADER_VALUE_BYTES,
};
use crate::output::{Output, OutputRecord};
use crate::shown_letter::KeptLetter;

/// Place of the letter that a record was sent again from, on that record.
pub const HEADER_REPLAY_LETTER: &str = "x-dlq-replay-letter";
/// Place of the first letter of a record, on a record that was sent again.
pub const HEADER_REPLAY_FIRST: &str = "x-dlq-replay-first";
/// Place of the letter that a mark stands for.
pub const HEADER_REPLAYED: &str = "x-dlq-replayed";

/// Headers that make a letter incomplete: each stands for a part that was left out.
const LEFT_OUT: [&str; 3] = [HEADER_VALUE_BYTES, HEADER_HEADERS_BYTES, HEADER_KEY_BYTES];

/// Headers in order; a value of `None` is null.
type Headers = Vec<(String, Option<Vec<u8>>)>;

/// Place of a record in the dead-letter topic, written `PARTITION:OFFSET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LetterPlace {
    /// Partition number within the dead-letter topic.
    pub partition: i32,
    /// Offset within the partition.
    pub offset: i64,
}

/// Text that is not the place of a letter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the place of a dead letter; write PARTITION:OFFSET as `dlq list` prints it, e.g. 0:41"
)]
pub struct LetterPlaceError(String);

impl Display for LetterPlace {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

impl FromStr for LetterPlace {
    type Err = LetterPlaceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let place = text.split_once(':').and_then(|(partition, offset)| {
            Some(Self {
                partition: partition.parse().ok().filter(|number| *number >= 0)?,
                offset: offset.parse().ok().filter(|number| *number >= 0)?,
            })
        });
        place.ok_or_else(|| LetterPlaceError(text.to_owned()))
    }
}

/// A dead letter with all of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WholeLetter {
    /// Place of the letter in the dead-letter topic.
    pub place: LetterPlace,
    /// Place, reason and message of the refused record.
    pub about: KeptLetter,
    record: OutputRecord,
    /// Number of headers that belong to the original record.
    originals: usize,
}

impl WholeLetter {
    /// The letter at a place of the dead-letter topic; `None` where the record is a mark, or no
    /// letter.
    pub fn of(place: LetterPlace, record: OutputRecord) -> Option<Self> {
        let about = KeptLetter::of(&record)?;
        let originals = record
            .headers
            .iter()
            .rposition(|(name, _)| name == HEADER_TOPIC)?;
        Some(Self {
            place,
            about,
            record,
            originals,
        })
    }

    /// Key bytes of the original; `None` is a null key.
    pub fn key(&self) -> Option<&[u8]> {
        self.record.key.as_deref()
    }

    /// Value bytes of the original; `None` is a tombstone, or a value that was left out.
    pub fn value(&self) -> Option<&[u8]> {
        self.record.value.as_deref()
    }

    /// Headers of the original, in order.
    pub fn headers(&self) -> &[(String, Option<Vec<u8>>)] {
        &self.record.headers[..self.originals]
    }

    /// True if the letter has every byte of the original. A letter that was too large for its topic
    /// has not.
    pub fn is_complete(&self) -> bool {
        let ours = &self.record.headers[self.originals..];
        !ours
            .iter()
            .any(|(name, _)| LEFT_OUT.contains(&name.as_str()))
    }

    /// The first letter of the same record; `None` unless this record was sent again before.
    pub fn first(&self) -> Option<LetterPlace> {
        let mut headers = self.headers().iter();
        let (_, value) = headers.rfind(|(name, _)| name == HEADER_REPLAY_FIRST)?;
        std::str::from_utf8(value.as_deref()?).ok()?.parse().ok()
    }

    /// The moment of the refusal: `as_of` of the epoch that refused the record. The record's own
    /// timestamp where the letter does not say.
    pub fn refused_ms(&self) -> i64 {
        let as_of = self.about.refused_as_of;
        as_of.map_or(self.about.timestamp_ms, AsOf::ms)
    }

    /// Headers of the record as it is sent again: the original's, then those that name this letter
    /// and the first one. Names of an earlier replay are replaced.
    pub fn replay_headers(&self) -> Headers {
        let is_of_replay = |name: &str| matches!(name, HEADER_REPLAY_LETTER | HEADER_REPLAY_FIRST);
        let originals = self.headers().iter();
        let mut headers: Headers = originals
            .filter(|(name, _)| !is_of_replay(name))
            .cloned()
            .collect();
        let first = self.first().unwrap_or(self.place);
        for (name, place) in [
            (HEADER_REPLAY_LETTER, self.place),
            (HEADER_REPLAY_FIRST, first),
        ] {
            headers.push((name.to_owned(), Some(place.to_string().into_bytes())));
        }
        headers
    }

    /// The mark that this letter's record was sent again, for the letter's own partition.
    pub fn mark(&self) -> OutputRecord {
        let place = self.place.to_string().into_bytes();
        OutputRecord {
            output: Output::DeadLetters,
            key: None,
            value: None,
            headers: vec![(HEADER_REPLAYED.to_owned(), Some(place))],
            timestamp_ms: self.record.timestamp_ms,
        }
    }
}

/// The letter that a record of the dead-letter topic marks as sent again; `None` if the record is no
/// mark.
pub fn replayed_letter(record: &OutputRecord) -> Option<LetterPlace> {
    // A letter whose original has such a header is a letter.
    let [(name, Some(place))] = record.headers.as_slice() else {
        return None;
    };
    if name != HEADER_REPLAYED || record.key.is_some() || record.value.is_some() {
        return None;
    }
    std::str::from_utf8(place).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letter::{Reason, Rejected, without_value};

    fn letter(place: &str, headers: Vec<(&str, Option<&[u8]>)>) -> WholeLetter {
        let rejected = Rejected {
            topic: "crm.accounts",
            partition: 3,
            offset: 41,
            timestamp_ms: 1_700_000_000_000,
            key: Some(b"A1"),
            value: Some(b"\x00"),
            headers,
        };
        let record = rejected.dead_letter(Reason::WireFormat, "too short", AsOf::from_ms(99));
        WholeLetter::of(place.parse().unwrap(), record).unwrap()
    }

    fn named<'a>(headers: &'a [(String, Option<Vec<u8>>)], wanted: &str) -> Vec<&'a str> {
        headers
            .iter()
            .filter(|(name, _)| name == wanted)
            .map(|(_, value)| std::str::from_utf8(value.as_ref().unwrap()).unwrap())
            .collect()
    }

    #[test]
    fn places_of_letters_are_read_as_they_are_written() {
        let place: LetterPlace = "2:17".parse().unwrap();
        assert_eq!((place.partition, place.offset), (2, 17));
        assert_eq!(place.to_string(), "2:17");
        for text in ["", "17", "2:", ":17", "2:-1", "-2:1", "2:1:0", "x:1"] {
            let error = text.parse::<LetterPlace>().unwrap_err().to_string();
            assert!(error.contains("PARTITION:OFFSET"), "{text}: {error}");
        }
    }

    #[test]
    fn a_second_letter_of_a_record_names_the_first() {
        let first = letter("0:5", vec![("trace", Some(b"\xff")), ("none", None)]);
        assert_eq!(first.first(), None);
        let again = first.replay_headers();
        assert_eq!(again[..2], *first.headers(), "the original's come first");
        assert_eq!(named(&again, HEADER_REPLAY_LETTER), ["0:5"]);

        let borrowed = again
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()));
        let second = letter("0:9", borrowed.collect());
        assert_eq!(second.first(), Some("0:5".parse().unwrap()));
        let third = second.replay_headers();
        assert_eq!(named(&third, HEADER_REPLAY_LETTER), ["0:9"]);
        assert_eq!(named(&third, HEADER_REPLAY_FIRST), ["0:5"]);
        assert_eq!(third.len(), 4, "names of the replay before are replaced");
    }

    #[test]
    fn a_mark_names_its_letter_and_is_no_letter() {
        let marked = letter("1:7", vec![]);
        let mark = marked.mark();
        assert_eq!(replayed_letter(&mark), Some(marked.place));
        assert_eq!(WholeLetter::of(marked.place, mark), None);
        // A producer that writes the header of a mark into an input fools nobody.
        let forged = letter("1:8", vec![(HEADER_REPLAYED, Some(b"1:7"))]);
        assert_eq!(replayed_letter(&forged.record), None);
    }

    #[test]
    fn a_letter_without_its_value_is_incomplete() {
        let whole = letter("0:1", vec![]);
        assert!(whole.is_complete());
        assert_eq!(whole.refused_ms(), 99);
        let smaller = WholeLetter::of(whole.place, without_value(&whole.record)).unwrap();
        assert!(!smaller.is_complete());
        // Headers of the original are not ours.
        let alike = letter("0:2", vec![(HEADER_VALUE_BYTES, Some(b"7"))]);
        assert!(alike.is_complete());
    }
}
