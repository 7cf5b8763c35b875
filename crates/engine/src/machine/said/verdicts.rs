//! Answers of readers to alerts: the last verdict on each alert, and counts.
//!
//! Answers change no score and no alert.

use std::collections::BTreeMap;
use std::sync::Arc;

use leadpulse_graph::RowOutcome;
use leadpulse_schema::{AlertVerdict, FeedbackFields, FieldId, Operation, Row};
use serde::{Deserialize, Serialize};

use super::newest::{NewestRows, SaidAt};
use crate::machine::ErasedNames;
use crate::read_model::{FeedbackCount, ShownVerdict, VerdictsView};

/// A reader's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::machine) struct Answer {
    verdict: AlertVerdict,
    who: Arc<str>,
    disposition: Option<Arc<str>>,
    note: Option<Arc<str>>,
    task: Option<Arc<str>>,
    alert_type: Option<Arc<str>>,
}

/// Answers by the id of their alert, of all feedback tables.
#[derive(Clone, Debug, Default)]
pub(in crate::machine) struct Verdicts {
    pub answers: NewestRows<Arc<str>, Answer>,
}

impl Verdicts {
    /// Takes an admitted row of a feedback table, or its deletion.
    pub(super) fn take(&mut self, fields: &FeedbackFields, row: Row<'_>) -> RowOutcome {
        let answer = match row.operation() {
            Operation::Gap => return RowOutcome::Accepted,
            Operation::Upsert => answer_of(fields, row),
            Operation::Delete | Operation::Retract => None,
        };
        let taken = self.answers.take(row.key().into(), SaidAt::of(row), answer);
        taken.outcome
    }

    /// Drops notes that name a person. Returns true if there were any.
    pub(super) fn forget_person(&mut self, names: &ErasedNames) -> bool {
        let is_telling = |answer: &Answer| {
            let texts = [&answer.note, &answer.disposition].into_iter().flatten();
            texts.into_iter().any(|text| names.are_in(text))
        };
        let telling = self.answers.iter().filter_map(|(key, row)| {
            let is_telling = row.value.as_ref().is_some_and(is_telling);
            is_telling.then(|| (key.clone(), row.clone()))
        });
        let telling: Vec<_> = telling.collect();
        let is_changed = !telling.is_empty();
        for (key, mut row) in telling {
            if let Some(answer) = &mut row.value {
                (answer.note, answer.disposition) = (None, None);
            }
            self.answers.rows.insert(key, row);
        }
        is_changed
    }

    /// Number of alerts with each verdict.
    pub fn counts(&self) -> BTreeMap<AlertVerdict, u64> {
        let all = [AlertVerdict::Accepted, AlertVerdict::Rejected];
        let mut counts: BTreeMap<_, _> = all.map(|verdict| (verdict, 0)).into();
        for answer in self
            .answers
            .iter()
            .filter_map(|(_, row)| row.value.as_ref())
        {
            *counts.entry(answer.verdict).or_default() += 1;
        }
        counts
    }

    /// The last verdict on each alert, and counts.
    pub fn view(&self) -> VerdictsView {
        let mut by_alert = BTreeMap::new();
        let mut counts: BTreeMap<_, u64> = BTreeMap::new();
        for (alert_id, row) in self.answers.iter() {
            let Some(answer) = &row.value else { continue };
            let kind = (
                answer.task.clone(),
                answer.alert_type.clone(),
                answer.verdict,
                answer.disposition.clone(),
            );
            *counts.entry(kind).or_default() += 1;
            let shown = ShownVerdict {
                verdict: answer.verdict.name(),
                disposition: answer.disposition.clone(),
                who: answer.who.clone(),
                note: answer.note.clone(),
                at_ms: row.said.at_ms,
            };
            by_alert.insert(alert_id.clone(), shown);
        }
        let count = |((task, alert_type, verdict, disposition), alerts): (_, u64)| {
            let verdict: AlertVerdict = verdict;
            FeedbackCount {
                task,
                alert_type,
                verdict: verdict.name(),
                disposition,
                alerts,
            }
        };
        let counts = counts.into_iter().map(count).collect();
        VerdictsView { by_alert, counts }
    }
}

/// The answer of an admitted row, which has one of the known verdicts.
fn answer_of(fields: &FeedbackFields, row: Row<'_>) -> Option<Answer> {
    let text = |field: FieldId| row.get(field).text().filter(|text| !text.is_empty());
    let optional = |field: Option<FieldId>| field.and_then(text).map(Arc::from);
    Some(Answer {
        verdict: AlertVerdict::of(text(fields.verdict)?)?,
        who: text(fields.who)?.into(),
        disposition: optional(fields.disposition),
        note: optional(fields.note),
        task: optional(fields.task),
        alert_type: optional(fields.alert_type),
    })
}
