//! Fields: annotations get their defaults, and are checked against the field's Avro type and its table's role.

use std::collections::BTreeMap;

use super::Linker;
use crate::catalog::annotations::FieldAnnotation;
use crate::catalog::fault::Faults;
use crate::catalog::load::DraftField;
use crate::catalog::shape::Shape;
use crate::catalog::{DataType, Feature, Field, FieldId, Meaning, Reference, Role, TableId};

impl Linker<'_> {
    /// The field with its defaults filled in; marks that do not fit the field are reported.
    pub(super) fn field(
        &mut self,
        table: TableId,
        role: Role,
        id: FieldId,
        draft: &DraftField,
        faults: &mut Faults<'_>,
    ) -> Field {
        let name = &draft.name;
        let annotation = &draft.annotation;
        let reference = self.reference(role, name, annotation, faults);
        let Some((shape, nullable)) = draft.shape.clone() else {
            return unreadable_field(id, name, reference);
        };
        let identifies = annotation.key || annotation.reference.is_some();
        let data_type = match (&shape, identifies) {
            (Shape::Int | Shape::Long, true) => DataType::Text,
            _ => shape.data_type(),
        };
        let marked = MarkedField {
            annotation,
            role,
            reference,
            data_type: &data_type,
            nullable,
        };
        for (message, hint) in marked.misplaced() {
            faults.field(name, message, hint);
        }
        let values = values(&shape, &data_type, name, annotation, faults);
        check_values(&values, &data_type, name, annotation, faults);
        let hub = match role.is_learned() {
            true => self.hub((table, id), draft, &data_type, reference, faults),
            false => None,
        };
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
            normalise: annotation.normalise.clone(),
            currency: None,
        }
    }
}

/// A field with its marks, before the marks are checked against its type and its table's role.
struct MarkedField<'a> {
    annotation: &'a FieldAnnotation,
    role: Role,
    reference: Option<Reference>,
    data_type: &'a DataType,
    nullable: bool,
}

impl MarkedField<'_> {
    /// The faults of misplaced marks, each with the correction.
    fn misplaced(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let marks = self.annotation;
        let rules = [
            (
                self.identifies_by_another_type(),
                "is a key or reference, but not a string, uuid, int or long",
                "keys and references have one of these types; a reference that is no owner may also be an array of strings",
            ),
            (
                marks.retraction && (*self.data_type != DataType::Bool || self.role != Role::Event),
                "is marked retraction, but is not a boolean of an event table",
                "a boolean says whether the event is taken back; entities are deleted by a tombstone",
            ),
            (
                marks.deleted
                    && (*self.data_type != DataType::Bool
                        || !matches!(self.role, Role::Root | Role::Member)),
                "is marked deleted, but is not a boolean of a root or member table",
                "a boolean says that the entity ends; an event is taken back by a boolean marked retraction",
            ),
            (
                marks.active && (*self.data_type != DataType::Bool || self.role != Role::Staff),
                "is marked active, but is not a boolean of a staff table",
                "a boolean says whether rows may be assigned to a person of the own company",
            ),
            (
                marks.territory
                    && (!matches!(self.data_type, DataType::Text | DataType::Symbol(_))
                        || !matches!(self.role, Role::Root | Role::Staff)),
                "is marked territory, but is not text of the root or of a staff table",
                "a root lies in the territory that a person of the same text covers",
            ),
            (
                marks.key && self.nullable,
                "is the key, but may be null",
                "take null out of its type",
            ),
            (
                marks.time && *self.data_type != DataType::Time,
                "is marked as the time, but is not a time",
                "use {\"type\": \"long\", \"logicalType\": \"timestamp-millis\"}",
            ),
            (
                marks.changed_fields && *self.data_type != DataType::TextList,
                "is marked changed_fields, but is not an array of strings",
                "use {\"type\": \"array\", \"items\": \"string\"}",
            ),
            (
                marks.changed_fields && (self.role == Role::Event || !self.role.is_learned()),
                "is marked changed_fields, but rows of its table do not change",
                "remove it: only records of entities are versions",
            ),
            (
                marks.version && !self.is_ordered(),
                "is marked version, but has no order",
                "a version is a number, a time, or text: digits, moments, or what is ordered byte by byte",
            ),
            (
                marks.version && !matches!(self.role, Role::Root | Role::Member | Role::Hub),
                "is marked version, but rows of its table have no versions",
                "remove it: only rows of root, member and hub tables replace each other",
            ),
            (
                marks.is_static && self.role == Role::Event,
                "is marked static, but events have no versions",
                "remove it: only fields of entities may be static",
            ),
            (
                marks.match_by.is_some() && *self.data_type != DataType::Text,
                "is marked match, but is not a string",
                "match works on an e-mail address, a domain or a website",
            ),
            (
                !marks.normalise.is_empty() && !marks.key && marks.reference.is_none(),
                "is marked normalise, but is no key and no reference",
                "remove it: only what rows are found by needs one spelling",
            ),
            (
                marks.label && !matches!(self.data_type, DataType::Text | DataType::Symbol(_)),
                "is marked label, but is not a string",
                "a label is text shown to people",
            ),
        ];
        let broken = rules.into_iter().filter(|(is_broken, ..)| *is_broken);
        broken.map(|(_, message, hint)| (message, hint))
    }

    /// Whether values of the field can say which of two rows is newer.
    fn is_ordered(&self) -> bool {
        let marks = self.annotation;
        let is_ordered = matches!(
            self.data_type,
            DataType::Long | DataType::Double | DataType::Time | DataType::Text
        );
        is_ordered && !marks.key && marks.reference.is_none()
    }

    /// Whether a key or reference has a type other than text; a plain reference may be a list of texts.
    fn identifies_by_another_type(&self) -> bool {
        let marks = self.annotation;
        let identifies = marks.key || marks.reference.is_some();
        let is_plain = self
            .reference
            .is_some_and(|r| !r.owner && matches!(r.meaning, Meaning::Related | Meaning::Was))
            && !marks.key;
        identifies
            && *self.data_type != DataType::Text
            && !(is_plain && *self.data_type == DataType::TextList)
    }
}

/// Reports an order or groups of values that the field does not declare.
fn check_values(
    values: &[String],
    data_type: &DataType,
    name: &str,
    annotation: &FieldAnnotation,
    faults: &mut Faults<'_>,
) {
    if annotation.ordinal && (values.len() < 2 || *data_type == DataType::TextList) {
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
        normalise: Vec::new(),
        currency: None,
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
        || annotation.version
        || annotation.deleted
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
            "is declared a feature, but keys, references, labels, matches, the version and the time are none",
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
