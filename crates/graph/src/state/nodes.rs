//! The nodes of a cell: in memory, or for a cold cell only where the state is stored.
//!
//! Nodes that are not in memory are read as soon as somebody looks at them. Nobody can see which
//! ones are, so memory decides how long an epoch takes and nothing else. What has to be known of
//! cells that nobody looks at (number of nodes, hubs, deadline, margin) is in memory for all.
//!
//! Decision: docs/decisions/0073-cold-cells-stay-in-the-store.md

use std::borrow::Cow;
use std::fmt::Debug;
use std::ops::Deref;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::ids::CellRef;
use crate::pieces::{PieceError, read_value};
use crate::state::node::Node;
use crate::state::shard::NODES;

/// Callback for a stored piece: its key and its value.
pub type EachNode<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), PieceError> + 'a;

/// The place where pieces of nodes are stored.
pub trait StoredNodes: Debug + Send + Sync {
    /// Calls `each` with every stored piece whose key begins with `prefix`, ascending.
    ///
    /// # Errors
    /// In words, what prevented it, faults of `each` included.
    fn read(&self, prefix: &[u8], each: &mut EachNode<'_>) -> Result<(), String>;
}

/// The stored nodes of a cell cannot be read. Readers of cells cannot go on without: this is the
/// payload with which they unwind, for [`std::panic::catch_unwind`] around whole steps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stored entities cannot be read back: {0}")]
pub struct UnreadableNodes(pub String);

/// Sizes of what is in memory and of what is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Residence {
    /// Cells with nodes in memory.
    pub cells: usize,
    /// Bytes of their nodes, roughly.
    pub bytes: usize,
    /// Cells that were read back since the start.
    pub reads: u64,
    /// Cells that were put out since the start.
    pub put_out: u64,
}

/// Shared by all cells of a graph that may be cold.
#[derive(Debug)]
pub(crate) struct NodeSource {
    stored: Arc<dyn StoredNodes>,
    /// Cells that came into memory and are not listed yet.
    arrived: Mutex<Vec<CellRef>>,
    bytes: AtomicUsize,
    reads: AtomicU64,
}

impl NodeSource {
    pub fn new(stored: Arc<dyn StoredNodes>) -> Self {
        Self {
            stored,
            arrived: Mutex::default(),
            bytes: AtomicUsize::new(0),
            reads: AtomicU64::new(0),
        }
    }

    fn note_arrival(&self, at: CellRef) {
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        arrived.push(at);
    }

    /// The number of cells that came into memory and are not listed yet.
    pub fn arrivals(&self) -> usize {
        let arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        arrived.len()
    }

    pub fn take_arrivals(&self) -> Vec<CellRef> {
        let mut arrived = self.arrived.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *arrived)
    }

    /// Bytes of nodes in memory, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    /// Cells that were read back.
    pub fn reads(&self) -> u64 {
        self.reads.load(Relaxed)
    }

    fn read(&self, at: CellRef, expected: u32) -> Result<Vec<Node>, String> {
        let mut prefix = vec![NODES];
        prefix.extend(at.shard.to_be_bytes());
        prefix.extend(at.index.to_be_bytes());
        let mut nodes: Vec<Node> = Vec::with_capacity(expected as usize);
        self.stored.read(&prefix, &mut |key, value| {
            let place = key.get(prefix.len()..).ok_or(PieceError::Key)?;
            if place != (nodes.len() as u32).to_be_bytes() {
                return Err(PieceError::Key);
            }
            nodes.push(read_value(NODES, value)?);
            Ok(())
        })?;
        match nodes.len() == expected as usize {
            true => Ok(nodes),
            false => Err(format!(
                "{} of the {expected} nodes of cell {}/{} are there",
                nodes.len(),
                at.shard,
                at.index
            )),
        }
    }
}

/// The place of a cell that may be cold.
#[derive(Clone, Debug)]
struct Origin {
    source: Arc<NodeSource>,
    at: CellRef,
}

/// The nodes of a cell. They change through their shard only, which notes what is to be stored.
#[derive(Debug)]
pub struct Nodes {
    /// Empty for a cold cell.
    loaded: OnceLock<Vec<Node>>,
    len: u32,
    /// Whether somebody looked since the last look at the cell for being cold.
    is_used: AtomicBool,
    /// Whether the cell is among those that may be put out.
    is_listed: AtomicBool,
    /// Bytes in memory as of the last measurement, roughly.
    bytes: AtomicUsize,
    /// The last epoch that changed a node.
    changed: u64,
    /// `None` where nothing is ever cold.
    origin: Option<Origin>,
}

impl Default for Nodes {
    fn default() -> Self {
        Self {
            loaded: OnceLock::from(Vec::new()),
            len: 0,
            is_used: AtomicBool::new(true),
            is_listed: AtomicBool::new(false),
            bytes: AtomicUsize::new(0),
            changed: 0,
            origin: None,
        }
    }
}

/// A copy is in memory, and nothing of it is ever cold.
impl Clone for Nodes {
    fn clone(&self) -> Self {
        Self {
            loaded: OnceLock::from(self.get().clone()),
            len: self.len,
            ..Self::default()
        }
    }
}

impl Nodes {
    /// The number of nodes. Reads nothing.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is no node. Reads nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the nodes are in memory.
    pub fn is_resident(&self) -> bool {
        self.loaded.get().is_some()
    }

    /// The nodes, if they are in memory. Such a look does not keep them there.
    pub(crate) fn in_memory(&self) -> Option<&[Node]> {
        self.loaded.get().map(Vec::as_slice)
    }

    /// The nodes as they are, without bringing cold ones back: those are read and dropped. For looks
    /// at very many cells.
    pub(crate) fn scan(&self) -> Cow<'_, [Node]> {
        match (self.in_memory(), &self.origin) {
            (Some(nodes), _) => Cow::Borrowed(nodes),
            (None, origin) => Cow::Owned(read(origin.as_ref(), self.len)),
        }
    }

    /// Nodes that are stored and not in memory.
    pub(crate) fn stored(len: u32, at: CellRef, source: &Arc<NodeSource>) -> Self {
        let mut nodes = Self::default();
        nodes.become_of(at, source);
        if len > 0 {
            nodes.loaded = OnceLock::new();
            nodes.len = len;
        }
        nodes
    }

    /// Allows the nodes to be cold, from when they are stored.
    pub(crate) fn become_of(&mut self, at: CellRef, source: &Arc<NodeSource>) {
        let source = source.clone();
        self.origin = Some(Origin { source, at });
    }

    /// Notes that the nodes are in memory and may be put out one day.
    pub(crate) fn list(&self) {
        if let Some(origin) = &self.origin
            && !self.is_listed.swap(true, Relaxed)
        {
            origin.source.note_arrival(origin.at);
        }
    }

    /// The nodes about to change.
    pub(crate) fn change(&mut self) -> &mut Vec<Node> {
        self.get();
        self.loaded.get_mut().expect("nodes that were just read")
    }

    /// Appends a node. Returns its place.
    pub(crate) fn push(&mut self, node: Node) -> u32 {
        let place = self.len;
        self.change().push(node);
        self.len += 1;
        place
    }

    /// Takes a node out; the last one gets its place.
    pub(crate) fn swap_remove(&mut self, place: u32) -> Node {
        let taken = self.change().swap_remove(place as usize);
        self.len -= 1;
        taken
    }

    /// Notes that an epoch changed nodes.
    pub(crate) fn note_epoch(&mut self, epoch: u64) {
        self.changed = self.changed.max(epoch);
        self.measure();
    }

    /// Measures the nodes, if they are in memory and may be cold.
    pub(crate) fn measure(&self) {
        if let Some(Origin { source, .. }) = &self.origin {
            self.note_bytes(source, self.in_memory().map_or(0, nodes_bytes));
        }
    }

    fn note_bytes(&self, source: &NodeSource, now: usize) {
        let before = self.bytes.swap(now, Relaxed);
        // Wraps, as the difference may be negative.
        source.bytes.fetch_add(now.wrapping_sub(before), Relaxed);
    }

    /// Whether nobody looked at the nodes since the last call, and no epoch after `stored` changed
    /// them.
    pub(crate) fn may_leave(&mut self, stored: u64) -> bool {
        !std::mem::take(self.is_used.get_mut()) && self.changed <= stored && self.origin.is_some()
    }

    /// Forgets that the cell is listed.
    pub(crate) fn unlist(&mut self) {
        *self.is_listed.get_mut() = false;
    }

    /// Puts the nodes out: they are stored.
    pub(crate) fn put_out(&mut self) {
        self.loaded.take();
        self.unlist();
        self.measure();
    }

    fn get(&self) -> &Vec<Node> {
        if !self.is_used.load(Relaxed) {
            self.is_used.store(true, Relaxed);
        }
        self.loaded.get_or_init(|| self.read())
    }

    fn read(&self) -> Vec<Node> {
        let nodes = read(self.origin.as_ref(), self.len);
        if let Some(Origin { source, .. }) = &self.origin {
            self.note_bytes(source, nodes_bytes(&nodes));
            source.reads.fetch_add(1, Relaxed);
            self.list();
        }
        nodes
    }
}

/// Reads the nodes of a cell from where they are stored.
fn read(origin: Option<&Origin>, len: u32) -> Vec<Node> {
    let Some(Origin { source, at }) = origin else {
        unreachable!("nodes without a store are in memory");
    };
    match source.read(*at, len) {
        Ok(nodes) => nodes,
        Err(fault) => resume_unwind(Box::new(UnreadableNodes(fault))),
    }
}

/// The outcome for a cell that was to be put out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutOut {
    /// Its nodes are not in memory any more.
    Done,
    /// It is in use, or not stored yet.
    Stays,
    /// Nothing of it was in memory.
    Gone,
}

/// Bytes of nodes, roughly.
pub(crate) fn nodes_bytes(nodes: &[Node]) -> usize {
    let heap: usize = nodes.iter().map(Node::heap_bytes).sum();
    size_of_val(nodes) + heap
}

impl Deref for Nodes {
    type Target = [Node];
    fn deref(&self) -> &[Node] {
        self.get()
    }
}

impl<'a> IntoIterator for &'a Nodes {
    type Item = &'a Node;
    type IntoIter = std::slice::Iter<'a, Node>;
    fn into_iter(self) -> Self::IntoIter {
        self.get().iter()
    }
}
