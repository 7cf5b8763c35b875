//! Two processes of one deployment: one owns the outputs, the other follows and takes over when
//! the first is killed, frozen or told to stop, under load. The time to its first commit is
//! printed, not judged.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use leadpulse_engine::ports::Output;
use leadpulse_engine::{OutputEncoders, ScriptRecord};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};

use super::dataset::alone;
use super::exact::consumer;
use super::load::Load;
use super::process::{PATIENCE, Process, arg};
use super::scenario::Scenario;
use crate::harness::free_port_base;

/// Kills without `LEADPULSE_STANDBY_KILLS`.
const KILLS: usize = 2;
/// Longest time that an owner lives after its follower is current.
const LONGEST_REIGN: Duration = Duration::from_secs(2);

/// The owners of the committed epochs, as they come.
struct Owners {
    consumer: BaseConsumer,
    encoders: OutputEncoders,
}

impl Owners {
    fn follow(scenario: &Scenario) -> Self {
        let consumer = consumer(&scenario.options.brokers, "owners");
        let mut assigned = TopicPartitionList::new();
        let topic = scenario.options.outputs.name(Output::Epochs);
        assigned
            .add_partition_offset(topic, 0, Offset::Beginning)
            .unwrap();
        consumer.assign(&assigned).unwrap();
        Self {
            consumer,
            encoders: scenario.encoders().0,
        }
    }

    /// The owner of the next epoch within a moment.
    fn next(&self, wait: Duration) -> Option<String> {
        let record = self.consumer.poll(wait)?.ok()?;
        let entries = self.encoders.read_script(record.payload().unwrap());
        let mut entries = entries.unwrap().into_iter();
        entries.find_map(|entry| match entry {
            ScriptRecord::Epoch(record) => Some(record.owner),
            ScriptRecord::Layout(_) => None,
        })
    }

    /// The owner of the newest epoch, once there is one.
    fn newest(&self, process: &mut Process) -> String {
        let started = Instant::now();
        let mut newest = None;
        loop {
            let next = self.next(Duration::from_millis(200));
            let is_last = next.is_none() || started.elapsed() > Duration::from_secs(1);
            newest = next.or(newest);
            match newest {
                Some(owner) if is_last => return owner,
                _ => {}
            }
            assert!(process.runs_on(), "{}", process.last_lines(5));
            assert!(started.elapsed() < PATIENCE, "no epoch after {PATIENCE:?}");
        }
    }

    /// Waits for an epoch of another owner. Returns the owner and the time since `from`.
    fn other_than(&self, owner: &str, from: Instant, process: &mut Process) -> (String, Duration) {
        loop {
            if let Some(found) = self.next(Duration::from_millis(5)) {
                if found != owner {
                    return (found, from.elapsed());
                }
            } else if from.elapsed() > Duration::from_secs(20) {
                assert!(process.runs_on(), "{}", process.last_lines(5));
                assert!(from.elapsed() < PATIENCE, "nobody took over");
            }
        }
    }
}

/// A process with its HTTP.
pub struct Peer {
    pub process: Process,
    address: String,
}

impl Peer {
    pub fn start(scenario: &Scenario) -> Self {
        let mut scenario = scenario.again();
        let address = format!("127.0.0.1:{}", free_port_base());
        scenario.set("SERVER__LISTEN", &address);
        let process = scenario.start("run", &["--model", arg(&scenario.dataset.bundle)]);
        Self { process, address }
    }

    /// Status and body of a path; `None` while nobody listens.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let code = answer.split(' ').nth(1)?.parse().ok()?;
        Some((code, answer))
    }

    /// Waits until the process is ready in a role: `"status":"…"`.
    fn is_ready_as(&mut self, status: &str) {
        let wanted = format!("\"status\":\"{status}\"");
        self.answers("/readyz", |code, body| {
            code == 200 && body.contains(&wanted)
        });
    }

    /// Waits until a path is answered as wanted. Returns the body.
    #[track_caller]
    pub fn answers(&mut self, path: &str, is_wanted: impl Fn(u16, &str) -> bool) -> String {
        let started = Instant::now();
        let mut last = None;
        loop {
            if let Some((code, body)) = self.get(path) {
                if is_wanted(code, &body) {
                    return body;
                }
                last = Some(body);
            }
            assert!(self.process.runs_on(), "{}", self.process.last_lines(5));
            assert!(
                started.elapsed() < PATIENCE,
                "not as wanted after {PATIENCE:?}: {last:?}\n{}",
                self.process.last_lines(5)
            );
        }
    }
}

/// The value of a metric without labels.
pub fn metric_of(text: &str, name: &str) -> Option<f64> {
    let mut lines = text.lines();
    let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    found.trim().parse().ok()
}

/// A deployment under load whose processes follow before they own.
fn with_standby(name: &str, changes: usize) -> Option<(Load, Owners)> {
    let over = Duration::from_secs(60) + Duration::from_secs(15) * changes as u32;
    let mut load = Load::of_the_last_third(name, over)?;
    load.scenario.set("STANDBY__ENABLED", "true");
    let owners = Owners::follow(&load.scenario);
    Some((load, owners))
}

fn print_times(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    println!(
        "{what}: from the change to the first commit of the follower, {} times: p50 {:?}, p99 {:?}, max {:?}",
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
}

fn kills_wanted() -> usize {
    let given = std::env::var("LEADPULSE_STANDBY_KILLS").ok();
    given.map_or(KILLS, |number| {
        number.parse().expect("LEADPULSE_STANDBY_KILLS is a number")
    })
}

#[test]
fn a_follower_takes_over_from_killed_owners_under_load() {
    let _alone = alone();
    let (kills, seed) = (kills_wanted(), rand::random());
    println!("seed {seed}");
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let Some((mut load, owners)) = with_standby("standby-kills", kills) else {
        return;
    };
    let mut owner = Peer::start(&load.scenario);
    owner.is_ready_as("ready");
    let mut times = Vec::new();
    for kill in 1..=kills {
        let mut follower = Peer::start(&load.scenario);
        follower.is_ready_as("following");
        owner
            .process
            .runs_for(LONGEST_REIGN.mul_f64(generator.random()));
        let token = owners.newest(&mut owner.process);
        let from = Instant::now();
        owner.process.kill();
        let (_, time) = owners.other_than(&token, from, &mut follower.process);
        println!("kill {kill}: {time:?}");
        times.push(time);
        follower.is_ready_as("ready");
        owner = follower;
    }
    assert!(load.lasts(), "the load ended before the kills did");
    let ended = owner.process.stop().done();
    assert!(ended.err.contains("the owner is silent"), "{}", ended.err);
    print_times("kill -9", times);
    load.finish();
}

#[test]
fn a_frozen_owner_is_replaced_and_a_stopped_one_hands_over() {
    let _alone = alone();
    let Some((mut load, owners)) = with_standby("standby-frozen", 3) else {
        return;
    };
    let mut first = Peer::start(&load.scenario);
    first.is_ready_as("ready");
    let mut second = Peer::start(&load.scenario);
    second.is_ready_as("following");
    let token = owners.newest(&mut first.process);
    let from = Instant::now();
    first.process.pause();
    let (token, time) = owners.other_than(&token, from, &mut second.process);
    println!("frozen: {time:?}");
    first.process.resume();
    let ended = first
        .process
        .wait()
        .failed(1, &["another process took over"]);
    assert!(!ended.out.contains("panicked"), "{}", ended.out);

    // Started again by its supervisor, it follows.
    let mut third = Peer::start(&load.scenario);
    third.is_ready_as("following");
    let metrics = third.get("/metrics").unwrap().1;
    for line in [
        "leadpulse_role{role=\"follower\"} 1",
        "leadpulse_role{role=\"owner\"} 0",
        "leadpulse_takeovers_total 0",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    let status = third.get("/api/v1/status").unwrap().1;
    assert!(status.contains("\"phase\":\"following\""), "{status}");
    let scores = third.get("/api/v1/scores?limit=1&view=full").unwrap().1;
    assert!(scores.contains("\"probability\""), "{scores}");
    second.is_ready_as("ready");

    let from = Instant::now();
    second.process.stop().done();
    let (_, time) = owners.other_than(&token, from, &mut third.process);
    println!("stopped: {time:?} from the signal");
    third.is_ready_as("ready");
    let metrics = third.get("/metrics").unwrap().1;
    assert!(metrics.contains("leadpulse_takeovers_total 1"), "{metrics}");
    assert!(load.lasts(), "the load ended before the changes did");
    let ended = third.process.stop().done();
    assert!(ended.err.contains("the owner has left"), "{}", ended.err);
    load.finish();
}
