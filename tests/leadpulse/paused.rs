//! One process is frozen (SIGSTOP), another takes over, the first goes on (SIGCONT). Afterwards at
//! least one of them is alive, and the committed records are exact.

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::dataset::alone;
use super::load::Load;
use super::process::Process;

/// Number of pauses without `LEADPULSE_PAUSES`.
const PAUSES: usize = 2;
/// Number of epochs that prove that the deployment goes on.
const GOES_ON: usize = 5;

/// Progress of the second process before the first goes on.
#[derive(Clone, Copy, Debug)]
enum Second {
    /// Anywhere from its first instruction to live.
    RunsFor(Duration),
    /// The second process has committed epochs of its own.
    Commits(usize),
}

fn freeze_and_replace(pauses: usize, seed: u64) {
    println!("seed {seed}");
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let Some(mut load) =
        Load::of_the_last_third("paused", Duration::from_secs(40 + 15 * pauses as u64))
    else {
        return;
    };
    // A process that was frozen for longer than these is in doubt when it goes on.
    load.scenario.set("KAFKA__COMMIT_TIMEOUT_MS", "2000");
    load.scenario.set("KAFKA__TRANSACTION_TIMEOUT_MS", "8000");
    let mut first = load.scenario.run(&[]);
    for pause in 1..=pauses {
        assert!(
            load.commits.more(GOES_ON, &mut [&mut first]),
            "before pause {pause} it ended: {}",
            first.last_lines(5)
        );
        first.runs_for(Duration::from_millis(generator.random_range(0..1000)));
        first.pause();
        let mut second = load.scenario.run(&[]);
        let phase = if generator.random_bool(0.6) {
            Second::RunsFor(Duration::from_millis(generator.random_range(0..8000)))
        } else {
            Second::Commits(generator.random_range(1..10))
        };
        match phase {
            Second::RunsFor(time) => drop(second.runs_for(time)),
            Second::Commits(epochs) => {
                assert!(
                    load.commits.more(epochs, &mut [&mut second]),
                    "the second one ended: {}",
                    second.last_lines(5)
                );
            }
        }
        first.resume();
        let goes_on = load.commits.more(GOES_ON, &mut [&mut first, &mut second]);
        println!(
            "pause {pause}: {phase:?}; alive: first {}, second {}",
            first.runs_on(),
            second.runs_on()
        );
        assert!(
            goes_on,
            "none is left.\nfirst: {}\nsecond: {}",
            first.last_lines(5),
            second.last_lines(5)
        );
        first = survivor(first, second);
    }
    first.stop().done();
    load.finish();
}

/// The one process that goes on, after the other has ended.
fn survivor(mut first: Process, mut second: Process) -> Process {
    match (first.runs_on(), second.runs_on()) {
        (true, true) => {
            first.stop();
            second
        }
        (true, false) => first,
        _ => second,
    }
}

#[test]
fn after_a_freeze_at_least_one_of_two_processes_lives_on() {
    let _alone = alone();
    let pauses = std::env::var("LEADPULSE_PAUSES")
        .ok()
        .map_or(PAUSES, |number| {
            number.parse().expect("LEADPULSE_PAUSES is a number")
        });
    freeze_and_replace(pauses, rand::random());
}
