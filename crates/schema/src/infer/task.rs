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

/// Words of a value that is revenue among other things that happen.
const BOUGHT: [&str; 10] = [
    "order",
    "ordered",
    "purchase",
    "purchased",
    "transaction",
    "sale",
    "payment",
    "checkout",
    "booking",
    "bought",
];
/// Words that leave a value of [`BOUGHT`] what it is: `checkout_completed`, but not
/// `checkout_started`.
const BOUGHT_TOO: [&str; 6] = [
    "completed",
    "complete",
    "placed",
    "made",
    "success",
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

/// The values of a column that are revenue, beside others that are not: orders among visits.
fn bought_of(table: &TableProfile) -> Option<Outcome> {
    for (column, profile) in table.columns.iter().enumerate() {
        let values = profile.by_count();
        if profile.kind != Kind::Text || values.len() < 2 || values.len() > 64 {
            continue;
        }
        let is_bought = |value: &&str| {
            let words = words(value);
            let is_known = |word: &String| {
                BOUGHT.contains(&word.as_str()) || BOUGHT_TOO.contains(&word.as_str())
            };
            words.iter().all(is_known) && words.iter().any(|w| BOUGHT.contains(&w.as_str()))
        };
        let bought = values.iter().map(|(value, _)| *value).filter(is_bought);
        let won: Vec<String> = bought.map(str::to_owned).collect();
        if !won.is_empty() && won.len() < values.len() {
            let lost = Vec::new();
            return Some(Outcome { column, won, lost });
        }
    }
    None
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
    /// Each moment, and whether its row is one that is asked for.
    by_owner: FxHashMap<u64, Vec<(i64, bool)>>,
    first_ms: i64,
    last_ms: i64,
}

/// Entities that are followed while labels are counted.
const FOLLOWED: usize = 20_000;
/// Observations of entities from which a share is taken.
const LEAST_SEEN: usize = 20;
/// A share of true labels above which a first task asks for more rows than one.
const NEARLY_ALL: f64 = 0.9;

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
        let is_won = |moments: &&Vec<(i64, bool)>| moments.iter().any(|(_, is_won)| *is_won);
        let won_ones = activity.by_owner.values().filter(is_won).count();
        let moments = activity.by_owner.values().flatten();
        let all = moments.filter(|(_, is_won)| *is_won).count();
        let is_once = all > 0 && all as f64 <= 1.05 * won_ones as f64;
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
        let (events, entities) = (&self.tables[table].name, &self.tables[self.root].name);
        let bought = bought_of(&self.tables[table]);
        let activity = self.activity(table, files, bought.as_ref())?;
        let (horizon, rate) = activity.best_window();
        let (mut kind, mut least, mut rate) = ("active", 0, rate);
        let another = match &bought {
            Some(bought) => format!("'{}' among {events}", bought.won.join("', '")),
            None => format!("another row of {events}"),
        };
        let doubt = match rate {
            None => format!(
                "fewer than {LEAST_SEEN} times one of {entities} had rows of {events} at the moments tried, \
                 so nothing was counted; try other windows with `leadpulse query`"
            ),
            // A question that nearly all answer with yes ranks nobody.
            Some(share) if share > NEARLY_ALL => {
                (kind, least) = ("busy", activity.typical_count(horizon));
                rate = activity.rate(horizon, least);
                format!(
                    "about {:.0} % of {entities} have {another} in any {horizon} days, so \
                     the task asks for more than {least}: true for about {:.0} %",
                    100.0 * share,
                    100.0 * rate.unwrap_or_default()
                )
            }
            Some(rate) => format!(
                "no column says won or lost, so the task asks for {another}: true \
                 for about {:.0} % of {entities}",
                100.0 * rate
            ),
        };
        let past = if activity.span_days() > 500 {
            "-365"
        } else {
            "-INF"
        };
        let name = quoted(events);
        let asked = bought.as_ref().map_or_else(String::new, |bought| {
            let column = &self.tables[table].columns[bought.column].field;
            let column = format!("{name}.{}", quoted(column));
            format!(" WHERE {}", is_one_of(&column, &bought.won))
        });
        if bought.is_some() && kind == "active" {
            kind = "orders";
        }
        Ok(FirstTask {
            name: format!("{}-{kind}-{horizon}d", singular_dashed(entities)),
            query: format!(
                "PREDICT COUNT({name}.*{asked}, 0, {horizon}, days) > {least}\nFOR EACH {entity}\n\
                 WHERE COUNT({name}.*, {past}, 0, days) > 0"
            ),
            anchors: anchors(horizon),
            rate,
            doubts: vec![doubt],
        })
    }

    /// Reads a table's files once more: times of its rows by owner, and whether each is won; all are
    /// without an outcome.
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
                let is_won = outcome.is_none_or(|outcome| {
                    let value = cell(header(outcome.column)).unwrap_or_default();
                    outcome.won.iter().any(|won| won == value)
                });
                let Some(owner) = cell(header(owner)).map(hash) else {
                    return;
                };
                let is_followed = activity.by_owner.len() < FOLLOWED;
                if is_followed || activity.by_owner.contains_key(&owner) {
                    let moments = activity.by_owner.entry(owner).or_default();
                    moments.push((ms, is_won));
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

    /// The longest window, in days, in which some come back and some do not, with the share that
    /// does; where there is none, the longest that history has room for. No share where too few
    /// were seen to count.
    fn best_window(&self) -> (i64, Option<f64>) {
        let longest = self.horizon_days();
        for horizon in [longest, 30, 14, 7, 3, 1] {
            let rate = self.rate(horizon, 0).filter(|_| horizon <= longest);
            if rate.is_some_and(|rate| (0.1..=0.8).contains(&rate)) {
                return (horizon, rate);
            }
        }
        (longest, self.rate(longest, 0))
    }

    /// The share of entities seen before that have more than `least` rows within the horizon; an
    /// average over five moments.
    fn rate(&self, horizon_days: i64, least: usize) -> Option<f64> {
        let counts = self.counts_within(horizon_days);
        let above = counts.iter().filter(|count| **count > least).count();
        (counts.len() >= LEAST_SEEN).then(|| above as f64 / counts.len() as f64)
    }

    /// The number of rows that about half of the entities exceed within the horizon.
    fn typical_count(&self, horizon_days: i64) -> usize {
        let mut counts = self.counts_within(horizon_days);
        counts.sort_unstable();
        let mut distinct = counts.clone();
        distinct.dedup();
        let from_half = |least: usize| {
            let above = counts.len() - counts.partition_point(|count| *count <= least);
            (2 * above).abs_diff(counts.len())
        };
        let nearest = distinct.into_iter().min_by_key(|least| from_half(*least));
        nearest.unwrap_or_default()
    }

    /// Rows within the horizon of each entity that had some in the year before, at five moments of
    /// the second half of history.
    fn counts_within(&self, horizon_days: i64) -> Vec<usize> {
        let horizon = horizon_days * DAY_MS;
        let span = self.last_ms.saturating_sub(self.first_ms);
        let mut counts = Vec::new();
        if span <= horizon {
            return counts;
        }
        for step in 1..=5 {
            let at = self.first_ms + (span - horizon) / 10 * (step + 4);
            for moments in self.by_owner.values() {
                let is_seen = |(ms, _): &(i64, bool)| *ms <= at && at - *ms <= 365 * DAY_MS;
                let is_asked =
                    |(ms, is_won): &&(i64, bool)| *is_won && *ms > at && *ms - at <= horizon;
                if moments.iter().any(is_seen) {
                    counts.push(moments.iter().filter(is_asked).count());
                }
            }
        }
        counts
    }
}

fn anchors(horizon_days: i64) -> String {
    format!("every {}d", (horizon_days / 9).max(1))
}

fn singular_dashed(table: &str) -> String {
    super::links::singular(table).replace('_', "-")
}
