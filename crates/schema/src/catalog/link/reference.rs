//! References and hubs: names in annotations become ids of tables and hubs.

use super::Linker;
use crate::catalog::annotations::FieldAnnotation;
use crate::catalog::fault::Faults;
use crate::catalog::load::DraftField;
use crate::catalog::{DataType, FieldId, HubId, Meaning, Reference, Role, TableId};

impl Linker<'_> {
    /// The row that a field refers to; `None` when it refers to none, or to none that can be referred to.
    pub(super) fn reference(
        &mut self,
        role: Role,
        name: &str,
        annotation: &FieldAnnotation,
        faults: &mut Faults<'_>,
    ) -> Option<Reference> {
        let meaning = meaning(name, annotation, faults);
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
        let table = self.referred_table(target_name, role, name, annotation, faults)?;
        if let Some((message, hint)) = self.misplaced_meaning(meaning, role, table) {
            faults.field(name, message, hint);
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

    /// The table that a reference names, unless it cannot be referred to.
    fn referred_table(
        &mut self,
        target_name: &str,
        role: Role,
        name: &str,
        annotation: &FieldAnnotation,
        faults: &mut Faults<'_>,
    ) -> Option<TableId> {
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
            (Role::Override | Role::Feedback | Role::Erasure, _) => {
                faults.field(
                    name,
                    format!("refers to '{target_name}', whose rows are what people say"),
                    "such rows are no nodes: refer to the entity that they are about",
                );
                self.every_reference_usable = false;
                return None;
            }
            (Role::Hub, true) => faults.field(
                name,
                format!("is marked owner, but '{target_name}' is a hub"),
                "a hub is shared and owns nothing: remove owner, and mark the reference to a root or member",
            ),
            (Role::Staff, true) => faults.field(
                name,
                format!("is marked owner, but '{target_name}' is a staff table"),
                "a person of the own company owns no rows of the graph: remove owner; the reference alone assigns the row",
            ),
            (_, true) if matches!(role, Role::Root | Role::Hub | Role::Staff | Role::Feedback) => {
                faults.field(
                    name,
                    "is marked owner, but its table belongs to nothing",
                    "only members, events, overrides and erasures have owners: remove owner",
                );
            }
            _ => {}
        }
        Some(table)
    }

    /// The fault of a meaning that a reference to `table` cannot have, with the correction.
    fn misplaced_meaning(
        &self,
        meaning: Meaning,
        role: Role,
        table: TableId,
    ) -> Option<(&'static str, &'static str)> {
        let referred_role = self.role_of(table);
        let is_node = |role| matches!(role, Role::Root | Role::Member);
        match meaning {
            Meaning::Became | Meaning::Was if !is_node(role) || !is_node(referred_role) => Some((
                "is marked became or was, but does not connect two entities",
                "it connects rows of root and member tables",
            )),
            Meaning::Became | Meaning::Was if referred_role != role => Some((
                "is marked became or was between a root and a member",
                "a root becomes a root, a member a member: use owner to say whose a member is",
            )),
            Meaning::Previous if role != Role::Member || referred_role != Role::Root => Some((
                "is marked previous, but does not lead from a member to the root",
                "previous names a former owner",
            )),
            _ => None,
        }
    }

    /// The hub that a field's values name: a hub table it refers to, or the name it is promoted with.
    pub(super) fn hub(
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

/// The meaning that a field's marks give to its reference; more than one mark is reported.
fn meaning(name: &str, annotation: &FieldAnnotation, faults: &mut Faults<'_>) -> Meaning {
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
    meaning
}
