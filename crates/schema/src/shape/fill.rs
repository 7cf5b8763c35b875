//! A record's values are laid into a row of the table.

use smallvec::{SmallVec, smallvec};

use super::changes::ChangeNames;
use super::data_node::DataNode;
use super::envelope::EnvelopePlan;
use super::fit::FitReport;
use super::made_key::{MadeKey, PART_NEEDED, key_of_parts, part_text, row_hash};
use super::path::FieldPath;
use super::plan::RowPlan;
use super::value::{set_absent, set_node};
use crate::admit::{RowRefusal, admit, normalise, normalise_field};
use crate::catalog::{FieldId, Table};
use crate::money::UnknownCurrency;
use crate::row::{RowBuilder, Value};

/// A value that is not a field's.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FieldFault {
    /// The table's field; empty for the record.
    pub(crate) field: String,
    /// The value, for files; never for dead letters.
    pub(crate) value: String,
    /// The value that was expected instead.
    pub(crate) expected: String,
    /// The row reads well, but says too little.
    pub(crate) is_incomplete: bool,
}

impl FieldFault {
    /// A deletion that neither holds the row nor comes with its key.
    pub(crate) fn without_key() -> Self {
        Self::unusable(
            "it is a deletion without the row before it; have the source send that row (for Postgres: \
             REPLICA IDENTITY FULL), or the key as the record's key",
        )
    }

    /// A record that cannot be applied, whatever its values.
    pub(crate) fn unusable(why: &str) -> Self {
        FieldFault {
            is_incomplete: true,
            ..record_fault(format!("usable: {why}"))
        }
    }
}

/// The places at which a row's values are looked up.
pub(crate) struct RowPlaces<'n, 'a> {
    /// The record within its wrappers.
    pub(crate) record: &'n DataNode<'a>,
    pub(crate) row: &'n DataNode<'a>,
    pub(crate) envelope: &'n EnvelopePlan,
    /// The row carries only changes.
    pub(crate) is_partial: bool,
    /// The key that stands for that of the row.
    pub(crate) key: Option<&'n DataNode<'a>>,
}

/// A row's values by field; `None` where the record has none.
type FoundValues<'n, 'a> = SmallVec<[Option<&'n DataNode<'a>>; 24]>;

/// Lays the values into `builder`, and checks the row.
///
/// # Errors
/// A value that is not its field's, a change that nothing explains, or a row without key, time or
/// owner.
pub(crate) fn fill(
    plan: &RowPlan,
    names: &ChangeNames,
    table: &Table,
    places: &RowPlaces<'_, '_>,
    fit: &mut FitReport,
    builder: &mut RowBuilder<'_>,
) -> Result<(), FieldFault> {
    if !matches!(places.row, DataNode::Members(_)) {
        return Err(record_fault(format!(
            "a JSON object or a record with members: it is {}",
            places.row.kind()
        )));
    }
    let mut found = find_all(plan, places);
    if let Some(key) = places.key {
        found[table.key.index()] = Some(key);
    }
    let keeps = kept_fields(names, table, places, fit)?;
    fit.row();
    for (index, target) in plan.targets.iter().enumerate() {
        let id = target.field;
        let is_made = plan.key.is_some() && id == table.key;
        if is_made {
            fit.feed(index);
            continue;
        }
        let is_part = plan.key.as_ref().is_some_and(|key| key.has_part(id));
        let is_own = is_part || [Some(table.key), table.time, table.version].contains(&Some(id));
        let node = found[index];
        let is_kept = keeps.as_ref().is_some_and(|keeps| keeps.holds(index, node))
            && !brings_currency(table, id, node);
        let is_unchanged = is_kept || is_unavailable(places.envelope, node);
        if is_unchanged && !is_own {
            builder.set_unchanged(id);
            continue;
        }
        let set = match node {
            None if Some(id) == table.time && places.is_partial => Ok(()),
            None => set_absent(target, builder),
            Some(node) => {
                fit.feed(index);
                let set = set_node(target, node, builder);
                if set.is_err() && target.may_drop() && !node.is_null() {
                    fit.drop_value(index, &shown(node));
                    builder.set(id, Value::Null);
                    continue;
                }
                set
            }
        };
        set.map_err(|expected| FieldFault {
            field: table.field_at(id).name.clone(),
            value: node.map_or(String::new(), shown),
            expected: hinted(places, node, expected),
            is_incomplete: false,
        })
        .or_else(|fault| {
            let stands_in = Some(id) == table.time && node.is_none();
            let set = stands_in && stand_in(table, places, builder);
            if set { Ok(()) } else { Err(fault) }
        })?;
    }
    if let Some(time) = table.time
        && builder.get(time).is_null()
    {
        stand_in(table, places, builder);
    }
    make_key(plan, table, places, builder)?;
    settle(plan, names, table, places, fit, builder)
}

/// Whether a change record carries the currency of an amount: the amount needs it, changed or not.
fn brings_currency(table: &Table, field: FieldId, node: Option<&DataNode<'_>>) -> bool {
    let is_currency = || table.amounts().any(|(_, currency)| currency == field);
    table.rates.is_some() && node.is_some_and(|node| !node.is_null()) && is_currency()
}

/// Sets the key that the source makes from several values, once they are set.
fn make_key(
    plan: &RowPlan,
    table: &Table,
    places: &RowPlaces<'_, '_>,
    builder: &mut RowBuilder<'_>,
) -> Result<(), FieldFault> {
    let key = match &plan.key {
        None => return Ok(()),
        Some(MadeKey::WholeRow) => {
            let mut left_out = places.envelope.control_paths();
            left_out.extend(plan.deleted.as_ref().map(FieldPath::as_str));
            row_hash(places.row, &left_out)
        }
        Some(MadeKey::Parts(parts)) => {
            normalise(table, builder);
            let raw = |path: &FieldPath| part_text(find(places, path)?, &plan.text);
            key_of_parts(parts, builder, raw).map_err(|part| FieldFault {
                field: part.to_owned(),
                value: String::new(),
                expected: PART_NEEDED.to_owned(),
                is_incomplete: true,
            })?
        }
    };
    builder.set(table.key, Value::Text(&key));
    Ok(())
}

/// Sets the fields that the key is made from, for rows of which nothing else is read.
fn fill_parts(
    plan: &RowPlan,
    table: &Table,
    found: &FoundValues<'_, '_>,
    builder: &mut RowBuilder<'_>,
) -> Result<(), FieldFault> {
    for target in &plan.targets {
        let is_part = plan
            .key
            .as_ref()
            .is_some_and(|key| key.has_part(target.field));
        let node = found[target.field.index()];
        if let Some(node) = node.filter(|_| is_part) {
            set_node(target, node, builder).map_err(|expected| FieldFault {
                field: table.field_at(target.field).name.clone(),
                value: shown(node),
                expected,
                is_incomplete: false,
            })?;
        }
    }
    Ok(())
}

/// The value at a path in the row, in the further objects of the envelope, or in the record.
fn find<'n, 'a>(places: &RowPlaces<'n, 'a>, path: &FieldPath) -> Option<&'n DataNode<'a>> {
    let inner = || {
        let also = places.envelope.also(places.record);
        also.into_iter().find_map(|object| path.find(object))
    };
    path.find(places.row)
        .or_else(inner)
        .or_else(|| path.find(places.record))
}

/// Lays only the key and the version of a record into `builder`, for rows that end or of which
/// changes are missing.
///
/// # Errors
/// The record has no key, or a version that cannot be read.
pub(crate) fn fill_key(
    plan: &RowPlan,
    table: &Table,
    places: &RowPlaces<'_, '_>,
    builder: &mut RowBuilder<'_>,
) -> Result<(), FieldFault> {
    let index = table.key.index();
    let found = find_all(plan, places);
    let key = places.key.or(found[index]);
    let fault = |expected: String| FieldFault {
        field: table.field_at(table.key).name.clone(),
        value: key.map_or(String::new(), shown),
        expected,
        is_incomplete: false,
    };
    if plan.key.is_some() {
        fill_parts(plan, table, &found, builder)?;
        make_key(plan, table, places, builder)?;
    } else {
        let key_node =
            key.ok_or_else(|| fault("a value: a row without its key ends none".into()))?;
        set_node(&plan.targets[index], key_node, builder).map_err(fault)?;
    }
    normalise_field(table, table.key, builder);
    if builder.get(table.key).text().is_none_or(str::is_empty) {
        return Err(fault("a key: it is empty".into()));
    }
    let Some(version) = table.version else {
        return Ok(());
    };
    match found[version.index()] {
        Some(node) => {
            set_node(&plan.targets[version.index()], node, builder).map_err(|expected| FieldFault {
                field: table.field_at(version).name.clone(),
                value: shown(node),
                expected,
                is_incomplete: false,
            })
        }
        None => {
            if Some(version) == table.time {
                stand_in(table, places, builder);
            }
            Ok(())
        }
    }
}

/// Sets the commit time, for a time field that the row does not feed. `false` where there is none.
fn stand_in(table: &Table, places: &RowPlaces<'_, '_>, builder: &mut RowBuilder<'_>) -> bool {
    let commit_ms = commit_ms(places.envelope, places.record);
    let Some((time, ms)) = table.time.zip(commit_ms) else {
        return false;
    };
    builder.set(time, Value::Time(ms));
    true
}

/// The time at which the change was made, as the envelope has it; milliseconds.
pub(crate) fn commit_ms(envelope: &EnvelopePlan, record: &DataNode<'_>) -> Option<i64> {
    let (path, read) = envelope.commit_time.as_ref()?;
    match path.find(record)? {
        DataNode::Moment(ms) => read.moment(*ms).ok(),
        DataNode::Int(number) => read.number(*number).ok(),
        DataNode::Text(text) => read.text(text).ok(),
        _ => None,
    }
}

/// Gives a list of changed fields the table's names, then checks the row.
fn settle(
    plan: &RowPlan,
    names: &ChangeNames,
    table: &Table,
    places: &RowPlaces<'_, '_>,
    fit: &mut FitReport,
    builder: &mut RowBuilder<'_>,
) -> Result<(), FieldFault> {
    if let Some(list) = table.changed_fields {
        let is_member = |name: &str| places.row.member(name).is_some();
        let unknown = names
            .settle(table, list, builder, is_member)
            .map_err(|why| FieldFault {
                field: table.field_at(list).name.clone(),
                value: String::new(),
                expected: format!("understood: {why}"),
                is_incomplete: false,
            })?;
        fit.unexplained(unknown);
    }
    let may_drop = |unknown: &UnknownCurrency| {
        let index = unknown.amount.index();
        let may_drop = plan.targets[index].may_drop();
        if may_drop {
            fit.drop_value(index, &unknown.currency);
        }
        may_drop
    };
    admit(table, builder, may_drop).map_err(|refusal| FieldFault {
        field: refusal.field().to_owned(),
        value: refusal.value().to_owned(),
        expected: refusal.expected().to_owned(),
        is_incomplete: matches!(refusal, RowRefusal::Incomplete { .. }),
    })
}

fn record_fault(expected: String) -> FieldFault {
    FieldFault {
        field: String::new(),
        value: String::new(),
        expected,
        is_incomplete: false,
    }
}

/// The values of all fields: configured paths first, then names in the row, then names in further
/// objects.
fn find_all<'n, 'a>(plan: &RowPlan, places: &RowPlaces<'n, 'a>) -> FoundValues<'n, 'a> {
    let mut found: FoundValues<'n, 'a> = smallvec![None; plan.targets.len()];
    let mut scores: SmallVec<[u8; 24]> = smallvec![u8::MAX; plan.targets.len()];
    let also = places.envelope.also(places.record);
    for (level, object) in [places.row]
        .into_iter()
        .chain(also.iter().copied())
        .enumerate()
    {
        for (name, value) in object.members() {
            let Some(fields) = plan.by_name.get(name.as_ref()) else {
                continue;
            };
            for (index, rank) in fields {
                let score = (level as u8).saturating_mul(4).saturating_add(*rank);
                let index = usize::from(*index);
                // Of a name that occurs twice the last counts.
                if score <= scores[index] {
                    (found[index], scores[index]) = (Some(value), score);
                }
            }
        }
    }
    for (index, paths) in plan.mapped.iter().enumerate() {
        let mapped = paths.iter().find_map(|path| {
            let inner = || also.iter().find_map(|object| path.find(object));
            let outer = || path.find(places.record);
            path.find(places.row).or_else(inner).or_else(outer)
        });
        if mapped.is_some() {
            found[index] = mapped;
        }
    }
    found
}

/// The fields that keep their value.
enum KeptFields {
    /// All that the record's list does not name.
    Unlisted(Vec<bool>),
    /// All that the record has no value of.
    Absent,
    /// Those that the record names.
    Opaque(Vec<bool>),
}

impl KeptFields {
    fn holds(&self, index: usize, node: Option<&DataNode<'_>>) -> bool {
        match self {
            KeptFields::Unlisted(is_changed) => !is_changed[index],
            KeptFields::Absent => node.is_none_or(DataNode::is_null),
            KeptFields::Opaque(is_opaque) => is_opaque[index],
        }
    }
}

fn kept_fields(
    names: &ChangeNames,
    table: &Table,
    places: &RowPlaces<'_, '_>,
    fit: &mut FitReport,
) -> Result<Option<KeptFields>, FieldFault> {
    let is_member = |name: &str| places.row.member(name).is_some();
    let resolve = |listed: Vec<&str>| {
        let changed = names.changed(listed, table.fields.len(), is_member);
        changed.map_err(|why| record_fault(format!("understood: {why}")))
    };
    let opaque = places.envelope.opaque(places.record);
    let opaque = if opaque.is_empty() {
        None
    } else {
        Some(resolve(opaque)?)
    };
    if !places.is_partial {
        return Ok(opaque.map(|opaque| KeptFields::Opaque(opaque.is_changed)));
    }
    let Some(listed) = places.envelope.changed(places.record) else {
        return Ok(Some(KeptFields::Absent));
    };
    let mut changed = resolve(listed)?;
    fit.unexplained(std::mem::take(&mut changed.unknown));
    if let Some(opaque) = opaque {
        for (is_changed, is_opaque) in changed.is_changed.iter_mut().zip(opaque.is_changed) {
            *is_changed &= !is_opaque;
        }
    }
    Ok(Some(KeptFields::Unlisted(changed.is_changed)))
}

fn is_unavailable(envelope: &EnvelopePlan, node: Option<&DataNode<'_>>) -> bool {
    let text = node.and_then(DataNode::text);
    text.is_some() && text == envelope.unchanged.as_deref()
}

/// The words of a fault, with the envelope that the record looks like where a value is missing.
fn hinted(places: &RowPlaces<'_, '_>, node: Option<&DataNode<'_>>, expected: String) -> String {
    if node.is_some() || !places.envelope.is_none() {
        return expected;
    }
    let names: Vec<&str> = places
        .row
        .members()
        .iter()
        .map(|(name, _)| name.as_ref())
        .collect();
    match super::envelope::envelope_hint(&names) {
        Some(hint) => format!("{expected}; {hint}"),
        None => expected,
    }
}

/// A value, for people.
pub(crate) fn shown(node: &DataNode<'_>) -> String {
    node.scalar()
        .map_or_else(|| node.kind().to_owned(), |text| text.into_owned())
}
