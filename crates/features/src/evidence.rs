//! Evidence: sentences that support each explanation group, composed from graph state, never from
//! the model.
//!
//! The sentences use the catalog's names, and the groups are those of the columns. Each line has a
//! rank: the most telling lines come first, and a group shows few.

mod account;
mod activity;
mod changes;
mod profile;
mod related;
mod touched;
mod values;

use rustc_hash::FxHashMap;
use serde::Serialize;

use leadpulse_graph::{Cell, CellRef, EntityId, Graph, Node};
use leadpulse_schema::units::AsOf;
use leadpulse_schema::{Catalog, TableId};

use crate::batch::Group;
use crate::committee::is_present;
use crate::groups;
use crate::plan::FeaturePlan;
use crate::words;

pub use changes::{Direction, EvidenceChange, changes, stopped};
pub use related::{NamedEntity, RelatedEntity};
pub use touched::{PeerEnds, TouchedHub};
pub use values::{EventMeasure, EvidenceValue, Measure, PastValue, PastValues, account_values};

/// Most lines of a group.
// As many as a person reads before a call. Why 4 and 8 is unknown.
const LINES: usize = 4;
/// Most event ids of a group.
const IDS: usize = 8;

/// The evidence of one explanation group.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Evidence {
    /// A few words, e.g. `2 contacts: VP + C-Level`; `None` without evidence.
    pub value: Option<String>,
    /// At most four lines in words, the most telling first.
    pub words: Vec<String>,
    /// Ids of the newest events behind the lines, newest first, at most eight.
    pub event_ids: Vec<String>,
    /// Values that the next explanation is compared with, in order of their labels.
    #[serde(skip)]
    pub values: Vec<EvidenceValue>,
}

/// Order of the lines of a group, the most telling kind first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    Headline,
    Silence,
    Kind,
    Order,
    Habit,
    Own,
    Number,
    Others,
}

/// The findings of all groups.
pub(crate) struct EvidenceDraft<'a> {
    by_code: FxHashMap<&'a str, usize>,
    groups: Vec<GroupFindings>,
}

/// The findings of one group.
#[derive(Clone, Debug, Default)]
struct GroupFindings {
    lines: Vec<(Rank, String)>,
    value: Option<String>,
    /// Newest time (milliseconds) and name of each kind of event seen.
    kinds: Vec<(i64, String)>,
    ids: Vec<(i64, String)>,
    values: Vec<EvidenceValue>,
}

impl<'a> EvidenceDraft<'a> {
    fn new(groups: &'a [Group]) -> Self {
        Self {
            by_code: groups
                .iter()
                .enumerate()
                .map(|(i, g)| (g.code.as_str(), i))
                .collect(),
            groups: vec![GroupFindings::default(); groups.len()],
        }
    }

    fn of(&mut self, group: &str) -> Option<&mut GroupFindings> {
        self.by_code.get(group).map(|at| &mut self.groups[*at])
    }

    /// Adds a line to a group. A group without columns is ignored.
    pub(crate) fn line(&mut self, group: &str, rank: Rank, text: String) {
        if let Some(found) = self.of(group) {
            found.lines.push((rank, text));
        }
    }

    /// Sets the few words of a group, unless they are set already.
    pub(crate) fn value(&mut self, group: &str, text: String) {
        if let Some(found) = self.of(group) {
            found.value.get_or_insert(text);
        }
    }

    /// Adds a line about a kind of event.
    pub(crate) fn kind(
        &mut self,
        group: &str,
        rank: Rank,
        newest_ms: i64,
        name: String,
        text: String,
    ) {
        if let Some(found) = self.of(group) {
            if rank == Rank::Kind {
                found.kinds.push((newest_ms, name));
            }
            found.lines.push((rank, text));
        }
    }

    /// Adds a value. The first of a label stands.
    pub(crate) fn measure(&mut self, group: &str, value: EvidenceValue) {
        if let Some(found) = self.of(group)
            && found.values.iter().all(|one| one.label != value.label)
        {
            found.values.push(value);
        }
    }

    /// Adds an event to those behind a group.
    pub(crate) fn event(&mut self, group: &str, time_ms: i64, id: &str) {
        if let Some(found) = self.of(group) {
            found.ids.push((time_ms, id.to_owned()));
        }
    }

    fn finish(self) -> Vec<Evidence> {
        self.groups.into_iter().map(GroupFindings::finish).collect()
    }
}

impl GroupFindings {
    fn finish(mut self) -> Evidence {
        self.lines.sort_by_key(|(rank, _)| *rank);
        let mut words: Vec<String> = Vec::new();
        let first = self.lines.first().map(|(rank, _)| *rank);
        let mut telling = Vec::new();
        for (rank, text) in self.lines {
            if words.len() < LINES && !words.contains(&text) {
                let room = if rank == Rank::Others { 1 } else { 2 };
                if Some(rank) == first && telling.len() < room {
                    telling.push(text.clone());
                }
                words.push(text);
            }
        }
        self.kinds
            .sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        let kinds: Vec<String> = self
            .kinds
            .into_iter()
            .take(3)
            .map(|(_, name)| name)
            .collect();
        let value = self
            .value
            .or((!kinds.is_empty()).then(|| kinds.join(" + ")))
            .or((!telling.is_empty()).then(|| telling.join(", ")));
        self.ids
            .sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        self.ids.dedup();
        self.values.sort_by(|a, b| a.label.cmp(&b.label));
        Evidence {
            values: self.values,
            value,
            words,
            event_ids: self.ids.into_iter().take(IDS).map(|(_, id)| id).collect(),
        }
    }
}

/// The subject of an explanation: a cell, its root, and the member to explain.
pub(crate) struct Scene<'a> {
    pub graph: &'a Graph,
    pub catalog: &'a Catalog,
    pub at: CellRef,
    pub cell: &'a Cell,
    pub as_of: AsOf,
    /// The root's node, if the cell has one.
    pub root: Option<&'a Node>,
    /// The member to explain; `None` for the root.
    pub member: Option<&'a Node>,
}

impl<'a> Scene<'a> {
    /// A cell at a moment, with its root to explain.
    pub(crate) fn of_cell(graph: &'a Graph, at: CellRef, as_of: AsOf) -> Self {
        let cell = graph.cell(at);
        Self {
            graph,
            catalog: graph.catalog(),
            at,
            cell,
            as_of,
            root: graph.root_node(cell),
            member: None,
        }
    }

    /// Members of a table that count: see [`is_present`].
    pub(crate) fn members(&self, table: TableId) -> impl Iterator<Item = &'a Node> {
        let cell = self.cell;
        cell.nodes
            .iter()
            .filter(move |n| n.table == table && is_present(n))
    }

    /// The distance of a moment from `as_of`, in words.
    pub(crate) fn ago(&self, time_ms: i64) -> String {
        words::ago(time_ms, self.as_of)
    }

    /// The name of an entity of any cell: the label where its table has one, else the key, unless
    /// the key is an address.
    pub(crate) fn called(&self, entity: EntityId) -> String {
        let entity = self.graph.survivor(entity);
        let directory = self.graph.directory();
        let node = directory
            .place(entity)
            .map(|place| &self.graph.cell(place.cell).nodes[place.node as usize]);
        let label = node.and_then(|node| {
            let fields = self.catalog.table_at(node.table).fields.iter();
            let mut labels = fields.filter(|field| field.label);
            labels.find_map(|field| words::value(node.value(field.id).text()?))
        });
        label
            .or_else(|| words::value(directory.key(entity)))
            .unwrap_or_else(|| "someone".into())
    }
}

impl FeaturePlan {
    /// The evidence for each explanation group of the layout, in order. `entity` is the root or a
    /// member of the cell `at`. The state is the newest one; ages in words are relative to
    /// `as_of`.
    pub fn evidence(
        &self,
        graph: &Graph,
        at: CellRef,
        entity: EntityId,
        as_of: AsOf,
    ) -> Vec<Evidence> {
        let cell = graph.cell(at);
        let catalog: &Catalog = graph.catalog();
        let member = cell
            .nodes
            .iter()
            .find(|n| n.entity == entity && n.table != catalog.root().id);
        let scene = Scene {
            member,
            ..Scene::of_cell(graph, at, as_of)
        };
        let mut found = EvidenceDraft::new(&self.layout().groups);
        account::committee(&scene, &mut found);
        account::open(&scene, &mut found);
        account::outcomes(&scene, &mut found);
        account::hubs(&scene, &mut found);
        account::relations(&scene, &mut found);
        let everyone: Vec<&Node> = cell.nodes.iter().collect();
        if let Some(member) = member {
            self.order_of(Some(member.table))
                .into_iter()
                .for_each(|block| activity::order(&scene, block, &[member], "", &mut found));
        }
        let together = if member.is_some() { "together: " } else { "" };
        self.order_of(None)
            .into_iter()
            .for_each(|block| activity::order(&scene, block, &everyone, together, &mut found));
        activity::events(&scene, &mut found);
        profile::fields(&scene, &mut found);
        found.line(groups::SEASON, Rank::Own, words::month(as_of.ms()).into());
        found.finish()
    }
}
