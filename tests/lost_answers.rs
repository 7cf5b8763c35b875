//! Answers that do not arrive, connections that end, networks that stand still or are slow, at each
//! request of a transaction: every epoch is committed once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use leadpulse_engine::ports::{SealedEpoch, Sink};

use crate::behind_proxy::{Limits, PATIENCE, Rig, SHORT, commit, run, take_over};
use crate::ports_on_kafka::epoch;
use crate::proxy::{Api, ClientSees, Fault, Seen, proxy};

/// The requests that a take-over and a transaction consist of.
const REQUESTS: [Api; 8] = [
    Api::FIND_COORDINATOR,
    Api::INIT_PRODUCER_ID,
    Api::OFFSET_FETCH,
    Api::ADD_PARTITIONS_TO_TXN,
    Api::PRODUCE,
    Api::ADD_OFFSETS_TO_TXN,
    Api::TXN_OFFSET_COMMIT,
    Api::END_TXN,
];
const EPOCHS: u64 = 4;

/// One fault at one request.
#[derive(Clone, Copy)]
struct Case {
    fault: Fault,
    at: Api,
    /// Requests of this kind before the fault. Request 0 is part of the take-over, if the take-over
    /// has any.
    after: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, at, after } = self;
        write!(f, "{fault:?} at {at:?} after {after}")
    }
}

fn all_cases() -> Vec<Case> {
    let faults = [
        Fault::FreezeFor(SHORT * 3),
        Fault::FreezeFor(SHORT / 2),
        Fault::Delay(SHORT * 2),
        Fault::SwallowAnswer(ClientSees::Silence),
        Fault::SwallowAnswer(ClientSees::Reset),
        Fault::Cut,
    ];
    let at = |fault| {
        REQUESTS
            .into_iter()
            .flat_map(move |at| [0, 2].map(|after| Case { fault, at, after }))
    };
    faults.into_iter().flat_map(at).collect()
}

/// Each fault where the outcome is in doubt, and one while taking over.
fn selection(case: &Case) -> bool {
    let at_commit = case.at == Api::END_TXN && case.after == 2;
    let at_take_over = case.at == Api::INIT_PRODUCER_ID && case.after == 0;
    at_commit || (at_take_over && case.fault == Fault::SwallowAnswer(ClientSees::Reset))
}

fn check(case: Case) -> Result<String, String> {
    let rig = Rig::new("lost", Limits::Short);
    let mut sink = rig.behind.sink();
    rig.client.fault_after(case.after, case.at, case.fault);
    take_over(&mut sink)?;
    for number in 1..=EPOCHS {
        commit(&mut sink, number)?;
        rig.judge.stands_at(&rig.direct, number)?;
    }
    drop(sink);
    let applied = rig
        .client
        .seen()
        .contains(&Seen::Faulted(case.at, case.fault));
    rig.is_exact_and_goes_on(EPOCHS)?;
    Ok(if applied {
        "exact".into()
    } else {
        "exact; there was no such request".into()
    })
}

#[test]
fn lost_answers_and_frozen_networks_neither_double_nor_lose_an_epoch() {
    run(all_cases(), selection, check);
}

/// A link on which an epoch takes longer than the limit of a step, while it makes progress all the
/// time.
#[test]
fn a_slow_link_carries_an_epoch_once() {
    const BYTES: usize = 600_000;
    if proxy().is_none() {
        return;
    }
    let rig = Rig::new("slow", Limits::Short);
    // Incompressible, and less than a step's limit for each of its batches.
    let mut noise = 1_u64;
    let mut record = || -> String {
        let mut next = || {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            char::from(b'!' + (noise >> 33) as u8 % 90)
        };
        (0..BYTES / 60).map(|_| next()).collect()
    };
    let records: Vec<String> = (0..60).map(|_| record()).collect();
    let mut sink = rig.behind.sink();
    take_over(&mut sink).unwrap();
    commit(&mut sink, 1).unwrap();
    let values: Vec<&str> = records.iter().map(String::as_str).collect();
    let large: Arc<SealedEpoch> = epoch(2, &[20], &values);
    rig.client
        .set_bytes_per_second(Some(BYTES as u64 * 9 / 10 / (3 * SHORT.as_secs())));
    let committing = std::thread::spawn(move || {
        let outcome = sink.commit(&large);
        (sink, outcome)
    });
    let started = Instant::now();
    let sent_again = || {
        rig.client
            .seen()
            .iter()
            .filter(|seen| **seen == Seen::Answer(Api::INIT_PRODUCER_ID))
            .count()
    };
    while !committing.is_finished() && sent_again() < 5 {
        assert!(started.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(50));
    }
    let producers = sent_again();
    rig.client.set_bytes_per_second(None);
    let (mut sink, outcome) = committing.join().unwrap();
    outcome.unwrap();
    assert!(
        producers < 5,
        "{producers} producers sent the same bytes, and none was left time to"
    );
    commit(&mut sink, 3).unwrap();
}
