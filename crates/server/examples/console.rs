//! Serves the console with made-up companies whose scores wander, to look at it without an engine:
//! `cargo run -p leadpulse-server --example console [live|replaying|empty]`, then open the address it prints.

use std::sync::Arc;
use std::time::Duration;

use leadpulse_engine::read_model::{EngineStatus, Phase, ReadModel};
use leadpulse_records::{Alert, Driver, SCORED, Score, ShownAlert, ShownScore, Symbol, TypeName};
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

struct Company {
    logit: f64,
    emitted: f64,
    hot: bool,
    band: Option<Arc<str>>,
    as_of_ms: i64,
    epoch: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mode = std::env::args().nth(1).unwrap_or_else(|| "live".into());
    let read_model = Arc::new(ReadModel::new());
    let bands = vec![
        BandView {
            name: "warm".into(),
            enter: 0.2,
            exit: 0.15,
        },
        BandView {
            name: "hot".into(),
            enter: 0.5,
            exit: 0.4,
        },
    ];
    let task = TaskView {
        name: "buys_90d".into(),
        entity: "accounts".into(),
        query: "PREDICT COUNT(opportunities.* WHERE opportunities.stage = 'Closed Won', 0, 90, days) > 0 FOR EACH accounts.account_id"
            .into(),
        horizon_ms: 90 * 86_400_000,
        bands,
    };
    let state = ServerState {
        read_model: read_model.clone(),
        registry: prometheus::Registry::new(),
        tasks: vec![task],
        tables: vec!["accounts".into(), "contacts".into(), "leads".into()],
        explanations: None,
        version: env!("CARGO_PKG_VERSION").into(),
    };
    let server = serve(&ServerOptions::default(), state)?;
    println!("http://{}", server.address());

    let mut random = 7u64;
    let mut uniform = move || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut as_of_ms = 1_760_000_000_000;
    let mut companies: Vec<Company> = (0..64)
        .map(|_| {
            let logit = 5.0 * uniform() - 4.2;
            Company {
                logit,
                emitted: probability(logit),
                hot: false,
                band: None,
                as_of_ms,
                epoch: 0,
            }
        })
        .collect();
    for epoch in 1_u64.. {
        read_model.beat();
        if mode != "live" {
            let phase = if mode == "replaying" {
                Phase::Replaying {
                    done: 41_200 + epoch * 900,
                    total: 120_000,
                }
            } else {
                Phase::Live
            };
            read_model.set_status(EngineStatus {
                phase,
                epoch: 812,
                as_of_ms: Some(as_of_ms),
                records: 0,
                lag_records: 78_800,
                reason: None,
            });
            std::thread::sleep(Duration::from_millis(500));
            continue;
        }
        as_of_ms += 17_000;
        let (mut scores, mut alerts) = (Vec::new(), Vec::new());
        for (index, company) in companies.iter_mut().enumerate() {
            if epoch > 1 && uniform() > 0.06 {
                continue;
            }
            let name = format!("{} {}", FIRST[index % 8], SECOND[(index / 8 + index) % 8]);
            let previous = company.emitted;
            let previous_band = company.band.clone();
            company.logit += 1.2 * (uniform() - 0.5) - 0.05 * (company.logit + 1.5);
            company.emitted = probability(company.logit);
            let was_hot = company.hot;
            company.hot = company.emitted >= if was_hot { 0.4 } else { 0.5 };
            company.band = if company.hot {
                Some("hot".into())
            } else {
                (company.emitted >= 0.2).then(|| "warm".into())
            };
            (company.as_of_ms, company.epoch) = (as_of_ms - (30_000.0 * uniform()) as i64, epoch);
            let id: Arc<str> = format!("A{:04}", index * 37 + 1).into();
            let velocity = (company.emitted - previous) / 3.0;
            let label = company.band.as_ref().map(|_| "Schedule exec call");
            let record = Score {
                task: "buys_90d".into(),
                entity_type: "accounts".into(),
                entity_id: id.clone(),
                account_id: Some(id.clone()),
                status: SCORED,
                probability: Some(company.emitted),
                score: Some(100.0 * company.emitted),
                band: company.band.clone(),
                trend: trend(epoch, velocity),
                previous_probability: (epoch > 1).then_some(previous),
                velocity_per_day: (epoch > 1).then_some(100.0 * velocity),
                percentile: Some(100.0 * company.emitted),
                top_signal: Some(format!(
                    "{}: {}",
                    DRIVERS[index % 5].0,
                    DRIVERS[index % 5].1
                )),
                recommended_action: label.map(|_| "schedule_exec_call".into()),
                recommended_action_label: label.map(str::to_owned),
                as_of: company.as_of_ms,
                epoch: epoch as i64,
                board: epoch as i64 / 50,
                bundle_id: Some("7f3a9c21".into()),
                drivers: (0..4).map(|rank| driver(index, rank)).collect(),
                drivers_as_of: Some(company.as_of_ms),
                ..Score::default()
            };
            if epoch > 1 && was_hot != company.hot {
                let (alert_type, severity) = if company.hot {
                    ("threshold_up", "P1")
                } else {
                    ("threshold_down", "P2")
                };
                let alert = Alert {
                    alert_id: format!("{id}-{epoch}"),
                    task: "buys_90d".into(),
                    entity_type: "accounts".into(),
                    entity_id: id,
                    r#type: TypeName(alert_type),
                    severity: Symbol(severity),
                    as_of: as_of_ms,
                    epoch: epoch as i64,
                    band: company.band.clone(),
                    previous_band,
                    probability: company.emitted,
                    score: 100.0 * company.emitted,
                    ..Alert::default()
                };
                alerts.push(ShownAlert {
                    record: alert,
                    name: Some(name.clone()),
                });
            }
            scores.push(ShownScore {
                record,
                name: Some(name),
                facts: json!({
                    "industry": "Software",
                    "employees": 40 * (index + 1),
                    "open_opportunities": index % 3,
                    "contacts_active_14d": index % 5,
                }),
            });
        }
        let status = EngineStatus {
            phase: Phase::Live,
            epoch,
            as_of_ms: Some(as_of_ms),
            records: 0,
            lag_records: epoch % 7,
            reason: None,
        };
        read_model.publish(scores, alerts, status);
        std::thread::sleep(Duration::from_millis(if epoch < 40 { 5 } else { 700 }));
    }
    Ok(())
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
        share: if sign > 0.0 { 25 } else { 0 },
        value: None,
        evidence: vec![evidence.into()],
        event_ids: vec![],
    }
}

fn probability(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}
