//! Activity of the other cells of a hub, per hub and event table. The cell's own part is left out.

use rustc_hash::FxHashMap;

use leadpulse_graph::{Cell, EntityId, Graph, GraphOptions, SlotKind, StateLayout, signed_log1p};
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{Catalog, HubId, TableId};

use crate::batch::Absent;
use crate::columns::UnplacedColumn;
use crate::groups;

/// A hub sum that becomes a column.
#[derive(Clone, Debug)]
struct HubSlot {
    /// Position of the sum, in slots.
    slot: usize,
    /// Position of the count of the same event table, in slots.
    count: usize,
    kind: SlotKind,
}

/// The columns of all hubs of a catalog.
#[derive(Clone, Debug, Default)]
pub(crate) struct HubBlock {
    hubs: Vec<HubId>,
    slots: Vec<HubSlot>,
    halves: usize,
}

impl HubBlock {
    /// The block of a catalog. Appends the columns: counts of each event table, values of outcome
    /// and stage fields, means of numbers.
    pub(crate) fn new(
        catalog: &Catalog,
        state: &StateLayout,
        options: &GraphOptions,
        columns: &mut Vec<UnplacedColumn>,
    ) -> Self {
        let hubs: Vec<HubId> = catalog
            .hubs
            .iter()
            .filter(|h| !h.sources.is_empty())
            .map(|h| h.id)
            .collect();
        let mut slots = Vec::new();
        let mut names = Vec::new();
        for layout in &state.events {
            let events = catalog.table_at(layout.table);
            let telling = [
                events.outcome.as_ref().map(|o| o.field),
                events.staged.as_ref().map(|s| s.field),
            ];
            for (i, slot) in layout.hub_slots.iter().enumerate() {
                let slot = &layout.slots[*slot as usize];
                let field = slot
                    .field
                    .map_or(String::new(), |f| format!(".{}", events.field_at(f).name));
                match &slot.kind {
                    SlotKind::Count => {
                        names.extend(
                            options
                                .half_lives_days
                                .iter()
                                .map(|half| format!("{}/{half}d/per cell", events.name)),
                        );
                    }
                    SlotKind::Value(value) if telling.contains(&slot.field) => {
                        names.push(format!("{}{field}={value}/per cell", events.name));
                    }
                    SlotKind::Log | SlotKind::Flag => {
                        names.push(format!("{}{field}/mean", events.name))
                    }
                    SlotKind::Value(_) | SlotKind::Raw | SlotKind::Bucket(_) => continue,
                }
                slots.push(HubSlot {
                    slot: layout.hub_offset + i,
                    count: layout.hub_offset,
                    kind: slot.kind.clone(),
                });
            }
        }
        for hub in &hubs {
            let hub = &catalog.hubs[hub.index()];
            let group = groups::of_hub(catalog, hub);
            for what in ["touched", "cells"]
                .into_iter()
                .chain(names.iter().map(String::as_str))
            {
                columns.push(UnplacedColumn {
                    name: format!("{}/{what}", hub.name),
                    group: group.clone(),
                    absent: Absent::Mean,
                });
            }
        }
        Self {
            hubs,
            slots,
            halves: options.half_lives_days.len(),
        }
    }

    /// Appends the block's numbers. Per hub: the activity of the other cells at a hub node,
    /// averaged over the hub nodes that the cell touches.
    pub(crate) fn write(&self, graph: &Graph, cell: &Cell, as_of: AsOf, out: &mut Vec<f32>) {
        if self.hubs.is_empty() {
            return;
        }
        let view = HubView::new(graph, cell, as_of);
        let longest = self.halves - 1;
        let width = self.width();
        let mut row = Vec::with_capacity(width);
        for hub in &self.hubs {
            let (mut total, mut cells_sum, mut touched) = (0.0, 0.0, 0_usize);
            let mut pooled = vec![0.0_f64; width];
            for (entity, weight) in view.touched(*hub) {
                touched += 1;
                let Some(others) = view.others(entity) else {
                    continue;
                };
                let n = f64::from(others.cells);
                row.clear();
                for HubSlot { slot, count, kind } in &self.slots {
                    match kind {
                        SlotKind::Count => row.extend(
                            (0..self.halves).map(|h| signed_log1p(others.sum(*slot, h) / n)),
                        ),
                        SlotKind::Log | SlotKind::Flag => row.push(ratio(
                            others.sum(*slot, longest),
                            others.sum(*count, longest),
                        )),
                        SlotKind::Value(_) | SlotKind::Raw | SlotKind::Bucket(_) => {
                            row.push(signed_log1p(others.sum(*slot, longest) / n));
                        }
                    }
                }
                total += weight;
                cells_sum += weight * n.ln_1p();
                pooled
                    .iter_mut()
                    .zip(&row)
                    .for_each(|(sum, x)| *sum += weight * x);
            }
            // Weights of touches fade: long after the last one they are no number to divide by.
            let scale = if total > 1e-12 { 1.0 / total } else { 0.0 };
            out.push((touched as f32).ln_1p());
            out.push((cells_sum * scale) as f32);
            out.extend(pooled.iter().map(|x| (x * scale) as f32));
        }
    }

    /// Number of columns of one hub that come from sums.
    fn width(&self) -> usize {
        self.slots
            .iter()
            .map(|s| {
                if s.kind == SlotKind::Count {
                    self.halves
                } else {
                    1
                }
            })
            .sum()
    }
}

fn ratio(sum: f64, count: f64) -> f64 {
    if count > 1e-9 { sum / count } else { 0.0 }
}

/// The hubs that a cell touches, seen from the cell.
pub(crate) struct HubView<'a> {
    graph: &'a Graph,
    own: std::borrow::Cow<'a, leadpulse_graph::HubContribution>,
    /// Weight of each hub node, in order of keys: sums do not depend on the order in which keys
    /// were first seen.
    weights: Vec<(EntityId, f64)>,
    reads: Vec<f64>,
    own_scale: Vec<f64>,
}

/// Activity of the other cells at a hub node, as of the last board.
pub(crate) struct Others<'v> {
    view: &'v HubView<'v>,
    sums: &'v [f64],
    is_own_in: bool,
    /// Number of other cells, at least 1.
    pub cells: u32,
}

impl<'a> HubView<'a> {
    /// The view of a cell.
    pub(crate) fn new(graph: &'a Graph, cell: &'a Cell, as_of: AsOf) -> Self {
        let shared = graph.shared();
        // The part that is in the published sums, not the cell's part of now: only that can be
        // taken out of them.
        let own = match cell.frozen() {
            Some(own) => std::borrow::Cow::Borrowed(own),
            None => std::borrow::Cow::Owned(cell.contribution(shared)),
        };
        let landmark = graph.hubs().landmark();
        let halves = 0..shared.bank.len();
        let reads = halves
            .clone()
            .map(|h| shared.bank.read(h, landmark, as_of.ms()))
            .collect();
        let own_scale = halves
            .map(|h| shared.bank.rebase(h, own.landmark, landmark))
            .collect();
        let mut weights: FxHashMap<EntityId, f64> = FxHashMap::default();
        // An outsider's cell is in no hub, so no board would mark it: it reads none either.
        let nodes = cell.nodes.iter().filter(|_| !cell.is_outside());
        for node in nodes {
            for hub in &node.hubs {
                *weights.entry(*hub).or_default() += 1.0;
            }
            for touch in node.touches() {
                *weights.entry(touch.hub).or_default() += touch.weight_at(&shared.bank, as_of.ms());
            }
        }
        let mut weights: Vec<(EntityId, f64)> = weights.into_iter().collect();
        weights.sort_unstable_by(|a, b| graph.directory().key(a.0).cmp(graph.directory().key(b.0)));
        Self {
            graph,
            own,
            weights,
            reads,
            own_scale,
        }
    }

    /// The nodes of a hub that the cell touches, with their weights, in order of key.
    pub(crate) fn touched(&self, hub: HubId) -> impl Iterator<Item = (EntityId, f64)> {
        self.weights
            .iter()
            .copied()
            .filter(move |(e, _)| self.graph.directory().hub(*e) == Some(hub))
    }

    /// The activity of the other cells at a hub node; `None` if no other cell touches the node.
    pub(crate) fn others(&self, entity: EntityId) -> Option<Others<'_>> {
        let published = self.graph.hubs().get(entity)?;
        let is_own_in = self.own.hubs.binary_search(&entity).is_ok();
        let cells = published.cells.saturating_sub(u32::from(is_own_in));
        (cells > 0).then_some(Others {
            view: self,
            sums: &published.sums,
            is_own_in,
            cells,
        })
    }
}

impl Others<'_> {
    /// A decayed sum of the other cells, by hub slot and half-life.
    // Without its own part: a cell's own win would count as one of its peers'.
    pub(crate) fn sum(&self, slot: usize, half: usize) -> f64 {
        let view = self.view;
        let at = slot * view.reads.len() + half;
        let own = if self.is_own_in {
            view.own.sums[at] * view.own_scale[half]
        } else {
            0.0
        };
        (self.sums[at] - own) * view.reads[half]
    }
}

/// The hub slots of an event table that `is_wanted` accepts.
pub(crate) fn slot_of(
    state: &StateLayout,
    table: TableId,
    is_wanted: impl Fn(&leadpulse_graph::EventSlot) -> bool,
) -> Vec<usize> {
    let layout = state.event(table);
    let wanted = layout
        .hub_slots
        .iter()
        .enumerate()
        .filter(|(_, slot)| is_wanted(&layout.slots[**slot as usize]));
    wanted.map(|(i, _)| layout.hub_offset + i).collect()
}
