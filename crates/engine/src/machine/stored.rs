//! The worker's state as bytes: written between two epochs, read by the program that goes on.
//!
//! | bytes | content |
//! |---|---|
//! | 8 | `LPSTATE` and a line feed |
//! | 4 | [`STATE_FORMAT`], little-endian as all numbers of the frame |
//! | 24 | XXH3 of the input schemas, of the graph options, and of the tasks |
//! | … | the state, in the [format of postcard](https://postcard.jamesmunns.com/wire-format) |
//! | 8 | XXH3 of all bytes before |
//!
//! One state has one form: maps are written in the order of their keys. Standings are not written,
//! they follow from the memory of entities; nor is anything that [`Deployed`] gives.
//!
//! Decision: docs/decisions/0030-state-as-bytes.md

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use leadpulse_graph::{EntityId, Graph, StoredGraph, StoredGraphError, Tracking};
use leadpulse_policy::CapState;
use leadpulse_records::WorkList;
use leadpulse_schema::DayWindow;
use leadpulse_schema::units::AsOf;

use super::deployed::{Deployed, StateShape};
use super::rescoring::Rescoring;
use super::said::Said;
use super::state::{Tracked, WorkerState};
use super::swap::SwapError;
use super::ticks::TickState;
use super::worklists::ListKey;
use crate::epoch::PartitionLayout;
use crate::ports::{InputPartition, NextOffset};
use crate::standings::Standings;

/// The format of stored state. To be raised when a stored type changes, here or in a crate below:
/// postcard writes fields in their order, without names.
pub const STATE_FORMAT: u32 = 11;

const MAGIC: [u8; 8] = *b"LPSTATE\n";
/// Magic, format and three hashes.
const HEAD_BYTES: usize = 8 + 4 + 24;

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
    OtherFields(#[from] postcard::Error),
    /// The graph in the state is none.
    #[error(transparent)]
    Graph(#[from] StoredGraphError),
    /// The state names a task, an entity or a partition that it does not contain.
    #[error(
        "the stored state refers to a {0} that does not exist; \
         delete it and start from the epoch records"
    )]
    OutOfRange(&'static str),
}

/// The fields of a state in the order in which they are written.
#[derive(Serialize, Deserialize)]
struct StoredState<'a> {
    deployed: Cow<'a, str>,
    owner: Cow<'a, str>,
    number: u64,
    as_of: AsOf,
    newest_event_ms: Option<i64>,
    ticks: TickState,
    partitions: Cow<'a, [InputPartition]>,
    layout: Cow<'a, PartitionLayout>,
    layout_is_new: bool,
    positions: Cow<'a, [NextOffset]>,
    /// (task, entity, memory), ascending by task and entity.
    tracked: Vec<(usize, EntityId, Cow<'a, Tracked>)>,
    rescoring: Cow<'a, Option<Rescoring>>,
    tasks_since: Cow<'a, [u64]>,
    revisits: Cow<'a, BTreeSet<(i64, usize, EntityId)>>,
    unexplained: Cow<'a, BTreeSet<(usize, EntityId)>>,
    listed_board: Option<i64>,
    caps: Cow<'a, CapState>,
    lists: Cow<'a, BTreeMap<ListKey, Arc<WorkList>>>,
    said: Cow<'a, Said>,
    graph: StoredGraph<'a>,
}

impl WorkerState {
    /// Writes the state. Equal states give equal bytes.
    ///
    /// # Errors
    /// Those of `out`. What was written until then is no state.
    pub fn encode(&self, out: &mut impl Write) -> io::Result<()> {
        let mut out = SummedWriter::new(out);
        out.write_all(&MAGIC)?;
        out.write_all(&STATE_FORMAT.to_le_bytes())?;
        let StateShape {
            schemas,
            graph_options,
            tasks,
        } = self.shape;
        for hash in [schemas, graph_options, tasks] {
            out.write_all(&hash.to_le_bytes())?;
        }
        if let Err(fault) = postcard::to_io(&self.stored(), &mut out) {
            // Postcard reports that its writer failed, the writer knows why.
            return Err(out.failure.unwrap_or_else(|| io::Error::other(fault)));
        }
        out.finish()
    }

    /// Reads a state that [`Self::encode`] wrote under a deployed version of the same schemas,
    /// graph options and tasks. The bundle may differ: see [`super::Machine::from_parts`].
    ///
    /// # Errors
    /// [`StateError`] for bytes of another format or shape, and for cut or damaged ones.
    pub fn decode(bytes: &[u8], given: &Deployed) -> Result<Self, StateError> {
        let (shape, body) = opened(bytes)?;
        given.shape().succeeds(shape)?;
        let (stored, rest) = postcard::take_from_bytes::<StoredState<'_>>(body)?;
        if !rest.is_empty() {
            return Err(StateError::Damaged);
        }
        Self::restored(stored, given)
    }

    fn stored(&self) -> StoredState<'_> {
        let memory = self.tracked.iter();
        let mut tracked: Vec<_> = memory
            .map(|((task, entity), tracked)| (*task, *entity, Cow::Borrowed(tracked)))
            .collect();
        tracked.sort_unstable_by_key(|(task, entity, _)| (*task, *entity));
        StoredState {
            deployed: Cow::Borrowed(&self.deployed),
            owner: Cow::Borrowed(&self.owner),
            number: self.number,
            as_of: self.as_of,
            newest_event_ms: self.newest_event_ms,
            ticks: self.ticks,
            partitions: Cow::Borrowed(&self.partitions),
            layout: Cow::Borrowed(&self.layout),
            layout_is_new: self.layout_is_new,
            positions: Cow::Borrowed(&self.positions),
            tracked,
            rescoring: Cow::Borrowed(&self.rescoring),
            tasks_since: Cow::Borrowed(&self.tasks_since),
            revisits: Cow::Borrowed(&self.revisits),
            unexplained: Cow::Borrowed(&self.unexplained),
            listed_board: self.listed_board,
            caps: Cow::Borrowed(&self.caps),
            lists: Cow::Borrowed(&self.lists),
            said: Cow::Borrowed(&self.said),
            graph: self.graph.stored(),
        }
    }

    fn restored(stored: StoredState<'_>, given: &Deployed) -> Result<Self, StateError> {
        if stored.partitions.len() != stored.positions.len() {
            return Err(StateError::OutOfRange("partition"));
        }
        let windows: Vec<DayWindow> = given
            .tasks
            .iter()
            .flat_map(|task| task.population.windows.iter().copied())
            .collect();
        let mut graph = Graph::restored(
            stored.graph,
            given.catalog.clone(),
            given.graph_options.clone(),
            windows,
            Tracking::On,
        )?;
        graph.set_tick_ms(given.tick_ms);
        let entities = graph.directory().len();
        let mut standings: Vec<Standings> =
            given.tasks.iter().map(|_| Standings::default()).collect();
        let mut tracked = FxHashMap::default();
        for (task, entity, memory) in stored.tracked {
            let standings = standings
                .get_mut(task)
                .ok_or(StateError::OutOfRange("task"))?;
            if entity.0 as usize >= entities {
                return Err(StateError::OutOfRange("entity"));
            }
            standings.replace(None, memory.ranked_by());
            tracked.insert((task, entity), memory.into_owned());
        }
        let mut rescoring = stored.rescoring.into_owned();
        if let Some(rescoring) = &mut rescoring {
            rescoring.count();
        }
        let tasks = given.tasks.len();
        if stored.tasks_since.len() != tasks
            || rescoring.as_ref().is_some_and(|one| one.tasks() != tasks)
        {
            return Err(StateError::OutOfRange("task"));
        }
        let mut said = stored.said.into_owned();
        if !said.rulings.index(given.catalog.tables.len()) {
            return Err(StateError::OutOfRange("table"));
        }
        Ok(Self {
            graph,
            standings,
            rescoring,
            tasks_since: stored.tasks_since.into_owned(),
            tracked,
            revisits: stored.revisits.into_owned(),
            unexplained: stored.unexplained.into_owned(),
            listed_board: stored.listed_board,
            caps: stored.caps.into_owned(),
            lists: stored.lists.into_owned(),
            said,
            partitions: stored.partitions.into_owned(),
            layout: stored.layout.into_owned(),
            layout_is_new: stored.layout_is_new,
            positions: stored.positions.into_owned(),
            owner: stored.owner.into_owned(),
            number: stored.number,
            as_of: stored.as_of,
            newest_event_ms: stored.newest_event_ms,
            ticks: stored.ticks,
            deployed: stored.deployed.into_owned(),
            shape: given.shape(),
        })
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
    let shape = StateShape {
        schemas: hash(12),
        graph_options: hash(20),
        tasks: hash(28),
    };
    Ok((shape, body))
}

/// A buffered writer that sums up what it writes, and keeps the error that it failed with.
struct SummedWriter<W: Write> {
    out: BufWriter<W>,
    sum: Xxh3,
    failure: Option<io::Error>,
}

impl<W: Write> SummedWriter<W> {
    fn new(out: W) -> Self {
        Self {
            out: BufWriter::with_capacity(1 << 16, out),
            sum: Xxh3::new(),
            failure: None,
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
        match self.out.write(bytes) {
            Ok(written) => {
                self.sum.update(&bytes[..written]);
                Ok(written)
            }
            Err(failure) => {
                let kind = failure.kind();
                self.failure = Some(failure);
                Err(kind.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
