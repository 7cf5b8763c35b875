use leadpulse_schema::units::DAY_MS;

mod properties;

use super::*;
use crate::alerts::Severity;
use crate::facts::Pace;
use crate::trend::Trend;
use crate::{Arrival, OpenDeal, PolicyOptions, is_held_out};

const HOUR_MS: i64 = DAY_MS / 24;

fn policy(json: &str) -> Policy {
    let options: PolicyOptions = serde_json::from_str(json).expect("the options parse");
    options.validated().expect("the options have no fault")
}

fn hot(more: &str) -> Policy {
    policy(&format!(
        r#"{{"bands":[{{"name":"warm","enter":0.08}},{{"name":"hot","enter":0.2}}],"threshold_up":"hot","threshold_down":"hot"{more}}}"#
    ))
}

/// An account of two people with as many kinds of events, the newest at the tick.
fn busy(tick_ms: i64) -> AlertFacts {
    AlertFacts {
        account: "A1".into(),
        active_people: Some(2),
        active_kinds: Some(2),
        newest_event_ms: Some(tick_ms),
        ..AlertFacts::default()
    }
}

fn scored(probability: f64) -> Result<Scored, Absence> {
    Ok(Scored {
        probability,
        logit: leadpulse_schema::units::logit(probability),
    })
}

fn fold_at(
    policy: &Policy,
    state: &mut AlertState,
    hour: i64,
    score: Result<Scored, Absence>,
    stage: Stage,
    facts: &AlertFacts,
) -> Folded {
    let seen = Seen {
        tick_ms: hour * HOUR_MS,
        score,
        stage,
        is_new: false,
        facts,
        ruling: None,
    };
    policy.fold(state, &seen)
}

/// A fold in one line: `+type severity`, `^` for an update, `-` for an end, `!type:reason`.
fn told(folded: &Folded) -> String {
    let fired = folded.fired.iter().map(|draft| {
        let life = match draft.life {
            AlertLife::Open => "+",
            AlertLife::Updated => "^",
            AlertLife::Resolved => "-",
        };
        let crossed = draft.key.crossed_at_ms / HOUR_MS;
        format!(
            "{life}{}@{crossed} {}",
            draft.key.alert_type, draft.severity
        )
    });
    let held = folded
        .held
        .iter()
        .map(|(alert_type, reason)| format!("!{alert_type}:{}", reason.name()));
    fired.chain(held).collect::<Vec<_>>().join(" ")
}

/// Folds scores at hours, the first to be placed, and compares what each one tells.
fn check(policy: &Policy, steps: &[(f64, i64, &str)]) {
    let mut state = AlertState::default();
    for (index, (probability, hour, expected)) in steps.iter().enumerate() {
        let stage = if index == 0 {
            Stage::Placing
        } else {
            Stage::Live
        };
        let facts = busy(hour * HOUR_MS);
        let score = scored(*probability);
        let folded = fold_at(policy, &mut state, *hour, score, stage, &facts);
        assert_eq!(told(&folded), *expected, "step {index} at hour {hour}");
    }
}

#[test]
fn a_rise_fires_at_once_and_a_fall_after_its_dwell() {
    check(
        &hot(""),
        &[
            (0.15, 0, ""),
            (0.3, 1, "+threshold_up@1 P2"),
            (0.15, 2, ""),
            (0.1, 3, ""),
            (0.1, 26, ""),
            (0.1, 27, "+threshold_down@27 P2"),
            (0.05, 28, ""),
        ],
    );
}

#[test]
fn a_dip_within_the_dwell_is_no_fall_and_makes_no_second_rise() {
    check(
        &hot(r#","cooldown":"0s""#),
        &[
            (0.15, 0, ""),
            (0.3, 1, "+threshold_up@1 P2"),
            (0.1, 2, ""),
            (0.3, 20, ""),
            (0.1, 21, ""),
            (0.1, 40, ""),
            (0.3, 44, ""),
        ],
    );
}

#[test]
fn a_crossing_within_a_cooldown_fires_at_its_end_if_it_holds() {
    let policy = hot(r#","cooldown":"48h","fall_dwell":"0s""#);
    let placed = (0.15, 0, "");
    let (up, down) = ("+threshold_up@1 P2", "+threshold_down@2 P2");
    let again = (0.3, 10, "-threshold_down@2 P2 !threshold_up:cooldown");
    check(
        &policy,
        &[
            placed,
            (0.3, 1, up),
            (0.1, 2, down),
            again,
            (0.3, 48, ""),
            (0.3, 49, "+threshold_up@10 P2"),
        ],
    );
    check(
        &policy,
        &[
            placed,
            (0.3, 1, up),
            (0.1, 2, down),
            again,
            (0.1, 30, "!threshold_up:reversed !threshold_down:cooldown"),
            (0.1, 49, ""),
            (0.1, 50, "+threshold_down@30 P2"),
        ],
    );
}

#[test]
fn time_asks_for_the_end_of_dwell_and_cooldown() {
    let (policy, mut state) = (hot(r#","cooldown":"48h""#), AlertState::default());
    let mut at = |hour: i64, probability: f64, stage| {
        let facts = busy(hour * HOUR_MS);
        let folded = fold_at(
            &policy,
            &mut state,
            hour,
            scored(probability),
            stage,
            &facts,
        );
        folded.revisit_at_ms.map(|at_ms| at_ms / HOUR_MS)
    };
    assert_eq!(at(0, 0.15, Stage::Placing), None);
    assert_eq!(at(1, 0.3, Stage::Live), None);
    assert_eq!(at(2, 0.1, Stage::Live), Some(26), "the dwell of a fall");
    assert_eq!(at(26, 0.1, Stage::Live), None);
    assert_eq!(at(30, 0.3, Stage::Live), Some(49), "the cooldown of rises");
    assert_eq!(at(49, 0.3, Stage::Live), None);
}

#[test]
fn a_rise_waits_for_its_confirmation() {
    let policy = hot("");
    let quiet = AlertFacts {
        account: "A1".into(),
        active_people: Some(0),
        ..busy(0)
    };
    let run = |hours: &[(i64, bool)]| -> Vec<String> {
        let mut state = AlertState::default();
        fold_at(&policy, &mut state, 0, scored(0.15), Stage::Placing, &quiet);
        let step = |(hour, is_busy): &(i64, bool)| {
            let facts = if *is_busy {
                busy(hour * HOUR_MS)
            } else {
                quiet.clone()
            };
            let live = Stage::Live;
            told(&fold_at(
                &policy,
                &mut state,
                *hour,
                scored(0.3),
                live,
                &facts,
            ))
        };
        hours.iter().map(step).collect()
    };
    assert_eq!(run(&[(1, false), (30, true)]), ["", "+threshold_up@1 P2"]);
    assert_eq!(
        run(&[(1, false), (73, false), (80, true)]),
        ["", "!threshold_up:unconfirmed", ""],
        "three days are the end of the wait"
    );
    assert_eq!(
        run(&[(1, false), (80, true)]),
        ["", "!threshold_up:unconfirmed"],
        "also where nothing was looked at in between"
    );
    assert_eq!(run(&[(1, false), (73, true)]), ["", "+threshold_up@1 P2"]);
    let mut state = AlertState::default();
    fold_at(&policy, &mut state, 0, scored(0.15), Stage::Placing, &quiet);
    let crossed = fold_at(&policy, &mut state, 1, scored(0.3), Stage::Live, &quiet);
    assert_eq!(
        crossed.revisit_at_ms,
        Some(73 * HOUR_MS),
        "the end of the wait is looked at"
    );
}

#[test]
fn an_entity_first_seen_hot_alerts_only_if_it_is_new() {
    let policy = hot("");
    for (is_new, stage, expected) in [
        (true, Stage::Live, "+threshold_up@5 P2"),
        (false, Stage::Live, "!threshold_up:first_score"),
        (true, Stage::Placing, "!threshold_up:placing"),
    ] {
        let facts = busy(5 * HOUR_MS);
        let seen = Seen {
            tick_ms: 5 * HOUR_MS,
            score: scored(0.4),
            stage,
            is_new,
            facts: &facts,
            ruling: None,
        };
        let folded = policy.fold(&mut AlertState::default(), &seen);
        assert_eq!(told(&folded), expected);
    }
}

#[test]
fn a_change_of_bundle_places_and_keeps_what_still_holds() {
    let (policy, mut state) = (hot(""), AlertState::default());
    let mut at = |hour: i64, probability: f64, stage| {
        let facts = busy(hour * HOUR_MS);
        told(&fold_at(
            &policy,
            &mut state,
            hour,
            scored(probability),
            stage,
            &facts,
        ))
    };
    assert_eq!(at(0, 0.15, Stage::Placing), "");
    assert_eq!(at(1, 0.3, Stage::Live), "+threshold_up@1 P2");
    assert_eq!(at(2, 0.1, Stage::Placing), "!threshold_down:placing");
    assert_eq!(at(40, 0.1, Stage::Live), "", "the swap is no fall");
    assert_eq!(at(300, 0.3, Stage::Live), "+threshold_up@300 P1");
}

#[test]
fn leaving_the_population_ends_alerts_and_is_no_fall() {
    let (policy, mut state) = (hot(r#","cooldown":"0s""#), AlertState::default());
    let mut at = |hour: i64, score, stage| {
        let facts = busy(hour * HOUR_MS);
        told(&fold_at(&policy, &mut state, hour, score, stage, &facts))
    };
    assert_eq!(at(0, scored(0.15), Stage::Placing), "");
    assert_eq!(at(1, scored(0.3), Stage::Live), "+threshold_up@1 P2");
    assert_eq!(
        at(2, Err(Absence::Outside), Stage::Live),
        "-threshold_up@1 P2"
    );
    assert_eq!(at(3, Err(Absence::Deleted), Stage::Live), "");
    assert_eq!(at(4, scored(0.3), Stage::Live), "+threshold_up@4 P2");
}

#[test]
fn a_fall_replaces_the_rise_that_it_ends() {
    let (policy, mut state) = (hot(r#","fall_dwell":"0s""#), AlertState::default());
    let mut at = |hour: i64, probability: f64, stage| {
        let facts = busy(hour * HOUR_MS);
        fold_at(
            &policy,
            &mut state,
            hour,
            scored(probability),
            stage,
            &facts,
        )
        .fired
    };
    at(0, 0.15, Stage::Placing);
    let up = at(1, 0.3, Stage::Live);
    let down = at(2, 0.1, Stage::Live);
    assert_eq!(down.len(), 1, "the end of the rise is not told twice");
    assert_eq!(down[0].supersedes, Some(up[0].key));
    assert_eq!(
        (up[0].previous_band.as_deref(), up[0].band.as_deref()),
        (Some("warm"), Some("hot"))
    );
    assert_eq!(up[0].threshold, Some(0.2));
    assert!((down[0].threshold.unwrap() - 0.14).abs() < 1e-9);
}

#[test]
fn severity_follows_band_velocity_value_and_people() {
    let severity = |more: &str, before: f64, now: f64, facts: AlertFacts| {
        let (policy, mut state) = (hot(more), AlertState::default());
        fold_at(
            &policy,
            &mut state,
            0,
            scored(before),
            Stage::Placing,
            &facts,
        );
        let folded = fold_at(&policy, &mut state, 30, scored(now), Stage::Live, &facts);
        folded.fired[0].severity
    };
    let deal = |amount: f64| OpenDeal {
        key: "D".into(),
        amount: Some(amount),
        owner: None,
    };
    let of = |people: u32, amount: f64| AlertFacts {
        active_people: Some(people),
        active_kinds: Some(3),
        open_deals: vec![deal(amount)],
        ..busy(30 * HOUR_MS)
    };
    let large = r#","large_value":1000"#;
    assert_eq!(severity(large, 0.19, 0.21, of(2, 10.0)), Severity::P2);
    assert_eq!(
        severity(large, 0.05, 0.21, of(2, 10.0)),
        Severity::P1,
        "fast"
    );
    assert_eq!(
        severity(large, 0.19, 0.21, of(2, 1e4)),
        Severity::P1,
        "large"
    );
    assert_eq!(
        severity(large, 0.19, 0.21, of(3, 10.0)),
        Severity::P1,
        "broad"
    );
    assert_eq!(
        severity(large, 0.19, 0.21, of(1, 10.0)),
        Severity::P2,
        "alone"
    );
    let down = r#","fall_dwell":"0s","large_value":1000"#;
    assert_eq!(
        severity(down, 0.9, 0.01, of(9, 1e4)),
        Severity::P2,
        "a fall"
    );
}

#[test]
fn accounts_are_held_back_by_relation_and_by_people() {
    let policy = hot(r#","suppress":{"domains":["example.com"]}"#);
    let base = busy(HOUR_MS);
    let cases = [
        (
            AlertFacts {
                is_customer: true,
                ..base.clone()
            },
            "!threshold_up:customer",
        ),
        (
            AlertFacts {
                do_not_contact: true,
                ..base.clone()
            },
            "!threshold_up:do_not_contact",
        ),
        (
            AlertFacts {
                domain: Some("eu.Example.com".into()),
                ..base.clone()
            },
            "!threshold_up:excluded_domain",
        ),
        (
            AlertFacts {
                domain: Some("notexample.com".into()),
                ..base.clone()
            },
            "+threshold_up@1 P2",
        ),
        (
            AlertFacts {
                owner: Some("U1".into()),
                open_deals: vec![OpenDeal {
                    key: "D".into(),
                    amount: None,
                    owner: Some("U2".into()),
                }],
                ..base.clone()
            },
            "!threshold_up:other_owner",
        ),
    ];
    for (facts, expected) in cases {
        let mut state = AlertState::default();
        fold_at(&policy, &mut state, 0, scored(0.15), Stage::Placing, &facts);
        let folded = fold_at(&policy, &mut state, 1, scored(0.3), Stage::Live, &facts);
        assert_eq!(told(&folded), expected, "{facts:?}");
    }
    let customer = AlertFacts {
        is_customer: true,
        ..base.clone()
    };
    for (decision, facts, expected) in [
        (OverrideKind::Mute, &base, "!threshold_up:muted"),
        (OverrideKind::Exclude, &base, "!threshold_up:excluded"),
        (OverrideKind::Pin, &customer, "+threshold_up@1 P2"),
    ] {
        for (until_ms, is_in_force) in [(None, true), (Some(HOUR_MS), false)] {
            let ruling = AccountOverride {
                decision,
                who: "ann".into(),
                why: None,
                until_ms,
            };
            let mut state = AlertState::default();
            fold_at(&policy, &mut state, 0, scored(0.15), Stage::Placing, facts);
            let seen = Seen {
                tick_ms: HOUR_MS,
                score: scored(0.3),
                stage: Stage::Live,
                is_new: false,
                facts,
                ruling: Some(&ruling),
            };
            let told = told(&policy.fold(&mut state, &seen));
            assert_eq!(told == expected, is_in_force, "{ruling:?}: {told}");
        }
    }
}

/// Probability, hour, decision with its end in hours, the alerts told, and the hour of the next look.
type RuledStep<'s> = (
    f64,
    i64,
    Option<(OverrideKind, Option<i64>)>,
    &'s str,
    Option<i64>,
);

/// Folds scores under decisions of people at hours, the first to be placed.
fn check_ruled(steps: &[RuledStep<'_>]) {
    let policy = hot("");
    let mut state = AlertState::default();
    for (index, (probability, hour, ruling, expected, revisit)) in steps.iter().enumerate() {
        let facts = AlertFacts {
            is_customer: true,
            ..busy(hour * HOUR_MS)
        };
        let ruling = ruling.map(|(decision, until)| AccountOverride {
            decision,
            who: "ann".into(),
            why: None,
            until_ms: until.map(|hour| hour * HOUR_MS),
        });
        let seen = Seen {
            tick_ms: hour * HOUR_MS,
            score: scored(*probability),
            stage: match index {
                0 => Stage::Placing,
                _ => Stage::Live,
            },
            is_new: false,
            facts: &facts,
            ruling: ruling.as_ref(),
        };
        let folded = policy.fold(&mut state, &seen);
        assert_eq!(told(&folded), *expected, "step {index} at hour {hour}");
        let revisit_ms = revisit.map(|hour| hour * HOUR_MS);
        assert_eq!(folded.revisit_at_ms, revisit_ms, "step {index}");
    }
}

#[test]
fn a_pin_that_comes_tells_of_the_crossing_that_was_held_back() {
    let pin = Some((OverrideKind::Pin, None));
    check_ruled(&[
        (0.15, 0, None, "", None),
        (0.3, 1, None, "!threshold_up:customer", None),
        (0.3, 2, pin, "+threshold_up@2 P2", None),
        (0.3, 3, pin, "", None),
        (0.3, 4, None, "", None),
        // The same pin again finds an open alert, and tells nothing.
        (0.3, 5, pin, "", None),
    ]);
    // A low score has crossed nothing, so there is nothing to tell.
    check_ruled(&[(0.1, 0, None, "", None), (0.1, 1, pin, "", None)]);
}

#[test]
fn a_mute_ends_open_alerts_and_is_looked_at_again_when_it_ends() {
    let pin = Some((OverrideKind::Pin, None));
    for kind in [OverrideKind::Mute, OverrideKind::Exclude] {
        let silent = Some((kind, Some(9)));
        check_ruled(&[
            (0.15, 0, pin, "", None),
            (0.3, 1, pin, "+threshold_up@1 P2", None),
            (0.3, 2, silent, "-threshold_up@1 P2", Some(9)),
            (0.3, 3, silent, "", Some(9)),
            (0.3, 9, silent, "", None),
            // Within the cooldown a pin waits for its end, 7 days after the alert.
            (0.3, 10, pin, "!threshold_up:cooldown", Some(169)),
            (0.3, 169, pin, "+threshold_up@10 P2", None),
        ]);
    }
}

#[test]
fn the_hold_out_share_is_marked_and_sticky() {
    let policy = hot(r#","hold_out_share":1"#);
    let mut state = AlertState::default();
    let facts = busy(HOUR_MS);
    fold_at(&policy, &mut state, 0, scored(0.15), Stage::Placing, &facts);
    let folded = fold_at(&policy, &mut state, 1, scored(0.3), Stage::Live, &facts);
    assert!(folded.fired[0].is_held_out);
    let names: Vec<String> = (0..4_000).map(|n| format!("A{n}")).collect();
    let held = |share: f64| names.iter().filter(|name| is_held_out(name, share)).count();
    assert_eq!((held(0.0), held(1.0)), (0, 4_000));
    assert!((350..450).contains(&held(0.1)), "{}", held(0.1));
    for name in &names {
        assert!(!is_held_out(name, 0.1) || is_held_out(name, 0.2), "{name}");
    }
}

/// Folds facts at hours under one rule, with a score that never crosses.
fn check_trigger(rule: &str, steps: &[(i64, AlertFacts, &str)]) {
    let policy = policy(&format!(
        r#"{{"confirm":{{"min_kinds":0,"min_active_members":0,"recency":"1000d"}},"cooldown":"0s","facts":{{"usage":["u"],"limits":{{"u":["k"]}}}},"alerts":[{rule}]}}"#
    ));
    let mut state = AlertState::default();
    for (index, (hour, facts, expected)) in steps.iter().enumerate() {
        let stage = if index == 0 {
            Stage::Placing
        } else {
            Stage::Live
        };
        let folded = fold_at(&policy, &mut state, *hour, scored(0.1), stage, facts);
        assert_eq!(told(&folded), *expected, "{rule} step {index} at {hour}");
    }
}

#[test]
fn people_who_arrive_fire_once_each() {
    let arrival = |key: &str, hour: i64, from: Option<&str>| Arrival {
        key: key.into(),
        from: from.map(str::to_owned),
        at_ms: hour * HOUR_MS,
    };
    let executives = |list: &[(&str, i64)]| AlertFacts {
        executives: list
            .iter()
            .map(|(key, hour)| arrival(key, *hour, None))
            .collect(),
        ..busy(0)
    };
    check_trigger(
        r#"{"trigger":"new_executive"}"#,
        &[
            (10, executives(&[("old", 1)]), "!new_executive:placing"),
            (11, executives(&[("old", 1)]), ""),
            (
                12,
                executives(&[("vp", 12), ("old", 1)]),
                "+new_executive@12 P2",
            ),
            (13, executives(&[("vp", 12), ("old", 1)]), ""),
            (
                20,
                executives(&[("cio", 20), ("vp", 12)]),
                "+new_executive@20 P2",
            ),
            (400, executives(&[("cio", 20)]), "-new_executive@20 P2"),
        ],
    );
    let moved = |hour: i64| AlertFacts {
        from_elsewhere: vec![arrival("c", hour, Some("A9"))],
        ..busy(0)
    };
    check_trigger(
        r#"{"trigger":"champion_moved","within":"2d"}"#,
        &[
            (0, busy(0), ""),
            (5, moved(4), "+champion_moved@5 P2"),
            (53, moved(4), "-champion_moved@5 P2"),
        ],
    );
}

#[test]
fn committees_spikes_limits_and_waves_fire_on_their_conditions() {
    let people = |active: u32, departments: &[&str]| AlertFacts {
        active_people: Some(active),
        by_field: BTreeMap::from([(
            "department".to_owned(),
            departments.iter().map(|one| (*one).to_owned()).collect(),
        )]),
        ..busy(0)
    };
    check_trigger(
        r#"{"trigger":"committee_formed"}"#,
        &[
            (0, people(1, &["IT"]), ""),
            (1, people(4, &["IT"]), ""),
            (2, people(3, &["Data", "IT"]), "+committee_formed@2 P2"),
            (3, people(2, &["Data", "IT"]), ""),
            (4, people(3, &["Data", "IT"]), ""),
            (5, people(1, &["IT"]), "-committee_formed@2 P2"),
        ],
    );
    let pace = |week: f64, usual_week: f64| AlertFacts {
        active_people: Some(2),
        engagement: Some(Pace { week, usual_week }),
        usage: Some(Pace { week, usual_week }),
        ..busy(0)
    };
    for trigger in ["engagement_spike", "usage_spike"] {
        check_trigger(
            &format!(r#"{{"trigger":"{trigger}","ratio":4,"least":10}}"#),
            &[
                (0, pace(2.0, 2.0), ""),
                (1, pace(9.0, 0.1), ""),
                (2, pace(11.0, 3.0), ""),
                (3, pace(12.0, 3.0), &format!("+{trigger}@3 P3")),
                (4, pace(9.0, 3.0), ""),
                (5, pace(7.0, 3.0), &format!("-{trigger}@3 P3")),
                (6, pace(50.0, 0.0), ""),
            ],
        );
    }
    let limit = |hour: i64| AlertFacts {
        limit_ms: Some(hour * HOUR_MS),
        ..busy(0)
    };
    check_trigger(
        r#"{"trigger":"usage_limit"}"#,
        &[
            (0, busy(0), ""),
            (3, limit(2), "+usage_limit@3 P2"),
            (4, limit(2), ""),
            (9, limit(9), "+usage_limit@9 P2"),
        ],
    );
    let peers = |closed: f64| AlertFacts {
        peers: Some(crate::PeerClosings {
            hub: "Finance".into(),
            closed,
            of: 19,
            within_days: 90,
        }),
        ..busy(0)
    };
    check_trigger(
        r#"{"trigger":"peer_wave"}"#,
        &[
            (0, peers(0.2), ""),
            (1, peers(2.9), ""),
            (2, peers(3.1), "+peer_wave@2 P3"),
            (3, peers(1.6), ""),
            (4, peers(1.4), "-peer_wave@2 P3"),
        ],
    );
}

#[test]
fn silence_and_return_fire_by_time() {
    let rhythm = |newest: i64, gap_days: i64| AlertFacts {
        newest_event_ms: Some(newest * HOUR_MS),
        usual_gap_ms: Some(gap_days * DAY_MS),
        ..busy(0)
    };
    check_trigger(
        r#"{"trigger":"going_dark"}"#,
        &[
            (0, rhythm(0, 7), ""),
            (20 * 24, rhythm(0, 7), ""),
            (21 * 24, rhythm(0, 7), "+going_dark@504 P2"),
            (22 * 24, rhythm(22 * 24, 7), "-going_dark@504 P2"),
        ],
    );
    let policy = policy(r#"{"alerts":[{"trigger":"going_dark"}]}"#);
    let mut state = AlertState::default();
    let facts = rhythm(0, 1);
    let folded = fold_at(&policy, &mut state, 1, scored(0.1), Stage::Live, &facts);
    assert_eq!(
        folded.revisit_at_ms,
        Some(14 * DAY_MS),
        "no event is to come"
    );

    let lost = |newest: i64, week: f64| AlertFacts {
        lost_ms: Some(0),
        newest_event_ms: Some(newest * HOUR_MS),
        engagement: Some(Pace {
            week,
            usual_week: 1.0,
        }),
        ..busy(0)
    };
    check_trigger(
        r#"{"trigger":"re_engaged_after_loss"}"#,
        &[
            (0, lost(0, 5.0), ""),
            (24, lost(24, 5.0), ""),
            (400, lost(400, 1.0), ""),
            (410, lost(410, 2.0), "+re_engaged_after_loss@410 P2"),
            (420, lost(420, 3.0), ""),
        ],
    );
}

#[test]
fn conditions_of_a_rule_hold_it_back() {
    let policy = policy(
        r#"{"bands":[{"name":"hot","enter":0.2}],"threshold_up":"hot","alerts":[{"trigger":"threshold_up","severity":"P3","when":{"min_active_members":2,"highest":{"seniority":"VP"}}}]}"#,
    );
    let reached = |values: &[&str]| {
        let values = values.iter().map(|one| (*one).to_owned()).collect();
        BTreeMap::from([("seniority".to_owned(), values)])
    };
    let mut state = AlertState::default();
    let mut at = |hour: i64, probability: f64, stage, values: &[&str]| {
        let facts = AlertFacts {
            reached: reached(values),
            ..busy(hour * HOUR_MS)
        };
        told(&fold_at(
            &policy,
            &mut state,
            hour,
            scored(probability),
            stage,
            &facts,
        ))
    };
    assert_eq!(at(0, 0.1, Stage::Placing, &["IC"]), "");
    assert_eq!(at(1, 0.3, Stage::Live, &["IC"]), "");
    assert_eq!(
        at(2, 0.3, Stage::Live, &["IC", "VP", "C-Level"]),
        "+threshold_up@1 P3"
    );
}

#[test]
fn alerting_looks_back_over_the_longest_wait() {
    let day = |policy: &Policy| policy.look_back_ms() / DAY_MS;
    assert_eq!(day(&policy("{}")), 0, "no rule, nothing to fold");
    assert_eq!(day(&hot("")), 1 + 7 + 3, "fall, cooldown, confirmation");
    let short = r#","cooldown":"0s","fall_dwell":"0s","confirm":{"within":"0s"}"#;
    assert_eq!(day(&hot(short)), 8, "the span of a change");
}

#[test]
fn a_score_between_the_limits_keeps_its_band_over_a_change_of_bundle() {
    let (policy, mut state) = (hot(r#","fall_dwell":"0s""#), AlertState::default());
    let mut at = |hour: i64, probability: f64, stage| {
        let facts = busy(hour * HOUR_MS);
        fold_at(
            &policy,
            &mut state,
            hour,
            scored(probability),
            stage,
            &facts,
        )
        .fired
    };
    at(0, 0.3, Stage::Placing);
    at(1, 0.16, Stage::Placing);
    let down = at(2, 0.1, Stage::Live);
    assert_eq!(down[0].previous_band.as_deref(), Some("hot"));
}
