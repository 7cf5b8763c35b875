//! Tables whose rows do not span the history, and labels that are all alike.

use super::*;

/// The remarks of a count of wins in a market whose deals are those of some days.
fn remarks_with_deals(keeps: impl Fn(i64) -> bool) -> Vec<String> {
    let mut lines = market(5);
    lines.retain(|line| line.table != "deals" || keeps(line.known_ms / DAY_MS));
    let ground = ground(&lines, &[("wins", WINS)]);
    count_labels(
        &ground.project,
        ground.tasks()[0],
        &ground.files,
        LabelBounds::COUNTS,
    )
    .unwrap()
    .remarks
}

#[test]
fn a_counted_table_that_ends_before_the_history_is_remarked() {
    assert_eq!(remarks_with_deals(|_| true), Vec::<String>::new());
    let remarks = remarks_with_deals(|day| day < 180);
    assert_eq!(remarks.len(), 1, "{remarks:?}");
    assert!(
        remarks[0].starts_with("rows of deals, which the target counts, end on 1970-06-"),
        "{remarks:?}"
    );
    assert!(remarks[0].contains("--test-from 1970-06-"), "{remarks:?}");
}

#[test]
fn a_counted_table_that_begins_after_the_history_is_remarked() {
    let remarks = remarks_with_deals(|day| day > 150);
    assert_eq!(remarks.len(), 1, "{remarks:?}");
    assert!(
        remarks[0].starts_with("rows of deals, which the target counts, begin on 1970-0"),
        "{remarks:?}"
    );
    assert!(remarks[0].contains("--train-from 1970-0"), "{remarks:?}");
}

#[test]
fn a_counted_table_without_a_row_and_labels_of_one_kind_are_remarked() {
    let remarks = remarks_with_deals(|_| false);
    assert_eq!(remarks.len(), 2, "{remarks:?}");
    assert!(
        remarks[0].starts_with("the files have no row of deals"),
        "{remarks:?}"
    );
    assert!(
        remarks[1].contains("labels are 0, so there is nothing to learn"),
        "{remarks:?}"
    );
}

#[test]
fn a_count_says_what_training_refuses() {
    let mut lines = market(5);
    // One version of every contact: what it is today counts as what it was when it was made.
    let mut seen = BTreeSet::new();
    lines.retain(|line| line.table != "contacts" || seen.insert(line.columns[0].clone()));
    let ground = ground(&lines, &[("bosses", BOSSES)]);
    let task = ground.tasks()[0];
    let count = count_labels(&ground.project, task, &ground.files, LabelBounds::COUNTS).unwrap();
    let refused = count.remarks.iter().any(|remark| {
        remark.starts_with("train refuses this query: its target reads contacts.role")
    });
    assert!(refused, "{:?}", count.remarks);
    assert!(matches!(
        ground.train(&["bosses"], 0),
        Err(LearnError::Leak { .. })
    ));
}
