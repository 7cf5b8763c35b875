//! The ports of a follower: outputs are read on as they are committed, and the owner is seen by
//! its transactions and its signs of life.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use leadpulse_engine::ports::{Heartbeats, LogStep, Output, OutputLog, OwnerSight, ReadFrom, Sink};
use leadpulse_kafka::{CommitPoint, Failpoint, KafkaHeartbeats, KafkaOutputLog};

use crate::ports_on_kafka::{Deployment, PATIENCE, deployment, epoch};

/// Everything that a follower has read.
struct Reader {
    log: KafkaOutputLog,
    epochs: Vec<String>,
    scores: Vec<String>,
}

impl Reader {
    fn new(on: &Deployment) -> Self {
        let mut reader = Self {
            log: KafkaOutputLog::new(&on.options, &on.metrics),
            epochs: Vec::new(),
            scores: Vec::new(),
        };
        reader.log.rewind(0).unwrap();
        reader.read();
        reader
    }

    fn read(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.log.next(Duration::from_millis(100)).unwrap() {
                LogStep::Record(value) => self.epochs.push(String::from_utf8(value).unwrap()),
                LogStep::Waiting => assert!(Instant::now() < deadline, "no end came"),
                LogStep::End => break,
            }
        }
        let scores = &mut self.scores;
        let mut each = |record: leadpulse_engine::ports::OutputRecord| {
            scores.push(String::from_utf8(record.value.unwrap()).unwrap());
            Ok(())
        };
        self.log
            .read_on(Output::Scores, ReadFrom::Start, &mut each)
            .unwrap();
    }

    /// Reads on until so many epochs and as many scores came.
    fn comes_to(&mut self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        while self.epochs.len() < count || self.scores.len() < count {
            assert!(
                Instant::now() < deadline,
                "{:?} {:?}",
                self.epochs,
                self.scores
            );
            self.log.go_on().unwrap();
            self.read();
        }
        let expected: Vec<String> = (1..=count).map(|n| format!("epoch {n}")).collect();
        assert_eq!(self.epochs, expected);
        let expected: Vec<String> = (1..=count).map(|n| format!("score {n}")).collect();
        assert_eq!(self.scores, expected);
    }
}

fn commit(sink: &mut dyn Sink, number: u64) {
    let score = format!("score {number}");
    let sealed = epoch(number, &[number as i64], &[score.as_str()]);
    sink.commit(&sealed).unwrap();
}

fn sees(heartbeats: &mut KafkaHeartbeats, what: &str, holds: impl Fn(&OwnerSight) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let sight = heartbeats.look().unwrap();
        if holds(&sight) {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: {sight:?}");
    }
}

#[test]
fn outputs_are_read_on_and_open_transactions_are_not() {
    let Some(on) = deployment("read-on", &[1]) else {
        return;
    };
    let ((to_test, reached), (release, released)) = (bounded(1), bounded::<()>(1));
    let failpoint: Failpoint = Arc::new(move |point, epoch| {
        if (point, epoch) == (CommitPoint::BeforeCommit, 4) {
            to_test.send(()).unwrap();
            let _ = released.recv(); // an error once the test has ended
        }
        false
    });
    let mut sink = on.sink().with_failpoint(failpoint);
    sink.take_over().unwrap();
    let mut reader = Reader::new(&on);
    reader.comes_to(0);
    for number in 1..=3 {
        commit(&mut sink, number);
        reader.comes_to(number as usize);
    }
    let committing = std::thread::spawn(move || {
        commit(&mut sink, 4);
        sink
    });
    // Everything of epoch 4 is written, and nothing of it is committed.
    reached.recv_timeout(PATIENCE).unwrap();
    for _ in 0..5 {
        reader.log.go_on().unwrap();
        reader.read();
        assert_eq!((reader.epochs.len(), reader.scores.len()), (3, 3));
    }
    release.send(()).unwrap();
    committing.join().unwrap();
    reader.comes_to(4);
}

#[test]
fn an_owner_is_seen_by_its_transactions_and_signs() {
    let Some(on) = deployment("signs", &[1]) else {
        return;
    };
    let heartbeats = || {
        let source = on.source();
        let partitions = leadpulse_engine::ports::Source::partitions(&source);
        let every = Duration::from_millis(50);
        KafkaHeartbeats::new(&on.options, partitions, every, &on.metrics).unwrap()
    };
    let (mut follower, mut owner) = (heartbeats(), heartbeats());
    assert_eq!(follower.look().unwrap(), OwnerSight::default());
    let mut sink = on.sink();
    sink.take_over().unwrap();
    let token = sink.owner().to_owned();
    let committed = |sight: &OwnerSight| {
        let mark = sight.committed.clone()?;
        (mark.owner.as_deref() == Some(&*token)).then_some(mark.epoch)
    };
    sees(&mut follower, "the token", |it| committed(it) == Some(0));
    owner.begin(&token).unwrap();
    let count = |sight: &OwnerSight| {
        let sign = sight.sign.clone();
        sign.filter(|sign| sign.owner == token && !sign.left)
            .map_or(0, |sign| sign.count)
    };
    for more in [1, 3, 6] {
        sees(&mut follower, "signs", |it| count(it) >= more);
    }
    commit(&mut sink, 1);
    sees(&mut follower, "epoch 1", |it| committed(it) == Some(1));
    // Signs go on beside transactions, and take nothing from them.
    for more in [10, 12] {
        sees(&mut follower, "signs", |it| count(it) >= more);
    }
    owner.leave();
    let last = follower.look().unwrap();
    assert!(last.owner_left(), "{last:?}");
    assert_eq!(on.taken_over().map(|epoch| epoch.number), Some(1));
    assert!(
        !follower.look().unwrap().owner_left(),
        "another one owns now"
    );
}
