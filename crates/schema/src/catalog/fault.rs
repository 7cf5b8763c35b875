//! Faults of a schemas folder, each with the correction its author can make.

use std::fmt;

/// One fault of one schema file. Loading collects all of them, not only the first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SchemaFault {
    /// The file, as it was named to the loader.
    pub file: String,
    /// The Avro record, empty when the file did not get that far.
    pub record: String,
    /// The field, when the fault is one field's.
    pub field: Option<String>,
    /// The fault, in words.
    pub message: String,
    /// The correction, in words; may be empty.
    pub hint: String,
}

impl fmt::Display for SchemaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if !self.record.is_empty() {
            write!(f, ": {}", self.record)?;
            if let Some(field) = &self.field {
                write!(f, ".{field}")?;
            }
        }
        write!(f, ": {}", self.message)?;
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}

/// Collects faults of one record.
#[derive(Debug)]
pub(crate) struct Faults<'a> {
    pub(crate) list: &'a mut Vec<SchemaFault>,
    pub(crate) file: &'a str,
    pub(crate) record: &'a str,
}

impl Faults<'_> {
    pub(crate) fn record(&mut self, message: impl Into<String>, hint: impl Into<String>) {
        self.push(None, message.into(), hint.into());
    }

    pub(crate) fn field(
        &mut self,
        field: &str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.push(Some(field.to_owned()), message.into(), hint.into());
    }

    fn push(&mut self, field: Option<String>, message: String, hint: String) {
        self.list.push(SchemaFault {
            file: self.file.to_owned(),
            record: self.record.to_owned(),
            field,
            message,
            hint,
        });
    }
}
