//! Evidence about events: their kinds, frequency and recency, their order, and changes of habit.

use std::collections::{BTreeMap, BTreeSet};

use leadpulse_graph::{EventLayout, EventState, Graph, Node, SlotKind};
use leadpulse_schema::units::{AsOf, DAY_MS, EventTime};
use leadpulse_schema::{Feature, Field, Table};

use super::{EvidenceDraft, Rank, Scene, values};
use crate::events::rate_per_day;
use crate::order::{OrderBlock, StagedStep, longest_chain};
use crate::{groups, words};

// The constants below decide words alone: no column, score or alert depends on them. Why these
// values is unknown.

/// Time without events after which a group is silent.
const SILENT_MS: i64 = 14 * DAY_MS;
/// Window over which active days are counted, days.
const RECENT_DAYS: i64 = 14;
/// Least part of the longest half-life that a habit must have lasted.
const HABIT_RATIO: f64 = 1.0 / 3.0;
/// Ratio of the recent rate to the habit from which a line says so.
const FASTER: f64 = 1.5;
/// Ratio of the recent rate to the habit down to which a line says so.
const SLOWER: f64 = 0.5;
/// Most steps of a chain that are named, the last ones.
const NAMED_STEPS: usize = 6;

/// The states of one event table on some entities, added up.
#[derive(Default)]
pub(super) struct ActivitySum {
    total: u64,
    newest_ms: Option<i64>,
    pub oldest_ms: Option<i64>,
    pub slots: BTreeMap<u16, SlotSum>,
    /// Count by the shortest half-life.
    short: f64,
    days: BTreeSet<i32>,
}

/// The events of one slot.
#[derive(Clone, Copy)]
pub(super) struct SlotSum {
    /// Weight by the longest half-life.
    pub weight: f64,
    /// That weight less the one by the half-life before it: events of now count nothing.
    pub before: f64,
    pub newest_ms: i64,
}

impl ActivitySum {
    fn weight(&self, slot: u16) -> f64 {
        self.slots.get(&slot).map_or(0.0, |sum| sum.weight)
    }
}

/// The field of an event's kind: the first category or set.
pub(super) fn kind_field(table: &Table) -> Option<&Field> {
    table
        .fields
        .iter()
        .find(|f| matches!(f.feature, Feature::Category | Feature::Set))
}

/// The group of an event of some kind.
fn group_of(table: &Table, kind: &str) -> String {
    match kind_field(table).filter(|_| !kind.is_empty()) {
        Some(field) => groups::of_event_value(table, field, kind),
        None => groups::of_events(table),
    }
}

fn state<'a>(graph: &Graph, node: &'a Node, layout: &EventLayout) -> Option<&'a EventState> {
    let state = &graph.shared().layout;
    let position = state
        .of_entity(node.table)
        .iter()
        .position(|e| state.events[*e].table == layout.table)?;
    let of_table: &EventState = &node.events[position];
    (!of_table.is_empty()).then_some(of_table)
}

/// Lines about all event tables: of the explained member, or of all entities where the member has
/// no such events.
pub(super) fn events(scene: &Scene<'_>, found: &mut EvidenceDraft<'_>) {
    let mut newest: BTreeMap<String, i64> = BTreeMap::new();
    for layout in &scene.graph.shared().layout.events {
        let table = scene.catalog.table_at(layout.table);
        let own = scene
            .member
            .filter(|m| state(scene.graph, m, layout).is_some());
        let nodes: Vec<&Node> = match own {
            Some(member) => vec![member],
            None => scene
                .cell
                .nodes
                .iter()
                .filter(|n| state(scene.graph, n, layout).is_some())
                .collect(),
        };
        if nodes.is_empty() {
            continue;
        }
        let who = if scene.member.is_some() && own.is_none() {
            "others: "
        } else {
            ""
        };
        let sum = add_up(scene.graph, layout, &nodes, scene.as_of);
        for (group, value) in values::of_events(scene.graph, layout, table, &sum, scene.as_of) {
            found.measure(&group, value);
        }
        let scope = TableScope {
            layout,
            table,
            nodes: &nodes,
            sum: &sum,
            who,
        };
        kinds(scene, &scope, found);
        habits(scene, &scope, found);
        let group = groups::of_events(table);
        newest
            .entry(group)
            .and_modify(|t| *t = (*t).max(sum.newest_ms.unwrap_or(*t)))
            .or_insert(sum.newest_ms.unwrap_or(i64::MIN));
        for event in nodes
            .iter()
            .flat_map(|n| n.recent())
            .filter(|r| r.table == layout.table.0)
        {
            found.event(&group_of(table, &event.kind), event.time_ms, &event.id);
        }
    }
    for (group, newest_ms) in newest {
        let silent_ms = scene.as_of.since(EventTime::from_ms(newest_ms));
        if silent_ms >= SILENT_MS {
            found.line(
                &group,
                Rank::Silence,
                format!("silent for {}", words::span(silent_ms)),
            );
        }
    }
}

pub(super) fn add_up(
    graph: &Graph,
    layout: &EventLayout,
    nodes: &[&Node],
    as_of: AsOf,
) -> ActivitySum {
    let bank = &graph.shared().bank;
    let longest = bank.len() - 1;
    let middle = longest.saturating_sub(1);
    let mut sum = ActivitySum::default();
    for state in nodes.iter().filter_map(|n| state(graph, n, layout)) {
        let read = |half: usize| bank.read(half, state.landmark(), as_of.ms());
        let (short, mid, long) = (read(0), read(middle), read(longest));
        for (slot, sums, newest_ms) in state.slots(bank) {
            let of_slot = sum.slots.entry(slot).or_insert(SlotSum {
                weight: 0.0,
                before: 0.0,
                newest_ms,
            });
            let weight = sums[longest] * long;
            of_slot.weight += weight;
            of_slot.before += weight - sums[middle] * mid;
            of_slot.newest_ms = of_slot.newest_ms.max(newest_ms);
            if slot == 0 {
                sum.short += sums[0] * short;
            }
        }
        sum.total += state.total;
        sum.newest_ms = sum.newest_ms.max(state.newest_ms());
        sum.oldest_ms = Some(
            sum.oldest_ms
                .map_or(state.oldest_ms, |t| t.min(state.oldest_ms)),
        );
        sum.days.extend(state.active_days());
    }
    sum
}

/// ` ×3` for a decayed weight of about 3; empty for one event. A weight is never more than the
/// number of events.
fn times(weight: f64) -> String {
    if weight >= 1.5 {
        format!(" ×{}", words::number(weight.round()))
    } else {
        String::new()
    }
}

/// A kind or flag of an event table that was seen.
struct SeenKind {
    newest_ms: i64,
    rank: Rank,
    group: String,
    name: String,
    weight: f64,
}

/// One event table on the entities that an explanation is about.
struct TableScope<'s> {
    layout: &'s EventLayout,
    table: &'s Table,
    nodes: &'s [&'s Node],
    sum: &'s ActivitySum,
    /// Prefix of each line: `others: ` or empty.
    who: &'s str,
}

/// Lines about kinds, newest first: `pricing page view ×3, last 2 days ago`. Numbers by their mean.
fn kinds(scene: &Scene<'_>, scope: &TableScope<'_>, found: &mut EvidenceDraft<'_>) {
    let mut seen = declared_kinds(scope);
    seen.extend(undeclared_kinds(scope));
    means(scope, found);
    seen.sort_by(|a, b| {
        b.newest_ms
            .cmp(&a.newest_ms)
            .then_with(|| a.name.cmp(&b.name))
    });
    for kind in seen {
        let text = format!(
            "{}{}{}, last {}",
            scope.who,
            kind.name,
            times(kind.weight),
            scene.ago(kind.newest_ms)
        );
        found.kind(&kind.group, kind.rank, kind.newest_ms, kind.name, text);
    }
}

/// Values and flags with a slot of their own.
fn declared_kinds(scope: &TableScope<'_>) -> Vec<SeenKind> {
    let table = scope.table;
    let kind = kind_field(table).map(|f| f.id);
    let mut seen = Vec::new();
    for (slot, definition) in scope.layout.slots.iter().enumerate() {
        let Some(SlotSum {
            weight, newest_ms, ..
        }) = scope.sum.slots.get(&(slot as u16)).copied()
        else {
            continue;
        };
        let Some(field) = definition.field.map(|f| table.field_at(f)) else {
            continue;
        };
        let name = words::name(&field.name);
        match &definition.kind {
            // The lines about open and ended deals name outcomes.
            SlotKind::Value(value)
                if table
                    .outcome
                    .as_ref()
                    .is_some_and(|o| o.field == field.id && o.of(value).is_some()) => {}
            SlotKind::Value(value) => {
                let Some(shown) = words::value(value) else {
                    continue;
                };
                let (rank, name) = if Some(field.id) == kind {
                    (Rank::Kind, shown)
                } else {
                    (Rank::Others, format!("{name} {shown}"))
                };
                seen.push(SeenKind {
                    newest_ms,
                    rank,
                    group: groups::of_event_value(table, field, value),
                    name,
                    weight,
                });
            }
            SlotKind::Flag if weight > 0.0 => seen.push(SeenKind {
                newest_ms,
                rank: Rank::Others,
                group: groups::of_event_field(table, field),
                name,
                weight,
            }),
            SlotKind::Flag
            | SlotKind::Raw
            | SlotKind::Count
            | SlotKind::Bucket(_)
            | SlotKind::Log => {}
        }
    }
    seen
}

/// Kinds that the schema does not declare. Their names are known while they are among the newest
/// events.
fn undeclared_kinds(scope: &TableScope<'_>) -> Vec<SeenKind> {
    let table = scope.table;
    let declared = kind_field(table).map_or(&[][..], |f| &f.values);
    let mut undeclared: BTreeMap<&str, (f64, i64)> = BTreeMap::new();
    for event in scope
        .nodes
        .iter()
        .flat_map(|n| n.recent())
        .filter(|r| r.table == scope.layout.table.0)
    {
        if !event.kind.is_empty() && !declared.iter().any(|v| **v == *event.kind) {
            let (count, newest_ms) = undeclared
                .entry(&event.kind)
                .or_insert((0.0, event.time_ms));
            *count += 1.0;
            *newest_ms = (*newest_ms).max(event.time_ms);
        }
    }
    let mut seen = Vec::new();
    for (value, (weight, newest_ms)) in undeclared {
        if let Some(name) = words::value(value) {
            seen.push(SeenKind {
                newest_ms,
                rank: Rank::Kind,
                group: group_of(table, value),
                name,
                weight,
            });
        }
    }
    seen
}

/// Lines about numbers: `duration 12 on average`.
fn means(scope: &TableScope<'_>, found: &mut EvidenceDraft<'_>) {
    let events = scope.sum.weight(0);
    if events <= 1e-6 {
        return;
    }
    for (slot, definition) in scope.layout.slots.iter().enumerate() {
        let (SlotKind::Raw, Some(field)) = (&definition.kind, definition.field) else {
            continue;
        };
        let Some(SlotSum { weight, .. }) = scope.sum.slots.get(&(slot as u16)) else {
            continue;
        };
        let field = scope.table.field_at(field);
        let name = words::name(&field.name);
        found.line(
            &groups::of_event_field(scope.table, field),
            Rank::Number,
            format!(
                "{}{name} {} on average",
                scope.who,
                words::number(weight / events)
            ),
        );
    }
}

/// Lines about frequency: `activities on 6 of the last 14 days`, `activities about 3 times the
/// 90-day habit`, `17 activities in all`.
fn habits(scene: &Scene<'_>, scope: &TableScope<'_>, found: &mut EvidenceDraft<'_>) {
    let TableScope {
        layout,
        table,
        sum,
        who,
        ..
    } = scope;
    let group = groups::of_events(table);
    let name = words::name(&table.name);
    if let Some(change) = change_of_habit(scene, sum) {
        found.line(&group, Rank::Habit, format!("{who}{name} {change}"));
    }
    let first =
        (scene.as_of.ms().saturating_sub(RECENT_DAYS * DAY_MS)).div_euclid(DAY_MS) as i32 + 1;
    let recent = sum.days.range(first..).count();
    if recent > 1 {
        found.line(
            &group,
            Rank::Habit,
            format!("{who}{name} on {recent} of the last {RECENT_DAYS} days"),
        );
    }
    let last = sum
        .newest_ms
        .map_or(String::new(), |t| format!(", last {}", scene.ago(t)));
    let rank = if layout
        .slots
        .iter()
        .any(|s| matches!(s.kind, SlotKind::Value(_)))
    {
        Rank::Number
    } else {
        Rank::Habit
    };
    let total = usize::try_from(sum.total).unwrap_or(usize::MAX);
    found.line(
        &group,
        rank,
        format!("{who}{} in all{last}", words::counted(total, &table.name)),
    );
}

/// `about 3 times the 90-day habit`, `at 40% of the 90-day habit`; `None` for a short or steady
/// habit.
fn change_of_habit(scene: &Scene<'_>, sum: &ActivitySum) -> Option<String> {
    let half_lives = &scene.graph.shared().options.half_lives_days;
    let (shortest, longest) = (half_lives[0], half_lives[half_lives.len() - 1]);
    let lasted_days = sum
        .oldest_ms
        .map_or(0.0, |t| crate::columns::days(t, scene.as_of));
    if half_lives.len() <= 1 || lasted_days < longest * HABIT_RATIO || sum.weight(0) < 1.0 {
        return None;
    }
    let ratio = rate_per_day(sum.short, shortest) / rate_per_day(sum.weight(0), longest);
    let days = words::number(longest);
    if ratio >= FASTER {
        let times = words::number(ratio.round());
        Some(format!("about {times} times the {days}-day habit"))
    } else if ratio <= SLOWER {
        let percent = words::number((100.0 * ratio).round());
        Some(format!("at {percent}% of the {days}-day habit"))
    } else {
        None
    }
}

/// A line about the longest chain of steps of some entities, with the prefix `who`:
/// `blog → case study → pricing → demo request in 24 days`.
pub(super) fn order(
    scene: &Scene<'_>,
    block: &OrderBlock,
    nodes: &[&Node],
    who: &str,
    found: &mut EvidenceDraft<'_>,
) {
    let steps = block.steps(nodes.iter().copied(), scene.as_of);
    let (forward, reverse) = (longest_chain(&steps, false), longest_chain(&steps, true));
    let is_forward = forward.len() >= reverse.len();
    let chain = if is_forward { forward } else { reverse };
    if let (Some(first), Some(last), true) = (chain.first(), chain.last(), chain.len() > 1) {
        let names: Vec<String> = chain.iter().map(|step| named(scene, step)).collect();
        let hidden = names.len().saturating_sub(NAMED_STEPS);
        let path = format!(
            "{}{}",
            if hidden > 0 { "… → " } else { "" },
            names[hidden..].join(" → ")
        );
        let owners: BTreeSet<u32> = chain.iter().map(|s| s.owner.0).collect();
        let several = if owners.len() > 1 {
            format!(", by {} of them", owners.len())
        } else {
            String::new()
        };
        let direction = if is_forward { "" } else { "backwards: " };
        let span = words::span(last.time_ms.saturating_sub(first.time_ms));
        found.value(block.group(), format!("{who}{direction}{path}"));
        found.line(
            block.group(),
            Rank::Order,
            format!("{who}{direction}{path} in {span}{several}"),
        );
    }
    for node in nodes {
        for event in node.recent() {
            let table = &scene.catalog.tables[event.table as usize];
            let is_step = table.staged.as_ref().is_some_and(|s| {
                kind_field(table).is_some_and(|f| f.id == s.field)
                    && s.stages.contains_key(&*event.kind)
            });
            if is_step {
                found.event(block.group(), event.time_ms, &event.id);
            }
        }
    }
}

/// The name of a step: the value with its stage. Of several values those that the owner had, or the
/// one of that moment if it is known.
fn named(scene: &Scene<'_>, step: &StagedStep) -> String {
    let table = scene.catalog.table_at(step.table);
    let Some(staged) = &table.staged else {
        return format!("stage {}", step.stage);
    };
    let values: Vec<&str> = staged
        .stages
        .iter()
        .filter(|(_, stage)| **stage == step.stage)
        .map(|(value, _)| value.as_str())
        .collect();
    let shared = scene.graph.shared();
    let layout = shared.layout.event(step.table);
    let owner = scene
        .cell
        .nodes
        .iter()
        .find(|n| n.entity == step.owner)
        .and_then(|n| state(scene.graph, n, layout));
    let slots: Vec<(u16, i64)> = owner.map_or(Vec::new(), |s| {
        s.slots(&shared.bank)
            .map(|(slot, _, newest)| (slot, newest))
            .collect()
    });
    let newest = |value: &str| {
        let is_it = |slot: u16| {
            let slot = &layout.slots[slot as usize];
            slot.field == Some(staged.field) && slot.kind == SlotKind::Value(value.to_owned())
        };
        slots
            .iter()
            .find(|(slot, _)| is_it(*slot))
            .map(|(_, newest)| *newest)
    };
    let had: Vec<&str> = values
        .iter()
        .copied()
        .filter(|v| newest(v).is_some_and(|t| t >= step.time_ms))
        .collect();
    let then: Vec<&str> = had
        .iter()
        .copied()
        .filter(|v| newest(v) == Some(step.time_ms))
        .collect();
    let known = [then, had, values]
        .into_iter()
        .find(|v| !v.is_empty())
        .unwrap_or_default();
    let known: Vec<String> = known.into_iter().filter_map(words::value).collect();
    if known.is_empty() {
        format!("stage {}", step.stage)
    } else {
        known.join("/")
    }
}
