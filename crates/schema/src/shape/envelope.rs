//! Envelopes: where in a record the row is, and which values say what happens to it. An envelope is
//! data; the named ones stand in `presets.json` in the form in which a configuration writes its
//! own.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::data_node::DataNode;
use super::moment::TimeRead;
use super::path::FieldPath;

const PRESETS: &str = include_str!("presets.json");

/// The `envelope` of a source: the name of a preset, or paths and values of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EnvelopeOption {
    /// `none`, `debezium`, `salesforce-cdc`, `segment` or `cloudevents`.
    Named(String),
    /// An envelope of one's own.
    Own(Box<Envelope>),
}

impl Default for EnvelopeOption {
    fn default() -> Self {
        EnvelopeOption::Named("none".into())
    }
}

/// The places and values of an envelope. Paths are dotted; a missing setting means that the
/// envelope has no such thing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Envelope {
    /// Paths of wrappers: of those present, the first holds the record.
    pub inside: Vec<String>,
    /// The row; the record itself by default. An array holds several rows.
    pub row: String,
    /// Objects in which fields are looked up that the row does not have.
    pub also: Vec<String>,
    /// The row before the change, for deletions.
    pub before: String,
    /// The value that names the operation. Without one every record is a whole row.
    pub operation: String,
    /// Operations that carry a whole row; none: all that are not listed otherwise.
    pub upsert: Vec<String>,
    /// Operations that carry only the changed fields.
    pub partial: Vec<String>,
    /// Operations that end the row.
    pub delete: Vec<String>,
    /// Operations that say that changes of a row are missing.
    pub gap: Vec<String>,
    /// Operations that concern no row: counted and passed over.
    pub ignore: Vec<String>,
    /// Operations that cannot be applied: dead letters.
    pub refuse: Vec<String>,
    /// A flag in the row that says that it is deleted.
    pub deleted: String,
    /// Lists of the changed fields, by the source's names or as bitmaps over its schema.
    pub changed: Vec<String>,
    /// Lists of fields whose value in the record is not the field's value.
    pub opaque: Vec<String>,
    /// The keys of the rows that the record changes, each in the same way.
    pub ids: String,
    /// The time of the change; it stands in for a time field that the row does not feed.
    pub commit_time: String,
    /// Units of times in the envelope: path → unit.
    pub times: BTreeMap<String, String>,
    /// Text that stands for a value which did not change and is not in the record.
    pub unchanged: String,
    /// The prefix of record headers that are members of the envelope where the value is the row
    /// alone.
    pub headers: String,
    /// The envelope of records that have neither row, row before nor operation.
    pub flat: Option<Box<Envelope>>,
}

impl Envelope {
    /// The envelope that an option names.
    ///
    /// # Errors
    /// The words for a person: there is no preset of this name.
    pub(crate) fn of(option: &EnvelopeOption) -> Result<Envelope, String> {
        let name = match option {
            EnvelopeOption::Own(own) => return Ok((**own).clone()),
            EnvelopeOption::Named(name) => name,
        };
        let mut presets: BTreeMap<String, Envelope> =
            serde_json::from_str(PRESETS).expect("tested: the presets are envelopes");
        match presets.remove(name) {
            Some(envelope) => Ok(envelope),
            None => Err(format!(
                "envelope '{name}' is not known; write {}, or paths of one's own: {{ row = \"…\", … }}",
                presets.into_keys().collect::<Vec<_>>().join(", ")
            )),
        }
    }
}

/// The effect of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Upsert,
    /// Only the changed fields are in the record.
    Partial,
    Delete,
    /// Changes of the row are missing.
    Gap,
    Ignore,
    Refuse,
}

/// An envelope with its paths taken apart.
#[derive(Clone, Debug)]
pub(crate) struct EnvelopePlan {
    inside: Vec<FieldPath>,
    row: FieldPath,
    also: Vec<FieldPath>,
    before: Option<FieldPath>,
    operation: Option<FieldPath>,
    effects: Vec<(String, Effect)>,
    /// The effect of an operation that is not listed; `None` refuses it.
    other: Option<Effect>,
    deleted: Option<FieldPath>,
    changed: Vec<FieldPath>,
    opaque: Vec<FieldPath>,
    pub(crate) ids: Option<FieldPath>,
    pub(crate) commit_time: Option<(FieldPath, TimeRead)>,
    pub(crate) unchanged: Option<Box<str>>,
    headers: Option<Box<str>>,
    flat: Option<Box<EnvelopePlan>>,
    settings: Envelope,
}

fn path(text: &str) -> Option<FieldPath> {
    (!text.is_empty()).then(|| FieldPath::new(text))
}

fn paths(texts: &[String]) -> Vec<FieldPath> {
    texts.iter().map(|text| FieldPath::new(text)).collect()
}

impl EnvelopePlan {
    /// # Errors
    /// The words for a person: a time whose unit is not known.
    pub(crate) fn new(settings: &Envelope) -> Result<Self, String> {
        let lists = [
            (&settings.upsert, Effect::Upsert),
            (&settings.partial, Effect::Partial),
            (&settings.delete, Effect::Delete),
            (&settings.gap, Effect::Gap),
            (&settings.ignore, Effect::Ignore),
            (&settings.refuse, Effect::Refuse),
        ];
        let mut effects = Vec::new();
        for (values, effect) in lists {
            for value in values {
                if effects.iter().any(|(known, _)| known == value) {
                    return Err(format!("envelope: operation '{value}' is listed twice"));
                }
                effects.push((value.clone(), effect));
            }
        }
        for (at, unit) in &settings.times {
            if TimeRead::of_unit(unit).is_none() {
                return Err(format!(
                    "envelope, times: '{unit}' of '{at}' is not a unit; write seconds, millis, micros, \
                     nanos or days"
                ));
            }
        }
        let commit_time = path(&settings.commit_time).map(|at| {
            let unit = settings.times.get(at.as_str());
            let read = unit.and_then(|unit| TimeRead::of_unit(unit));
            let read = read.unwrap_or_else(|| TimeRead::plausible(Default::default()));
            (at, read)
        });
        Ok(EnvelopePlan {
            inside: paths(&settings.inside),
            row: FieldPath::new(&settings.row),
            also: paths(&settings.also),
            before: path(&settings.before),
            operation: path(&settings.operation),
            effects,
            other: settings.upsert.is_empty().then_some(Effect::Upsert),
            deleted: path(&settings.deleted),
            changed: paths(&settings.changed),
            opaque: paths(&settings.opaque),
            ids: path(&settings.ids),
            commit_time,
            unchanged: path(&settings.unchanged).map(|_| settings.unchanged.as_str().into()),
            headers: path(&settings.headers).map(|_| settings.headers.as_str().into()),
            flat: match &settings.flat {
                Some(flat) => Some(Box::new(Self::new(flat)?)),
                None => None,
            },
            settings: settings.clone(),
        })
    }

    /// True where the record is the row, and every record a whole one.
    pub(crate) fn is_none(&self) -> bool {
        self.settings == Envelope::default()
    }

    /// True if rows end by operation: tombstones of the record's key then say nothing new.
    pub(crate) fn has_deletions(&self) -> bool {
        let flat = self.flat.as_ref();
        self.deleted.is_some()
            || !self.settings.delete.is_empty()
            || flat.is_some_and(|flat| flat.has_deletions())
    }

    /// The unit of a time at a path of the envelope.
    pub(crate) fn unit_of(&self, at: &str) -> Option<&str> {
        let flat = || self.flat.as_ref().and_then(|flat| flat.unit_of(at));
        self.settings
            .times
            .get(at)
            .map(String::as_str)
            .or_else(flat)
    }

    /// Every path that is looked at, the rows' apart.
    pub(crate) fn control_paths(&self) -> Vec<&str> {
        let plan = &self.settings;
        let single = [&plan.operation, &plan.deleted, &plan.ids, &plan.commit_time];
        let lists = [&plan.changed, &plan.opaque];
        let mut paths: Vec<&str> = single.into_iter().map(String::as_str).collect();
        paths.extend(lists.into_iter().flatten().map(String::as_str));
        paths.retain(|path| !path.is_empty());
        paths
    }

    /// Every path that holds a row or a part of one; empty paths are the record.
    pub(crate) fn row_paths(&self) -> Vec<&str> {
        let plan = &self.settings;
        let mut paths = vec![plan.row.as_str()];
        paths.extend(plan.also.iter().map(String::as_str));
        if !plan.before.is_empty() {
            paths.push(&plan.before);
        }
        paths
    }

    /// The paths of wrappers.
    pub(crate) fn inside(&self) -> &[String] {
        &self.settings.inside
    }

    /// Adds record headers as members, where the value is the row alone.
    pub(crate) fn with_headers<'a>(
        &self,
        record: DataNode<'a>,
        headers: &[(&'a str, &'a [u8])],
    ) -> DataNode<'a> {
        let Some(prefix) = self.headers.as_deref() else {
            return record;
        };
        let mut members: Vec<(Cow<'a, str>, DataNode<'a>)> = Vec::new();
        for (name, value) in headers {
            if let (Some(name), Ok(text)) = (name.strip_prefix(prefix), std::str::from_utf8(value))
            {
                members.push((Cow::Borrowed(name), DataNode::Text(Cow::Borrowed(text))));
            }
        }
        if members.is_empty() {
            return record;
        }
        members.push((Cow::Owned(self.settings.row.clone()), record));
        DataNode::Members(members)
    }

    /// The record within its wrappers.
    pub(crate) fn unwrapped<'n, 'a>(&self, record: &'n DataNode<'a>) -> &'n DataNode<'a> {
        if self
            .operation
            .as_ref()
            .is_some_and(|at| at.find(record).is_some())
        {
            return record;
        }
        let objects = self.inside.iter().filter_map(|at| at.find(record));
        let mut objects = objects.filter(|inner| matches!(inner, DataNode::Members(_)));
        objects.next().unwrap_or(record)
    }

    /// The record's envelope: this one, or that of flat records.
    pub(crate) fn of_record<'p>(&'p self, record: &DataNode<'_>) -> &'p EnvelopePlan {
        self.of_fields(|path| FieldPath::new(path).find(record).is_some())
    }

    /// The envelope of records with these members: this one, or that of flat records.
    pub(crate) fn of_fields(&self, has: impl Fn(&str) -> bool) -> &EnvelopePlan {
        let Some(flat) = &self.flat else {
            return self;
        };
        let has = |path: &FieldPath| has(path.as_str());
        let is_enveloped = has(&self.row)
            || self.before.as_ref().is_some_and(has)
            || self.operation.as_ref().is_some_and(has);
        if is_enveloped { self } else { flat }
    }

    /// The effect of the record on its row.
    ///
    /// # Errors
    /// The words for a person: an operation that the envelope does not list.
    pub(crate) fn effect(&self, record: &DataNode<'_>) -> Result<Effect, String> {
        let deleted = self.deleted.as_ref().and_then(|at| at.find(record));
        if deleted
            .and_then(DataNode::scalar)
            .is_some_and(|flag| is_true(&flag))
        {
            return Ok(Effect::Delete);
        }
        let named = self.operation.as_ref().and_then(|at| at.find(record));
        let Some(operation) = named.and_then(DataNode::scalar) else {
            let before = self.before.as_ref().and_then(|at| at.find(record));
            let has_row = self.row.find(record).is_some_and(|row| !row.is_null());
            let ends = !has_row && before.is_some_and(|before| !before.is_null());
            return Ok(if ends { Effect::Delete } else { Effect::Upsert });
        };
        let known = self.effects.iter().find(|(value, _)| *value == operation);
        known.map(|(_, effect)| *effect).or(self.other).ok_or_else(|| {
            let shown: String = operation.chars().take(40).collect();
            format!(
                "the operation '{shown}' is none of the envelope's; list it under upsert, partial, delete, \
                 gap, ignore or refuse of an envelope of one's own"
            )
        })
    }

    /// The row of the record; `None` where it is missing or null.
    pub(crate) fn row<'n, 'a>(&self, record: &'n DataNode<'a>) -> Option<&'n DataNode<'a>> {
        self.row.find(record).filter(|row| !row.is_null())
    }

    /// The row before the change, or the row where the envelope has none.
    pub(crate) fn before<'n, 'a>(&self, record: &'n DataNode<'a>) -> Option<&'n DataNode<'a>> {
        let before = self.before.as_ref().and_then(|at| at.find(record));
        before
            .filter(|before| !before.is_null())
            .or_else(|| self.row(record))
    }

    /// Further objects that hold fields of the row, in order.
    pub(crate) fn also<'n, 'a>(&self, record: &'n DataNode<'a>) -> SmallVec<[&'n DataNode<'a>; 3]> {
        self.also.iter().filter_map(|at| at.find(record)).collect()
    }

    /// The names of changed fields; `None` where the record has no list of them.
    pub(crate) fn changed<'n>(&self, record: &'n DataNode<'_>) -> Option<Vec<&'n str>> {
        let names = names_at(&self.changed, record);
        (!names.is_empty()).then_some(names)
    }

    /// The names of fields whose value in the record is not theirs.
    pub(crate) fn opaque<'n>(&self, record: &'n DataNode<'_>) -> Vec<&'n str> {
        names_at(&self.opaque, record)
    }

    /// The path of the row, for people.
    pub(crate) fn row_path(&self) -> &str {
        self.row.as_str()
    }
}

fn names_at<'n>(paths: &[FieldPath], record: &'n DataNode<'_>) -> Vec<&'n str> {
    let mut names = Vec::new();
    for path in paths {
        match path.find(record) {
            Some(DataNode::List(items)) => names.extend(items.iter().filter_map(DataNode::text)),
            Some(DataNode::Text(one)) if !one.is_empty() => names.push(one.as_ref()),
            _ => {}
        }
    }
    names
}

fn is_true(flag: &str) -> bool {
    flag.eq_ignore_ascii_case("true") || flag == "1"
}

/// The preset that a record's members look like, for a hint where the source declares none.
pub(crate) fn likely_preset(names: &[&str]) -> Option<&'static str> {
    let has = |name: &str| names.contains(&name);
    if has("after") && (has("op") || has("before")) {
        Some("debezium")
    } else if has("ChangeEventHeader") {
        Some("salesforce-cdc")
    } else if has("specversion") && has("data") {
        Some("cloudevents")
    } else {
        None
    }
}

/// The words about a record that looks like an envelope.
pub(crate) fn envelope_hint(names: &[&str]) -> Option<String> {
    if let Some(preset) = likely_preset(names) {
        return Some(format!(
            "it is a change envelope ({}): unwrap it with envelope = \"{preset}\" in its source",
            names.join(", ")
        ));
    }
    let holds_row = ["payload", "after", "data"]
        .iter()
        .find(|name| names.contains(*name))?;
    Some(format!(
        "it may be an envelope ({}): where '{holds_row}' holds the row, set envelope = {{ row = \
         \"{holds_row}\" }} in its source",
        names.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_an_envelope_and_no_other_name_is() {
        for name in [
            "none",
            "debezium",
            "salesforce-cdc",
            "segment",
            "cloudevents",
        ] {
            let envelope = Envelope::of(&EnvelopeOption::Named(name.into())).unwrap();
            EnvelopePlan::new(&envelope).unwrap();
        }
        let error = Envelope::of(&EnvelopeOption::Named("debezum".into())).unwrap_err();
        assert!(error.contains("debezium, none, salesforce-cdc"), "{error}");
    }

    #[test]
    fn operations_have_one_effect() {
        let debezium = Envelope::of(&EnvelopeOption::Named("debezium".into())).unwrap();
        let plan = EnvelopePlan::new(&debezium).unwrap();
        for (record, expected) in [
            (r#"{"op":"c","after":{}}"#, Ok(Effect::Upsert)),
            (r#"{"op":"d","before":{},"after":null}"#, Ok(Effect::Delete)),
            (r#"{"op":"t"}"#, Ok(Effect::Refuse)),
            (r#"{"op":"m"}"#, Ok(Effect::Ignore)),
            (r#"{"after":null,"before":{}}"#, Ok(Effect::Delete)),
            (r#"{"id":1}"#, Ok(Effect::Upsert)),
            (r#"{"id":1,"__deleted":"true"}"#, Ok(Effect::Delete)),
            (r#"{"id":1,"__op":"d"}"#, Ok(Effect::Delete)),
            (r#"{"id":1,"__deleted":false}"#, Ok(Effect::Upsert)),
        ] {
            let node = DataNode::json(record.as_bytes()).unwrap();
            assert_eq!(plan.of_record(&node).effect(&node), expected, "{record}");
        }
        let unknown = DataNode::json(br#"{"op":"x","after":{}}"#).unwrap();
        assert!(plan.effect(&unknown).unwrap_err().contains("'x'"));
        let twice = Envelope {
            upsert: vec!["u".into()],
            delete: vec!["u".into()],
            ..Envelope::default()
        };
        assert!(EnvelopePlan::new(&twice).is_err());
    }
}
