//! Labels of many queries over random worlds equal a plain reading of docs/pql.md: with versions,
//! change records, moves, conversions, merges, owners that come late or never, and retractions; at
//! any split, and however the rows were cut into batches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use leadpulse_graph::{Graph, GraphOptions, Tracking};
use leadpulse_pql::{Plan, parse, plan};
use leadpulse_schema::units::{AsOf, DAY_MS};
use leadpulse_schema::{Catalog, Operation, Position, RowBatch, Value};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::belonging::Owners;
use super::{Belonging, Label, LabelHistory};

const SCHEMAS: [&str; 6] = [
    r#"{"type":"record","name":"Account","leadpulse":{"table":"accounts","role":"root"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
      {"name":"sector","type":["null","string"]},
      {"name":"into","type":["null","string"],"leadpulse":{"ref":"accounts","became":true}}]}"#,
    r#"{"type":"record","name":"Contact","leadpulse":{"table":"contacts","role":"member"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
      {"name":"account","type":["null","string"],"leadpulse":{"ref":"accounts","owner":true}},
      {"name":"tier","type":["null","string"]}]}"#,
    r#"{"type":"record","name":"Lead","leadpulse":{"table":"leads","role":"member"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
      {"name":"account","type":["null","string"],"leadpulse":{"ref":"accounts","owner":true}},
      {"name":"contact","type":["null","string"],"leadpulse":{"ref":"contacts","became":true}},
      {"name":"status","type":["null","string"]}]}"#,
    r#"{"type":"record","name":"Deal","leadpulse":{"table":"deals","role":"member"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
      {"name":"account","type":["null","string"],"leadpulse":{"ref":"accounts","owner":true}},
      {"name":"people","type":{"type":"array","items":"string"},"leadpulse":{"ref":"contacts"}},
      {"name":"stage","type":["null","string"]},
      {"name":"amount","type":["null","double"]},
      {"name":"changed","type":{"type":"array","items":"string"},"leadpulse":{"changed_fields":true}}]}"#,
    r#"{"type":"record","name":"Act","leadpulse":{"table":"acts","role":"event"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
      {"name":"contact","type":["null","string"],"leadpulse":{"ref":"contacts","owner":true}},
      {"name":"lead","type":["null","string"],"leadpulse":{"ref":"leads","owner":true}},
      {"name":"account","type":["null","string"],"leadpulse":{"ref":"accounts","owner":true}},
      {"name":"gone","type":"boolean","leadpulse":{"retraction":true}},
      {"name":"kind","type":["null","string"]}]}"#,
    r#"{"type":"record","name":"Step","leadpulse":{"table":"steps","role":"event"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
      {"name":"deal","type":"string","leadpulse":{"ref":"deals","owner":true}},
      {"name":"account","type":["null","string"],"leadpulse":{"ref":"accounts","owner":true}},
      {"name":"stage","type":["null","string"]}]}"#,
];

fn catalog() -> Catalog {
    let files: Vec<(String, &str)> = SCHEMAS
        .iter()
        .enumerate()
        .map(|(index, schema)| (format!("{index}.avsc"), *schema))
        .collect();
    Catalog::from_json(&files).unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// A row of any table, as plain values; absent is null. Times are quarters of days.
#[derive(Clone, Debug)]
struct Plain {
    table: &'static str,
    key: String,
    at: i64,
    known: i64,
    texts: BTreeMap<&'static str, String>,
    people: Vec<String>,
    amount: Option<i32>,
    /// The names of the changed fields of a change record; none for a whole row.
    changed: Vec<&'static str>,
    operation: Operation,
}

impl Plain {
    fn text(&self, field: &str) -> Option<&str> {
        self.texts.get(field).map(String::as_str)
    }
}

fn key(prefix: &'static str, count: u8) -> impl Strategy<Value = String> {
    (0..count).prop_map(move |number| format!("{prefix}{number}"))
}

/// A row of one of the entity tables, or an event.
fn row() -> impl Strategy<Value = Plain> {
    let times = (0..120_i64, prop_oneof![3 => Just(0_i64), 2 => 0..80_i64]);
    let names = (key("A", 4), key("C", 4), key("L", 4), key("D", 4), 0..40_u8);
    let odds = prop::collection::vec(0.0..1.0_f64, 6);
    let words = (
        prop::sample::select(vec!["won", "won", "lost", "open"]),
        prop::sample::select(vec!["demo", "mail"]),
        prop::collection::vec(key("C", 4), 0..3),
        -2..5_i32,
    );
    (0..14_u8, times, names, odds, words).prop_map(
        |(
            which,
            (at, late),
            (account, contact, lead, deal, number),
            odds,
            (stage, kind, people, amount),
        )| {
            let mut row = Plain {
                table: "",
                key: String::new(),
                at,
                known: at + late,
                texts: BTreeMap::new(),
                people: Vec::new(),
                amount: None,
                changed: Vec::new(),
                operation: Operation::Upsert,
            };
            let mut set = |is_set: bool, field: &'static str, text: &str| {
                if is_set {
                    row.texts.insert(field, text.to_owned());
                }
            };
            match which {
                0 | 1 => {
                    // Merges lead to smaller keys alone, so that none closes a ring.
                    let into =
                        format!("A{}", account[1..].parse::<u8>().unwrap().saturating_sub(1));
                    set(odds[0] < 0.2 && into != account, "into", &into);
                    (row.table, row.key) = ("accounts", account);
                }
                2 | 3 => {
                    set(odds[0] < 0.8, "account", &account);
                    set(true, "tier", kind);
                    (row.table, row.key) = ("contacts", contact);
                    if odds[1] < 0.1 {
                        row.operation = Operation::Delete;
                    }
                }
                4 | 5 => {
                    set(odds[0] < 0.4, "account", &account);
                    // A lead becomes one contact only.
                    set(odds[1] < 0.3, "contact", &format!("C{}", &lead[1..]));
                    set(true, "status", stage);
                    (row.table, row.key) = ("leads", lead);
                }
                6..=8 => {
                    set(odds[0] < 0.8, "account", &account);
                    set(odds[1] < 0.9, "stage", stage);
                    row.people = people;
                    row.amount = (odds[2] < 0.8).then_some(amount);
                    (row.table, row.key) = ("deals", deal);
                    // A change record is empty where it changes nothing.
                    if odds[3] < 0.3 {
                        row.changed = vec!["stage"];
                        row.texts.remove("account");
                        (row.people, row.amount) = (Vec::new(), None);
                    } else if odds[3] < 0.4 {
                        row.changed = vec!["account", "people"];
                        row.texts.remove("stage");
                        row.amount = None;
                    } else if odds[3] < 0.5 {
                        row.operation = Operation::Delete;
                    }
                }
                9..=11 => {
                    set(odds[0] < 0.5, "contact", &contact);
                    set(odds[1] < 0.4, "lead", &lead);
                    set(odds[2] < 0.4, "account", &account);
                    set(odds[3] < 0.9, "kind", kind);
                    (row.table, row.key) = ("acts", format!("e{number}"));
                    if odds[4] < 0.15 {
                        row.operation = Operation::Retract;
                    }
                }
                _ => {
                    set(true, "deal", &deal);
                    set(odds[0] < 0.5, "account", &account);
                    set(true, "stage", stage);
                    (row.table, row.key) = ("steps", format!("s{number}"));
                }
            }
            row
        },
    )
}

/// Rows in the order in which they become known. Ids of events are used once, but for retractions.
fn world() -> impl Strategy<Value = Vec<Plain>> {
    prop::collection::vec(row(), 1..90).prop_map(|mut rows| {
        rows.sort_by_key(|row| row.known);
        let mut ids = BTreeSet::new();
        rows.retain(|row| {
            !matches!(row.table, "acts" | "steps")
                || ids.insert((
                    row.table,
                    row.key.clone(),
                    row.operation == Operation::Retract,
                ))
        });
        rows
    })
}

fn batch(catalog: &Catalog, rows: &[Plain]) -> RowBatch {
    let mut batch = RowBatch::new();
    for (offset, row) in (0..).zip(rows) {
        let table = catalog.table(row.table).unwrap();
        let position = Position {
            partition: 0,
            offset,
        };
        let mut out = batch.start(catalog, table.id, row.operation, position, ms(row.known));
        let field = |name: &str| table.field(name).map(|field| field.id);
        out.set(table.key, Value::Text(&row.key));
        out.set(field("at").unwrap(), Value::Time(ms(row.at)));
        for (name, text) in &row.texts {
            out.set(field(name).unwrap(), Value::Text(text));
        }
        if row.table == "deals" {
            out.set_list(
                field("people").unwrap(),
                row.people.iter().map(String::as_str),
            );
            out.set_list(field("changed").unwrap(), row.changed.iter().copied());
            let amount = row
                .amount
                .map_or(Value::Null, |x| Value::Double(f64::from(x)));
            out.set(field("amount").unwrap(), amount);
        }
        if row.table == "acts" {
            out.set(
                field("gone").unwrap(),
                Value::Bool(row.operation == Operation::Retract),
            );
        }
        out.finish();
    }
    batch
}

/// Milliseconds of a time in quarters of days.
fn ms(quarters: i64) -> i64 {
    quarters * DAY_MS / 4
}

type Who = (&'static str, String);

/// A home from a time on.
#[derive(Clone, Debug)]
struct Home {
    since: i64,
    home: Option<Who>,
    only_events_say: bool,
}

/// What was known at one moment, read plainly.
#[derive(Default)]
struct Reading {
    /// Entities that a row described.
    known: BTreeSet<Who>,
    /// The whole current version of each entity.
    versions: BTreeMap<Who, Plain>,
    /// (what became what, since)
    links: Vec<(Who, Who, i64)>,
    /// The smallest entity that events name beside another.
    companies: BTreeMap<Who, Who>,
    homes: BTreeMap<Who, Vec<Home>>,
    /// Whole versions in their order, with the time at which each takes effect; `None` is deleted.
    lives: BTreeMap<Who, Vec<(i64, Option<Plain>)>>,
    events: Vec<Plain>,
}

/// The order of tables and keys, as tables are declared.
fn rank(who: &Who) -> (usize, &str) {
    let tables = ["accounts", "contacts", "deals", "leads"];
    (tables.iter().position(|t| *t == who.0).unwrap(), &who.1)
}

fn named_owners(row: &Plain) -> Vec<Who> {
    let fields: &[(&str, &'static str)] = match row.table {
        "acts" => &[
            ("contact", "contacts"),
            ("lead", "leads"),
            ("account", "accounts"),
        ],
        "steps" => &[("deal", "deals"), ("account", "accounts")],
        _ => &[("account", "accounts")],
    };
    let owner = |(field, table): &(&str, &'static str)| Some((*table, row.text(field)?.to_owned()));
    fields.iter().filter_map(owner).collect()
}

impl Reading {
    fn of(rows: &[Plain], known_until: i64) -> Self {
        let mut reading = Reading::default();
        let mut retracted = BTreeSet::new();
        for row in rows.iter().filter(|row| row.known <= known_until) {
            if matches!(row.table, "acts" | "steps") {
                if row.operation == Operation::Retract {
                    retracted.insert(row.key.clone());
                } else if row.table == "acts" && retracted.contains(&row.key) {
                    // It was taken back before it came: nothing of it is heard.
                    continue;
                } else {
                    reading.events.push(row.clone());
                }
                if named_owners(row).is_empty() {
                    continue;
                }
                reading.note_companies(row);
                reading.note_homes(None);
            } else {
                let effective = reading.describe(row);
                reading.note_homes(Some(effective));
            }
        }
        let is_gone = |row: &Plain| row.table == "acts" && retracted.contains(&row.key);
        reading.events.retain(|row| !is_gone(row));
        reading
    }

    fn note_companies(&mut self, row: &Plain) {
        let owners = named_owners(row);
        let (owner, others) = owners.split_first().unwrap();
        let company = others.iter().find(|o| o.0 == "accounts").or(others.first());
        if let (Some(company), true) = (company, owner.0 != "accounts") {
            let known = self
                .companies
                .entry(owner.clone())
                .or_insert(company.clone());
            if rank(company) < rank(known) {
                *known = company.clone();
            }
        }
    }

    /// Takes a row of an entity; returns the time at which it takes effect.
    fn describe(&mut self, row: &Plain) -> i64 {
        let who = (row.table, row.key.clone());
        let life = self.lives.entry(who.clone()).or_default();
        let effective = match life.last() {
            Some((before, _)) if row.at <= *before => row.known.max(*before),
            _ => row.at,
        };
        if row.operation == Operation::Delete {
            // A deletion of what nobody described is no row of the history.
            if self.versions.remove(&who).is_some() {
                life.push((effective, None));
            }
            return effective;
        }
        let mut version = row.clone();
        if !row.changed.is_empty() {
            let before = self.versions.get(&who);
            let is_told = |field: &str| row.changed.contains(&field);
            for field in ["account", "stage"].into_iter().filter(|f| !is_told(f)) {
                match before.and_then(|before| before.text(field)) {
                    Some(text) => version.texts.insert(field, text.to_owned()),
                    None if before.is_some() => version.texts.remove(field),
                    None => None,
                };
            }
            if let Some(before) = before {
                if !is_told("people") {
                    version.people = before.people.clone();
                }
                version.amount = before.amount;
            }
        }
        life.push((effective, Some(version.clone())));
        for (field, table) in [("into", "accounts"), ("contact", "contacts")] {
            if let (Some(key), "accounts" | "leads") = (version.text(field), row.table) {
                let to: Who = (table, key.to_owned());
                let is_new = !self.links.iter().any(|(a, b, _)| (a, b) == (&who, &to));
                if is_new && to != who {
                    self.links.push((who.clone(), to, effective));
                }
            }
        }
        self.known.insert(who.clone());
        self.versions.insert(who, version);
        effective
    }

    /// Those who are one with somebody by a time, itself first.
    fn joined(&self, who: &Who, by: i64) -> Vec<Who> {
        let mut all = vec![who.clone()];
        let mut next = 0;
        while let Some(one) = all.get(next).cloned() {
            for (a, b, since) in &self.links {
                for (from, to) in [(a, b), (b, a)] {
                    if *from == one && *since <= by && !all.contains(to) {
                        all.push(to.clone());
                    }
                }
            }
            next += 1;
        }
        all
    }

    /// The end of what somebody became: accounts merge into smaller keys, leads become contacts.
    fn survivor(&self, who: &Who) -> Who {
        let all = self.joined(who, i64::MAX);
        let is_end = |who: &&Who| !self.links.iter().any(|(from, ..)| from == *who);
        all.iter()
            .filter(is_end)
            .min_by_key(|who| rank(who))
            .unwrap()
            .clone()
    }

    /// The home of somebody by all that is known so far, and whether only events say so.
    fn home_now(&self, who: &Who) -> (Option<Who>, bool) {
        let survivor = self.survivor(who);
        if survivor != *who {
            return (Some(survivor), false);
        }
        if who.0 == "accounts" {
            return (None, false);
        }
        let mut joined = self.joined(who, i64::MAX);
        joined[1..].sort_by(|a, b| rank(a).cmp(&rank(b)));
        let owner = |who: &Who| {
            Some((
                "accounts",
                self.versions.get(who)?.text("account")?.to_owned(),
            ))
        };
        if let Some(owner) = joined.iter().find_map(owner) {
            return (Some(owner), false);
        }
        let mut companies = joined.iter().filter_map(|who| self.companies.get(who));
        let company = companies.find(|c| self.survivor(c) != *who);
        (company.cloned(), company.is_some())
    }

    /// Notes the homes that changed with the last row, which took effect at a time; `None` for an
    /// event, which tells where somebody without a home belonged all along.
    fn note_homes(&mut self, effective: Option<i64>) {
        let mut all: BTreeSet<Who> = self.known.clone();
        all.extend(self.companies.keys().cloned());
        all.extend(
            self.links
                .iter()
                .flat_map(|(a, b, _)| [a.clone(), b.clone()]),
        );
        for who in all {
            let (home, only_events_say) = self.home_now(&who);
            let homes = self.homes.entry(who).or_default();
            let since = match (homes.last(), effective) {
                (None, _) if home.is_none() => continue,
                (None, Some(effective)) => effective,
                (None, None) => i64::MIN,
                (Some(last), _)
                    if (&last.home, last.only_events_say) == (&home, only_events_say) =>
                {
                    continue;
                }
                (Some(last), Some(effective)) => effective.max(last.since),
                (Some(last), None) => last.since,
            };
            homes.push(Home {
                since,
                home,
                only_events_say,
            });
        }
    }

    /// The account that somebody belonged to at a time.
    fn account(&self, who: &Who, time: i64, may_ask_events: bool) -> Option<Who> {
        let mut at = who.clone();
        for _ in 0..10 {
            let homes = self.homes.get(&at).map_or(&[][..], Vec::as_slice);
            let home = homes.iter().rfind(|home| home.since <= time);
            let home = home.or(homes.first().filter(|_| at.0 != "accounts"));
            let home = home.filter(|home| may_ask_events || !home.only_events_say);
            match home.and_then(|home| home.home.clone()) {
                Some(next) => at = next,
                None => return (at.0 == "accounts").then_some(at),
            }
        }
        None
    }

    /// Those for whom a row counts that names others, at its time.
    fn whose(&self, entity: &str, named: &[Who], time: i64) -> BTreeSet<Who> {
        let is_described = |who: &&Who| {
            let joined = self.joined(who, i64::MAX);
            joined.iter().any(|one| self.known.contains(one))
        };
        let known: Vec<&Who> = named.iter().filter(is_described).collect();
        let found: Option<Who> = match entity {
            "accounts" => [false, true]
                .into_iter()
                .find_map(|events| known.iter().find_map(|who| self.account(who, time, events))),
            _ => known.first().map(|who| (*who).clone()),
        };
        let all = found.iter().flat_map(|who| self.joined(who, time));
        all.filter(|who| self.known.contains(who)).collect()
    }

    /// The value of a count or sum for somebody after an anchor, window in quarters of days.
    fn value(&self, query: &Question, who: &Who, anchor: i64) -> f64 {
        let (after, until) = (anchor + 4 * query.window.0, anchor + 4 * query.window.1);
        let is_within = |time: i64| time > after && time <= until;
        let mut total = 0.0;
        if matches!(query.table, "acts" | "steps") {
            for event in self
                .events
                .iter()
                .filter(|event| event.table == query.table)
            {
                let is_asked = query.is(event) && is_within(event.at);
                if is_asked
                    && self
                        .whose(query.entity, &named_owners(event), event.at)
                        .contains(who)
                {
                    total += 1.0;
                }
            }
            return total;
        }
        for (row, life) in self.lives.iter().filter(|(row, _)| row.0 == query.table) {
            let mut matched = false;
            let mut has_entered = false;
            let mut last = None;
            for (time, version) in life {
                let version = version.as_ref().filter(|version| query.is(version));
                if let Some(version) = version.filter(|_| is_within(*time)) {
                    let is_theirs = match (query.entity, query.table) {
                        ("contacts", "deals") => {
                            let people = version.people.iter();
                            let people = people.map(|key| ("contacts", key.clone()));
                            people
                                .flat_map(|c| self.joined(&c, *time))
                                .any(|c| c == *who)
                                && self.known.contains(who)
                        }
                        _ => self
                            .whose(query.entity, std::slice::from_ref(row), *time)
                            .contains(who),
                    };
                    if is_theirs {
                        has_entered |= !matched;
                        last = Some(version.amount);
                    }
                }
                matched = version.is_some();
            }
            if has_entered {
                total += match query.is_sum {
                    true => last.flatten().map_or(0.0, f64::from),
                    false => 1.0,
                };
            }
        }
        total
    }
}

/// A query of the kinds that documents promise.
#[derive(Clone, Copy, Debug)]
struct Question {
    entity: &'static str,
    table: &'static str,
    filter: Option<(&'static str, &'static str)>,
    window: (i64, i64),
    is_sum: bool,
}

impl Question {
    fn text(&self) -> String {
        let Question { entity, table, .. } = self;
        let what = match self.is_sum {
            true => format!("SUM({table}.amount"),
            false => format!("COUNT({table}.*"),
        };
        let filter = self.filter.map_or(String::new(), |(field, value)| {
            format!(" WHERE {table}.{field} = '{value}'")
        });
        let (start, end) = self.window;
        format!("PREDICT {what}{filter}, {start}, {end}, days) FOR {entity}")
    }
    fn is(&self, row: &Plain) -> bool {
        self.filter
            .is_none_or(|(field, value)| row.text(field) == Some(value))
    }
}

/// Every way from a table to an entity, with filters and windows: 60 queries.
fn questions() -> Vec<Question> {
    let ways = [
        ("accounts", "acts", Some(("kind", "demo")), false),
        ("accounts", "acts", None, false),
        ("accounts", "steps", Some(("stage", "won")), false),
        ("accounts", "steps", None, false),
        ("accounts", "deals", Some(("stage", "won")), false),
        ("accounts", "deals", Some(("stage", "won")), true),
        ("accounts", "deals", None, false),
        ("accounts", "leads", Some(("status", "won")), false),
        ("accounts", "contacts", None, false),
        ("contacts", "acts", Some(("kind", "mail")), false),
        ("contacts", "acts", None, false),
        ("contacts", "deals", Some(("stage", "won")), false),
        ("contacts", "deals", None, true),
        ("leads", "leads", Some(("status", "won")), false),
        ("leads", "acts", None, false),
        ("deals", "steps", Some(("stage", "won")), false),
        ("deals", "steps", None, false),
        ("deals", "deals", Some(("stage", "won")), true),
        ("deals", "deals", Some(("stage", "lost")), false),
        ("contacts", "contacts", Some(("tier", "demo")), false),
    ];
    let windows = [(0, 10), (0, 30), (5, 20)];
    ways.into_iter()
        .flat_map(|(entity, table, filter, is_sum)| {
            windows.map(|window| Question {
                entity,
                table,
                filter,
                window,
                is_sum,
            })
        })
        .collect()
}

/// A graph that walked through the rows, a given number at a time, and which of them it accepted.
fn walked(catalog: &Catalog, rows: &[Plain], size: usize) -> (Graph, Belonging, Vec<bool>) {
    let shared = Arc::new(catalog.clone());
    let options = GraphOptions {
        late_horizon_ms: 1000 * DAY_MS,
        ..GraphOptions::default()
    };
    let mut graph = Graph::new(shared, options, Vec::new(), Tracking::Off);
    graph.keep_changes();
    let mut belonging = Belonging::default();
    let mut accepted = Vec::with_capacity(rows.len());
    for part in rows.chunks(size) {
        let batch = batch(catalog, part);
        let outcomes = graph.apply(&batch, None);
        accepted.extend(outcomes.iter().map(|outcome| outcome.is_accepted()));
        let changes = graph.take_changes();
        belonging.observe(
            &graph,
            &batch,
            |index| outcomes[index].is_accepted(),
            changes,
        );
        let last = part.iter().map(|row| row.known).max().unwrap();
        graph.advance(AsOf::from_ms(ms(last)));
    }
    (graph, belonging, accepted)
}

fn planned(catalog: &Catalog, text: &str) -> Plan {
    let query = parse(text).unwrap_or_else(|fault| panic!("{}", fault.render(text)));
    let plan = plan(&query, catalog, &BTreeMap::new());
    plan.unwrap_or_else(|fault| panic!("{}", fault.render(text)))
}

/// A row of an entity table, known when it took effect.
fn described(table: &'static str, key: &str, at: i64, texts: &[(&'static str, &str)]) -> Plain {
    Plain {
        table,
        key: key.to_owned(),
        at,
        known: at,
        texts: texts.iter().map(|(f, t)| (*f, (*t).to_owned())).collect(),
        people: Vec::new(),
        amount: None,
        changed: Vec::new(),
        operation: Operation::Upsert,
    }
}

#[test]
fn a_filter_on_the_root_reads_the_account_that_a_member_belongs_to_now() {
    let catalog = catalog();
    let mut rows = vec![
        described("accounts", "A0", 0, &[("sector", "retail")]),
        described("accounts", "A1", 0, &[("sector", "banking")]),
        described("accounts", "A2", 0, &[]),
        described("contacts", "stays", 1, &[("account", "A0")]),
        described("contacts", "moves", 1, &[("account", "A1")]),
        described("contacts", "unknown", 1, &[("account", "A2")]),
        described("contacts", "alone", 1, &[]),
        described("leads", "lead", 1, &[("account", "A0")]),
    ];
    let check = |rows: &[Plain], entity: &str, filter: &str, expected: &[&str]| {
        let text = format!("PREDICT COUNT({entity}.*, 0, 9) > 0 FOR {entity} WHERE {filter}");
        let population = planned(&catalog, &text).population;
        let (graph, ..) = walked(&catalog, rows, rows.len());
        let table = catalog.table(entity).unwrap().id;
        let directory = graph.directory();
        let mut found: Vec<&str> = graph
            .cells()
            .flat_map(|(_, cell)| cell.nodes.iter().map(move |node| (cell, node)))
            .filter(|(_, node)| node.table == table)
            .filter(|(cell, node)| {
                let view = graph.view(cell, node, AsOf::from_ms(ms(100)), &population);
                view.is_eligible()
            })
            .map(|(_, node)| &**directory.key(node.entity))
            .collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{filter}");
    };
    let retail = "accounts.sector = 'retail'";
    check(&rows, "contacts", retail, &["stays"]);
    check(&rows, "leads", retail, &["lead"]);
    check(&rows, "contacts", "accounts.sector != 'retail'", &["moves"]);
    let known = ["alone", "moves", "unknown"];
    check(&rows, "contacts", "NOT accounts.sector = 'retail'", &known);
    check(
        &rows,
        "contacts",
        "accounts.sector IS NULL",
        &["alone", "unknown"],
    );
    rows.push(described("contacts", "moves", 2, &[("account", "A0")]));
    check(&rows, "contacts", retail, &["moves", "stays"]);
    rows.push(described("accounts", "A0", 3, &[("sector", "banking")]));
    check(&rows, "contacts", retail, &[]);
}

#[test]
fn labels_of_random_worlds_equal_a_plain_reading() {
    let catalog = catalog();
    let plans: Vec<(Question, Plan)> = questions()
        .into_iter()
        .map(|question| (question, planned(&catalog, &question.text())))
        .collect();
    let worlds = (
        world(),
        1..40_usize,
        0..200_i64,
        prop::collection::vec(0..120_i64, 3),
    );
    let positive = std::cell::Cell::new(0_usize);
    let config = Config {
        cases: 150,
        failure_persistence: None,
        ..Config::default()
    };
    let run = TestRunner::new(config).run(&worlds, |(rows, size, split, anchors)| {
        let whole = batch(&catalog, &rows);
        for known_until in [split, 10_000] {
            let reading = Reading::of(&rows, known_until);
            for size in [size, rows.len()] {
                let (graph, belonging, accepted) = walked(&catalog, &rows, size);
                let owners = Owners {
                    belonging: &belonging,
                    directory: graph.directory(),
                    catalog: &catalog,
                };
                for (question, plan) in &plans {
                    let mut history = LabelHistory::new(plan, &catalog);
                    let offered = whole
                        .iter()
                        .zip(&accepted)
                        .filter(|(_, is_accepted)| **is_accepted);
                    offered.for_each(|(row, _)| history.offer(row));
                    let (labels, _) = history.known_by(&owners, ms(known_until));
                    for who in reading.known.iter().filter(|who| who.0 == question.entity) {
                        let table = catalog.table(who.0).unwrap().id;
                        let directory = graph.directory();
                        let entity = directory.find(directory.of_table(table), &who.1).unwrap();
                        for anchor in &anchors {
                            let expected = reading.value(question, who, *anchor);
                            let label = labels.label(entity.0, ms(*anchor));
                            prop_assert_eq!(
                                label,
                                Label::Value(expected),
                                "{} of {:?} after {} known by {}, {} rows at a time",
                                question.text(),
                                who,
                                anchor,
                                known_until,
                                size
                            );
                            positive.set(positive.get() + usize::from(expected != 0.0));
                        }
                    }
                }
            }
        }
        Ok(())
    });
    run.unwrap_or_else(|failure| panic!("{failure}"));
    let positive = positive.get();
    assert!(positive > 10_000, "{positive} labels that are not 0");
}
