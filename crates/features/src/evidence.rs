//! Why in words: for each explanation group what is there to be seen, from state alone.
//!
//! Composed from the catalog's names; the groups are those of the columns. A line has a rank: the most telling come first, and a group
//! shows few.

mod account;
mod activity;
mod profile;

use rustc_hash::FxHashMap;
use serde::Serialize;

use leadpulse_graph::{Cell, CellRef, EntityId, Graph, Node};
use leadpulse_schema::{Catalog, TableId};

use crate::batch::Group;
use crate::committee::is_present;
use crate::groups;
use crate::plan::FeaturePlan;
use crate::words;

/// Lines of a group.
const LINES: usize = 4;
/// Event ids of a group.
const IDS: usize = 8;

/// What is there to be seen of one explanation group.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Evidence {
    /// In a few words, e.g. `2 contacts: VP + C-Level`. None: there is nothing.
    pub value: Option<String>,
    /// At most four lines, the most telling first.
    pub words: Vec<String>,
    /// Ids of the newest events behind it, newest first, at most eight.
    pub event_ids: Vec<String>,
}

/// How telling a line is: less comes first.
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

/// What was found, by group.
pub(crate) struct Found<'a> {
    by_code: FxHashMap<&'a str, usize>,
    groups: Vec<Findings>,
}

#[derive(Clone, Debug, Default)]
struct Findings {
    lines: Vec<(Rank, String)>,
    value: Option<String>,
    /// Kinds of events seen: newest time, name.
    kinds: Vec<(i64, String)>,
    ids: Vec<(i64, String)>,
}

impl<'a> Found<'a> {
    fn new(groups: &'a [Group]) -> Self {
        Self {
            by_code: groups
                .iter()
                .enumerate()
                .map(|(i, g)| (g.code.as_str(), i))
                .collect(),
            groups: vec![Findings::default(); groups.len()],
        }
    }
    fn of(&mut self, group: &str) -> Option<&mut Findings> {
        self.by_code.get(group).map(|at| &mut self.groups[*at])
    }
    /// A line.
    pub(crate) fn line(&mut self, group: &str, rank: Rank, text: String) {
        if let Some(found) = self.of(group) {
            found.lines.push((rank, text));
        }
    }
    /// What stands for the group, unless something does already.
    pub(crate) fn value(&mut self, group: &str, text: String) {
        if let Some(found) = self.of(group) {
            found.value.get_or_insert(text);
        }
    }
    /// A kind of event, with a line about it.
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
    /// An event behind it.
    pub(crate) fn event(&mut self, group: &str, time_ms: i64, id: &str) {
        if let Some(found) = self.of(group) {
            found.ids.push((time_ms, id.to_owned()));
        }
    }
    fn finish(self) -> Vec<Evidence> {
        self.groups.into_iter().map(Findings::finish).collect()
    }
}

impl Findings {
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
        Evidence {
            value,
            words,
            event_ids: self.ids.into_iter().take(IDS).map(|(_, id)| id).collect(),
        }
    }
}

/// What is looked at.
pub(crate) struct Scene<'a> {
    pub graph: &'a Graph,
    pub catalog: &'a Catalog,
    pub at: CellRef,
    pub cell: &'a Cell,
    pub as_of_ms: i64,
    /// The root's node, if the cell has one.
    pub root: Option<&'a Node>,
    /// The member asked about; none for the root.
    pub member: Option<&'a Node>,
}

impl<'a> Scene<'a> {
    /// Members that are someone.
    pub(crate) fn members(&self, table: TableId) -> impl Iterator<Item = &'a Node> {
        let cell = self.cell;
        cell.nodes
            .iter()
            .filter(move |n| n.table == table && is_present(n))
    }
    /// How long ago.
    pub(crate) fn ago(&self, time_ms: i64) -> String {
        words::ago(time_ms, self.as_of_ms)
    }
    /// What people call an entity of any cell: its label for a root, else its key, unless that is an address.
    pub(crate) fn called(&self, entity: EntityId) -> String {
        let entity = self.graph.survivor(entity);
        let directory = self.graph.directory();
        let node = directory
            .place(entity)
            .map(|place| &self.graph.cell(place.cell).nodes[place.node as usize]);
        let label = node
            .filter(|n| n.table == self.catalog.root().id)
            .and_then(|n| {
                let labels = self.catalog.root().fields.iter().filter(|f| f.label);
                labels
                    .filter_map(|f| words::value(n.value(f.id).text()?))
                    .next()
            });
        label
            .or_else(|| words::value(directory.key(entity)))
            .unwrap_or_else(|| "someone".into())
    }
}

impl FeaturePlan {
    /// For each explanation group of the layout, in order, what is there to be seen of it: about `entity`, the root or a member of the
    /// cell `at`. From state as of now; `as_of_ms` is the moment it is told.
    pub fn evidence(
        &self,
        graph: &Graph,
        at: CellRef,
        entity: EntityId,
        as_of_ms: i64,
    ) -> Vec<Evidence> {
        let cell = graph.cell(at);
        let catalog: &Catalog = graph.catalog();
        let root = cell.anchor_node().filter(|n| n.table == catalog.root().id);
        let member = cell
            .nodes
            .iter()
            .find(|n| n.entity == entity && n.table != catalog.root().id);
        let scene = Scene {
            graph,
            catalog,
            at,
            cell,
            as_of_ms,
            root,
            member,
        };
        let mut found = Found::new(&self.layout().groups);
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
        found.line(groups::SEASON, Rank::Own, words::month(as_of_ms).into());
        found.finish()
    }
}
