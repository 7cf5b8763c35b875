//! The other ports over a world: input with open transactions, committed outputs, a registry.

use std::time::Duration;

use leadpulse_engine::ports::{
    Clock, EachRecord, EachWhole, InputPartition, LogEnd, LogStep, NextOffset, Output, OutputLog,
    OutputPositions, OutputRecord, PollLimit, PortCause, PortError, RecordBatch, SchemaLookupError,
    SchemaStore, Source,
};
use leadpulse_schema::{SchemaRef, WriterSchema};

use super::plan::{Disturbance, StepPlace};
use super::world::{LATE_SCHEMA, World, WorldClock};

pub struct SimSource {
    world: World,
    me: usize,
    partitions: Vec<InputPartition>,
    at: Vec<i64>,
    paused: Vec<bool>,
    /// True once records were polled for the first time: the process is restored.
    place: StepPlace,
}

impl SimSource {
    pub fn new(world: &World, me: usize) -> Self {
        let partitions = world.rig.broker.lock().partitions.clone();
        Self {
            world: world.clone(),
            me,
            at: vec![0; partitions.len()],
            paused: vec![false; partitions.len()],
            partitions,
            place: StepPlace::Restoring,
        }
    }

    fn step(&self) -> Result<(), PortError> {
        self.world.step(self.me, self.place)
    }

    /// One past the last offset that a reader of committed records may see, by partition.
    fn stable(&self) -> Vec<i64> {
        let open = self.world.lock().open_inputs.clone();
        let cluster = self.world.rig.broker.lock();
        let mut ends = cluster.ends[..self.partitions.len()].to_vec();
        for (partition, start) in open {
            if let Some(end) = ends.get_mut(partition) {
                *end = start.min(*end);
            }
        }
        ends
    }

    /// Partitions with a record to read.
    fn ready(&self, stable: &[i64]) -> Vec<usize> {
        let cluster = self.world.rig.broker.lock();
        let has_more = |partition: &usize| {
            let at = self.at[*partition];
            let messages = &cluster.input[*partition];
            let next = messages.get(messages.partition_point(|it| it.offset < at));
            !self.paused[*partition] && next.is_some_and(|it| it.offset < stable[*partition])
        };
        (0..self.partitions.len()).filter(has_more).collect()
    }

    fn read(&mut self, batch: &mut RecordBatch, limit: PollLimit, stable: &[i64]) {
        let most = [1, 3, 20, 500][self.world.below(4)].min(limit.records);
        for _ in 0..most {
            let ready = self.ready(stable);
            if ready.is_empty() {
                return;
            }
            let partition = ready[self.world.below(ready.len())];
            let cluster = self.world.rig.broker.lock();
            let messages = &cluster.input[partition];
            let message = &messages[messages.partition_point(|it| it.offset < self.at[partition])];
            let headers = message.headers.iter();
            batch.push(
                partition as u32,
                message.offset,
                message.timestamp_ms,
                message.key.as_deref(),
                message.value.as_deref(),
                headers.map(|(name, value)| (name.as_str(), value.as_deref())),
            );
            self.at[partition] = message.offset + 1;
        }
    }
}

impl Source for SimSource {
    fn partitions(&self) -> &[InputPartition] {
        &self.partitions
    }

    fn arrange(&mut self, partitions: Vec<InputPartition>) -> Result<(), PortError> {
        self.step()?;
        self.partitions = partitions;
        Ok(())
    }

    fn added(&mut self) -> Vec<InputPartition> {
        self.world.rig.broker.lock().partitions[self.partitions.len()..].to_vec()
    }

    fn pause(&mut self, partitions: &[u32]) -> Result<(), PortError> {
        self.step()?;
        for partition in partitions {
            self.paused[*partition as usize] = true;
        }
        Ok(())
    }

    fn resume(&mut self, partitions: &[u32]) -> Result<(), PortError> {
        self.step()?;
        for partition in partitions {
            self.paused[*partition as usize] = false;
        }
        Ok(())
    }

    fn skip_to(&mut self, partition: u32, offset: NextOffset) -> Result<(), PortError> {
        self.at[partition as usize] = offset.0;
        Ok(())
    }

    fn seek(&mut self, positions: &[NextOffset]) -> Result<(), PortError> {
        self.step()?;
        self.at = positions.iter().map(|at| at.0).collect();
        self.paused = vec![false; self.at.len()];
        Ok(())
    }

    fn poll(
        &mut self,
        batch: &mut RecordBatch,
        limit: PollLimit,
        wait: Duration,
    ) -> Result<(), PortError> {
        self.step()?;
        if self.world.happens(Disturbance::Hiccup, 0.01) {
            return Err(PortError::retriable(PortCause::NoAnswer, "a hiccup"));
        }
        let stable = self.stable();
        let is_idle = self.ready(&stable).is_empty();
        if is_idle || self.world.happens(Disturbance::EmptyPoll, 0.05) {
            // An epoch that is being filled is not idle.
            if is_idle && batch.is_empty() {
                self.world.idle();
            }
            WorldClock(self.world.clone()).wait(wait);
            return Ok(());
        }
        self.read(batch, limit, &stable);
        self.step()
    }

    fn read_to(&mut self) -> Result<Vec<NextOffset>, PortError> {
        self.step()?;
        let stable = self.stable();
        let cluster = self.world.rig.broker.lock();
        let passed = |partition: usize| {
            let at = self.at[partition];
            let messages = &cluster.input[partition];
            let next = messages.get(messages.partition_point(|it| it.offset < at));
            match next.filter(|it| it.offset < stable[partition]) {
                Some(_) => NextOffset(at),
                None => NextOffset(stable[partition].max(at)),
            }
        };
        Ok((0..self.at.len()).map(passed).collect())
    }

    fn starts(&mut self) -> Result<Vec<NextOffset>, PortError> {
        self.step()?;
        let cluster = self.world.rig.broker.lock();
        let starts = cluster.starts.iter().take(self.partitions.len());
        Ok(starts.map(|start| NextOffset(*start)).collect())
    }

    fn ends(&mut self) -> Result<Vec<LogEnd>, PortError> {
        self.step()?;
        self.place = StepPlace::Reading;
        let stable = self.stable();
        let cluster = self.world.rig.broker.lock();
        let both = stable.iter().zip(&cluster.ends);
        Ok(both
            .map(|(stable, high)| LogEnd {
                stable: NextOffset(*stable),
                high: NextOffset(*high),
            })
            .collect())
    }
}

/// The committed outputs, as a restart reads them.
pub struct SimOutputs {
    world: World,
    me: usize,
    script: std::vec::IntoIter<Vec<u8>>,
    position: i64,
}

impl SimOutputs {
    pub fn new(world: &World, me: usize) -> Self {
        Self {
            world: world.clone(),
            me,
            script: Vec::new().into_iter(),
            position: 0,
        }
    }

    fn records(&self, output: Output) -> Result<Vec<OutputRecord>, PortError> {
        self.world.step(self.me, StepPlace::Restoring)?;
        if self.world.happens(Disturbance::Hiccup, 0.02) {
            return Err(PortError::retriable(PortCause::NoAnswer, "a hiccup"));
        }
        let state = self.world.lock();
        let visible = state.coordinator.visible.iter();
        let records = visible.flat_map(|transaction| &transaction.records);
        let of_kind = records.filter(|record| record.output == output);
        Ok(of_kind.cloned().collect())
    }
}

impl OutputLog for SimOutputs {
    fn rewind(&mut self, from: i64) -> Result<(), PortError> {
        let script = self.records(Output::Epochs)?;
        let values = script.into_iter().filter_map(|it| it.value);
        let values: Vec<Vec<u8>> = values.skip(from as usize).collect();
        self.script = values.into_iter();
        self.position = from;
        Ok(())
    }

    fn next(&mut self, _: Duration) -> Result<LogStep, PortError> {
        self.world.step(self.me, StepPlace::Restoring)?;
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
        for record in self.records(output)?.into_iter().skip(from) {
            each(record.key.as_deref().unwrap(), record.value.as_deref())?;
        }
        Ok(())
    }

    fn newest(
        &mut self,
        output: Output,
        count: usize,
        each: &mut EachRecord<'_>,
    ) -> Result<(), PortError> {
        let records = self.records(output)?;
        for record in &records[records.len().saturating_sub(count)..] {
            each(
                record.key.as_deref().unwrap_or_default(),
                record.value.as_deref(),
            )?;
        }
        Ok(())
    }

    fn newest_whole(
        &mut self,
        output: Output,
        count: usize,
        each: &mut EachWhole<'_>,
    ) -> Result<(), PortError> {
        let records = self.records(output)?;
        let from = records.len().saturating_sub(count);
        records[from..].iter().cloned().try_for_each(each)
    }
}

/// The registry of a world. One schema is registered late.
pub struct SimRegistry(pub World);

impl SchemaStore for SimRegistry {
    fn lookup(&self, schema: &SchemaRef) -> Result<WriterSchema, SchemaLookupError> {
        let unavailable = |why: &str| Err(SchemaLookupError::Unavailable(why.to_owned()));
        if self.0.registry_is_away() {
            return unavailable("connection refused");
        }
        if *schema == SchemaRef::Id(LATE_SCHEMA) && !self.0.lock().is_schema_known {
            return unavailable("not replicated yet");
        }
        self.0.rig.schemas.lookup(schema)
    }

    fn id_of(&self, subject: &str, json: &str) -> Result<u32, SchemaLookupError> {
        self.0.rig.schemas.id_of(subject, json)
    }
}
