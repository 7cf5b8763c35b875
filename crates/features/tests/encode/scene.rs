//! A small CRM built row by row, and reads of its cells.

use std::collections::BTreeMap;
use std::sync::Arc;

use leadpulse_features::{Evidence, Facts, FeaturePlan, FeatureSpec};
use leadpulse_graph::{CellRef, DAY_MS, Graph, GraphOptions, RowOutcome, Tracking};
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{Catalog, Operation, Position, RowBatch, Value};

const SCHEMAS: [&str; 7] = [
    r#"{"type":"record","name":"Account","leadpulse":{"table":"accounts","role":"root"},"fields":[
      {"name":"account_id","type":"string","leadpulse":{"key":true}},
      {"name":"name","type":["null","string"],"default":null,"leadpulse":{"label":true}},
      {"name":"industry","type":["null","string"],"default":null,"leadpulse":{"hub":"industries","group":"industry_peers"}},
      {"name":"employee_count","type":["null","long"],"default":null,"leadpulse":{"group":"firmographics"}},
      {"name":"region","type":["null","string"],"default":null,"leadpulse":{"values":["EMEA","North America"],"group":"firmographics"}},
      {"name":"tech_stack","type":["null",{"type":"array","items":"string"}],"default":null,"leadpulse":{"feature":"set","group":"technology"}},
      {"name":"merged_into","type":["null","string"],"default":null,"leadpulse":{"ref":"accounts","became":true}},
      {"name":"created_at","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null,"leadpulse":{"group":"history"}}]}"#,
    r#"{"type":"record","name":"Contact","leadpulse":{"table":"contacts","role":"member"},"fields":[
      {"name":"contact_id","type":"string","leadpulse":{"key":true}},
      {"name":"account_id","type":["null","string"],"default":null,"leadpulse":{"ref":"accounts","owner":true}},
      {"name":"email","type":["null","string"],"default":null,"leadpulse":{"match":"domain"}},
      {"name":"duplicate_of","type":["null","string"],"default":null,"leadpulse":{"ref":"contacts","became":true}},
      {"name":"department","type":["null","string"],"default":null,"leadpulse":{"feature":"category"}},
      {"name":"seniority","type":["null","string"],"default":null,"leadpulse":{"values":["IC","Manager","VP","C-Level"],"ordinal":true}},
      {"name":"engagement_score","type":["null","double"],"default":null,"leadpulse":{"group":"engagement"}}]}"#,
    r#"{"type":"record","name":"Lead","leadpulse":{"table":"leads","role":"member"},"fields":[
      {"name":"lead_id","type":"string","leadpulse":{"key":true}},
      {"name":"account_id","type":["null","string"],"default":null,"leadpulse":{"ref":"accounts","owner":true}},
      {"name":"email","type":["null","string"],"default":null,"leadpulse":{"match":"domain"}},
      {"name":"converted_contact_id","type":["null","string"],"default":null,"leadpulse":{"ref":"contacts","became":true}},
      {"name":"referred_by_account_id","type":["null","string"],"default":null,"leadpulse":{"ref":"accounts"}},
      {"name":"status","type":["null","string"],"default":null,"leadpulse":{"values":["Open","MQL"],"group":"history"}},
      {"name":"seniority","type":["null","string"],"default":null,"leadpulse":{"values":["IC","Manager","VP","C-Level"],"ordinal":true}}]}"#,
    r#"{"type":"record","name":"Deal","leadpulse":{"table":"opportunities","role":"member",
      "outcome":{"field":"stage","won":["Closed Won"],"lost":["Closed Lost"]}},"fields":[
      {"name":"opportunity_id","type":"string","leadpulse":{"key":true}},
      {"name":"account_id","type":["null","string"],"default":null,"leadpulse":{"ref":"accounts","owner":true}},
      {"name":"stage","type":["null","string"],"default":null,"leadpulse":{"values":["Discovery","Negotiation","Closed Won","Closed Lost"],"group":"opportunities"}},
      {"name":"amount","type":["null","double"],"default":null,"leadpulse":{"group":"opportunities"}}]}"#,
    r#"{"type":"record","name":"StageChange","leadpulse":{"table":"stage_changes","role":"event",
      "outcome":{"field":"to_stage","won":["Closed Won"],"lost":["Closed Lost"]}},"fields":[
      {"name":"change_id","type":"string","leadpulse":{"key":true}},
      {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
      {"name":"opportunity_id","type":["null","string"],"default":null,"leadpulse":{"ref":"opportunities","owner":true}},
      {"name":"to_stage","type":"string","leadpulse":{"feature":"category","values":["Discovery","Negotiation","Closed Won","Closed Lost"],"group":"opportunities"}}]}"#,
    r#"{"type":"record","name":"View","leadpulse":{"table":"views","role":"event",
      "stages":{"field":"content","order":{"blog":1,"ebook":1,"case_study":2,"pricing":3}}},"fields":[
      {"name":"view_id","type":"string","leadpulse":{"key":true}},
      {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
      {"name":"contact_id","type":["null","string"],"default":null,"leadpulse":{"ref":"contacts","owner":true}},
      {"name":"lead_id","type":["null","string"],"default":null,"leadpulse":{"ref":"leads","owner":true}},
      {"name":"content","type":"string","leadpulse":{"feature":"category","values":["blog","ebook","case_study","pricing"],"group":"content","groups":{"pricing":"high_intent"}}}]}"#,
    r#"{"type":"record","name":"Activity","leadpulse":{"table":"activities","role":"event",
      "stages":{"field":"type","order":{"demo_request":4}}},"fields":[
      {"name":"activity_id","type":"string","leadpulse":{"key":true}},
      {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
      {"name":"contact_id","type":["null","string"],"default":null,"leadpulse":{"ref":"contacts","owner":true}},
      {"name":"lead_id","type":["null","string"],"default":null,"leadpulse":{"ref":"leads","owner":true}},
      {"name":"invited_contact_id","type":["null","string"],"default":null,"leadpulse":{"ref":"contacts"}},
      {"name":"type","type":"string","leadpulse":{"feature":"category","values":["email_open","demo_request"],"group":"engagement","groups":{"demo_request":"high_intent"}}},
      {"name":"channel","type":["null","string"],"default":null,"leadpulse":{"values":["web","phone"],"group":"engagement"}},
      {"name":"minutes","type":["null","double"],"default":null,"leadpulse":{"group":"engagement"}}]}"#,
];

/// The moment of all reads: 2024-11-11.
pub const NOW_MS: i64 = 1_731_283_200_000;

/// A graph in the making.
pub struct Scene {
    pub catalog: Arc<Catalog>,
    pub plan: FeaturePlan,
    pub graph: Graph,
    /// Rows to be applied, with known times.
    rows: Vec<(i64, RowBatch)>,
    events: usize,
}

impl Scene {
    pub fn new(tracking: Tracking) -> Self {
        let files: Vec<(String, &str)> = SCHEMAS
            .iter()
            .enumerate()
            .map(|(i, json)| (format!("{i}.avsc"), *json))
            .collect();
        let catalog = Arc::new(Catalog::from_json(&files).unwrap());
        let options = GraphOptions::default().validated().unwrap();
        let plan = FeaturePlan::new(catalog.clone(), &options, FeatureSpec::default());
        let graph = Graph::new(catalog.clone(), options, Vec::new(), tracking);
        Self {
            catalog,
            plan,
            graph,
            rows: Vec::new(),
            events: 0,
        }
    }
    /// Adds a row that is known some days before [`NOW_MS`].
    pub fn row(&mut self, table: &str, days_ago: f64, values: &[(&str, Value<'_>)]) -> &mut Self {
        let time_ms = NOW_MS - (days_ago * DAY_MS as f64) as i64;
        let table = self.catalog.table(table).unwrap();
        let mut batch = RowBatch::new();
        let position = Position {
            partition: u32::from(table.id.0),
            offset: 0,
        };
        let mut row = batch.start(
            &self.catalog,
            table.id,
            Operation::Upsert,
            position,
            time_ms,
        );
        values
            .iter()
            .for_each(|(field, value)| row.set(table.field(field).unwrap().id, *value));
        if let Some(time) = table.time {
            row.set(time, Value::Time(time_ms));
        }
        row.finish();
        self.rows.push((time_ms, batch));
        self
    }
    pub fn account(&mut self, key: &str, days_ago: f64, values: &[(&str, Value<'_>)]) -> &mut Self {
        self.row(
            "accounts",
            days_ago,
            &[&[("account_id", Value::Text(key))], values].concat(),
        )
    }
    pub fn contact(
        &mut self,
        key: &str,
        account: &str,
        days_ago: f64,
        values: &[(&str, Value<'_>)],
    ) -> &mut Self {
        let own = [
            ("contact_id", Value::Text(key)),
            ("account_id", Value::Text(account)),
        ];
        self.row("contacts", days_ago, &[&own, values].concat())
    }
    /// A row of an event table with an id of its own.
    pub fn event(&mut self, table: &str, days_ago: f64, values: &[(&str, &str)]) -> &mut Self {
        self.events += 1;
        let id = format!("{table}-{}", self.events);
        let key = self
            .catalog
            .table(table)
            .map(|t| t.field_at(t.key).name.clone())
            .unwrap();
        let mut row = vec![(key.as_str(), Value::Text(&id))];
        row.extend(
            values
                .iter()
                .map(|(field, text)| (*field, Value::Text(text))),
        );
        self.row(table, days_ago, &row)
    }
    pub fn view(&mut self, contact: &str, days_ago: f64, content: &str) -> &mut Self {
        self.event(
            "views",
            days_ago,
            &[("contact_id", contact), ("content", content)],
        )
    }
    pub fn activity(&mut self, contact: &str, days_ago: f64, kind: &str) -> &mut Self {
        self.event(
            "activities",
            days_ago,
            &[("contact_id", contact), ("type", kind)],
        )
    }
    /// A deal with its stages, days ago.
    pub fn deal(&mut self, key: &str, account: &str, stages: &[(f64, &str)]) -> &mut Self {
        for (days_ago, stage) in stages {
            let row = [
                ("opportunity_id", Value::Text(key)),
                ("account_id", Value::Text(account)),
                ("stage", Value::Text(stage)),
                ("amount", Value::Double(120_000.0)),
            ];
            self.row("opportunities", *days_ago, &row);
            self.event(
                "stage_changes",
                *days_ago,
                &[("opportunity_id", key), ("to_stage", stage)],
            );
        }
        self
    }
    /// Applies the rows so far in order of time, and advances to [`NOW_MS`].
    pub fn now(&mut self) -> &mut Self {
        self.rows.sort_by_key(|(time_ms, _)| *time_ms);
        for (time_ms, batch) in self.rows.drain(..) {
            self.graph.advance(AsOf::from_ms(time_ms));
            let outcomes = self.graph.apply(&batch, None);
            assert_eq!(outcomes, [RowOutcome::Accepted]);
        }
        self.graph.advance(AsOf::from_ms(NOW_MS));
        self
    }
    pub fn find(&self, table: &str, key: &str) -> (CellRef, leadpulse_graph::EntityId) {
        let (at, node) = self
            .graph
            .find(self.catalog.table(table).unwrap().id, key)
            .unwrap();
        (at, node.entity)
    }
    pub fn facts(&self, account: &str) -> Facts {
        Facts::of(
            &self.graph,
            self.graph.cell(self.find("accounts", account).0),
            AsOf::from_ms(NOW_MS),
        )
    }
    /// The columns of an account's row.
    pub fn root(&self, account: &str) -> BTreeMap<String, f32> {
        let batch = self.plan.encode(
            &self.graph,
            &[self.find("accounts", account).0],
            AsOf::from_ms(NOW_MS),
            &[],
        );
        self.plan
            .layout()
            .root
            .iter()
            .map(|c| c.name.clone())
            .zip(batch.root)
            .collect()
    }
    /// The columns of a member's row, if it has one.
    pub fn member(&self, table: &str, key: &str) -> Option<BTreeMap<String, f32>> {
        let (at, entity) = self.find(table, key);
        let asked = [self.catalog.table(table).unwrap().id];
        let batch = self
            .plan
            .encode(&self.graph, &[at], AsOf::from_ms(NOW_MS), &asked);
        let (layout, block) = self
            .plan
            .layout()
            .members
            .iter()
            .zip(&batch.members)
            .find(|(m, _)| m.name == table)
            .unwrap();
        let slot = block.entities.iter().position(|e| *e == Some(entity))?;
        let values = &block.values[slot * block.width..(slot + 1) * block.width];
        Some(
            layout
                .columns
                .iter()
                .map(|c| c.name.clone())
                .zip(values.iter().copied())
                .collect(),
        )
    }
    pub fn evidence(&self, table: &str, key: &str) -> BTreeMap<String, Evidence> {
        let (at, entity) = self.find(table, key);
        let evidence = self
            .plan
            .evidence(&self.graph, at, entity, AsOf::from_ms(NOW_MS));
        assert_eq!(evidence.len(), self.plan.layout().groups.len());
        self.plan
            .layout()
            .groups
            .iter()
            .map(|g| g.code.clone())
            .zip(evidence)
            .collect()
    }
    /// Evidence as a page of text: group: value, its lines, its events.
    pub fn page(&self, table: &str, key: &str) -> String {
        let mut page = String::new();
        for (
            group,
            Evidence {
                value,
                words,
                event_ids,
                values: _,
            },
        ) in self.evidence(table, key)
        {
            page += &format!("{group}: {}\n", value.as_deref().unwrap_or("-"));
            words.iter().for_each(|line| page += &format!("  {line}\n"));
            if !event_ids.is_empty() {
                page += &format!("  [{}]\n", event_ids.join(" "));
            }
        }
        page
    }
}

/// An account in the middle of a decision: three colleagues, a champion from a customer, an open
/// deal, a lost one, peers that won.
pub fn acme() -> Scene {
    let text = Value::Text;
    let mut scene = Scene::new(Tracking::Off);
    for peer in ["peer1", "peer2", "peer3"] {
        scene.account(
            peer,
            300.0,
            &[("industry", text("Finance")), ("name", text(peer))],
        );
        scene.deal(
            &format!("won-{peer}"),
            peer,
            &[(20.0, "Discovery"), (10.0, "Closed Won")],
        );
    }
    scene
        .account("globex", 300.0, &[("name", text("Globex"))])
        .deal("won-globex", "globex", &[(200.0, "Closed Won")]);
    scene.account(
        "acme",
        299.0,
        &[
            ("name", text("Acme")),
            ("industry", text("Finance")),
            ("employee_count", Value::Long(12_000)),
            ("region", text("North America")),
            ("created_at", Value::Time(NOW_MS - 400 * DAY_MS)),
        ],
    );
    scene.deal(
        "lost",
        "acme",
        &[(260.0, "Discovery"), (240.0, "Closed Lost")],
    );
    scene.contact("ann", "globex", 150.0, &[("seniority", text("VP"))]);
    scene.contact(
        "ann",
        "acme",
        60.0,
        &[
            ("seniority", text("VP")),
            ("department", text("Engineering")),
            ("engagement_score", Value::Double(92.0)),
        ],
    );
    scene.contact(
        "bob",
        "acme",
        59.0,
        &[
            ("seniority", text("IC")),
            ("department", text("Finance")),
            ("engagement_score", Value::Double(85.0)),
        ],
    );
    scene.contact(
        "old",
        "acme",
        58.0,
        &[
            ("seniority", text("C-Level")),
            ("department", text("Sales")),
        ],
    );
    let lead = [
        ("lead_id", text("lead1")),
        ("account_id", text("acme")),
        ("seniority", text("C-Level")),
        ("status", text("MQL")),
    ];
    scene.row(
        "leads",
        50.0,
        &[
            &lead[..],
            &[
                ("email", text("cleo@acme.example")),
                ("referred_by_account_id", text("peer1")),
            ],
        ]
        .concat(),
    );
    scene.row(
        "leads",
        49.0,
        &[
            ("lead_id", text("cleo@mail.example")),
            ("account_id", text("acme")),
        ],
    );
    scene.view("old", 40.0, "ebook");
    scene.event("views", 26.0, &[("lead_id", "lead1"), ("content", "blog")]);
    scene.view("bob", 12.0, "case_study");
    scene.deal("open", "acme", &[(9.0, "Discovery"), (8.0, "Negotiation")]);
    scene
        .view("bob", 7.0, "pricing")
        .view("ann", 5.0, "pricing");
    scene
        .activity("ann", 2.0, "demo_request")
        .activity("ann", 2.5, "email_open");
    scene.event(
        "activities",
        3.0,
        &[
            ("contact_id", "ann"),
            ("type", "email_open"),
            ("invited_contact_id", "bob"),
        ],
    );
    scene.now();
    scene
}
