//! Requests of one transaction that reach the broker in the middle of the next: nothing is doubled,
//! nothing is lost, positions never go back.
//!
//! A request is delayed in the network, and the client repeats it on another connection and goes
//! on. Then the first copy arrives. The copy carries the producer epoch of the transaction that is
//! open by then, so the broker takes it for part of that one
//! ([KIP-890](https://cwiki.apache.org/confluence/display/KAFKA/KIP-890%3A+Transactions+Server-Side+Defense);
//! librdkafka has no defence: [issue
//! 5423](https://github.com/confluentinc/librdkafka/issues/5423)). Only a new producer epoch fences
//! the late copy.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::behind_proxy::{Limits, Rig, commit, run, take_over};
use crate::proxy::{Api, ClientSees, Fault, Seen};

/// Random cases with `LEADPULSE_FAULTS=full`, and without.
const RANDOM_CASES: usize = 100;
const FEW: usize = 4;
/// Epochs before the one with the fault, and in all.
const BEFORE: u64 = 2;
const EPOCHS: u64 = 6;

/// The requests that a transaction consists of, in the order in which a sink may send them.
const REQUESTS: [Api; 5] = [
    Api::ADD_PARTITIONS_TO_TXN,
    Api::PRODUCE,
    Api::ADD_OFFSETS_TO_TXN,
    Api::TXN_OFFSET_COMMIT,
    Api::END_TXN,
];

/// One late request.
#[derive(Clone, Copy)]
struct Case {
    late: Api,
    client: ClientSees,
    /// Kind of request in the next transaction before which the late one arrives.
    arrives_before: Api,
    limits: Limits,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            late,
            client,
            arrives_before,
            limits,
        } = self;
        write!(
            f,
            "{late:?}, {client:?}, arrives before {arrives_before:?}, {limits:?} limits"
        )
    }
}

/// Every combination of late request, fault, arrival and limits.
fn all_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    // The slow ones first, so that none of them is alone at the end.
    for limits in [Limits::Default, Limits::Short] {
        for client in [ClientSees::Silence, ClientSees::Reset] {
            for late in REQUESTS {
                cases.extend(REQUESTS.map(|arrives_before| Case {
                    late,
                    client,
                    arrives_before,
                    limits,
                }));
            }
        }
    }
    cases
}

/// The late requests that do harm, at the worst arrival; one case of each of the others.
fn selection(case: &Case) -> bool {
    let resets = case.client == ClientSees::Reset;
    let harms = match case.late {
        Api::END_TXN => case.arrives_before == Api::TXN_OFFSET_COMMIT,
        Api::TXN_OFFSET_COMMIT => case.arrives_before == Api::END_TXN,
        _ => false,
    };
    match case.limits {
        Limits::Default => harms && resets,
        Limits::Short => {
            harms || (case.arrives_before == Api::END_TXN && (resets || case.late == Api::END_TXN))
        }
    }
}

/// Commits epochs with a late request among them. Returns the broker's answer to the late request,
/// in words.
fn check(case: Case) -> Result<String, String> {
    let rig = Rig::new("late", case.limits);
    let client = &rig.client;
    let mut sink = rig.behind.sink();
    assert_eq!(take_over(&mut sink)?, None);
    for number in 1..=BEFORE {
        commit(&mut sink, number)?;
    }
    client.release_before(case.arrives_before);
    client.fault_after(0, case.late, Fault::Hold(case.client));
    for number in BEFORE + 1..=EPOCHS {
        commit(&mut sink, number)?;
        rig.judge.stands_at(&rig.direct, number)?;
    }
    drop(sink);
    let seen = client.seen();
    if !seen.contains(&Seen::Faulted(case.late, Fault::Hold(case.client))) {
        return Err("nothing was held: this case proves nothing".into());
    }
    let Some(answer) = seen.iter().find_map(|seen| {
        if let Seen::Released(_, answer) = seen {
            Some(answer)
        } else {
            None
        }
    }) else {
        return Err("nothing was released: this case proves nothing".into());
    };
    rig.is_exact_and_goes_on(EPOCHS)?;
    let producers = seen
        .iter()
        .filter(|seen| **seen == Seen::Answer(Api::INIT_PRODUCER_ID))
        .count();
    Ok(format!(
        "late copy {}, {producers} producers",
        told(case.late, answer.as_deref())
    ))
}

/// The broker's answer to a late copy.
fn told(api: Api, answer: Option<&[u8]>) -> String {
    match answer {
        None => "not answered".into(),
        // Throttle time, error code.
        Some([_, _, _, _, high, low]) if [Api::END_TXN, Api::ADD_OFFSETS_TO_TXN].contains(&api) => {
            format!(
                "answered with error code {}",
                i16::from_be_bytes([*high, *low])
            )
        }
        Some(answer) => format!("answered with {} bytes", answer.len()),
    }
}

/// Several requests of any kind, anywhere in a run, each held for one side, cut or delayed. Held
/// requests arrive together.
#[derive(Clone, Copy)]
struct RandomCase {
    seed: u64,
}

impl fmt::Display for RandomCase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "random, seed {}", self.seed)
    }
}

fn check_random(RandomCase { seed }: RandomCase) -> Result<String, String> {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let any = |generator: &mut ChaCha8Rng| REQUESTS[generator.random_range(0..REQUESTS.len())];
    let rig = Rig::new("random", Limits::Short);
    let mut sink = rig.behind.sink();
    take_over(&mut sink)?;
    rig.client.release_before(any(&mut generator));
    for _ in 0..generator.random_range(1..=4) {
        let sees = if generator.random_bool(0.7) {
            ClientSees::Reset
        } else {
            ClientSees::Silence
        };
        let fault = match generator.random_range(0..6) {
            0 => Fault::Cut,
            1 => Fault::SwallowAnswer(sees),
            2 => Fault::Delay(Duration::from_millis(generator.random_range(0..3000))),
            _ => Fault::Hold(sees),
        };
        rig.client.fault_after(
            generator.random_range(0..EPOCHS as usize),
            any(&mut generator),
            fault,
        );
    }
    for number in 1..=EPOCHS {
        commit(&mut sink, number)?;
        rig.judge.stands_at(&rig.direct, number)?;
        if generator.random_bool(0.3) {
            rig.client.release_before(any(&mut generator));
        }
    }
    drop(sink);
    rig.is_exact_and_goes_on(EPOCHS)?;
    let applied = rig
        .client
        .seen()
        .into_iter()
        .filter(|seen| matches!(seen, Seen::Faulted(..) | Seen::Released(..)));
    let words = applied.map(|seen| match seen {
        Seen::Released(api, answer) => format!("late {api:?} {}", told(api, answer.as_deref())),
        other => format!("{other:?}"),
    });
    Ok(words.collect::<Vec<_>>().join(", "))
}

#[test]
fn late_requests_at_random_touch_no_later_transaction() {
    let cases = (0..RANDOM_CASES)
        .map(|_| RandomCase {
            seed: rand::random(),
        })
        .collect();
    let few = AtomicUsize::new(0);
    run(
        cases,
        |_| few.fetch_add(1, Ordering::Relaxed) < FEW,
        check_random,
    );
}

#[test]
fn a_late_request_touches_no_later_transaction() {
    run(all_cases(), selection, check);
}
