//! Activity of the other cells of a hub, per hub and event table, and what the hub's own row says.
//! The cell's own part is left out.

use smallvec::{SmallVec, smallvec};

use leadpulse_graph::{Cell, EntityId, Graph, SlotKind, StateLayout, signed_log1p};
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{HubId, TableId};

use crate::batch::{Absent, GroupKind};
use crate::columns::UnplacedColumn;
use crate::groups;
use crate::hub_rows::HubRows;
use crate::spec::PlanSource;

/// A hub sum that becomes a column: per other cell, by a half-life.
#[derive(Clone, Copy, Debug)]
struct HubSlot {
    /// Position of the sum, in slots.
    slot: usize,
    half: usize,
}

/// The columns of all hubs of a catalog.
#[derive(Clone, Debug, Default)]
pub(crate) struct HubBlock {
    hubs: Vec<(HubId, HubRows)>,
    slots: Vec<HubSlot>,
}

impl HubBlock {
    /// The block of a catalog. Appends the columns: counts of each event table by the middle
    /// half-life, and values that end deals by the longest; then the fields of the hub's own rows.
    // Fewer than the sums have: decision docs/decisions/0043-the-cell-has-the-events-of-its-members.md
    pub(crate) fn new(source: &PlanSource<'_>, columns: &mut Vec<UnplacedColumn>) -> Self {
        let catalog = source.catalog;
        let hubs: Vec<HubId> = catalog
            .hubs
            .iter()
            .filter(|h| !h.sources.is_empty())
            .map(|h| h.id)
            .collect();
        let half_lives = &source.options.half_lives_days;
        let longest = half_lives.len() - 1;
        let mut slots = Vec::new();
        let mut names = Vec::new();
        for layout in &source.state.events {
            let events = catalog.table_at(layout.table);
            for (i, number) in layout.hub_slots.iter().enumerate() {
                let slot = &layout.slots[*number as usize];
                let half = match &slot.kind {
                    SlotKind::Count => half_lives.len() / 2,
                    SlotKind::Value(_) if layout.ends_deal(*number) => longest,
                    _ => continue,
                };
                if !source.is_seen(&events.name, *number) {
                    continue;
                }
                names.push(match (&slot.kind, slot.field) {
                    (SlotKind::Value(value), Some(field)) => {
                        let field = &events.field_at(field).name;
                        format!("{}.{field}={value}/per cell", events.name)
                    }
                    _ => format!("{}/{}d/per cell", events.name, half_lives[half]),
                });
                slots.push(HubSlot {
                    slot: layout.hub_offset + i,
                    half,
                });
            }
        }
        let mut with_rows = Vec::new();
        for hub in hubs {
            let hub = &catalog.hubs[hub.index()];
            let group = groups::of_hub(catalog, hub);
            let table = hub.table.map(|table| catalog.table_at(table));
            let (rows, of_rows) = table
                .map(|table| HubRows::new(source, table))
                .unwrap_or_default();
            with_rows.push((hub.id, rows));
            for what in ["touched", "cells"]
                .into_iter()
                .chain(names.iter().map(String::as_str))
                .chain(of_rows.iter().map(String::as_str))
            {
                columns.push(UnplacedColumn {
                    name: format!("{}/{what}", hub.name),
                    group: group.clone(),
                    kind: GroupKind::Relations,
                    absent: Absent::Mean,
                });
            }
        }
        Self {
            hubs: with_rows,
            slots,
        }
    }

    /// Appends the block's numbers. Per hub: the activity of the other cells at a hub node,
    /// averaged over the hub nodes that the cell touches.
    pub(crate) fn write(&self, graph: &Graph, cell: &Cell, as_of: AsOf, out: &mut Vec<f32>) {
        if self.hubs.is_empty() {
            return;
        }
        let view = HubView::new(graph, cell, as_of);
        for (hub, rows) in &self.hubs {
            let mut row_sums = rows.sums(as_of);
            let (mut total, mut cells_sum, mut touched) = (0.0, 0.0, 0_usize);
            let mut pooled: SmallVec<[f64; 16]> = smallvec![0.0; self.slots.len()];
            for (entity, weight) in view.touched(*hub) {
                touched += 1;
                // Most hubs have no rows, and a cell may touch very many.
                if !rows.is_empty() {
                    row_sums.add(graph.hubs().row(entity), weight);
                }
                let Some(others) = view.others(entity) else {
                    continue;
                };
                let n = f64::from(others.cells);
                total += weight;
                cells_sum += weight * n.ln_1p();
                for (sum, HubSlot { slot, half }) in pooled.iter_mut().zip(&self.slots) {
                    *sum += weight * signed_log1p(others.sum(*slot, *half) / n);
                }
            }
            // Weights of touches fade: long after the last one they are no number to divide by.
            let scale = if total > 1e-12 { 1.0 / total } else { 0.0 };
            out.push((touched as f32).ln_1p());
            out.push((cells_sum * scale) as f32);
            out.extend(pooled.iter().map(|x| (x * scale) as f32));
            row_sums.write(out);
        }
    }
}

/// The hubs that a cell touches, seen from the cell.
pub(crate) struct HubView<'a> {
    graph: &'a Graph,
    own: std::borrow::Cow<'a, leadpulse_graph::HubContribution>,
    /// Weight of each hub node, in order of keys: sums do not depend on the order in which keys
    /// were first seen.
    weights: SmallVec<[(EntityId, f64); 16]>,
    reads: SmallVec<[f64; 4]>,
    own_scale: SmallVec<[f64; 4]>,
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
        let mut weights: SmallVec<[(EntityId, f64); 16]> = SmallVec::new();
        // An outsider's cell is in no hub, so no board would mark it: it reads none either.
        let nodes = cell.nodes.iter().filter(|_| !cell.is_outside());
        for node in nodes {
            weights.extend(node.hubs.iter().map(|hub| (*hub, 1.0)));
            let touches = node.touches().iter();
            let touches = touches.map(|one| (one.hub, one.weight_at(&shared.bank, as_of.ms())));
            weights.extend(touches);
        }
        // Stable: the weights of a hub are added in the order of nodes.
        weights.sort_by_key(|(hub, _)| *hub);
        weights.dedup_by(|next, sum| {
            let is_same = next.0 == sum.0;
            if is_same {
                sum.1 += next.1;
            }
            is_same
        });
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
