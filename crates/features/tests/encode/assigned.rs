//! The person of the own company whom a record is for.

use std::sync::Arc;

use leadpulse_features::assignee;
use leadpulse_graph::{Graph, GraphOptions, Tracking};
use leadpulse_schema::{Catalog, Operation, Position, RowBatch, Value};

use crate::scene::NOW_MS;

const ACCOUNTS: &str = r#"{"type":"record","name":"A","leadpulse":{"table":"accounts","role":"root"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"area","type":["null","string"],"default":null,"leadpulse":{"territory":true}},
  {"name":"rep","type":["null","string"],"default":null,"leadpulse":{"ref":"reps"}}]}"#;
const LEADS: &str = r#"{"type":"record","name":"L","leadpulse":{"table":"leads","role":"member"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"account","type":["null","string"],"default":null,"leadpulse":{"ref":"accounts","owner":true}},
  {"name":"rep","type":["null","string"],"default":null,"leadpulse":{"ref":"reps"}}]}"#;
const DEALS: &str = r#"{"type":"record","name":"D","leadpulse":{"table":"deals","role":"member",
  "outcome":{"field":"stage","won":["won"],"lost":["lost"]}},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"account","type":["null","string"],"default":null,"leadpulse":{"ref":"accounts","owner":true}},
  {"name":"stage","type":["null","string"],"default":null,"leadpulse":{"values":["open","won","lost"]}},
  {"name":"rep","type":["null","string"],"default":null,"leadpulse":{"ref":"reps"}}]}"#;
const REPS: &str = r#"{"type":"record","name":"R","leadpulse":{"table":"reps","role":"staff"},"fields":[
  {"name":"id","type":"string","leadpulse":{"key":true}},
  {"name":"boss","type":["null","string"],"default":null,"leadpulse":{"ref":"reps"}},
  {"name":"area","type":["null","string"],"default":null,"leadpulse":{"territory":true}},
  {"name":"works","type":["null","boolean"],"default":null,"leadpulse":{"active":true}},
  {"name":"changed","type":["null",{"type":"array","items":"string"}],"default":null,"leadpulse":{"changed_fields":true}}]}"#;

struct Company {
    catalog: Arc<Catalog>,
    graph: Graph,
}

impl Company {
    /// An account in the north with an open deal, a won deal and a lead, each with its own rep.
    fn new() -> Self {
        let files = [ACCOUNTS, LEADS, DEALS, REPS];
        let files: Vec<(String, &str)> = files.iter().map(|j| (j[25..50].into(), *j)).collect();
        let catalog = Arc::new(Catalog::from_json(&files).unwrap());
        let options = GraphOptions::default().validated().unwrap();
        let graph = Graph::new(catalog.clone(), options, Vec::new(), Tracking::Off);
        let mut company = Company { catalog, graph };
        company.says(
            "accounts",
            &[("id", "acme"), ("area", "north"), ("rep", "ann")],
        );
        company.says(
            "leads",
            &[("id", "lead"), ("account", "acme"), ("rep", "lea")],
        );
        let deal = |id, stage, rep| {
            [
                ("id", id),
                ("account", "acme"),
                ("stage", stage),
                ("rep", rep),
            ]
        };
        company.says("deals", &deal("old", "won", "wim"));
        company.says("deals", &deal("new", "open", "dan"));
        company
    }

    fn apply(&mut self, table: &str, operation: Operation, values: &[(&str, Value<'_>)]) {
        let table = self.catalog.table(table).unwrap();
        let mut batch = RowBatch::new();
        let position = Position {
            partition: 0,
            offset: 0,
        };
        let mut row = batch.start(&self.catalog, table.id, operation, position, NOW_MS);
        for (field, value) in values {
            row.set(table.field(field).unwrap().id, *value);
        }
        row.finish();
        self.graph.apply(&batch, None);
    }

    fn says(&mut self, table: &str, texts: &[(&str, &str)]) {
        let values: Vec<_> = texts.iter().map(|(f, t)| (*f, Value::Text(t))).collect();
        self.apply(table, Operation::Upsert, &values);
    }

    fn rep(&mut self, key: &str, area: &str, works: bool) {
        let values = [
            ("id", Value::Text(key)),
            ("area", Value::Text(area)),
            ("works", Value::Bool(works)),
        ];
        self.apply("reps", Operation::Upsert, &values);
    }

    fn assignee(&self, table: &str, key: &str) -> Option<String> {
        let table = self.catalog.table(table).unwrap();
        let (cell, node) = self.graph.find(table.id, key).unwrap();
        assignee(&self.graph, self.graph.cell(cell), node.entity)
    }

    fn check(&self, of_account: &str, of_lead: &str) {
        let found = (
            self.assignee("accounts", "acme"),
            self.assignee("leads", "lead"),
        );
        let expected = [of_account, of_lead].map(|key| (!key.is_empty()).then(|| key.to_owned()));
        assert_eq!([found.0, found.1], expected);
    }
}

#[test]
fn the_first_active_assignee_of_deal_lead_account_and_territory_gets_the_record() {
    let mut company = Company::new();
    company.check("dan", "lea");
    for rep in ["dan", "lea", "ann", "wim", "zoe"] {
        company.rep(rep, "south", true);
    }
    company.rep("nora", "north", true);
    company.check("dan", "lea");
    company.rep("dan", "south", false);
    company.check("lea", "lea");
    company.rep("lea", "south", false);
    company.check("ann", "ann");
    company.rep("ann", "south", false);
    company.check("nora", "nora");
    company.rep("nora", "north", false);
    company.check("", "");
}

#[test]
fn a_key_without_a_row_is_nobody_once_the_staff_table_has_rows() {
    let mut company = Company::new();
    company.rep("ann", "south", true);
    company.check("ann", "ann");
    company.apply("reps", Operation::Delete, &[("id", Value::Text("ann"))]);
    company.check("dan", "lea");
}

#[test]
fn a_change_record_of_a_person_keeps_the_fields_that_it_does_not_name() {
    let mut company = Company::new();
    company.rep("nora", "north", false);
    let table = company.catalog.table("reps").unwrap();
    let mut batch = RowBatch::new();
    let position = Position {
        partition: 0,
        offset: 1,
    };
    let mut row = batch.start(
        &company.catalog,
        table.id,
        Operation::Upsert,
        position,
        NOW_MS,
    );
    row.set(table.field("id").unwrap().id, Value::Text("nora"));
    row.set(table.field("works").unwrap().id, Value::Bool(true));
    row.set_list(table.field("changed").unwrap().id, ["works"]);
    row.finish();
    company.graph.apply(&batch, None);
    company.check("nora", "nora");
}
