//! The first task: what is worth predicting in tables that nobody described.

use rustc_hash::FxHashMap;

use super::cells::moment;
use super::profile::{Kind, TableProfile, hash};
use super::roles::Graph;
use super::text::{Cell, DataText, InferError};
use crate::catalog::Role;
use crate::units::DAY_MS;

/// Words of a value that ends well, the surest first; a better rank hides the ones after it.
const WON: [&[&str]; 3] = [
    &["won", "closedwon"],
    &["activated", "converted", "purchased", "signed", "upgraded"],
    &[
        "accepted",
        "approved",
        "paid",
        "success",
        "successful",
        "completed",
    ],
];
const LOST: [&str; 15] = [
    "lost",
    "closedlost",
    "declined",
    "cancelled",
    "canceled",
    "rejected",
    "churned",
    "refused",
    "disqualified",
    "unqualified",
    "denied",
    "failed",
    "withdrawn",
    "expired",
    "abandoned",
];
/// Names of events that are revenue, the surest first.
const REVENUE: [&str; 12] = [
    "order",
    "invoice",
    "purchase",
    "payment",
    "transaction",
    "sale",
    "booking",
    "rental",
    "subscription",
    "deal",
    "visit",
    "event",
];

/// The values of a column that end a deal.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    pub(super) column: usize,
    pub(super) won: Vec<String>,
    pub(super) lost: Vec<String>,
}

/// The first task.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FirstTask {
    pub(super) name: String,
    pub(super) query: String,
    pub(super) anchors: String,
    /// The share of true labels, where it was counted.
    pub(super) rate: Option<f64>,
    pub(super) doubts: Vec<String>,
}

fn words(value: &str) -> Vec<String> {
    let lower = value.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric());
    words.filter(|w| !w.is_empty()).map(str::to_owned).collect()
}

/// The outcome of a table: a column with values that end well, and best some that end badly.
pub(super) fn outcome_of(table: &TableProfile) -> Option<Outcome> {
    let mut best: Option<(usize, Outcome)> = None;
    for (column, profile) in table.columns.iter().enumerate() {
        let values = profile.by_count();
        if profile.kind != Kind::Text || values.is_empty() || values.len() > 64 {
            continue;
        }
        let of = |list: &[&str]| {
            let is_one = |value: &&str| words(value).iter().any(|w| list.contains(&w.as_str()));
            let found = values.iter().map(|(v, _)| *v).filter(is_one);
            found.map(str::to_owned).collect::<Vec<String>>()
        };
        let mut lost = of(&LOST);
        let Some(rank) = WON.iter().position(|list| !of(list).is_empty()) else {
            continue;
        };
        let won = of(WON[rank]);
        // `A_ACTIVATED` is not answered by `O_CANCELLED`: the first word is the kind of thing.
        let kinds: Vec<String> = won
            .iter()
            .filter_map(|v| words(v).first().cloned())
            .collect();
        let of_kind = |value: &String| words(value).first().is_some_and(|w| kinds.contains(w));
        if lost.iter().any(of_kind) {
            lost.retain(of_kind);
        }
        // "paid" or "completed" alone is a state of everyone.
        if rank == 2 && lost.is_empty() {
            continue;
        }
        let named = ["stage", "status", "state", "outcome", "result"];
        let badness = rank * 4
            + 2 * usize::from(lost.is_empty())
            + usize::from(!named.iter().any(|n| profile.field.contains(n)))
            + 4 * usize::from(profile.field.contains("from") || profile.field.contains("prev"));
        if best.as_ref().is_none_or(|(known, _)| badness < *known) {
            best = Some((badness, Outcome { column, won, lost }));
        }
    }
    best.map(|(_, outcome)| outcome)
}

/// A name as PQL writes it.
fn quoted(name: &str) -> String {
    const KEYWORDS: [&str; 24] = [
        "predict", "for", "each", "where", "assuming", "using", "and", "or", "not", "in", "like",
        "is", "null", "true", "false", "count", "sum", "avg", "min", "max", "bool", "inf", "days",
        "contains",
    ];
    if KEYWORDS.contains(&name) {
        format!("`{name}`")
    } else {
        name.to_owned()
    }
}

fn is_one_of(column: &str, values: &[String]) -> String {
    let quoted: Vec<String> = values
        .iter()
        .map(|value| format!("'{}'", value.replace('\'', "''")))
        .collect();
    match &quoted[..] {
        [one] => format!("{column} = {one}"),
        several => format!("{column} IN ({})", several.join(", ")),
    }
}

/// The moments of events by entity, for a part of the entities.
struct Activity {
    by_owner: FxHashMap<u64, Vec<i64>>,
    first_ms: i64,
    last_ms: i64,
}

/// Entities that are followed while labels are counted.
const FOLLOWED: usize = 20_000;

impl Graph {
    /// The first task, from the outcome where there is one, else from what happens.
    pub(super) fn first_task(
        &self,
        outcomes: &[Option<Outcome>],
        files: &[Vec<DataText>],
    ) -> Result<Option<FirstTask>, InferError> {
        let root = &self.tables[self.root];
        let key = self.keys[self.root].column().expect("a root has a key");
        let entity = format!(
            "{}.{}",
            quoted(&root.name),
            quoted(&root.columns[key].field)
        );
        if let Some((table, outcome)) = self.best_outcome(outcomes) {
            return self.outcome_task(table, outcome, &entity, files).map(Some);
        }
        let Some(table) = self.busiest() else {
            return Ok(None);
        };
        self.activity_task(table, &entity, files).map(Some)
    }

    fn best_outcome<'a>(&self, outcomes: &'a [Option<Outcome>]) -> Option<(usize, &'a Outcome)> {
        let rank = |table: usize, outcome: &Outcome| {
            let role = match self.role(table)? {
                Role::Event => 0,
                Role::Member => 1,
                _ => return None,
            };
            // A table without times cannot say when it was won.
            self.times[table]?;
            Some((usize::from(outcome.lost.is_empty()), role))
        };
        outcomes
            .iter()
            .enumerate()
            .filter_map(|(table, outcome)| {
                let outcome = outcome.as_ref()?;
                Some((rank(table, outcome)?, table, outcome))
            })
            .min_by_key(|(rank, table, _)| (*rank, *table))
            .map(|(_, table, outcome)| (table, outcome))
    }

    /// The event table that is most like revenue; of equal ones the largest that names the root.
    fn busiest(&self) -> Option<usize> {
        let rank = |table: usize| {
            let name = &self.tables[table].name;
            REVENUE
                .iter()
                .position(|word| name.contains(word))
                .unwrap_or(99)
        };
        let is_direct = |table: usize| self.owners(table).iter().any(|l| l.target == self.root);
        (0..self.tables.len())
            .filter(|t| self.role(*t) == Some(Role::Event))
            .min_by_key(|t| (!is_direct(*t), rank(*t), u64::MAX - self.tables[*t].rows))
    }

    fn outcome_task(
        &self,
        table: usize,
        outcome: &Outcome,
        entity: &str,
        files: &[Vec<DataText>],
    ) -> Result<FirstTask, InferError> {
        let profile = &self.tables[table];
        let name = quoted(&profile.name);
        let column = format!("{name}.{}", quoted(&profile.columns[outcome.column].field));
        let activity = self.activity(table, files, Some(outcome))?;
        let horizon = activity.horizon_days();
        let won = is_one_of(&column, &outcome.won);
        let mut query = format!(
            "PREDICT COUNT({name}.* WHERE {won}, 0, {horizon}, days) > 0\nFOR EACH {entity}"
        );
        // Where an entity is won once at most, it is a case that ends.
        let all: usize = activity.by_owner.values().map(Vec::len).sum();
        let is_once = all > 0 && all as f64 <= 1.05 * activity.by_owner.len() as f64;
        let is_case = is_once && self.role(table) == Some(Role::Event) && !outcome.lost.is_empty();
        if is_case {
            let ends: Vec<String> = outcome.won.iter().chain(&outcome.lost).cloned().collect();
            let ends = is_one_of(&column, &ends);
            query.push_str(&format!(
                "\nWHERE COUNT({name}.* WHERE {ends}, -INF, 0, days) = 0"
            ));
        }
        let mut doubts = Vec::new();
        if self.role(table) == Some(Role::Member) {
            doubts.push(format!(
                "{} is known by its last state: if its files hold one row each, a deal counts as won \
                 from its own time on, not from the day it was won",
                profile.name
            ));
        }
        if outcome.lost.is_empty() {
            doubts.push(format!("no value of {column} ends badly"));
        }
        Ok(FirstTask {
            name: format!(
                "{}-won-{horizon}d",
                singular_dashed(&self.tables[self.root].name)
            ),
            query,
            anchors: anchors(horizon),
            rate: None,
            doubts,
        })
    }

    fn activity_task(
        &self,
        table: usize,
        entity: &str,
        files: &[Vec<DataText>],
    ) -> Result<FirstTask, InferError> {
        let name = quoted(&self.tables[table].name);
        let activity = self.activity(table, files, None)?;
        let longest = activity.horizon_days();
        // The longest window in which some come back, and some do not.
        let mut best: Option<(f64, i64, f64)> = None;
        for horizon in [longest, 30, 14, 7, 3, 1]
            .into_iter()
            .filter(|h| *h <= longest)
        {
            let Some(rate) = activity.rate(horizon) else {
                continue;
            };
            let distance = if (0.1..=0.8).contains(&rate) {
                0.0
            } else {
                (rate - 0.45).abs()
            };
            if best.is_none_or(|(known, ..)| distance < known) {
                best = Some((distance, horizon, rate));
            }
        }
        let (horizon, rate) = best.map_or((longest, None), |(_, h, rate)| (h, Some(rate)));
        let mut doubts = Vec::new();
        match rate {
            None => doubts.push("too few events to count labels; try other windows with `leadpulse query`".to_owned()),
            Some(rate) => doubts.push(format!(
                "no column says won or lost, so the task asks for another row of {}: true for about {:.0} % of {}",
                self.tables[table].name, 100.0 * rate, self.tables[self.root].name
            )),
        }
        let past = if activity.span_days() > 500 {
            "-365"
        } else {
            "-INF"
        };
        Ok(FirstTask {
            name: format!(
                "{}-active-{horizon}d",
                singular_dashed(&self.tables[self.root].name)
            ),
            query: format!(
                "PREDICT COUNT({name}.*, 0, {horizon}, days) > 0\nFOR EACH {entity}\nWHERE COUNT({name}.*, {past}, 0, days) > 0"
            ),
            anchors: anchors(horizon),
            rate,
            doubts,
        })
    }

    /// Reads a table's files once more: times of its rows by owner. With an outcome, only of won
    /// rows.
    fn activity(
        &self,
        table: usize,
        files: &[Vec<DataText>],
        outcome: Option<&Outcome>,
    ) -> Result<Activity, InferError> {
        let profile = &self.tables[table];
        let owner = self.owners(table).last().map(|link| link.column);
        let mut activity = Activity {
            by_owner: FxHashMap::default(),
            first_ms: i64::MAX,
            last_ms: i64::MIN,
        };
        let (Some(time), Some(owner)) = (self.times[table], owner) else {
            return Ok(activity);
        };
        let Some(form) = profile.columns[time].time() else {
            return Ok(activity);
        };
        let header = |column: usize| profile.columns[column].header.as_str();
        for text in &files[table] {
            text.each_row(&mut |names, cells| {
                let cell = |name: &str| {
                    let place = names.iter().position(|known| known == name)?;
                    match cells.get(place)? {
                        Cell::Text(text) | Cell::Number(text) => Some(text.trim()),
                        _ => None,
                    }
                };
                let Some(ms) = cell(header(time)).and_then(|text| moment(text, form)) else {
                    return;
                };
                activity.first_ms = activity.first_ms.min(ms);
                activity.last_ms = activity.last_ms.max(ms);
                if let Some(outcome) = outcome {
                    let value = cell(header(outcome.column)).unwrap_or_default();
                    if !outcome.won.iter().any(|won| won == value) {
                        return;
                    }
                }
                let Some(owner) = cell(header(owner)).map(hash) else {
                    return;
                };
                let is_followed = activity.by_owner.len() < FOLLOWED;
                if is_followed || activity.by_owner.contains_key(&owner) {
                    activity.by_owner.entry(owner).or_default().push(ms);
                }
            })?;
        }
        Ok(activity)
    }
}

impl Activity {
    fn span_days(&self) -> i64 {
        (self.last_ms.saturating_sub(self.first_ms)).max(0) / DAY_MS
    }

    /// The horizon that the history has room for: labels of three periods need five horizons.
    fn horizon_days(&self) -> i64 {
        match self.span_days() {
            450.. => 90,
            120.. => 30,
            60.. => 14,
            span => (span / 6).max(1),
        }
    }

    /// The share of entities seen before that are seen again within the horizon; an average over
    /// five moments.
    fn rate(&self, horizon_days: i64) -> Option<f64> {
        let horizon = horizon_days * DAY_MS;
        let span = self.last_ms.saturating_sub(self.first_ms);
        let (mut seen, mut again) = (0_u64, 0_u64);
        for step in 1..=5 {
            let at = self.first_ms + (span - horizon) / 10 * (step + 4);
            if span <= horizon {
                return None;
            }
            for moments in self.by_owner.values() {
                if moments
                    .iter()
                    .any(|ms| *ms <= at && at - *ms <= 365 * DAY_MS)
                {
                    seen += 1;
                    again += u64::from(moments.iter().any(|ms| *ms > at && *ms - at <= horizon));
                }
            }
        }
        (seen >= 20).then(|| again as f64 / seen as f64)
    }
}

fn anchors(horizon_days: i64) -> String {
    format!("every {}d", (horizon_days / 9).max(1))
}

fn singular_dashed(table: &str) -> String {
    super::links::singular(table).replace('_', "-")
}
