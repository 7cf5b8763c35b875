//! Words of people: decisions about an entity, verdicts on an alert, and requests to erase.
//!
//! The words are fixed, and a row with another one is refused. So every row that is admitted can be
//! acted on.
//!
//! Decision: docs/decisions/0058-decisions-of-people-as-rows.md

use serde::{Deserialize, Serialize};

use crate::admit::RowRefusal;
use crate::catalog::{FieldId, Table};
use crate::row::{RowBuilder, Value};

/// A person's decision about the alerts of an entity, as its row says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PersonDecision {
    /// Alert always.
    Pin,
    /// No alerts for a while.
    Mute,
    /// No alerts, and on no list.
    Exclude,
    /// No decision any more.
    Nothing,
}

impl PersonDecision {
    /// The words that rows may contain.
    pub const NAMES: [&'static str; 4] = ["pin", "mute", "exclude", "none"];
    const EXPECTED: &'static str = "one of pin, mute, exclude, none";

    /// The decision of a word; `None` for a word that is none.
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "pin" => Some(Self::Pin),
            "mute" => Some(Self::Mute),
            "exclude" => Some(Self::Exclude),
            "none" => Some(Self::Nothing),
            _ => None,
        }
    }
}

/// A reader's verdict on an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertVerdict {
    /// The alert was worth telling.
    Accepted,
    /// The alert was not worth telling.
    Rejected,
}

impl AlertVerdict {
    /// The words that rows may contain.
    pub const NAMES: [&'static str; 2] = ["accepted", "rejected"];
    const EXPECTED: &'static str = "one of accepted, rejected";

    /// The verdict of a word; `None` for a word that is none.
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "accepted" => Some(Self::Accepted),
            "rejected" => Some(Self::Rejected),
            _ => None,
        }
    }

    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Rejected => "rejected",
        }
    }
}

/// The demand of a request about a person's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErasureAction {
    /// Erase the subject, and refuse its rows from now on.
    Erase,
    /// Take rows of the subject again from now on. What was erased stays erased.
    Lift,
}

impl ErasureAction {
    /// The words that rows may contain.
    pub const NAMES: [&'static str; 2] = ["erase", "lift"];
    const EXPECTED: &'static str = "one of erase, lift";

    /// The demand of a word; `None` for a word that is none.
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "erase" => Some(Self::Erase),
            "lift" => Some(Self::Lift),
            _ => None,
        }
    }
}

/// Refuses a row of an override, feedback or erasure table that cannot be acted on.
pub(crate) fn admit_said(table: &Table, row: &RowBuilder<'_>) -> Result<(), RowRefusal> {
    if let Some(fields) = &table.overrides {
        timed(table, row, "a decision needs the time at which it was made")?;
        let is_word = |word: &str| PersonDecision::of(word).is_some();
        known(
            table,
            row,
            fields.decision,
            is_word,
            PersonDecision::EXPECTED,
        )?;
        named(table, row, fields.who, "a decision needs who made it")?;
        return subject(table, row, "a decision needs the entity that it is about");
    }
    if let Some(fields) = &table.feedback {
        timed(table, row, "an answer needs the time at which it was given")?;
        let is_word = |word: &str| AlertVerdict::of(word).is_some();
        known(table, row, fields.verdict, is_word, AlertVerdict::EXPECTED)?;
        named(table, row, fields.who, "an answer needs who gave it")?;
    }
    if let Some(fields) = &table.erasure {
        timed(table, row, "a request needs the time at which it was made")?;
        if let Some(action) = fields.action
            && row.has_text(action)
        {
            let is_word = |word: &str| ErasureAction::of(word).is_some();
            known(table, row, action, is_word, ErasureAction::EXPECTED)?;
        }
        named(table, row, fields.who, "a request needs who made it")?;
        if !fields.email.is_some_and(|email| row.has_text(email)) {
            return subject(table, row, "a request needs the entity that it is about");
        }
    }
    Ok(())
}

fn subject(table: &Table, row: &RowBuilder<'_>, why: &'static str) -> Result<(), RowRefusal> {
    if table.owners.iter().any(|field| row.has_text(*field)) {
        return Ok(());
    }
    let owners = table.owners.iter();
    let names: Vec<&str> = owners
        .map(|field| table.field_at(*field).name.as_str())
        .collect();
    Err(RowRefusal::Incomplete {
        field: names.join(" / "),
        why,
    })
}

fn timed(table: &Table, row: &RowBuilder<'_>, why: &'static str) -> Result<(), RowRefusal> {
    match table.time {
        Some(time) if !matches!(row.get(time), Value::Time(_)) => Err(RowRefusal::Incomplete {
            field: table.field_at(time).name.clone(),
            why,
        }),
        _ => Ok(()),
    }
}

fn named(
    table: &Table,
    row: &RowBuilder<'_>,
    field: FieldId,
    why: &'static str,
) -> Result<(), RowRefusal> {
    if row.has_text(field) {
        return Ok(());
    }
    Err(RowRefusal::Incomplete {
        field: table.field_at(field).name.clone(),
        why,
    })
}

fn known(
    table: &Table,
    row: &RowBuilder<'_>,
    field: FieldId,
    is_word: impl Fn(&str) -> bool,
    expected: &'static str,
) -> Result<(), RowRefusal> {
    let word = row.get(field).text().unwrap_or_default();
    if is_word(word) {
        return Ok(());
    }
    Err(RowRefusal::UnknownWord {
        field: table.field_at(field).name.clone(),
        value: word.to_owned(),
        expected,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_its_meaning_and_no_other_word_has_one() {
        assert!(
            PersonDecision::NAMES
                .iter()
                .all(|word| PersonDecision::of(word).is_some())
        );
        for word in AlertVerdict::NAMES {
            assert_eq!(AlertVerdict::of(word).map(AlertVerdict::name), Some(word));
        }
        for word in ErasureAction::NAMES {
            assert!(ErasureAction::of(word).is_some(), "{word:?}");
            assert_eq!(PersonDecision::of(word), None, "{word:?}");
        }
        for word in ["", "Pin", "muted", "NONE", "accept"] {
            assert_eq!(PersonDecision::of(word), None, "{word:?}");
            assert_eq!(AlertVerdict::of(word), None, "{word:?}");
        }
    }
}
