//! Rows of the shipped schemas, which the market hands out. Fields that are null are left out.

use std::borrow::Cow;

use serde::ser::{Serialize, SerializeMap, Serializer};

/// Name of the table of accounts.
pub(crate) const ACCOUNTS: &str = "accounts";
/// Name of the table of contacts.
pub(crate) const CONTACTS: &str = "contacts";
/// Name of the table of leads.
pub(crate) const LEADS: &str = "leads";
/// Name of the table of opportunities.
pub(crate) const OPPORTUNITIES: &str = "opportunities";
/// Table of opportunity stage changes.
pub(crate) const STAGE_CHANGES: &str = "opportunity_stage_changes";
/// Name of the table of activities.
pub(crate) const ACTIVITIES: &str = "activities";
/// Table of content views.
pub(crate) const CONTENT_VIEWS: &str = "content_views";
/// Table of product usage.
pub(crate) const PRODUCT_USAGE: &str = "product_usage";

/// Name of the table of the seller's own people.
pub(crate) const USERS: &str = "users";

/// All tables that the market writes.
pub const TABLES: [&str; 9] = [
    ACCOUNTS,
    CONTACTS,
    LEADS,
    OPPORTUNITIES,
    STAGE_CHANGES,
    ACTIVITIES,
    CONTENT_VIEWS,
    PRODUCT_USAGE,
    USERS,
];

/// The value of a field that is not null.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldValue {
    /// A text or enumerated value.
    Text(Cow<'static, str>),
    /// A whole number, or a moment in milliseconds since 1970 UTC.
    Whole(i64),
    /// A number with a fraction.
    Number(f64),
    /// A boolean: true or false.
    Truth(bool),
    /// A list of texts.
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

impl From<bool> for FieldValue {
    fn from(truth: bool) -> Self {
        FieldValue::Truth(truth)
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
    /// The value of a field; `None` for null.
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

/// One row, as a source would send it.
#[derive(Clone, Debug, PartialEq)]
pub struct RowOut {
    /// Name of the table, one of [`TABLES`].
    pub table: &'static str,
    /// Known time, milliseconds since 1970 UTC. Equal to the event time, except for late events,
    /// repeated ones and retractions.
    pub known_ms: i64,
    /// The key of the entity or the id of the event.
    pub key: String,
    /// Key of the row's account, for sources that key their messages by account. A lead may not
    /// know the account.
    pub account: Option<String>,
    /// Fields that are not null.
    pub fields: Fields,
}

/// A row that is being filled.
pub(crate) struct RowDraft(RowOut);

impl RowDraft {
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

    /// Sets a field of the row.
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

    /// Sets the account of an account's own row.
    pub(crate) fn own_account(mut self) -> Self {
        self.0.account = Some(self.0.key.clone());
        self
    }

    /// Sets `account_id`, if the sender knows the account.
    pub(crate) fn account(mut self, account: Option<&str>) -> Self {
        self.0.account = account.map(str::to_owned);
        self.set_some("account_id", account.map(str::to_owned))
    }

    /// Returns the complete row.
    pub(crate) fn finish(self) -> RowOut {
        self.0
    }
}
