//! [`Committer`]: a thread that owns a transactional producer, and the watchdog over it.
//!
//! No call into librdkafka is trusted to keep its limit. `send_offsets_to_transaction` does not
//! return for minutes while the group's coordinator is gone
//! ([5456](https://github.com/confluentinc/librdkafka/issues/5456),
//! [5511](https://github.com/confluentinc/librdkafka/issues/5511)). So a thread of its own makes
//! the calls, and the caller waits for the answer as long as there is progress: a completed step,
//! an acknowledged record. A slow link makes progress; a dead one does not. Without progress the
//! thread is abandoned. An abandoned thread must not request a commit any more, and closes its
//! producer when librdkafka lets it go. Abandoned threads are counted, and their number is bounded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use prometheus::IntGauge;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use leadpulse_engine::ports::{PortCause, PortError};

use crate::access::Access;
use crate::client::port_error;
use crate::metrics::KafkaMetrics;
use crate::options::KafkaOptions;
use crate::patience::Attended;
use crate::polled::{Delivered, PolledProducer, PolledSettings, Signals};
use crate::transaction::{
    AttemptOutcome, Failpoint, TransactionStep, TransactionalProducer, Watched, Work,
};

/// Time between two looks at the progress.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Waits without progress longer than this are reported.
const REPORTED_AFTER: Duration = Duration::from_secs(3);
/// Most producers that were given up and have not closed yet. Each keeps threads and connections.
const MAX_ABANDONED: i64 = 8;

enum CommitterJob {
    Init {
        limit: Duration,
        answer: Sender<Result<(), KafkaError>>,
    },
    Attempt {
        work: Box<Work>,
        answer: Sender<Attempted>,
    },
}

/// The end of an attempt, and when it ended.
pub(crate) type Attempted = (AttemptOutcome, Instant);

/// An answer of the thread that is waited for as long as there is progress.
pub(crate) struct Awaited<T> {
    answered: Receiver<T>,
    /// The time that the job may go without progress.
    patience: Duration,
    /// Signs of progress seen so far, and since when there were no more.
    seen: u64,
    since: Instant,
    /// True if a stop ends the wait: nothing is in doubt.
    is_interruptible: bool,
}

/// The result of a wait for an answer.
pub(crate) enum Look<T> {
    Answered(T),
    /// The job goes on.
    Waiting,
    /// The thread was abandoned for want of progress, or has ended.
    GivenUp,
}

/// A producer on a thread of its own. Dropping it lets the thread end by itself.
// Decision: docs/decisions/0008-a-watched-thread-commits.md
pub(crate) struct Committer {
    jobs: Option<Sender<CommitterJob>>,
    signals: Arc<Signals>,
    watched: Arc<Watched>,
    /// Disconnected once the thread has closed its producer.
    closed: Receiver<()>,
    abandoned: IntGauge,
}

/// Settings of one producer.
pub(crate) struct CommitterSettings<'a> {
    pub(crate) options: &'a KafkaOptions,
    /// Age at which the broker aborts a transaction.
    pub(crate) transaction_timeout: Duration,
    pub(crate) failpoint: Option<Failpoint>,
    /// The identity of every producer of the sink.
    pub(crate) access: &'a Arc<Access>,
    /// Where delivered records are noted.
    pub(crate) delivered: &'a Arc<Delivered>,
    pub(crate) metrics: &'a Arc<KafkaMetrics>,
}

/// The reason why the transactional id was not taken over.
pub(crate) struct InitRefusal {
    pub(crate) error: PortError,
    /// librdkafka's code, where it gave one.
    pub(crate) code: Option<RDKafkaErrorCode>,
}

/// Counts a producer as given up until its thread has ended.
struct Ending {
    abandoned: IntGauge,
    _closed: Sender<()>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.abandoned.dec();
    }
}

impl Committer {
    /// Creates a producer and its thread. Waits while [`MAX_ABANDONED`] producers that were given
    /// up have not closed yet.
    pub(crate) fn start(
        settings: CommitterSettings<'_>,
        attended: &Attended,
    ) -> Result<Self, PortError> {
        let CommitterSettings {
            options,
            transaction_timeout,
            failpoint,
            access,
            delivered,
            metrics,
        } = settings;
        let abandoned = metrics.abandoned_producers.clone();
        while abandoned.get() >= MAX_ABANDONED {
            attended.report(&format!("{MAX_ABANDONED} Kafka producers were given up and do not close; waiting for one of them"));
            attended.pause(LOOK_INTERVAL)?;
        }
        let (signals, watched) = (Arc::new(Signals::default()), Arc::new(Watched::default()));
        let config = options.sink_config(transaction_timeout);
        let producer = PolledProducer::start(
            PolledSettings {
                config: &config,
                debug: options.sink_debug_lines(),
                access,
                delivered,
            },
            "sink",
            metrics,
            &signals,
        )?;
        let producer = TransactionalProducer::new(
            producer,
            options.outputs.clone(),
            transaction_timeout,
            Arc::clone(&watched),
            failpoint,
        );
        let (jobs, taken) = unbounded();
        let (closing, closed) = bounded(0);
        let ending = Ending {
            abandoned: abandoned.clone(),
            _closed: closing,
        };
        let run = move || {
            serve(producer, &taken);
            drop(ending);
        };
        let spawned = std::thread::Builder::new()
            .name("kafka-commit".into())
            .spawn(run);
        spawned.map_err(|error| {
            PortError::fatal(
                PortCause::Local,
                format!("kafka: no thread for the producer: {error}"),
            )
        })?;
        Ok(Self {
            jobs: Some(jobs),
            signals,
            watched,
            closed,
            abandoned,
        })
    }

    /// Takes the transactional id over, in one try of about `limit` at most.
    pub(crate) fn init(&self, limit: Duration, attended: &Attended) -> Result<(), InitRefusal> {
        let (answer, answered) = bounded(1);
        self.submit(CommitterJob::Init { limit, answer });
        let doing = TransactionStep::TakingOver.words();
        // librdkafka has `limit`; the watchdog comes later, for a call that does not keep it.
        let mut awaited = self.awaited(answered, limit * 2, true);
        match self.wait(&mut awaited, attended) {
            Ok(Some(Ok(()))) => Ok(()),
            Ok(Some(Err(error))) => Err(InitRefusal {
                error: port_error(doing, &error),
                code: error.rdkafka_error_code(),
            }),
            Ok(None) => Err(InitRefusal {
                error: PortError::retriable(
                    PortCause::NoAnswer,
                    format!("kafka: {doing}: librdkafka does not return"),
                ),
                code: None,
            }),
            Err(error) => Err(InitRefusal { error, code: None }),
        }
    }

    /// Begins an attempt, which is given up after `patience` without progress.
    pub(crate) fn begin(&self, work: Work, patience: Duration) -> Awaited<Attempted> {
        let (answer, answered) = bounded(1);
        self.submit(CommitterJob::Attempt {
            work: Box::new(work),
            answer,
        });
        self.awaited(answered, patience, false)
    }

    /// Waits up to `wait` for the end of an attempt. `None` while it goes on.
    pub(crate) fn end(
        &self,
        attempt: &mut Awaited<Attempted>,
        wait: Duration,
        attended: &Attended,
    ) -> Result<Option<Attempted>, PortError> {
        Ok(match self.look(attempt, wait, attended)? {
            Look::Answered(attempted) => Some(attempted),
            Look::Waiting => None,
            Look::GivenUp => {
                let doing = self.watched.step().words();
                let waited_ms = attempt.patience.as_millis();
                let why = format!("{doing}: no progress for {waited_ms} ms");
                Some((AttemptOutcome::InDoubt(why), Instant::now()))
            }
        })
    }

    /// Makes one attempt.
    pub(crate) fn attempt(
        &self,
        work: Work,
        patience: Duration,
        attended: &Attended,
    ) -> Result<AttemptOutcome, PortError> {
        let mut attempt = self.begin(work, patience);
        loop {
            if let Some((outcome, _)) = self.end(&mut attempt, LOOK_INTERVAL, attended)? {
                return Ok(outcome);
            }
        }
    }

    fn submit(&self, job: CommitterJob) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job); // a thread that ended answers nothing, which `watch` notices
        }
    }

    fn awaited<T>(
        &self,
        answered: Receiver<T>,
        patience: Duration,
        is_interruptible: bool,
    ) -> Awaited<T> {
        Awaited {
            answered,
            patience,
            seen: self.signals.progress(),
            since: Instant::now(),
            is_interruptible,
        }
    }

    /// Waits for an answer while there is progress. `None` if the thread was given up.
    fn wait<T>(
        &self,
        awaited: &mut Awaited<T>,
        attended: &Attended,
    ) -> Result<Option<T>, PortError> {
        loop {
            match self.look(awaited, LOOK_INTERVAL, attended)? {
                Look::Answered(answer) => return Ok(Some(answer)),
                Look::Waiting => {}
                Look::GivenUp => return Ok(None),
            }
        }
    }

    /// Waits up to `wait` for an answer, and gives the thread up where there is no progress.
    fn look<T>(
        &self,
        awaited: &mut Awaited<T>,
        wait: Duration,
        attended: &Attended,
    ) -> Result<Look<T>, PortError> {
        match awaited.answered.recv_timeout(wait.min(awaited.patience)) {
            Ok(answer) => return Ok(Look::Answered(answer)),
            Err(RecvTimeoutError::Disconnected) => return Ok(Look::GivenUp),
            Err(RecvTimeoutError::Timeout) => {}
        }
        attended.beat();
        if awaited.is_interruptible && attended.is_stopped() {
            self.watched.abandon();
            return Err(attended.interrupted());
        }
        let progress = self.signals.progress();
        let without = awaited.since.elapsed();
        if progress != awaited.seen {
            (awaited.seen, awaited.since) = (progress, Instant::now());
        } else if without >= awaited.patience {
            self.watched.abandon();
            return Ok(Look::GivenUp);
        } else if without >= REPORTED_AFTER {
            let (doing, seconds) = (self.watched.step().words(), without.as_secs());
            attended.report(&format!(
                "{doing}: the brokers have not answered for {seconds} s"
            ));
        }
        Ok(Look::Waiting)
    }

    /// Waits until the producer is closed, at most `limit`.
    pub(crate) fn close(mut self, limit: Duration) {
        let closed = self.closed.clone();
        self.leave();
        if matches!(closed.recv_timeout(limit), Err(RecvTimeoutError::Timeout)) {
            let timeout_ms = limit.as_millis() as u64;
            tracing::warn!(
                client = "sink",
                timeout_ms,
                "the Kafka client did not close in time and is left behind"
            );
        }
    }

    fn leave(&mut self) {
        if self.jobs.take().is_some() {
            self.watched.abandon();
            self.abandoned.inc();
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The body of the thread: does the jobs until the [`Committer`] is gone, then closes the producer.
fn serve(mut producer: TransactionalProducer, jobs: &Receiver<CommitterJob>) {
    for job in jobs {
        match job {
            CommitterJob::Init { limit, answer } => drop(answer.send(producer.init(limit))),
            CommitterJob::Attempt { work, answer } => {
                let outcome = producer.attempt(&work);
                let committed = outcome == AttemptOutcome::Committed;
                drop(answer.send((outcome, Instant::now())));
                if committed {
                    producer.balance();
                }
            }
        }
    }
}
