//! Answers to alerts, sent as rows of the feedback table.

use leadpulse_engine::ports::Clock;
use leadpulse_schema::{AlertVerdict, Operation, Position, RowBatch, Table, Value};
use leadpulse_server::{AlertAnswer, SentRow};

use crate::clock::SystemClock;
use crate::error::DeployError;
use crate::loaded::Loaded;
use crate::rows_of_people::{PersonSource, person_source, send_row};

/// Faults of an answer before it is sent.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// No source has answers.
    #[error(
        "no source with a topic has a table of the role feedback; add one to the configuration, as the shipped leadpulse.toml does"
    )]
    NoSource,
    /// The source has rows of another form than this program writes.
    #[error(
        "the source of {table} is not plain Avro, which is all that this program writes; produce the row as its other rows are"
    )]
    OtherForm { table: String },
    /// The verdict is none.
    #[error("{verdict:?} is no verdict; answer with one of {}", AlertVerdict::NAMES.join(", "))]
    Verdict { verdict: String },
    /// The answer names no alert.
    #[error("the answer names no alert; put its alert_id into the answer")]
    NoAlert,
    /// A part of the answer has no field.
    #[error(
        "{table} has no field for {part}; declare it in its feedback property, or leave {part} out"
    )]
    NoField { table: String, part: &'static str },
}

/// Sends an answer to the topic of the feedback table, in the name of a person.
///
/// # Errors
/// A configuration without such a topic, an answer that the table cannot hold, or a cluster that
/// refuses.
pub(crate) fn send_answer(
    loaded: &Loaded,
    answer: &AlertAnswer,
    by: &str,
) -> Result<SentRow, DeployError> {
    let catalog = loaded.catalog()?;
    let found = person_source(loaded, &catalog, |table| table.feedback.is_some());
    let (source, table) = match found.ok_or(AnswerError::NoSource)? {
        PersonSource::Fits(source, table) => (source, table),
        PersonSource::OtherForm(table) => {
            let table = table.name.clone();
            return Err(AnswerError::OtherForm { table }.into());
        }
    };
    let now_ms = SystemClock.wall_ms();
    let mut batch = RowBatch::new();
    let position = Position::default();
    let mut row = batch.start(&catalog, table.id, Operation::Upsert, position, now_ms);
    for (field, value) in fields_of(table, answer, by)? {
        row.set(field, Value::Text(value));
    }
    if let Some(time) = table.time {
        row.set(time, Value::Time(now_ms));
    }
    row.finish();
    Ok(SentRow {
        topic: send_row(loaded, &catalog, (source, table), (&batch, now_ms))?,
        key: answer.alert_id.clone(),
    })
}

/// The texts of an answer by the table's fields.
fn fields_of<'a>(
    table: &Table,
    answer: &'a AlertAnswer,
    by: &'a str,
) -> Result<Vec<(leadpulse_schema::FieldId, &'a str)>, AnswerError> {
    let fields = table.feedback.ok_or(AnswerError::NoSource)?;
    if answer.alert_id.is_empty() {
        return Err(AnswerError::NoAlert);
    }
    if !AlertVerdict::NAMES.contains(&answer.verdict.as_str()) {
        let verdict = answer.verdict.clone();
        return Err(AnswerError::Verdict { verdict });
    }
    let mut texts = vec![
        (table.key, answer.alert_id.as_str()),
        (fields.verdict, &answer.verdict),
        (fields.who, by),
    ];
    for (part, field, text) in [
        ("disposition", fields.disposition, &answer.disposition),
        ("note", fields.note, &answer.note),
        ("task", fields.task, &answer.task),
        ("type", fields.alert_type, &answer.r#type),
    ] {
        let Some(text) = text else { continue };
        let no_field = || AnswerError::NoField {
            table: table.name.clone(),
            part,
        };
        texts.push((field.ok_or_else(no_field)?, text));
    }
    Ok(texts)
}
