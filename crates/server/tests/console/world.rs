//! A made-up deployment: entities whose scores wander, with alerts, lists, letters and a model. The
//! same seed gives the same deployment.

use std::sync::Arc;
use std::thread;

use leadpulse_engine::explain::{ExplainQueue, ExplainRefusal, explain_queue};
use leadpulse_engine::read_model::{DeployedStatus, EngineStatus, Phase, ReadModel};
use leadpulse_records::{
    Alert, Driver, ON_REQUEST, SCORED, Score, ShownAlert, ShownScore, SubScores, Symbol, TypeName,
};
use leadpulse_server::{Handle, ServerOptions, ServerState, serve};

use crate::words::Words;

/// The moment before the first epoch, milliseconds.
pub const START_MS: i64 = 1_760_000_000_000;
/// Entities: more than a window and two pages of a list have.
pub const ENTITIES: usize = 130;
/// Epochs before anybody looks: enough for a line.
const PAST_EPOCHS: u64 = 30;
/// Time between two epochs of the past, milliseconds.
const PAST_STEP_MS: i64 = 86_400_000;

/// Pseudo-random numbers from a fixed seed.
struct Uniform(u64);

impl Uniform {
    /// The next number, 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A running server with its read model, and the hand that moves scores.
pub struct World {
    pub handle: Handle,
    pub read_model: Arc<ReadModel>,
    words: &'static Words,
    random: Uniform,
    logits: Vec<f64>,
    epoch: u64,
    as_of_ms: i64,
}

impl World {
    /// Starts a server with options, and gives its entities a past.
    pub fn start(options: &ServerOptions, words: &'static Words) -> Self {
        let read_model = Arc::new(ReadModel::new());
        let (desk, queue) = explain_queue(8);
        let state = ServerState {
            explanations: Some(desk),
            ..words.state(&read_model)
        };
        let known = read_model.clone();
        // Ends with the server, which has the desk.
        thread::spawn(move || answer_all(&queue, &known));
        let mut random = Uniform(7);
        let mut world = Self {
            handle: serve(options, state).expect("a free port is found"),
            read_model,
            words,
            logits: (0..ENTITIES).map(|_| 4.2 * random.next() - 4.0).collect(),
            random,
            epoch: 0,
            as_of_ms: START_MS,
        };
        while world.epoch < PAST_EPOCHS {
            let alerts = world.epoch % 9 == 4;
            world.step(ENTITIES, PAST_STEP_MS, alerts);
        }
        words.furnish(&world.read_model, world.as_of_ms);
        world
    }

    /// One epoch in which the first `moved` entities get another score. With `alerts`, one of the
    /// first seven is alerted on.
    pub fn step(&mut self, moved: usize, step_ms: i64, alerts: bool) {
        self.epoch += 1;
        self.as_of_ms += step_ms;
        let mut scores = Vec::new();
        for index in 0..moved.min(ENTITIES) {
            let before = probability(self.logits[index]);
            self.logits[index] +=
                0.8 * (self.random.next() - 0.5) - 0.04 * (self.logits[index] + 2.0);
            scores.push(self.score(index, before));
        }
        let alerts: Vec<ShownAlert> = alerts
            .then(|| self.alert(self.epoch as usize % 7))
            .into_iter()
            .collect();
        self.read_model.beat();
        self.read_model.publish(scores, alerts, self.status());
    }

    /// Address of a page.
    pub fn address(&self, page: &str) -> String {
        format!("http://{}/{page}", self.handle.address())
    }

    fn status(&self) -> EngineStatus {
        EngineStatus {
            phase: Phase::Live,
            epoch: self.epoch,
            as_of_ms: Some(self.as_of_ms),
            records: self.epoch * 120,
            lag_records: 3,
            reason: None,
            deployed: DeployedStatus {
                bundle_id: Some("7f3a9c21".into()),
                ..DeployedStatus::default()
            },
        }
    }

    fn score(&self, index: usize, before: f64) -> ShownScore {
        let now = probability(self.logits[index]);
        let (id, words) = (self.words.key(index), self.words);
        let rises = now > before;
        let record = Score {
            task: words.task.into(),
            entity_type: words.table.into(),
            entity_id: id.clone(),
            account_id: Some(id),
            status: SCORED,
            probability: Some(now),
            logit: Some(self.logits[index]),
            score: Some(100.0 * now),
            band: words.band(now),
            previous_probability: (self.epoch > 1).then_some(before),
            previous_score: (self.epoch > 1).then_some(100.0 * before),
            previous_as_of: (self.epoch > 1).then_some(self.as_of_ms - PAST_STEP_MS),
            trend: Symbol(if rises { "improving" } else { "declining" }),
            velocity_per_day: (self.epoch > 1).then_some(100.0 * (now - before)),
            percentile: Some(90.0),
            rank: Some(index as i64 + 1),
            ranked: Some(ENTITIES as i64),
            cause: Symbol("event"),
            horizon_days: Some(90),
            top_signal: Some(words.reasons[index % 3].1.to_owned()),
            recommended_action: Some("call".into()),
            as_of: self.as_of_ms,
            epoch: self.epoch as i64,
            bundle_id: Some("7f3a9c21".into()),
            quality: Some("provisional".into()),
            ..Score::default()
        };
        ShownScore {
            record,
            name: Some(words.name(index)),
            facts: words.facts(index, self.as_of_ms),
            history: Vec::new(),
        }
    }

    fn alert(&self, index: usize) -> ShownAlert {
        let now = probability(self.logits[index]);
        let words = self.words;
        let record = Alert {
            alert_id: format!("alert-{}-{}", words.key(index), self.epoch),
            task: words.task.into(),
            entity_type: words.table.into(),
            entity_id: words.key(index),
            r#type: TypeName("threshold_up"),
            severity: Symbol("P1"),
            state: Symbol("open"),
            band: words.band(now),
            probability: now,
            score: 100.0 * now,
            drivers: drivers(words),
            summary: Some(format!("{}: {}", words.name(index), words.sentence)),
            owner_id: Some("rep-17".into()),
            sla_minutes: Some(240),
            as_of: self.as_of_ms,
            crossed_at: self.as_of_ms,
            epoch: self.epoch as i64,
            ..Alert::default()
        };
        ShownAlert {
            record,
            name: Some(words.name(index)),
        }
    }
}

/// Answers requests for explanations like an engine, until the server is gone.
fn answer_all(queue: &ExplainQueue, read_model: &ReadModel) {
    let explained = |request: &leadpulse_engine::explain::ExplainRequest| {
        let known = read_model.get(&request.entity_type, &request.entity_id);
        let Some(score) = known.first() else {
            return Err(ExplainRefusal::NoSuchEntity {
                entity_type: request.entity_type.clone(),
                entity_id: request.entity_id.clone(),
            });
        };
        let words = Words::of_table(&request.entity_type);
        let mut score = ShownScore::clone(score);
        score.record.sequence = ON_REQUEST;
        score.record.drivers = drivers(words);
        score.record.drivers_as_of = Some(score.record.as_of);
        score.record.change_drivers = drivers(words).into_iter().take(2).collect();
        score.record.change_since = Some(score.record.as_of - 7 * PAST_STEP_MS);
        score.record.sub_scores = Some(SubScores {
            fit: 61.0,
            behaviour: 78.0,
            relations: 50.0,
            timing: 44.0,
        });
        Ok(score)
    };
    while queue.answer_next(explained) {}
}

fn drivers(words: &Words) -> Vec<Driver> {
    let contributions = [0.9, 0.4, -0.6];
    let reasons = words.reasons.iter().zip(contributions);
    let driver = |(reason, contribution): (&(&str, &str), f64)| Driver {
        group: reason.0.to_lowercase(),
        label: reason.0.into(),
        contribution,
        share: if contribution > 0.0 { 50 } else { -100 },
        value: None,
        evidence: vec![reason.1.into()],
        event_ids: vec!["e-1".into()],
    };
    reasons.map(driver).collect()
}

fn probability(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}
