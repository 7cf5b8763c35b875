//! Links: the key of each table, and the columns that hold keys of other tables.

use super::profile::{Column, Kind, TableProfile, named_like_code, named_like_time};

/// A column that holds keys of a table.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// The column of the referring table.
    pub(super) column: usize,
    /// The table referred to.
    pub(super) target: usize,
    /// The share of the column's distinct values that are keys of the target, from 0 to 1.
    pub(super) share: f64,
    /// True if the names agree too.
    pub(super) is_named: bool,
}

/// The way in which a table's rows are identified.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Key {
    /// A column without nulls and repetitions.
    Column(usize),
    /// A column whose repetitions are versions of the row.
    Versioned(usize),
    /// Nothing by itself identifies a row.
    None,
}

impl Key {
    pub(super) fn column(&self) -> Option<usize> {
        match self {
            Key::Column(index) | Key::Versioned(index) => Some(*index),
            Key::None => None,
        }
    }
}

/// A name without underscores, for comparing conventions.
pub(super) fn squeezed(name: &str) -> String {
    name.chars().filter(|c| *c != '_').collect()
}

/// `companies` → `company`, `boxes` → `box`, `accounts` → `account`.
pub(super) fn singular(table: &str) -> String {
    if let Some(stem) = table.strip_suffix("ies") {
        return format!("{stem}y");
    }
    for end in ["sses", "xes", "ches", "shes"] {
        if table.ends_with(end) {
            return table[..table.len() - 2].to_owned();
        }
    }
    match table.strip_suffix('s') {
        Some(stem) if !table.ends_with("ss") => stem.to_owned(),
        _ => table.to_owned(),
    }
}

/// How well a field is named as the key of its table, from 0 to 3.
fn key_name_score(field: &str, table: &str) -> u8 {
    let field = squeezed(field);
    let (one, many) = (squeezed(&singular(table)), squeezed(table));
    let own = [
        "id", "key", "uuid", "guid", "code", "no", "nr", "nummer", "number", "num", "",
    ];
    if own
        .iter()
        .any(|end| field == format!("{one}{end}") || field == format!("{many}{end}"))
    {
        return 3;
    }
    // `event_id` of stage_changes: the last word of a table is its kind.
    let last = squeezed(&singular(table.rsplit('_').next().unwrap_or(table)));
    if matches!(
        field.as_str(),
        "id" | "key" | "uuid" | "guid" | "rowid" | "messageid" | "eventid"
    ) || field == format!("{last}id")
    {
        return 3;
    }
    if ["id", "key", "uuid", "guid", "sk", "pk"]
        .iter()
        .any(|end| field.ends_with(end))
    {
        return 2;
    }
    u8::from(
        ["code", "no", "nr", "nummer", "number", "num"]
            .iter()
            .any(|end| field.ends_with(end)),
    )
}

/// The key of a table by uniqueness, then by name, then by place.
pub(super) fn key_of(table: &TableProfile) -> Key {
    let full = |column: &Column| column.present == table.rows && column.is_key_like();
    let candidates = table
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| full(column));
    let mut best: Option<(u8, usize)> = None;
    let mut versioned: Option<usize> = None;
    for (index, column) in candidates {
        let score = key_name_score(&column.field, &table.name);
        if column.sketch.is_unique() {
            let is_first = index == 0;
            let may_be = score > 0 || (is_first && !named_like_time(&column.field));
            if may_be && best.is_none_or(|(known, _)| score > known) {
                best = Some((score, index));
            }
        } else if score == 3 && versioned.is_none() && may_have_versions(column, &table.name) {
            versioned = Some(index);
        }
    }
    let has_time = table
        .columns
        .iter()
        .any(|column| matches!(column.kind, Kind::Time(_)) && column.present == table.rows);
    match (best, versioned) {
        (Some((3, index)), _) => Key::Column(index),
        // The table's own name on a column that repeats, beside times: several versions of a row.
        (_, Some(index)) if has_time => Key::Versioned(index),
        (Some((_, index)), _) => Key::Column(index),
        (None, _) => Key::None,
    }
}

/// Replaces keys that no other table names, where a second unique column is named by some: rows
/// are often numbered beside the id that the rest of a database knows them by.
pub(super) fn prefer_named_keys(tables: &[TableProfile], keys: &mut [Key]) {
    for target in 0..tables.len() {
        let Key::Column(chosen) = keys[target] else {
            continue;
        };
        let table = &tables[target];
        let is_key = |column: &Column| {
            column.present == table.rows && column.is_key_like() && column.sketch.is_unique()
        };
        let mut best = (named_by(target, chosen, tables), chosen);
        for (index, column) in table.columns.iter().enumerate() {
            let count = if is_key(column) {
                named_by(target, index, tables)
            } else {
                0
            };
            if count > best.0 {
                best = (count, index);
            }
        }
        keys[target] = Key::Column(best.1);
    }
}

/// The number of other tables with a column that is named as a reference to this one, if `key` is
/// its key, and holds its values.
fn named_by(target: usize, key: usize, tables: &[TableProfile]) -> usize {
    let key = &tables[target].columns[key];
    let names = |column: &Column| {
        column.is_key_like()
            && reference_name_score(&column.field, &tables[target], key) > 0
            && column.sketch.share_in(&key.sketch) >= 0.3
    };
    let others = tables
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != target);
    others
        .filter(|(_, table)| table.columns.iter().any(names))
        .count()
}

/// Whether repetitions of a column can be versions of one row. `flight` of flights is a number that
/// many flights have; an id with dozens of rows each names what the rows are about.
fn may_have_versions(column: &Column, table: &str) -> bool {
    const MOST_VERSIONS: f64 = 30.0;
    let field = squeezed(&column.field);
    let is_bare = field == squeezed(&singular(table)) || field == squeezed(table);
    !is_bare && column.present as f64 <= MOST_VERSIONS * column.sketch.distinct()
}

/// How well a field is named as a reference to a table: 2 exactly, 1 in part, 0 not.
fn reference_name_score(field: &str, target: &TableProfile, key: &Column) -> u8 {
    let squeezed_field = squeezed(field);
    let one = squeezed(&singular(&target.name));
    let key_name = squeezed(&key.field);
    let is_bare = matches!(key_name.as_str(), "id" | "key" | "uuid" | "code" | "name");
    if !is_bare && squeezed_field == key_name
        || squeezed_field == format!("{one}id")
        || squeezed_field == one
    {
        return 2;
    }
    let ends = |name: &str| {
        squeezed_field.ends_with(name) || squeezed_field.ends_with(&format!("{name}s"))
    };
    let words = format!("_{field}_");
    let by_key = !is_bare && key_name.len() > 3 && ends(&key_name);
    let by_table =
        ends(&format!("{one}id")) || words.contains(&format!("_{}_", singular(&target.name)));
    u8::from(by_key || by_table)
}

/// The references of a table: each column with the table whose keys it holds.
pub(super) fn links_of(table: usize, tables: &[TableProfile], keys: &[Key]) -> Vec<Link> {
    let own_key = keys[table].column();
    let mut links = Vec::new();
    for (index, column) in tables[table].columns.iter().enumerate() {
        let may_refer = column.is_key_like() || column.kind == Kind::List;
        if Some(index) == own_key || !may_refer {
            continue;
        }
        let mut best: Option<(u8, f64, usize)> = None;
        for (target, key) in keys.iter().enumerate() {
            let Some(key) = key.column() else { continue };
            let key = &tables[target].columns[key];
            let share = column.sketch.share_in(&key.sketch);
            let name = reference_name_score(&column.field, &tables[target], key);
            let is_better = best.is_none_or(|(n, s, _)| (name, share) > (n, s));
            if may_link(column, name, share) && is_better {
                best = Some((name, share, target));
            }
        }
        if let Some((name, share, target)) = best {
            links.push(Link {
                column: index,
                target,
                share,
                is_named: name > 0,
            });
        }
    }
    links
}

/// Whether a column may hold keys of a table. Small whole numbers are found in any table that
/// counts its rows, so values alone convince only where they are names or large.
fn may_link(column: &Column, name: u8, share: f64) -> bool {
    if name > 0 {
        return share >= 0.3;
    }
    let values = || column.sample.iter().take(50);
    let telling = |value: &String| value.len() >= 5 && value.bytes().any(|b| b.is_ascii_digit());
    // Codes such as those of airports and currencies are found in no other table by chance.
    let code = |value: &String| {
        let is_code = value.bytes().all(|b| b.is_ascii_uppercase());
        is_code && (3..=8).contains(&value.len())
    };
    let distinct = column.sketch.distinct();
    let is_id = named_like_code(&column.field) && distinct >= 5.0 && values().all(telling);
    share >= 0.9 && (is_id || distinct >= 3.0 && values().all(code))
}

/// A reference by name whose values are not found: the formats of the keys differ.
pub(super) fn near_misses(table: usize, tables: &[TableProfile], keys: &[Key]) -> Vec<String> {
    let mut found = Vec::new();
    for (index, column) in tables[table].columns.iter().enumerate() {
        if Some(index) == keys[table].column()
            || !column.is_key_like()
            || !named_like_code(&column.field)
        {
            continue;
        }
        for (target, key) in keys.iter().enumerate() {
            let Some(key) = key.column() else { continue };
            let key = &tables[target].columns[key];
            let share = column.sketch.share_in(&key.sketch);
            if reference_name_score(&column.field, &tables[target], key) == 2 && share < 0.3 {
                let example = |column: &Column| column.sample.first().cloned().unwrap_or_default();
                found.push(format!(
                    "{} is named as the key of {}, but {:.0} % of its values are found there: \
                     '{}' here, '{}' there; bring them into one spelling, then add \"ref\"",
                    column.field,
                    tables[target].name,
                    100.0 * share,
                    example(column),
                    example(key)
                ));
            }
        }
    }
    found
}
