//! The process is killed (SIGKILL) at random points, again and again; what a reader sees is as if it never was.

use leadpulse_engine::EpochRecord;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::checks::{assert_same_scores, committed};
use super::dataset::{Dataset, accounts, alone, retail};
use super::run_to_end::{Reference, reference};
use super::script::assert_script_gives_the_same;

const KILLS: usize = 5;

fn survives_kills(dataset: &'static Dataset, seed: u64) {
    let Some(Reference { scenario, committed: faultless, closing, .. }) = reference(dataset) else { return };
    println!("seed {seed}");
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let total = faultless.epochs.len();
    let scenario = scenario.beside("killed");
    scenario.create_outputs();
    let mut before = 0;
    for kill in 0..KILLS {
        let mut process = scenario.run(&["--until-end"]);
        if kill == KILLS / 2 {
            // While it takes over: nothing new is committed.
            assert!(process.logs("replaying what is committed"));
        } else {
            let upto = (kill + 1) * total / (KILLS + 2);
            let enough = (before + 1).max(upto.saturating_sub(generator.random_range(0..=total / 8)));
            let made = |epochs: &[EpochRecord]| epochs.len() >= enough;
            assert!(scenario.await_epochs(&mut process, made), "it ended before it could be killed for the {}th time", kill + 1);
        }
        let ended = process.kill();
        assert_eq!(ended.code, None, "it ended by itself: {}", ended.err);
        before = before.max(scenario.epochs().len());
    }
    let summary = scenario.run_to_end();
    assert!(summary.replayed as usize >= before && before > 0, "{summary:?} after {before} epochs");
    let found = committed(&scenario);
    assert_eq!(found.epochs.len() as i64, summary.replayed + summary.epochs);
    assert_eq!(found.epochs.last().unwrap().as_of, faultless.epochs.last().unwrap().as_of);
    assert_same_scores(&found.closing(&scenario), closing);
    assert_script_gives_the_same(&scenario, &found.epochs);
    let again = scenario.run_to_end();
    assert_eq!((again.epochs, again.replayed), (0, found.epochs.len() as i64), "{again:?}");
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
