use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::thread;

use leadpulse_records::{Alert, HISTORY_POINTS, INELIGIBLE, SCORED, Score};
use proptest::prelude::*;

use super::ranking::{descending, rank_key};
use super::*;

fn score(id: &str, probability: f64) -> ShownScore {
    ShownScore {
        record: Score {
            task: "buys".into(),
            entity_type: "accounts".into(),
            entity_id: id.into(),
            status: SCORED,
            probability: Some(probability),
            epoch: 1,
            ..Score::default()
        },
        name: None,
        facts: serde_json::Value::Null,
        history: Vec::new(),
    }
}

#[test]
fn the_newest_points_of_a_score_are_its_history() {
    let model = ReadModel::new();
    for epoch in 1..=100 {
        let one = with(score("A", f64::from(epoch) / 100.0), |record| {
            record.as_of = epoch.into()
        });
        model.publish(vec![one], Vec::new(), live(epoch as u64));
    }
    let history = &model.get("accounts", "A")[0].history;
    assert_eq!(history.len(), HISTORY_POINTS);
    let moments: Vec<i64> = history.iter().map(|point| point.as_of).collect();
    assert_eq!(moments, (37..=100).collect::<Vec<_>>());
    assert_eq!(history[63].probability, Some(1.0));
}

/// The score with another record.
fn with(score: ShownScore, change: impl FnOnce(&mut Score)) -> ShownScore {
    let mut score = score;
    change(&mut score.record);
    score
}

fn alert(number: u64) -> ShownAlert {
    ShownAlert {
        record: Alert {
            alert_id: number.to_string(),
            task: "buys".into(),
            entity_type: "accounts".into(),
            entity_id: "A".into(),
            epoch: number as i64,
            ..Alert::default()
        },
        name: None,
    }
}

fn live(epoch: u64) -> EngineStatus {
    EngineStatus {
        phase: Phase::Live,
        epoch,
        as_of_ms: Some(epoch as i64),
        records: 0,
        lag_records: 0,
        reason: None,
        deployed: Default::default(),
    }
}

fn ids(page: &Page) -> Vec<&str> {
    page.scores
        .iter()
        .map(|score| &*score.record.entity_id)
        .collect()
}

#[test]
fn a_ranking_is_by_probability_then_key() {
    let model = ReadModel::new();
    model.publish(
        vec![score("C", 0.5), score("A", 0.1), score("B", 0.5)],
        vec![],
        live(1),
    );
    assert_eq!(
        ids(&model.scores("buys", "accounts", Sort::Score, 10, None)),
        ["B", "C", "A"]
    );
    model.publish(vec![score("A", 0.9)], vec![], live(2));
    let page = model.scores("buys", "accounts", Sort::Score, 10, None);
    assert_eq!(
        (ids(&page), page.total, page.version),
        (vec!["A", "B", "C"], 3, 2)
    );
    assert_eq!(*model.status(), live(2));
}

#[test]
fn rankings_of_tasks_and_tables_are_apart() {
    let model = ReadModel::new();
    model.publish(
        vec![
            score("A", 0.5),
            with(score("A", 0.2), |score| score.task = "churns".into()),
            with(score("A", 0.3), |score| score.entity_type = "leads".into()),
        ],
        vec![],
        live(1),
    );
    assert_eq!(
        model
            .scores("buys", "accounts", Sort::Score, 10, None)
            .total,
        1
    );
    assert_eq!(
        model
            .get("accounts", "A")
            .iter()
            .map(|score| &*score.record.task)
            .collect::<Vec<_>>(),
        ["buys", "churns"]
    );
    assert_eq!(model.get("leads", "A").len(), 1);
    assert!(model.get("leads", "B").is_empty());
    let none = model.scores("buys", "contacts", Sort::Score, 10, None);
    assert_eq!((none.total, none.version), (0, 0));
    assert_eq!(
        (
            model.ranking_version("buys", "accounts"),
            model.ranking_version("buys", "contacts")
        ),
        (1, 0)
    );
}

#[test]
fn an_ineligible_entity_is_known_but_not_ranked() {
    let model = ReadModel::new();
    model.publish(vec![score("A", 0.5), score("B", 0.4)], vec![], live(1));
    model.publish(
        vec![with(score("A", 0.5), |score| score.status = INELIGIBLE)],
        vec![],
        live(2),
    );
    assert_eq!(
        ids(&model.scores("buys", "accounts", Sort::Score, 10, None)),
        ["B"]
    );
    assert_eq!(model.get("accounts", "A")[0].record.status, INELIGIBLE);
    model.publish(vec![score("A", 0.6)], vec![], live(3));
    assert_eq!(
        ids(&model.scores("buys", "accounts", Sort::Score, 10, None)),
        ["A", "B"]
    );
}

#[test]
fn other_orders_put_what_they_cannot_compare_last() {
    let model = ReadModel::new();
    let mover =
        |id: &str, probability: f64, previous: Option<f64>, velocity: Option<f64>, as_of: i64| {
            with(score(id, probability), |score| {
                score.previous_probability = previous;
                score.velocity_per_day = velocity;
                score.as_of = as_of;
            })
        };
    model.publish(
        vec![
            mover("A", 0.5, Some(0.6), Some(0.01), 5),
            mover("B", 0.4, Some(0.1), Some(-0.2), 7),
            mover("C", 0.9, None, None, 6),
        ],
        vec![],
        live(1),
    );
    let ranked = |sort| ids(&model.scores("buys", "accounts", sort, 10, None)).join("");
    assert_eq!(ranked(Sort::Velocity), "ABC");
    assert_eq!(ranked(Sort::Change), "BAC");
    assert_eq!(ranked(Sort::AsOf), "BCA");
}

#[test]
fn alerts_are_bounded_and_newest_first() {
    let model = ReadModel::new();
    assert_eq!(model.alerts(10).0, 0);
    for epoch in 1..=3 {
        model.publish(
            vec![],
            (epoch * 500..(epoch + 1) * 500).map(alert).collect(),
            live(epoch),
        );
    }
    let (version, alerts) = model.alerts(usize::MAX);
    assert_eq!((version, alerts.len()), (3, ALERTS_KEPT));
    assert_eq!(
        (alerts[0].record.epoch, alerts[ALERTS_KEPT - 1].record.epoch),
        (1999, 1000)
    );
    assert_eq!(
        model
            .alerts(2)
            .1
            .iter()
            .map(|alert| alert.record.epoch)
            .collect::<Vec<_>>(),
        [1999, 1998]
    );
    model.publish(vec![], vec![], live(4));
    assert_eq!(model.alerts(1).0, 3, "nothing was added");
}

#[test]
fn a_cursor_is_read_as_written_and_nothing_else_is() {
    let cursor = PageCursor {
        rank: 20,
        sort_key: 0x3fff,
        entity_id: "A-1-é".into(),
    };
    assert_eq!(cursor.to_string().parse(), Ok(cursor));
    for text in [
        "",
        "1",
        "1-2",
        "x-2-A",
        "1-x-A",
        "18446744073709551615-2-A",
        "-1-2-A",
    ] {
        assert_eq!(
            text.parse::<PageCursor>(),
            Err(PageCursorError(text.to_owned()))
        );
    }
}

#[test]
fn a_reader_that_holds_a_ranking_does_not_keep_the_next_one_from_being_published() {
    let model = ReadModel::new();
    model.publish(
        vec![score("A", 0.1), score("B", 0.2)],
        vec![alert(1)],
        live(1),
    );
    let request = PageRequest {
        sort: Sort::Velocity,
        limit: 9,
        after: None,
    };
    let held = model.ranking("buys", "accounts");
    // The reader is amid its page while three publications come: with a lock it would wait for ever.
    let slow = |one: &ShownScore| {
        for epoch in 2..=4 {
            if *one.record.entity_id == *"A" {
                let scores = vec![score("A", 0.5), score("C", 0.3)];
                model.publish(scores, vec![alert(epoch)], live(epoch));
                model.publish_dead_letters(Vec::new());
            }
        }
        true
    };
    let page = held.page(&request, Some(&slow));
    assert_eq!(ids(&page), ["A", "B"], "the ranking of its moment");
    let now = model.scores("buys", "accounts", Sort::Score, 9, None);
    assert_eq!(ids(&now), ["A", "C", "B"]);
    let changes = model.changes();
    let since: Vec<u64> = changes
        .since(1)
        .unwrap()
        .map(|change| change.number)
        .collect();
    assert_eq!(since.first(), Some(&2));
    assert_eq!(since.last(), Some(&changes.newest()));
}

#[test]
fn a_page_is_never_half_an_epoch() {
    const ENTITIES: usize = 200;
    let (model, done) = (ReadModel::new(), AtomicBool::new(false));
    let epoch_scores = |epoch: u64| {
        let probability =
            |index: usize| ((index as u64 * 7919 + epoch * 104_729) % 1000) as f64 / 1000.0;
        (0..ENTITIES)
            .map(|index| {
                with(score(&format!("A{index}"), probability(index)), |score| {
                    score.epoch = epoch as i64;
                })
            })
            .collect()
    };
    model.publish(epoch_scores(1), vec![], live(1));
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut newest = 0;
                    while !done.load(Ordering::Relaxed) {
                        let page = model.scores("buys", "accounts", Sort::Score, ENTITIES, None);
                        let epochs: BTreeSet<i64> =
                            page.scores.iter().map(|score| score.record.epoch).collect();
                        assert_eq!((page.scores.len(), epochs.len()), (ENTITIES, 1));
                        assert!(
                            page.scores
                                .is_sorted_by(|a, b| a.record.probability >= b.record.probability)
                        );
                        assert!(page.version >= newest, "a version goes back");
                        newest = page.version;
                        model.get("accounts", "A7");
                    }
                })
            })
            .collect();
        for epoch in 2..=100 {
            model.publish(epoch_scores(epoch), vec![], live(epoch));
        }
        done.store(true, Ordering::Relaxed);
        readers
            .into_iter()
            .for_each(|reader| reader.join().expect("the reader's assertions hold"));
    });
}

proptest! {
    #[test]
    fn the_sort_key_orders_as_numbers_do(a in any::<f64>(), b in any::<f64>()) {
        if a.is_nan() {
            prop_assert!(descending(a) >= descending(b));
        } else if !b.is_nan() {
            prop_assert_eq!(descending(a).cmp(&descending(b)), b.partial_cmp(&a).unwrap());
        }
    }

    #[test]
    fn pages_follow_each_other_without_gap_or_overlap(
        epochs in prop::collection::vec(prop::collection::vec((0u32..60, 0u32..20, any::<bool>()), 1..40), 1..6),
        limit in 1usize..15,
        sort in prop_oneof![Just(Sort::Score), Just(Sort::Velocity), Just(Sort::AsOf)],
    ) {
        let model = ReadModel::new();
        let mut expected: BTreeMap<String, ShownScore> = BTreeMap::new();
        for (index, epoch) in epochs.iter().enumerate() {
            let mut scores = BTreeMap::new();
            for (id, level, scored) in epoch {
                let id = format!("A-{id}");
                let velocity_per_day = (level % 3 != 0).then_some(f64::from(*level) - 9.0);
                let shown = with(score(&id, f64::from(*level) / 20.0), |score| {
                    score.status = if *scored { SCORED } else { INELIGIBLE };
                    score.velocity_per_day = velocity_per_day;
                    score.as_of = i64::from(*level);
                });
                scores.insert(id, shown);
            }
            expected.extend(scores.clone());
            model.publish(scores.into_values().collect(), vec![], live(index as u64));
        }
        let records = |scores: &[&ShownScore]| -> Vec<Score> {
            scores.iter().map(|score| score.record.clone()).collect()
        };
        let mut expected: Vec<&ShownScore> = expected.values().filter(|score| score.record.is_scored()).collect();
        expected.sort_by_key(|score| rank_key(sort, score));

        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let page = model.scores("buys", "accounts", sort, limit, cursor.as_ref());
            prop_assert_eq!(page.first_rank, found.len() as u64 + 1);
            prop_assert!(page.scores.len() <= limit);
            found.extend(page.scores);
            match page.next {
                Some(next) => cursor = Some(next.to_string().parse().unwrap()),
                None => break,
            }
        }
        let found: Vec<&ShownScore> = found.iter().map(|score| &**score).collect();
        prop_assert_eq!(records(&found), records(&expected));
    }
}

/// The score of a bundle.
fn of_bundle(id: &str, probability: f64, bundle: &str) -> ShownScore {
    with(score(id, probability), |score| {
        score.bundle_id = Some(bundle.into())
    })
}

fn changing(epoch: u64, waiting: u64) -> EngineStatus {
    EngineStatus {
        deployed: DeployedStatus {
            bundle_id: Some("new".into()),
            rescoring: Some(RescoringNote {
                ranked_since: 2,
                since: 2,
                waiting,
            }),
            ..DeployedStatus::default()
        },
        ..live(epoch)
    }
}

#[test]
fn a_ranking_is_of_one_model_until_the_change_is_complete() {
    let model = ReadModel::new();
    let page = || model.scores("buys", "accounts", Sort::Score, 10, None);
    let shown = |page: &Page| -> Vec<String> {
        let scores = page.scores.iter();
        scores
            .map(|score| {
                format!(
                    "{} {}",
                    score.record.entity_id,
                    score.record.probability.unwrap()
                )
            })
            .collect()
    };
    let old = [("A", 0.9), ("B", 0.5), ("C", 0.1)];
    let old = old.map(|(id, p)| of_bundle(id, p, "old")).to_vec();
    model.publish(old, vec![], live(1));
    model.publish(vec![of_bundle("C", 0.95, "new")], vec![], changing(2, 2));
    assert_eq!(shown(&page()), ["A 0.9", "B 0.5", "C 0.1"]);
    assert_eq!(model.get("accounts", "C")[0].record.probability, Some(0.95));
    // New scores move among themselves, one entity leaves, one is new.
    let gone = with(of_bundle("A", 0.0, "new"), |score| {
        score.status = INELIGIBLE;
        score.probability = None;
    });
    let moved = vec![of_bundle("C", 0.2, "new"), gone, of_bundle("D", 0.7, "new")];
    model.publish(moved, vec![], changing(3, 1));
    assert_eq!(shown(&page()), ["B 0.5", "C 0.1"]);
    model.publish(vec![of_bundle("B", 0.3, "new")], vec![], live(4));
    assert_eq!(shown(&page()), ["D 0.7", "B 0.3", "C 0.2"]);
}

#[test]
fn a_change_that_a_restart_goes_on_with_shows_the_older_ranks() {
    let model = ReadModel::new();
    let scores = [("A", 0.1, "new"), ("B", 0.5, "old"), ("C", 0.95, "new")];
    let scores = scores
        .map(|(id, p, bundle)| of_bundle(id, p, bundle))
        .to_vec();
    let logits = [2.0, 0.0, -2.0];
    let ranked = scores.iter().cloned().zip(logits).collect();
    model.publish_older_ranks(ranked, "new");
    model.publish(scores, vec![], changing(9, 1));
    let page = |limit, cursor: Option<&PageCursor>| {
        model.scores("buys", "accounts", Sort::Score, limit, cursor)
    };
    assert_eq!(ids(&page(9, None)), ["A", "B", "C"]);
    let first = page(1, None);
    assert_eq!(
        ids(&page(9, first.next.as_ref())),
        ["B", "C"],
        "pages go on"
    );
    model.publish(vec![of_bundle("B", 0.4, "new")], vec![], live(10));
    assert_eq!(ids(&page(9, None)), ["C", "B", "A"]);
}

#[test]
fn tasks_that_were_removed_are_shown_nowhere() {
    let model = ReadModel::new();
    let other = with(score("A", 0.3), |score| score.task = "churns".into());
    model.publish(vec![score("A", 0.2), other], vec![], live(1));
    model.keep_tasks(&["churns".into()]);
    assert_eq!(
        model.scores("buys", "accounts", Sort::Score, 9, None).total,
        0
    );
    assert_eq!(
        model
            .scores("churns", "accounts", Sort::Score, 9, None)
            .total,
        1
    );
    assert_eq!(model.get("accounts", "A").len(), 1);
}
