//! The worker's state in pieces: all of them, or those that an epoch changed.
//!
//! A piece has a key and bytes in the [format of postcard](https://postcard.jamesmunns.com/wire-format).
//! The first byte of a key is the number of its area: those of the graph lie below
//! [`GRAPH_AREAS`]. One state has one form: pieces are written in the order of their areas, within
//! an area by key. Standings and lists of what is due later are not written, they follow from the
//! memory of entities; nor is anything that [`Deployed`] gives.
//!
//! A whole state in one file is a frame:
//!
//! | bytes | content |
//! |---|---|
//! | 8 | `LPSTATE` and a line feed |
//! | 4 | [`STATE_FORMAT`], little-endian as all numbers of the frame |
//! | 24 | XXH3 of the input schemas, of the graph options, and of the tasks |
//! | … | pieces: length of the key, length of the value (4 bytes each), key, value |
//! | 8 | XXH3 of all bytes before |
//!
//! Decisions: docs/decisions/0030-state-as-bytes.md, docs/decisions/0068-state-in-pieces.md

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use leadpulse_graph::pieces::{Part, read_value};
use leadpulse_graph::{
    CellRef, GRAPH_AREAS, Graph, PieceError, Pieces, Reasons, StoredGraphError, StoredNodes,
    Tracking, Which,
};
use leadpulse_policy::CapState;
use leadpulse_schema::DayWindow;
use leadpulse_schema::units::AsOf;

use super::deployed::{Deployed, StateShape};
use super::half::HalfTick;
use super::rescoring::Rescoring;
use super::state::{Closing, WorkerState};
use super::swap::SwapError;
use super::ticks::TickState;
use crate::epoch::{PartitionLayout, TickProgress};
use crate::ports::{InputPartition, NextOffset};

/// The format of stored state. To be raised when a stored type changes, here or in a crate below:
/// postcard writes fields in their order, without names.
pub const STATE_FORMAT: u32 = 16;

const MAGIC: [u8; 8] = *b"LPSTATE\n";
/// Magic, format and three hashes.
const HEAD_BYTES: usize = 8 + 4 + 24;

/// Area of the moment and the positions.
const FRAME: u8 = GRAPH_AREAS;
/// Area of the partitions that positions refer to.
const LAYOUT: u8 = GRAPH_AREAS + 1;
/// Area of what owners were told today.
const CAPS: u8 = GRAPH_AREAS + 2;
/// Area of the change of model under way.
const RESCORING: u8 = GRAPH_AREAS + 9;
/// Area of the due cells of a half-closed tick.
const TICK_CELLS: u8 = GRAPH_AREAS + 10;
/// Area of the progress of a half-closed tick.
const TICK: u8 = GRAPH_AREAS + 11;

/// Reasons why bytes are not read as a worker's state. The state can always be built anew, by
/// following the script of epoch records.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The bytes do not start as stored state does.
    #[error("not the stored state of a worker; delete it and start from the epoch records")]
    NotState,
    /// Another version of the program wrote the state.
    #[error(
        "the stored state has format {found}, this program reads {STATE_FORMAT}; \
         delete it and start from the epoch records"
    )]
    OtherFormat {
        /// The format in the bytes.
        found: u32,
    },
    /// Bytes are missing, or are not those that were written.
    #[error("the stored state is cut or damaged; delete it and start from the epoch records")]
    Damaged,
    /// The state was made for other schemas, graph options or tasks.
    #[error(transparent)]
    OtherShape(#[from] SwapError),
    /// The bytes are whole, but no state: a program of the same format wrote other fields.
    #[error(
        "the stored state has other fields than format {STATE_FORMAT} ({0}); \
         delete it and start from the epoch records"
    )]
    OtherFields(#[from] PieceError),
    /// The graph in the state is none.
    #[error(transparent)]
    Graph(#[from] StoredGraphError),
    /// The list of erased subjects was made with another secret: no row of theirs would be
    /// recognised.
    #[error(
        "the list of erased subjects in the stored state was made with another secret; \
         configure the secret that it was made with, or delete the state and all rows are applied again"
    )]
    OtherErasureKey,
    /// The state names a task, an entity or a partition that it does not contain.
    #[error(
        "the stored state refers to a {0} that does not exist; \
         delete it and start from the epoch records"
    )]
    OutOfRange(&'static str),
}

/// The moment of a state, and where it goes on. Written with every epoch.
#[derive(Serialize, Deserialize)]
struct StoredFrame {
    deployed: String,
    owner: String,
    number: u64,
    as_of: AsOf,
    newest_event_ms: Option<i64>,
    ticks: TickState,
    positions: Vec<NextOffset>,
    tasks_since: Vec<u64>,
    listed_board: Option<i64>,
    layout_is_new: bool,
    is_restarted: bool,
    closing: Option<Closing>,
}

/// Hashes of small parts as they were last written: an equal part is not written again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct StoredHashes {
    layout: u64,
    caps: u64,
    rescoring: u64,
    tick_cells: u64,
    tick: u64,
}

/// The keyed parts of a state besides the graph, by the number of their area.
macro_rules! parts {
    ($state:expr $(, $mutable:tt)?) => {{
        let said = &$($mutable)? $state.said;
        let erasures = &$($mutable)? $state.erasures;
        let parts: [(u8, &$($mutable)? dyn Part); 8] = [
            (GRAPH_AREAS + 3, &$($mutable)? $state.tracked),
            (GRAPH_AREAS + 4, &$($mutable)? $state.explained),
            (GRAPH_AREAS + 5, &$($mutable)? $state.unexplained),
            (GRAPH_AREAS + 6, &$($mutable)? $state.lists),
            (GRAPH_AREAS + 7, &$($mutable)? said.rulings.words.rows),
            (GRAPH_AREAS + 8, &$($mutable)? said.verdicts.answers.rows),
            (GRAPH_AREAS + 10, &$($mutable)? erasures.subjects),
            (GRAPH_AREAS + 11, &$($mutable)? erasures.key),
        ];
        parts
    }};
}

impl WorkerState {
    /// Notes changes from now on, for [`Self::take_changes`].
    pub fn note_changes(&mut self) {
        self.graph.note_changes();
        for (_, part) in parts!(self, mut) {
            part.note();
        }
    }

    /// The pieces that changed since the last call: what an epoch did to the state.
    pub fn take_changes(&mut self) -> Pieces {
        let mut pieces = Pieces::default();
        self.graph.write_pieces(Which::Changed, &mut pieces);
        self.graph.forget_changes(self.number);
        pieces.put(FRAME, |_| {}, &self.frame());
        let hashes = self.hashes();
        if hashes.rescoring != self.stored.rescoring {
            pieces.put(RESCORING, |_| {}, &self.rescoring);
        }
        if hashes.layout != self.stored.layout {
            pieces.put(LAYOUT, |_| {}, &self.stored_layout());
        }
        if hashes.caps != self.stored.caps {
            pieces.put(CAPS, |_| {}, &self.caps);
        }
        if hashes.tick_cells != self.stored.tick_cells {
            pieces.put(TICK_CELLS, |_| {}, &self.stored_tick_cells());
        }
        if hashes.tick != self.stored.tick {
            pieces.put(TICK, |_| {}, &self.stored_tick());
        }
        self.stored = hashes;
        for (area, part) in parts!(self, mut) {
            part.write(Which::Changed, area, &mut pieces);
            part.forget();
        }
        pieces
    }

    /// All pieces of the state, in portions: the whole state need not be there twice.
    ///
    /// # Errors
    /// Those of `each`.
    pub fn write_portions<E>(
        &self,
        each: &mut dyn FnMut(Pieces) -> Result<(), E>,
    ) -> Result<(), E> {
        self.graph.write_portions(each)?;
        let mut pieces = Pieces::default();
        pieces.put(FRAME, |_| {}, &self.frame());
        pieces.put(LAYOUT, |_| {}, &self.stored_layout());
        pieces.put(CAPS, |_| {}, &self.caps);
        pieces.put(RESCORING, |_| {}, &self.rescoring);
        pieces.put(TICK_CELLS, |_| {}, &self.stored_tick_cells());
        pieces.put(TICK, |_| {}, &self.stored_tick());
        each(pieces)?;
        for (area, part) in parts!(self) {
            let mut pieces = Pieces::default();
            part.write(Which::All, area, &mut pieces);
            each(pieces)?;
        }
        Ok(())
    }

    /// Writes the state. Equal states give equal bytes.
    ///
    /// # Errors
    /// Those of `out`. What was written until then is no state.
    pub fn encode(&self, out: &mut impl Write) -> io::Result<()> {
        let mut out = SummedWriter::new(out);
        out.write_all(&MAGIC)?;
        out.write_all(&STATE_FORMAT.to_le_bytes())?;
        for hash in self.shape.hashes() {
            out.write_all(&hash.to_le_bytes())?;
        }
        let written = self.write_portions(&mut |pieces: Pieces| {
            pieces.iter().try_for_each(|(key, value)| {
                let value = value.unwrap_or_default();
                for length in [key.len(), value.len()] {
                    let length = u32::try_from(length).map_err(io::Error::other)?;
                    out.write_all(&length.to_le_bytes())?;
                }
                out.write_all(key)?;
                out.write_all(value)
            })
        });
        written.and_then(|()| out.finish())
    }

    /// Reads a state that [`Self::encode`] wrote under a deployed version of the same schemas,
    /// graph options and tasks. The bundle may differ: see [`super::Machine::from_parts`].
    ///
    /// # Errors
    /// [`StateError`] for bytes of another format or shape, and for cut or damaged ones.
    pub fn decode(bytes: &[u8], given: &Deployed) -> Result<Self, StateError> {
        let (shape, mut body) = opened(bytes)?;
        let mut reader = StateReader::new(given, shape)?;
        while !body.is_empty() {
            let key = taken_length(&mut body)?;
            let value = taken_length(&mut body)?;
            let (key, rest) = body.split_at_checked(key).ok_or(StateError::Damaged)?;
            let (value, rest) = rest.split_at_checked(value).ok_or(StateError::Damaged)?;
            body = rest;
            reader.read(key, value)?;
        }
        reader.finish(given)
    }

    fn frame(&self) -> StoredFrame {
        StoredFrame {
            deployed: self.deployed.clone(),
            owner: self.owner.clone(),
            number: self.number,
            as_of: self.as_of,
            newest_event_ms: self.newest_event_ms,
            ticks: self.ticks,
            positions: self.positions.clone(),
            tasks_since: self.tasks_since.clone(),
            listed_board: self.listed_board,
            layout_is_new: self.layout_is_new,
            is_restarted: self.is_restarted,
            closing: self.closing,
        }
    }

    fn stored_tick_cells(&self) -> Option<&[(CellRef, Reasons)]> {
        self.half.as_ref().map(|half| &*half.due)
    }

    fn stored_tick(&self) -> Option<&TickProgress> {
        self.half.as_ref().map(|half| &half.progress)
    }

    /// The partitions that positions refer to.
    fn stored_layout(&self) -> (&[InputPartition], &PartitionLayout) {
        (&self.partitions, &self.layout)
    }

    fn hashes(&self) -> StoredHashes {
        StoredHashes {
            layout: hash_of(&self.stored_layout()),
            caps: hash_of(&self.caps),
            rescoring: hash_of(&self.rescoring),
            tick_cells: hash_of(&self.stored_tick_cells()),
            tick: hash_of(&self.stored_tick()),
        }
    }
}

fn taken_length(body: &mut &[u8]) -> Result<usize, StateError> {
    let (length, rest) = body.split_first_chunk().ok_or(StateError::Damaged)?;
    *body = rest;
    Ok(u32::from_le_bytes(*length) as usize)
}

fn hash_of(value: &impl Serialize) -> u64 {
    let mut sum = Summing(Xxh3::new());
    postcard::to_io(value, &mut sum).expect("state consists of values of known lengths");
    sum.0.digest()
}

struct Summing(Xxh3);

impl Write for Summing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A state that is built from its pieces.
pub struct StateReader {
    state: WorkerState,
    has_frame: bool,
    has_layout: bool,
    tick_cells: Option<Vec<(CellRef, Reasons)>>,
    tick: Option<TickProgress>,
}

impl StateReader {
    /// Begins with no piece. `shape` is that of the state that was written.
    ///
    /// # Errors
    /// [`StateError::OtherShape`] if the state is of another shape than the version's.
    pub fn new(given: &Deployed, shape: StateShape) -> Result<Self, StateError> {
        given.shape().succeeds(shape)?;
        let windows: Vec<DayWindow> = given
            .tasks
            .iter()
            .flat_map(|task| task.population.windows.iter().copied())
            .collect();
        let mut graph = Graph::new(
            given.catalog.clone(),
            given.graph_options.clone(),
            windows,
            Tracking::On,
        );
        graph.set_tick_ms(given.tick_ms);
        Ok(Self {
            state: WorkerState::empty(graph, given),
            has_frame: false,
            has_layout: false,
            tick_cells: None,
            tick: None,
        })
    }

    /// Leaves nodes of cells where they are stored, until somebody looks at them: pieces of
    /// [`NODE_AREA`](leadpulse_graph::NODE_AREA) are not to be given.
    pub fn leave_nodes(&mut self, stored: Arc<dyn StoredNodes>) {
        self.state.graph.keep_cold(stored, 0);
    }

    /// Takes a piece. Within an area pieces come in the order of their keys.
    ///
    /// # Errors
    /// [`StateError::OtherFields`] for a piece of no state.
    pub fn read(&mut self, key: &[u8], value: &[u8]) -> Result<(), StateError> {
        let state = &mut self.state;
        let Some((area, rest)) = key.split_first() else {
            return Err(PieceError::Key.into());
        };
        match *area {
            FRAME => {
                let frame: StoredFrame = read_value(FRAME, value)?;
                self.has_frame = true;
                state.deployed = frame.deployed;
                state.owner = frame.owner;
                state.number = frame.number;
                state.as_of = frame.as_of;
                state.newest_event_ms = frame.newest_event_ms;
                state.ticks = frame.ticks;
                state.positions = frame.positions;
                state.listed_board = frame.listed_board;
                state.layout_is_new = frame.layout_is_new;
                state.is_restarted = frame.is_restarted;
                state.tasks_since = frame.tasks_since;
                state.closing = frame.closing;
            }
            LAYOUT => {
                (state.partitions, state.layout) = read_value(LAYOUT, value)?;
                self.has_layout = true;
            }
            RESCORING => state.rescoring = read_value::<Option<Rescoring>>(RESCORING, value)?,
            TICK_CELLS => self.tick_cells = read_value(TICK_CELLS, value)?,
            TICK => self.tick = read_value(TICK, value)?,
            CAPS => state.caps = read_value::<CapState>(CAPS, value)?,
            0..GRAPH_AREAS => state.graph.read_piece(key, value)?,
            other => {
                let mut parts = parts!(state, mut).into_iter();
                let (_, part) = parts.find(|(a, _)| *a == other).ok_or(PieceError::Key)?;
                part.read(other, rest, value)?;
            }
        }
        Ok(())
    }

    /// Builds what follows from the pieces.
    ///
    /// # Errors
    /// [`StateError`] if pieces are missing, or name what is not there.
    pub fn finish(self, given: &Deployed) -> Result<WorkerState, StateError> {
        let mut state = self.state;
        if !self.has_frame || !self.has_layout {
            return Err(StateError::Damaged);
        }
        if state.partitions.len() != state.positions.len() {
            return Err(StateError::OutOfRange("partition"));
        }
        let half = self.tick_cells.zip(self.tick);
        state.half = half.map(|(due, progress)| HalfTick { due, progress });
        state.graph.finish_reading()?;
        let due = state.half.iter().flat_map(|half| &half.due);
        if !due.map(|(at, _)| *at).all(|at| state.graph.has_cell(at)) {
            return Err(StateError::OutOfRange("cell"));
        }
        let entities = state.graph.directory().len();
        let keys = state.tracked.keys().chain(state.explained.keys());
        for (task, entity) in keys {
            if *task >= given.tasks.len() {
                return Err(StateError::OutOfRange("task"));
            }
            if entity.0 as usize >= entities {
                return Err(StateError::OutOfRange("entity"));
            }
        }
        for ((task, _), memory) in state.tracked.iter() {
            state.standings[*task].replace(None, memory.ranked_by());
        }
        if let Some(rescoring) = &mut state.rescoring {
            rescoring.count();
        }
        let tasks = given.tasks.len();
        let of_tasks = state
            .rescoring
            .as_ref()
            .is_none_or(|one| one.tasks() == tasks);
        if state.tasks_since.len() != tasks || !of_tasks {
            return Err(StateError::OutOfRange("task"));
        }
        if !state.erasures.is_of(&given.erasure_key) {
            return Err(StateError::OtherErasureKey);
        }
        state.list_revisits(given);
        if !state.said.rulings.index(given.catalog.tables.len()) {
            return Err(StateError::OutOfRange("table"));
        }
        state.stored = state.hashes();
        Ok(state)
    }
}

/// The shape and the body of stored state, after its frame was checked.
// The format comes before the checksum: a later format may end in another way, and its reader
// should be told the format.
fn opened(bytes: &[u8]) -> Result<(StateShape, &[u8]), StateError> {
    let (magic, rest) = bytes.split_first_chunk().ok_or(StateError::NotState)?;
    if *magic != MAGIC {
        return Err(StateError::NotState);
    }
    let (format, _) = rest.split_first_chunk().ok_or(StateError::Damaged)?;
    let found = u32::from_le_bytes(*format);
    if found != STATE_FORMAT {
        return Err(StateError::OtherFormat { found });
    }
    let (summed, checksum) = bytes.split_last_chunk().ok_or(StateError::Damaged)?;
    if summed.len() < HEAD_BYTES || xxh3_64(summed) != u64::from_le_bytes(*checksum) {
        return Err(StateError::Damaged);
    }
    let (head, body) = summed.split_at(HEAD_BYTES);
    let hash = |at: usize| {
        let bytes = head[at..]
            .first_chunk()
            .expect("the head ends with three hashes");
        u64::from_le_bytes(*bytes)
    };
    Ok((StateShape::of_hashes([12, 20, 28].map(hash)), body))
}

/// A buffered writer that sums up what it writes.
struct SummedWriter<W: Write> {
    out: BufWriter<W>,
    sum: Xxh3,
}

impl<W: Write> SummedWriter<W> {
    fn new(out: W) -> Self {
        Self {
            out: BufWriter::with_capacity(1 << 16, out),
            sum: Xxh3::new(),
        }
    }

    /// Ends with the checksum.
    fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&self.sum.digest().to_le_bytes())?;
        self.out.flush()
    }
}

impl<W: Write> Write for SummedWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.sum.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
