//! Outcomes that become known after their window.

use leadpulse_model::Example;

use super::*;

/// Labels of validation that another deal, known later, makes wrong; with the wait in days.
fn wrong_labels(lateness_ms: Option<i64>, seed: u64) -> (usize, i64) {
    let lines = market(seed);
    let mut ground = ground(&lines, &[("wins", WINS)]);
    ground.project.tasks[0].lateness_ms = lateness_ms;
    let split = Split {
        val_from_ms: 160 * DAY_MS,
        test_from_ms: 220 * DAY_MS,
    };
    let (_, collected) = ground.collected(split);
    let [found] = &collected[..] else {
        panic!("one task");
    };
    let is_won = |key: &str, anchor_ms: i64| {
        lines.iter().any(|line| {
            let at_ms: i64 = line.columns[2].parse().unwrap_or(0);
            let is_in_window = (1..=30 * DAY_MS).contains(&(at_ms - anchor_ms));
            line.table == "deals"
                && line.columns[1] == key
                && is_in_window
                && line.columns[3] == "won"
        })
    };
    let is_wrong = |example: &&Example| {
        let Outcome::Hazard { after_ms, .. } = example.outcome else {
            panic!("wins are hazards");
        };
        after_ms.is_some() != is_won(&found.keys[&example.entity], example.anchor_ms)
    };
    let wrong = found.validation.examples().iter().filter(is_wrong).count();
    (wrong, found.validation_tally.wait_ms / DAY_MS)
}

/// One deal in five is known nine days late.
#[test]
fn a_window_is_open_until_late_outcomes_are_known() {
    let wrong_at_once = (1..6).map(|seed| wrong_labels(Some(0), seed).0);
    assert!(wrong_at_once.sum::<usize>() > 0);
    for seed in 1..6 {
        assert_eq!(wrong_labels(None, seed), (0, 9), "seed {seed}");
        assert_eq!(
            wrong_labels(Some(12 * DAY_MS), seed),
            (0, 12),
            "seed {seed}"
        );
    }
}

#[test]
fn a_history_loaded_at_once_is_not_late() {
    let mut lines = market(5);
    for line in &mut lines {
        // Deals of the first 200 days were loaded together; no deal was late after that.
        if line.table == "deals" {
            let at_ms: i64 = line.columns[2].parse().unwrap();
            line.known_ms = at_ms.max(200 * DAY_MS);
        }
    }
    let ground = ground(&lines, &[("wins", WINS)]);
    let count = count_labels(
        &ground.project,
        ground.tasks()[0],
        &ground.files,
        LabelBounds::COUNTS,
    )
    .unwrap();
    assert_eq!(count.tally.wait_ms, 0);
}
