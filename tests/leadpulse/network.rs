//! The network between the program and the broker fails at random under load. The program lives on,
//! and the committed records are exact.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::dataset::alone;
use super::load::Load;
use crate::proxy::{Api, ClientSees, Fault, Seen, proxy};

/// Number of faults without `LEADPULSE_NETWORK_FAULTS`.
const FAULTS: usize = 6;
/// Requests that faults meet, those of transactions several times.
const REQUESTS: [Api; 16] = [
    Api::END_TXN,
    Api::END_TXN,
    Api::END_TXN,
    Api::TXN_OFFSET_COMMIT,
    Api::TXN_OFFSET_COMMIT,
    Api::ADD_OFFSETS_TO_TXN,
    Api::ADD_PARTITIONS_TO_TXN,
    Api::PRODUCE,
    Api::PRODUCE,
    Api::INIT_PRODUCER_ID,
    Api::OFFSET_FETCH,
    Api::FIND_COORDINATOR,
    Api::METADATA,
    Api::LIST_OFFSETS,
    Api::FETCH,
    Api::FETCH,
];
/// The slowest link: an epoch still passes within seconds.
const SLOW_BYTES_PER_SECOND: u64 = 20_000;

fn any_fault(generator: &mut ChaCha8Rng) -> Fault {
    let sees = if generator.random_bool(0.6) {
        ClientSees::Reset
    } else {
        ClientSees::Silence
    };
    let time = Duration::from_millis(generator.random_range(0..6000));
    match generator.random_range(0..8) {
        0 => Fault::Cut,
        1 => Fault::SwallowAnswer(sees),
        2 => Fault::Delay(time),
        3 => Fault::FreezeFor(time),
        _ => Fault::Hold(sees),
    }
}

fn survives_a_failing_network(faults: usize, seed: u64) {
    let Some(proxy) = proxy() else { return };
    println!("seed {seed}");
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let Some(mut load) =
        Load::of_the_last_third("network", Duration::from_secs(60 + 5 * faults as u64))
    else {
        return;
    };
    load.scenario.set("KAFKA__COMMIT_TIMEOUT_MS", "2000");
    load.scenario.set("KAFKA__TRANSACTION_TIMEOUT_MS", "8000");
    load.scenario.set("KAFKA__REQUEST_TIMEOUT_MS", "2000");
    let client = load.scenario.through(proxy);
    let mut process = load.scenario.run(&[]);
    for fault in 1..=faults {
        let goes_on = load.commits.more(2, &mut [&mut process]);
        assert!(
            goes_on,
            "before fault {fault} it ended: {}\n{:?}",
            process.last_lines(8),
            applied(&client.seen())
        );
        client.release_before(REQUESTS[generator.random_range(0..8)]);
        let slow = generator.random_bool(0.1).then_some(SLOW_BYTES_PER_SECOND);
        client.set_bytes_per_second(slow);
        for _ in 0..generator.random_range(1..=2) {
            let api = REQUESTS[generator.random_range(0..REQUESTS.len())];
            client.fault_after(generator.random_range(0..3), api, any_fault(&mut generator));
        }
    }
    let goes_on = load.commits.more(5, &mut [&mut process]);
    let applied = applied(&client.seen());
    println!("{} faults: {applied:?}", applied.len());
    assert!(goes_on, "it ended: {}", process.last_lines(8));
    client.forgive();
    process.stop().done();
    load.finish();
}

/// The events of the proxy, except for requests and answers that passed.
fn applied(seen: &[Seen]) -> Vec<String> {
    let words = |seen: &Seen| match seen {
        Seen::Faulted(api, fault) => Some(format!("{fault:?} at {api:?}")),
        Seen::Released(api, answer) => Some(format!(
            "late {api:?}{}",
            if answer.is_some() {
                ""
            } else {
                " without an answer"
            }
        )),
        Seen::Request(_) | Seen::Answer(_) => None,
    };
    seen.iter().filter_map(words).collect()
}

#[test]
fn a_process_survives_a_failing_network() {
    let _alone = alone();
    let faults = std::env::var("LEADPULSE_NETWORK_FAULTS").ok();
    let faults = faults.map_or(FAULTS, |number| {
        number
            .parse()
            .expect("LEADPULSE_NETWORK_FAULTS is a number")
    });
    survives_a_failing_network(faults, rand::random());
}
