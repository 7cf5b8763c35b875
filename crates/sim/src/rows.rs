//! What leaves the market: rows of the shipped schemas. Fields that are null are left out.

use std::borrow::Cow;

use serde::ser::{Serialize, SerializeMap, Serializer};

/// Table of accounts.
pub(crate) const ACCOUNTS: &str = "accounts";
/// Table of contacts.
pub(crate) const CONTACTS: &str = "contacts";
/// Table of leads.
pub(crate) const LEADS: &str = "leads";
/// Table of opportunities.
pub(crate) const OPPORTUNITIES: &str = "opportunities";
/// Table of opportunity stage changes.
pub(crate) const STAGE_CHANGES: &str = "opportunity_stage_changes";
/// Table of activities.
pub(crate) const ACTIVITIES: &str = "activities";
/// Table of content views.
pub(crate) const CONTENT_VIEWS: &str = "content_views";
/// Table of product usage.
pub(crate) const PRODUCT_USAGE: &str = "product_usage";

/// All tables the market writes.
pub const TABLES: [&str; 8] = [
    ACCOUNTS,
    CONTACTS,
    LEADS,
    OPPORTUNITIES,
    STAGE_CHANGES,
    ACTIVITIES,
    CONTENT_VIEWS,
    PRODUCT_USAGE,
];

/// Value of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldValue {
    /// A text.
    Text(Cow<'static, str>),
    /// A whole number, or a moment in milliseconds since 1970 UTC.
    Whole(i64),
    /// A number.
    Number(f64),
    /// Yes or no.
    Truth(bool),
    /// Several texts.
    Texts(Vec<Cow<'static, str>>),
}

impl From<&'static str> for FieldValue {
    fn from(text: &'static str) -> Self {
        FieldValue::Text(Cow::Borrowed(text))
    }
}

impl From<String> for FieldValue {
    fn from(text: String) -> Self {
        FieldValue::Text(Cow::Owned(text))
    }
}

impl From<i64> for FieldValue {
    fn from(number: i64) -> Self {
        FieldValue::Whole(number)
    }
}

impl From<f64> for FieldValue {
    fn from(number: f64) -> Self {
        FieldValue::Number(number)
    }
}

impl From<Vec<&'static str>> for FieldValue {
    fn from(texts: Vec<&'static str>) -> Self {
        FieldValue::Texts(texts.into_iter().map(Cow::Borrowed).collect())
    }
}

impl From<Vec<String>> for FieldValue {
    fn from(texts: Vec<String>) -> Self {
        FieldValue::Texts(texts.into_iter().map(Cow::Owned).collect())
    }
}

impl Serialize for FieldValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            FieldValue::Text(text) => serializer.serialize_str(text),
            FieldValue::Whole(number) => serializer.serialize_i64(*number),
            FieldValue::Number(number) => serializer.serialize_f64(*number),
            FieldValue::Truth(truth) => serializer.serialize_bool(*truth),
            FieldValue::Texts(texts) => serializer.collect_seq(texts),
        }
    }
}

/// The fields of a row that are not null, as a JSON object when serialised.
#[derive(Clone, Debug, PartialEq)]
pub struct Fields(Vec<(&'static str, FieldValue)>);

impl Fields {
    /// The value of a field; `None`: null.
    pub fn get(&self, name: &str) -> Option<&FieldValue> {
        self.0
            .iter()
            .find(|(field, _)| *field == name)
            .map(|(_, value)| value)
    }

    /// The value of a text field.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            FieldValue::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a field of whole numbers or moments.
    pub fn whole(&self, name: &str) -> Option<i64> {
        match self.get(name)? {
            FieldValue::Whole(number) => Some(*number),
            _ => None,
        }
    }

    /// Names and values, in the order in which they were set.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &FieldValue)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }

    /// Sets a field that is not set yet.
    pub(crate) fn push(&mut self, name: &'static str, value: FieldValue) {
        self.0.push((name, value));
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            object.serialize_entry(name, value)?;
        }
        object.end()
    }
}

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct RowOut {
    /// Its table, one of [`TABLES`].
    pub table: &'static str,
    /// When it was known: when it happened, for all but late events, repeated ones and those taken back. Milliseconds since 1970 UTC.
    pub known_ms: i64,
    /// The key of the entity or the id of the event.
    pub key: String,
    /// The account the row belongs to, for sources that key their messages by account. A lead may not know it.
    pub account: Option<String>,
    /// The row's fields.
    pub fields: Fields,
}

/// A row being filled.
pub(crate) struct Record(RowOut);

impl Record {
    /// A row of `table` with its key and time fields set.
    pub(crate) fn new(
        table: &'static str,
        key_field: &'static str,
        key: String,
        time_field: &'static str,
        known_ms: i64,
    ) -> Self {
        let mut fields = Vec::with_capacity(12);
        fields.push((key_field, FieldValue::from(key.clone())));
        fields.push((time_field, FieldValue::Whole(known_ms)));
        Self(RowOut {
            table,
            known_ms,
            key,
            account: None,
            fields: Fields(fields),
        })
    }

    /// Sets a field.
    pub(crate) fn set(mut self, field: &'static str, value: impl Into<FieldValue>) -> Self {
        self.0.fields.push(field, value.into());
        self
    }

    /// Sets a field if there is a value.
    pub(crate) fn set_some(
        self,
        field: &'static str,
        value: Option<impl Into<FieldValue>>,
    ) -> Self {
        match value {
            Some(value) => self.set(field, value),
            None => self,
        }
    }

    /// Names the account of a row that is itself one.
    pub(crate) fn own_account(mut self) -> Self {
        self.0.account = Some(self.0.key.clone());
        self
    }

    /// Sets `account_id`, if it is known to the sender.
    pub(crate) fn account(mut self, account: Option<&str>) -> Self {
        self.0.account = account.map(str::to_owned);
        self.set_some("account_id", account.map(str::to_owned))
    }

    /// The row is complete.
    pub(crate) fn finish(self) -> RowOut {
        self.0
    }
}
