//! Two small markets and random row streams over them: what every property of graph and features
//! is tried on.
//!
//! Streams are drawn from plain numbers (so that proptest can shrink them) and know nothing of the
//! graph.

use std::sync::Arc;

use leadpulse_graph::{DAY_MS, Graph, GraphOptions, Tracking};
use leadpulse_schema::{
    Catalog, Comparison, Condition, DataType, DayCounter, DayWindow, Field, FieldId, Literal,
    Meaning, Measure, Operand, Operation, Population, Position, Role, RowBatch, Table, TableId,
    Value,
};
use proptest::prelude::*;

/// The first moment of every stream, 2024-03-01: no row is older.
pub const START_MS: i64 = 1_709_251_200_000;

const ACCOUNTS: &str = r#"{"type":"record","name":"Account","leadpulse":{"table":"accounts","role":"root"},"fields":[
  {"name":"account_id","type":"string","leadpulse":{"key":true}},
  {"name":"updated_at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"industry","type":["null","string"],"default":null,"leadpulse":{"hub":"industries","values":["v0","v1"]}},
  {"name":"tech","type":["null",{"type":"array","items":"string"}],"default":null,"leadpulse":{"hub":"technologies"}},
  {"name":"employees","type":["null","long"],"default":null},
  {"name":"country","type":["null","string"],"default":null},
  {"name":"founded","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null},
  {"name":"vip","type":["null","boolean"],"default":null},
  {"name":"changed","type":["null",{"type":"array","items":"string"}],"default":null,"leadpulse":{"changed_fields":true}}]}"#;
const CONTACTS: &str = r#"{"type":"record","name":"Contact","leadpulse":{"table":"contacts","role":"member"},"fields":[
  {"name":"contact_id","type":"string","leadpulse":{"key":true}},
  {"name":"updated_at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"account_id","type":["null","string"],"default":null,"leadpulse":{"ref":"accounts","owner":true}},
  {"name":"product","type":["null","string"],"default":null,"leadpulse":{"ref":"products"}},
  {"name":"seniority","type":["null","string"],"default":null,"leadpulse":{"values":["v0","v1","v2"]}},
  {"name":"title","type":["null","string"],"default":null,"leadpulse":{"feature":"text"}},
  {"name":"changed","type":["null",{"type":"array","items":"string"}],"default":null,"leadpulse":{"changed_fields":true}}]}"#;
const DEVICES: &str = r#"{"type":"record","name":"Device","leadpulse":{"table":"devices","role":"member"},"fields":[
  {"name":"device_id","type":"string","leadpulse":{"key":true}},
  {"name":"updated_at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"contact_id","type":["null","string"],"default":null,"leadpulse":{"ref":"contacts","owner":true}},
  {"name":"system","type":{"type":"enum","name":"System","symbols":["Ios","Linux","Other"]}}]}"#;
const PRODUCTS: &str = r#"{"type":"record","name":"Product","leadpulse":{"table":"products","role":"hub"},"fields":[
  {"name":"sku","type":"string","leadpulse":{"key":true}},
  {"name":"price","type":["null","double"],"default":null}]}"#;
const ACTIVITIES: &str = r#"{"type":"record","name":"Activity","leadpulse":{"table":"activities","role":"event",
  "stages":{"field":"type","order":{"v0":1,"v1":2,"v2":3}}},"fields":[
  {"name":"activity_id","type":"string","leadpulse":{"key":true}},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"contact_id","type":["null","string"],"default":null,"leadpulse":{"ref":"contacts","owner":true}},
  {"name":"account_id","type":["null","string"],"default":null,"leadpulse":{"ref":"accounts","owner":true}},
  {"name":"device_id","type":["null","string"],"default":null,"leadpulse":{"ref":"devices","owner":true}},
  {"name":"type","type":["null","string"],"default":null,"leadpulse":{"values":["v0","v1","v2"]}},
  {"name":"campaign","type":["null","string"],"default":null},
  {"name":"minutes","type":["null","double"],"default":null},
  {"name":"replied","type":["null","boolean"],"default":null}]}"#;
const PURCHASES: &str = r#"{"type":"record","name":"Purchase","leadpulse":{"table":"purchases","role":"event"},"fields":[
  {"name":"purchase_id","type":"string","leadpulse":{"key":true}},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"account_id","type":["null","string"],"default":null,"leadpulse":{"ref":"accounts","owner":true}},
  {"name":"contact_id","type":["null","string"],"default":null,"leadpulse":{"ref":"contacts","owner":true}},
  {"name":"sku","type":["null","string"],"default":null,"leadpulse":{"ref":"products"}},
  {"name":"amount","type":["null","double"],"default":null},
  {"name":"pieces","type":["null","long"],"default":null},
  {"name":"tags","type":["null",{"type":"array","items":"string"}],"default":null}]}"#;
const PINGS: &str = r#"{"type":"record","name":"Ping","leadpulse":{"table":"pings","role":"event",
  "stages":{"field":"signal","order":{"Up":1,"Down":2}}},"fields":[
  {"name":"ping_id","type":"string","leadpulse":{"key":true}},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"device_id","type":"string","leadpulse":{"ref":"devices","owner":true}},
  {"name":"signal","type":{"type":"enum","name":"Signal","symbols":["Up","Down","Flat"]}},
  {"name":"level","type":"double"}]}"#;

const CUSTOMERS: &str = r#"{"type":"record","name":"Customer","leadpulse":{"table":"customers","role":"root"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"since","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null},
  {"name":"tier","type":{"type":"enum","name":"Tier","symbols":["Gold","Silver"]}}]}"#;
const CARDS: &str = r#"{"type":"record","name":"Card","leadpulse":{"table":"cards","role":"member"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"customer","type":["null","string"],"default":null,"leadpulse":{"ref":"customers","owner":true}},
  {"name":"colour","type":["null","string"],"default":null}]}"#;
const VISITS: &str = r#"{"type":"record","name":"Visit","leadpulse":{"table":"visits","role":"event",
  "stages":{"field":"page","order":{"v0":1,"v1":2}}},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"card","type":["null","string"],"default":null,"leadpulse":{"ref":"cards","owner":true}},
  {"name":"customer","type":["null","string"],"default":null,"leadpulse":{"ref":"customers","owner":true}},
  {"name":"page","type":["null","string"],"default":null,"leadpulse":{"values":["v0","v1"]}},
  {"name":"spent","type":["null","double"],"default":null}]}"#;

const COMPANIES: &str = r#"{"type":"record","name":"Company","leadpulse":{"table":"companies","role":"root"},"fields":[
  {"name":"company_id","type":"string","leadpulse":{"key":true}},
  {"name":"updated_at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"website","type":["null","string"],"default":null,"leadpulse":{"match":"website"}},
  {"name":"merged_into","type":["null","string"],"default":null,"leadpulse":{"ref":"companies","became":true}},
  {"name":"parent","type":["null","string"],"default":null,"leadpulse":{"ref":"companies"}},
  {"name":"country","type":["null","string"],"default":null},
  {"name":"industry","type":["null","string"],"default":null,"leadpulse":{"hub":"industries","values":["v0","v1"]}},
  {"name":"changed","type":["null",{"type":"array","items":"string"}],"default":null,"leadpulse":{"changed_fields":true}}]}"#;
const PEOPLE: &str = r#"{"type":"record","name":"Person","leadpulse":{"table":"people","role":"member"},"fields":[
  {"name":"person_id","type":"string","leadpulse":{"key":true}},
  {"name":"updated_at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"company_id","type":["null","string"],"default":null,"leadpulse":{"ref":"companies","owner":true}},
  {"name":"former_company","type":["null","string"],"default":null,"leadpulse":{"ref":"companies","previous":true}},
  {"name":"email","type":["null","string"],"default":null,"leadpulse":{"match":"domain"}},
  {"name":"site","type":["null","string"],"default":null,"leadpulse":{"match":"website"}},
  {"name":"country","type":["null","string"],"default":null},
  {"name":"duplicate_of","type":["null","string"],"default":null,"leadpulse":{"ref":"people","became":true}},
  {"name":"lead_id","type":["null","string"],"default":null,"leadpulse":{"ref":"leads","was":true}},
  {"name":"referred_by","type":["null","string"],"default":null,"leadpulse":{"ref":"people"}},
  {"name":"knows","type":["null",{"type":"array","items":"string"}],"default":null,"leadpulse":{"ref":"companies"}},
  {"name":"region","type":["null","string"],"default":null,"leadpulse":{"hub":"regions"}},
  {"name":"changed","type":["null",{"type":"array","items":"string"}],"default":null,"leadpulse":{"changed_fields":true}}]}"#;
const LEADS: &str = r#"{"type":"record","name":"Lead","leadpulse":{"table":"leads","role":"member"},"fields":[
  {"name":"lead_id","type":"string","leadpulse":{"key":true}},
  {"name":"updated_at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"company_id","type":["null","string"],"default":null,"leadpulse":{"ref":"companies","owner":true}},
  {"name":"guide","type":["null","string"],"default":null,"leadpulse":{"ref":"people","owner":true}},
  {"name":"email","type":["null","string"],"default":null,"leadpulse":{"match":"domain"}},
  {"name":"converted_to","type":["null","string"],"default":null,"leadpulse":{"ref":"people","became":true}},
  {"name":"product","type":["null","string"],"default":null,"leadpulse":{"ref":"products"}}]}"#;
const DEALS: &str = r#"{"type":"record","name":"Deal","leadpulse":{"table":"deals","role":"member",
  "outcome":{"field":"stage","won":["v0"],"lost":["v1"]}},"fields":[
  {"name":"deal_id","type":"string","leadpulse":{"key":true}},
  {"name":"updated_at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"company_id","type":["null","string"],"default":null,"leadpulse":{"ref":"companies","owner":true}},
  {"name":"person_id","type":["null","string"],"default":null,"leadpulse":{"ref":"people","owner":true}},
  {"name":"sponsor","type":["null","string"],"default":null,"leadpulse":{"ref":"people"}},
  {"name":"stage","type":["null","string"],"default":null,"leadpulse":{"values":["v0","v1"]}}]}"#;
const CALLS: &str = r#"{"type":"record","name":"Call","leadpulse":{"table":"calls","role":"event","not_engagement":{"kind":["v3"]},
  "bursts":{"campaign":"sku","only":{"kind":["v2","v1"]}},
  "stages":{"field":"kind","order":{"v0":1,"v1":2}}},"fields":[
  {"name":"call_id","type":"string","leadpulse":{"key":true}},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"person_id","type":["null","string"],"default":null,"leadpulse":{"ref":"people","owner":true}},
  {"name":"lead_id","type":["null","string"],"default":null,"leadpulse":{"ref":"leads","owner":true}},
  {"name":"company_id","type":["null","string"],"default":null,"leadpulse":{"ref":"companies","owner":true}},
  {"name":"invited","type":["null","string"],"default":null,"leadpulse":{"ref":"people"}},
  {"name":"about","type":["null",{"type":"array","items":"string"}],"default":null,"leadpulse":{"ref":"companies"}},
  {"name":"sku","type":["null","string"],"default":null,"leadpulse":{"ref":"products"}},
  {"name":"kind","type":["null","string"],"default":null,"leadpulse":{"values":["v0","v1"]}},
  {"name":"minutes","type":["null","double"],"default":null},
  {"name":"revoked","type":["null","boolean"],"default":null,"leadpulse":{"retraction":true}}]}"#;
const FORMS: &str = r#"{"type":"record","name":"Form","leadpulse":{"table":"forms","role":"event"},"fields":[
  {"name":"form_id","type":"string","leadpulse":{"key":true}},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"lead_id","type":"string","leadpulse":{"ref":"leads","owner":true}},
  {"name":"topic","type":["null","string"],"default":null,"leadpulse":{"values":["v0"]}}]}"#;
const STEPS: &str = r#"{"type":"record","name":"Step","leadpulse":{"table":"steps","role":"event",
  "not_engagement":{"to_stage":["v2","v4"]},"outcome":{"field":"to_stage","won":["v0"],"lost":["v1","v2"]}},"fields":[
  {"name":"step_id","type":"string","leadpulse":{"key":true}},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
  {"name":"deal_id","type":"string","leadpulse":{"ref":"deals","owner":true}},
  {"name":"to_stage","type":["null","string"],"default":null,"leadpulse":{"values":["v0","v1","v2"]}},
  {"name":"undone","type":["null","boolean"],"default":null,"leadpulse":{"retraction":true}}]}"#;

/// Addresses of streams and the domains they stand for; free mail, hosts without a domain and
/// nonsense stand for none.
pub const ADDRESSES: [(&str, Option<&str>); 14] = [
    ("jo@acme.com", Some("acme.com")),
    ("Jo <jo@Mail.ACME.com.>", Some("acme.com")),
    ("https://www.acme.com/about", Some("acme.com")),
    ("x@umbrella.co.uk", Some("umbrella.co.uk")),
    ("http://umbrella.co.uk:8080", Some("umbrella.co.uk")),
    ("a@b\u{fc}ro.de", Some("xn--bro-hoa.de")),
    ("shop.xn--bro-hoa.de", Some("xn--bro-hoa.de")),
    ("initech.io", Some("initech.io")),
    ("jo@gmail.com", None),
    ("jo@mail.freebie.example", None),
    ("localhost", None),
    ("n/a", None),
    ("jo@sales.ourselves.example", Some("ourselves.example")),
    ("https://rival.example/", Some("rival.example")),
];

/// A catalog with the options, windows and population filter its graphs are built with.
#[derive(Clone, Debug)]
pub struct Market {
    pub catalog: Arc<Catalog>,
    pub options: GraphOptions,
    pub population: Population,
    /// Streams take no event back.
    pub forbids_retractions: bool,
}

/// Account, contacts, their devices; hubs of all three kinds; three event tables.
pub fn crm() -> Market {
    let files = [
        ACCOUNTS, CONTACTS, DEVICES, PRODUCTS, ACTIVITIES, PURCHASES, PINGS,
    ];
    let catalog = load(&files);
    let (activities, purchases) = (
        catalog.table("activities").unwrap(),
        catalog.table("purchases").unwrap(),
    );
    let kind = Operand::Column(field(activities, "type"));
    let first_kind = Condition::Compare(kind, Comparison::Equal, Literal::Text("v0".into()));
    let counters = vec![
        DayCounter {
            events: activities.id,
            filter: None,
            measure: Measure::Count,
        },
        DayCounter {
            events: activities.id,
            filter: Some(first_kind),
            measure: Measure::CountOf(field(activities, "minutes")),
        },
        DayCounter {
            events: purchases.id,
            filter: None,
            measure: Measure::SumOf(field(purchases, "amount")),
        },
    ];
    let windows = vec![
        DayWindow {
            counter: 0,
            start_days: Some(-7),
            end_days: 0,
        },
        DayWindow {
            counter: 0,
            start_days: Some(-30),
            end_days: -7,
        },
        DayWindow {
            counter: 1,
            start_days: None,
            end_days: 0,
        },
        DayWindow {
            counter: 2,
            start_days: None,
            end_days: -3,
        },
        DayWindow {
            counter: 2,
            start_days: Some(-14),
            end_days: 0,
        },
    ];
    Market::new(catalog, counters, windows)
}

/// Companies, people, leads and deals that become each other, refer to each other, move, and find
/// their company by its domain; events that mention others and are taken back. Deals end by
/// events, or by their own stage where there are none.
pub fn network(with_steps: bool) -> Market {
    let mut files = vec![COMPANIES, PEOPLE, LEADS, DEALS, PRODUCTS, CALLS, FORMS];
    if with_steps {
        files.push(STEPS);
    }
    let catalog = load(&files);
    let (calls, forms) = (
        catalog.table("calls").unwrap(),
        catalog.table("forms").unwrap(),
    );
    let counters = vec![
        DayCounter {
            events: calls.id,
            filter: None,
            measure: Measure::Count,
        },
        DayCounter {
            events: forms.id,
            filter: None,
            measure: Measure::Count,
        },
        DayCounter {
            events: calls.id,
            filter: None,
            measure: Measure::SumOf(field(calls, "minutes")),
        },
    ];
    let windows = vec![
        DayWindow {
            counter: 0,
            start_days: Some(-30),
            end_days: 0,
        },
        DayWindow {
            counter: 1,
            start_days: None,
            end_days: 0,
        },
        DayWindow {
            counter: 2,
            start_days: Some(-14),
            end_days: 0,
        },
    ];
    let mut market = Market::new(catalog, counters, windows);
    market.options.free_mail_domains = vec!["freebie.example".into()];
    market.options.burst_events = 2;
    market.options.own_domains = vec!["ourselves.example".into()];
    market.options.competitor_domains = vec!["rival.example".into()];
    market
}

/// Customers with cards and one event table: no hub, no version times, no `changed_fields`.
pub fn shop() -> Market {
    let catalog = load(&[CUSTOMERS, CARDS, VISITS]);
    let visits = catalog.table("visits").unwrap().id;
    let counters = vec![DayCounter {
        events: visits,
        filter: None,
        measure: Measure::Count,
    }];
    let windows = vec![
        DayWindow {
            counter: 0,
            start_days: Some(-10),
            end_days: 0,
        },
        DayWindow {
            counter: 0,
            start_days: None,
            end_days: -1,
        },
    ];
    Market::new(catalog, counters, windows)
}

fn load(schemas: &[&str]) -> Arc<Catalog> {
    let files: Vec<(String, &str)> = schemas
        .iter()
        .enumerate()
        .map(|(i, json)| (format!("{i}.avsc"), *json))
        .collect();
    Arc::new(Catalog::from_json(&files).unwrap())
}

fn field(table: &Table, name: &str) -> FieldId {
    table.field(name).unwrap().id
}

impl Market {
    /// In the population is who had something in the first window but not more than two in the
    /// second.
    fn new(catalog: Arc<Catalog>, counters: Vec<DayCounter>, windows: Vec<DayWindow>) -> Self {
        let compare = |window, comparison, x| {
            Box::new(Condition::Compare(
                Operand::Window(window),
                comparison,
                Literal::Number(x),
            ))
        };
        let condition = Condition::And(
            compare(0, Comparison::Greater, 0.0),
            compare(1, Comparison::LessOrEqual, 2.0),
        );
        let population = Population {
            condition: Some(condition),
            windows,
            counters: counters.clone(),
        };
        // The landmark grid is 128 days, the rings are small, and nothing is late unless a test
        // says so.
        let options = GraphOptions {
            half_lives_days: vec![0.5, 3.0, 30.0],
            hashed_buckets: 3,
            rhythm_days: 5,
            staged_events: 6,
            order_window_days: 20.0,
            late_horizon_ms: 4000 * DAY_MS,
            board_epsilon: 0.0,
            shards: 4,
            day_counters: counters,
            ..GraphOptions::default()
        };
        Self {
            catalog,
            options: options.validated().unwrap(),
            population,
            forbids_retractions: false,
        }
    }
    /// An empty graph.
    pub fn graph(&self, tracking: Tracking) -> Graph {
        Graph::new(
            self.catalog.clone(),
            self.options.clone(),
            self.population.windows.clone(),
            tracking,
        )
    }
    /// A batch of rows.
    pub fn batch(&self, rows: &[Plain]) -> RowBatch {
        let mut batch = RowBatch::new();
        for row in rows {
            let operation = match (row.delete, row.takes_back(&self.catalog)) {
                (true, _) => Operation::Delete,
                (false, true) => Operation::Retract,
                (false, false) => Operation::Upsert,
            };
            let mut builder = batch.start(
                &self.catalog,
                row.table,
                operation,
                Position {
                    partition: row.partition,
                    offset: 0,
                },
                row.known_ms,
            );
            for (id, datum) in row.values.iter().enumerate() {
                let id = FieldId(id as u16);
                match datum {
                    Datum::Null => {}
                    Datum::Bool(b) => builder.set(id, Value::Bool(*b)),
                    Datum::Long(n) => builder.set(id, Value::Long(*n)),
                    Datum::Double(x) => builder.set(id, Value::Double(*x)),
                    Datum::Time(t) => builder.set(id, Value::Time(*t)),
                    Datum::Text(text) => builder.set(id, Value::Text(text)),
                    Datum::List(items) => builder.set_list(id, items.iter().map(String::as_str)),
                }
            }
            builder.finish();
        }
        batch
    }
}

/// A value that owns its text.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum {
    Null,
    Bool(bool),
    Long(i64),
    Double(f64),
    Time(i64),
    Text(String),
    List(Vec<String>),
}

/// A row that owns its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Plain {
    pub table: TableId,
    pub delete: bool,
    pub partition: u32,
    pub time_ms: i64,
    pub known_ms: i64,
    pub values: Vec<Datum>,
}

impl Plain {
    /// Whether it takes an event back.
    pub fn takes_back(&self, catalog: &Catalog) -> bool {
        catalog
            .table_at(self.table)
            .retraction
            .is_some_and(|f| self.values[f.index()] == Datum::Bool(true))
    }
    /// The row as it would have happened `delta_ms` later.
    pub fn shifted(&self, delta_ms: i64) -> Plain {
        let shift = |datum: &Datum| match datum {
            Datum::Time(t) => Datum::Time(t + delta_ms),
            other => other.clone(),
        };
        Plain {
            time_ms: self.time_ms + delta_ms,
            known_ms: self.known_ms + delta_ms,
            values: self.values.iter().map(shift).collect(),
            ..self.clone()
        }
    }
}

/// What a stream may contain.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Several events may have the same time (on a grid of six hours); otherwise each row has a
    /// time of its own.
    pub ties: bool,
    /// Numbers and times at the ends of their ranges.
    pub wild: bool,
}

/// The numbers a row is made from.
#[derive(Clone, Debug)]
pub struct Seed {
    table: u8,
    key: u8,
    minute: u32,
    kind: u8,
    entropy: u64,
}

/// Up to `rows` seeds.
pub fn seeds(rows: usize, days: u32) -> impl Strategy<Value = Vec<Seed>> {
    let seed = (
        any::<u8>(),
        0..6_u8,
        0..days * 1440,
        0..100_u8,
        any::<u64>(),
    );
    let seed = seed.prop_map(|(table, key, minute, kind, entropy)| Seed {
        table,
        key,
        minute,
        kind,
        entropy,
    });
    prop::collection::vec(seed, 0..rows)
}

/// The rows of seeds: versions of entities, moves, tombstones, events before their owners,
/// repeats, rows from the future.
pub fn stream(market: &Market, style: Style, seeds: &[Seed]) -> Vec<Plain> {
    let mut rows: Vec<Plain> = Vec::new();
    for (index, seed) in seeds.iter().enumerate() {
        let mut dice = Dice(seed.entropy);
        if seed.kind < 8 && !rows.is_empty() {
            let again = rows[dice.below(rows.len() as u64) as usize].clone();
            if market.catalog.table_at(again.table).role == Role::Event {
                rows.push(again);
                continue;
            }
        }
        // Two thirds of the rows are events.
        let events = seed.table % 3 > 0;
        let tables: Vec<&Table> = market
            .catalog
            .tables
            .iter()
            .filter(|t| (t.role == Role::Event) == events)
            .collect();
        let table = tables[usize::from(seed.table / 3) % tables.len()];
        let offset_ms = if style.ties {
            i64::from(seed.minute / 360) * 360 * 60_000
        } else {
            i64::from(seed.minute) * 60_000 + index as i64
        };
        let time_ms = START_MS + offset_ms;
        let delete = !events && seed.kind < 24;
        let is_future = events && seed.kind > 97;
        let known_ms = if is_future {
            time_ms - DAY_MS
        } else {
            time_ms + dice.below(3_600_000) as i64
        };
        let key = if events {
            format!("e{index}")
        } else {
            entity_key(table, u64::from(seed.key))
        };
        let mut values: Vec<Datum> = table
            .fields
            .iter()
            .map(|f| {
                if delete {
                    Datum::Null
                } else {
                    datum(market, f, style, &mut dice)
                }
            })
            .collect();
        values[table.key.index()] = Datum::Text(key);
        if let (Some(time), false) = (table.time, delete) {
            values[time.index()] = Datum::Time(time_ms);
        }
        if let (Some(changed), false) = (table.changed_fields, delete) {
            let names = table
                .fields
                .iter()
                .map(|f| f.name.clone())
                .filter(|_| dice.below(3) == 0)
                .collect();
            values[changed.index()] = if dice.below(2) == 0 {
                Datum::Null
            } else {
                Datum::List(names)
            };
        }
        if events
            && table
                .owners
                .iter()
                .all(|f| values[f.index()] == Datum::Null)
        {
            let owner = table.owners[dice.below(table.owners.len() as u64) as usize];
            let target = table.field_at(owner).reference.unwrap().table;
            values[owner.index()] = Datum::Text(entity_key(
                market.catalog.table_at(target),
                u64::from(seed.key),
            ));
        }
        let has_time = table.time.is_some() && !delete;
        let time_ms = if has_time { time_ms } else { known_ms };
        let partition = u32::from(table.id.0) * 2 + dice.below(2) as u32;
        let row = Plain {
            table: table.id,
            delete,
            partition,
            time_ms,
            known_ms,
            values,
        };
        if let Some(flag) = table.retraction {
            // Some events are taken back: before they come, or an earlier one now.
            let mut back = row.clone();
            if dice.below(2) == 0 {
                let earlier: Vec<&Plain> = rows.iter().filter(|r| r.table == table.id).collect();
                if !earlier.is_empty() {
                    back = earlier[dice.below(earlier.len() as u64) as usize].clone();
                }
            }
            back.values[flag.index()] = Datum::Bool(true);
            if dice.below(6) == 0 && !market.forbids_retractions {
                rows.push(back);
            }
        }
        rows.push(row);
    }
    rows
}

fn entity_key(table: &Table, number: u64) -> String {
    format!("{}{number}", &table.name[..2])
}

fn datum(market: &Market, field: &Field, style: Style, dice: &mut Dice) -> Datum {
    if field.nullable && dice.below(4) == 0 {
        return Datum::Null;
    }
    if field.data_type == DataType::Bool
        && market.catalog.tables.iter().any(|t| {
            t.retraction == Some(field.id)
                && t.field(&field.name).is_some_and(|f| std::ptr::eq(f, field))
        })
    {
        return Datum::Bool(false);
    }
    if field.match_by.is_some() {
        return Datum::Text(
            ADDRESSES[dice.below(ADDRESSES.len() as u64) as usize]
                .0
                .to_owned(),
        );
    }
    if let Some(reference) = field.reference {
        // Links stay for ever: with many of them all would soon be one.
        if matches!(reference.meaning, Meaning::Became | Meaning::Was) && dice.below(5) > 0 {
            return Datum::Null;
        }
        if field.data_type == DataType::TextList {
            let target = market.catalog.table_at(reference.table);
            return Datum::List(
                (0..6)
                    .filter(|_| dice.below(4) == 0)
                    .map(|i| entity_key(target, i))
                    .collect(),
            );
        }
        return Datum::Text(entity_key(
            market.catalog.table_at(reference.table),
            dice.below(6),
        ));
    }
    const WILD_NUMBERS: [f64; 7] = [1e300, -1e300, f64::MAX, f64::MIN, 1e-300, 0.0, -1.0];
    const WILD_TIMES: [i64; 6] = [
        i64::MIN,
        i64::MAX,
        0,
        -62_135_596_800_000,
        253_402_300_799_000,
        1,
    ];
    match &field.data_type {
        DataType::Bool => Datum::Bool(dice.below(2) == 0),
        DataType::Long if style.wild => {
            Datum::Long([i64::MIN, i64::MAX, 0][dice.below(3) as usize])
        }
        DataType::Long => Datum::Long(dice.below(100) as i64 - 50),
        DataType::Double if style.wild => Datum::Double(WILD_NUMBERS[dice.below(7) as usize]),
        // Quarters, so that plain sums of them are exact in any order.
        DataType::Double => Datum::Double(dice.below(800) as f64 / 4.0 - 60.0),
        DataType::Time if style.wild => Datum::Time(WILD_TIMES[dice.below(6) as usize]),
        DataType::Time => Datum::Time(START_MS - dice.below(4000) as i64 * DAY_MS / 3),
        DataType::Symbol(symbols) => {
            Datum::Text(symbols[dice.below(symbols.len() as u64) as usize].clone())
        }
        DataType::Text => Datum::Text(format!("v{}", dice.below(5))),
        DataType::TextList => Datum::List(
            (0..4)
                .filter(|_| dice.below(3) == 0)
                .map(|i| format!("t{i}"))
                .collect(),
        ),
    }
}

/// Repeatable draws.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        // SplitMix64
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }
}

/// How many cases a property tries: the usual number or `LEADPULSE_PROPERTY_CASES`. A failing case
/// is shrunk, printed, and its seed kept.
pub fn cases(usual: u32) -> ProptestConfig {
    let asked = std::env::var("LEADPULSE_PROPERTY_CASES")
        .ok()
        .and_then(|n| n.parse::<u32>().ok());
    ProptestConfig {
        cases: asked.unwrap_or(usual),
        failure_persistence: Some(Box::new(prop::test_runner::FileFailurePersistence::Direct(
            "tests/failing-seeds.txt",
        ))),
        ..ProptestConfig::default()
    }
}
