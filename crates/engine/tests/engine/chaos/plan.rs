//! The plan of a history: which disturbances may happen, how many, and how many records there are.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Kinds of disturbance. Each happens in some seeds, and is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Disturbance {
    /// The process dies at a call of its source.
    KilledReading,
    /// The process dies while it restores: between take-over and first poll.
    KilledRestoring,
    /// The process dies before the commit is requested.
    KilledBeforeCommit,
    /// The process dies after the request, before it knows.
    KilledAfterCommit,
    /// The process stands still, and another one is started.
    Paused,
    /// A process that stood still wakes after another one took over.
    Woken,
    /// Another process is started while one runs.
    Started,
    /// The turn goes to another running process.
    Switched,
    /// The commit takes effect, and its answer is lost.
    AnswerLost,
    /// The request of the commit is lost.
    RequestLost,
    /// The request of the commit arrives later.
    RequestLate,
    /// The commit is answered; a copy of a request is still under way.
    CopyLate,
    /// A committed transaction stays invisible for a while.
    MarkersLate,
    /// A poll, or a read of outputs, fails for now.
    Hiccup,
    /// A poll comes back empty though there is something.
    EmptyPoll,
    /// The registry does not answer.
    RegistryAway,
    /// A schema is registered after records that need it.
    SchemaLate,
    /// The wall clock jumps.
    ClockJump,
    /// The clock stands still.
    ClockStill,
    /// Records of an open transaction of a producer wait.
    InputOpen,
    /// A transaction of a producer is aborted.
    InputAborted,
    /// A partition is added to a topic.
    PartitionAdded,
    /// Retention took records before the first start.
    Retention,
}

impl Disturbance {
    pub const ALL: [Self; 23] = [
        Self::KilledReading,
        Self::KilledRestoring,
        Self::KilledBeforeCommit,
        Self::KilledAfterCommit,
        Self::Paused,
        Self::Woken,
        Self::Started,
        Self::Switched,
        Self::AnswerLost,
        Self::RequestLost,
        Self::RequestLate,
        Self::CopyLate,
        Self::MarkersLate,
        Self::Hiccup,
        Self::EmptyPoll,
        Self::RegistryAway,
        Self::SchemaLate,
        Self::ClockJump,
        Self::ClockStill,
        Self::InputOpen,
        Self::InputAborted,
        Self::PartitionAdded,
        Self::Retention,
    ];

    fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// Place of a step in the life of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepPlace {
    Reading,
    Restoring,
    BeforeCommit,
    AfterCommit,
}

/// What may happen in a history. Cut for the smallest history that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub seed: u64,
    /// Disturbances after which none follow.
    pub disturbances: u32,
    /// Bits of kinds that may happen.
    pub kinds: u32,
    /// Records that producers send.
    pub records: u64,
}

impl Plan {
    pub fn of(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x5eed);
        // Each seed leaves some kinds out, so that rare meetings of the others are not drowned.
        let mut kinds = (1 << Disturbance::ALL.len()) - 1;
        for kind in Disturbance::ALL {
            if random.random_bool(0.35) {
                kinds &= !kind.bit();
            }
        }
        Self {
            seed,
            disturbances: random.random_range(5..60),
            kinds,
            records: random.random_range(20..80),
        }
    }

    pub fn without(self, kind: Disturbance) -> Self {
        Self {
            kinds: self.kinds & !kind.bit(),
            ..self
        }
    }

    pub fn allows(&self, kind: Disturbance) -> bool {
        self.kinds & kind.bit() != 0
    }
}
