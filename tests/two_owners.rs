//! Two processes with the same ids: one stands still in the middle of a commit, the other takes
//! over. The first process then promotes nothing of its own, takes nothing back, and leaves the
//! second one alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt;
use std::sync::Arc;

use leadpulse_engine::ports::{NextOffset, PortError, SealedEpoch, Sink};

use crate::behind_proxy::{Limits, PATIENCE, Rig, SHORT, commit, run, take_over};
use crate::ports_on_kafka::epoch;
use crate::proxy::{Api, Fault, Seen};

/// Requests at which the first process stands still.
const REQUESTS: [Api; 5] = [
    Api::ADD_PARTITIONS_TO_TXN,
    Api::PRODUCE,
    Api::ADD_OFFSETS_TO_TXN,
    Api::TXN_OFFSET_COMMIT,
    Api::END_TXN,
];
/// Number of the epoch that both processes commit.
const NUMBER: u64 = 3;

#[derive(Clone, Copy)]
struct Case {
    first_stands_at: Api,
    /// Number of epochs that the second process commits while the first one stands still.
    second_commits: u64,
    /// True if the first process's limits pass meanwhile, so that its epoch is in doubt when it
    /// goes on.
    in_doubt: bool,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            first_stands_at,
            second_commits,
            in_doubt,
        } = self;
        let doubt = if *in_doubt { ", in doubt" } else { "" };
        write!(
            f,
            "the first stands at {first_stands_at:?}{doubt}, the second commits {second_commits}"
        )
    }
}

fn all_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for in_doubt in [true, false] {
        for second_commits in 0..=2 {
            cases.extend(REQUESTS.map(|first_stands_at| Case {
                first_stands_at,
                second_commits,
                in_doubt,
            }));
        }
    }
    cases
}

fn selection(case: &Case) -> bool {
    case.in_doubt
        && (case.first_stands_at == Api::END_TXN
            || (case.first_stands_at == Api::PRODUCE && case.second_commits == 0))
}

/// The epoch of the first process: the number of the second one's, with other positions and
/// records.
fn of_the_first() -> Arc<SealedEpoch> {
    let mut sealed = SealedEpoch::clone(&epoch(NUMBER, &[0], &["the first one's"]));
    sealed.positions = vec![NextOffset(1_000_000)];
    sealed.nonce.0 += 1;
    Arc::new(sealed)
}

fn check(case: Case) -> Result<String, String> {
    let rig = Rig::new("two", Limits::Short);
    let mut first = rig.behind.sink();
    take_over(&mut first)?;
    for number in 1..NUMBER {
        commit(&mut first, number)?;
    }
    rig.client
        .fault_after(0, case.first_stands_at, Fault::Freeze);
    let committing = std::thread::spawn(move || first.commit(&of_the_first()));
    if !rig.client.await_seen(
        |seen| *seen == Seen::Faulted(case.first_stands_at, Fault::Freeze),
        PATIENCE,
    ) {
        return Err("the first never came to stand still: this case proves nothing".into());
    }
    let mut second = rig.direct.sink();
    let found = take_over(&mut second)?;
    if found != Some(NUMBER - 1) {
        return Err(format!("the second one finds epoch {found:?}"));
    }
    let last = NUMBER - 1 + case.second_commits;
    for number in NUMBER..=last {
        commit(&mut second, number).map_err(|error| format!("the second one: {error}"))?;
    }
    if case.in_doubt {
        std::thread::sleep(SHORT * 2);
    }
    rig.client.thaw();
    let outcome = committing.join().unwrap();
    let Err(error) = outcome else {
        return Err("the first one says that its epoch is committed".into());
    };
    if !matches!(error, PortError::Fenced(_) | PortError::Fatal(_)) {
        return Err(format!("the first one would go on: {error}"));
    }
    commit(&mut second, last + 1)
        .map_err(|error| format!("the second one, afterwards: {error}"))?;
    drop(second);
    rig.is_exact_and_goes_on(last + 1)?;
    Ok(format!("the first one: {error}"))
}

#[test]
fn a_process_frozen_in_a_commit_leaves_its_successor_alone() {
    run(all_cases(), selection, check);
}
