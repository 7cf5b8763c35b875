//! The console with made-up companies and wandering scores, to look at without an engine:
//! `cargo run -p leadpulse-server --example console [live|replaying|empty]`, then open the address it prints.

use std::sync::Arc;
use std::time::Duration;

use leadpulse_engine::read_model::{EngineStatus, Phase, ReadModel};
use leadpulse_records::{
    Alert, Driver, KeptLetter, Reason, Rejected, SCORED, Score, ShownAlert, ShownScore, Symbol,
    TypeName,
};
use leadpulse_schema::units::AsOf;
use leadpulse_server::{BandView, ServerOptions, ServerState, TaskView, serve};
use serde_json::json;

const FIRST: [&str; 8] = [
    "Northwind",
    "Alder",
    "Helix",
    "Quarry",
    "Meridian",
    "Fathom",
    "Juniper",
    "Cobalt",
];
const SECOND: [&str; 8] = [
    "Logistics",
    "Biotech",
    "Systems",
    "Retail Group",
    "Energy",
    "Insurance",
    "Robotics",
    "Media",
];
const DRIVERS: [(&str, &str); 5] = [
    ("Engaged contacts", "3 contacts in 14 days, VP + C-Level"),
    ("Content", "pricing page 4 times this week"),
    ("Opportunity", "stage Proposal since 6 days"),
    ("Industry peers", "4 of 31 peers closed in 90 days"),
    ("Silence", "no activity for 12 days"),
];

/// Pseudo-random numbers from a fixed seed, so that each run looks the same.
struct Uniform(u64);

impl Uniform {
    /// The next number, 0–1.
    fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

struct Company {
    index: usize,
    logit: f64,
    emitted: f64,
    hot: bool,
    band: Option<Arc<str>>,
}

impl Company {
    fn new(index: usize, random: &mut Uniform) -> Self {
        let logit = 5.0 * random.next() - 4.2;
        Self {
            index,
            logit,
            emitted: probability(logit),
            hot: false,
            band: None,
        }
    }

    fn id(&self) -> Arc<str> {
        format!("A{:04}", self.index * 37 + 1).into()
    }

    fn name(&self) -> String {
        let second = SECOND[(self.index / 8 + self.index) % 8];
        format!("{} {second}", FIRST[self.index % 8])
    }

    /// Moves the score, and the band with it.
    fn wander(&mut self, random: &mut Uniform) {
        self.logit += 1.2 * (random.next() - 0.5) - 0.05 * (self.logit + 1.5);
        self.emitted = probability(self.logit);
        self.hot = self.emitted >= if self.hot { 0.4 } else { 0.5 };
        self.band = if self.hot {
            Some("hot".into())
        } else {
            (self.emitted >= 0.2).then(|| "warm".into())
        };
    }

    fn score(&self, epoch: u64, as_of: i64, previous: f64) -> ShownScore {
        let index = self.index;
        let velocity = (self.emitted - previous) / 3.0;
        let label = self.band.as_ref().map(|_| "Schedule exec call");
        let record = Score {
            task: "buys_90d".into(),
            entity_type: "accounts".into(),
            entity_id: self.id(),
            account_id: Some(self.id()),
            status: SCORED,
            probability: Some(self.emitted),
            score: Some(100.0 * self.emitted),
            band: self.band.clone(),
            trend: trend(epoch, velocity),
            previous_probability: (epoch > 1).then_some(previous),
            velocity_per_day: (epoch > 1).then_some(100.0 * velocity),
            percentile: Some(100.0 * self.emitted),
            top_signal: Some(format!(
                "{}: {}",
                DRIVERS[index % 5].0,
                DRIVERS[index % 5].1
            )),
            recommended_action: label.map(|_| "schedule_exec_call".into()),
            recommended_action_label: label.map(str::to_owned),
            as_of,
            epoch: epoch as i64,
            board: epoch as i64 / 50,
            bundle_id: Some("7f3a9c21".into()),
            drivers: (0..4).map(|rank| driver(index, rank)).collect(),
            drivers_as_of: Some(as_of),
            ..Score::default()
        };
        ShownScore {
            record,
            name: Some(self.name()),
            facts: json!({
                "industry": "Software",
                "employees": 40 * (index + 1),
                "open_opportunities": index % 3,
                "contacts_active_14d": index % 5,
            }),
            history: Vec::new(),
        }
    }

    fn alert(&self, epoch: u64, as_of: i64, previous_band: Option<Arc<str>>) -> ShownAlert {
        let (alert_type, severity) = if self.hot {
            ("threshold_up", "P1")
        } else {
            ("threshold_down", "P2")
        };
        let record = Alert {
            alert_id: format!("{}-{epoch}", self.id()),
            task: "buys_90d".into(),
            entity_type: "accounts".into(),
            entity_id: self.id(),
            r#type: TypeName(alert_type),
            severity: Symbol(severity),
            as_of,
            epoch: epoch as i64,
            band: self.band.clone(),
            previous_band,
            probability: self.emitted,
            score: 100.0 * self.emitted,
            ..Alert::default()
        };
        ShownAlert {
            record,
            name: Some(self.name()),
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mode = std::env::args().nth(1).unwrap_or_else(|| "live".into());
    let read_model = Arc::new(ReadModel::new());
    let server = serve(&ServerOptions::default(), state(&read_model))?;
    println!("http://{}", server.address());

    read_model.publish_dead_letters(letters());
    let mut random = Uniform(7);
    let mut as_of_ms = 1_760_000_000_000;
    let mut companies: Vec<Company> = (0..64)
        .map(|index| Company::new(index, &mut random))
        .collect();
    for epoch in 1_u64.. {
        read_model.beat();
        if mode != "live" {
            read_model.set_status(idle(&mode, epoch, as_of_ms));
            std::thread::sleep(Duration::from_millis(500));
            continue;
        }
        as_of_ms += 17_000;
        let (mut scores, mut alerts) = (Vec::new(), Vec::new());
        for company in &mut companies {
            if epoch > 1 && random.next() > 0.06 {
                continue;
            }
            let previous = (company.emitted, company.hot, company.band.clone());
            company.wander(&mut random);
            let as_of = as_of_ms - (30_000.0 * random.next()) as i64;
            scores.push(company.score(epoch, as_of, previous.0));
            if epoch > 1 && previous.1 != company.hot {
                alerts.push(company.alert(epoch, as_of_ms, previous.2));
            }
        }
        read_model.publish(
            scores,
            alerts,
            status(Phase::Live, epoch, as_of_ms, epoch % 7),
        );
        std::thread::sleep(Duration::from_millis(if epoch < 40 { 5 } else { 700 }));
    }
    Ok(())
}

/// A dead letter of each kind of value.
fn letters() -> Vec<KeptLetter> {
    let cases: [(&str, Reason, &str, Option<&[u8]>); 5] = [
        (
            "crm.accounts",
            Reason::AvroDecode,
            "accounts: 3 bytes are left over after the record",
            Some(b"\0\0\0\0\x07\x06A17\x02\x04\x08"),
        ),
        (
            "web.views",
            Reason::WireFormat,
            "the first byte is 0x7b, not that of a schema id",
            Some(br#"{"view_id": "v1", "page": "/pricing", "at": 1760000000000}"#),
        ),
        (
            "web.views",
            Reason::TombstoneOfEvent,
            "views are events: they have no tombstones",
            None,
        ),
        (
            "mkt.activities",
            Reason::Validation,
            "activities.activity_id: the key is empty",
            Some("type=Öffnung;campaign=Herbst".as_bytes()),
        ),
        (
            "mkt.activities",
            Reason::LateBeyondHorizon,
            "older than the late horizon allows: behind its partition's newest event",
            Some(b"\xfe\xff\0a\0b"),
        ),
    ];
    let letter = |(number, (topic, reason, message, value)): (usize, (_, Reason, _, _))| {
        let rejected = Rejected {
            topic,
            partition: number as i32 % 3,
            offset: 1_200 + number as i64,
            timestamp_ms: 1_760_000_000_000 + 61_000 * number as i64,
            key: Some(b"A0017"),
            value,
            headers: vec![("trace-id", Some(b"7f3a9c21".as_slice()))],
        };
        KeptLetter::of(&rejected.dead_letter(reason, message, AsOf::from_ms(1_760_000_000_000)))
    };
    (0..).zip(cases).filter_map(letter).collect()
}

/// One task about accounts with two bands, and nobody to ask for explanations.
fn state(read_model: &Arc<ReadModel>) -> ServerState {
    let band = |name: &str, enter, exit| BandView {
        name: name.into(),
        enter,
        exit,
    };
    let task = TaskView {
        name: "buys_90d".into(),
        entity: "accounts".into(),
        query: "PREDICT COUNT(opportunities.* WHERE opportunities.stage = 'Closed Won', \
                0, 90, days) > 0 FOR EACH accounts.account_id"
            .into(),
        horizon_ms: 90 * 86_400_000,
        bands: vec![band("warm", 0.2, 0.15), band("hot", 0.5, 0.4)],
        quality: Some("provisional".into()),
        groups: Vec::new(),
        anchors: serde_json::Value::Null,
        actions: Vec::new(),
    };
    ServerState {
        read_model: read_model.clone(),
        registry: prometheus::Registry::new(),
        tasks: vec![task].into(),
        tables: vec!["accounts".into(), "contacts".into(), "leads".into()],
        catalog: None,
        explanations: None,
        questions: None,
        simulator: None,
        queries: None,
        schemas: None,
        version: env!("CARGO_PKG_VERSION").into(),
    }
}

fn status(phase: Phase, epoch: u64, as_of_ms: i64, lag_records: u64) -> EngineStatus {
    EngineStatus {
        phase,
        epoch,
        as_of_ms: Some(as_of_ms),
        records: 0,
        lag_records,
        reason: None,
        deployed: Default::default(),
    }
}

/// Status of an engine that replays, or has no scores yet.
fn idle(mode: &str, epoch: u64, as_of_ms: i64) -> EngineStatus {
    let phase = if mode == "replaying" {
        Phase::Replaying {
            done: 41_200 + epoch * 900,
            total: 120_000,
        }
    } else {
        Phase::Live
    };
    status(phase, 812, as_of_ms, 78_800)
}

fn trend(epoch: u64, velocity: f64) -> Symbol {
    Symbol(if epoch == 1 {
        "unknown"
    } else if velocity.abs() < 0.005 {
        "steady"
    } else if velocity > 0.0 {
        "improving"
    } else {
        "declining"
    })
}

fn driver(index: usize, rank: usize) -> Driver {
    let (label, evidence) = DRIVERS[(index + rank) % 5];
    let sign = if label == "Silence" { -1.0 } else { 1.0 };
    Driver {
        group: label.to_lowercase(),
        label: label.into(),
        contribution: sign * 1.4 / (rank as f64 + 1.0),
        share: if sign > 0.0 { 25 } else { -25 },
        value: None,
        evidence: vec![evidence.into()],
        event_ids: vec![],
    }
}

fn probability(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}
