//! A shape stands before the table: format, envelope, filter, paths and times of one source.
//!
//! A [`SourceShape`] is configuration. [`TopicDecoder`] compiles the shapes of a topic's sources
//! against their tables and turns records into rows; files of history go through the same plan.
//! There is no code per vendor: an envelope is data ([`Envelope`]).
//!
//! Plain Avro (no envelope, no nested path) runs the program of `avro`; everything else becomes a
//! [`data_node::DataNode`] first, of which only the wanted parts are read.
//!
//! Decision: docs/decisions/0028-a-shape-before-the-table.md

pub(crate) mod changes;
pub(crate) mod connect;
pub(crate) mod data_node;
pub(crate) mod data_read;
mod envelope;
pub(crate) mod fill;
pub(crate) mod fit;
mod keys;
pub(crate) mod made_key;
pub(crate) mod moment;
pub(crate) mod path;
pub(crate) mod plan;
mod protobuf;
pub(crate) mod rows;
pub(crate) mod text;
mod topic;
pub(crate) mod value;
pub(crate) mod writer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, TableId};

pub(crate) use envelope::envelope_hint;
pub use envelope::{Envelope, EnvelopeOption};
pub use fit::FitRemark;
pub use moment::{TimeDetails, TimeOption};
pub use text::{BadValue, TextOption};
pub use topic::{RawRecord, RecordFate, RecordFault, SchemaPlace, TopicDecoder, TopicSource};
pub use writer::{SchemaLanguage, WriterSchema};

/// The format of a topic's values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceFormat {
    /// Avro with a schema id in front, a schema GUID in a header, or the fingerprint of a single
    /// object.
    #[default]
    Avro,
    /// JSON, bare or behind a schema id that is passed over.
    Json,
    /// JSON behind an id of a JSON Schema, which says what its members are.
    JsonSchema,
    /// Protobuf behind a schema id and the numbers of its message.
    Protobuf,
    /// Files only: delimited text, whatever the files are called. Topics are Avro then.
    Csv,
    /// Files only: delimited text with tabs.
    Tsv,
    /// Files only: one JSON object a line.
    Jsonl,
    /// Files only: Parquet.
    Parquet,
}

impl SourceFormat {
    /// The format of the source's topic: files may have one of their own.
    pub(crate) fn of_topic(self) -> Self {
        match self {
            SourceFormat::Csv | SourceFormat::Tsv | SourceFormat::Jsonl | SourceFormat::Parquet => {
                SourceFormat::Avro
            }
            of_topics => of_topics,
        }
    }
}

/// A value that a filter compares: text, a number or a truth value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FilterValue {
    Bool(bool),
    Whole(i64),
    Number(f64),
    Text(String),
}

impl FilterValue {
    fn text(&self) -> String {
        match self {
            FilterValue::Bool(value) => value.to_string(),
            FilterValue::Whole(value) => value.to_string(),
            FilterValue::Number(value) => value.to_string(),
            FilterValue::Text(value) => value.clone(),
        }
    }
}

/// The values that a filter lets through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FilterValues {
    One(FilterValue),
    /// Any of them.
    Several(Vec<FilterValue>),
}

impl FilterValues {
    fn texts(&self) -> Vec<String> {
        match self {
            FilterValues::One(value) => vec![value.text()],
            FilterValues::Several(values) => values.iter().map(FilterValue::text).collect(),
        }
    }
}

/// One name, or a list of names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum NameList {
    One(String),
    Several(Vec<String>),
}

impl NameList {
    /// The names, in their order.
    pub fn names(&self) -> &[String] {
        match self {
            NameList::One(name) => std::slice::from_ref(name),
            NameList::Several(names) => names,
        }
    }
}

impl From<&str> for NameList {
    fn from(name: &str) -> Self {
        NameList::One(name.to_owned())
    }
}

/// The shape of one source's records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SourceShape {
    /// The format of values on the topic, or of files whose name does not say it.
    pub format: SourceFormat,
    /// The place of the row, and the values that say what happens to it.
    pub envelope: EnvelopeOption,
    /// Records of the source: path → value or values, all of which must hold. The path `@name` is
    /// the record's name in its schema, in full or its last part.
    #[serde(rename = "where")]
    pub filter: BTreeMap<String, FilterValues>,
    /// Origins of fields: path → field or fields, or field → path. A side that is no field of the
    /// table is the path; if both are fields, the left one is the path.
    pub columns: BTreeMap<String, NameList>,
    /// Paths that identify a row together, or `@row`: all of the row does. The table's key field is
    /// made from them.
    pub key: Option<NameList>,
    /// How times are written: field or path → unit, format or both with a zone.
    pub times: BTreeMap<String, TimeOption>,
    /// The path of a truth value: a row where it is true deletes its entity. Root and member tables.
    pub deleted: Option<String>,
    /// How text is written: cells, numbers, words for null and for truth.
    pub text: TextOption,
}

impl SourceShape {
    /// Checks the shape against its table. `known_time` is a column with the time at which rows
    /// became known, if the source has one.
    ///
    /// # Errors
    /// Names that the table does not have, and settings that mean nothing.
    pub fn check(
        &self,
        catalog: &Catalog,
        table: TableId,
        known_time: Option<&str>,
    ) -> Result<(), ShapeError> {
        let bare = moment::BareNumbers::Refused;
        plan::RowPlan::new(self, catalog, table, bare, known_time).map(drop)
    }
}

/// A shape that does not fit its table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// Neither side of an entry of `columns`, or no such field of `times`.
    #[error(
        "source of {table}, {setting}: the table has no field '{field}'; its fields are {known}"
    )]
    NoSuchField {
        table: String,
        /// `columns` or `times`.
        setting: &'static str,
        /// The name as configured.
        field: String,
        /// The fields there are.
        known: String,
    },
    /// A setting that means nothing.
    #[error("source of {table}, {setting}: {why}")]
    Setting {
        table: String,
        /// The setting, with its entry.
        setting: String,
        /// The fault and the remedy.
        why: String,
    },
    /// Sources of one topic that cannot be told apart.
    #[error(
        "topic {topic} has sources of {first} and {second} that cannot be told apart: {why}; give each a \
         filter, such as where = {{ type = \"…\" }} or where = {{ \"@name\" = \"…\" }}"
    )]
    Ambiguous {
        topic: String,
        /// A table.
        first: String,
        /// Another table.
        second: String,
        /// The reason, for people.
        why: String,
    },
}
