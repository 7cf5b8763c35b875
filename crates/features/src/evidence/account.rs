//! Evidence about the cell as a whole: the committee, open and ended deals, peers of its hubs,
//! relations.

use std::cmp::Reverse;

use rustc_hash::FxHashSet;

use leadpulse_graph::{EntityId, Node, SlotKind};
use leadpulse_schema::{Catalog, Feature, Relation, RelationKind, Role, Table};

use super::values::{DEAL_STAGE, PEERS, PEOPLE};
use super::{EvidenceDraft, EvidenceValue, Measure, Rank, Scene, values};
use crate::alert_facts::about;
use crate::committee::Activity;
use crate::facts::{ACTIVE_DAYS, active_people, distinct_values, open_members};
use crate::hubs::{HubView, Others, slot_of};
use crate::relations::{CustomersElsewhere, referrers};
use crate::{groups, outcomes as ends, words};

/// Most distinct values that are named.
const VALUES: usize = 5;
/// Most open members, hub nodes and neighbours that are named.
const NAMED: usize = 2;

/// Lines about the people: `4 contacts active in 14 days`, `3 departments: Engineering, Finance,
/// Product`, `highest seniority VP`.
pub(super) fn committee(scene: &Scene<'_>, found: &mut EvidenceDraft<'_>) {
    let people: Vec<&Table> = scene
        .catalog
        .members()
        .filter(|t| groups::is_person(scene.catalog, t.id))
        .collect();
    let Some(group) = people
        .first()
        .map(|t| groups::of_members(scene.catalog, t.id))
    else {
        return;
    };
    let active = active_people(scene.graph, scene.cell, scene.as_of);
    if active.is_empty() {
        let activity = Activity::of(scene.graph, scene.cell);
        let known: Vec<&Node> = scene
            .cell
            .nodes
            .iter()
            .filter(|n| activity.is_person(n) && people.iter().any(|t| t.id == n.table))
            .collect();
        if !known.is_empty() {
            people_count(&group, 0, found);
            found.line(
                &group,
                Rank::Headline,
                format!(
                    "none of {} was active in {ACTIVE_DAYS} days",
                    counted_people(&people, &known)
                ),
            );
        }
        return;
    }
    found.line(
        &group,
        Rank::Headline,
        format!(
            "{} active in {ACTIVE_DAYS} days",
            counted_people(&people, &active)
        ),
    );
    people_count(&group, active.len(), found);
    let telling = distinct_lines(scene, &group, &active, found);
    let values = telling.map_or(String::new(), |values| format!(": {values}"));
    found.value(
        &group,
        format!("{}{values}", counted_people(&people, &active)),
    );
}

fn people_count(group: &str, active: usize, found: &mut EvidenceDraft<'_>) {
    let label = "active people".to_owned();
    values::count(found, group, label, PEOPLE + 1, active as f64);
}

/// `2 contacts and 1 lead`: the number of nodes of each table that has any.
fn counted_people(tables: &[&Table], nodes: &[&Node]) -> String {
    let mut counted = Vec::new();
    for table in tables {
        let count = nodes.iter().filter(|n| n.table == table.id).count();
        if count > 0 {
            counted.push(words::counted(count, &table.name));
        }
    }
    counted.join(" and ")
}

/// A line for each category field of the active people in `group`. Returns the values that are
/// named beside the number of people: those of an ordinal field if there is one, else of the first
/// field.
fn distinct_lines(
    scene: &Scene<'_>,
    group: &str,
    active: &[&Node],
    found: &mut EvidenceDraft<'_>,
) -> Option<String> {
    let mut telling: Option<(bool, String)> = None;
    for (name, distinct) in distinct_values(scene.catalog, active) {
        let field = distinct.field;
        if field.group.as_ref().is_some_and(|own| own != group) {
            continue;
        }
        let shown: Vec<String> = distinct.values().filter_map(words::value).collect();
        let name = words::name(name);
        let highest = distinct.highest().and_then(words::value);
        if !field.ordinal {
            let label = format!("{} of active people", words::plural(&name));
            values::count(found, group, label, PEOPLE, shown.len() as f64);
        }
        if let Some(highest) = highest {
            let (label, text) = (format!("highest {name}"), highest.clone());
            values::text(found, group, label, PEOPLE, (text, &field.values));
            found.line(group, Rank::Own, format!("highest {name} {highest}"));
        } else if shown.len() > 1 {
            found.line(
                group,
                Rank::Order,
                format!(
                    "{} {}: {}",
                    shown.len(),
                    words::plural(&name),
                    words::listed(&shown, VALUES)
                ),
            );
        } else if let [only] = &shown[..] {
            found.line(group, Rank::Order, format!("{name} {only}"));
        }
        if !shown.is_empty()
            && telling
                .as_ref()
                .is_none_or(|(is_ordinal, _)| field.ordinal && !is_ordinal)
        {
            telling = Some((
                field.ordinal,
                shown[shown.len().saturating_sub(3)..].join(" + "),
            ));
        }
    }
    telling.map(|(_, values)| values)
}

/// Lines about open members: `1 open opportunity: Negotiation, amount 120,000`.
pub(super) fn open(scene: &Scene<'_>, found: &mut EvidenceDraft<'_>) {
    let open = open_members(scene.graph, scene.cell);
    for table in scene.catalog.members() {
        let Some(outcome) = &table.outcome else {
            continue;
        };
        let of_table: Vec<&Node> = open
            .iter()
            .copied()
            .filter(|n| n.table == table.id)
            .collect();
        let group = groups::of_outcome(table, outcome);
        if scene.members(table.id).next().is_some() {
            found.measure(&group, values::open_deals(table, of_table.len()));
        }
        if of_table.is_empty() {
            continue;
        }
        let field = table.field_at(outcome.field);
        for node in of_table.iter().take(NAMED) {
            if let Some(text) = node.value(field.id).text().and_then(words::value) {
                let deal = scene.called(node.entity);
                let label = format!("{} of {deal}", words::name(&field.name));
                values::text(found, &group, label, DEAL_STAGE, (text, &field.values));
            }
        }
        let described: Vec<String> = of_table
            .iter()
            .map(|n| described(table, n))
            .filter(|d| !d.is_empty())
            .collect();
        let text = format!("{} open", words::counted(of_table.len(), &table.name));
        let what = if described.is_empty() {
            String::new()
        } else {
            format!(": {}", described[..described.len().min(NAMED)].join("; "))
        };
        found.line(&group, Rank::Headline, format!("{text}{what}"));
        found.value(&group, described.into_iter().next().unwrap_or(text));
    }
}

/// The outcome value of a member and its first two numbers: `Negotiation, amount 120,000`.
fn described(table: &Table, node: &Node) -> String {
    let stands = table
        .outcome
        .as_ref()
        .and_then(|o| words::value(node.value(o.field).text()?));
    let numbers = table
        .fields
        .iter()
        .filter(|f| f.feature == Feature::Number)
        .filter_map(|f| {
            let x = node.value(f.id).number()?;
            Some(format!("{} {}", words::name(&f.name), words::number(x)))
        });
    stands
        .into_iter()
        .chain(numbers.take(2))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The names of a good and a bad end.
fn ends_called(catalog: &Catalog) -> (String, String) {
    let one = |pick: fn(&leadpulse_schema::OutcomeField) -> &Vec<String>, plain: &str| {
        let mut values = ends::tables(catalog)
            .filter_map(|t| t.outcome.as_ref())
            .map(pick);
        match values.next().map(Vec::as_slice) {
            Some([only]) => words::value(only).unwrap_or_else(|| plain.to_owned()),
            _ => plain.to_owned(),
        }
    };
    (one(|o| &o.won, "won"), one(|o| &o.lost, "lost"))
}

/// Lines about ended deals: `Closed Lost once, last 240 days ago`.
pub(super) fn outcomes(scene: &Scene<'_>, found: &mut EvidenceDraft<'_>) {
    let Some(group) = ends::group(scene.catalog) else {
        return;
    };
    let outcomes = scene.graph.outcomes(scene.cell);
    let (won, lost) = ends_called(scene.catalog);
    let mut lines: Vec<(Option<i64>, String)> = Vec::new();
    for (name, count, last_ms, is_won) in [
        (won, outcomes.won, outcomes.last_won_ms, true),
        (lost, outcomes.lost, outcomes.last_lost_ms, false),
    ] {
        if count == 0 {
            continue;
        }
        let times = f64::from(count);
        let value = EvidenceValue {
            label: name.to_lowercase(),
            telling: DEAL_STAGE + 1,
            measure: if is_won {
                Measure::Count(times)
            } else {
                Measure::Losses(times)
            },
        };
        found.measure(&group, value);
        let last = last_ms.map_or(String::new(), |t| format!(", last {}", scene.ago(t)));
        let times = if count == 1 {
            "once".to_owned()
        } else {
            format!("{} times", words::number(f64::from(count)))
        };
        lines.push((last_ms, format!("{name} {times}{last}")));
    }
    lines.sort_by_key(|(last_ms, _)| Reverse(*last_ms));
    lines
        .into_iter()
        .for_each(|(_, text)| found.line(&group, Rank::Headline, text));
}

/// The hub slots of the sums that evidence about hubs reads, with names in words.
pub(super) struct HubEvidence {
    /// Name of a good end, and the slots of its values, per event table with outcomes.
    ends: Vec<(String, Vec<usize>)>,
    /// Name and count slots of each event table.
    counts: Vec<(String, Vec<usize>)>,
}

impl HubEvidence {
    pub(super) fn of(scene: &Scene<'_>) -> Self {
        let layout = &scene.graph.shared().layout;
        let mut ends = Vec::new();
        for table in &scene.catalog.tables {
            let Some(outcome) = table.outcome.as_ref().filter(|_| table.role == Role::Event) else {
                continue;
            };
            let is_won = |value: &str| outcome.won.iter().any(|won| won == value);
            let is_slot = |s: &leadpulse_graph::EventSlot| {
                s.field == Some(outcome.field)
                    && matches!(&s.kind, SlotKind::Value(value) if is_won(value))
            };
            let name = if let [only] = &outcome.won[..] {
                words::value(only)
            } else {
                None
            };
            ends.push((
                name.unwrap_or_else(|| "won".into()),
                slot_of(layout, table.id, is_slot),
            ));
        }
        let mut counts = Vec::new();
        for events in &layout.events {
            counts.push((
                words::name(&scene.catalog.table_at(events.table).name),
                slot_of(layout, events.table, |s| s.kind == SlotKind::Count),
            ));
        }
        Self { ends, counts }
    }

    /// The largest number of events of the other cells within the longest half-life, about, with
    /// its name: of the ends if the catalog has any, else of all events.
    pub(super) fn largest<'s>(
        &'s self,
        others: &Others<'_>,
        half_lives: &[f64],
    ) -> Option<(&'s str, f64)> {
        let longest = half_lives[half_lives.len() - 1];
        let total = |slots: &[usize]| {
            let sum = |half: usize| slots.iter().map(|slot| others.sum(*slot, half)).sum();
            about(half_lives, longest, sum)
        };
        let largest_of = |sums: &'s [(String, Vec<usize>)]| {
            sums.iter()
                .map(|(name, slots)| (name.as_str(), total(slots)))
                .max_by(|a, b| a.1.total_cmp(&b.1))
        };
        largest_of(&self.ends).or_else(|| largest_of(&self.counts))
    }
}

/// Lines about hubs: `industries Finance: about 3 Closed Won among 41 other accounts in 90 days`.
pub(super) fn hubs(scene: &Scene<'_>, found: &mut EvidenceDraft<'_>) {
    if scene.catalog.hubs.is_empty() {
        return;
    }
    let shared = scene.graph.shared();
    let half_lives = &shared.options.half_lives_days;
    let half_life = words::number(half_lives[half_lives.len() - 1]);
    let view = HubView::new(scene.graph, scene.cell, scene.as_of);
    let sums = HubEvidence::of(scene);
    for hub in scene.catalog.hubs.iter().filter(|h| !h.sources.is_empty()) {
        let group = groups::of_hub(scene.catalog, hub);
        let mut touched: Vec<(EntityId, f64)> = view.touched(hub.id).collect();
        touched.sort_by(|a, b| b.1.total_cmp(&a.1));
        for (entity, _) in touched.into_iter().take(NAMED) {
            let Some(others) = view.others(entity) else {
                continue;
            };
            // Less than half an event is noise of a decayed sum.
            let largest = sums.largest(&others, half_lives);
            let Some((name, count)) = largest.filter(|(_, count)| *count >= 0.5) else {
                continue;
            };
            let hub_name = words::name(&hub.name);
            let label = format!("{name} among others of {hub_name} {}", scene.called(entity));
            values::count(found, &group, label, PEERS, count.round());
            let among = other_roots(scene, others.cells);
            let what = format!("about {} {name}", words::number(count.round()));
            let text = format!(
                "{hub_name} {}: {what} among {among} in {half_life} days",
                scene.called(entity)
            );
            found.line(&group, Rank::Headline, text);
            found.value(&group, format!("{what} among {among}"));
        }
    }
}

/// `1 other account`, `41 other accounts`.
fn other_roots(scene: &Scene<'_>, cells: u32) -> String {
    let root = words::name(&scene.catalog.root().name);
    let root = if cells == 1 {
        words::singular(&root)
    } else {
        root
    };
    format!("{} other {root}", words::number(f64::from(cells)))
}

/// Lines about relations: edges from the explained member or from all entities of the cell, edges
/// that lead here, and mentions.
pub(super) fn relations(scene: &Scene<'_>, found: &mut EvidenceDraft<'_>) {
    let nodes: Vec<&Node> = match scene.member {
        Some(member) => vec![member],
        None => scene.cell.nodes.iter().collect(),
    };
    for relation in &scene.catalog.relations {
        match relation.kind {
            RelationKind::Mention(_) => mentions(scene, relation, &nodes, found),
            RelationKind::Reference(_) | RelationKind::Previous => {
                outgoing(scene, relation, &nodes, found);
                incoming(scene, relation, &nodes, found);
            }
        }
    }
}

/// The name of a relation: that of its field, or `previously at` for a former root.
pub(super) fn relation_name(scene: &Scene<'_>, relation: &Relation) -> String {
    match relation.kind {
        RelationKind::Reference(field) | RelationKind::Mention(field) => {
            words::name(&scene.catalog.table_at(relation.from).field_at(field).name)
        }
        RelationKind::Previous => "previously at".into(),
    }
}

/// Lines about outgoing edges: `1 contact previously at a customer: Acme`, `2 leads: referred by
/// account Acme`.
fn outgoing(
    scene: &Scene<'_>,
    relation: &Relation,
    nodes: &[&Node],
    found: &mut EvidenceDraft<'_>,
) {
    let group = groups::of_relation(relation);
    let from = scene.catalog.table_at(relation.from);
    let name = relation_name(scene, relation);
    let mut customers = CustomersElsewhere::new(scene.graph, scene.at);
    let mut ends: Vec<(i64, bool, EntityId, EntityId)> = nodes
        .iter()
        .flat_map(|n| {
            scene
                .graph
                .edges(n)
                .into_iter()
                .filter(|e| e.relation == relation.id)
                .map(move |e| (n.entity, e))
        })
        .map(|(entity, e)| (e.since_ms, customers.contains(e.to), entity, e.to))
        .collect();
    ends.sort_by_cached_key(|(since_ms, _, _, to)| (Reverse(*since_ms), scene.called(*to)));
    for is_customer in [true, false] {
        let those: Vec<_> = ends
            .iter()
            .filter(|(_, customer, ..)| *customer == is_customer)
            .collect();
        if those.is_empty() {
            continue;
        }
        let mut who: Vec<EntityId> = those.iter().map(|(_, _, who, _)| *who).collect();
        who.sort_unstable();
        who.dedup();
        let mut targets: Vec<String> = Vec::new();
        let mut listed: FxHashSet<String> = FxHashSet::default();
        for (.., to) in &those {
            let target = scene.called(*to);
            if listed.insert(target.clone()) {
                targets.push(target);
            }
        }
        let targets = words::listed(&targets, NAMED);
        let subject = words::counted(who.len(), &from.name);
        let subject = match (relation.kind, relation.from == scene.catalog.root().id) {
            (_, true) => String::new(),
            (RelationKind::Previous, _) => format!("{subject} "),
            _ => format!("{subject}: "),
        };
        let text = match (is_customer, relation.kind) {
            (true, RelationKind::Previous) => format!("{subject}{name} a customer: {targets}"),
            (true, _) => format!("{subject}{name} {targets}, a customer"),
            (false, _) => format!("{subject}{name} {targets}"),
        };
        found.line(
            &group,
            if is_customer {
                Rank::Headline
            } else {
                Rank::Own
            },
            text,
        );
    }
}

/// A line about incoming edges: `referred by account of 2 leads`, `2 contacts left for elsewhere`.
fn incoming(
    scene: &Scene<'_>,
    relation: &Relation,
    nodes: &[&Node],
    found: &mut EvidenceDraft<'_>,
) {
    let here = nodes
        .iter()
        .filter(|n| n.table == relation.target && !n.absorbed);
    let here = here.filter(|n| scene.member.is_some() || n.table == scene.catalog.root().id);
    let count = here
        .map(|n| referrers(scene.graph, n.entity, relation.id))
        .sum();
    if count > 0 {
        let from = words::counted(count, &scene.catalog.table_at(relation.from).name);
        let text = match relation.kind {
            RelationKind::Previous => format!("{from} left for elsewhere"),
            _ => format!("{} of {from}", relation_name(scene, relation)),
        };
        found.line(&groups::of_relation(relation), Rank::Own, text);
    }
}

/// A line about mentions: `invited contact in product usage ×2, last 3 days ago`.
fn mentions(
    scene: &Scene<'_>,
    relation: &Relation,
    nodes: &[&Node],
    found: &mut EvidenceDraft<'_>,
) {
    let mentions = || {
        nodes
            .iter()
            .filter(|n| n.table == relation.target)
            .flat_map(|n| scene.graph.mentions(n))
            .filter(|m| m.relation == relation.id)
    };
    let count: u32 = mentions()
        .map(|m| m.tally.count())
        .fold(0, u32::saturating_add);
    if let Some(newest_ms) = mentions()
        .map(|m| m.tally.newest_ms())
        .max()
        .filter(|_| count > 0)
    {
        let times = if count > 1 {
            format!(" ×{}", words::number(f64::from(count)))
        } else {
            String::new()
        };
        let events = words::name(&scene.catalog.table_at(relation.from).name);
        let text = format!(
            "{} in {events}{times}, last {}",
            relation_name(scene, relation),
            scene.ago(newest_ms)
        );
        found.line(&groups::of_relation(relation), Rank::Own, text);
    }
}
