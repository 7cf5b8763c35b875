//! The catalog: tables with roles, fields with types, references, hubs.
//!
//! A [`Catalog`] is built once at start and shared. Everything downstream is driven by it; no other code names a table.

use super::normalise::Normalise;
use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::money::CurrencyRates;
use crate::{Row, TextList, Value};

/// Index of a table in [`Catalog::tables`]. Tables are ordered by name, so ids do not depend on file names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableId(pub u16);

/// Index of a field in [`Table::fields`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FieldId(pub u16);

/// Index of a hub in [`Catalog::hubs`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HubId(pub u16);

/// Index of a relation in [`Catalog::relations`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RelationId(pub u16);

impl RelationId {
    /// As a vector index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
impl TableId {
    /// As a vector index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
impl FieldId {
    /// As a vector index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
impl HubId {
    /// As a vector index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The roles a table can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// An entity that owns a cell (an account).
    Root,
    /// An entity that belongs to a cell through its owner references (a contact, a lead, an opportunity).
    Member,
    /// An entity that many cells share (a product, an agent).
    Hub,
    /// An immutable row with an id and a time that hangs on an entity.
    Event,
    /// A person of the own company whom rows are assigned to (a salesperson). Not a node.
    Staff,
    /// A person's decision about the alerts of an entity. Not a node, and never learned from.
    Override,
    /// A reader's answer to an alert. Not a node, and never learned from.
    Feedback,
    /// A request to erase an entity and all that is known of it. Not a node, and never learned from.
    Erasure,
}

impl Role {
    /// The name that schema files use.
    pub fn name(self) -> &'static str {
        match self {
            Role::Root => "root",
            Role::Member => "member",
            Role::Hub => "hub",
            Role::Event => "event",
            Role::Staff => "staff",
            Role::Override => "override",
            Role::Feedback => "feedback",
            Role::Erasure => "erasure",
        }
    }

    /// True for tables that features, queries and training read. False for tables of what people
    /// say about alerts, and for requests to erase.
    // Decision: docs/decisions/0058-decisions-of-people-as-rows.md
    pub fn is_learned(self) -> bool {
        !matches!(self, Role::Override | Role::Feedback | Role::Erasure)
    }
}

/// The logical type a field's values have in a row, whatever the writer's Avro type was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataType {
    /// Avro's `boolean`: true or false.
    Bool,
    /// Avro's `int` and `long`: whole numbers.
    Long,
    /// Avro's `float`, `double` and `decimal`: real numbers.
    Double,
    /// `timestamp-millis`, `timestamp-micros`, `date`: milliseconds since 1970 UTC.
    Time,
    /// `string`, `uuid`; keys and references of any integer type too (as decimal text).
    Text,
    /// `enum`, with its symbols.
    Symbol(Vec<String>),
    /// `array` of strings or enums.
    TextList,
}

/// The way in which a field becomes a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Feature {
    /// Never a feature (names, keys, e-mail addresses, references).
    None,
    /// A number: raw and log1p.
    Number,
    /// One of a vocabulary.
    Category,
    /// Several of a vocabulary.
    Set,
    /// Hashed n-grams of free text.
    Text,
    /// An age at the time of scoring.
    Time,
}

/// The relation that a reference declares besides naming a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Meaning {
    /// Nothing: the row is related to that row.
    #[default]
    Related,
    /// This row is now that row: an account merged into another, a lead converted into a contact.
    Became,
    /// That row is now this row: the other end of [`Meaning::Became`].
    Was,
    /// A member belonged to that root before.
    Previous,
}

/// A field that holds the key of another table's row; a list holds several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The table referred to.
    pub table: TableId,
    /// Whether this reference names the entity the row belongs to (member) or hangs on (event).
    pub owner: bool,
    /// The relation it declares.
    pub meaning: Meaning,
}

/// The way in which a member without an owner reference may find its root, for identity resolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchBy {
    /// The part of an e-mail address after the `@`.
    Domain,
    /// A web address or bare domain.
    Website,
}

/// One field of a table.
#[derive(Clone, Debug)]
pub struct Field {
    pub id: FieldId,
    /// The Avro field name.
    pub name: String,
    /// The logical type of its values.
    pub data_type: DataType,
    /// Whether null is allowed.
    pub nullable: bool,
    /// The way in which the field becomes a feature.
    pub feature: Feature,
    /// The row it refers to, if any.
    pub reference: Option<Reference>,
    /// The hub its values name, if any: a reference to a hub table, or a category promoted with `"hub"`.
    pub hub: Option<HubId>,
    /// Values declared in the schema (or the enum's symbols): each has a slot of its own in temporal state.
    pub values: Vec<String>,
    /// The value is the same before the first version is known as after (`"static": true`).
    pub is_static: bool,
    /// Declared values are in ascending order (`"ordinal": true`).
    pub ordinal: bool,
    /// Explanation group; defaults are decided by `features`.
    pub group: Option<String>,
    /// Explanation groups of declared values that differ from `group`.
    pub groups: BTreeMap<String, String>,
    /// The way identity resolution matches the field, if it does.
    pub match_by: Option<MatchBy>,
    /// Shown to people in facts and evidence (`"label": true`), e.g. an account's name.
    pub label: bool,
    /// The field with the currency of this amount (`"currency": "currency_code"`), if it has one.
    pub currency: Option<FieldId>,
    /// Steps to one spelling, of keys and references (`"normalise"`); those of the key that a
    /// reference leads to come last.
    pub normalise: Vec<Normalise>,
}

/// The field of an event table that names the kind of event on the way to a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staged {
    /// The field whose value is looked up.
    pub field: FieldId,
    /// Value → stage number, from 1.
    pub stages: BTreeMap<String, u8>,
}

/// The events of a table that mail scanners make in bursts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bursting {
    /// The field that names the mail or campaign; rows without one are one campaign.
    pub campaign: FieldId,
    /// Values of fields: only rows with one of each may be of a burst. All rows, if empty.
    pub only: Vec<(FieldId, Vec<String>)>,
}

/// The values of a field that end a deal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomeField {
    /// The field whose value is looked up.
    pub field: FieldId,
    /// Values that end it well, at least one.
    pub won: Vec<String>,
    /// Values that end it badly.
    pub lost: Vec<String>,
    /// The end that counts, of a deal that has several.
    pub verdict: Verdict,
}

/// The end of a deal that counts, where a deal ends more than once: won, opened again, lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The last: an end is taken back by a later value that is not the same end.
    #[default]
    Last,
    /// The first: whatever comes later is another matter.
    First,
    /// Each end counts.
    Each,
}

impl OutcomeField {
    /// `Some(true)`: won; `Some(false)`: lost; `None`: neither.
    pub fn of(&self, value: &str) -> Option<bool> {
        let is_in = |values: &[String]| values.iter().any(|v| v == value);
        if is_in(&self.won) {
            Some(true)
        } else {
            is_in(&self.lost).then_some(false)
        }
    }
}

/// The fields of an override table, besides its key, its time and the references to its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverrideFields {
    /// One of [`PersonDecision::NAMES`](crate::PersonDecision::NAMES).
    pub decision: FieldId,
    /// The person who decided.
    pub who: FieldId,
    /// The reason in the person's words.
    pub why: Option<FieldId>,
    /// The end of the decision, a time.
    pub until: Option<FieldId>,
}

/// The fields of a feedback table, besides its key, which is the id of the alert, and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedbackFields {
    /// One of [`AlertVerdict::NAMES`](crate::AlertVerdict::NAMES).
    pub verdict: FieldId,
    /// The person who answered.
    pub who: FieldId,
    /// The category of the answer, in the words of the company.
    pub disposition: Option<FieldId>,
    /// Free text.
    pub note: Option<FieldId>,
    /// The task of the alert.
    pub task: Option<FieldId>,
    /// The type of the alert.
    pub alert_type: Option<FieldId>,
}

/// The fields of an erasure table, besides its key, its time and the references to its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErasureFields {
    /// The person or system that asks.
    pub who: FieldId,
    /// One of [`ErasureAction::NAMES`](crate::ErasureAction::NAMES); a row without one erases.
    pub action: Option<FieldId>,
    /// An address of the subject.
    pub email: Option<FieldId>,
}

/// One Avro record type.
#[derive(Clone, Debug)]
pub struct Table {
    pub id: TableId,
    /// The table name, lower case, as used in PQL and configuration.
    pub name: String,
    /// Other names PQL accepts for it (`"aliases"` of the `leadpulse` property).
    pub aliases: Vec<String>,
    pub role: Role,
    /// The fields, in schema order.
    pub fields: Vec<Field>,
    /// The key (entities) or id (events).
    pub key: FieldId,
    /// Event time, or the time an entity version became known. Entities may lack it.
    pub time: Option<FieldId>,
    /// The field that lists the fields a CDC record changes (`"changed_fields": true`), if the table has one.
    pub changed_fields: Option<FieldId>,
    /// The field that orders the rows of one key (`"version": true`), if the table has one. Without
    /// it, the log's order decides.
    pub version: Option<FieldId>,
    /// The truth value of a row that deletes its entity (`"deleted": true`), if the table has one.
    pub deleted: Option<FieldId>,
    /// The truth value that says whether a person may be assigned to (`"active": true`), for staff
    /// tables that have one.
    pub active: Option<FieldId>,
    /// The territory that a person covers, or that a root lies in (`"territory": true`).
    pub territory: Option<FieldId>,
    /// Owner references in order of preference: the first that is not null decides.
    pub owners: Vec<FieldId>,
    /// Order of events on the way to a decision, for event tables that declare it.
    pub staged: Option<Staged>,
    /// The values that end a deal, for event and member tables that declare them.
    pub outcome: Option<OutcomeField>,
    /// Values of fields that mark an event row as no engagement, such as mails that sellers send:
    /// one of them is enough. Empty for tables whose rows are all engagement.
    pub not_engagement: Vec<(FieldId, Vec<String>)>,
    /// The events that mail scanners make in bursts, for event tables that declare them.
    pub bursts: Option<Bursting>,
    /// The truth value of an event row that takes the event of the same key back, if the table has one.
    pub retraction: Option<FieldId>,
    /// The fields of a person's decision; `Some` for override tables only.
    pub overrides: Option<OverrideFields>,
    /// The fields of a reader's answer; `Some` for feedback tables only.
    pub feedback: Option<FeedbackFields>,
    /// The fields of a request to erase; `Some` for erasure tables only.
    pub erasure: Option<ErasureFields>,
    /// Rates by which amounts become amounts of one currency; `None` leaves them as written.
    pub rates: Option<Arc<CurrencyRates>>,
    /// The Avro schema as JSON, `leadpulse` properties included.
    pub json: Arc<str>,
    /// The Avro schema, parsed (the reader schema).
    pub avro: Arc<apache_avro::Schema>,
}

impl Table {
    /// The field of this name (exact), if there is one.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|f| f.name == name)
    }
    /// The names of the fields that a change record says it changes; `None` for a whole row, which
    /// lists nothing.
    pub fn changed_by<'r>(&self, row: Row<'r>) -> Option<TextList<'r>> {
        match row.get(self.changed_fields?) {
            Value::List(names) if names.iter().next().is_some() => Some(names),
            _ => None,
        }
    }
    /// True if a row has its own value of a field, null included. A change record carries its key,
    /// time and version, and the fields that it names; the others keep the value of the version
    /// before, like those that a record marks as unchanged.
    pub fn carries(&self, row: Row<'_>, field: FieldId) -> bool {
        let is_own = field == self.key || [self.time, self.version].contains(&Some(field));
        let name = &self.field_at(field).name;
        let is_named = |names: TextList<'_>| names.iter().any(|named| named == name);
        !row.is_unchanged(field) && (is_own || self.changed_by(row).is_none_or(is_named))
    }
    /// True if a row carries every field, so that nothing of the version before is left.
    pub fn is_whole(&self, row: Row<'_>) -> bool {
        let is_whole = self.changed_by(row).is_none();
        is_whole && self.fields.iter().all(|field| !row.is_unchanged(field.id))
    }
    /// The field with this id.
    pub fn field_at(&self, id: FieldId) -> &Field {
        &self.fields[id.index()]
    }
    /// The fields of a hub table that cells read of the hubs that they touch: features but free text,
    /// and references to other hubs. Its time says when a row was saved, so it is none of them.
    pub fn hub_features(&self) -> impl Iterator<Item = &Field> {
        let is_hub = self.role == Role::Hub;
        self.fields.iter().filter(move |field| {
            let is_own = [Some(self.key), self.time, self.version].contains(&Some(field.id));
            let is_feature = !matches!(field.feature, Feature::None | Feature::Text);
            is_hub && !is_own && !field.label && (is_feature || field.hub.is_some())
        })
    }
    /// Whether rows are upserted under their key.
    pub fn is_entity(&self) -> bool {
        self.role != Role::Event
    }
}

/// A node that many cells share.
#[derive(Clone, Debug)]
pub struct Hub {
    pub id: HubId,
    /// The hub table's name, or the name given by `"hub"`.
    pub name: String,
    /// The hub table, when the hub has rows of its own.
    pub table: Option<TableId>,
    /// The fields whose values name it.
    pub sources: Vec<(TableId, FieldId)>,
}

/// The way in which two entities are related without one owning the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RelationKind {
    /// A field of an entity names the other: its current version counts.
    Reference(FieldId),
    /// A member belonged to the other, a root, before: its history of owners, and fields marked `"previous"`.
    Previous,
    /// An event on the entity names the other.
    Mention(FieldId),
}

/// A kind of edge besides ownership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    pub id: RelationId,
    /// The name, as in `contacts.referred_by`, `contacts/previous` or `product_usage.invited_contact_id`.
    pub name: String,
    /// The origin of the relation.
    pub kind: RelationKind,
    /// The entity table edges start from; for mentions the event table.
    pub from: TableId,
    /// The table they lead to: a root or member table.
    pub target: TableId,
    /// Explanation group, if the schema names one.
    pub group: Option<String>,
}

/// All tables and hubs of a deployment.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// Tables, ordered by name; `tables[i].id == TableId(i)`.
    pub tables: Vec<Table>,
    /// Hubs, ordered by name.
    pub hubs: Vec<Hub>,
    /// Relations, by table and field; `Previous` last within its table.
    pub relations: Vec<Relation>,
    pub(crate) by_name: FxHashMap<String, TableId>,
}

impl Catalog {
    /// The table of this name or alias, case-insensitively.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.by_name
            .get(&name.to_lowercase())
            .map(|id| &self.tables[id.index()])
    }
    /// The table with this id.
    pub fn table_at(&self, id: TableId) -> &Table {
        &self.tables[id.index()]
    }
    /// The root table. A catalog has exactly one.
    pub fn root(&self) -> &Table {
        self.tables
            .iter()
            .find(|t| t.role == Role::Root)
            .expect("checked on load: exactly one root table")
    }
    /// Event tables whose owner reference may name this entity table.
    pub fn events_of(&self, entity: TableId) -> impl Iterator<Item = &Table> {
        self.tables.iter().filter(move |t| {
            t.role == Role::Event
                && t.owners
                    .iter()
                    .any(|f| t.field_at(*f).reference.is_some_and(|r| r.table == entity))
        })
    }
    /// References of a table to people of the own company, in field order.
    pub fn assignments<'c>(
        &'c self,
        table: &'c Table,
    ) -> impl Iterator<Item = (&'c Field, TableId)> {
        table.fields.iter().filter_map(|field| {
            let staff = field.reference?.table;
            (self.table_at(staff).role == Role::Staff).then_some((field, staff))
        })
    }
    /// Member tables, in table order.
    pub fn members(&self) -> impl Iterator<Item = &Table> {
        self.tables.iter().filter(|t| t.role == Role::Member)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Catalog, Operation, Position, RowBatch};

    const DEALS: &str = r#"{"type":"record","name":"D","leadpulse":{"table":"deals","role":"root"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
      {"name":"stage","type":["null","string"],"default":null},
      {"name":"owner","type":["null","string"],"default":null,"leadpulse":{"hub":"owners"}},
      {"name":"changed","type":["null",{"type":"array","items":"string"}],"default":null,
       "leadpulse":{"changed_fields":true}}]}"#;

    #[test]
    fn a_change_record_carries_its_key_its_time_and_the_fields_that_it_names() {
        let catalog = Catalog::from_json(&[("d", DEALS)]).unwrap();
        let table = catalog.table("deals").unwrap();
        let field = |name: &str| table.field(name).unwrap().id;
        let check = |names: &[&str], unchanged: Option<&str>, carried: &[&str]| {
            let mut batch = RowBatch::new();
            let at = Position::default();
            let mut row = batch.start(&catalog, table.id, Operation::Upsert, at, 1);
            row.set_list(field("changed"), names.iter().copied());
            if let Some(name) = unchanged {
                row.set_unchanged(field(name));
            }
            let fields = ["id", "at", "stage", "owner"];
            let found = fields
                .into_iter()
                .filter(|name| table.carries(row.row(), field(name)));
            assert_eq!(
                found.collect::<Vec<_>>(),
                carried,
                "{names:?} {unchanged:?}"
            );
        };
        check(&["stage"], None, &["id", "at", "stage"]);
        check(&[], None, &["id", "at", "stage", "owner"]);
        check(&[], Some("owner"), &["id", "at", "stage"]);
        check(&["stage", "owner"], Some("stage"), &["id", "at", "owner"]);
    }
}
