//! From a schema to columns, and from a cell at a moment to numbers.
//!
//! One plan serves the live engine, training and backtest. Its hash covers everything that decides what a number means.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rayon::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use leadpulse_graph::{Cell, CellRef, EntityId, Graph, GraphOptions, Node, SlotKind, StateLayout, signed_log1p};
use leadpulse_schema::{Catalog, DataType, Feature, FieldId, HubId, Role, TableId};

use crate::batch::{Absent, Column, FeatureBatch, Group, Layout, MemberBlock, MemberLayout};
use crate::blocks::{Block, Named, SEASON, days, season};

/// Members of one table beyond this many, least recently active first, are folded into one "rest" row.
const MEMBER_CAP: usize = 15;
/// A member counts as active for the committee if it had an event within these days.
const COMMITTEE_DAYS: [f64; 2] = [14.0, 45.0];
/// Cells encoded by one task of the worker pool.
const ENCODE_CHUNK: usize = 64;

/// What the schema does not say and a bundle must remember about encoding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FeatureSpec {
    /// `table.field` → values with a column of their own, most frequent first. Declared values need no entry.
    pub vocabularies: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Debug)]
struct NodePlan {
    table: TableId,
    blocks: Vec<Block>,
}

#[derive(Clone, Debug)]
struct CommitteePlan {
    table: TableId,
    /// Category fields whose distinct values among active members are counted.
    fields: Vec<FieldId>,
}

/// How cells become numbers.
#[derive(Clone, Debug)]
pub struct FeaturePlan {
    layout: Layout,
    spec: FeatureSpec,
    hash: String,
    root: NodePlan,
    members: Vec<NodePlan>,
    committees: Vec<CommitteePlan>,
    hubs: Vec<HubId>,
    /// What of a hub's sums is read: (offset in slots, offset of the table's count, kind).
    hub_slots: Vec<(usize, usize, SlotKind)>,
    halves: usize,
}

impl FeaturePlan {
    /// The plan of a catalog, of what the graph accumulates, and of a bundle's vocabularies.
    pub fn new(catalog: Arc<Catalog>, options: &GraphOptions, spec: FeatureSpec) -> Self {
        let state = StateLayout::new(catalog.clone(), options);
        let vocabulary = |path: &str| -> Vec<String> {
            let (table, field) = path.split_once('.').expect("paths are table.field");
            let field = catalog.table(table).and_then(|t| t.field(field)).expect("paths come from this catalog");
            if field.values.is_empty() { spec.vocabularies.get(path).cloned().unwrap_or_default() } else { field.values.clone() }
        };
        let node_plan = |table: TableId, columns: &mut Vec<Named>| {
            let definition = catalog.table_at(table);
            let mut blocks = Block::of_fields(definition, vocabulary, columns);
            for (position, events) in state.of_entity(table).iter().enumerate() {
                let layout = &state.events[*events];
                blocks.push(Block::of_events(catalog.table_at(layout.table), position, layout, options, columns));
            }
            NodePlan { table, blocks }
        };
        let mut named = Vec::new();
        let root = node_plan(catalog.root().id, &mut named);
        let mut committees = Vec::new();
        let mut members = Vec::new();
        let mut member_named = Vec::new();
        for table in catalog.members() {
            let mut columns = Vec::new();
            members.push(node_plan(table.id, &mut columns));
            member_named.push((table, columns));
            let fields: Vec<FieldId> =
                table.fields.iter().filter(|f| f.feature == Feature::Category && f.data_type != DataType::TextList).map(|f| f.id).collect();
            let mut name = |what: String| {
                named.push(Named { name: format!("{}/{what}", table.name), group: "committee".into(), absent: Absent::Zero });
            };
            name("known".into());
            for days in COMMITTEE_DAYS {
                name(format!("active/{days}d"));
                for field in &fields {
                    name(format!("active/{days}d/distinct {}", table.field_at(*field).name));
                }
            }
            committees.push(CommitteePlan { table: table.id, fields });
        }
        let hubs: Vec<HubId> = catalog.hubs.iter().filter(|h| !h.sources.is_empty()).map(|h| h.id).collect();
        let mut hub_slots = Vec::new();
        for layout in &state.events {
            for (i, slot) in layout.hub_slots.iter().enumerate() {
                hub_slots.push((layout.hub_offset + i, layout.hub_offset, layout.slots[*slot as usize].kind.clone()));
            }
        }
        for hub in &hubs {
            let hub = &catalog.hubs[hub.index()];
            let group =
                hub.sources.iter().find_map(|(t, f)| catalog.table_at(*t).field_at(*f).group.clone()).unwrap_or_else(|| "peers".into());
            let mut name =
                |what: String| named.push(Named { name: format!("{}/{what}", hub.name), group: group.clone(), absent: Absent::Mean });
            name("touched".into());
            name("cells".into());
            for layout in &state.events {
                let events = catalog.table_at(layout.table);
                for slot in &layout.hub_slots {
                    let slot = &layout.slots[*slot as usize];
                    let field = slot.field.map_or(String::new(), |f| format!(".{}", events.field_at(f).name));
                    match &slot.kind {
                        SlotKind::Count => {
                            options.half_lives_days.iter().for_each(|half| name(format!("{}/{half}d/per cell", events.name)));
                        }
                        SlotKind::Value(value) => {
                            name(format!("{}{field}={value}/per cell", events.name));
                        }
                        SlotKind::Log | SlotKind::Flag => name(format!("{}{field}/mean", events.name)),
                        SlotKind::Raw | SlotKind::Bucket(_) => {}
                    }
                }
            }
        }
        named.extend(SEASON.iter().map(|name| Named { name: (*name).into(), group: "season".into(), absent: Absent::Mean }));

        let codes: BTreeSet<String> = named.iter().chain(member_named.iter().flat_map(|(_, c)| c)).map(|c| c.group.clone()).collect();
        let groups: Vec<Group> = codes.iter().map(|code| Group { code: code.clone(), label: label(code) }).collect();
        let column = |named: Named| Column {
            group: codes.iter().position(|c| *c == named.group).expect("codes were collected from these columns"),
            name: named.name,
            absent: named.absent,
        };
        let layout = Layout {
            root: named.into_iter().map(column).collect(),
            members: member_named
                .into_iter()
                .map(|(table, columns)| MemberLayout {
                    table: table.id,
                    name: table.name.clone(),
                    columns: columns.into_iter().map(column).collect(),
                })
                .collect(),
            groups,
        };
        let hash = plan_hash(&layout, &meaning(&catalog), options, &spec);
        Self { layout, spec, hash, root, members, committees, hubs, hub_slots, halves: options.half_lives_days.len() }
    }

    /// Column names and widths.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }
    /// What a bundle stores.
    pub fn spec(&self) -> &FeatureSpec {
        &self.spec
    }
    /// SHA-256 (hex) over everything that decides what the numbers mean. A bundle trained under another hash is refused.
    pub fn hash(&self) -> &str {
        &self.hash
    }
    /// A plan of a given layout that encodes nothing: for tests of models.
    pub fn for_layout(layout: Layout) -> Self {
        let hash = plan_hash(&layout, "", &GraphOptions::default(), &FeatureSpec::default());
        let root = NodePlan { table: TableId(0), blocks: Vec::new() };
        let spec = FeatureSpec::default();
        Self { layout, spec, hash, root, members: Vec::new(), committees: Vec::new(), hubs: Vec::new(), hub_slots: Vec::new(), halves: 0 }
    }

    /// Where an entity of the task's table `table` is in a batch: its row among the task's logits, and its slot. A member folded into the
    /// "rest" row shares that row's score. `None`: the cell has no such member.
    pub fn row_of(&self, batch: &FeatureBatch, table: TableId, cell: usize, entity: EntityId) -> Option<(usize, usize)> {
        let Some(member) = self.layout.members.iter().position(|m| m.table == table) else {
            return Some((cell, 0));
        };
        let block = &batch.members[member];
        let row = |slot: &usize| cell * block.slots + slot;
        let own = (0..block.slots).find(|slot| block.entities[row(slot)] == Some(entity));
        let rest = || (0..block.slots).find(|slot| block.entities[row(slot)].is_none() && block.mask[row(slot)] > 0.0);
        own.or_else(rest).map(|slot| (row(&slot), slot))
    }

    /// Encodes cells as of a moment, in the order given.
    pub fn encode(&self, graph: &Graph, cells: &[CellRef], as_of_ms: i64) -> FeatureBatch {
        let parts: Vec<FeatureBatch> = if cells.len() > ENCODE_CHUNK {
            cells.par_chunks(ENCODE_CHUNK).map(|chunk| self.encode_chunk(graph, chunk, as_of_ms)).collect()
        } else {
            vec![self.encode_chunk(graph, cells, as_of_ms)]
        };
        self.join(parts)
    }

    fn encode_chunk(&self, graph: &Graph, cells: &[CellRef], as_of_ms: i64) -> FeatureBatch {
        let mut batch = FeatureBatch { cells: cells.len(), ..FeatureBatch::default() };
        for at in cells {
            let start = batch.root.len();
            self.encode_root(graph, graph.cell(*at), as_of_ms, &mut batch.root);
            debug_assert_eq!(batch.root.len() - start, self.layout.root.len(), "every block writes as many numbers as it names");
        }
        for (plan, layout) in self.members.iter().zip(&self.layout.members) {
            let rows: Vec<Vec<(Option<EntityId>, Vec<f32>)>> =
                cells.iter().map(|at| self.encode_members(graph, graph.cell(*at), plan, layout.columns.len(), as_of_ms)).collect();
            let slots = rows.iter().map(Vec::len).max().unwrap_or(0);
            let width = layout.columns.len();
            let mut block = MemberBlock { slots, width, ..MemberBlock::default() };
            for row in rows {
                let padding = slots - row.len();
                for (entity, values) in row {
                    debug_assert_eq!(values.len(), width);
                    block.values.extend(values);
                    block.mask.push(1.0);
                    block.entities.push(entity);
                }
                block.values.extend(std::iter::repeat_n(0.0, padding * width));
                block.mask.extend(std::iter::repeat_n(0.0, padding));
                block.entities.extend(std::iter::repeat_n(None, padding));
            }
            batch.members.push(block);
        }
        batch
    }

    /// Joins batches, padding member blocks to the largest.
    fn join(&self, mut parts: Vec<FeatureBatch>) -> FeatureBatch {
        if parts.len() == 1 {
            return parts.remove(0);
        }
        let mut joined = FeatureBatch { cells: parts.iter().map(|p| p.cells).sum(), ..FeatureBatch::default() };
        for part in &parts {
            joined.root.extend_from_slice(&part.root);
        }
        for (m, layout) in self.layout.members.iter().enumerate() {
            let width = layout.columns.len();
            let slots = parts.iter().map(|p| p.members[m].slots).max().unwrap_or(0);
            let mut block = MemberBlock { slots, width, ..MemberBlock::default() };
            for part in &parts {
                let from = &part.members[m];
                for cell in 0..part.cells {
                    let rows = cell * from.slots..(cell + 1) * from.slots;
                    let padding = slots - from.slots;
                    block.values.extend_from_slice(&from.values[rows.start * width..rows.end * width]);
                    block.values.extend(std::iter::repeat_n(0.0, padding * width));
                    block.mask.extend_from_slice(&from.mask[rows.clone()]);
                    block.mask.extend(std::iter::repeat_n(0.0, padding));
                    block.entities.extend_from_slice(&from.entities[rows]);
                    block.entities.extend(std::iter::repeat_n(None, padding));
                }
            }
            joined.members.push(block);
        }
        joined
    }

    fn encode_root(&self, graph: &Graph, cell: &Cell, as_of_ms: i64, out: &mut Vec<f32>) {
        let bank = &graph.shared().bank;
        let stub;
        let anchor = match cell.anchor_node().filter(|n| n.table == self.root.table) {
            Some(node) => node,
            None => {
                stub = Node::stub(cell.anchor, self.root.table, &graph.shared().layout);
                &stub
            }
        };
        self.root.blocks.iter().for_each(|block| block.write(anchor, bank, as_of_ms, out));
        for committee in &self.committees {
            self.encode_committee(cell, committee, as_of_ms, out);
        }
        self.encode_hubs(graph, cell, as_of_ms, out);
        season(as_of_ms, out);
    }

    fn encode_committee(&self, cell: &Cell, committee: &CommitteePlan, as_of_ms: i64, out: &mut Vec<f32>) {
        let members = || cell.nodes.iter().filter(|n| n.table == committee.table && n.is_known());
        out.push((members().count() as f32).ln_1p());
        for window in COMMITTEE_DAYS {
            let active: Vec<&Node> = members().filter(|n| n.newest_event_ms().is_some_and(|t| days(t, as_of_ms) <= window)).collect();
            out.push((active.len() as f32).ln_1p());
            for field in &committee.fields {
                let distinct: FxHashSet<&str> = active.iter().filter_map(|n| n.value(*field).text()).collect();
                out.push(distinct.len() as f32);
            }
        }
    }

    /// Per hub: the mean, over the cell's nodes of it, of what the *other* cells that touch the node did.
    fn encode_hubs(&self, graph: &Graph, cell: &Cell, as_of_ms: i64, out: &mut Vec<f32>) {
        if self.hubs.is_empty() {
            return;
        }
        let (shared, hubs) = (graph.shared(), graph.hubs());
        let current;
        let own = match cell.frozen() {
            Some(own) => own,
            None => {
                current = cell.contribution(shared);
                &current
            }
        };
        let reads: Vec<f64> = (0..self.halves).map(|h| shared.bank.read(h, hubs.landmark(), as_of_ms)).collect();
        let own_scale: Vec<f64> = (0..self.halves).map(|h| shared.bank.rebase(h, own.landmark, hubs.landmark())).collect();
        let mut weights: FxHashMap<EntityId, f64> = FxHashMap::default();
        for node in &cell.nodes {
            for hub in &node.hubs {
                *weights.entry(*hub).or_default() += 1.0;
            }
            for touch in &node.touches {
                *weights.entry(touch.hub).or_default() += touch.weight_at(&shared.bank, as_of_ms);
            }
        }
        let mut weights: Vec<(EntityId, f64)> = weights.into_iter().collect();
        // In order of key, so that the sum does not depend on when a key was first seen.
        weights.sort_unstable_by(|a, b| graph.directory().key(a.0).cmp(graph.directory().key(b.0)));
        let width = 2 + self.hub_columns();
        let longest = self.halves - 1;
        let mut row = vec![0.0_f64; self.hub_columns()];
        for hub in &self.hubs {
            let start = out.len();
            let (mut total, mut cells_sum, mut touched) = (0.0, 0.0, 0_usize);
            let mut pooled = vec![0.0_f64; self.hub_columns()];
            for (entity, weight) in weights.iter().filter(|(e, _)| graph.directory().hub(*e) == Some(*hub)) {
                touched += 1;
                let Some(published) = hubs.get(*entity) else { continue };
                let mine = own.hubs.binary_search(entity).is_ok();
                let others = published.cells.saturating_sub(u32::from(mine));
                if others == 0 {
                    continue;
                }
                let n = f64::from(others);
                let read = |slot: usize, h: usize| {
                    let at = slot * self.halves + h;
                    (published.sums[at] - if mine { own.sums[at] * own_scale[h] } else { 0.0 }) * reads[h]
                };
                row.clear();
                for (slot, count, kind) in &self.hub_slots {
                    match kind {
                        SlotKind::Count => row.extend((0..self.halves).map(|h| signed_log1p(read(*slot, h) / n))),
                        SlotKind::Value(_) => row.push(signed_log1p(read(*slot, longest) / n)),
                        SlotKind::Log | SlotKind::Flag => row.push(ratio(read(*slot, longest), read(*count, longest))),
                        SlotKind::Raw | SlotKind::Bucket(_) => {}
                    }
                }
                total += weight;
                cells_sum += weight * n.ln_1p();
                pooled.iter_mut().zip(&row).for_each(|(sum, x)| *sum += weight * x);
            }
            let scale = if total > 1e-12 { 1.0 / total } else { 0.0 };
            out.push((touched as f32).ln_1p());
            out.push((cells_sum * scale) as f32);
            out.extend(pooled.iter().map(|x| (x * scale) as f32));
            debug_assert_eq!(out.len() - start, width);
        }
    }

    fn hub_columns(&self) -> usize {
        self.hub_slots
            .iter()
            .map(|(_, _, kind)| match kind {
                SlotKind::Count => self.halves,
                SlotKind::Value(_) | SlotKind::Log | SlotKind::Flag => 1,
                SlotKind::Raw | SlotKind::Bucket(_) => 0,
            })
            .sum()
    }

    /// The most recently active members, then the rest folded into their mean.
    fn encode_members(
        &self,
        graph: &Graph,
        cell: &Cell,
        plan: &NodePlan,
        width: usize,
        as_of_ms: i64,
    ) -> Vec<(Option<EntityId>, Vec<f32>)> {
        let mut nodes: Vec<&Node> = cell.nodes.iter().filter(|n| n.table == plan.table && n.is_known()).collect();
        let directory = graph.directory();
        nodes.sort_unstable_by(|a, b| {
            b.newest_event_ms().cmp(&a.newest_event_ms()).then_with(|| directory.key(a.entity).cmp(directory.key(b.entity)))
        });
        let encode = |node: &Node| {
            let mut values = Vec::with_capacity(width);
            plan.blocks.iter().for_each(|block| block.write(node, &graph.shared().bank, as_of_ms, &mut values));
            values
        };
        let mut rows: Vec<(Option<EntityId>, Vec<f32>)> = nodes.iter().take(MEMBER_CAP).map(|n| (Some(n.entity), encode(n))).collect();
        let rest = nodes.get(MEMBER_CAP..).unwrap_or_default();
        if !rest.is_empty() {
            let mut mean = vec![0.0_f32; width];
            for node in rest {
                mean.iter_mut().zip(encode(node)).for_each(|(sum, x)| *sum += x);
            }
            mean.iter_mut().for_each(|x| *x /= rest.len() as f32);
            rows.push((None, mean));
        }
        rows
    }
}

fn ratio(sum: f64, count: f64) -> f64 {
    if count > 1e-9 { sum / count } else { 0.0 }
}

/// `high_intent_content` → `High intent content`.
fn label(code: &str) -> String {
    let mut text = code.replace('_', " ");
    if let Some(first) = text.get_mut(0..1) {
        first.make_ascii_uppercase();
    }
    text
}

/// What decides numbers without showing in the names of columns: whose rows they count, the order of stages, who is a peer.
fn meaning(catalog: &Catalog) -> String {
    let mut text = String::new();
    for table in &catalog.tables {
        let named = |field: &FieldId| &table.field_at(*field).name;
        let staged = table.staged.as_ref().map(|s| (named(&s.field), &s.stages));
        text += &format!("{} {:?} {:?} {staged:?}\n", table.name, table.role, table.owners.iter().map(named).collect::<Vec<_>>());
        for field in table.fields.iter().filter(|f| f.feature != Feature::None || f.reference.is_some() || f.hub.is_some()) {
            let refers = field.reference.map(|r| &catalog.table_at(r.table).name);
            let hub = field.hub.map(|h| &catalog.hubs[h.index()].name);
            text += &format!("{} {:?} {refers:?} {hub:?}\n", field.name, field.feature);
        }
    }
    text
}

fn plan_hash(layout: &Layout, meaning: &str, options: &GraphOptions, spec: &FeatureSpec) -> String {
    let mut hash = Sha256::new();
    hash.update(meaning);
    let columns = layout.root.iter().chain(layout.members.iter().flat_map(|m| &m.columns));
    for column in columns {
        hash.update(format!("{}|{}|{:?}\n", column.name, layout.groups[column.group].code, column.absent));
    }
    hash.update(format!(
        "{:?}|{}|{}|{}|{}|{}|{}|{}",
        options.half_lives_days,
        options.hashed_buckets,
        options.rhythm_days,
        options.staged_events,
        options.order_window_days,
        options.board_period_ms,
        MEMBER_CAP,
        serde_json::to_string(spec).expect("a map of strings is JSON")
    ));
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

/// Counts values of categories without declared values, to choose a vocabulary.
#[derive(Clone, Debug, Default)]
pub struct VocabularyBuilder {
    counts: BTreeMap<String, BTreeMap<String, u64>>,
}

impl VocabularyBuilder {
    /// Values seen less often than this, or beyond the cap, share the "other" column.
    const MIN_COUNT: u64 = 10;
    const CAP: usize = 32;

    /// Counts the values of a row of an entity table.
    pub fn observe(&mut self, catalog: &Catalog, row: leadpulse_schema::Row<'_>) {
        let table = catalog.table_at(row.table());
        if matches!(table.role, Role::Event | Role::Hub) {
            return;
        }
        for field in table.fields.iter().filter(|f| matches!(f.feature, Feature::Category | Feature::Set) && f.values.is_empty()) {
            let counts = self.counts.entry(format!("{}.{}", table.name, field.name)).or_default();
            let mut count = |value: &str| *counts.entry(value.to_owned()).or_default() += 1;
            match row.get(field.id) {
                leadpulse_schema::Value::Text(value) => count(value),
                leadpulse_schema::Value::List(values) => values.iter().for_each(count),
                _ => {}
            }
        }
    }
    /// The most frequent values of each field.
    pub fn finish(self) -> FeatureSpec {
        let choose = |counts: BTreeMap<String, u64>| {
            let mut values: Vec<(String, u64)> = counts.into_iter().filter(|(_, n)| *n >= Self::MIN_COUNT).collect();
            values.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            values.into_iter().take(Self::CAP).map(|(v, _)| v).collect()
        };
        FeatureSpec { vocabularies: self.counts.into_iter().map(|(path, counts)| (path, choose(counts))).collect() }
    }
}
