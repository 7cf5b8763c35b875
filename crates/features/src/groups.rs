//! Which explanation group a number or a word belongs to. Columns and evidence ask here, so that they never disagree.

use leadpulse_schema::{
    Catalog, Feature, Field, Hub, MatchBy, OutcomeField, Relation, Role, Table, TableId,
};

/// The group of the season.
pub(crate) const SEASON: &str = "season";
/// Fields without a group.
const PROFILE: &str = "profile";
/// Who takes part.
const COMMITTEE: &str = "committee";
/// Hubs whose source has no group.
const PEERS: &str = "peers";
/// Relations without a group.
const RELATIONS: &str = "relations";
/// Steps that several groups share.
const ORDER: &str = "order";

fn own(field: &Field) -> &str {
    field.group.as_deref().unwrap_or(PROFILE)
}

/// A field of an entity table.
pub(crate) fn of_field(field: &Field) -> String {
    own(field).to_owned()
}

/// A value of a category or set of an entity table.
pub(crate) fn of_field_value(field: &Field, value: &str) -> String {
    field
        .groups
        .get(value)
        .map_or(own(field), String::as_str)
        .to_owned()
}

/// An event table: its first category with a group names it, else the table itself.
pub(crate) fn of_events(table: &Table) -> String {
    let named = table
        .fields
        .iter()
        .filter(|f| f.feature == Feature::Category)
        .find_map(|f| f.group.as_ref());
    named.unwrap_or(&table.name).clone()
}

/// A field of an event table.
pub(crate) fn of_event_field(table: &Table, field: &Field) -> String {
    field.group.clone().unwrap_or_else(|| of_events(table))
}

/// A value of a category of an event table.
pub(crate) fn of_event_value(table: &Table, field: &Field, value: &str) -> String {
    field
        .groups
        .get(value)
        .cloned()
        .unwrap_or_else(|| of_event_field(table, field))
}

/// The order of the steps of some event tables: the group of their staged fields if they share one.
pub(crate) fn of_order<'a>(tables: impl Iterator<Item = &'a Table>) -> String {
    let groups =
        tables.filter_map(|t| Some(of_event_field(t, t.field_at(t.staged.as_ref()?.field))));
    let groups: std::collections::BTreeSet<String> = groups.collect();
    match groups.len() {
        1 => groups.into_iter().next().expect("one group"),
        _ => ORDER.to_owned(),
    }
}

/// What other cells of a hub did.
pub(crate) fn of_hub(catalog: &Catalog, hub: &Hub) -> String {
    hub.sources
        .iter()
        .find_map(|(t, f)| catalog.table_at(*t).field_at(*f).group.clone())
        .unwrap_or_else(|| PEERS.to_owned())
}

/// A relation.
pub(crate) fn of_relation(relation: &Relation) -> String {
    relation.group.as_deref().unwrap_or(RELATIONS).to_owned()
}

/// The outcome field of a table.
pub(crate) fn of_outcome(table: &Table, outcome: &OutcomeField) -> String {
    let field = table.field_at(outcome.field);
    if table.role == Role::Event {
        of_event_field(table, field)
    } else {
        own(field).to_owned()
    }
}

/// How many members of a table there are, and how diverse they are.
pub(crate) fn of_members(catalog: &Catalog, table: &Table) -> String {
    if is_person(catalog, table.id) {
        return COMMITTEE.to_owned();
    }
    let named = table
        .fields
        .iter()
        .filter(|f| f.feature == Feature::Category)
        .find_map(|f| f.group.as_ref());
    named.unwrap_or(&table.name).clone()
}

/// Whether the rows of a member table are people. People have e-mail addresses; in a catalog without any, all members count as people
/// but those that are won or lost.
pub(crate) fn is_person(catalog: &Catalog, table: TableId) -> bool {
    let has_address = |t: &Table| t.fields.iter().any(|f| f.match_by == Some(MatchBy::Domain));
    let table = catalog.table_at(table);
    if catalog.members().any(has_address) {
        has_address(table)
    } else {
        table.outcome.is_none()
    }
}

/// `high_intent_content` → `High intent content`.
pub(crate) fn label(code: &str) -> String {
    let mut text = code.replace('_', " ");
    if let Some(first) = text.get_mut(0..1) {
        first.make_ascii_uppercase();
    }
    text
}
