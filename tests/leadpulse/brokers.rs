//! Three brokers fail one at a time under load: killed, stopped, frozen, restarted. The process
//! lives on, and commits again soon after the cluster has leaders again.
//!
//! Runs when `LEADPULSE_FAULTS=full`: it takes ten minutes. `LEADPULSE_BROKER_FAULTS=pause,kill`
//! leaves the other kinds out.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::metadata::Metadata;

use super::dataset::alone;
use super::exact::consumer;
use super::kills::{kills_wanted, survives_kills_under_load, time_for};
use super::load::Load;
use super::process::Process;
use crate::harness::{free_port_base, repository};

const BROKERS: u16 = 3;
/// Limit of the wait for leaders after a fault, and of the wait for a commit after that. A fault
/// beyond the limit has stopped the deployment.
const LIMIT: Duration = Duration::from_secs(90);
/// Duration of the load. Twelve faults take less, unless they stop the deployment.
const LOAD: Duration = Duration::from_secs(1200);
/// The promise: longest time from new leaders and coordinators to a commit.
const PROMISED: Duration = Duration::from_secs(30);
/// Limit of one request for metadata.
const ASK_LIMIT: Duration = Duration::from_secs(2);

/// A failure of one broker.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// SIGKILL.
    Kill,
    /// A clean shutdown.
    Stop,
    /// SIGSTOP: connections stay open.
    Pause,
    /// A clean shutdown, and a start at once.
    Restart,
}

impl Fault {
    /// Arguments of `kafka.sh` for the fault and for its end.
    fn verbs(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Kill => (&["kill"], &["start"]),
            Self::Stop => (&["stop"], &["start"]),
            Self::Pause => (&["pause"], &["resume"]),
            Self::Restart => (&["stop", "start"], &[]),
        }
    }
}

/// A cluster of this test's own.
struct Cluster {
    home: PathBuf,
    base: u16,
}

impl Cluster {
    /// Replication 3, two replicas in sync.
    fn up(name: &str) -> Self {
        let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("{name}-{}", std::process::id()));
        let cluster = Self {
            home,
            base: free_port_base(),
        };
        cluster.kafka_sh(&["up", &BROKERS.to_string()]);
        cluster
    }

    fn kafka_sh(&self, args: &[&str]) {
        let repository = repository();
        let mut command = Command::new(repository.join("deploy/kafka/kafka.sh"));
        command
            .args(args)
            .env("LEADPULSE_KAFKA_HOME", &self.home)
            .env("LEADPULSE_KAFKA_LIBS", repository.join(".kafka/libs"));
        command
            .env("PORT", self.base.to_string())
            .env("OWNER_PID", std::process::id().to_string());
        assert!(
            command.stdout(Stdio::null()).status().unwrap().success(),
            "kafka.sh {args:?}"
        );
    }

    fn server(&self, node: u16) -> String {
        format!("127.0.0.1:{}", self.base + 10 * (node - 1))
    }

    fn servers(&self, nodes: impl IntoIterator<Item = u16>) -> String {
        nodes
            .into_iter()
            .map(|node| self.server(node))
            .collect::<Vec<_>>()
            .join(",")
    }

    /// Waits until a node other than `without` describes the cluster as wanted. `false` when it
    /// never does.
    fn becomes(&self, without: Option<u16>, wanted: impl Fn(&Metadata) -> bool) -> bool {
        let others = self.servers((1..=BROKERS).filter(|node| Some(*node) != without));
        let started = Instant::now();
        while started.elapsed() < LIMIT {
            // A new client for each question: a client could remember an old answer.
            if consumer(&others, "asking")
                .fetch_metadata(None, ASK_LIMIT)
                .is_ok_and(|metadata| wanted(&metadata))
            {
                return true;
            }
        }
        false
    }

    /// Waits until every partition has a leader other than the failed node.
    fn has_leaders(&self, without: Option<u16>) -> bool {
        let leads =
            |leader: i32| leader > 0 && without.is_none_or(|node| leader != i32::from(node));
        self.becomes(without, |metadata| {
            metadata
                .topics()
                .iter()
                .flat_map(|topic| topic.partitions())
                .all(|partition| leads(partition.leader()))
        })
    }

    /// Waits until every replica is in sync.
    fn is_whole(&self) -> bool {
        self.becomes(None, |metadata| {
            let mut partitions = metadata
                .topics()
                .iter()
                .flat_map(|topic| topic.partitions());
            partitions.all(|partition| {
                partition.leader() > 0 && partition.isr().len() == partition.replicas().len()
            })
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kafka_sh(&["down"]);
    }
}

/// The consequences of one fault.
struct Row {
    fault: Fault,
    node: u16,
    /// Time from the fault to leaders of all partitions.
    leaders: Option<Duration>,
    /// Time from the leaders to the next commit.
    commit: Option<Duration>,
    alive: bool,
}

impl Row {
    fn is_as_promised(&self) -> bool {
        self.alive && self.commit.is_some_and(|commit| commit <= PROMISED)
    }

    fn print(&self) {
        let seconds = |time: Option<Duration>| {
            time.map_or("never".into(), |time| format!("{:.1}", time.as_secs_f64()))
        };
        let Self {
            fault,
            node,
            leaders,
            commit,
            alive,
        } = self;
        println!(
            "| {fault:?} {node} | {} | {} | {} |",
            seconds(*leaders),
            seconds(*commit),
            if *alive { "yes" } else { "no" }
        );
    }
}

/// Applies one fault, measures, and makes the cluster whole again.
fn suffer(
    cluster: &Cluster,
    load: &mut Load,
    process: &mut Process,
    fault: Fault,
    node: u16,
) -> Row {
    let (begin, end) = fault.verbs();
    let without = (!end.is_empty()).then_some(node);
    let started = Instant::now();
    begin
        .iter()
        .for_each(|verb| cluster.kafka_sh(&[verb, &node.to_string()]));
    let leaders = cluster.has_leaders(without).then(|| started.elapsed());
    let (before, again) = (load.commits.count(), Instant::now());
    // One commit may have been decided before the fault.
    while load.commits.count() < before + 2 && again.elapsed() < LIMIT && process.runs_on() {}
    let commit = (load.commits.count() >= before + 2).then(|| again.elapsed());
    let alive = process.runs_on();
    end.iter()
        .for_each(|verb| cluster.kafka_sh(&[verb, &node.to_string()]));
    assert!(
        cluster.is_whole(),
        "the cluster does not recover from {fault:?} of node {node}"
    );
    Row {
        fault,
        node,
        leaders,
        commit,
        alive,
    }
}

/// All kinds of fault, or those that are named.
fn faults_wanted() -> Vec<Fault> {
    let named = std::env::var("LEADPULSE_BROKER_FAULTS")
        .unwrap_or_default()
        .to_lowercase();
    let is_named = |fault: &Fault| {
        named
            .split(',')
            .any(|name| name == format!("{fault:?}").to_lowercase())
    };
    let all = [Fault::Kill, Fault::Stop, Fault::Pause, Fault::Restart];
    if named.is_empty() {
        all.to_vec()
    } else {
        all.into_iter().filter(is_named).collect()
    }
}

fn is_wanted() -> bool {
    std::env::var("LEADPULSE_FAULTS").is_ok_and(|value| value == "full")
}

#[test]
fn a_process_outlives_each_of_three_brokers() {
    let _alone = alone();
    if !is_wanted() {
        return;
    }
    let cluster = Cluster::up("three-brokers");
    let mut load = Load::of_all(&cluster.servers(1..=BROKERS), "brokers", LOAD);
    let mut process = load.scenario.run(&[]);
    assert!(
        load.commits.more(5, &mut [&mut process]),
        "{}",
        process.last_lines(5)
    );
    println!(
        "| fault, node | leaders after s | then a commit after s | alive |\n|---|---|---|---|"
    );
    let mut rows = Vec::new();
    for fault in faults_wanted() {
        for node in 1..=BROKERS {
            let row = suffer(&cluster, &mut load, &mut process, fault, node);
            row.print();
            if !row.alive || row.commit.is_none() {
                println!("{}", process.last_lines(5));
                process.kill();
                process = load.scenario.run(&[]);
            }
            rows.push(row);
            assert!(load.lasts(), "after {} faults the load is over", rows.len());
            assert!(
                load.commits.more(2, &mut [&mut process]),
                "{}",
                process.last_lines(5)
            );
        }
    }
    process.stop().done();
    load.finish();
    let broken = rows.iter().filter(|row| !row.is_as_promised()).count();
    assert_eq!(broken, 0, "of {} faults; the table is above", rows.len());
}

#[test]
fn a_process_under_load_on_three_brokers_survives_kills_at_any_time() {
    let _alone = alone();
    let (true, Some(kills)) = (is_wanted(), kills_wanted()) else {
        return;
    };
    let cluster = Cluster::up("three-brokers-kills");
    let load = Load::of_all(
        &cluster.servers(1..=BROKERS),
        "killed-on-three",
        time_for(kills),
    );
    survives_kills_under_load(load, kills, rand::random());
}
