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
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
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
        answer: Sender<AttemptOutcome>,
    },
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
        match self.watch(&answered, limit * 2, attended, true) {
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

    /// Makes one attempt, and gives the attempt up after `patience` without progress.
    pub(crate) fn attempt(
        &self,
        work: Work,
        patience: Duration,
        attended: &Attended,
    ) -> Result<AttemptOutcome, PortError> {
        let (answer, answered) = bounded(1);
        self.submit(CommitterJob::Attempt {
            work: Box::new(work),
            answer,
        });
        let outcome = self.watch(&answered, patience, attended, false)?;
        Ok(outcome.unwrap_or_else(|| {
            let doing = self.watched.step().words();
            AttemptOutcome::InDoubt(format!(
                "{doing}: no progress for {} ms",
                patience.as_millis()
            ))
        }))
    }

    fn submit(&self, job: CommitterJob) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job); // a thread that ended answers nothing, which `watch` notices
        }
    }

    /// Waits for an answer while there is progress. `None` if the thread was abandoned or has
    /// ended. A stop ends the wait only where nothing is in doubt.
    fn watch<T>(
        &self,
        answered: &Receiver<T>,
        patience: Duration,
        attended: &Attended,
        interruptible: bool,
    ) -> Result<Option<T>, PortError> {
        let (mut seen, mut since) = (self.signals.progress(), Instant::now());
        loop {
            match answered.recv_timeout(LOOK_INTERVAL.min(patience)) {
                Ok(answer) => return Ok(Some(answer)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {}
            }
            attended.beat();
            if interruptible && attended.is_stopped() {
                self.watched.abandon();
                return Err(attended.interrupted());
            }
            let progress = self.signals.progress();
            if progress != seen {
                (seen, since) = (progress, Instant::now());
            } else if since.elapsed() >= patience {
                self.watched.abandon();
                return Ok(None);
            } else if since.elapsed() >= REPORTED_AFTER {
                let (doing, seconds) = (self.watched.step().words(), since.elapsed().as_secs());
                attended.report(&format!(
                    "{doing}: the brokers have not answered for {seconds} s"
                ));
            }
        }
    }

    /// Waits until the producer is closed, at most `limit`.
    pub(crate) fn close(mut self, limit: Duration) {
        let closed = self.closed.clone();
        self.end();
        if matches!(closed.recv_timeout(limit), Err(RecvTimeoutError::Timeout)) {
            let timeout_ms = limit.as_millis() as u64;
            tracing::warn!(
                client = "sink",
                timeout_ms,
                "the Kafka client did not close in time and is left behind"
            );
        }
    }

    fn end(&mut self) {
        if self.jobs.take().is_some() {
            self.watched.abandon();
            self.abandoned.inc();
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.end();
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
                drop(answer.send(outcome));
                if committed {
                    producer.balance();
                }
            }
        }
    }
}
