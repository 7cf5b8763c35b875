//! Faults of a query: the place in the text, the fault, the correction.

use std::fmt;

use ariadne::{CharSet, Config, IndexType, Label, Report, ReportKind, Source};

/// A stretch of text. Takes no part in equality: two queries are equal when they say the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct Span {
    /// The first byte of the place.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
    /// Line of the first byte, from 1.
    pub line: u32,
    /// Column of the first byte in characters, from 1.
    pub column: u32,
    /// 0: the query itself; n: the n-th named target, in the order of their names.
    pub text: u16,
}

impl PartialEq for Span {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Span {
    /// From the start of this one to the end of `last`.
    pub fn to(self, last: Span) -> Span {
        Span {
            end: last.end.max(self.start),
            ..self
        }
    }
}

/// The named target whose text a diagnostic is about, when it is not the query itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Within {
    pub name: String,
    pub text: String,
}

/// A fault of a query: its place, its reason, and the text to write instead.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Diagnostic {
    pub span: Span,
    /// The fault and its reason, in words.
    pub message: String,
    /// The correction, in words.
    pub hint: String,
    /// Line of the first wrong character, from 1.
    pub line: u32,
    /// The fault's column in characters, from 1.
    pub column: u32,
    /// The named target the position is in; `None` is the query itself.
    pub within: Option<Box<Within>>,
}

impl Diagnostic {
    pub(crate) fn new(span: Span, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            span,
            message: message.into(),
            hint: hint.into(),
            line: span.line,
            column: span.column,
            within: None,
        }
    }

    /// The text with the place marked by a caret, the message and the hint; no colour. `source` is
    /// the query's text; a fault inside a named target shows that target's text instead.
    pub fn render(&self, source: &str) -> String {
        let (name, text) = match &self.within {
            Some(within) => (within.name.as_str(), within.text.as_str()),
            None => ("query", source),
        };
        let mut start = (self.span.start as usize).min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let mut end = (self.span.end as usize).clamp(start, text.len());
        while !text.is_char_boundary(end) {
            end += 1;
        }
        let config = Config::default()
            .with_color(false)
            .with_index_type(IndexType::Byte)
            .with_char_set(CharSet::Ascii);
        let mut report = Report::build(ReportKind::Error, (name, start..end))
            .with_config(config)
            .with_message(&self.message)
            .with_label(Label::new((name, start..end)).with_message("here"));
        if !self.hint.is_empty() {
            report = report.with_help(&self.hint);
        }
        let mut bytes = Vec::new();
        match report
            .finish()
            .write((name, Source::from(text)), &mut bytes)
        {
            Ok(()) => String::from_utf8_lossy(&bytes)
                .lines()
                .map(str::trim_end)
                .collect::<Vec<_>>()
                .join("\n"),
            Err(_) => self.to_string(),
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(within) = &self.within {
            write!(f, "named target {}: ", within.name)?;
        }
        write!(
            f,
            "line {}, column {}: {}",
            self.line, self.column, self.message
        )?;
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}

/// ", did you mean `x`?" for the nearest candidate within a third of the name's length, else
/// nothing.
pub(crate) fn did_you_mean<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> String {
    let wanted = name.to_lowercase();
    let limit = (wanted.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| format!(", did you mean {candidate}?"))
        .unwrap_or_default()
}

/// Levenshtein's distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_proposed_and_a_far_one_is_not() {
        let tables = ["accounts", "contacts", "opportunities"];
        assert_eq!(did_you_mean("acounts", tables), ", did you mean accounts?");
        assert_eq!(
            did_you_mean("OPPORTUNITYS", tables),
            ", did you mean opportunities?"
        );
        assert_eq!(did_you_mean("zebra", tables), "");
    }

    #[test]
    fn rendering_survives_spans_that_do_not_fit_the_text() {
        for (start, end) in [(0, 0), (1, 2), (3, 900), (900, 901)] {
            let span = Span {
                start,
                end,
                line: 1,
                column: 1,
                text: 0,
            };
            assert!(
                Diagnostic::new(span, "what", "how")
                    .render("aé")
                    .contains("what")
            );
        }
        assert!(
            Diagnostic::new(Span::default(), "what", "")
                .render("")
                .contains("what")
        );
    }
}
