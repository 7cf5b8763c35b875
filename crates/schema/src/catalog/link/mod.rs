//! Drafts become tables: annotations get their defaults, names become ids, and each field is checked against its Avro type.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::catalog::annotations::FieldAnnotation;
use crate::catalog::fault::{Faults, SchemaFault};
use crate::catalog::load::{Draft, DraftField};
use crate::catalog::shape::Shape;
use crate::catalog::{
    DataType, Feature, Field, FieldId, Hub, HubId, Meaning, OutcomeField, Reference, Relation,
    RelationId, RelationKind, Role, Staged, Table, TableId,
};

/// All hubs, by name: hub tables and names given by `"hub"`. A name that is a hub table's alias means that table.
fn hub_names(
    drafts: &[Draft],
    names: &FxHashMap<String, TableId>,
) -> BTreeMap<String, Option<TableId>> {
    let mut hubs = BTreeMap::new();
    for (i, draft) in drafts.iter().enumerate() {
        if Role::from(draft.annotation.role) == Role::Hub {
            hubs.insert(draft.annotation.table.clone(), Some(TableId(i as u16)));
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
        let key = only("key", draft, |a| a.key, &mut faults);
        let time = only("time", draft, |a| a.time, &mut faults);
        let changed_fields = only("changed_fields", draft, |a| a.changed_fields, &mut faults);
        let owners = self.owners(id, role, &fields);
        if draft.fully_read {
            if !draft.fields.iter().any(|f| f.annotation.key) {
                faults.record(
                    "has no key",
                    "mark the field that identifies a row with \"key\": true; an event needs an id too, to find duplicates",
                );
            }
            if role == Role::Event && !draft.fields.iter().any(|f| f.annotation.time) {
                faults.record(
                    "is an event without a time",
                    "mark the timestamp of when it happened with \"time\": true",
                );
            }
            if role == Role::Event && !draft.fields.iter().any(|f| f.annotation.owner) {
                faults.record(
                    "is an event without an owner",
                    "mark the reference to the entity it hangs on with \"owner\": true, as in {\"ref\": \"contacts\", \"owner\": true}",
                );
            }
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
            retraction: only("retraction", draft, |a| a.retraction, &mut faults),
            fields,
            key: key.unwrap_or(FieldId(0)),
            time,
            changed_fields,
            owners,
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

    fn field(
        &mut self,
        table: TableId,
        role: Role,
        id: FieldId,
        draft: &DraftField,
        faults: &mut Faults<'_>,
    ) -> Field {
        let name = &draft.name;
        let annotation = &draft.annotation;
        let reference = self.reference(table, role, name, annotation, faults);
        let Some((shape, nullable)) = draft.shape.clone() else {
            return unreadable_field(id, name, reference);
        };
        let identifies = annotation.key || annotation.reference.is_some();
        let data_type = match (&shape, identifies) {
            (Shape::Int | Shape::Long, true) => DataType::Text,
            _ => shape.data_type(),
        };
        let is_plain_reference =
            reference.is_some_and(|r| !r.owner && r.meaning == Meaning::Related) && !annotation.key;
        if identifies
            && data_type != DataType::Text
            && !(is_plain_reference && data_type == DataType::TextList)
        {
            faults.field(
                name,
                "is a key or reference, but not a string, uuid, int or long",
                "keys and references have one of these types; a reference that is no owner may also be an array of strings",
            );
        }
        if annotation.retraction && (data_type != DataType::Bool || role != Role::Event) {
            faults.field(
                name,
                "is marked retraction, but is not a boolean of an event table",
                "a boolean says whether the event is taken back; entities are deleted by a tombstone",
            );
        }
        if annotation.key && nullable {
            faults.field(
                name,
                "is the key, but may be null",
                "take null out of its type",
            );
        }
        if annotation.time && data_type != DataType::Time {
            faults.field(
                name,
                "is marked as the time, but is not a time",
                "use {\"type\": \"long\", \"logicalType\": \"timestamp-millis\"}",
            );
        }
        if annotation.changed_fields && data_type != DataType::TextList {
            faults.field(
                name,
                "is marked changed_fields, but is not an array of strings",
                "use {\"type\": \"array\", \"items\": \"string\"}",
            );
        }
        if annotation.changed_fields && role == Role::Event {
            faults.field(
                name,
                "is marked changed_fields, but events do not change",
                "remove it: only records of entities are versions",
            );
        }
        if annotation.is_static && role == Role::Event {
            faults.field(
                name,
                "is marked static, but events have no versions",
                "remove it: only fields of entities may be static",
            );
        }
        if annotation.match_by.is_some() && data_type != DataType::Text {
            faults.field(
                name,
                "is marked match, but is not a string",
                "match works on an e-mail address, a domain or a website",
            );
        }
        if annotation.label && !matches!(data_type, DataType::Text | DataType::Symbol(_)) {
            faults.field(
                name,
                "is marked label, but is not a string",
                "a label is text shown to people",
            );
        }
        let values = values(&shape, &data_type, name, annotation, faults);
        if annotation.ordinal && (values.len() < 2 || data_type == DataType::TextList) {
            faults.field(
                name,
                "is marked ordinal, but is not a category with declared values",
                "list its values in ascending order",
            );
        }
        for value in annotation.groups.keys().filter(|v| !values.contains(v)) {
            faults.field(
                name,
                format!("groups name the value '{value}', which it does not declare"),
                format!(
                    "declared values: {}",
                    if values.is_empty() {
                        "none".to_owned()
                    } else {
                        values.join(", ")
                    }
                ),
            );
        }
        let hub = self.hub((table, id), draft, &data_type, reference, faults);
        Field {
            id,
            name: name.clone(),
            feature: feature(&data_type, name, annotation, faults),
            data_type,
            nullable,
            reference,
            hub,
            values,
            is_static: annotation.is_static,
            ordinal: annotation.ordinal,
            group: annotation.group.clone(),
            groups: annotation.groups.clone(),
            match_by: annotation.match_by.map(Into::into),
            label: annotation.label,
        }
    }

    fn reference(
        &mut self,
        own: TableId,
        role: Role,
        name: &str,
        annotation: &FieldAnnotation,
        faults: &mut Faults<'_>,
    ) -> Option<Reference> {
        let meanings = [
            (annotation.became, Meaning::Became),
            (annotation.was, Meaning::Was),
            (annotation.previous, Meaning::Previous),
        ];
        let mut marked = meanings
            .into_iter()
            .filter_map(|(is_marked, meaning)| is_marked.then_some(meaning));
        let meaning = marked.next().unwrap_or_default();
        if marked.next().is_some() {
            faults.field(
                name,
                "is marked with more than one of became, was, previous",
                "a reference has one meaning: keep one",
            );
        }
        let Some(target_name) = &annotation.reference else {
            if meaning != Meaning::Related {
                faults.field(
                    name,
                    "is marked became, was or previous, but refers to nothing",
                    "add \"ref\": the table of the other row",
                );
            }
            if annotation.owner {
                faults.field(
                    name,
                    "is marked owner, but refers to nothing",
                    "add \"ref\": the table of the entity it belongs to",
                );
            }
            return None;
        };
        let Some(&table) = self.names.get(&target_name.to_lowercase()) else {
            if !self.may_be_broken(target_name) {
                let known: Vec<&str> = self
                    .drafts
                    .iter()
                    .map(|d| d.annotation.table.as_str())
                    .collect();
                faults.field(
                    name,
                    format!("refers to the table '{target_name}', which no file defines"),
                    format!("tables here: {}", known.join(", ")),
                );
            }
            self.every_reference_usable = false;
            return None;
        };
        match (self.role_of(table), annotation.owner) {
            (Role::Event, _) => {
                faults.field(
                    name,
                    format!("refers to '{target_name}', which is an event table"),
                    "events are not nodes: refer to the entity, and use {\"feature\": \"none\"} here",
                );
                self.every_reference_usable = false;
                return None;
            }
            (Role::Hub, true) => faults.field(
                name,
                format!("is marked owner, but '{target_name}' is a hub"),
                "a hub is shared and owns nothing: remove owner, and mark the reference to a root or member",
            ),
            (_, true) if matches!(role, Role::Root | Role::Hub) => {
                faults.field(
                    name,
                    "is marked owner, but its table belongs to nothing",
                    "only members and events have owners: remove owner",
                );
            }
            _ => {}
        }
        let is_node = |role| matches!(role, Role::Root | Role::Member);
        match meaning {
            Meaning::Became | Meaning::Was if !is_node(role) || !is_node(self.role_of(table)) => {
                faults.field(
                    name,
                    "is marked became or was, but does not connect two entities",
                    "it connects rows of root and member tables",
                );
            }
            Meaning::Became | Meaning::Was if self.role_of(table) != role => {
                faults.field(
                    name,
                    "is marked became or was between a root and a member",
                    "a root becomes a root, a member a member: use owner to say whose a member is",
                );
            }
            Meaning::Was if table == own => {
                faults.field(
                    name,
                    "is marked was, but refers to its own table",
                    "mark the merged row's reference with became",
                );
            }
            Meaning::Previous if role != Role::Member || self.role_of(table) != Role::Root => {
                faults.field(
                    name,
                    "is marked previous, but does not lead from a member to the root",
                    "previous names a former owner",
                );
            }
            _ => {}
        }
        if annotation.owner && meaning != Meaning::Related && meaning != Meaning::Became {
            faults.field(
                name,
                "is marked owner and was or previous",
                "an owner is the present one: keep one of the marks",
            );
        }
        Some(Reference {
            table,
            owner: annotation.owner,
            meaning,
        })
    }

    fn hub(
        &mut self,
        place: (TableId, FieldId),
        draft: &DraftField,
        data_type: &DataType,
        reference: Option<Reference>,
        faults: &mut Faults<'_>,
    ) -> Option<HubId> {
        let (name, annotation) = (&draft.name, &draft.annotation);
        let by_reference = reference
            .filter(|r| self.role_of(r.table) == Role::Hub)
            .map(|r| self.drafts[r.table.index()].annotation.table.clone());
        let hub_name = match (&annotation.hub, by_reference) {
            (None, referred) => referred?,
            (Some(_), _) if annotation.reference.is_some() => {
                faults.field(
                    name,
                    "has both ref and hub",
                    "a ref to a hub table is enough; hub promotes a category that refers to nothing",
                );
                return None;
            }
            (Some(promoted), _) => {
                if !matches!(
                    data_type,
                    DataType::Text | DataType::Symbol(_) | DataType::TextList
                ) || annotation.key
                {
                    faults.field(
                        name,
                        "is promoted to a hub, but is not a category or set",
                        "hub works on a string, an enum, or an array of them",
                    );
                    return None;
                }
                match self.names.get(&promoted.to_lowercase()) {
                    Some(&named) if self.role_of(named) != Role::Hub => {
                        faults.field(
                            name,
                            format!("names the hub '{promoted}', which is a table of another role"),
                            "choose another hub name, or give that table the role hub",
                        );
                        return None;
                    }
                    Some(&named) => self.drafts[named.index()].annotation.table.clone(),
                    None => promoted.clone(),
                }
            }
        };
        let id = self.hub_id(&hub_name)?;
        self.sources.entry(id).or_default().push(place);
        Some(id)
    }
}

/// Stands for a field whose type is not supported, so that the others keep their places; the catalog is never used.
fn unreadable_field(id: FieldId, name: &str, reference: Option<Reference>) -> Field {
    Field {
        id,
        name: name.to_owned(),
        data_type: DataType::Text,
        nullable: true,
        feature: Feature::None,
        reference,
        hub: None,
        values: Vec::new(),
        is_static: false,
        ordinal: false,
        group: None,
        groups: BTreeMap::new(),
        match_by: None,
        label: false,
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

fn values(
    shape: &Shape,
    data_type: &DataType,
    name: &str,
    annotation: &FieldAnnotation,
    faults: &mut Faults<'_>,
) -> Vec<String> {
    let symbols = shape.symbols().map(|s| &s.symbols);
    let Some(declared) = &annotation.values else {
        return symbols.cloned().unwrap_or_default();
    };
    if !matches!(
        data_type,
        DataType::Text | DataType::Symbol(_) | DataType::TextList
    ) || annotation.key
        || annotation.reference.is_some()
    {
        faults.field(
            name,
            "declares values, but is not text or an enum",
            "values are for categories and sets: remove them",
        );
        return Vec::new();
    }
    for (i, value) in declared.iter().enumerate() {
        if declared[..i].contains(value) {
            faults.field(
                name,
                format!("declares the value '{value}' twice"),
                "remove one",
            );
        }
        if symbols.is_some_and(|s| !s.contains(value)) {
            faults.field(
                name,
                format!("declares the value '{value}', which is not a symbol of its enum"),
                "add the symbol, or remove values: an enum's are its symbols",
            );
        }
    }
    declared.clone()
}

fn feature(
    data_type: &DataType,
    name: &str,
    annotation: &FieldAnnotation,
    faults: &mut Faults<'_>,
) -> Feature {
    let never = annotation.key
        || annotation.reference.is_some()
        || annotation.label
        || annotation.match_by.is_some()
        || annotation.time
        || annotation.retraction
        || annotation.changed_fields;
    let Some(declared) = annotation.feature.map(Feature::from) else {
        return match data_type {
            _ if never => Feature::None,
            DataType::Bool | DataType::Long | DataType::Double => Feature::Number,
            DataType::Symbol(_) | DataType::Text => Feature::Category,
            DataType::TextList => Feature::Set,
            DataType::Time => Feature::Time,
        };
    };
    if never && declared != Feature::None {
        faults.field(
            name,
            "is declared a feature, but keys, references, labels, matches and the time are none",
            "remove feature",
        );
    }
    let fits = match declared {
        Feature::None => true,
        Feature::Number => matches!(
            data_type,
            DataType::Bool | DataType::Long | DataType::Double
        ),
        Feature::Category => matches!(data_type, DataType::Text | DataType::Symbol(_)),
        Feature::Set => matches!(data_type, DataType::TextList),
        Feature::Text => matches!(data_type, DataType::Text),
        Feature::Time => matches!(data_type, DataType::Time),
    };
    if !fits && !never {
        let hint = "number: boolean, int, long, float, double, decimal; category: string, enum; set: array; text: string; time: timestamps, date";
        faults.field(
            name,
            format!(
                "cannot be the feature '{}' with its Avro type",
                format!("{declared:?}").to_lowercase()
            ),
            hint,
        );
    }
    declared
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
    })
}

/// Edges besides ownership and identity, by table and field.
pub(crate) fn relations(tables: &[Table]) -> Vec<Relation> {
    let mut relations = Vec::new();
    let is_node = |table: TableId| matches!(tables[table.index()].role, Role::Root | Role::Member);
    for table in tables.iter().filter(|t| t.role != Role::Hub) {
        let mut add = |name: String, kind, target, group: Option<String>| {
            let id = RelationId(relations.len() as u16);
            relations.push(Relation {
                id,
                name,
                kind,
                from: table.id,
                target,
                group,
            });
        };
        let mut previous = None;
        for field in &table.fields {
            let Some(reference) = field.reference.filter(|r| is_node(r.table)) else {
                continue;
            };
            let is_owner = reference.owner || table.owners.contains(&field.id);
            match reference.meaning {
                Meaning::Previous => previous = Some((reference.table, field.group.clone())),
                Meaning::Related if !is_owner => {
                    let kind = if table.role == Role::Event {
                        RelationKind::Mention(field.id)
                    } else {
                        RelationKind::Reference(field.id)
                    };
                    add(
                        format!("{}.{}", table.name, field.name),
                        kind,
                        reference.table,
                        field.group.clone(),
                    );
                }
                // A member that may be owned by a root may have been owned by another before.
                _ if is_owner
                    && table.role == Role::Member
                    && tables[reference.table.index()].role == Role::Root =>
                {
                    let group = previous
                        .as_ref()
                        .and_then(|(_, group): &(TableId, Option<String>)| group.clone());
                    previous = Some((reference.table, group.or_else(|| field.group.clone())));
                }
                _ => {}
            }
        }
        if let Some((target, group)) = previous {
            add(
                format!("{}/previous", table.name),
                RelationKind::Previous,
                target,
                group,
            );
        }
    }
    relations
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
