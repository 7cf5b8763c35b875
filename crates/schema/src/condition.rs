//! Conditions compiled from PQL: over the fields of a row (an inner WHERE), or over an entity as of a moment
//! (a population filter), where windows of past events are operands too.

use serde::{Deserialize, Serialize};

use crate::catalog::{FieldId, TableId};
use crate::row::{Row, Value};

/// A comparison of an operand with a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A constant of a query.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    Bool(bool),
    /// A number; whole numbers are exact up to 2^53.
    Number(f64),
    Text(String),
    /// Milliseconds since 1970 UTC.
    Time(i64),
}

/// The left side of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// A field of the row or entity.
    Column(FieldId),
    /// A field of the root that the entity belongs to; null for an entity without one.
    Root(TableId, FieldId),
    /// A window over past events of the entity: an index into [`Population::windows`].
    Window(usize),
}

/// A condition in three-valued logic cut short: a comparison with null is false (also `!=`), as in PQL.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    /// True if both parts are.
    And(Box<Condition>, Box<Condition>),
    /// At least one holds.
    Or(Box<Condition>, Box<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
    /// The operand compared with a constant; false for null.
    Compare(Operand, Comparison, Literal),
    /// Operand equals one of the constants.
    In(Operand, Vec<Literal>),
    /// True if the operand is null.
    IsNull(Operand),
    /// Text pattern: `%` any run, `_` any one character; a backslash takes the next character literally.
    Like(Operand, String),
}

/// A row, or an entity as of a moment, that a condition reads.
pub trait View {
    /// The current value of a field.
    fn column(&self, field: FieldId) -> Value<'_>;
    /// The current value of a field of the entity's root, which is a row of `table`; rows by
    /// themselves have no root.
    fn root_column(&self, _table: TableId, _field: FieldId) -> Value<'_> {
        Value::Null
    }
    /// The value of a window (see [`Population::windows`]); rows have none.
    fn window(&self, index: usize) -> Value<'_>;
}

impl View for Row<'_> {
    fn column(&self, field: FieldId) -> Value<'_> {
        self.get(field)
    }
    fn window(&self, _index: usize) -> Value<'_> {
        Value::Null
    }
}

impl Condition {
    /// Evaluates the condition.
    pub fn holds(&self, view: &impl View) -> bool {
        let read = |operand: &Operand| match operand {
            Operand::Column(field) => view.column(*field),
            Operand::Root(table, field) => view.root_column(*table, *field),
            Operand::Window(index) => view.window(*index),
        };
        match self {
            Condition::And(a, b) => a.holds(view) && b.holds(view),
            Condition::Or(a, b) => a.holds(view) || b.holds(view),
            Condition::Not(a) => !a.holds(view),
            Condition::Compare(operand, comparison, literal) => {
                compare(read(operand), *comparison, literal)
            }
            Condition::In(operand, literals) => {
                let value = read(operand);
                literals
                    .iter()
                    .any(|l| compare(value, Comparison::Equal, l))
            }
            Condition::IsNull(operand) => read(operand).is_null(),
            Condition::Like(operand, pattern) => {
                read(operand).text().is_some_and(|text| like(text, pattern))
            }
        }
    }
}

fn compare(value: Value<'_>, comparison: Comparison, literal: &Literal) -> bool {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let ordering = match (value, literal) {
        (Value::Null, _) => return false,
        (Value::Text(a), Literal::Text(b)) => a.cmp(b.as_str()),
        (Value::Time(a), Literal::Time(b)) => a.cmp(b),
        (Value::Time(a), Literal::Number(b)) => match (a as f64).partial_cmp(b) {
            Some(ordering) => ordering,
            None => return false,
        },
        // A flag column (0/1) may be compared with TRUE and a truth value with 0/1.
        (value, Literal::Bool(b)) => match value
            .number()
            .and_then(|x| x.partial_cmp(&f64::from(u8::from(*b))))
        {
            Some(ordering) => ordering,
            None => return false,
        },
        (value, Literal::Number(b)) => match value.number().and_then(|x| x.partial_cmp(b)) {
            Some(ordering) => ordering,
            None => return false,
        },
        (Value::List(items), Literal::Text(b)) => {
            let found = items.iter().any(|item| item == b);
            return match comparison {
                Comparison::Equal => found,
                Comparison::NotEqual => !found,
                _ => false,
            };
        }
        _ => return false,
    };
    match comparison {
        Comparison::Equal => ordering == Equal,
        Comparison::NotEqual => ordering != Equal,
        Comparison::Less => ordering == Less,
        Comparison::LessOrEqual => ordering != Greater,
        Comparison::Greater => ordering == Greater,
        Comparison::GreaterOrEqual => ordering != Less,
    }
}

/// SQL's LIKE: linear in practice, by remembering the last `%`.
fn like(text: &str, pattern: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let pattern = like_pieces(pattern);
    let (mut t, mut p) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == Piece::Any {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len()
            && (pattern[p] == Piece::One || pattern[p] == Piece::Exactly(text[t]))
        {
            t += 1;
            p += 1;
        } else if let Some((star_p, star_t)) = star {
            star = Some((star_p, star_t + 1));
            p = star_p + 1;
            t = star_t + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|piece| *piece == Piece::Any)
}

/// A piece of a LIKE pattern.
#[derive(Clone, Copy, PartialEq)]
enum Piece {
    Any,
    One,
    Exactly(char),
}

/// `%`, `_`, and every other character as itself; a backslash takes the next one literally.
fn like_pieces(pattern: &str) -> Vec<Piece> {
    let mut chars = pattern.chars();
    let mut pieces = Vec::with_capacity(pattern.len());
    while let Some(c) = chars.next() {
        pieces.push(match c {
            '%' => Piece::Any,
            '_' => Piece::One,
            '\\' => Piece::Exactly(chars.next().unwrap_or('\\')),
            c => Piece::Exactly(c),
        });
    }
    pieces
}

/// The measure that a window takes of the events in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    /// The number of rows.
    Count,
    /// Number of rows where the field is not null.
    CountOf(FieldId),
    /// The sum of a number field; nulls are ignored.
    SumOf(FieldId),
}

/// Something counted per entity and whole day (UTC), so that windows of the past can be read at any time.
#[derive(Clone, Debug, PartialEq)]
pub struct DayCounter {
    /// The event table whose rows are counted.
    pub events: TableId,
    /// The condition of the rows that count; `None` counts all.
    pub filter: Option<Condition>,
    /// The measure taken of the rows.
    pub measure: Measure,
}

/// A window of whole days over a day counter.
///
/// A day bucket holds `(day start, day start + 24 h]`, so that a window read at midnight is exact. The window ending `end_days`
/// after the moment `t` (never positive) ends with the bucket that contains `t + end_days`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DayWindow {
    /// Index into the list of day counters the graph was built with (before that: into [`Population::counters`]).
    pub counter: usize,
    /// Days from the window's start to the moment; `None` is −INF.
    pub start_days: Option<i64>,
    /// Days from the moment to the window's end: 0 or less.
    pub end_days: i64,
}

/// The reason that an entity has no score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Absence {
    /// It does not belong to the task's population.
    Outside,
    /// It is part of another entity now.
    Merged,
    /// A tombstone ended the row.
    Deleted,
}

/// The entities that a task scores, as of the moment of scoring.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Population {
    /// The condition of the entities; `None` admits all.
    pub condition: Option<Condition>,
    /// The windows its operands name.
    pub windows: Vec<DayWindow>,
    /// The counters those windows read.
    pub counters: Vec<DayCounter>,
}

#[cfg(test)]
mod tests {
    use super::like;

    #[test]
    fn patterns_match_runs_single_characters_and_escaped_signs() {
        for (text, pattern, expected) in [
            ("pricing_page", "pricing%", true),
            ("pricing_page", "%page", true),
            ("pricing_page", "%ing%", true),
            ("pricing-page", "pricing_page", true),
            ("pricing-page", "pricing\\_page", false),
            ("100%", "%\\%", true),
            ("1000", "%\\%", false),
            ("a\\", "a\\", true),
            ("", "%", true),
            ("", "_", false),
            ("abab", "%ab", true),
            ("é", "_", true),
        ] {
            assert_eq!(like(text, pattern), expected, "{text} LIKE {pattern}");
        }
    }
}
