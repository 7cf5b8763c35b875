//! The process is killed (SIGKILL) repeatedly at random points. Readers see the same records as
//! without kills.

use std::time::{Duration, Instant};

use leadpulse_engine::EpochRecord;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::checks::{assert_same_scores, committed};
use super::dataset::{Dataset, accounts, alone, retail};
use super::load::Load;
use super::run_to_end::{Reference, reference};
use super::script::assert_script_gives_the_same;

const KILLS: usize = 5;
/// Number of kills under load without `LEADPULSE_KILLS`.
const KILLS_UNDER_LOAD: usize = 5;
/// Longest life of a process that is killed under load. The first ones end before they are live,
/// most later ones after.
const LONGEST_LIFE: Duration = Duration::from_secs(5);
/// Time between looks at what a process has committed.
const LOOK_EVERY: Duration = Duration::from_millis(20);

fn survives_kills(dataset: &'static Dataset, seed: u64) {
    let Some(Reference {
        scenario,
        committed: faultless,
        closing,
        ..
    }) = reference(dataset)
    else {
        return;
    };
    println!("seed {seed}");
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let total = faultless.epochs.len();
    let scenario = scenario.beside("killed");
    scenario.create_outputs();
    let mut before = 0;
    for kill in 0..KILLS {
        let mut process = scenario.run(&["--until-end"]);
        if kill == KILLS / 2 {
            // A kill during the take-over: no epoch is committed.
            assert!(process.logs("applying the rows of what is committed"));
        } else {
            let upto = (kill + 1) * total / (KILLS + 2);
            let enough =
                (before + 1).max(upto.saturating_sub(generator.random_range(0..=total / 8)));
            let made = |epochs: &[EpochRecord]| epochs.len() >= enough;
            assert!(
                scenario.await_epochs(&mut process, made),
                "it ended before it could be killed for the {}th time",
                kill + 1
            );
        }
        let ended = process.kill();
        assert_eq!(ended.code, None, "it ended by itself: {}", ended.err);
        before = before.max(scenario.epochs().len());
    }
    let summary = scenario.run_to_end();
    assert!(
        summary.replayed as usize >= before && before > 0,
        "{summary:?} after {before} epochs"
    );
    let found = committed(&scenario);
    assert_eq!(found.epochs.len() as i64, summary.replayed + summary.epochs);
    assert_eq!(
        found.epochs.last().unwrap().as_of,
        faultless.epochs.last().unwrap().as_of
    );
    assert_same_scores(&found.closing(&scenario), closing);
    assert_script_gives_the_same(&scenario, &found.epochs);
    let again = scenario.run_to_end();
    assert_eq!(
        (again.epochs, again.replayed),
        (0, found.epochs.len() as i64),
        "{again:?}"
    );
}

/// Each process lives for a random time while the input grows: it starts, takes over, replays, is
/// live, commits.
pub fn survives_kills_under_load(mut load: Load, kills: usize, seed: u64) {
    println!("seed {seed}");
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let (mut by_life, mut first_commits) = (Vec::new(), Vec::new());
    for kill in 1..=kills {
        let before = load.commits.count();
        let mut process = load.scenario.run(&[]);
        let (started, life) = (Instant::now(), LONGEST_LIFE.mul_f64(generator.random()));
        let mut first_commit = None;
        while let Some(left) = life.checked_sub(started.elapsed()) {
            assert!(
                process.runs_for(left.min(LOOK_EVERY)),
                "it ended by itself before kill {kill}: {}",
                process.last_lines(5)
            );
            if first_commit.is_none() && load.commits.count() > before {
                first_commit = Some(started.elapsed());
            }
        }
        process.kill();
        by_life.push((life, load.commits.count()));
        first_commits.extend(first_commit);
    }
    println!("life and epochs committed in all, at each kill: {by_life:?}");
    first_commits.sort_unstable();
    if let Some(last) = first_commits.len().checked_sub(1) {
        println!(
            "{kills} kills; from a start to its first commit, of {} that came to one: p50 {:?}, p99 \
             {:?}, longest {:?}",
            last + 1,
            first_commits[last / 2],
            first_commits[last * 99 / 100],
            first_commits[last]
        );
    }
    load.finish();
}

/// Duration of the load.
pub fn time_for(kills: usize) -> Duration {
    Duration::from_secs(40) + LONGEST_LIFE * kills as u32
}

/// Number of kills from the environment.
pub fn kills_wanted() -> Option<usize> {
    Some(
        std::env::var("LEADPULSE_KILLS")
            .ok()?
            .parse()
            .expect("LEADPULSE_KILLS is a number"),
    )
}

#[test]
fn a_process_under_load_survives_kills_at_any_time() {
    let _alone = alone();
    let kills = kills_wanted().unwrap_or(KILLS_UNDER_LOAD);
    if let Some(load) = Load::of_the_last_third("killed-under-load", time_for(kills)) {
        survives_kills_under_load(load, kills, rand::random());
    }
}

/// As [`a_process_under_load_survives_kills_at_any_time`], with a stored state: a start goes on from
/// the last epoch that was stored.
#[test]
fn a_process_with_a_stored_state_survives_kills_at_any_time() {
    let _alone = alone();
    let kills = kills_wanted().unwrap_or(KILLS_UNDER_LOAD);
    let dir = tempfile::tempdir().expect("a folder for the state");
    if let Some(mut load) = Load::of_the_last_third("killed-with-store", time_for(kills)) {
        let state = dir.path().join("state");
        load.scenario.set("STORE__DIR", &state.to_string_lossy());
        survives_kills_under_load(load, kills, rand::random());
        assert!(state.join("keyspaces").is_dir(), "no state was stored");
    }
}

#[test]
fn a_market_survives_kills() {
    let _alone = alone();
    survives_kills(accounts(), rand::random());
}

#[test]
fn online_retail_survives_kills() {
    let _alone = alone();
    if let Some(dataset) = retail() {
        survives_kills(dataset, rand::random());
    }
}
