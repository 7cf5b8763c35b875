//! Topics to committed outputs on real Kafka: the engine beside a copy of the same bytes through
//! the same ports, in transactions cut at the engine's floor. No engine can be faster than that
//! copy; how it lengthens its own epochs is part of what is measured.
//!
//! Progress is what is committed, seen once a millisecond. Throughput is between the first and the
//! last commit seen, so that connecting does not count. Latency is from the moment a record was to
//! be sent (whether the sender kept up or not) to the commit that makes so many records visible.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use prometheus::Registry;

use leadpulse_engine::ports::{
    Clock, NextOffset, Nonce, Output, OutputRecord, PollLimit, RecordBatch, SealedEpoch, Sink,
    Source,
};
use leadpulse_engine::{ClockMode, EngineOptions, Until};
use leadpulse_kafka::{
    KafkaMetrics, KafkaSink, KafkaSource, OutputTopics, Producer, TopicSpec, ensure_topics,
    output_topics,
};

use crate::gauge::{Span, Table, cpu_of, load, number, percentile, timed};
use crate::ground::{Ground, configuration};
use crate::harness::{kafka, unique};
use leadpulse_deployment::Loaded;
use leadpulse_deployment::{Assembly, Cluster, Deployment, SystemClock, VersionOrigin};

/// Partitions of each input topic, as `leadpulse replay` makes them.
const INPUT_PARTITIONS: i32 = 4;
/// Without a commit for this long a run has failed.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Wait of an empty poll of the copy, the same as the engine's.
const IDLE_WAIT: Duration = Duration::from_millis(50);

/// Pace and length of a latency run.
pub struct Pace {
    /// Records a second.
    pub rate: u32,
    /// Seconds that do not count.
    pub warm_up_seconds: u32,
    /// Seconds that count.
    pub seconds: u32,
}

impl Pace {
    /// Records of a run.
    pub fn records(&self) -> usize {
        (self.rate * (self.warm_up_seconds + self.seconds)) as usize
    }
    fn due(&self, index: usize) -> Duration {
        Duration::from_secs_f64(index as f64 / f64::from(self.rate))
    }
}

/// Measures on a cluster; without one, prints a line that says so.
pub fn measure(ground: &Ground, pace: &Pace) -> Result<()> {
    let Some(cluster) = kafka() else {
        println!("\nKafka to Kafka: SKIPPED, there is no cluster (see above)");
        return Ok(());
    };
    let topics = unique("bench");
    let feed = Feed::new(ground, &cluster.servers, &topics)?;
    let (sent, span) = timed(|| feed.send_all(&ground.history));
    let history = sent?;
    println!(
        "\nKafka     {} records to {INPUT_PARTITIONS} partitions a table in {} s",
        number(history as f64),
        number(span.wall.as_secs_f64())
    );

    // The copy before and after the engine: how far they differ is the noise.
    let ends = feed.ends(ground)?;
    let first =
        Copier::start(ground, &feed, "copy-1", Stretch::To(ends.clone()))?.catch_up(history)?;
    // What waits is taken on events' own time. Live records are taken as a worker runs: with a clock,
    // ticks end whatever partitions have no records.
    let engine = Deployed::start(ground, &feed, "history", ClockMode::Events)?;
    let scored = engine.catch_up(history);
    let scores = engine.stop()?;
    let scored = scored?;
    let engine = Deployed::start(ground, &feed, "live", ClockMode::Wall)?;
    let caught_up = engine.catch_up(history);
    let paced =
        caught_up.and_then(|_| feed.paced(&ground.live, pace, history, || engine.committed()));
    engine.stop()?;
    let paced_engine = paced?;
    let second = Copier::start(ground, &feed, "copy-2", Stretch::To(ends))?.catch_up(history)?;
    let copier = Copier::start(ground, &feed, "copy-3", Stretch::FromNow)?;
    let paced_copy = feed.paced(&ground.live, pace, 0, || copier.committed());
    copier.stop()?;
    let paced_copy = paced_copy?;

    let copied = f64::midpoint(first.rate(), second.rate());
    let mut table = Table::new(&[
        "",
        "records/s",
        "wall s",
        "CPU s",
        "broker CPU s",
        "commits",
        "ratio to copy",
    ]);
    for (name, run) in [
        ("copy in transactions", &first),
        ("engine: records to scores", &scored),
        ("copy once more", &second),
    ] {
        table.row(
            name,
            run.figures()
                .into_iter()
                .chain([number(run.rate() / copied)]),
        );
    }
    let options = &ground.loaded.config.engine;
    table.print(&format!(
        "Kafka to Kafka, {} records that wait (broker on the same machine, replication 1, load {})",
        number(history as f64),
        load()
    ));
    println!(
        "  epochs at least {} ms apart, at most {} records; the engine wrote {} scores",
        options.epoch_floor_ms,
        number(options.max_records as f64),
        number(scores as f64)
    );

    let mut table = Table::new(&[
        "",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "largest ms",
        "waiting at the end",
        "commits",
        "CPU s",
        "broker CPU s",
    ]);
    for (name, run) in [
        ("copy in transactions", &paced_copy),
        ("engine: records to scores", &paced_engine),
    ] {
        table.row(name, run.figures());
    }
    let ratio = |share| number(paced_engine.latency(share) / paced_copy.latency(share));
    table.row("ratio", [ratio(0.5), ratio(0.9), ratio(0.99), ratio(1.0)]);
    table.print(&format!(
        "Latency from sending to commit at {} records/s, {} s after {} s of warm-up (load {})",
        number(f64::from(pace.rate)),
        pace.seconds,
        pace.warm_up_seconds,
        load()
    ));
    Ok(())
}

/// The input topics and their producer.
struct Feed {
    servers: String,
    /// Stands before the names of all topics and groups.
    prefix: String,
    /// Topic of each of the ground's partitions.
    topics: Vec<String>,
}

impl Feed {
    fn new(ground: &Ground, servers: &str, prefix: &str) -> Result<Self> {
        let topics: Vec<String> = ground
            .partitions
            .iter()
            .map(|p| format!("{prefix}.{}", p.topic))
            .collect();
        let feed = Self {
            servers: servers.into(),
            prefix: prefix.into(),
            topics,
        };
        let wanted: Vec<TopicSpec> = feed
            .topics
            .iter()
            .map(|topic| TopicSpec::log(topic, INPUT_PARTITIONS))
            .collect();
        ensure_topics(&feed.configuration("feed")?.config.kafka, &wanted)?;
        Ok(feed)
    }

    /// The shipped configuration on these topics, with outputs, group and transactional id of its
    /// own.
    fn configuration(&self, name: &str) -> Result<Loaded> {
        let mut loaded = configuration(&[])?;
        let kafka = &mut loaded.config.kafka;
        kafka.brokers.clone_from(&self.servers);
        let own = |what: &str| format!("{}.{name}.{what}", self.prefix);
        kafka.group_id = own("group");
        kafka.transactional_id = own("worker");
        let outputs = &mut kafka.outputs;
        let OutputTopics {
            scores,
            current_scores,
            alerts,
            dead_letters,
            epochs,
            policy_state,
            worklist,
            exposures,
            erasure_proofs,
        } = outputs;
        for topic in [
            scores,
            current_scores,
            alerts,
            dead_letters,
            epochs,
            policy_state,
            worklist,
            exposures,
            erasure_proofs,
        ] {
            *topic = own(topic);
        }
        for topic in loaded
            .config
            .sources
            .iter_mut()
            .filter_map(|source| source.topic.as_mut())
        {
            *topic = format!("{}.{topic}", self.prefix);
        }
        Ok(loaded)
    }

    /// One past the last record of each partition.
    fn ends(&self, ground: &Ground) -> Result<Vec<NextOffset>> {
        let loaded = self.configuration("feed")?;
        Ok(KafkaSource::open(
            &loaded.config.kafka,
            &loaded.inputs(&ground.project.catalog)?,
            &metrics()?,
        )?
        .ends()?
        .into_iter()
        .map(|end| end.stable)
        .collect())
    }

    fn producer(&self) -> Result<Producer> {
        Ok(Producer::connect(
            &self.configuration("feed")?.config.kafka,
            &metrics()?,
        )?)
    }

    fn send_all(&self, records: &RecordBatch) -> Result<u64> {
        let mut producer = self.producer()?;
        for record in records.iter() {
            producer.send(
                &self.topics[record.partition() as usize],
                record.key(),
                record.value(),
                record.timestamp_ms(),
            )?;
        }
        producer.flush(PATIENCE)?;
        Ok(records.len() as u64)
    }

    /// Sends at a steady pace from another thread while progress is watched from this one.
    /// `before`: what was committed already.
    fn paced(
        &self,
        records: &RecordBatch,
        pace: &Pace,
        before: u64,
        committed: impl Fn() -> Result<u64>,
    ) -> Result<Paced> {
        let all = pace.records();
        let mut producer = self.producer()?;
        let mut send = |started: Instant| {
            for index in 0..all {
                let due = pace.due(index);
                loop {
                    let early = due.saturating_sub(started.elapsed());
                    if early.is_zero() {
                        break;
                    }
                    std::thread::sleep(early.max(LOOK_EVERY));
                }
                let record = records.record(index);
                let topic = &self.topics[record.partition() as usize];
                producer.send(topic, record.key(), record.value(), SystemClock.wall_ms())?;
            }
            producer.flush(PATIENCE)?;
            anyhow::Ok(())
        };
        let broker = broker_cpu();
        let (seen, span) = timed(|| {
            let started = Instant::now();
            std::thread::scope(|scope| {
                let sender = scope.spawn(|| send(started));
                let seen = watch(started, before, before + all as u64, &committed);
                match sender.join() {
                    Ok(sent) => sent.and(seen),
                    Err(_) => bail!("the sender panicked"),
                }
            })
        });
        let seen = seen?;
        let sent_at = pace.due(all);
        let waiting = all as u64
            - seen
                .iter()
                .take_while(|(at, _)| *at <= sent_at)
                .last()
                .map_or(0, |(_, taken)| taken - before);
        let mut latencies_ms = Vec::with_capacity(all);
        let mut index = 0;
        for (at, taken) in &seen {
            let upto = ((taken - before) as usize).min(all);
            for record in index.max(pace.rate as usize * pace.warm_up_seconds as usize)..upto {
                latencies_ms.push(at.saturating_sub(pace.due(record)).as_secs_f64() * 1e3);
            }
            index = index.max(upto);
        }
        latencies_ms.sort_by(f64::total_cmp);
        Ok(Paced {
            latencies_ms,
            waiting,
            commits: seen.len(),
            span,
            broker: broker_cpu()
                .zip(broker)
                .map(|(after, before)| after.saturating_sub(before)),
        })
    }
}

fn metrics() -> Result<Arc<KafkaMetrics>> {
    Ok(KafkaMetrics::register(&Registry::new())?)
}

/// CPU time of the tests' own broker so far.
fn broker_cpu() -> Option<Duration> {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kafka-{}", std::process::id()));
    let process = std::fs::read_to_string(home.join("1/pid")).ok()?;
    cpu_of(process.trim())
}

/// Every change of the number of committed records, and when it was seen, until `all` are
/// committed.
fn watch(
    started: Instant,
    before: u64,
    all: u64,
    committed: &impl Fn() -> Result<u64>,
) -> Result<Vec<(Duration, u64)>> {
    let mut seen: Vec<(Duration, u64)> = Vec::new();
    let mut last = before;
    let mut moved = Instant::now();
    while last < all {
        let now = committed()?;
        if now > last {
            last = now;
            moved = Instant::now();
            seen.push((started.elapsed(), now));
        } else if moved.elapsed() > PATIENCE {
            bail!(
                "no commit within {} s: {last} of {all} records are committed",
                PATIENCE.as_secs()
            );
        } else {
            std::thread::sleep(LOOK_EVERY);
        }
    }
    Ok(seen)
}

/// A run over records that waited.
struct CaughtUp {
    /// Between the first and the last commit seen.
    records: u64,
    wall: Duration,
    commits: usize,
    cpu: Duration,
    broker: Option<Duration>,
}

impl CaughtUp {
    fn measure(all: u64, committed: impl Fn() -> Result<u64>) -> Result<Self> {
        let broker = broker_cpu();
        let (seen, Span { cpu, .. }) = timed(|| watch(Instant::now(), 0, all, &committed));
        let seen = seen?;
        let (first, last) = seen
            .first()
            .zip(seen.last())
            .context("there were no records")?;
        Ok(Self {
            records: last.1 - first.1,
            wall: last.0.saturating_sub(first.0),
            commits: seen.len(),
            cpu,
            broker: broker_cpu()
                .zip(broker)
                .map(|(after, before)| after.saturating_sub(before)),
        })
    }
    /// Records a second.
    fn rate(&self) -> f64 {
        self.records as f64 / self.wall.as_secs_f64().max(1e-9)
    }
    fn figures(&self) -> Vec<String> {
        let seconds = |time: Duration| number(time.as_secs_f64());
        let broker = self.broker.map_or("–".into(), seconds);
        vec![
            number(self.rate()),
            seconds(self.wall),
            seconds(self.cpu),
            broker,
            self.commits.to_string(),
        ]
    }
}

/// A run at a steady pace.
struct Paced {
    /// Latencies, sorted.
    latencies_ms: Vec<f64>,
    /// Records not committed when the last was due: many if the pace was too much.
    waiting: u64,
    commits: usize,
    span: Span,
    broker: Option<Duration>,
}

impl Paced {
    fn latency(&self, share: f64) -> f64 {
        percentile(&self.latencies_ms, share)
    }
    fn figures(&self) -> Vec<String> {
        let shares = [0.5, 0.9, 0.99, 1.0].map(|share| number(self.latency(share)));
        let seconds = |time: Duration| number(time.as_secs_f64());
        let counts = [self.waiting as f64, self.commits as f64].map(number);
        shares
            .into_iter()
            .chain(counts)
            .chain([
                seconds(self.span.cpu),
                self.broker.map_or("–".into(), seconds),
            ])
            .collect()
    }
}

/// The engine as `leadpulse run` starts it.
struct Deployed {
    deployment: Deployment,
    stop: Arc<AtomicBool>,
}

impl Deployed {
    fn start(ground: &Ground, feed: &Feed, name: &str, clock: ClockMode) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut loaded = feed.configuration(name)?;
        loaded.config.engine.clock = clock;
        let assembly = Assembly {
            loaded: &loaded,
            project: &ground.project,
            scorer: ground.scorer.clone(),
            history: None,
            registry: None,
            origin: VersionOrigin::Given,
        };
        let deployment = assembly.start(Cluster::Real, Until::Stopped, None, stop.clone())?;
        Ok(Self { deployment, stop })
    }
    fn committed(&self) -> Result<u64> {
        ensure!(
            !self.deployment.is_finished(),
            "the engine ended by itself; see the log"
        );
        Ok(self.deployment.read_model.status().records)
    }
    fn catch_up(&self, all: u64) -> Result<CaughtUp> {
        CaughtUp::measure(all, || self.committed())
    }
    /// Stops the engine. Returns the number of scores written.
    fn stop(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.deployment.join()?.scores)
    }
}

/// The records that a copy covers.
enum Stretch {
    /// From the beginning to these offsets.
    To(Vec<NextOffset>),
    /// Everything from now on, until stopped.
    FromNow,
}

/// Copies records to the scores topic, keys and values as they are; an epoch ends `epoch_floor_ms`
/// after its first record, or full.
struct Copier {
    source: KafkaSource,
    sink: KafkaSink,
    options: EngineOptions,
    positions: Vec<NextOffset>,
    ends: Option<Vec<NextOffset>>,
    copied: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

/// A copier on a thread of its own.
struct Copying {
    thread: JoinHandle<Result<()>>,
    copied: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Copier {
    fn start(ground: &Ground, feed: &Feed, name: &str, stretch: Stretch) -> Result<Copying> {
        let loaded = feed.configuration(name)?;
        let kafka = &loaded.config.kafka;
        ensure_topics(kafka, &output_topics(kafka))?;
        let metrics = metrics()?;
        let mut source =
            KafkaSource::open(kafka, &loaded.inputs(&ground.project.catalog)?, &metrics)?;
        let mut sink = KafkaSink::new(kafka, source.partitions(), &metrics)?;
        ensure!(
            sink.take_over()?.is_none(),
            "a copy of this name ran before"
        );
        let (positions, ends) = match stretch {
            Stretch::To(ends) => (source.starts()?, Some(ends)),
            Stretch::FromNow => (
                source.ends()?.into_iter().map(|end| end.stable).collect(),
                None,
            ),
        };
        source.seek(&positions)?;
        let (copied, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let copier = Self {
            source,
            sink,
            options: loaded.config.engine,
            positions,
            ends,
            copied: copied.clone(),
            stop: stop.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("copy".into())
            .spawn(move || copier.run())?;
        Ok(Copying {
            thread,
            copied,
            stop,
        })
    }

    fn run(mut self) -> Result<()> {
        let mut batch = RecordBatch::default();
        for number in 1.. {
            while batch.is_empty() {
                if self.stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                if self.is_done() {
                    std::thread::sleep(LOOK_EVERY);
                } else {
                    batch.clear();
                    self.gather(&mut batch)?;
                }
            }
            let mut outputs = Vec::with_capacity(batch.len());
            for record in batch.iter() {
                self.positions[record.partition() as usize] = NextOffset(record.offset() + 1);
                outputs.push(OutputRecord {
                    output: Output::Scores,
                    key: record.key().map(<[u8]>::to_vec),
                    value: record.value().map(<[u8]>::to_vec),
                    headers: Vec::new(),
                    timestamp_ms: record.timestamp_ms(),
                });
            }
            let epoch = Arc::new(SealedEpoch {
                number,
                nonce: Nonce(number),
                as_of_ms: 0,
                positions: self.positions.clone(),
                outputs,
            });
            self.sink.commit(&epoch)?;
            self.copied.fetch_add(batch.len() as u64, Ordering::Relaxed);
            batch.clear();
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.ends
            .as_ref()
            .is_some_and(|ends| self.positions.iter().zip(ends).all(|(at, end)| at >= end))
    }

    /// Polls until the epoch is over; beyond the ends nothing is taken.
    fn gather(&mut self, batch: &mut RecordBatch) -> Result<()> {
        let EngineOptions {
            max_records,
            max_bytes,
            epoch_floor_ms,
            ..
        } = self.options;
        let length = Duration::from_millis(epoch_floor_ms);
        let mut cut_at: Option<Instant> = None;
        loop {
            let limit = PollLimit {
                records: max_records.saturating_sub(batch.len()),
                bytes: max_bytes.saturating_sub(batch.bytes()),
            };
            let wait = cut_at.map_or(IDLE_WAIT, |at| at.saturating_duration_since(Instant::now()));
            let before = batch.len();
            self.source.poll(batch, limit, wait)?;
            if let Some(ends) = &self.ends {
                batch.retain(|record| record.offset() < ends[record.partition() as usize].0);
            }
            let cut_at = *cut_at.get_or_insert_with(|| Instant::now() + length);
            let is_full = batch.len() >= max_records || batch.bytes() >= max_bytes;
            if batch.is_empty()
                || is_full
                || Instant::now() >= cut_at
                || (self.ends.is_some() && batch.len() == before)
            {
                return Ok(());
            }
        }
    }
}

impl Copying {
    fn committed(&self) -> Result<u64> {
        ensure!(!self.thread.is_finished(), "the copy ended by itself");
        Ok(self.copied.load(Ordering::Relaxed))
    }
    fn catch_up(self, all: u64) -> Result<CaughtUp> {
        let run = CaughtUp::measure(all, || self.committed());
        self.stop()?; // tells why, if it ended by itself
        run
    }
    fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow!("the copy panicked"))?
    }
}
