//! From a schema to columns, and from a cell at a moment to numbers.
//!
//! One plan serves the live engine, training and backtest. The hash of the plan covers everything
//! that decides the meaning of a number.

use std::collections::BTreeSet;
use std::sync::Arc;

use rayon::prelude::*;
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use leadpulse_graph::{CellRef, EntityId, Graph, GraphOptions, Node, StateLayout};
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{Catalog, DataType, Feature, Field, FieldId, Table, TableId, hex};

use crate::batch::{
    Absent, Column, FeatureBatch, Group, GroupKind, Layout, MemberBlock, MemberLayout,
};
use crate::columns::{CLOCK, SEASON, UnplacedColumn, clock, season};
use crate::committee::{Activity, CommitteeBlock};
use crate::events::{EventBlock, EventRoom};
use crate::fields::FieldBlock;
use crate::groups;
use crate::hubs::HubBlock;
use crate::members::{MEMBER_CAP, MemberPlan};
use crate::order::OrderBlock;
use crate::outcomes::OutcomeBlock;
use crate::relations::RelationBlock;
use crate::shares::ShareBlock;
use crate::sources::SourceBlock;
use crate::spec::{FeatureSpec, PlanSource};

/// The version of the meaning of columns, where neither names nor options tell it.
const ENCODING: u32 = 2;
/// Number of cells encoded by one task of the worker pool.
// Why 64 is unknown.
const ENCODE_CHUNK: usize = 64;

/// The columns of one entity table, of one entity or of some as one: fields, events, their order.
#[derive(Clone, Debug)]
pub(crate) struct NodePlan {
    pub table: TableId,
    fields: Vec<FieldBlock>,
    events: Vec<EventBlock>,
    order: Option<OrderBlock>,
}

/// The columns of a root row: fields of the root, and all that the cell as a whole has.
#[derive(Clone, Debug)]
struct CellPlan {
    root: TableId,
    fields: Vec<FieldBlock>,
    events: Vec<EventBlock>,
    committees: Vec<CommitteeBlock>,
    shares: Option<ShareBlock>,
    order: Option<OrderBlock>,
    relations: RelationBlock,
    outcomes: Option<OutcomeBlock>,
    hubs: HubBlock,
    sources: SourceBlock,
    has_clock: bool,
}

/// All columns of a catalog, as blocks that write them.
#[derive(Clone, Debug)]
struct Blocks {
    cell: CellPlan,
    members: Vec<MemberPlan>,
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

/// The event blocks over entities of some tables. Appends the columns.
fn event_blocks(
    source: &PlanSource<'_>,
    tables: &[TableId],
    columns: &mut Vec<UnplacedColumn>,
) -> Vec<EventBlock> {
    let layouts = source.state.events.iter();
    layouts
        .filter_map(|layout| EventBlock::new(source, layout, tables, columns))
        .collect()
}

impl NodePlan {
    fn new(source: &PlanSource<'_>, table: TableId, columns: &mut Vec<UnplacedColumn>) -> Self {
        // The order of the fields is the order of the columns.
        Self {
            table,
            fields: FieldBlock::of_table(source, table, columns),
            events: event_blocks(source, &[table], columns),
            order: OrderBlock::of_table(source, table, columns),
        }
    }

    /// Appends the numbers of one node, or of some as one: the mean of their fields, and their
    /// events together.
    pub(crate) fn write(
        &self,
        graph: &Graph,
        nodes: &[&Node],
        as_of: AsOf,
        room: &mut EventRoom,
        out: &mut Vec<f32>,
    ) {
        let start = out.len();
        for (nth, node) in nodes.iter().enumerate() {
            let own = out.len();
            self.fields
                .iter()
                .for_each(|block| block.write(node, as_of, out));
            if nth > 0 {
                let (sums, row) = out.split_at_mut(own);
                let sums = sums[start..].iter_mut();
                sums.zip(row).for_each(|(sum, x)| *sum += *x);
                out.truncate(own);
            }
        }
        if nodes.len() > 1 {
            let means = out[start..].iter_mut();
            means.for_each(|x| *x /= nodes.len() as f32);
        }
        let bank = &graph.shared().bank;
        self.events
            .iter()
            .for_each(|block| block.write(nodes, bank, as_of, room, out));
        if let Some(order) = &self.order {
            order.write(nodes.iter().copied(), as_of, out);
        }
    }
}

impl CellPlan {
    fn new(source: &PlanSource<'_>, columns: &mut Vec<UnplacedColumn>) -> Self {
        let PlanSource {
            catalog, options, ..
        } = source;
        let root = catalog.root().id;
        // The order of the fields is the order of the columns.
        let plan = Self {
            root,
            fields: FieldBlock::of_table(source, root, columns),
            events: event_blocks(source, &source.entities(), columns),
            committees: catalog
                .members()
                .map(|table| CommitteeBlock::new(catalog, table, &options.active_windows, columns))
                .collect(),
            shares: ShareBlock::new(catalog, &options.half_lives_days, columns),
            order: OrderBlock::of_cell(source, columns),
            relations: RelationBlock::of_cell(catalog, columns),
            outcomes: OutcomeBlock::new(catalog, columns),
            hubs: HubBlock::new(source, columns),
            sources: SourceBlock::new(source, columns),
            has_clock: source.spec.has_clock,
        };
        // Columns of the root row alone: the moment is the same for every member.
        let of_moment = if plan.has_clock { &CLOCK[..] } else { &[] };
        columns.extend(SEASON.iter().chain(of_moment).map(|name| UnplacedColumn {
            name: (*name).into(),
            group: groups::SEASON.into(),
            kind: GroupKind::Timing,
            absent: Absent::Mean,
        }));
        plan
    }

    /// Appends the row of a cell.
    fn write(
        &self,
        graph: &Graph,
        at: CellRef,
        as_of: AsOf,
        room: &mut EventRoom,
        out: &mut Vec<f32>,
    ) {
        let cell = graph.cell(at);
        let stub;
        let anchor = match cell.anchor_node().filter(|n| n.table == self.root) {
            Some(node) => node,
            None => {
                stub = Node::stub(cell.anchor, self.root, &graph.shared().layout);
                &stub
            }
        };
        self.fields
            .iter()
            .for_each(|block| block.write(anchor, as_of, out));
        // Sums go by key: places in the cell depend on the order of rows, and with them the last
        // bits of a sum.
        let mut nodes: SmallVec<[&Node; 16]> = cell.nodes.iter().collect();
        nodes.sort_unstable_by(|a, b| graph.directory().order(a.entity, b.entity));
        let bank = &graph.shared().bank;
        self.events
            .iter()
            .for_each(|block| block.write(&nodes, bank, as_of, room, out));
        let activity = Activity::of(graph, cell);
        self.committees
            .iter()
            .for_each(|block| block.write(graph, cell, &activity, as_of, out));
        if let Some(shares) = &self.shares {
            shares.write(graph, cell, &nodes, &activity, as_of, out);
        }
        if let Some(order) = &self.order {
            order.write(nodes.iter().copied(), as_of, out);
        }
        self.relations.write(graph, at, &nodes, as_of, out);
        if let Some(block) = self.outcomes {
            block.write(&graph.outcomes(cell), as_of, out);
        }
        self.hubs.write(graph, cell, as_of, out);
        self.sources.write(graph, as_of, out);
        season(as_of, out);
        if self.has_clock {
            clock(as_of, out);
        }
    }
}

/// The kind that most columns of a group read, the first of equal ones. A group without columns is
/// of member rows as such, which are attributes.
fn kind_of<'c>(code: &str, columns: impl Iterator<Item = &'c UnplacedColumn>) -> GroupKind {
    let mut counts = GroupKind::ALL.map(|kind| (kind, 0_usize));
    for column in columns.filter(|column| column.group == code) {
        counts[column.kind as usize].1 += 1;
    }
    let most = counts.into_iter().rev().max_by_key(|(_, count)| *count);
    most.map_or(GroupKind::Fit, |(kind, _)| kind)
}

/// Numbers the explanation groups of all columns and rows, in order of their codes.
fn lay_out(
    catalog: &Catalog,
    root: Vec<UnplacedColumn>,
    members: Vec<(&Table, Vec<UnplacedColumn>)>,
) -> Layout {
    let of_table = |table: &Table| groups::of_members(catalog, table.id);
    let codes: BTreeSet<String> = root
        .iter()
        .chain(members.iter().flat_map(|(_, columns)| columns))
        .map(|c| c.group.clone())
        .chain(members.iter().map(|(table, _)| of_table(table)))
        .collect();
    let groups: Vec<Group> = codes
        .iter()
        .map(|code| Group {
            code: code.clone(),
            label: groups::label(code),
            kind: kind_of(
                code,
                root.iter().chain(members.iter().flat_map(|(_, own)| own)),
            ),
        })
        .collect();
    let index = |group: &str| {
        let mut codes = codes.iter();
        let at = codes.position(|code| code == group);
        at.expect("codes were collected from these columns and tables")
    };
    let place = |column: UnplacedColumn| Column {
        group: index(&column.group),
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
                existence: index(&of_table(table)),
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
        let source = PlanSource {
            catalog: &catalog,
            state: &state,
            options,
            spec: &spec,
        };
        let mut columns = Vec::new();
        let cell = CellPlan::new(&source, &mut columns);
        let mut members = Vec::new();
        let mut member_columns = Vec::new();
        for table in catalog.members() {
            let mut own = Vec::new();
            members.push(MemberPlan {
                node: NodePlan::new(&source, table.id, &mut own),
                relations: RelationBlock::of_member(&catalog, table.id, &mut own),
            });
            member_columns.push((table, own));
        }

        let layout = lay_out(&catalog, columns, member_columns);
        let hash = plan_hash(&layout, &meaning(&catalog), options, &spec);
        Self {
            layout,
            spec,
            hash,
            blocks: Some(Blocks { cell, members }),
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
            Some(table) => {
                let mut members = blocks.members.iter();
                let of_table = members.find(|plan| plan.table() == table)?;
                of_table.node.order.as_ref()
            }
            None => blocks.cell.order.as_ref(),
        }
    }

    /// The row among a task's logits, and the slot, of an entity in a batch. `table` is the task's
    /// table, and the batch was encoded with that table asked about. `None` if the cell has no such
    /// member.
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
        let row = |slot: usize| cell * block.slots + slot;
        let slot = (0..block.slots).find(|slot| block.entities[row(*slot)] == Some(entity))?;
        Some((row(slot), slot))
    }

    /// Encodes cells as of a moment, in the given order. Each member of the tables in `asked` has a
    /// row of its own; of other tables those members that are attended to.
    pub fn encode(
        &self,
        graph: &Graph,
        cells: &[CellRef],
        as_of: AsOf,
        asked: &[TableId],
    ) -> FeatureBatch {
        let Some(blocks) = &self.blocks else {
            return FeatureBatch {
                cells: cells.len(),
                ..FeatureBatch::default()
            };
        };
        let parts: Vec<FeatureBatch> = if cells.len() > ENCODE_CHUNK {
            cells
                .par_chunks(ENCODE_CHUNK)
                .map(|chunk| self.encode_chunk(blocks, graph, chunk, as_of, asked))
                .collect()
        } else {
            vec![self.encode_chunk(blocks, graph, cells, as_of, asked)]
        };
        self.join(parts)
    }

    fn encode_chunk(
        &self,
        blocks: &Blocks,
        graph: &Graph,
        cells: &[CellRef],
        as_of: AsOf,
        asked: &[TableId],
    ) -> FeatureBatch {
        let mut room = EventRoom::default();
        let mut root = Vec::with_capacity(cells.len() * self.layout.root.len());
        for at in cells {
            let start = root.len();
            blocks.cell.write(graph, *at, as_of, &mut room, &mut root);
            debug_assert_eq!(
                root.len() - start,
                self.layout.root.len(),
                "every block writes as many numbers as it names"
            );
        }
        let plans = blocks.members.iter().zip(&self.layout.members);
        let members = plans.map(|(plan, layout)| {
            let is_asked = asked.contains(&plan.table());
            plan.encode(layout, graph, cells, as_of, is_asked, &mut room)
        });
        FeatureBatch {
            cells: cells.len(),
            members: members.collect(),
            root,
        }
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
                    block
                        .values
                        .extend_from_slice(&from.values[rows.start * width..rows.end * width]);
                    block.mask.extend_from_slice(&from.mask[rows.clone()]);
                    block.entities.extend_from_slice(&from.entities[rows]);
                    block.pad(slots - from.slots);
                }
                block.attended.extend_from_slice(&from.attended);
                block.folded.extend_from_slice(&from.folded);
            }
            joined.members.push(block);
        }
        joined
    }
}

/// The parts of a catalog that decide numbers without showing in the names of columns: owners,
/// stages, outcomes, retractions, references, hubs and matching fields.
fn meaning(catalog: &Catalog) -> String {
    let mut text = String::new();
    for table in catalog.tables.iter().filter(|t| t.role.is_learned()) {
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
        "{ENCODING}|{:?}|{:?}|{}|{}|{}|{}|{}|{}|{}",
        options.half_lives_days,
        options.active_windows,
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
