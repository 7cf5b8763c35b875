//! Drafts become tables: annotations get their defaults, names become ids, and each field is checked against its Avro type.

mod engagement;
mod field;
mod reference;
mod relations;
mod said;

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::catalog::annotations::FieldAnnotation;
use crate::catalog::fault::{Faults, SchemaFault};
use crate::catalog::load::Draft;
use crate::catalog::{
    DataType, Field, FieldId, Hub, HubId, Meaning, OutcomeField, Role, Staged, Table, TableId,
};

use engagement::{bursts, not_engagement};
pub(crate) use relations::relations;
use said::{erasure_fields, feedback_fields, override_fields};

/// All hubs, by name: hub tables and names given by `"hub"`. A name that is a hub table's alias means that table.
fn hub_names(
    drafts: &[Draft],
    names: &FxHashMap<String, TableId>,
) -> BTreeMap<String, Option<TableId>> {
    let mut hubs = BTreeMap::new();
    for (i, draft) in drafts.iter().enumerate() {
        let role = Role::from(draft.annotation.role);
        if role == Role::Hub {
            hubs.insert(draft.annotation.table.clone(), Some(TableId(i as u16)));
        }
        if !role.is_learned() {
            continue;
        }
        for field in &draft.fields {
            if let Some(hub) = &field.annotation.hub
                && !names.contains_key(&hub.to_lowercase())
            {
                hubs.entry(hub.clone()).or_insert(None);
            }
        }
    }
    hubs
}

/// Connects drafts by name: references, hubs, owners.
pub(crate) struct Linker<'a> {
    names: &'a FxHashMap<String, TableId>,
    broken: &'a [Vec<String>],
    drafts: &'a [Draft],
    hubs: BTreeMap<String, Option<TableId>>,
    sources: BTreeMap<HubId, Vec<(TableId, FieldId)>>,
    /// No reference names a table that is not there or cannot be referred to.
    pub(crate) every_reference_usable: bool,
}

impl<'a> Linker<'a> {
    pub(crate) fn new(
        names: &'a FxHashMap<String, TableId>,
        broken: &'a [Vec<String>],
        drafts: &'a [Draft],
    ) -> Self {
        Linker {
            names,
            broken,
            drafts,
            hubs: hub_names(drafts, names),
            sources: BTreeMap::new(),
            every_reference_usable: true,
        }
    }

    /// The hubs, once all tables are linked.
    pub(crate) fn finish(self) -> Vec<Hub> {
        let mut sources = self.sources;
        let hub = |(i, (name, table))| {
            let id = HubId(i as u16);
            Hub {
                id,
                name,
                table,
                sources: sources.remove(&id).unwrap_or_default(),
            }
        };
        self.hubs.into_iter().enumerate().map(hub).collect()
    }

    fn hub_id(&self, name: &str) -> Option<HubId> {
        self.hubs
            .keys()
            .position(|n| n == name)
            .map(|i| HubId(i as u16))
    }

    /// Whether a file that could not be read may define the table.
    fn may_be_broken(&self, name: &str) -> bool {
        self.broken
            .iter()
            .any(|names| names.is_empty() || names.iter().any(|n| n.eq_ignore_ascii_case(name)))
    }

    fn role_of(&self, table: TableId) -> Role {
        self.drafts[table.index()].annotation.role.into()
    }

    /// The table. When faults are reported the catalog is thrown away, but its owners are still checked for cycles.
    pub(crate) fn table(
        &mut self,
        id: TableId,
        draft: &Draft,
        list: &mut Vec<SchemaFault>,
    ) -> Table {
        let mut faults = Faults {
            list,
            file: &draft.file,
            record: &draft.record,
        };
        let role = Role::from(draft.annotation.role);
        let fields: Vec<Field> = draft
            .fields
            .iter()
            .enumerate()
            .map(|(i, field)| self.field(id, role, FieldId(i as u16), field, &mut faults))
            .collect();
        let fields = with_currencies(draft, fields, &mut faults);
        let key = only("key", draft, |a| a.key, &mut faults);
        let time = only("time", draft, |a| a.time, &mut faults);
        let changed_fields = only("changed_fields", draft, |a| a.changed_fields, &mut faults);
        let version = only("version", draft, |a| a.version, &mut faults);
        let owners = self.owners(id, role, &fields);
        if draft.fully_read {
            missing_marks(draft, role, &mut faults);
        }
        Table {
            id,
            name: draft.annotation.table.clone(),
            aliases: draft
                .annotation
                .aliases
                .iter()
                .map(|a| a.to_lowercase())
                .collect(),
            role,
            staged: staged(draft, role, &fields, &mut faults),
            outcome: outcome(draft, role, &fields, &mut faults),
            not_engagement: not_engagement(draft, role, &fields, &mut faults),
            bursts: bursts(draft, role, &fields, &mut faults),
            deleted: only("deleted", draft, |a| a.deleted, &mut faults),
            active: only("active", draft, |a| a.active, &mut faults),
            territory: only("territory", draft, |a| a.territory, &mut faults),
            retraction: only("retraction", draft, |a| a.retraction, &mut faults),
            overrides: override_fields(draft, role, &fields, &mut faults),
            feedback: feedback_fields(draft, role, &fields, &mut faults),
            erasure: erasure_fields(draft, role, &fields, &mut faults),
            fields,
            key: key.unwrap_or(FieldId(0)),
            time,
            changed_fields,
            version,
            owners,
            rates: None,
            json: draft.json.clone(),
            avro: draft.avro.clone(),
        }
    }

    fn owners(&self, id: TableId, role: Role, fields: &[Field]) -> Vec<FieldId> {
        let marked: Vec<FieldId> = fields
            .iter()
            .filter(|f| f.reference.is_some_and(|r| r.owner))
            .map(|f| f.id)
            .collect();
        if role != Role::Member || !marked.is_empty() {
            return marked;
        }
        let leads_home = |f: &&Field| {
            f.data_type != DataType::TextList
                && f.reference.is_some_and(|r| {
                    r.table != id
                        && r.meaning == Meaning::Related
                        && matches!(self.role_of(r.table), Role::Root | Role::Member)
                })
        };
        fields.iter().filter(leads_home).map(|f| f.id).collect()
    }
}

/// The one field with a mark; two are a fault.
fn only(
    mark: &str,
    draft: &Draft,
    has: impl Fn(&FieldAnnotation) -> bool,
    faults: &mut Faults<'_>,
) -> Option<FieldId> {
    let marked: Vec<usize> = (0..draft.fields.len())
        .filter(|i| has(&draft.fields[*i].annotation))
        .collect();
    for second in marked.iter().skip(1) {
        let first = &draft.fields[marked[0]].name;
        faults.field(
            &draft.fields[*second].name,
            format!("is marked {mark}, but so is '{first}'"),
            format!("one field of a table may be marked {mark}"),
        );
    }
    match marked[..] {
        [one] => Some(FieldId(one as u16)),
        _ => None,
    }
}

fn outcome(
    draft: &Draft,
    role: Role,
    fields: &[Field],
    faults: &mut Faults<'_>,
) -> Option<OutcomeField> {
    let outcome = draft.annotation.outcome.as_ref()?;
    if !matches!(role, Role::Event | Role::Member) {
        faults.record(
            "declares an outcome, but is neither an event nor a member table",
            "deals are members, their ends events",
        );
    }
    if !draft.fields.iter().any(|f| f.name == outcome.field) {
        faults.record(
            format!(
                "its outcome names the field '{}', which it does not have",
                outcome.field
            ),
            "name the field that says how it ended",
        );
    }
    let field = fields.iter().find(|f| f.name == outcome.field)?;
    if !matches!(field.data_type, DataType::Text | DataType::Symbol(_)) {
        faults.field(
            &field.name,
            "is the field of the outcome, but is not text or an enum",
            "the outcome looks up its value",
        );
        return None;
    }
    if outcome.won.is_empty() {
        faults.field(
            &field.name,
            "an outcome without won",
            "name at least one value that ends a deal well",
        );
    }
    for value in outcome.won.iter().chain(&outcome.lost) {
        if !field.values.contains(value) {
            faults.field(
                &field.name,
                format!("the outcome names the value '{value}', which it does not declare"),
                "list it in \"values\", so that it has a slot of its own",
            );
        }
    }
    if let Some(both) = outcome.won.iter().find(|v| outcome.lost.contains(v)) {
        faults.field(
            &field.name,
            format!("'{both}' is both won and lost"),
            "keep one",
        );
    }
    Some(OutcomeField {
        field: field.id,
        won: outcome.won.clone(),
        lost: outcome.lost.clone(),
        verdict: outcome.verdict.into(),
    })
}

/// Connects amounts with the fields of their currencies.
fn with_currencies(draft: &Draft, mut fields: Vec<Field>, faults: &mut Faults<'_>) -> Vec<Field> {
    for (index, field) in draft.fields.iter().enumerate() {
        let Some(currency) = &field.annotation.currency else {
            continue;
        };
        if fields[index].data_type != DataType::Double {
            faults.field(
                &field.name,
                "names its currency, but is not a double, float or decimal",
                "a converted amount has a fraction: make its type double",
            );
        }
        let found = fields.iter().find(|f| f.name == *currency);
        let Some(found) = found.filter(|found| found.data_type == DataType::Text) else {
            faults.field(
                &field.name,
                format!(
                    "its currency is in the field '{currency}', which is no text of this table"
                ),
                "name the string field with the code of the currency",
            );
            continue;
        };
        fields[index].currency = Some(found.id);
    }
    fields
}

/// Reports the marks that a table of its role cannot do without.
fn missing_marks(draft: &Draft, role: Role, faults: &mut Faults<'_>) {
    let has = |mark: fn(&FieldAnnotation) -> bool| draft.fields.iter().any(|f| mark(&f.annotation));
    if !has(|a| a.key) {
        faults.record(
            "has no key",
            "mark the field that identifies a row with \"key\": true; an event needs an id too, to find duplicates",
        );
    }
    if role == Role::Event && !has(|a| a.time) {
        faults.record(
            "is an event without a time",
            "mark the timestamp of when it happened with \"time\": true",
        );
    }
    if !role.is_learned() && !has(|a| a.time) {
        faults.record(
            format!("is a table of the role {} without a time", role.name()),
            "mark the timestamp of when it was said with \"time\": true: of several rows about one matter the newest counts",
        );
    }
    if role == Role::Event && !has(|a| a.owner) {
        faults.record(
            "is an event without an owner",
            "mark the reference to the entity it hangs on with \"owner\": true, as in {\"ref\": \"contacts\", \"owner\": true}",
        );
    }
}

fn staged(draft: &Draft, role: Role, fields: &[Field], faults: &mut Faults<'_>) -> Option<Staged> {
    let stages = draft.annotation.stages.as_ref()?;
    if role != Role::Event {
        faults.record(
            "declares stages, but is not an event table",
            "the order of events is learned from event tables: remove stages",
        );
    }
    if !draft.fields.iter().any(|f| f.name == stages.field) {
        faults.record(
            format!(
                "its stages name the field '{}', which it does not have",
                stages.field
            ),
            "name the field that says what kind of event it is",
        );
    }
    let field = fields.iter().find(|f| f.name == stages.field)?;
    if !matches!(field.data_type, DataType::Text | DataType::Symbol(_)) {
        faults.field(
            &field.name,
            "is the field of stages, but is not text or an enum",
            "stages look up its value",
        );
        return None;
    }
    for (value, stage) in &stages.order {
        if !field.values.is_empty() && !field.values.contains(value) {
            faults.field(
                &field.name,
                format!("stages name the value '{value}', which it cannot have"),
                format!("its values: {}", field.values.join(", ")),
            );
        }
        if *stage == 0 {
            faults.field(
                &field.name,
                format!("stage 0 for '{value}'"),
                "stages count from 1",
            );
        }
    }
    if stages.order.is_empty() {
        faults.field(
            &field.name,
            "stages without order",
            "give each value a stage, as in {\"blog\": 1, \"pricing\": 2}",
        );
    }
    Some(Staged {
        field: field.id,
        stages: stages.order.clone(),
    })
}
