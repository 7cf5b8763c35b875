//! `/api/v1/events`: what changes, as server-sent events.
//!
//! No queue belongs to a client. All read the same bounded log of publications, each from its own
//! place, when its connection has room. A client that is slow, or was away, for longer than the log
//! reaches gets `reset` and asks for the state anew; one that takes nothing at all loses its
//! connection. The engine notices neither.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use leadpulse_engine::read_model::{PageRequest, PublishedChange, ReadModel, Sort};
use leadpulse_records::{ShownAlert, ShownScore};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};

use super::alerts::AlertSummary;
use super::answer::ApiError;
use super::arguments::QueryArguments;
use super::endpoint::{AnswerKind, Endpoint, Parameter, ParameterValues, READS};
use super::rows::SummaryRow;
use super::task_of;
use crate::service::App;

/// Rows of one event, at most: above this a client asks for a page instead.
const MAX_ROWS: usize = 500;
/// Interval of comments that keep proxies from closing a silent stream.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(crate) const EVENTS: Endpoint = Endpoint {
    path: "/api/v1/events",
    summary: "Changes of scores and new alerts, as server-sent events",
    parameters: &[
        Parameter {
            name: "task",
            values: ParameterValues::Text,
            about: "only this task; all without it",
        },
        Parameter {
            name: "entities",
            values: ParameterValues::List { max: 200 },
            about: "only entities with these keys; all without it",
        },
        Parameter {
            name: "top",
            values: ParameterValues::Number {
                min: 1,
                max: 1000,
                default: 1000,
            },
            about: "only scores of entities that are among so many at the top; all without it",
        },
        Parameter {
            name: "kinds",
            values: ParameterValues::OneOf(&["all", "scores", "alerts"]),
            about: "scores, alerts or both",
        },
        Parameter {
            name: "every_ms",
            values: ParameterValues::Number {
                min: 200,
                max: 60_000,
                default: 1000,
            },
            about: "shortest time between two events; what comes meanwhile is joined, the newest score of an entity stays",
        },
    ],
    answer: AnswerKind::Events,
    refusals: &[400, 404],
    ..READS
};

/// The part of all changes that a client asks for.
struct Subscription {
    task: Option<String>,
    entities: BTreeSet<String>,
    top: Option<usize>,
    has_scores: bool,
    has_alerts: bool,
    every: Duration,
}

impl Subscription {
    fn of(app: &App, arguments: &QueryArguments) -> Result<Self, ApiError> {
        let tasks = app.state.tasks.now();
        let task = arguments.chosen("task");
        let task = task
            .map(|name| task_of(&tasks, Some(name), None))
            .transpose()?;
        let kinds = arguments.choice("kinds");
        let entities = arguments.list("entities");
        Ok(Self {
            task: task.map(|task| task.name.clone()),
            entities: entities.into_iter().map(str::to_owned).collect(),
            top: arguments
                .has("top")
                .then(|| arguments.number("top") as usize),
            has_scores: kinds != "alerts",
            has_alerts: kinds != "scores",
            every: Duration::from_millis(arguments.number("every_ms")),
        })
    }

    fn is_about(&self, task: &str, entity_id: &str) -> bool {
        self.task.as_deref().is_none_or(|wanted| wanted == task)
            && (self.entities.is_empty() || self.entities.contains(entity_id))
    }

    /// The newest score of each entity that changed, in order of task, table and key.
    fn scores<'a>(
        &self,
        changes: &[&'a Arc<PublishedChange>],
        read_model: &ReadModel,
    ) -> Vec<&'a Arc<ShownScore>> {
        let mut newest = BTreeMap::new();
        for score in changes.iter().flat_map(|change| &change.scores) {
            let record = &score.record;
            if self.has_scores && self.is_about(&record.task, &record.entity_id) {
                newest.insert(
                    (&record.task, &record.entity_type, &record.entity_id),
                    score,
                );
            }
        }
        if let Some(top) = self.top {
            let tables: BTreeSet<_> = newest
                .keys()
                .map(|(task, table, _)| (*task, *table))
                .collect();
            let at_top: BTreeSet<(&Arc<str>, &Arc<str>, Arc<str>)> = tables
                .into_iter()
                .flat_map(|(task, table)| {
                    let ids = keys_at_top(read_model, task, table, top).into_iter();
                    ids.map(move |id| (task, table, id))
                })
                .collect();
            newest.retain(|(task, table, id), _| at_top.contains(&(*task, *table, (*id).clone())));
        }
        newest.into_values().collect()
    }

    fn alerts<'a>(&self, changes: &[&'a Arc<PublishedChange>]) -> Vec<&'a Arc<ShownAlert>> {
        let alerts = changes.iter().flat_map(|change| &change.alerts);
        alerts
            .filter(|alert| {
                let record = &alert.record;
                self.has_alerts && self.is_about(&record.task, &record.entity_id)
            })
            .collect()
    }
}

fn keys_at_top(read_model: &ReadModel, task: &str, table: &str, top: usize) -> Vec<Arc<str>> {
    let request = PageRequest {
        sort: Sort::Score,
        limit: top,
        after: None,
    };
    let page = read_model.ranking(task, table).page(&request, None);
    let keys = page
        .scores
        .iter()
        .map(|score| score.record.entity_id.clone());
    keys.collect()
}

/// One client's stream: its place in the log, and the events that are ready.
struct Feed {
    app: App,
    subscription: Subscription,
    /// Number of the last publication that the client knows.
    known: u64,
    next_at: Instant,
    ready: VecDeque<Event>,
    _permit: OwnedSemaphorePermit,
}

/// `/api/v1/events`
pub(crate) async fn events(
    State(app): State<App>,
    arguments: QueryArguments,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let subscription = Subscription::of(&app, &arguments)?;
    let permit = app.guard.streams.clone().try_acquire_owned().map_err(|_| {
        let hint = "close one, or raise server.limits.streams";
        ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many streams are open",
            hint,
        )
        .retry_after(5)
    })?;
    let log = app.state.read_model.changes();
    let resumed = headers.get("last-event-id").map(|id| {
        let id = id
            .to_str()
            .ok()?
            .strip_prefix(&format!("{:x}-", app.process))?;
        let after: u64 = id.parse().ok()?;
        log.since(after).map(|_| after)
    });
    let mut feed = Feed {
        known: resumed.flatten().unwrap_or_else(|| log.newest()),
        next_at: Instant::now(),
        ready: VecDeque::new(),
        subscription,
        app,
        _permit: permit,
    };
    match resumed {
        Some(Some(_)) => {}
        Some(None) => feed.reset("the events since then are no longer kept"),
        None => feed.announce(),
    }
    let events = stream::unfold(feed, |mut feed| async move {
        let event = feed.next().await?;
        Some((Ok::<_, Infallible>(event), feed))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(events).keep_alive(keep_alive).into_response())
}

impl Feed {
    /// The next event; `None` once the server stops.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let mut newest = self.app.newest.subscribe();
            let known = self.known;
            // The sender ends with the server.
            newest
                .wait_for(|newest| newest.is_none_or(|newest| newest > known))
                .await
                .ok()?;
            sleep_until(self.next_at).await;
            if newest.borrow().is_none() {
                return None;
            }
            self.next_at = Instant::now() + self.subscription.every;
            self.collect();
        }
    }

    /// Makes events of everything that was published since the last look.
    fn collect(&mut self) {
        let log = self.app.state.read_model.changes();
        let Some(changes) = log.since(self.known) else {
            self.known = log.newest();
            self.reset("more was published than is kept");
            return;
        };
        let changes: Vec<&Arc<PublishedChange>> = changes.collect();
        self.known = log.newest();
        let epoch = changes.last().map_or(0, |change| change.epoch);
        let scores = self
            .subscription
            .scores(&changes, &self.app.state.read_model);
        let alerts = self.subscription.alerts(&changes);
        if scores.len() + alerts.len() > MAX_ROWS {
            self.reset("more changed than fits into an event");
            return;
        }
        let owner_fields = self.app.state.owner_fields();
        if !scores.is_empty() {
            let scores = scores
                .iter()
                .map(|score| SummaryRow::alone(score, &owner_fields));
            self.add(
                "scores",
                &ScoresEvent {
                    epoch,
                    scores: scores.collect(),
                },
            );
        }
        if !alerts.is_empty() {
            let alerts = alerts.iter().map(|alert| AlertSummary::of(alert)).collect();
            self.add("alerts", &AlertsEvent { epoch, alerts });
        }
        // Of several events only the last has the id: a client that has half of them resumes before.
        if let Some(last) = self.ready.pop_back() {
            let id = self.id();
            self.ready.push_back(last.id(id));
        }
    }

    fn id(&self) -> String {
        format!("{:x}-{}", self.app.process, self.known)
    }

    fn add(&mut self, name: &str, data: &impl Serialize) {
        let event = Event::default().event(name);
        match event.json_data(data) {
            Ok(event) => self.ready.push_back(event),
            Err(error) => tracing::error!(%error, name, "an event cannot be written"),
        }
    }

    /// The first event of a client that is new: the place from which it can resume.
    fn announce(&mut self) {
        let epoch = self.app.state.read_model.status().epoch;
        let event = Event::default().event("start").id(self.id());
        self.ready.extend(event.json_data(EpochEvent {
            epoch,
            reason: None,
        }));
    }

    /// Tells the client to ask for the state anew; events go on from there.
    fn reset(&mut self, reason: &'static str) {
        let epoch = self.app.state.read_model.status().epoch;
        let event = Event::default().event("reset").id(self.id());
        let data = EpochEvent {
            epoch,
            reason: Some(reason),
        };
        self.ready.extend(event.json_data(data));
    }
}

#[derive(Serialize)]
struct ScoresEvent<'a> {
    epoch: u64,
    scores: Vec<SummaryRow<'a>>,
}

#[derive(Serialize)]
struct AlertsEvent<'a> {
    epoch: u64,
    alerts: Vec<AlertSummary<'a>>,
}

#[derive(Serialize)]
struct EpochEvent {
    /// The newest committed epoch.
    epoch: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}
