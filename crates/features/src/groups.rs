//! The explanation group of each number and word. Columns and evidence use the same functions, so
//! that they never disagree.

use leadpulse_schema::{
    Catalog, Feature, Field, Hub, MatchBy, OutcomeField, Relation, Role, Table, TableId,
};

/// Group of the season columns.
pub(crate) const SEASON: &str = "season";
/// Group of fields that declare none.
const PROFILE: &str = "profile";
/// Group of the people in a cell.
const COMMITTEE: &str = "committee";
/// Group of hubs whose source fields declare none.
const PEERS: &str = "peers";
/// Group of relations that declare none.
const RELATIONS: &str = "relations";
/// Group of the order of steps, where several groups share the steps.
const ORDER: &str = "order";

fn own(field: &Field) -> &str {
    field.group.as_deref().unwrap_or(PROFILE)
}

/// The group of a field of an entity table.
pub(crate) fn of_field(field: &Field) -> String {
    own(field).to_owned()
}

/// The group of a value of a category or set of an entity table.
pub(crate) fn of_field_value(field: &Field, value: &str) -> String {
    field
        .groups
        .get(value)
        .map_or(own(field), String::as_str)
        .to_owned()
}

/// The group of an event table: that of the first category field that declares one, else the
/// table's name.
pub(crate) fn of_events(table: &Table) -> String {
    let named = table
        .fields
        .iter()
        .filter(|f| f.feature == Feature::Category)
        .find_map(|f| f.group.as_ref());
    named.unwrap_or(&table.name).clone()
}

/// The group of a field of an event table.
pub(crate) fn of_event_field(table: &Table, field: &Field) -> String {
    field.group.clone().unwrap_or_else(|| of_events(table))
}

/// The group of a value of a category of an event table.
pub(crate) fn of_event_value(table: &Table, field: &Field, value: &str) -> String {
    field
        .groups
        .get(value)
        .cloned()
        .unwrap_or_else(|| of_event_field(table, field))
}

/// The group of the order of steps in some event tables: that of their staged fields if they share
/// one.
pub(crate) fn of_order<'a>(tables: impl Iterator<Item = &'a Table>) -> String {
    let groups =
        tables.filter_map(|t| Some(of_event_field(t, t.field_at(t.staged.as_ref()?.field))));
    let groups: std::collections::BTreeSet<String> = groups.collect();
    match groups.len() {
        1 => groups.into_iter().next().expect("one group"),
        _ => ORDER.to_owned(),
    }
}

/// The group of the columns about a hub.
pub(crate) fn of_hub(catalog: &Catalog, hub: &Hub) -> String {
    hub.sources
        .iter()
        .find_map(|(t, f)| catalog.table_at(*t).field_at(*f).group.clone())
        .unwrap_or_else(|| PEERS.to_owned())
}

/// The group of a relation.
pub(crate) fn of_relation(relation: &Relation) -> String {
    relation.group.as_deref().unwrap_or(RELATIONS).to_owned()
}

/// The group of the outcome field of a table.
pub(crate) fn of_outcome(table: &Table, outcome: &OutcomeField) -> String {
    let field = table.field_at(outcome.field);
    if table.role == Role::Event {
        of_event_field(table, field)
    } else {
        own(field).to_owned()
    }
}

/// The group of the columns about a member table as a whole: counts and distinct values.
pub(crate) fn of_members(catalog: &Catalog, table: TableId) -> String {
    if is_person(catalog, table) {
        return COMMITTEE.to_owned();
    }
    let table = catalog.table_at(table);
    let named = table
        .fields
        .iter()
        .filter(|f| f.feature == Feature::Category)
        .find_map(|f| f.group.as_ref());
    named.unwrap_or(&table.name).clone()
}

/// True for the group of the people of a cell, of a table of people: it tells who takes part.
pub(crate) fn is_committee(catalog: &Catalog, table: &Table, group: &str) -> bool {
    table.role == Role::Member && group == COMMITTEE && is_person(catalog, table.id)
}

/// True if the rows of a member table are people. People have e-mail addresses. In a catalog
/// without addresses all members count as people, except those of tables with outcomes.
pub(crate) fn is_person(catalog: &Catalog, table: TableId) -> bool {
    let has_address = |t: &Table| t.fields.iter().any(|f| f.match_by == Some(MatchBy::Domain));
    let table = catalog.table_at(table);
    if catalog.members().any(has_address) {
        has_address(table)
    } else {
        table.outcome.is_none()
    }
}

/// The name of a group for people: `high_intent_content` → `High intent content`.
pub(crate) fn label(code: &str) -> String {
    let mut text = code.replace('_', " ");
    if let Some(first) = text.get_mut(0..1) {
        first.make_ascii_uppercase();
    }
    text
}
