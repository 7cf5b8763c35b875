//! Ports in memory: a log of input partitions, transactions that happen or do not, a schema store that can be down, a clock that is told.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use leadpulse_engine::ports::{
    Clock, CommitMark, CommittedEpoch, EachRecord, EachWhole, Heartbeats, InputPartition, LogEnd,
    LogStep, NextOffset, Output, OutputLog, OutputPositions, OutputRecord, OwnerSight, PollLimit,
    PortCause, PortError, ReadFrom, RecordBatch, SchemaLookupError, SchemaStore, SealedEpoch,
    SignOfLife, Sink, Source, Stuck,
};
use leadpulse_schema::{FolderRegistry, SchemaRef, WriterSchema};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// An input record.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// What is on the cluster.
#[derive(Default)]
pub struct Cluster {
    pub partitions: Vec<InputPartition>,
    pub input: Vec<Vec<Message>>,
    /// One past the last offset, transaction markers included.
    pub ends: Vec<i64>,
    /// Everything that was committed, in order.
    pub epochs: Vec<SealedEpoch>,
    /// Counts sinks: each is the start of a process.
    started: u64,
    /// The newest owner; only it can commit.
    owner: u64,
    /// Token of the newest owner.
    token: Option<String>,
    /// The newest sign of life.
    pub sign: Option<SignOfLife>,
    /// First offset that is still there, by partition; 0 where retention removed nothing.
    pub starts: Vec<i64>,
    /// Offsets that cannot be read, by partition.
    pub damaged: Vec<(usize, Range<i64>)>,
    /// A partition whose topic was deleted and created again: its committed position is gone.
    pub created_again: Option<usize>,
}

/// The cluster, shared between producers, engines and the test.
#[derive(Clone, Default)]
pub struct Broker(Arc<Mutex<Cluster>>);

impl Broker {
    pub fn new(partitions: Vec<InputPartition>) -> Self {
        let (input, ends) = (
            vec![Vec::new(); partitions.len()],
            vec![0; partitions.len()],
        );
        Self(Arc::new(Mutex::new(Cluster {
            starts: ends.clone(),
            partitions,
            input,
            ends,
            ..Cluster::default()
        })))
    }
    pub fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.0.lock().unwrap()
    }
    /// Produces a record; its offset is decided here.
    pub fn append(&self, partition: usize, message: Message) -> i64 {
        let mut cluster = self.lock();
        let offset = cluster.ends[partition];
        cluster.input[partition].push(Message { offset, ..message });
        cluster.ends[partition] += 1;
        offset
    }
    /// Adds a partition to a topic.
    pub fn grow(&self, partition: InputPartition) -> usize {
        let mut cluster = self.lock();
        cluster.partitions.push(partition);
        cluster.input.push(Vec::new());
        cluster.ends.push(0);
        cluster.starts.push(0);
        cluster.partitions.len() - 1
    }
    /// An offset without a record, as a producer's transaction leaves behind.
    pub fn append_marker(&self, partition: usize) {
        self.lock().ends[partition] += 1;
    }
}

impl Cluster {
    /// Times that a process took over.
    pub fn owners(&self) -> u64 {
        self.owner
    }
    pub fn committed(&self) -> Option<CommittedEpoch> {
        let last = self.epochs.last()?;
        let position =
            |(index, at): (usize, &NextOffset)| (self.created_again != Some(index)).then_some(*at);
        let positions = last.positions.iter().enumerate().map(position).collect();
        Some(CommittedEpoch {
            number: last.number,
            as_of_ms: last.as_of_ms,
            nonce: Some(last.nonce),
            positions,
        })
    }
}

/// How a source hands out what is there.
#[derive(Clone, Debug)]
pub struct Reading {
    pub seed: u64,
    /// How often a poll comes back with nothing though there is something.
    pub empty_ratio: f64,
    /// Records a poll gives at most.
    pub most: usize,
    /// A partition that is read far ahead of the others.
    pub favourite: Option<usize>,
    /// The source breaks at this poll.
    pub breaks_at: Option<u32>,
    /// These polls fail, but the next one would not.
    pub hiccups: u32,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            seed: 0,
            empty_ratio: 0.0,
            most: usize::MAX,
            favourite: None,
            breaks_at: None,
            hiccups: 0,
        }
    }
}

pub struct MemorySource {
    broker: Broker,
    partitions: Vec<InputPartition>,
    reading: Reading,
    generator: ChaCha8Rng,
    at: Vec<i64>,
    paused: Vec<bool>,
    polls: u32,
    /// Called when a poll finds that everything was read.
    on_idle: Box<dyn FnMut() + Send>,
    /// The clock that an empty poll waits by.
    clock: Arc<dyn Clock>,
}

impl MemorySource {
    pub fn new(
        broker: &Broker,
        reading: Reading,
        on_idle: Box<dyn FnMut() + Send>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let partitions = broker.lock().partitions.clone();
        let generator = ChaCha8Rng::seed_from_u64(reading.seed);
        let at = vec![0; partitions.len()];
        Self {
            broker: broker.clone(),
            paused: vec![false; at.len()],
            at,
            partitions,
            reading,
            generator,
            polls: 0,
            on_idle,
            clock,
        }
    }
}

impl Source for MemorySource {
    fn partitions(&self) -> &[InputPartition] {
        &self.partitions
    }
    fn seek(&mut self, positions: &[NextOffset]) -> Result<(), PortError> {
        self.at = positions.iter().map(|p| p.0).collect();
        self.paused = vec![false; self.at.len()];
        Ok(())
    }
    fn poll(
        &mut self,
        batch: &mut RecordBatch,
        limit: PollLimit,
        wait: Duration,
    ) -> Result<(), PortError> {
        self.polls += 1;
        if self.reading.breaks_at == Some(self.polls) {
            return Err(PortError::fatal(PortCause::Local, "the source broke"));
        }
        if self.polls <= self.reading.hiccups {
            return Err(PortError::retriable(
                PortCause::NoAnswer,
                "the source has hiccups",
            ));
        }
        let cluster = self.broker.lock();
        let paused = &self.paused;
        let has_more = |at: &[i64], p: usize| {
            !paused[p] && cluster.input[p].last().is_some_and(|m| m.offset >= at[p])
        };
        let damaged = |at: &[i64], p: usize| {
            cluster
                .damaged
                .iter()
                .any(|(partition, range)| *partition == p && range.contains(&at[p]))
        };
        let has_more = |at: &[i64], p: usize| has_more(at, p) && !damaged(at, p);
        let everyone: Vec<usize> = (0..self.at.len())
            .filter(|p| has_more(&self.at, *p))
            .collect();
        if everyone.is_empty() {
            drop(cluster);
            // An epoch that is being filled is not idle.
            if batch.is_empty() {
                (self.on_idle)();
            }
            self.clock.wait(wait);
            return Ok(());
        }
        if self.generator.random_bool(self.reading.empty_ratio) {
            self.clock.wait(wait);
            return Ok(());
        }
        let most = self
            .generator
            .random_range(1..=limit.records.min(self.reading.most).clamp(1, 10_000));
        let favourite = self
            .reading
            .favourite
            .filter(|p| everyone.contains(p) && self.generator.random_bool(0.97));
        for _ in 0..most.min(limit.records) {
            let ready: Vec<usize> = match favourite {
                Some(partition) => [partition]
                    .into_iter()
                    .filter(|p| has_more(&self.at, *p))
                    .collect(),
                None => (0..self.at.len())
                    .filter(|p| has_more(&self.at, *p))
                    .collect(),
            };
            if ready.is_empty() {
                break;
            }
            let partition = ready[self.generator.random_range(0..ready.len() as u64) as usize];
            let messages = &cluster.input[partition];
            let message = &messages[messages.partition_point(|m| m.offset < self.at[partition])];
            let headers = message
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_deref()));
            batch.push(
                partition as u32,
                message.offset,
                message.timestamp_ms,
                message.key.as_deref(),
                message.value.as_deref(),
                headers,
            );
            self.at[partition] = message.offset + 1;
        }
        Ok(())
    }
    fn read_to(&mut self) -> Result<Vec<NextOffset>, PortError> {
        let cluster = self.broker.lock();
        let passed = |p: usize| {
            if cluster.input[p]
                .last()
                .is_some_and(|m| m.offset >= self.at[p])
            {
                self.at[p]
            } else {
                cluster.ends[p]
            }
        };
        Ok((0..self.at.len()).map(|p| NextOffset(passed(p))).collect())
    }
    fn starts(&mut self) -> Result<Vec<NextOffset>, PortError> {
        Ok(self
            .broker
            .lock()
            .starts
            .iter()
            .take(self.partitions.len())
            .map(|start| NextOffset(*start))
            .collect())
    }
    fn ends(&mut self) -> Result<Vec<LogEnd>, PortError> {
        Ok(self
            .broker
            .lock()
            .ends
            .iter()
            .take(self.partitions.len())
            .map(|end| LogEnd {
                stable: NextOffset(*end),
                high: NextOffset(*end),
            })
            .collect())
    }
    fn arrange(&mut self, partitions: Vec<InputPartition>) -> Result<(), PortError> {
        assert!(
            self.broker.lock().partitions.starts_with(&partitions),
            "partitions are listed in order of their coming"
        );
        self.partitions = partitions;
        Ok(())
    }
    fn added(&mut self) -> Vec<InputPartition> {
        self.broker.lock().partitions[self.partitions.len()..].to_vec()
    }
    fn pause(&mut self, partitions: &[u32]) -> Result<(), PortError> {
        partitions
            .iter()
            .for_each(|partition| self.paused[*partition as usize] = true);
        Ok(())
    }
    fn resume(&mut self, partitions: &[u32]) -> Result<(), PortError> {
        partitions
            .iter()
            .for_each(|partition| self.paused[*partition as usize] = false);
        Ok(())
    }
    fn skip_to(&mut self, partition: u32, offset: NextOffset) -> Result<(), PortError> {
        self.at[partition as usize] = offset.0;
        Ok(())
    }
    fn readable_after(
        &mut self,
        partition: u32,
        offset: NextOffset,
    ) -> Result<NextOffset, PortError> {
        let cluster = self.broker.lock();
        let damage = cluster
            .damaged
            .iter()
            .find(|(damaged, range)| *damaged == partition as usize && range.contains(&offset.0));
        Ok(NextOffset(
            damage.map_or(offset.0 + 1, |(_, range)| range.end),
        ))
    }
    fn stuck(&mut self) -> Vec<Stuck> {
        let cluster = self.broker.lock();
        let damage = cluster
            .damaged
            .iter()
            .filter(|(partition, range)| range.contains(&self.at[*partition]));
        damage
            .map(|(partition, _)| Stuck {
                partition: *partition as u32,
                offset: NextOffset(self.at[*partition]),
                reason: "bad compression".into(),
            })
            .collect()
    }
}

/// What goes wrong with a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies before anything is visible.
    Before,
    /// The process dies after everything is visible, before it knows.
    After,
    /// The sink gives up for now.
    Retriable,
    /// Another process took over.
    Fenced,
}

/// Sees an epoch before it is committed.
pub type Watcher = Box<dyn FnMut(&SealedEpoch) + Send>;
/// Happens right before a process takes over.
pub type BeforeTakeOver = Box<dyn FnOnce() + Send>;

pub struct MemorySink {
    broker: Broker,
    token: String,
    owner: u64,
    /// After so many more commits, this happens.
    fault: Option<(u32, Fault)>,
    watcher: Option<Watcher>,
    before_take_over: Option<BeforeTakeOver>,
    /// True once this process took over.
    owns: Arc<AtomicBool>,
    /// The epoch under way, and the looks until it is committed.
    begun: Option<(Arc<SealedEpoch>, u32)>,
    /// Looks until an epoch that was begun is committed.
    looks: u32,
}

impl MemorySink {
    pub fn new(broker: &Broker, fault: Option<(u32, Fault)>, watcher: Option<Watcher>) -> Self {
        broker.lock().started += 1;
        let token = format!("start-{}", broker.lock().started);
        Self {
            broker: broker.clone(),
            token,
            owner: 0,
            fault,
            watcher,
            before_take_over: None,
            owns: Arc::default(),
            begun: None,
            looks: 2,
        }
    }
    pub fn owns(&self) -> Arc<AtomicBool> {
        self.owns.clone()
    }
    pub fn with_take_over(mut self, before: Option<BeforeTakeOver>) -> Self {
        self.before_take_over = before;
        self
    }
    fn fenced() -> PortError {
        PortError::fenced(PortCause::OtherOwner, "another process took over")
    }
    fn due(&mut self) -> Option<Fault> {
        let (left, fault) = self.fault.as_mut()?;
        match left.checked_sub(1) {
            Some(fewer) => {
                *left = fewer;
                None
            }
            None => Some(*fault),
        }
    }
}

impl Sink for MemorySink {
    fn owner(&self) -> &str {
        &self.token
    }
    fn arrange(&mut self, _: &[InputPartition]) {}
    fn take_over(&mut self) -> Result<Option<CommittedEpoch>, PortError> {
        if let Some(before) = self.before_take_over.take() {
            before();
        }
        let mut cluster = self.broker.lock();
        cluster.owner += 1;
        cluster.token = Some(self.token.clone());
        self.owns.store(true, Ordering::SeqCst);
        self.owner = cluster.owner;
        Ok(cluster.committed())
    }
    fn check(&mut self) -> Result<(), PortError> {
        match self.broker.lock().owner == self.owner {
            true => Ok(()),
            false => Err(Self::fenced()),
        }
    }
    fn begin(&mut self, epoch: &Arc<SealedEpoch>) -> Result<(), PortError> {
        assert!(self.begun.is_none(), "one epoch is under way at a time");
        self.begun = Some((epoch.clone(), self.looks));
        Ok(())
    }
    fn end(&mut self, wait: Duration) -> Result<Option<Duration>, PortError> {
        match &mut self.begun {
            Some((_, looks)) if wait.is_zero() && *looks > 0 => {
                *looks -= 1;
                return Ok(None);
            }
            _ => {}
        }
        if let Some((epoch, _)) = self.begun.take() {
            self.commit(&epoch)?;
        }
        Ok(Some(Duration::ZERO))
    }
    fn commit(&mut self, epoch: &Arc<SealedEpoch>) -> Result<(), PortError> {
        if let Some(watcher) = &mut self.watcher {
            watcher(epoch);
        }
        let fault = self.due();
        match fault {
            Some(Fault::Before) => {
                return Err(PortError::fatal(
                    PortCause::Local,
                    "killed before the commit",
                ));
            }
            Some(Fault::Retriable) => {
                return Err(PortError::retriable(
                    PortCause::NoAnswer,
                    "the brokers are away",
                ));
            }
            Some(Fault::Fenced) => {
                return Err(PortError::fenced(
                    PortCause::OtherOwner,
                    "another process uses this transactional id",
                ));
            }
            Some(Fault::After) | None => {}
        }
        let mut cluster = self.broker.lock();
        if cluster.owner != self.owner {
            return Err(Self::fenced());
        }
        assert_eq!(
            cluster.committed().map_or(0, |c| c.number) + 1,
            epoch.number,
            "epochs are committed in order"
        );
        cluster.epochs.push(SealedEpoch::clone(epoch));
        if fault == Some(Fault::After) {
            Err(PortError::fatal(
                PortCause::Local,
                "killed after the commit",
            ))
        } else {
            Ok(())
        }
    }
    fn written(&self) -> OutputPositions {
        let mut positions = OutputPositions::default();
        let cluster = self.broker.lock();
        for output in Output::ALL {
            let records = cluster.epochs.iter().flat_map(|e| &e.outputs);
            let count = records.filter(|r| r.output == output).count();
            positions.note(output as u8, 0, count as i64);
        }
        positions
    }
}

/// The committed outputs.
pub struct MemoryOutputs {
    broker: Broker,
    script: std::vec::IntoIter<Vec<u8>>,
    position: i64,
    /// Epochs whose records were handed out.
    read: usize,
    /// Records of each output that were handed out by reading on.
    taken: HashMap<Output, usize>,
    /// The epochs topic gets its markers after the other outputs: every second look ends before
    /// the newest epoch, until this process took over.
    is_late: bool,
    looks: u32,
    owns: Arc<AtomicBool>,
}

impl MemoryOutputs {
    pub fn new(broker: &Broker) -> Self {
        Self {
            broker: broker.clone(),
            script: Vec::new().into_iter(),
            position: 0,
            read: 0,
            taken: HashMap::new(),
            is_late: false,
            looks: 0,
            owns: Arc::default(),
        }
    }
    /// Reads epochs late until `owns` is true.
    pub fn with_late_epochs(mut self, is_late: bool, owns: &Arc<AtomicBool>) -> Self {
        (self.is_late, self.owns) = (is_late, owns.clone());
        self
    }
    fn records(&self, output: Output) -> Vec<OutputRecord> {
        let cluster = self.broker.lock();
        cluster
            .epochs
            .iter()
            .flat_map(|e| &e.outputs)
            .filter(|r| r.output == output)
            .cloned()
            .collect()
    }
    /// The epoch records since those that were handed out.
    fn further(&mut self) {
        let mut script: Vec<Vec<u8>> = self
            .records(Output::Epochs)
            .into_iter()
            .skip(self.read)
            .filter_map(|r| r.value)
            .collect();
        self.looks += 1;
        let is_late = self.is_late && !self.owns.load(Ordering::SeqCst);
        if is_late && self.looks % 2 == 1 {
            script.pop();
        }
        self.read += script.len();
        self.script = script.into_iter();
    }
}

impl OutputLog for MemoryOutputs {
    fn rewind(&mut self, from: i64) -> Result<(), PortError> {
        (self.read, self.position) = (from as usize, from);
        self.further();
        Ok(())
    }
    fn go_on(&mut self) -> Result<(), PortError> {
        assert_eq!(self.script.len(), 0, "the log is read to the end first");
        self.further();
        Ok(())
    }
    fn read_on(
        &mut self,
        output: Output,
        from: ReadFrom,
        each: &mut EachWhole<'_>,
    ) -> Result<(), PortError> {
        let records = self.records(output);
        let taken = self.taken.entry(output).or_insert(match from {
            ReadFrom::Start => 0,
            ReadFrom::Newest(count) => records.len().saturating_sub(count),
            ReadFrom::End => records.len(),
        });
        for record in records.into_iter().skip(*taken) {
            each(record)?;
            *taken += 1;
        }
        Ok(())
    }
    fn next(&mut self, _: Duration) -> Result<LogStep, PortError> {
        let next = self.script.next();
        self.position += i64::from(next.is_some());
        Ok(next.map_or(LogStep::End, LogStep::Record))
    }
    fn position(&self) -> i64 {
        self.position
    }
    fn latest(
        &mut self,
        output: Output,
        from: &OutputPositions,
        each: &mut EachRecord<'_>,
    ) -> Result<(), PortError> {
        let from = from.next(output as u8, 0) as usize;
        self.records(output)
            .iter()
            .skip(from)
            .try_for_each(|r| each(r.key.as_deref().unwrap(), r.value.as_deref()))
    }
    fn newest(
        &mut self,
        output: Output,
        count: usize,
        each: &mut EachRecord<'_>,
    ) -> Result<(), PortError> {
        let records = self.records(output);
        let from = records.len().saturating_sub(count);
        records[from..]
            .iter()
            .try_for_each(|r| each(r.key.as_deref().unwrap_or_default(), r.value.as_deref()))
    }
    fn newest_whole(
        &mut self,
        output: Output,
        count: usize,
        each: &mut EachWhole<'_>,
    ) -> Result<(), PortError> {
        let records = self.records(output);
        let from = records.len().saturating_sub(count);
        records[from..].iter().cloned().try_for_each(each)
    }
}

/// Happens at each look of a follower, with the number of the look, from 1. False: the cluster
/// does not answer it.
pub type OnLook = Box<dyn FnMut(u32) -> bool + Send>;

/// Signs of life on the cluster. Nothing beats by itself: a test writes the signs.
pub struct MemoryHeartbeats {
    broker: Broker,
    looks: u32,
    on_look: OnLook,
    owner: Option<String>,
}

impl MemoryHeartbeats {
    pub fn new(broker: &Broker, on_look: OnLook) -> Self {
        Self {
            broker: broker.clone(),
            looks: 0,
            on_look,
            owner: None,
        }
    }
    fn write(&self, left: bool) {
        let owner = self.owner.clone().unwrap();
        self.broker.sign(&owner, left);
    }
}

impl Broker {
    /// Writes the next sign of life.
    pub fn sign(&self, owner: &str, left: bool) {
        let mut cluster = self.lock();
        let count = cluster.sign.as_ref().map_or(0, |sign| sign.count + 1);
        let owner = owner.to_owned();
        cluster.sign = Some(SignOfLife { owner, count, left });
    }
}

impl Heartbeats for MemoryHeartbeats {
    fn look(&mut self) -> Result<OwnerSight, PortError> {
        self.looks += 1;
        if !(self.on_look)(self.looks) {
            return Err(PortError::retriable(PortCause::NoAnswer, "no answer"));
        }
        let cluster = self.broker.lock();
        let last = cluster.epochs.last();
        let committed = cluster.token.as_ref().map(|token| CommitMark {
            epoch: last.map_or(0, |epoch| epoch.number),
            nonce: last.map(|epoch| epoch.nonce),
            owner: Some(token.clone()),
        });
        Ok(OwnerSight {
            committed,
            sign: cluster.sign.clone(),
        })
    }
    fn begin(&mut self, owner: &str) -> Result<(), PortError> {
        self.owner = Some(owner.to_owned());
        self.write(false);
        Ok(())
    }
    fn leave(&mut self) {
        self.write(true);
    }
}

/// Told of every question that finds the registry down.
type OnDown = Box<dyn Fn() + Send + Sync>;

/// The shipped schemas, some more, and times when nobody answers.
pub struct Schemas {
    folder: FolderRegistry,
    more: Mutex<HashMap<u32, Arc<str>>>,
    /// So many questions in a row find the registry down.
    pub down: AtomicU32,
    pub on_down: Mutex<Option<OnDown>>,
}

impl Schemas {
    pub fn load(dir: &Path) -> Self {
        let folder = FolderRegistry::load(dir).unwrap();
        Self {
            folder,
            more: Mutex::default(),
            down: AtomicU32::new(0),
            on_down: Mutex::default(),
        }
    }
    pub fn register(&self, id: u32, json: &str) {
        self.more.lock().unwrap().insert(id, json.into());
    }
}

impl SchemaStore for Schemas {
    fn lookup(&self, schema: &SchemaRef) -> Result<WriterSchema, SchemaLookupError> {
        if self
            .down
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
            .is_ok()
        {
            self.on_down.lock().unwrap().iter().for_each(|told| told());
            return Err(SchemaLookupError::Unavailable(
                "http://registry: connection refused".into(),
            ));
        }
        let more = match schema {
            SchemaRef::Id(id) => self.more.lock().unwrap().get(id).cloned(),
            SchemaRef::Guid(_) | SchemaRef::Fingerprint(_) => None,
        };
        more.or_else(|| self.folder.get(*schema))
            .map(WriterSchema::avro)
            .ok_or_else(|| SchemaLookupError::Unknown(format!("{schema:?}")))
    }
    fn id_of(&self, _: &str, json: &str) -> Result<u32, SchemaLookupError> {
        FolderRegistry::id_of(json).map_err(|e| SchemaLookupError::Unknown(e.to_string()))
    }
}

/// A clock that stands still until it is moved: both clocks, and the wall clock alone by the second number. A wait ends at once,
/// and moves the monotonic clock alone, so that a test decides what time it is.
#[derive(Clone, Default)]
pub struct HandClock(pub Arc<AtomicI64>, pub Arc<AtomicI64>, Arc<AtomicU64>);

impl Clock for HandClock {
    fn wall_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst) + self.1.load(Ordering::SeqCst)
    }
    fn elapsed(&self) -> Duration {
        let moved_ms = self.0.load(Ordering::SeqCst) as u64;
        Duration::from_millis(moved_ms) + Duration::from_micros(self.2.load(Ordering::SeqCst))
    }
    fn wait(&self, duration: Duration) {
        self.2
            .fetch_add(duration.as_micros() as u64, Ordering::SeqCst);
    }
}

/// A clock that moves by what is waited for, and by nothing else: hours of the loop pass in milliseconds.
#[derive(Clone)]
pub struct WaitedClock {
    pub start_ms: i64,
    waited_us: Arc<AtomicU64>,
}

impl WaitedClock {
    pub fn new(start_ms: i64) -> Self {
        Self {
            start_ms,
            waited_us: Arc::default(),
        }
    }
}

impl Clock for WaitedClock {
    fn wall_ms(&self) -> i64 {
        self.start_ms + self.elapsed().as_millis() as i64
    }
    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.waited_us.load(Ordering::SeqCst))
    }
    fn wait(&self, duration: Duration) {
        self.waited_us
            .fetch_add(duration.as_micros() as u64, Ordering::SeqCst);
    }
}
