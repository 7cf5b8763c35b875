//! Records that carry only what changed: the source's names of the changed fields, or bitmaps over
//! its schema, become the table's fields.

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::plan::RowPlan;
#[cfg(test)]
use crate::avro::program::FieldTarget;
use crate::avro::program::targets;
use crate::catalog::{FieldId, Table};
use crate::row::{RowBuilder, Value};

/// The fields of a writer's record in their order, with those of nested records: what a bitmap
/// counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct FieldOrder(pub(crate) Vec<(Box<str>, FieldOrder)>);

/// The meaning of a source's field names for the fields of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct ChangeNames {
    by_name: FxHashMap<Box<str>, SmallVec<[u16; 1]>>,
    /// Configured paths that lead into a member: path and field.
    nested: Vec<(Box<str>, u16)>,
    /// Further names that the writer has.
    order: FieldOrder,
}

/// The fields that a record changes, by index, and names that nothing explains.
#[derive(Debug, PartialEq)]
pub(crate) struct ChangedFields {
    pub(crate) is_changed: Vec<bool>,
    pub(crate) unknown: Vec<String>,
}

impl ChangeNames {
    /// The names of a plan.
    pub(crate) fn of(plan: &RowPlan) -> Self {
        let mut names = ChangeNames::default();
        for (name, fields) in &plan.by_name {
            let fields = fields.iter().map(|(field, _)| *field);
            names.by_name.insert(name.clone(), fields.collect());
        }
        for (index, paths) in plan.mapped.iter().enumerate() {
            for path in paths {
                names.map(path.as_str(), index as u16);
            }
        }
        names
    }

    /// The same names, for writers whose records have these fields.
    pub(crate) fn with_order(self, order: FieldOrder) -> Self {
        ChangeNames { order, ..self }
    }

    /// The names of a table whose writers are read as they are.
    pub(crate) fn of_table(table: &Table) -> Self {
        let mut names = ChangeNames::default();
        for (field, target) in table.fields.iter().zip(targets(table)) {
            for name in target.aliases.iter().chain([&field.name]) {
                names.map(name, field.id.0);
            }
        }
        names
    }

    fn map(&mut self, path: &str, field: u16) {
        self.by_name.entry(path.into()).or_default().push(field);
        if path.contains('.') {
            self.nested.push((path.into(), field));
        }
    }

    /// The fields that `names` mean. `is_member` says whether the record has a member of a name:
    /// such a name is understood, though no field comes from it.
    ///
    /// # Errors
    /// The words for a person: a bitmap that no schema explains, or not one name that is
    /// understood.
    pub(crate) fn changed<'t>(
        &self,
        names: impl IntoIterator<Item = &'t str>,
        fields: usize,
        is_member: impl Fn(&str) -> bool,
    ) -> Result<ChangedFields, String> {
        let mut found = ChangedFields {
            is_changed: vec![false; fields],
            unknown: Vec::new(),
        };
        let mut understood = 0;
        for name in names {
            let mut expanded = Vec::new();
            if is_bitmap(name) {
                expand(name, &self.order, "", &mut expanded)?;
                understood += 1;
            } else {
                expanded.push(name.to_owned());
            }
            for name in &expanded {
                if self.mark(name, &mut found.is_changed) || self.is_of_writer(name, &is_member) {
                    understood += 1;
                } else {
                    found.unknown.push(name.clone());
                }
            }
        }
        if understood == 0 && !found.unknown.is_empty() {
            return Err(format!(
                "it names changed fields ({}) that are neither the table's nor the record's; map them with \
                 columns in its source",
                found.unknown.join(", ")
            ));
        }
        Ok(found)
    }

    /// Marks the fields that come from a name, or from members of it.
    fn mark(&self, name: &str, is_changed: &mut [bool]) -> bool {
        let mut is_known = false;
        for field in self.by_name.get(name).into_iter().flatten() {
            is_changed[usize::from(*field)] = true;
            is_known = true;
        }
        for (path, field) in &self.nested {
            let inner = path.strip_prefix(name);
            if inner.is_some_and(|inner| inner.starts_with('.')) {
                is_changed[usize::from(*field)] = true;
                is_known = true;
            }
        }
        is_known
    }

    fn is_of_writer(&self, name: &str, is_member: impl Fn(&str) -> bool) -> bool {
        let first = name.split('.').next().unwrap_or(name);
        is_member(name)
            || is_member(first)
            || self
                .order
                .0
                .iter()
                .any(|(known, _)| **known == *name || **known == *first)
    }

    /// Gives the list of a row's changed fields the table's names, and marks the other fields as
    /// unchanged. An empty list is none: the record is the whole row.
    ///
    /// # Errors
    /// As [`Self::changed`].
    pub(crate) fn settle(
        &self,
        table: &Table,
        field: FieldId,
        builder: &mut RowBuilder<'_>,
        is_member: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, String> {
        let Value::List(list) = builder.get(field) else {
            return Ok(Vec::new());
        };
        let names: Vec<String> = list.iter().map(str::to_owned).collect();
        if names.is_empty() {
            builder.set(field, Value::Null);
            return Ok(Vec::new());
        }
        let names = names.iter().map(String::as_str);
        let mut changed = self.changed(names, table.fields.len(), is_member)?;
        if table.rates.is_some() {
            // An amount is converted, so the currency that its record carries belongs to it.
            for (amount, currency) in table.amounts() {
                let is_carried = builder.get(currency) != Value::Null;
                if changed.is_changed[amount.id.index()] && is_carried {
                    changed.is_changed[currency.index()] = true;
                }
            }
        }
        let own = [Some(table.key), table.time, table.version, Some(field)];
        let is_kept = |id: FieldId| own.contains(&Some(id));
        let mut translated: Vec<&str> = Vec::new();
        for other in &table.fields {
            if changed.is_changed[other.id.index()] {
                translated.push(&other.name);
            } else if !is_kept(other.id) {
                builder.set_unchanged(other.id);
            }
        }
        builder.set_list(field, translated);
        Ok(changed.unknown)
    }
}

/// True for `0x…` and for `2-0x…`, a bitmap over the fields of the record in field 2.
fn is_bitmap(name: &str) -> bool {
    let (place, bits) = name.rsplit_once('-').unwrap_or(("0", name));
    let is_place = place
        .split('-')
        .all(|part| !part.is_empty() && part.bytes().all(|digit| digit.is_ascii_digit()));
    let digits = bits.strip_prefix("0x").or_else(|| bits.strip_prefix("0X"));
    let is_hex = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_place && digits.is_some_and(|digits| !digits.is_empty() && is_hex(digits))
}

/// Appends the names that a bitmap sets; the lowest bit is the first field.
fn expand(
    bitmap: &str,
    order: &FieldOrder,
    prefix: &str,
    names: &mut Vec<String>,
) -> Result<(), String> {
    let fault = || {
        format!(
            "its changed fields are the bitmap {bitmap}, which only counts fields: read the topic as Avro \
             with its schema, or have the connector write names"
        )
    };
    if let Some((place, rest)) = bitmap.split_once('-') {
        let place = place
            .parse::<usize>()
            .ok()
            .and_then(|place| order.0.get(place));
        let (name, inner) = place.ok_or_else(fault)?;
        return expand(rest, inner, &format!("{prefix}{name}."), names);
    }
    let digits = bitmap.get(2..).unwrap_or_default();
    for (position, digit) in digits.chars().rev().enumerate() {
        let bits = digit.to_digit(16).ok_or_else(fault)?;
        for bit in (0..4).filter(|bit| bits >> bit & 1 == 1) {
            let (name, _) = order.0.get(position * 4 + bit).ok_or_else(fault)?;
            names.push(format!("{prefix}{name}"));
        }
    }
    Ok(())
}

/// The fields of `targets`' table that are read from one of `names`.
#[cfg(test)]
fn names_of(changed: &ChangedFields, targets: &[FieldTarget]) -> Vec<u16> {
    let pairs = changed.is_changed.iter().zip(targets);
    pairs
        .filter(|(is_changed, _)| **is_changed)
        .map(|(_, target)| target.field.0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Catalog;
    use crate::shape::SourceShape;
    use crate::shape::moment::BareNumbers;

    const DEALS: &str = r#"{"type":"record","name":"Deal","leadpulse":{"table":"deals","role":"root"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"stage","type":["null","string"],"default":null},
      {"name":"amount","aliases":["Amount"],"type":["null","double"],"default":null},
      {"name":"city","type":["null","string"],"default":null}]}"#;

    fn names() -> (ChangeNames, Vec<FieldTarget>) {
        let calls = r#"{"type":"record","name":"Call","leadpulse":{"table":"calls","role":"event"},"fields":[
          {"name":"id","type":"string","leadpulse":{"key":true}},
          {"name":"deal","type":"string","leadpulse":{"ref":"deals","owner":true}},
          {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}}]}"#;
        let catalog = Catalog::from_json(&[("deals.avsc", DEALS), ("calls.avsc", calls)]).unwrap();
        let table = catalog.table("deals").unwrap().id;
        let shape: SourceShape =
            serde_json::from_str(r#"{"columns":{"StageName":"stage","Address.City":"city"}}"#)
                .unwrap();
        let plan = RowPlan::new(&shape, &catalog, table, BareNumbers::Refused, None).unwrap();
        let field = |name: &str| (name.into(), FieldOrder::default());
        let mut names = ChangeNames::of(&plan);
        names.order = FieldOrder(vec![
            field("Header"),
            field("StageName"),
            (
                "Address".into(),
                FieldOrder(vec![field("Street"), field("City")]),
            ),
            field("Other"),
            field("Amount"),
        ]);
        (names, plan.targets)
    }

    #[test]
    fn names_and_bitmaps_of_the_source_mean_fields_of_the_table() {
        let (names, targets) = names();
        let cases: [(&[&str], &[u16]); 8] = [
            (&["StageName", "LastModifiedDate"], &[1]),
            (&["amount"], &[2]),
            (&["Amount", "Address.City"], &[2, 3]),
            (&["Address"], &[3]),
            (&["Other"], &[]),
            (&["0x2"], &[1]),
            (&["0x12", "2-0x2"], &[1, 2, 3]),
            (&["0x8", "2-0x1"], &[]),
        ];
        for (given, expected) in cases {
            let changed = names.changed(given.iter().copied(), 4, |_| false).unwrap();
            assert_eq!(names_of(&changed, &targets), expected, "{given:?}");
        }
        let changed = names.changed(["StageName", "Gone"], 4, |_| false).unwrap();
        assert_eq!(changed.unknown, ["Gone"]);
        let member = names.changed(["Gone"], 4, |name| name == "Gone").unwrap();
        assert!(member.unknown.is_empty());
    }

    #[test]
    fn changes_that_nothing_explains_are_refused() {
        let (mut names, _) = names();
        for given in ["Stage Name", "0x20", "9-0x1", "1-0x1"] {
            assert!(names.changed([given], 4, |_| false).is_err(), "{given}");
        }
        names.order = FieldOrder::default();
        let why = names.changed(["0x400040"], 4, |_| false).unwrap_err();
        assert!(why.contains("bitmap 0x400040"), "{why}");
    }
}
