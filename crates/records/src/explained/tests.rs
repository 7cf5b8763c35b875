use leadpulse_features::{Contribution, EventMeasure, EvidenceValue, GroupKind, Measure};
use leadpulse_schema::units::DAY_MS;

use super::*;

#[test]
fn sizes_of_shares_sum_to_a_hundred() {
    for (contributions, expected) in [
        (vec![1.0, 1.0, 1.0], vec![34, 33, 33]),
        (vec![0.3, -0.5, 0.2], vec![30, -50, 20]),
        (vec![-1.0, -2.0], vec![-33, -67]),
        (vec![0.0, -0.0], vec![0, 0]),
        (vec![0.002, 1.0, 0.5, 0.25], vec![0, 57, 29, 14]),
    ] {
        assert_eq!(shares(&contributions), expected, "{contributions:?}");
    }
}

fn groups() -> Vec<Group> {
    let kinds = [
        ("intent", GroupKind::Behaviour),
        ("usage", GroupKind::Behaviour),
        ("silence", GroupKind::Timing),
    ];
    let group = |(code, kind): (&str, GroupKind)| Group {
        code: code.into(),
        label: code.to_uppercase(),
        kind,
    };
    kinds.map(group).into()
}

fn explained(before: Option<&Explained>, as_of: AsOf, contributions: [f64; 3]) -> Explained {
    let parts = contributions
        .iter()
        .enumerate()
        .map(|(group, logit)| Contribution {
            group,
            logit: *logit,
        })
        .collect();
    let explanation = Explanation {
        base_logit: -1.0,
        logit: -1.0 + contributions.iter().sum::<f64>(),
        contributions: parts,
    };
    let evidence = vec![
        Evidence {
            value: None,
            words: vec!["pricing ×2".into(), "demo".into()],
            event_ids: vec!["e1".into()],
            values: vec![],
        },
        Evidence {
            value: Some("3 people".into()),
            words: vec!["limit".into()],
            event_ids: vec![],
            values: vec![],
        },
        Evidence::default(),
    ];
    Explained::new(before, as_of, &explanation, evidence, &groups())
}

#[test]
fn what_changed_is_the_difference_to_the_explanation_before() {
    let told = |drivers: &[Driver]| {
        drivers
            .iter()
            .map(|d| (d.group.clone(), (d.contribution * 1e3).round()))
            .collect::<Vec<_>>()
    };
    let first = explained(None, AsOf::from_ms(1), [0.5, 0.2, -0.3]);
    assert_eq!(
        (first.change_since_ms(), first.change_drivers.len()),
        (None, 0)
    );
    assert_eq!(
        told(&first.drivers),
        [
            ("intent".to_owned(), 500.0),
            ("silence".into(), -300.0),
            ("usage".into(), 200.0)
        ]
    );
    let second = explained(Some(&first), AsOf::from_ms(2), [0.4, 0.9, -0.3]);
    assert_eq!(second.change_since_ms(), Some(1));
    assert_eq!(
        told(&second.change_drivers),
        [("usage".to_owned(), 700.0), ("intent".into(), -100.0)]
    );
}

#[test]
fn an_explanation_is_of_one_logit() {
    let explained = explained(None, AsOf::from_ms(1), [0.5, 0.2, -0.3]);
    for (logit, expected) in [
        (-0.6, false),
        (-0.6 + 1e-6, false),
        (-0.5999, true),
        (0.4, true),
    ] {
        assert_eq!(explained.is_of_another(logit), expected, "{logit}");
    }
}

#[test]
fn the_strongest_driver_speaks_in_a_few_words() {
    let words = |contributions| {
        let explained = explained(None, AsOf::from_ms(1), contributions);
        (
            explained.top_group().map(str::to_owned),
            explained.top_signal(),
            explained.top_drag().map(str::to_owned),
        )
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        words([0.5, 0.2, -0.9]),
        (text("intent"), text("INTENT (pricing ×2)"), text("SILENCE"))
    );
    assert_eq!(
        words([0.1, 0.2, 0.0]),
        (text("usage"), text("USAGE (3 people)"), None)
    );
    assert_eq!(words([-0.1, -0.2, 0.0]), (None, None, text("USAGE")));
}

/// An explanation on a day whose group `intent` has so many pricing views, the newest so many days
/// ago, and `usage` so many active people.
fn at_day(
    before: Option<&Explained>,
    day: i64,
    contributions: [f64; 3],
    (pricing, days_ago, people): (f64, i64, f64),
) -> Explained {
    let as_of = AsOf::from_ms(day * DAY_MS);
    let value = |label: &str, measure| EvidenceValue {
        label: label.into(),
        telling: 0,
        measure,
    };
    let views = Measure::Events(EventMeasure {
        weight: pricing,
        half_life_ms: (90 * DAY_MS) as f64,
        newest_ms: as_of.ms() - days_ago * DAY_MS,
        usual_week: 3.0,
    });
    let of = |values| Evidence {
        values,
        words: vec!["as of now".into()],
        ..Evidence::default()
    };
    let evidence = vec![
        of(vec![value("pricing", views)]),
        of(vec![value("active people", Measure::Count(people))]),
        of(vec![]),
    ];
    let parts = contributions.iter().enumerate();
    let explanation = Explanation {
        base_logit: -1.0,
        logit: -1.0 + contributions.iter().sum::<f64>(),
        contributions: parts
            .map(|(group, logit)| Contribution {
                group,
                logit: *logit,
            })
            .collect(),
    };
    Explained::new(before, as_of, &explanation, evidence, &groups())
}

fn changed(explained: &Explained) -> Vec<(&str, &[String])> {
    let drivers = explained.change_drivers.iter();
    drivers
        .map(|driver| (&*driver.group, &driver.evidence[..]))
        .collect()
}

#[test]
fn evidence_of_a_change_is_a_difference_in_its_direction() {
    let text = |text: &str| vec![text.to_owned()];
    let first = at_day(None, 100, [0.1, 0.2, 0.3], (1.9, 3, 1.0));
    let second = at_day(Some(&first), 107, [0.4, 0.3, -0.3], (4.7, 0, 4.0));
    let (views, people) = (text("pricing 2 → 5"), text("active people 1 → 4"));
    let none: Vec<String> = Vec::new();
    let expected = [
        ("silence", &none[..]),
        ("intent", &views),
        ("usage", &people),
    ];
    assert_eq!(changed(&second), expected);
    assert_eq!(second.change_drivers[1].value, None);
    // The same evidence under falling contributions supports nothing.
    let against = at_day(Some(&first), 107, [0.0, 0.1, 0.3], (4.7, 0, 4.0));
    assert_eq!(changed(&against), [("intent", &none[..]), ("usage", &none)]);
    let stopped = text("no pricing for 21 days, usually 3 a week");
    let fewer = text("active people 4 → 1");
    let fallen = at_day(Some(&second), 114, [0.0, 0.1, -0.3], (4.4, 21, 1.0));
    assert_eq!(
        changed(&fallen),
        [("intent", &stopped[..]), ("usage", &fewer)]
    );
}

#[test]
fn changes_are_told_since_about_a_week() {
    let mut last = at_day(None, 100, [0.1, 0.2, 0.3], (1.0, 0, 1.0));
    for (day, since) in [
        (101, Some(100)),
        (106, Some(100)),
        (107, Some(100)),
        (110, Some(100)),
        (116, Some(110)),
        (130, Some(116)),
    ] {
        last = at_day(Some(&last), day, [0.2, 0.2, 0.3], (1.0, 0, 1.0));
        assert_eq!(
            last.change_since_ms(),
            since.map(|day: i64| day * DAY_MS),
            "{day}"
        );
    }
}

#[test]
fn an_explanation_read_back_from_its_record_goes_on_alike() {
    let first = at_day(None, 100, [0.123_456_789, -0.0, 1e-7], (1.9, 3, 1.0));
    let second = at_day(Some(&first), 103, [0.7, 0.1, -2.0 / 3.0], (4.7, 0, 4.0));
    for explained in [&first, &second] {
        let record = Score {
            drivers: explained.drivers.clone(),
            base_logit: Some(explained.base_logit),
            drivers_as_of: Some(explained.as_of.ms()),
            change_since: explained.change_since_ms(),
            change_drivers: explained.change_drivers.clone(),
            compared_values: explained.compared_values(&groups()),
            ..Score::default()
        };
        let restored = Explained::restored(&record, &groups()).unwrap();
        let text = |one: &Explained| serde_json::to_string(one).unwrap();
        assert_eq!(text(&restored), text(explained));
        for day in [103, 105, 108, 112] {
            let next = |before| at_day(Some(before), day, [0.3, 0.3, 0.1], (5.1, 1, 2.0));
            assert_eq!(text(&next(&restored)), text(&next(explained)), "{day}");
        }
    }
    let older = Score {
        base_logit: Some(-1.0),
        drivers_as_of: Some(100 * DAY_MS),
        ..Score::default()
    };
    let restored = Explained::restored(&older, &groups()).unwrap();
    let next = at_day(Some(&restored), 107, [0.3, 0.3, 0.1], (5.1, 1, 2.0));
    assert!(
        next.change_drivers
            .iter()
            .all(|driver| driver.evidence.is_empty())
    );
}

#[test]
fn sub_scores_are_odds_of_the_contributions_of_a_kind() {
    let explained = at_day(None, 100, [1.0, 0.5, -0.4], (1.0, 0, 1.0));
    let SubScores {
        fit,
        behaviour,
        relations,
        timing,
    } = explained.sub_scores;
    let of = |x: f64| 100.0 / (1.0 + (-x).exp());
    assert!((behaviour - of(1.5)).abs() < 1e-3, "{behaviour}");
    assert!((timing - of(-0.4)).abs() < 1e-3, "{timing}");
    assert_eq!((fit, relations), (50.0, 50.0));
}
