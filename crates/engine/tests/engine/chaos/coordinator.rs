//! A simulated transaction coordinator of one transactional id, and the logs that it decides about.
//!
//! A producer has an epoch; `init` raises it, ends the open transaction and completes a decided one.
//! A transaction is decided first and visible later, when its markers are written. A copy of a
//! request may arrive late: then it acts on the transaction that is open by then, if its producer
//! was not replaced (KIP-890).

use leadpulse_engine::ports::{NextOffset, Nonce, OutputRecord};

/// What the group's committed offsets say besides positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadata {
    pub number: u64,
    pub as_of_ms: i64,
    pub nonce: Nonce,
    pub owner: String,
}

/// Positions with their metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOffsets {
    pub metadata: GroupMetadata,
    pub positions: Vec<NextOffset>,
}

/// A transaction, open or committed.
#[derive(Clone, Debug, Default)]
pub struct SimTransaction {
    pub records: Vec<OutputRecord>,
    pub offsets: Option<GroupOffsets>,
}

/// A copy of a request that is still under way.
#[derive(Clone, Debug)]
pub enum LateCopy {
    Commit,
    Offsets(GroupOffsets),
}

#[derive(Debug)]
struct UnderWay {
    copy: LateCopy,
    producer: u64,
    /// Steps of the world until it arrives.
    steps: u32,
}

/// The producer was replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaced;

#[derive(Debug, Default)]
pub struct Coordinator {
    /// Epoch of the newest producer.
    producer: u64,
    open: Option<SimTransaction>,
    /// Decided, and not yet visible.
    decided: Option<SimTransaction>,
    /// Transactions that readers of committed records see, in order.
    pub visible: Vec<SimTransaction>,
    group: Option<GroupOffsets>,
    under_way: Vec<UnderWay>,
    /// Late copies that acted, and those that were fenced.
    pub acted: u64,
    pub fenced: u64,
    pub aborted: u64,
}

impl Coordinator {
    /// Takes the id over. Returns the epoch of the new producer.
    pub fn init(&mut self) -> u64 {
        self.producer += 1;
        self.abort();
        self.write_markers();
        self.producer
    }

    pub fn add_records(&mut self, producer: u64, records: &[OutputRecord]) -> Result<(), Replaced> {
        self.check(producer)?;
        let open = self.begin();
        open.records.extend_from_slice(records);
        Ok(())
    }

    pub fn add_offsets(&mut self, producer: u64, offsets: &GroupOffsets) -> Result<(), Replaced> {
        self.check(producer)?;
        self.begin().offsets = Some(offsets.clone());
        Ok(())
    }

    /// Decides the open transaction. Without one, the request is a repetition.
    pub fn commit(&mut self, producer: u64) -> Result<(), Replaced> {
        self.check(producer)?;
        if let Some(open) = self.open.take() {
            self.write_markers();
            self.decided = Some(open);
        }
        Ok(())
    }

    /// Ends the open transaction of this producer, and keeps the producer.
    pub fn abort_of(&mut self, producer: u64) -> Result<(), Replaced> {
        self.check(producer)?;
        self.abort();
        Ok(())
    }

    /// Makes the decided transaction visible.
    pub fn write_markers(&mut self) {
        if let Some(decided) = self.decided.take() {
            if let Some(offsets) = &decided.offsets {
                self.group = Some(offsets.clone());
            }
            self.visible.push(decided);
        }
    }

    pub fn has_decided(&self) -> bool {
        self.decided.is_some()
    }

    /// The committed offsets now; a decided transaction is not waited for.
    pub fn offsets_now(&self) -> Option<&GroupOffsets> {
        self.group.as_ref()
    }

    /// The committed offsets, once what is decided is visible.
    pub fn offsets_stable(&mut self) -> Option<GroupOffsets> {
        self.write_markers();
        self.group.clone()
    }

    pub fn send_late(&mut self, producer: u64, copy: LateCopy, steps: u32) {
        self.under_way.push(UnderWay {
            copy,
            producer,
            steps,
        });
    }

    /// Lets a step pass, in which copies arrive.
    pub fn pass(&mut self) {
        let mut due = Vec::new();
        for late in &mut self.under_way {
            late.steps = late.steps.saturating_sub(1);
        }
        due.extend(self.under_way.extract_if(.., |late| late.steps == 0));
        for late in due {
            if self.check(late.producer).is_err() {
                self.fenced += 1;
                continue;
            }
            match late.copy {
                LateCopy::Commit if self.open.is_some() => {
                    self.acted += 1;
                    let _ = self.commit(late.producer);
                }
                LateCopy::Offsets(offsets) if self.open.is_some() => {
                    self.acted += 1;
                    let _ = self.add_offsets(late.producer, &offsets);
                }
                LateCopy::Commit | LateCopy::Offsets(_) => {}
            }
        }
    }

    fn check(&self, producer: u64) -> Result<(), Replaced> {
        if producer == self.producer {
            Ok(())
        } else {
            Err(Replaced)
        }
    }

    fn begin(&mut self) -> &mut SimTransaction {
        // A transaction begins after the markers of the one before.
        if self.open.is_none() {
            self.write_markers();
        }
        self.open.get_or_insert_default()
    }

    fn abort(&mut self) {
        if self.open.take().is_some() {
            self.aborted += 1;
        }
    }
}
