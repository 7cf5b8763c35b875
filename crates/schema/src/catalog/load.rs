//! Schema files become a [`Catalog`]: parsing, annotation by annotation, then the checks across tables (`check`).
//!
//! Every fault of every file is reported, not only the first; a catalog that loads keeps all promises of `catalog`'s comments.

use std::path::Path;
use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::schema::ResolvedSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::catalog::annotations::{FieldAnnotation, TableAnnotation};
use crate::catalog::check;
use crate::catalog::fault::{Faults, SchemaFault};
use crate::catalog::link::{Linker, relations};
use crate::catalog::shape::Shape;
use crate::catalog::{Catalog, Normalise, Table, TableId};

/// More fields than this in a record are taken for a mistake.
const MAX_FIELDS: usize = 4096;
/// More tables than this in a folder are taken for a mistake.
const MAX_TABLES: usize = 4096;

impl Catalog {
    /// Loads every `*.avsc` file directly in `dir` whose record has a `leadpulse` property; other schemas (outputs, older versions
    /// in subfolders) are none of its business.
    ///
    /// # Errors
    /// All faults of all files, ordered by file.
    pub fn load(dir: &Path) -> Result<Catalog, Vec<SchemaFault>> {
        let unreadable = |path: &Path, error: std::io::Error| SchemaFault {
            file: path.display().to_string(),
            record: String::new(),
            field: None,
            message: format!("cannot be read: {error}"),
            hint: "name a folder of .avsc files that this user may read".into(),
        };
        let files = avsc_files(dir).map_err(|e| vec![unreadable(dir, e)])?;
        let mut contents = Vec::with_capacity(files.len());
        let mut faults = Vec::new();
        for path in &files {
            match std::fs::read_to_string(path) {
                Ok(json) => contents.push((path.display().to_string(), json)),
                Err(error) => faults.push(unreadable(path, error)),
            }
        }
        build(&contents, &dir.display().to_string(), faults)
    }

    /// Loads schemas given as (file name, JSON) pairs: what [`Catalog::load`] does once files are read.
    ///
    /// # Errors
    /// All faults of all files, in the order given.
    pub fn from_json<N: AsRef<str>, J: AsRef<str>>(
        files: &[(N, J)],
    ) -> Result<Catalog, Vec<SchemaFault>> {
        let contents: Vec<(String, String)> = files
            .iter()
            .map(|(name, json)| (name.as_ref().to_owned(), json.as_ref().to_owned()))
            .collect();
        build(&contents, "schemas", Vec::new())
    }
}

/// The `*.avsc` files directly in a folder, by name.
pub(crate) fn avsc_files(dir: &Path) -> std::io::Result<Vec<std::path::PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "avsc") && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// One input table, parsed but not yet connected to others.
pub(crate) struct Draft {
    pub(crate) file: String,
    pub(crate) record: String,
    pub(crate) annotation: TableAnnotation,
    pub(crate) fields: Vec<DraftField>,
    /// Every annotation and type could be read, so that something missing is missing, not misspelt.
    pub(crate) fully_read: bool,
    pub(crate) json: Arc<str>,
    pub(crate) avro: Arc<Schema>,
}

/// One field of a draft.
pub(crate) struct DraftField {
    pub(crate) name: String,
    pub(crate) annotation: FieldAnnotation,
    /// `None` when the type is not supported (a fault was reported).
    pub(crate) shape: Option<(Shape, bool)>,
}

fn build(
    files: &[(String, String)],
    folder: &str,
    mut faults: Vec<SchemaFault>,
) -> Result<Catalog, Vec<SchemaFault>> {
    let mut drafts = Vec::new();
    // Names of tables whose file is broken, none when even they cannot be read: a reference to them is not a second fault.
    let mut broken = Vec::new();
    let mut ignored = 0;
    for (file, json) in files {
        match draft(file, json, &mut faults) {
            Drafted::Table(draft) => drafts.push(*draft),
            Drafted::Broken(names) => broken.push(names),
            Drafted::Ignored => ignored += 1,
        }
    }
    drafts.sort_by(|a, b| a.annotation.table.cmp(&b.annotation.table));
    if drafts.len() > MAX_TABLES {
        Faults {
            list: &mut faults,
            file: folder,
            record: "",
        }
        .record(
            format!("{} tables", drafts.len()),
            format!("a deployment has at most {MAX_TABLES}"),
        );
        return Err(faults);
    }
    let names = check::names(&drafts, &mut faults);
    let every_table_read =
        drafts.len() + ignored == files.len() && drafts.iter().all(|d| d.fully_read);
    let mut linker = Linker::new(&names, &broken, &drafts);
    let mut tables: Vec<Table> = drafts
        .iter()
        .enumerate()
        .map(|(i, draft)| linker.table(TableId(i as u16), draft, &mut faults))
        .collect();
    let every_reference_usable = linker.every_reference_usable;
    normalise_references(&mut tables);
    let relations = relations(&tables);
    let catalog = Catalog {
        tables,
        hubs: linker.finish(),
        relations,
        by_name: names.clone(),
    };
    check::owners_without_cycle(&catalog, &drafts, &mut faults);
    if every_table_read {
        check::one_root(&drafts, folder, &mut faults);
        if every_reference_usable {
            check::every_table_is_connected(&catalog, &drafts, &mut faults);
        }
    }
    if faults.is_empty() {
        Ok(catalog)
    } else {
        Err(faults)
    }
}

/// Gives references the steps of the keys they lead to, so that both have one spelling.
fn normalise_references(tables: &mut [Table]) {
    let of_keys: Vec<Vec<Normalise>> = tables
        .iter()
        .map(|table| table.fields.get(table.key.index()))
        .map(|key| key.map(|key| key.normalise.clone()).unwrap_or_default())
        .collect();
    for field in tables.iter_mut().flat_map(|table| &mut table.fields) {
        let Some(reference) = field.reference else {
            continue;
        };
        let steps = &of_keys[reference.table.index()];
        if field.normalise != *steps {
            field.normalise.extend(steps);
        }
    }
}

enum Drafted {
    Table(Box<Draft>),
    /// An input table that cannot be read; its names, if that much was.
    Broken(Vec<String>),
    /// Not an input table.
    Ignored,
}

/// Reads one schema file. Faults are reported in the order of reading: annotations before types.
fn draft(file: &str, json: &str, list: &mut Vec<SchemaFault>) -> Drafted {
    let value: Json = match serde_json::from_str(json) {
        Ok(value) => value,
        Err(error) => {
            Faults {
                list,
                file,
                record: "",
            }
            .record(
                format!("is not JSON: {error}"),
                "an Avro schema file is JSON",
            );
            return Drafted::Broken(Vec::new());
        }
    };
    let record_name = value
        .get("name")
        .and_then(Json::as_str)
        .unwrap_or_default()
        .to_owned();
    let mut faults = Faults {
        list,
        file,
        record: &record_name,
    };
    let json_fields: &[Json] = value
        .get("fields")
        .and_then(Json::as_array)
        .map_or(&[], Vec::as_slice);
    let Some(property) = value.get("leadpulse") else {
        return unmarked_record(json_fields, &mut faults);
    };
    let before = faults.list.len();
    let annotation = table_annotation(property, &mut faults);
    let annotations = field_annotations(json_fields, &mut faults);
    let read = record_schema(&value, &mut faults).and_then(|schema| {
        let fields = draft_fields(&schema, annotations, &mut faults)?;
        Some((schema, fields))
    });
    let (Some(annotation), Some((schema, fields))) = (annotation, read) else {
        return Drafted::Broken(table_names(property));
    };
    Drafted::Table(Box::new(Draft {
        fully_read: faults.list.len() == before,
        file: file.to_owned(),
        record: record_name,
        annotation,
        fields,
        json: json.into(),
        avro: Arc::new(schema),
    }))
}

/// A record without a `leadpulse` property is no input table, unless one of its fields has the property.
fn unmarked_record(json_fields: &[Json], faults: &mut Faults<'_>) -> Drafted {
    let annotated = json_fields.iter().find(|f| f.get("leadpulse").is_some());
    let Some(field) = annotated.and_then(|f| f.get("name")).and_then(Json::as_str) else {
        return Drafted::Ignored;
    };
    faults.field(
        field,
        "has a leadpulse property, but its record has none",
        "add \"leadpulse\": {\"table\": …, \"role\": …} to the record, or remove it from the field",
    );
    Drafted::Broken(Vec::new())
}

/// The name and aliases in a `leadpulse` property, readable or not as a whole.
fn table_names(property: &Json) -> Vec<String> {
    let aliases = property
        .get("aliases")
        .and_then(Json::as_array)
        .into_iter()
        .flatten();
    property
        .get("table")
        .into_iter()
        .chain(aliases)
        .filter_map(Json::as_str)
        .map(str::to_owned)
        .collect()
}

fn table_annotation(property: &Json, faults: &mut Faults<'_>) -> Option<TableAnnotation> {
    match TableAnnotation::deserialize(property) {
        Ok(annotation) => Some(annotation),
        Err(error) => {
            faults.record(
                format!("its leadpulse property is wrong: {error}"),
                "needed: table, role; allowed: aliases, stages, outcome, not_engagement, bursts, override, feedback, erasure",
            );
            None
        }
    }
}

/// The Avro schema of a file, if it is a record of a reasonable size.
fn record_schema(value: &Json, faults: &mut Faults<'_>) -> Option<Schema> {
    let schema = match Schema::parse(value) {
        Ok(schema) => schema,
        Err(error) => {
            faults.record(
                format!("is not a valid Avro schema: {error}"),
                "each file stands alone: types it names must be defined in it",
            );
            return None;
        }
    };
    let Schema::Record(record) = &schema else {
        faults.record(
            "has a leadpulse property but is not an Avro record",
            "a table is a record",
        );
        return None;
    };
    if record.fields.len() > MAX_FIELDS {
        faults.record(
            format!("{} fields", record.fields.len()),
            format!("a table has at most {MAX_FIELDS}"),
        );
        return None;
    }
    Some(schema)
}

/// The fields of a record with their annotations; `None` when a type they name is not defined.
fn draft_fields(
    schema: &Schema,
    annotations: Vec<FieldAnnotation>,
    faults: &mut Faults<'_>,
) -> Option<Vec<DraftField>> {
    let Schema::Record(record) = schema else {
        unreachable!("record_schema returns records only")
    };
    let names = match ResolvedSchema::new(schema) {
        Ok(names) => names,
        Err(error) => {
            faults.record(
                format!("names a type it does not define: {error}"),
                "define the type where it is first used",
            );
            return None;
        }
    };
    let named = |schema: &Schema| match schema {
        Schema::Ref { name } => names.get_names().get(name).copied(),
        _ => None,
    };
    let mut fields = Vec::with_capacity(record.fields.len());
    for (avro_field, annotation) in record.fields.iter().zip(annotations) {
        let shape = match Shape::of(&avro_field.schema, &named) {
            Ok(shape) => Some(shape),
            Err(refusal) => {
                faults.field(
                    &avro_field.name,
                    format!("its type is not supported: {}", refusal.what),
                    refusal.hint,
                );
                None
            }
        };
        fields.push(DraftField {
            name: avro_field.name.clone(),
            annotation,
            shape,
        });
    }
    Some(fields)
}

/// The annotations of a record's fields, in order; a wrong one is reported and taken as absent.
fn field_annotations(json_fields: &[Json], faults: &mut Faults<'_>) -> Vec<FieldAnnotation> {
    let annotation = |json_field: &Json| {
        let name = json_field.get("name").and_then(Json::as_str).unwrap_or("?");
        let property = json_field.get("leadpulse")?;
        FieldAnnotation::deserialize(property)
            .map_err(|error| {
                faults.field(
                    name,
                    format!("its leadpulse property is wrong: {error}"),
                    "allowed: key, time, version, ref, owner, hub, feature, values, static, group, match, changed_fields, deleted, active, territory, currency, label",
                );
            })
            .ok()
    };
    // Avro skips what is not an object, so this must too, or the two lists would not be parallel.
    json_fields
        .iter()
        .filter(|f| f.is_object())
        .map(annotation)
        .map(Option::unwrap_or_default)
        .collect()
}
