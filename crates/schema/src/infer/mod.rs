//! Tables inferred from data files: profiles → keys and links → roles → schemas and configuration.
//!
//! Every file is streamed; a profile of its columns has a fixed size. All that a reader has to know
//! about a file is decided here and written down, so that nothing is guessed when files are read.
//! What is not certain becomes a doubt, beside the place in the configuration that it concerns.
//!
//! Decision: docs/decisions/0034-what-init-infers.md

mod cells;
mod config;
mod links;
mod profile;
mod roles;
mod schemas;
mod task;
mod text;
mod text_table;

#[cfg(test)]
mod readme_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rustc_hash::FxHashSet;

use self::links::{Key, key_of, links_of, near_misses, prefer_named_keys, singular, squeezed};
use self::profile::{Column, TableProfile, hash};
use self::roles::{Graph, Part, settle};
use self::schemas::{TableSchema, table_schema};
use self::task::{Outcome, outcome_of};
pub use self::text::InferError;
use self::text::{Cell, DataText};
pub use self::text_table::{TextRow, TextTable};
use crate::catalog::Role;
use crate::draft::snake;

/// A project inferred from data files.
#[derive(Debug)]
pub struct Inferred {
    /// Schema files: name and text, one per table.
    pub schemas: Vec<(String, String)>,
    /// The text of `leadpulse.toml`.
    pub configuration: String,
    /// The folder that the configuration's file names are relative to.
    pub data: PathBuf,
    /// The name of the first task; `None` where nothing is worth a question.
    pub task: Option<String>,
    /// Lines for people: what each file was taken for.
    pub summary: Vec<String>,
}

/// Infers tables, keys, times, references and roles from data files, and a first task. `root` names
/// the table to score, where the files leave it open.
///
/// # Errors
/// A file that cannot be read or is not a table, and files that no graph can be made of.
pub fn infer(paths: &[PathBuf], root: Option<&str>) -> Result<Inferred, InferError> {
    let data = common_folder(paths);
    let (mut tables, mut files) = (Vec::new(), Vec::new());
    for group in grouped(paths, &data)? {
        tables.push(TableProfile::read(group.name, group.file, &group.texts)?);
        files.push(group.texts);
    }
    if tables.is_empty() {
        return Err(InferError::NoTables(
            "no file was given; pass --from FILE…".into(),
        ));
    }
    let mut keys: Vec<Key> = tables.iter().map(key_of).collect();
    prefer_named_keys(&tables, &mut keys);
    add_named_root(&mut tables, &mut keys, &mut files, root)?;
    let links = (0..tables.len())
        .map(|t| links_of(t, &tables, &keys))
        .collect();
    let mut graph = settle(tables, keys, links, root)?;
    for table in 0..graph.tables.len() {
        graph.doubts[table].extend(near_misses(table, &graph.tables, &graph.keys));
    }
    let outcomes: Vec<Option<Outcome>> = graph.tables.iter().map(outcome_of).collect();
    let mut schemas: Vec<Option<TableSchema>> = Vec::new();
    for table in 0..graph.tables.len() {
        if graph.role(table).is_none() {
            schemas.push(None);
            continue;
        }
        let composite = match graph.keys[table] {
            Key::None => composite_key(&graph, table, &files[table])?,
            _ => Vec::new(),
        };
        schemas.push(Some(table_schema(
            &graph,
            table,
            outcomes[table].as_ref(),
            &composite,
        )));
    }
    let task = graph.first_task(&outcomes, &files)?;
    let prefix = topic_prefix(&data);
    let configuration = config::configuration(&graph, &schemas, task.as_ref(), &prefix);
    let summary = summary(&graph, &schemas);
    let written = graph.tables.iter().zip(schemas);
    Ok(Inferred {
        schemas: written
            .filter_map(|(table, schema)| Some((format!("{}.avsc", table.name), schema?.text)))
            .collect(),
        configuration,
        data,
        task: task.map(|task| task.name),
        summary,
    })
}

/// Files of one table.
struct FileGroup {
    name: String,
    /// The file, or a pattern that fits all of them.
    file: String,
    texts: Vec<DataText>,
}

/// Files by table: those whose names differ in digits only are one table.
fn grouped(paths: &[PathBuf], data: &Path) -> Result<Vec<FileGroup>, InferError> {
    let mut groups: BTreeMap<(String, String), Vec<(String, DataText)>> = BTreeMap::new();
    for path in paths {
        let relative = path.strip_prefix(data).unwrap_or(path);
        let file = relative.to_string_lossy().replace('\\', "/");
        let stem = stem_of(path);
        let ending = file.to_lowercase();
        let ending = ending
            .rsplit(&stem.to_lowercase())
            .next()
            .unwrap_or_default()
            .to_owned();
        let without_digits =
            stem.trim_end_matches(|c: char| c.is_ascii_digit() || "-_.".contains(c));
        let key = if without_digits.is_empty() {
            stem.as_str()
        } else {
            without_digits
        };
        let text = DataText::sniff(path)?;
        groups
            .entry((key.to_owned(), ending))
            .or_default()
            .push((file, text));
    }
    let names = table_names(groups.keys().map(|(stem, _)| stem.as_str()));
    let mut found = Vec::new();
    for (((stem, ending), members), name) in groups.into_iter().zip(names) {
        let file = match &members[..] {
            [(file, _)] => file.clone(),
            _ => {
                let first = &members[0].0;
                let folder = first.rsplit_once('/').map_or("", |(folder, _)| folder);
                let slash = if folder.is_empty() { "" } else { "/" };
                format!("{folder}{slash}{stem}*{ending}")
            }
        };
        let texts = members.into_iter().map(|(_, text)| text).collect();
        found.push(FileGroup { name, file, texts });
    }
    Ok(found)
}

/// A file's name without its folder and its kinds.
fn stem_of(path: &Path) -> String {
    let name = path
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let lower = name.to_lowercase();
    let cut = [
        ".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".parquet", ".parq", ".pq",
    ]
    .iter()
    .find_map(|end| lower.rfind(end));
    name[..cut.unwrap_or(name.len())].to_owned()
}

/// Table names of files: snake case, without words that all of them begin or end with.
fn table_names<'a>(stems: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut names: Vec<Vec<String>> = stems
        .map(|stem| {
            snake(stem)
                .split('_')
                .filter(|w| !w.is_empty())
                .map(str::to_owned)
                .collect()
        })
        .collect();
    while names.len() > 1 {
        let first = names[0].first().cloned();
        if names
            .iter()
            .any(|n| n.len() < 2 || n.first() != first.as_ref())
        {
            break;
        }
        names.iter_mut().for_each(|n| drop(n.remove(0)));
    }
    while names.len() > 1 {
        let last = names[0].last().cloned();
        if names
            .iter()
            .any(|n| n.len() < 2 || n.last() != last.as_ref())
        {
            break;
        }
        names.iter_mut().for_each(|n| drop(n.pop()));
    }
    let mut taken: Vec<String> = Vec::new();
    for words in names {
        let mut name = words.join("_");
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            name = format!("t_{name}");
        }
        while taken.contains(&name) {
            name.push_str("_2");
        }
        taken.push(name);
    }
    taken
}

fn common_folder(paths: &[PathBuf]) -> PathBuf {
    let mut folders = paths
        .iter()
        .map(|path| path.parent().unwrap_or(Path::new("")));
    let mut common = folders.next().unwrap_or(Path::new("")).to_owned();
    for folder in folders {
        while !folder.starts_with(&common) {
            if !common.pop() {
                break;
            }
        }
    }
    common
}

/// A word for topics: the data folder's name.
fn topic_prefix(data: &Path) -> String {
    let name = data
        .file_name()
        .map(|n| snake(&n.to_string_lossy()))
        .unwrap_or_default();
    match name.as_str() {
        "" | "data" | "tmp" | "files" => "leadpulse".to_owned(),
        name => name.trim_start_matches('_').replace('_', "-"),
    }
}

/// Things that are scored and have no file of their own: only a column of events names them. Such
/// a column becomes a table, fed by the same file.
fn add_named_root(
    tables: &mut Vec<TableProfile>,
    keys: &mut Vec<Key>,
    files: &mut Vec<Vec<DataText>>,
    root: Option<&str>,
) -> Result<(), InferError> {
    const NAMED: [&str; 12] = [
        "account",
        "customer",
        "client",
        "company",
        "organization",
        "lead",
        "user",
        "contact",
        "member",
        "visitor",
        "buyer",
        "case",
    ];
    let is_there = |name: &str, tables: &[TableProfile]| {
        tables.iter().any(|t| {
            let one = singular(&t.name);
            one == name || one.ends_with(&format!("_{name}"))
        })
    };
    let mut best: Option<(usize, usize, usize)> = None;
    for (table, profile) in tables.iter().enumerate() {
        let has_time = profile
            .columns
            .iter()
            .any(|c| c.time().is_some() && c.present == profile.rows);
        if !has_time {
            continue;
        }
        for (index, column) in profile.columns.iter().enumerate() {
            let field = squeezed(&column.field);
            let Some(rank) = NAMED.iter().position(|n| {
                field == format!("{n}id") || field == *n || field == format!("{n}no")
            }) else {
                continue;
            };
            let repeats = column.present as f64 > 1.3 * column.sketch.distinct();
            let is_free =
                Some(index) != keys[table].column() || matches!(keys[table], Key::Versioned(_));
            let is_wanted = root.is_none_or(|root| singular(root) == NAMED[rank]);
            if column.is_key_like()
                && repeats
                && is_free
                && is_wanted
                && !is_there(NAMED[rank], tables)
                && best.is_none_or(|(known, ..)| rank < known)
            {
                best = Some((rank, table, index));
            }
        }
    }
    // Where things that are scored have a file, another name in events is one more reference.
    let has_scored = NAMED[..8].iter().any(|name| is_there(name, tables));
    let Some((rank, table, index)) = best.filter(|_| !has_scored) else {
        return Ok(());
    };
    let source = &tables[table];
    let name = match NAMED[rank].strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{}s", NAMED[rank]),
    };
    let column = source.columns[index].clone();
    let mut distinct = Column::new(&column.header);
    (distinct.field, distinct.kind) = (column.field.clone(), column.kind.clone());
    (distinct.sketch, distinct.sample) = (column.sketch.clone(), column.sample.clone());
    distinct.present = source.rows;
    let time = source
        .columns
        .iter()
        .find(|c| c.time().is_some() && c.present == source.rows);
    let mut columns = vec![distinct];
    columns.extend(time.cloned());
    let added = TableProfile {
        name,
        file: source.file.clone(),
        dialect: source.dialect,
        rows: source.rows,
        columns,
        signs: Default::default(),
    };
    let mut texts = Vec::new();
    for text in &files[table] {
        texts.push(DataText {
            path: text.path.clone(),
            dialect: text.dialect,
        });
    }
    if column.present < source.rows {
        return Ok(());
    }
    tables.push(added);
    files.push(texts);
    keys.push(Key::Versioned(0));
    // A key that only looked like one is the reference now.
    if keys[table].column() == Some(index) {
        keys[table] = Key::None;
    }
    Ok(())
}

/// Columns of which two by two are tried as a key.
const MOST_PAIRED: usize = 6;

/// Columns that may identify an event together, the likeliest first: references and the time, or all
/// that name something.
fn key_trials(graph: &Graph, table: usize, nulls: &FxHashSet<&str>) -> Vec<Vec<usize>> {
    let profile = &graph.tables[table];
    let full = |index: &usize| {
        let column = &profile.columns[*index];
        let has_null = column.sample.iter().any(|v| nulls.contains(v.as_str()));
        column.present == profile.rows && !has_null
    };
    let references = graph.links[table].iter().map(|link| link.column);
    let references: Vec<usize> = references.filter(full).collect();
    let time = graph.times[table];
    let mut trials: Vec<Vec<usize>> = vec![references.clone()];
    let when_and_whose: Vec<usize> = references.iter().copied().chain(time).collect();
    trials.push(when_and_whose.clone());
    // `flight` of flights: a number that many have, but one at a time.
    let own = (0..profile.columns.len()).filter(|index| {
        let field = squeezed(&profile.columns[*index].field);
        field == squeezed(&singular(&profile.name)) && full(index)
    });
    trials.extend(own.map(|own| [&[own], &when_and_whose[..]].concat()));
    let named = (0..profile.columns.len()).filter(|index| {
        let column = &profile.columns[*index];
        column.is_key_like() && profile::named_like_code(&column.field) && full(index)
    });
    let mut named: Vec<usize> = named.collect();
    // Two that suffice come before all: a third column may change in a later export.
    for (place, first) in named.iter().take(MOST_PAIRED).enumerate() {
        let others = named.iter().take(MOST_PAIRED).skip(place + 1);
        trials.extend(others.map(|second| vec![*first, *second]));
    }
    trials.push(named.clone());
    named.extend(time);
    trials.push(named);
    for trial in &mut trials {
        trial.sort_unstable();
        trial.dedup();
    }
    trials.retain(|trial| trial.len() > 1);
    trials
}

/// Columns that identify an event together; empty where only whole rows differ.
fn composite_key(
    graph: &Graph,
    table: usize,
    texts: &[DataText],
) -> Result<Vec<usize>, InferError> {
    let profile = &graph.tables[table];
    // A word for null in one column is one in all columns of a file.
    let words = profile.columns.iter().flat_map(|column| &column.nulls);
    let nulls: FxHashSet<&str> = words.map(String::as_str).collect();
    let trials = key_trials(graph, table, &nulls);
    let mut seen: Vec<FxHashSet<u64>> = vec![FxHashSet::default(); trials.len()];
    let mut are_unique = vec![true; trials.len()];
    for text in texts {
        text.each_row(&mut |names, cells| {
            for (trial, columns) in trials.iter().enumerate() {
                if !are_unique[trial] || seen[trial].len() >= 1_000_000 {
                    continue;
                }
                let mut words = String::new();
                let mut is_whole = true;
                for column in columns {
                    let header = &profile.columns[*column].header;
                    let place = names.iter().position(|name| name == header);
                    if let Some(Cell::Text(text) | Cell::Number(text)) =
                        place.and_then(|p| cells.get(p))
                    {
                        is_whole &= !nulls.contains(text.trim());
                        words.push_str(text.trim());
                    }
                    words.push('\u{1f}');
                }
                are_unique[trial] = is_whole && seen[trial].insert(hash(&words));
                if !are_unique[trial] {
                    seen[trial] = FxHashSet::default();
                }
            }
        })?;
    }
    let found = are_unique.iter().position(|unique| *unique);
    Ok(found.map(|trial| trials[trial].clone()).unwrap_or_default())
}

/// A line per file: its table, role, key, time and references.
fn summary(graph: &Graph, schemas: &[Option<TableSchema>]) -> Vec<String> {
    let mut lines = Vec::new();
    for (table, profile) in graph.tables.iter().enumerate() {
        let (Some(role), Some(schema)) = (graph.role(table), &schemas[table]) else {
            if let Part::Out(why) = &graph.parts[table] {
                lines.push(format!("{} → left out: {why}", profile.file));
            }
            continue;
        };
        let field = |index: usize| profile.columns[index].field.as_str();
        let key = match (&graph.keys[table], &schema.key) {
            (Key::Column(index), _) => field(*index).to_owned(),
            (Key::Versioned(index), _) if role == Role::Event => {
                format!("{} (some repeat)", field(*index))
            }
            (Key::Versioned(index), _) => format!("{} (several versions)", field(*index)),
            (Key::None, Some(key)) => key.join(" + "),
            (Key::None, None) => "none".to_owned(),
        };
        let time = graph.times[table].map_or("none", field);
        let references: Vec<String> = graph.links[table]
            .iter()
            .filter(|link| graph.role(link.target).is_some())
            .map(|link| {
                let target = &graph.tables[link.target].name;
                format!(
                    "{} → {target} ({:.0} % found)",
                    field(link.column),
                    100.0 * link.share
                )
            })
            .collect();
        lines.push(format!(
            "{} → {} ({}), {} rows, key {key}, time {time}{}{}",
            profile.file,
            profile.name,
            role.name(),
            profile.rows,
            if references.is_empty() { "" } else { "; " },
            references.join(", ")
        ));
    }
    lines
}
