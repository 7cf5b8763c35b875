//! From a schema to columns, and from a cell at a moment to numbers.
//!
//! One plan serves the live engine, training and backtest. The hash of the plan covers everything
//! that decides the meaning of a number.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use leadpulse_graph::{CellRef, EntityId, Graph, GraphOptions, Node, StateLayout};
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{Catalog, DataType, Feature, Field, FieldId, Table, TableId, hex};

use crate::batch::{Absent, Column, FeatureBatch, Group, Layout, MemberBlock, MemberLayout};
use crate::columns::{SEASON, UnplacedColumn, season};
use crate::committee::{Activity, CommitteeBlock};
use crate::events::EventBlock;
use crate::fields::FieldBlock;
use crate::groups;
use crate::hubs::HubBlock;
use crate::order::OrderBlock;
use crate::outcomes::OutcomeBlock;
use crate::relations::RelationBlock;

/// Most members of one table with rows of their own, the most recently active ones. The others are
/// folded into one "rest" row.
// With the rest row these are the 16 rows of the prototype that the network was tried with. Other
// caps were not measured.
const MEMBER_CAP: usize = 15;
/// Number of cells encoded by one task of the worker pool.
// Why 64 is unknown.
const ENCODE_CHUNK: usize = 64;

/// The part of an encoding that the schema does not determine. A bundle stores it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FeatureSpec {
    /// `table.field` → values with a column of their own, most frequent first. Declared values need
    /// no entry.
    pub vocabularies: BTreeMap<String, Vec<String>>,
}

/// The columns of one entity table: fields, events and their order.
#[derive(Clone, Debug)]
struct NodePlan {
    table: TableId,
    fields: Vec<FieldBlock>,
    events: Vec<EventBlock>,
    order: Option<OrderBlock>,
}

/// The columns of a cell besides those of its root.
#[derive(Clone, Debug)]
struct CellPlan {
    committees: Vec<CommitteeBlock>,
    order: Option<OrderBlock>,
    relations: RelationBlock,
    outcomes: Option<OutcomeBlock>,
    hubs: HubBlock,
}

/// All columns of a catalog, as blocks that write them.
#[derive(Clone, Debug)]
struct Blocks {
    root: NodePlan,
    cell: CellPlan,
    members: Vec<(NodePlan, RelationBlock)>,
}

/// The encoding of cells as numbers, made from a catalog.
///
/// ```
/// use std::sync::Arc;
///
/// use leadpulse_features::{FeaturePlan, FeatureSpec};
/// use leadpulse_graph::GraphOptions;
/// use leadpulse_schema::Catalog;
///
/// let accounts = r#"{"type": "record", "name": "Account",
///     "leadpulse": {"table": "accounts", "role": "root"},
///     "fields": [
///         {"name": "account_id", "type": "string", "leadpulse": {"key": true}},
///         {"name": "updated_at", "type": {"type": "long", "logicalType": "timestamp-millis"},
///          "leadpulse": {"time": true}},
///         {"name": "employees", "type": ["null", "long"], "default": null,
///          "leadpulse": {"feature": "number"}}]}"#;
/// let visits = r#"{"type": "record", "name": "Visit",
///     "leadpulse": {"table": "visits", "role": "event"},
///     "fields": [
///         {"name": "visit_id", "type": "string", "leadpulse": {"key": true}},
///         {"name": "account_id", "type": "string",
///          "leadpulse": {"ref": "accounts", "owner": true}},
///         {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"},
///          "leadpulse": {"time": true}}]}"#;
/// let files = [("accounts.avsc", accounts), ("visits.avsc", visits)];
/// let catalog = Arc::new(Catalog::from_json(&files).unwrap());
/// let options = GraphOptions::default();
/// let plan = FeaturePlan::new(catalog, &options, FeatureSpec::default());
///
/// let names: Vec<&str> = plan.layout().root.iter().map(|c| c.name.as_str()).collect();
/// assert!(names.contains(&"accounts.employees/value"));
/// assert!(names.contains(&"visits/recency"));
/// ```
#[derive(Clone, Debug)]
pub struct FeaturePlan {
    layout: Layout,
    spec: FeatureSpec,
    hash: String,
    /// None for a plan that only has a layout.
    blocks: Option<Blocks>,
}

impl NodePlan {
    fn new(
        catalog: &Catalog,
        state: &StateLayout,
        options: &GraphOptions,
        table: TableId,
        vocabulary: impl Fn(&str) -> Vec<String>,
        columns: &mut Vec<UnplacedColumn>,
    ) -> Self {
        let fields = FieldBlock::of_table(catalog.table_at(table), vocabulary, columns);
        let layouts = state
            .of_entity(table)
            .iter()
            .map(|e| &state.events[*e])
            .enumerate();
        let events = layouts
            .map(|(position, l)| {
                EventBlock::new(catalog.table_at(l.table), position, l, options, columns)
            })
            .collect();
        Self {
            table,
            fields,
            events,
            order: OrderBlock::of_table(catalog, state, options, table, columns),
        }
    }

    fn write(&self, graph: &Graph, node: &Node, as_of: AsOf, out: &mut Vec<f32>) {
        let bank = &graph.shared().bank;
        self.fields
            .iter()
            .for_each(|block| block.write(node, as_of, out));
        self.events
            .iter()
            .for_each(|block| block.write(&node.events, bank, as_of, out));
        if let Some(order) = &self.order {
            order.write(std::iter::once(node), as_of, out);
        }
    }
}

impl CellPlan {
    fn new(
        catalog: &Catalog,
        state: &StateLayout,
        options: &GraphOptions,
        columns: &mut Vec<UnplacedColumn>,
    ) -> Self {
        // The order of the fields is the order of the columns.
        Self {
            committees: catalog
                .members()
                .map(|table| CommitteeBlock::new(catalog, table, columns))
                .collect(),
            order: OrderBlock::of_cell(catalog, state, options, columns),
            relations: RelationBlock::of_cell(catalog, columns),
            outcomes: OutcomeBlock::new(catalog, columns),
            hubs: HubBlock::new(catalog, state, options, columns),
        }
    }
}

/// Numbers the explanation groups of all columns, in order of their codes.
fn lay_out(root: Vec<UnplacedColumn>, members: Vec<(&Table, Vec<UnplacedColumn>)>) -> Layout {
    let codes: BTreeSet<String> = root
        .iter()
        .chain(members.iter().flat_map(|(_, columns)| columns))
        .map(|c| c.group.clone())
        .collect();
    let groups: Vec<Group> = codes
        .iter()
        .map(|code| Group {
            code: code.clone(),
            label: groups::label(code),
        })
        .collect();
    let place = |column: UnplacedColumn| Column {
        group: codes
            .iter()
            .position(|code| *code == column.group)
            .expect("codes were collected from these columns"),
        name: column.name,
        absent: column.absent,
    };
    Layout {
        root: root.into_iter().map(place).collect(),
        members: members
            .into_iter()
            .map(|(table, columns)| MemberLayout {
                table: table.id,
                name: table.name.clone(),
                columns: columns.into_iter().map(place).collect(),
            })
            .collect(),
        groups,
    }
}

impl FeaturePlan {
    /// The plan of a catalog, of the graph's options, and of a bundle's vocabularies.
    pub fn new(catalog: Arc<Catalog>, options: &GraphOptions, spec: FeatureSpec) -> Self {
        let state = StateLayout::new(catalog.clone(), options);
        let vocabulary = |path: &str| -> Vec<String> {
            let (table, field) = path.split_once('.').expect("paths are table.field");
            let field = catalog
                .table(table)
                .and_then(|t| t.field(field))
                .expect("paths come from this catalog");
            if field.values.is_empty() {
                spec.vocabularies.get(path).cloned().unwrap_or_default()
            } else {
                field.values.clone()
            }
        };
        let mut columns = Vec::new();
        let root = NodePlan::new(
            &catalog,
            &state,
            options,
            catalog.root().id,
            vocabulary,
            &mut columns,
        );
        let cell = CellPlan::new(&catalog, &state, options, &mut columns);
        // The season is a column of the root row alone: it is the same for every member.
        columns.extend(SEASON.iter().map(|name| UnplacedColumn {
            name: (*name).into(),
            group: groups::SEASON.into(),
            absent: Absent::Mean,
        }));

        let mut members = Vec::new();
        let mut member_columns = Vec::new();
        for table in catalog.members() {
            let mut own = Vec::new();
            let node = NodePlan::new(&catalog, &state, options, table.id, vocabulary, &mut own);
            let relations = RelationBlock::of_member(&catalog, table.id, &mut own);
            members.push((node, relations));
            member_columns.push((table, own));
        }

        let layout = lay_out(columns, member_columns);
        let hash = plan_hash(&layout, &meaning(&catalog), options, &spec);
        Self {
            layout,
            spec,
            hash,
            blocks: Some(Blocks {
                root,
                cell,
                members,
            }),
        }
    }

    /// Names and groups of all columns.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The part of the encoding that a bundle stores.
    pub fn spec(&self) -> &FeatureSpec {
        &self.spec
    }

    /// SHA-256 (hexadecimal) over everything that decides the meaning of the numbers. A bundle
    /// trained under another hash is refused.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// A plan with a given layout that encodes nothing, for tests of models.
    pub fn for_layout(layout: Layout) -> Self {
        let hash = plan_hash(
            &layout,
            "",
            &GraphOptions::default(),
            &FeatureSpec::default(),
        );
        Self {
            layout,
            spec: FeatureSpec::default(),
            hash,
            blocks: None,
        }
    }

    /// The order block of the members of a table, or of whole cells.
    pub(crate) fn order_of(&self, member: Option<TableId>) -> Option<&OrderBlock> {
        let blocks = self.blocks.as_ref()?;
        match member {
            Some(table) => blocks
                .members
                .iter()
                .find(|(plan, _)| plan.table == table)?
                .0
                .order
                .as_ref(),
            None => blocks.cell.order.as_ref().or(blocks.root.order.as_ref()),
        }
    }

    /// The row among a task's logits, and the slot, of an entity in a batch. `table` is the task's
    /// table. A member folded into the "rest" row shares that row's score. `None` if the cell has
    /// no such member.
    pub fn row_of(
        &self,
        batch: &FeatureBatch,
        table: TableId,
        cell: usize,
        entity: EntityId,
    ) -> Option<(usize, usize)> {
        let Some(member) = self.layout.members.iter().position(|m| m.table == table) else {
            return Some((cell, 0));
        };
        let block = &batch.members[member];
        let row = |slot: &usize| cell * block.slots + slot;
        let own = (0..block.slots).find(|slot| block.entities[row(slot)] == Some(entity));
        let rest = || {
            (0..block.slots)
                .find(|slot| block.entities[row(slot)].is_none() && block.mask[row(slot)] > 0.0)
        };
        own.or_else(rest).map(|slot| (row(&slot), slot))
    }

    /// Encodes cells as of a moment, in the given order.
    pub fn encode(&self, graph: &Graph, cells: &[CellRef], as_of: AsOf) -> FeatureBatch {
        let Some(blocks) = &self.blocks else {
            return FeatureBatch {
                cells: cells.len(),
                ..FeatureBatch::default()
            };
        };
        let parts: Vec<FeatureBatch> = if cells.len() > ENCODE_CHUNK {
            cells
                .par_chunks(ENCODE_CHUNK)
                .map(|chunk| self.encode_chunk(blocks, graph, chunk, as_of))
                .collect()
        } else {
            vec![self.encode_chunk(blocks, graph, cells, as_of)]
        };
        self.join(parts)
    }

    fn encode_chunk(
        &self,
        blocks: &Blocks,
        graph: &Graph,
        cells: &[CellRef],
        as_of: AsOf,
    ) -> FeatureBatch {
        let mut batch = FeatureBatch {
            cells: cells.len(),
            ..FeatureBatch::default()
        };
        for at in cells {
            let start = batch.root.len();
            encode_root(blocks, graph, *at, as_of, &mut batch.root);
            debug_assert_eq!(
                batch.root.len() - start,
                self.layout.root.len(),
                "every block writes as many numbers as it names"
            );
        }
        for (plan, layout) in blocks.members.iter().zip(&self.layout.members) {
            let rows: Vec<Vec<(Option<EntityId>, Vec<f32>)>> = cells
                .iter()
                .map(|at| encode_members(plan, graph, *at, layout.columns.len(), as_of))
                .collect();
            let slots = rows.iter().map(Vec::len).max().unwrap_or(0);
            let width = layout.columns.len();
            let mut block = MemberBlock {
                slots,
                width,
                ..MemberBlock::default()
            };
            for row in rows {
                let padding = slots - row.len();
                for (entity, values) in row {
                    debug_assert_eq!(values.len(), width);
                    block.values.extend(values);
                    block.mask.push(1.0);
                    block.entities.push(entity);
                }
                block
                    .values
                    .extend(std::iter::repeat_n(0.0, padding * width));
                block.mask.extend(std::iter::repeat_n(0.0, padding));
                block.entities.extend(std::iter::repeat_n(None, padding));
            }
            batch.members.push(block);
        }
        batch
    }

    /// Joins batches, and pads member blocks to the largest.
    fn join(&self, mut parts: Vec<FeatureBatch>) -> FeatureBatch {
        if parts.len() == 1 {
            return parts.remove(0);
        }
        let mut joined = FeatureBatch {
            cells: parts.iter().map(|p| p.cells).sum(),
            ..FeatureBatch::default()
        };
        for part in &parts {
            joined.root.extend_from_slice(&part.root);
        }
        for (m, layout) in self.layout.members.iter().enumerate() {
            let width = layout.columns.len();
            let slots = parts.iter().map(|p| p.members[m].slots).max().unwrap_or(0);
            let mut block = MemberBlock {
                slots,
                width,
                ..MemberBlock::default()
            };
            for part in &parts {
                let from = &part.members[m];
                for cell in 0..part.cells {
                    let rows = cell * from.slots..(cell + 1) * from.slots;
                    let padding = slots - from.slots;
                    block
                        .values
                        .extend_from_slice(&from.values[rows.start * width..rows.end * width]);
                    block
                        .values
                        .extend(std::iter::repeat_n(0.0, padding * width));
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
}

/// Appends the row of a cell.
fn encode_root(blocks: &Blocks, graph: &Graph, at: CellRef, as_of: AsOf, out: &mut Vec<f32>) {
    let cell = graph.cell(at);
    let stub;
    let anchor = match cell.anchor_node().filter(|n| n.table == blocks.root.table) {
        Some(node) => node,
        None => {
            stub = Node::stub(cell.anchor, blocks.root.table, &graph.shared().layout);
            &stub
        }
    };
    blocks.root.write(graph, anchor, as_of, out);
    let CellPlan {
        committees,
        order,
        relations,
        outcomes,
        hubs,
    } = &blocks.cell;
    let activity = Activity::of(graph, cell);
    committees
        .iter()
        .for_each(|block| block.write(graph, cell, &activity, as_of, out));
    if let Some(order) = order {
        order.write(cell.nodes.iter(), as_of, out);
    }
    let nodes: Vec<&Node> = cell.nodes.iter().collect();
    relations.write(graph, at, &nodes, as_of, out);
    if let Some(block) = outcomes {
        block.write(&graph.outcomes(cell), as_of, out);
    }
    hubs.write(graph, cell, as_of, out);
    season(as_of, out);
}

/// The rows of the most recently active members, then the mean of the others. Rows that were merged
/// into another row of their table are left out.
fn encode_members(
    (plan, relations): &(NodePlan, RelationBlock),
    graph: &Graph,
    at: CellRef,
    width: usize,
    as_of: AsOf,
) -> Vec<(Option<EntityId>, Vec<f32>)> {
    let directory = graph.directory();
    let mut nodes: Vec<&Node> = graph
        .cell(at)
        .nodes
        .iter()
        .filter(|n| n.table == plan.table && n.is_known() && !n.is_merged())
        .collect();
    // Ties are ordered by key, not by place in the cell: places depend on the order of rows.
    nodes.sort_unstable_by(|a, b| {
        b.newest_event_ms()
            .cmp(&a.newest_event_ms())
            .then_with(|| directory.key(a.entity).cmp(directory.key(b.entity)))
    });
    let encode = |node: &Node| {
        let mut values = Vec::with_capacity(width);
        plan.write(graph, node, as_of, &mut values);
        relations.write(graph, at, &[node], as_of, &mut values);
        values
    };
    let mut rows: Vec<(Option<EntityId>, Vec<f32>)> = nodes
        .iter()
        .take(MEMBER_CAP)
        .map(|n| (Some(n.entity), encode(n)))
        .collect();
    // A mean, because a sum of hundreds would lie far outside of what a row of one member has.
    let rest = nodes.get(MEMBER_CAP..).unwrap_or_default();
    if !rest.is_empty() {
        let mut mean = vec![0.0_f32; width];
        for node in rest {
            mean.iter_mut()
                .zip(encode(node))
                .for_each(|(sum, x)| *sum += x);
        }
        mean.iter_mut().for_each(|x| *x /= rest.len() as f32);
        rows.push((None, mean));
    }
    rows
}

/// The parts of a catalog that decide numbers without showing in the names of columns: owners,
/// stages, outcomes, retractions, references, hubs and matching fields.
fn meaning(catalog: &Catalog) -> String {
    let mut text = String::new();
    for table in &catalog.tables {
        let named = |field: &FieldId| &table.field_at(*field).name;
        let staged = table.staged.as_ref().map(|s| (named(&s.field), &s.stages));
        let outcome = table
            .outcome
            .as_ref()
            .map(|o| (named(&o.field), &o.won, &o.lost));
        let retraction = table.retraction.as_ref().map(named);
        let owners = table.owners.iter().map(named).collect::<Vec<_>>();
        text += &format!(
            "{} {:?} {owners:?} {staged:?} {outcome:?} {retraction:?}\n",
            table.name, table.role
        );
        let decides = |f: &&Field| {
            f.feature != Feature::None
                || f.reference.is_some()
                || f.hub.is_some()
                || f.match_by.is_some()
        };
        for field in table.fields.iter().filter(decides) {
            let refers = field
                .reference
                .map(|r| (&catalog.table_at(r.table).name, r.meaning));
            let hub = field.hub.map(|h| &catalog.hubs[h.index()].name);
            let is_list = field.data_type == DataType::TextList;
            text += &format!(
                "{} {:?} {refers:?} {hub:?} {is_list} {} {:?}\n",
                field.name, field.feature, field.ordinal, field.match_by
            );
        }
    }
    text
}

fn plan_hash(layout: &Layout, meaning: &str, options: &GraphOptions, spec: &FeatureSpec) -> String {
    let mut hash = Sha256::new();
    hash.update(meaning);
    let columns = layout
        .root
        .iter()
        .chain(layout.members.iter().flat_map(|m| &m.columns));
    for column in columns {
        hash.update(format!(
            "{}|{}|{:?}\n",
            column.name, layout.groups[column.group].code, column.absent
        ));
    }
    // Options that decide when a cell is scored (shards, tolerances, ε of boards) change no number.
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
    hex(&hash.finalize())
}
