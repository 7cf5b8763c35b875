//! What leaves the market: rows of the shipped schemas, as JSON. Fields that are null are left out.

use serde_json::{Map, Value};

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
pub const TABLES: [&str; 8] = [ACCOUNTS, CONTACTS, LEADS, OPPORTUNITIES, STAGE_CHANGES, ACTIVITIES, CONTENT_VIEWS, PRODUCT_USAGE];

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct RowOut {
    /// Its table, one of [`TABLES`].
    pub table: &'static str,
    /// When it happened and, as the market's sources are prompt, when it was known: milliseconds since 1970 UTC.
    pub known_ms: i64,
    /// The key of the entity or the id of the event.
    pub key: String,
    /// The account the row belongs to, for sources that key their messages by account. A lead may not know it.
    pub account: Option<String>,
    /// The row's fields, a JSON object.
    pub fields: Value,
}

/// A row being filled.
pub(crate) struct Record {
    table: &'static str,
    known_ms: i64,
    key: String,
    account: Option<String>,
    fields: Map<String, Value>,
}

impl Record {
    /// A row of `table` with its key and time fields set.
    pub(crate) fn new(table: &'static str, key_field: &str, key: String, time_field: &str, known_ms: i64) -> Self {
        let mut fields = Map::with_capacity(14);
        fields.insert(key_field.to_owned(), Value::from(key.as_str()));
        fields.insert(time_field.to_owned(), Value::from(known_ms));
        Self { table, known_ms, key, account: None, fields }
    }

    /// Sets a field.
    pub(crate) fn set(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(field.to_owned(), value.into());
        self
    }

    /// Sets a field if there is a value.
    pub(crate) fn set_some(self, field: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.set(field, value),
            None => self,
        }
    }

    /// Sets `account_id`, if it is known to the sender.
    pub(crate) fn account(mut self, account: Option<&str>) -> Self {
        self.account = account.map(str::to_owned);
        self.set_some("account_id", account)
    }

    /// The row is complete.
    pub(crate) fn finish(self) -> RowOut {
        RowOut { table: self.table, known_ms: self.known_ms, key: self.key, account: self.account, fields: Value::Object(self.fields) }
    }
}
