//! Roles: which table is scored, which belong to it, which happen to it.

use super::links::{Key, Link, singular, squeezed};
use super::profile::{Column, Kind, TableProfile};
use super::text::InferError;
use crate::catalog::Role;

/// Names of things that are scored, singular.
const SCORED: [&str; 22] = [
    "account",
    "company",
    "customer",
    "client",
    "organization",
    "organisation",
    "org",
    "buyer",
    "lead",
    "application",
    "applicant",
    "user",
    "shop",
    "subscriber",
    "patient",
    "member",
    "visitor",
    "borrower",
    "tenant",
    "household",
    "merchant",
    "player",
];

/// The part of a table in the graph.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Part {
    In(Role),
    /// Left out, with the reason and the remedy.
    Out(String),
}

/// The tables with their keys and links, and what follows from them.
pub(super) struct Graph {
    pub(super) tables: Vec<TableProfile>,
    pub(super) keys: Vec<Key>,
    pub(super) links: Vec<Vec<Link>>,
    pub(super) parts: Vec<Part>,
    /// Steps of ownership to the root; `None` for hubs and tables left out.
    pub(super) depths: Vec<Option<usize>>,
    /// The column with a table's own time.
    pub(super) times: Vec<Option<usize>>,
    pub(super) root: usize,
    /// Remarks about a table, for the configuration.
    pub(super) doubts: Vec<Vec<String>>,
}

impl Graph {
    pub(super) fn role(&self, table: usize) -> Option<Role> {
        match self.parts[table] {
            Part::In(role) => Some(role),
            Part::Out(_) => None,
        }
    }

    /// The references of a table that own its rows, best first.
    pub(super) fn owners(&self, table: usize) -> Vec<&Link> {
        let role = self.role(table);
        let own_depth = self.depths[table].unwrap_or(usize::MAX);
        let mut owners: Vec<&Link> = self.links[table]
            .iter()
            .filter(|link| {
                let is_list = self.tables[table].columns[link.column].kind == Kind::List;
                let depth = self.depths[link.target];
                let is_above = depth.is_some_and(|d| role == Some(Role::Event) || d < own_depth);
                let target = self.role(link.target);
                let is_owner = matches!(target, Some(Role::Root | Role::Member));
                is_above && is_owner && !is_list && self.meaning(table, link).is_none()
            })
            .collect();
        let order = |link: &&Link| (self.depths[link.target], std::cmp::Reverse(link.is_named));
        match role {
            // The nearest owner names most; an event is the person's before it is the account's.
            Some(Role::Event) => {
                owners.sort_by_key(|link| {
                    let depth = std::cmp::Reverse(self.depths[link.target]);
                    (depth, self.names_few(table, link), link.column)
                });
            }
            _ => {
                owners.sort_by_key(order);
                // One owner decides; a second of the same depth would be another opinion.
                owners.truncate(1);
            }
        }
        let mut targets = Vec::new();
        owners.retain(|link| {
            let is_first = !targets.contains(&link.target);
            targets.push(link.target);
            is_first
        });
        owners
    }

    /// True if another reference of the table names at least `FEWER` times as many rows of the same
    /// table. The three airports that flights leave from say nothing of the hundred they go to.
    fn names_few(&self, table: usize, link: &Link) -> bool {
        const FEWER: f64 = 10.0;
        let named = |link: &Link| self.tables[table].columns[link.column].sketch.distinct();
        self.links[table].iter().any(|other| {
            let is_list = self.tables[table].columns[other.column].kind == Kind::List;
            let is_rival = other.target == link.target && other.column != link.column && !is_list;
            is_rival && named(other) >= FEWER * named(link)
        })
    }

    /// The annotation of a reference that says the two rows are one, or were: by its name.
    pub(super) fn meaning(&self, table: usize, link: &Link) -> Option<&'static str> {
        let field = &self.tables[table].columns[link.column].field;
        let is_node = matches!(self.role(link.target), Some(Role::Root | Role::Member));
        let is_entity = matches!(self.role(table), Some(Role::Root | Role::Member));
        if !is_node || !is_entity {
            return None;
        }
        // A root becomes a root, a member a member.
        let is_same = self.role(link.target) == self.role(table);
        if is_same && (field.contains("merged_into") || field.contains("converted")) {
            return Some("became");
        }
        let is_past = ["previous", "former"]
            .iter()
            .any(|word| field.contains(word));
        (is_past && link.target == self.root && self.role(table) == Some(Role::Member))
            .then_some("previous")
    }
}

/// True for a table about something, rather than of something that happened: it has a name, an
/// address or several versions.
fn is_entity(table: &TableProfile, key: &Key) -> bool {
    let named = |column: &Column| {
        column.kind == Kind::Text
            && (is_label(&column.field, &table.name) || is_email(column))
            && column.sketch.distinct() > 0.5 * column.present as f64
    };
    let is_versioned = matches!(key, Key::Versioned(_)) && !repeats_its_events(table, key);
    is_versioned || key.column().is_some() && table.columns.iter().any(named)
}

/// True if few ids repeat and the time is one of a happening: the same events arrived twice, or were
/// taken back.
fn repeats_its_events(table: &TableProfile, key: &Key) -> bool {
    let Some(column) = key.column().map(|index| &table.columns[index]) else {
        return false;
    };
    let is_rare = column.present as f64 <= 1.3 * column.sketch.distinct();
    let time = best_time(table, |f| event_time_score(f, &table.name), 8);
    is_rare && time.is_some()
}

/// Whether a field is text shown to people, by its name.
pub(super) fn is_label(field: &str, table: &str) -> bool {
    let field = squeezed(field);
    let one = squeezed(&singular(table));
    [
        "name",
        "fullname",
        "companyname",
        "company",
        "displayname",
        "label",
        "title",
        "lastname",
    ]
    .contains(&field.as_str())
        || field == format!("{one}name")
}

/// Whether most values are e-mail addresses.
pub(super) fn is_email(column: &Column) -> bool {
    let sample = &column.sample;
    let addresses = sample
        .iter()
        .filter(|v| v.contains('@') && v.contains('.'))
        .count();
    !sample.is_empty() && addresses * 10 >= sample.len() * 8
}

/// How well a column is named as the time of an event, from -9 to 9.
fn event_time_score(field: &str, table: &str) -> i32 {
    let one = singular(table);
    let has = |words: &[&str]| words.iter().any(|word| field.contains(word));
    if has(&[
        "known",
        "ingest",
        "loaded",
        "synced",
        "extracted",
        "received_at",
        "batch",
    ]) {
        return -9;
    }
    if has(&[
        "due", "expect", "require", "return", "ship", "deliver", "close", "end", "birth", "expir",
        "delete", "valid_to",
    ]) {
        return -4;
    }
    if matches!(
        field,
        "ts" | "at" | "date" | "time" | "timestamp" | "datetime"
    ) || has(&[
        "occurred",
        "happened",
        "event_time",
        "event_date",
        "timestamp",
    ]) {
        return 9;
    }
    if field.starts_with(&one) || has(&["purchase", "order", "sent_at", "viewed", "visited"]) {
        return 8;
    }
    if has(&["update", "modif", "change"]) {
        return 1;
    }
    if has(&["create", "creation", "start", "begin"]) {
        return 5;
    }
    3
}

/// How well a column is named as the time from which a row of an entity is known.
fn entity_time_score(field: &str, is_versioned: bool) -> i32 {
    let has = |words: &[&str]| words.iter().any(|word| field.contains(word));
    if has(&[
        "birth", "close", "end", "due", "expir", "last_", "deleted", "valid_to", "dob", "year",
        "season",
    ]) {
        return -4;
    }
    if has(&[
        "update",
        "modif",
        "change",
        "valid_from",
        "snapshot",
        "as_of",
        "effective",
    ]) {
        return if is_versioned { 9 } else { 2 };
    }
    if has(&[
        "create",
        "creation",
        "register",
        "registration",
        "first",
        "open",
        "join",
        "sign",
        "start",
        "since",
        "known",
        "added",
    ]) {
        return if is_versioned { 1 } else { 8 };
    }
    if has(&["timestamp"]) || matches!(field, "ts" | "at") {
        return 5;
    }
    3
}

fn best_time(table: &TableProfile, score: impl Fn(&str) -> i32, least: i32) -> Option<usize> {
    let mut best: Option<(i32, usize)> = None;
    for (index, column) in table.columns.iter().enumerate() {
        if column.time().is_none() || column.present < table.rows || column.bad_values.is_some() {
            continue;
        }
        let score = score(&column.field);
        if score >= least && best.is_none_or(|(known, _)| score > known) {
            best = Some((score, index));
        }
    }
    best.map(|(_, index)| index)
}

/// Settles roles, owners' depths and times. `root` names the table to score.
pub(super) fn settle(
    tables: Vec<TableProfile>,
    keys: Vec<Key>,
    links: Vec<Vec<Link>>,
    root: Option<&str>,
) -> Result<Graph, InferError> {
    let count = tables.len();
    let happens: Vec<bool> = (0..count)
        .map(|t| happens(&tables[t], &keys[t], &links[t]))
        .collect();
    let (root, rival) = match root {
        Some(name) => (
            tables.iter().position(|t| t.name == name).ok_or_else(|| {
                let names: Vec<&str> = tables.iter().map(|t| t.name.as_str()).collect();
                InferError::NoTables(format!(
                    "no file gives a table '{name}' for --root; the tables are: {}",
                    names.join(", ")
                ))
            })?,
            None,
        ),
        None => choose_root(&tables, &keys, &links, &happens)?,
    };
    if keys[root].column().is_none() {
        return Err(InferError::NoTables(format!(
            "the table {} cannot be the root: no column identifies its rows; add a column without repetitions and empty cells",
            tables[root].name
        )));
    }
    let mut graph = Graph {
        parts: vec![Part::Out(String::new()); count],
        depths: vec![None; count],
        times: vec![None; count],
        doubts: vec![Vec::new(); count],
        tables,
        keys,
        links,
        root,
    };
    graph.parts[root] = Part::In(Role::Root);
    graph.depths[root] = Some(0);
    graph.find_members(&happens);
    graph.find_events(&happens);
    graph.find_hubs(&happens);
    graph.find_times();
    // A member has tasks of its own beside those of the root.
    if let Some(rival) = rival.filter(|rival| graph.role(*rival) != Some(Role::Member)) {
        let (chosen, other) = (&graph.tables[root].name, &graph.tables[rival].name);
        let doubt = format!(
            "{chosen} are scored; {other} could be, by what the files show: --root {other} asks about them"
        );
        graph.doubts[root].push(doubt);
    }
    Ok(graph)
}

/// True for rows that happen: a time each, something they are about, and not an entity.
fn happens(table: &TableProfile, key: &Key, links: &[Link]) -> bool {
    if is_entity(table, key) {
        return false;
    }
    let Some(time) = best_time(table, |f| event_time_score(f, &table.name), -4) else {
        return false;
    };
    let repeats = |link: &Link| {
        let column = &table.columns[link.column];
        column.present as f64 > 1.15 * column.sketch.distinct()
    };
    let is_busy = links.iter().any(repeats);
    // A row with a creation date alone may be a thing; a moment of its own is an event.
    let is_moment = event_time_score(&table.columns[time].field, &table.name) >= 5;
    !links.is_empty() && (is_busy || is_moment || key.column().is_none())
}

/// The place of a table's name among those of things that are scored.
fn scored_rank(table: &str) -> Option<usize> {
    let one = singular(table);
    let last = one.rsplit('_').next()?;
    SCORED.iter().position(|name| *name == last)
}

/// A difference of two tables' scores that decides little: less than what a telling name gives.
const NEAR_ROOT: f64 = 2.0;

/// Chooses the table to score, and one that is almost as likely.
fn choose_root(
    tables: &[TableProfile],
    keys: &[Key],
    links: &[Vec<Link>],
    happens: &[bool],
) -> Result<(usize, Option<usize>), InferError> {
    let mut found: Vec<(f64, usize)> = Vec::new();
    for (table, key) in keys.iter().enumerate() {
        if key.column().is_none() || happens[table] {
            continue;
        }
        let reached = reached_by(table, links);
        if reached == 0 {
            continue;
        }
        let rank = scored_rank(&tables[table].name);
        let by_name = rank.map_or(0.0, |rank| 4.0 - 0.05 * rank as f64);
        let count = |t: usize| {
            let key = keys[t].column();
            key.map_or(0.0, |key| tables[t].columns[key].sketch.distinct())
        };
        let entities = count(table);
        // A buyer of a shop: the shop is scored. A handful of users who look after many accounts
        // own none of them in that sense.
        let is_part = links[table].iter().any(|link| {
            let is_scored = scored_rank(&tables[link.target].name).is_some();
            link.target != table && is_scored && 20.0 * count(link.target) >= entities
        });
        let outward = links[table]
            .iter()
            .filter(|l| l.target != table && !happens[l.target]);
        let outward = outward.filter(|l| l.is_named).count() as f64;
        let busy = links
            .iter()
            .enumerate()
            .filter(|(t, l)| happens[*t] && l.iter().any(|link| link.target == table));
        let score = reached as f64 + busy.count() as f64 + by_name + entities.log10()
            - 0.5 * outward
            - if is_part { 2.0 } else { 0.0 }
            - if entities < 20.0 { 3.0 } else { 0.0 };
        found.push((score, table));
    }
    // Stable: of equal ones the first file's.
    found.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    let Some((score, root)) = found.first() else {
        return Err(InferError::NoTables(
            "no table is referred to by another: give the files of the things that are scored \
             (a key without repetitions) and of what happens to them (a column with that key), \
             or name the table with --root"
                .into(),
        ));
    };
    let is_near = |(other, _): &&(f64, usize)| score - other < NEAR_ROOT;
    let rival = found.get(1).filter(is_near).map(|(_, table)| *table);
    Ok((*root, rival))
}

/// The number of tables from which references lead to a table.
fn reached_by(table: usize, links: &[Vec<Link>]) -> usize {
    let mut reached = vec![table];
    loop {
        let more: Vec<usize> = (0..links.len())
            .filter(|t| !reached.contains(t))
            .filter(|t| links[*t].iter().any(|link| reached.contains(&link.target)))
            .collect();
        if more.is_empty() {
            return reached.len() - 1;
        }
        reached.extend(more);
    }
}

impl Graph {
    fn find_members(&mut self, happens: &[bool]) {
        let mut depth = 0;
        loop {
            let next: Vec<usize> = (0..self.tables.len())
                .filter(|t| self.depths[*t].is_none() && !happens[*t])
                .filter(|t| self.keys[*t].column().is_some())
                .filter(|t| {
                    self.links[*t].iter().any(|link| {
                        let is_list = self.tables[*t].columns[link.column].kind == Kind::List;
                        self.depths[link.target] == Some(depth) && !is_list
                    })
                })
                .collect();
            if next.is_empty() {
                break;
            }
            depth += 1;
            for table in next {
                self.parts[table] = Part::In(Role::Member);
                self.depths[table] = Some(depth);
            }
        }
        // People without a reference find their account by the domain of their address.
        let has_site = self.tables[self.root].columns.iter().any(is_site);
        for (table, happens) in happens.iter().enumerate() {
            let is_free = self.depths[table].is_none() && !happens;
            let has_address = self.tables[table].columns.iter().any(is_email);
            if has_site && is_free && has_address && self.keys[table].column().is_some() {
                self.parts[table] = Part::In(Role::Member);
                self.depths[table] = Some(1);
                self.doubts[table].push(format!(
                    "no column refers to {}: rows find theirs by the domain of their e-mail address",
                    self.tables[self.root].name
                ));
            }
        }
    }

    fn find_events(&mut self, happens: &[bool]) {
        for table in (0..self.tables.len()).filter(|t| happens[*t]) {
            let is_owned = self.links[table].iter().any(|link| {
                let is_list = self.tables[table].columns[link.column].kind == Kind::List;
                self.depths[link.target].is_some() && !is_list
            });
            if table == self.root {
                continue;
            }
            self.parts[table] = if is_owned {
                Part::In(Role::Event)
            } else {
                Part::Out(format!(
                    "its rows happen to no row of {} or of what belongs to it; add a column with such a key",
                    self.tables[self.root].name
                ))
            };
        }
    }

    fn find_hubs(&mut self, happens: &[bool]) {
        for (table, happens) in happens.iter().enumerate() {
            if self.role(table).is_some() || *happens {
                continue;
            }
            let named_by: Vec<usize> = (0..self.tables.len())
                .filter(|t| *t != table && self.role(*t).is_some())
                .filter(|t| self.role(*t) != Some(Role::Hub))
                .filter(|t| self.links[*t].iter().any(|link| link.target == table))
                .collect();
            self.parts[table] = if self.keys[table].column().is_none() {
                Part::Out(
                    "no column identifies its rows, and none is a time; join it to another table, or add a time"
                        .into(),
                )
            } else if named_by.is_empty() {
                Part::Out(format!(
                    "no table that belongs to {} refers to it, and it refers to none",
                    self.tables[self.root].name
                ))
            } else {
                Part::In(Role::Hub)
            };
        }
    }

    fn find_times(&mut self) {
        for table in 0..self.tables.len() {
            let profile = &self.tables[table];
            let name = profile.name.clone();
            self.times[table] = match self.role(table) {
                Some(Role::Event) => best_time(profile, |f| event_time_score(f, &name), -4),
                Some(_) => {
                    let is_versioned = matches!(self.keys[table], Key::Versioned(_));
                    let least = if is_versioned { -4 } else { 2 };
                    best_time(profile, |f| entity_time_score(f, is_versioned), least)
                }
                None => None,
            };
            let Some(time) = self.times[table] else {
                continue;
            };
            let field = &profile.columns[time].field;
            let is_change = ["update", "modif", "change"]
                .iter()
                .any(|w| field.contains(w));
            let is_entity = self.role(table) != Some(Role::Event);
            if is_entity && is_change && matches!(self.keys[table], Key::Column(_)) {
                self.doubts[table].push(format!(
                    "one row each and only {field} as its time: nothing is known of a row before; \
                     a column with the time of creation would be better"
                ));
            }
        }
    }
}

/// Whether a column contains web addresses or domains, by its name.
pub(super) fn is_site(column: &Column) -> bool {
    let field = column.field.as_str();
    column.kind == Kind::Text
        && ["website", "domain", "web_site", "homepage", "url"]
            .iter()
            .any(|name| field == *name || field.ends_with(&format!("_{name}")))
        && column.sample.iter().filter(|v| v.contains('.')).count() * 2 > column.sample.len()
}
