//! What became of a file's rows while it was read: usable, passed over, refused and why.
//!
//! Decision: docs/decisions/0035-every-row-of-a-file-is-told.md

use std::fmt::Write;
use std::path::PathBuf;

use leadpulse_schema::{FileError, FitRemark, TableId};

/// Different reasons that are told apart; rows refused for others are counted under the last one.
const MOST_REASONS: usize = 20;

/// Rows of a file that were refused for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The column; empty where the row as a whole is bad.
    pub column: String,
    /// What was expected there, for people.
    pub expected: String,
    /// The number of rows.
    pub rows: u64,
    /// The line of the first of them, and the value found there.
    pub example: (u64, String),
}

/// True for reasons that differ in digits alone: each of a thousand implausible dates is named in
/// its own, and all of them are one mistake.
fn is_one_kind(one: &str, other: &str) -> bool {
    one == other || with_digits_alike(one).eq(with_digits_alike(other))
}

/// The bytes of a text with one zero in the place of each run of digits.
fn with_digits_alike(text: &str) -> impl Iterator<Item = u8> + '_ {
    let bytes = text.as_bytes();
    let goes_on =
        |at: usize| at > 0 && bytes[at].is_ascii_digit() && bytes[at - 1].is_ascii_digit();
    let kept = (0..bytes.len()).filter(move |at| !goes_on(*at));
    kept.map(|at| match bytes[at] {
        byte if byte.is_ascii_digit() => b'0',
        byte => byte,
    })
}

/// What became of a file's rows while it was read.
#[derive(Clone, Debug)]
pub struct FileReport {
    pub table: TableId,
    pub path: PathBuf,
    /// Rows that the graph gets to see.
    pub usable: u64,
    /// Records that the source's filter or envelope leaves out.
    pub passed_over: u64,
    /// Rows that were left out because they lie ahead of our clock.
    pub future: u64,
    /// Rows that were refused.
    pub refused: u64,
    /// The reasons, the commonest first once reading is over.
    pub reasons: Vec<Refusal>,
    /// What nothing in the file fitted.
    pub remarks: Vec<FitRemark>,
}

impl FileReport {
    pub(crate) fn new(table: TableId, path: PathBuf) -> Self {
        FileReport {
            table,
            path,
            usable: 0,
            passed_over: 0,
            future: 0,
            refused: 0,
            reasons: Vec::new(),
            remarks: Vec::new(),
        }
    }

    /// The number of rows read.
    pub fn rows(&self) -> u64 {
        self.usable + self.refused + self.future
    }

    /// The share of rows that were refused, from 0 to 1.
    pub fn refused_ratio(&self) -> f64 {
        self.refused as f64 / self.rows().max(1) as f64
    }

    /// Notes a refused row.
    pub(crate) fn refuse(&mut self, error: &FileError) {
        let FileError::Row {
            line,
            column,
            value,
            expected,
            ..
        } = error
        else {
            return;
        };
        self.refused += 1;
        let is_same = |reason: &&mut Refusal| {
            reason.column == *column && is_one_kind(&reason.expected, expected)
        };
        if let Some(reason) = self.reasons.iter_mut().find(is_same) {
            reason.rows += 1;
        } else if self.reasons.len() < MOST_REASONS {
            self.reasons.push(Refusal {
                column: column.clone(),
                expected: expected.clone(),
                rows: 1,
                example: (*line, value.clone()),
            });
        } else if let Some(last) = self.reasons.last_mut() {
            last.rows += 1;
        }
    }

    /// Ends the counting.
    pub(crate) fn finish(&mut self) {
        self.reasons
            .sort_by_key(|reason| (std::cmp::Reverse(reason.rows), reason.example.0));
    }

    /// The reasons in words, one line each, the commonest first.
    pub fn reasons_in_words(&self) -> Vec<String> {
        let words = |reason: &Refusal| {
            let (line, value) = &reason.example;
            let rows = match reason.rows {
                1 => "1 row".to_owned(),
                rows => format!("{rows} rows, first"),
            };
            let column = &reason.column;
            let mut text = format!("{rows} line {line}, ");
            if !column.is_empty() {
                let _ = write!(text, "column '{column}': ");
            }
            let _ = write!(text, "'{value}' is not {}", reason.expected);
            text
        };
        self.reasons.iter().map(words).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_that_differ_in_digits_are_one_reason() {
        let mut report = FileReport::new(TableId(0), "orders.csv".into());
        let mut refuse = |line: u64, column: &str, value: &str, expected: &str| {
            report.refuse(&FileError::Row {
                file: "orders.csv".into(),
                row_group: 0,
                line,
                column: column.into(),
                value: value.into(),
                expected: expected.into(),
            });
        };
        for year in 1800..1899 {
            let expected = format!("a plausible time: it would be {year}-1-{}", year - 1790);
            refuse(year, "at", &year.to_string(), &expected);
        }
        refuse(7, "at", "soon", "a time");
        refuse(9, "sent", "1801", "a plausible time: it would be 1801-1-1");
        report.finish();
        assert_eq!(
            report.reasons_in_words(),
            [
                "99 rows, first line 1800, column 'at': '1800' is not a plausible time: it would be \
                 1800-1-10",
                "1 row line 7, column 'at': 'soon' is not a time",
                "1 row line 9, column 'sent': '1801' is not a plausible time: it would be 1801-1-1",
            ]
        );
    }
}
