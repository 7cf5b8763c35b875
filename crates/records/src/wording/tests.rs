use std::collections::BTreeMap;

use leadpulse_features::{CommitteeFact, Direction, EventFact, MemberFact};
use leadpulse_policy::{AlertKey, Arrival, Pace, PeerClosings, ScoreChange, Severity, Trend};
use proptest::prelude::*;

use super::*;

const NOW_MS: i64 = 1_731_283_200_000;
const HOUR_MS: i64 = DAY_MS / 24;

fn member(key: &str, department: &str, seniority: &str, hours_ago: i64) -> MemberFact {
    let value = |field: &str, value: &str| (field.to_owned(), value.to_owned());
    MemberFact {
        table: "contacts".into(),
        key: key.into(),
        values: [
            value("department", department),
            value("seniority", seniority),
            value("name", "Ann"),
        ]
        .into(),
        last_event_ms: NOW_MS - hours_ago * HOUR_MS,
        active_days: 2,
    }
}

fn event(kind: &str, owner: &str, hours_ago: i64) -> EventFact {
    EventFact {
        time_ms: NOW_MS - hours_ago * HOUR_MS,
        id: format!("{kind}-{owner}"),
        table: "content_views".into(),
        kind: kind.into(),
        owner_table: "contacts".into(),
        by_person: true,
        owner: owner.into(),
    }
}

fn facts(members: Vec<MemberFact>, events: Vec<EventFact>) -> Facts {
    let of = |field: &str| -> Vec<String> {
        let values = members
            .iter()
            .filter_map(|one| one.values.get(field).cloned());
        values.collect()
    };
    let committee = CommitteeFact {
        active: members.len(),
        by_field: [
            ("department".to_owned(), of("department")),
            ("seniority".to_owned(), of("seniority")),
        ]
        .into(),
        highest: BTreeMap::from([("seniority".to_owned(), "VP".to_owned())]),
        members,
    };
    Facts {
        committee,
        events,
        ..Facts::default()
    }
}

fn draft(alert_type: AlertType, probability: f64, change: Option<(f64, i64)>) -> AlertDraft {
    AlertDraft {
        key: AlertKey {
            alert_type,
            crossed_at_ms: NOW_MS,
        },
        life: AlertLife::Open,
        severity: Severity::P2,
        tick_ms: NOW_MS,
        probability,
        has_left: false,
        change: change.map(|(probability, hours)| ScoreChange {
            since_ms: NOW_MS - hours * HOUR_MS,
            probability,
            active_people: None,
            counts: None,
        }),
        trend: Trend::Unknown,
        velocity_per_day: None,
        threshold: Some(0.2),
        previous_band: None,
        band: None,
        value_at_stake: 0.0,
        expires_at_ms: None,
        supersedes: None,
        is_held_out: false,
        is_pinned: false,
        is_silenced: false,
    }
}

fn check(draft: &AlertDraft, alert_facts: &AlertFacts, facts: &Facts, expected: &str) {
    check_changed(draft, alert_facts, facts, &[], expected);
}

fn change(text: &str, direction: Direction) -> EvidenceChange {
    EvidenceChange {
        text: text.into(),
        direction,
    }
}

fn check_changed(
    draft: &AlertDraft,
    alert_facts: &AlertFacts,
    facts: &Facts,
    changes: &[EvidenceChange],
    expected: &str,
) {
    let telling = Telling {
        name: "Vertex Financial",
        draft,
        alert_facts,
        facts,
        changes,
        drag: Some("High intent content"),
        from: Some("Acme"),
        next: Some("Schedule exec call"),
    };
    assert_eq!(telling.sentence(), expected);
}

#[test]
fn sentences_say_what_happened_who_and_when() {
    let busy = facts(
        vec![
            member("C1", "IT", "VP", 20),
            member("C2", "Data", "IC", 50),
            member("C3", "Finance", "Manager", 90),
            member("C4", "Legal", "IC", 300),
        ],
        vec![
            event("demo_request", "C1", 20),
            event("pricing_page_view", "C2", 50),
            event("pricing_page_view", "C3", 90),
            event("blog", "C4", 300),
        ],
    );
    let at = |hours_ago: i64| AlertFacts {
        newest_event_ms: Some(NOW_MS - hours_ago * HOUR_MS),
        active_people: Some(4),
        ..AlertFacts::default()
    };
    check(
        &draft(AlertType::ThresholdUp, 0.24, Some((0.14, 170))),
        &at(20),
        &busy,
        "Vertex Financial: 3 people active this week (Data, Finance, IT): demo request, pricing page view; the last by a VP yesterday. Chance 24 % (was 14 % a week ago). Next: Schedule exec call.",
    );
    let with_people = |alert_type, probability, before, people| {
        let mut draft = draft(alert_type, probability, Some((before, 170)));
        let change = draft.change.as_mut().expect("a change was given");
        change.active_people = Some(people);
        draft
    };
    check(
        &with_people(AlertType::ThresholdUp, 0.24, 0.14, 1),
        &at(20),
        &busy,
        "Vertex Financial: 3 people active this week (Data, Finance, IT); active people 1 → 4; the last by a VP yesterday. Chance 24 % (was 14 % a week ago). Next: Schedule exec call.",
    );
    let changes = [
        change("demo request added", Direction::Rise),
        change("pricing page view 2 → 5", Direction::Rise),
        change("no webinar for 21 days, usually 4 a week", Direction::Fall),
        change("case study 0 → 2", Direction::Rise),
    ];
    check_changed(
        &with_people(AlertType::ThresholdUp, 0.24, 0.14, 1),
        &at(20),
        &busy,
        &changes,
        "Vertex Financial: 3 people active this week (Data, Finance, IT); demo request added, pricing page view 2 → 5, case study 0 → 2; the last by a VP yesterday. Chance 24 % (was 14 % a week ago). Next: Schedule exec call.",
    );
    check_changed(
        &with_people(AlertType::ThresholdDown, 0.1, 0.3, 7),
        &at(20),
        &busy,
        &changes,
        "Vertex Financial: no webinar for 21 days, usually 4 a week, active people 7 → 4. Chance 10 % (was 30 % a week ago). Next: Schedule exec call.",
    );
    let lost = AlertFacts {
        lost_ms: Some(NOW_MS - 2 * DAY_MS),
        ..at(20)
    };
    check_changed(
        &with_people(AlertType::ThresholdDown, 0.1, 0.3, 4),
        &lost,
        &busy,
        &changes,
        "Vertex Financial: a deal was lost 2 days ago; no webinar for 21 days, usually 4 a week. Chance 10 % (was 30 % a week ago). Next: Schedule exec call.",
    );
    check(
        &with_people(AlertType::ThresholdDown, 0.1, 0.3, 7),
        &at(20),
        &busy,
        "Vertex Financial: active people 7 → 4. Chance 10 % (was 30 % a week ago). Next: Schedule exec call.",
    );
    let quiet = facts(Vec::new(), vec![event("demo_request", "C9", 24 * 24)]);
    check(
        &draft(AlertType::ThresholdDown, 0.12, Some((0.31, 9 * 24))),
        &at(24 * 24),
        &quiet,
        "Vertex Financial: no activity for 24 days; the last: demo request. Chance 12 % (was 31 % 9 days ago). Next: Schedule exec call.",
    );
    check(
        &draft(AlertType::ThresholdDown, 0.12, Some((0.31, 9 * 24))),
        &at(20),
        &busy,
        "Vertex Financial: the chance fell, lowered most by high intent content. Chance 12 % (was 31 % 9 days ago). Next: Schedule exec call.",
    );
    let executive = AlertFacts {
        executives: vec![Arrival {
            key: "C1".into(),
            from: None,
            at_ms: NOW_MS - 20 * HOUR_MS,
        }],
        from_elsewhere: vec![Arrival {
            key: "C2".into(),
            from: Some("A9".into()),
            at_ms: NOW_MS,
        }],
        ..at(20)
    };
    check(
        &draft(AlertType::NewExecutive, 0.07, None),
        &executive,
        &busy,
        "Vertex Financial: a VP became active yesterday: demo request. Chance 7 %. Next: Schedule exec call.",
    );
    check(
        &draft(AlertType::ChampionMoved, 0.07, None),
        &executive,
        &busy,
        "Vertex Financial: an IC who was at Acme before is active: pricing page view. Chance 7 %. Next: Schedule exec call.",
    );
    check(
        &draft(AlertType::CommitteeFormed, 0.07, None),
        &at(20),
        &busy,
        "Vertex Financial: 4 people (Data, Finance, IT and 1 more) active within 14 days: demo request, pricing page view. Chance 7 %. Next: Schedule exec call.",
    );
    let peers = AlertFacts {
        peers: Some(PeerClosings {
            hub: "Finance".into(),
            closed: 2.8,
            of: 19,
            within_days: 90,
        }),
        engagement: Some(Pace {
            week: 13.6,
            usual_week: 0.3,
        }),
        usual_gap_ms: Some(3 * DAY_MS),
        lost_ms: Some(NOW_MS - 120 * DAY_MS),
        limit_ms: Some(NOW_MS),
        ..at(24 * 24)
    };
    check(
        &draft(AlertType::PeerWave, 0.07, None),
        &peers,
        &busy,
        "Vertex Financial: about 3 of 19 peers (Finance) closed a deal in 90 days. Chance 7 %. Next: Schedule exec call.",
    );
    check(
        &draft(AlertType::EngagementSpike, 0.004, Some((0.0041, 30))),
        &peers,
        &busy,
        "Vertex Financial: about 14 events this week, usually less than one; the last by a VP yesterday. Chance 0.4 %. Next: Schedule exec call.",
    );
    check(
        &draft(AlertType::GoingDark, 0.07, None),
        &peers,
        &quiet,
        "Vertex Financial: no activity for 24 days, usually every 3 days; the last: demo request. Chance 7 %. Next: Schedule exec call.",
    );
    check(
        &draft(AlertType::ReEngagedAfterLoss, 0.07, None),
        &peers,
        &busy,
        "Vertex Financial: active again 120 days after a lost deal: demo request, pricing page view; the last by a VP yesterday. Chance 7 %. Next: Schedule exec call.",
    );
    check(
        &draft(AlertType::UsageLimit, 0.07, None),
        &peers,
        &busy,
        "Vertex Financial: a limit of the product was reached today. Chance 7 %. Next: Schedule exec call.",
    );
    let over = AlertDraft {
        life: AlertLife::Resolved,
        ..draft(AlertType::ThresholdUp, 0.1, Some((0.24, 40)))
    };
    check(
        &over,
        &at(20),
        &busy,
        "Vertex Financial: the chance is no longer above its threshold of 20 %. Chance 10 % (was 24 % a day ago).",
    );
}

#[test]
fn an_entity_that_left_has_its_last_score() {
    let left = AlertDraft {
        life: AlertLife::Resolved,
        has_left: true,
        ..draft(AlertType::ThresholdUp, 0.24, None)
    };
    let none = AlertFacts::default();
    let expected = "Vertex Financial: left the scored population. The chance was 24 %.";
    check(&left, &none, &Facts::default(), expected);
}

/// Counts on both sides of each arrow, `None` for one that is no whole number.
fn arrows(text: &str) -> Vec<Option<(u64, u64)>> {
    let parts: Vec<&str> = text.split(" → ").collect();
    let pairs = parts.windows(2);
    let number = |word: Option<&str>| {
        let word = word?.trim_end_matches([',', ';', '.']);
        word.replace(',', "").parse().ok()
    };
    pairs
        .map(|pair| {
            let before = number(pair[0].rsplit(' ').next());
            before.zip(number(pair[1].split(' ').next()))
        })
        .collect()
}

#[test]
fn an_alert_that_a_person_ended_says_so() {
    let ended = AlertDraft {
        life: AlertLife::Resolved,
        is_silenced: true,
        ..draft(AlertType::ThresholdUp, 0.24, None)
    };
    let none = AlertFacts::default();
    let expected = "Vertex Financial: a person switched its alerts off. Chance 24 %.";
    check(&ended, &none, &Facts::default(), expected);
}

const PLACEHOLDERS: [&str; 5] = ["null", "none", "nan", "unknown", "inf"];

/// The checks that every sentence passes, whatever the facts.
fn faults(text: &str, draft: &AlertDraft, name: &str) -> Vec<&'static str> {
    let lower = text.to_lowercase();
    let has_any = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let numbers: Vec<&str> = text
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .filter(|part| part.contains(|c: char| c.is_ascii_digit()))
        .collect();
    let body = text
        .strip_prefix(&format!("{}: ", name.trim()))
        .unwrap_or(text);
    let words = body.to_lowercase();
    let tokens: Vec<&str> = words.split(|c: char| !c.is_alphanumeric()).collect();
    let has_token = |words: &[&str]| words.iter().any(|word| tokens.contains(word));
    let is_open = draft.life != AlertLife::Resolved;
    let rises = is_open && draft.key.alert_type == AlertType::ThresholdUp;
    let falls = is_open && draft.key.alert_type.is_fall();
    let change = draft
        .change
        .as_ref()
        .map(|change| draft.probability - change.probability);
    let says_was = text.contains("(was ");
    let of_a_fall = ["no activity", " lowered most by", " fell", "no longer"];
    let of_a_rise = [
        "active this week",
        "became active",
        " rose ",
        "active again",
    ];
    let says_of_a_fall = rises && has_any(&["no pricing", "was lost", " usually "]);
    let says_of_a_rise = falls && text.contains(" added");
    let says_against = (rises && has_any(&of_a_fall)) || (falls && has_any(&of_a_rise));
    let checks = [
        (
            "ends with a full stop, in one line",
            text.ends_with('.') && !text.contains('\n'),
        ),
        ("is short", text.chars().count() <= LONGEST),
        (
            "has no empty name or list",
            !has_any(&["()", "( ", ": .", ":  ", "; .", ", ."])
                && !text.starts_with(':')
                && !text.contains("  "),
        ),
        (
            "has no raw milliseconds",
            numbers
                .iter()
                .all(|number| number.trim_matches('.').len() < 7),
        ),
        (
            "has no count below one half",
            !has_any(&[
                " 0 people",
                " 0 events",
                " 0 of",
                "about 0",
                " 0 day",
                "usually 0",
            ]),
        ),
        ("has no multiple of a decimal", !text.contains('×')),
        ("has no word against its sign", !says_against),
        (
            "has one change, in the direction of the alert",
            text.matches("(was ").count() <= 1
                && !(says_was
                    && change.is_some_and(|moved| {
                        (rises && moved <= 0.0)
                            || (draft.key.alert_type == AlertType::ThresholdDown
                                && is_open
                                && moved >= 0.0)
                    })),
        ),
        (
            "has no code, address or placeholder",
            !body.contains('_') && !body.contains('@') && !has_token(&PLACEHOLDERS),
        ),
        ("says the score", text.contains(" %")),
        (
            "has counts that move in its direction",
            arrows(text).iter().all(|counts| {
                counts.is_some_and(|(before, now)| {
                    before != now && !(rises && now < before) && !(falls && now > before)
                })
            }),
        ),
        (
            "says of a rise what came, of a fall what stopped",
            !says_of_a_fall && !says_of_a_rise,
        ),
    ];
    let faults = checks.iter().filter(|(_, holds)| !holds);
    faults.map(|(check, _)| *check).collect()
}

fn words_of_rows() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["demo_request", "pricing_page_view", "blog", "Webinar", "email_open"]).prop_map(str::to_owned),
        1 => Just(String::new()),
        1 => Just("ann@acme.example".to_owned()),
        1 => prop::sample::select(vec!["null", "NaN", "inf_", "n/a", "Unknown"]).prop_map(str::to_owned),
        1 => "[a-z_]{1,70}".prop_filter("a placeholder within a value is a word of its own", |kind| {
            !kind.split('_').any(|word| PLACEHOLDERS.contains(&word))
        }),
    ]
}

fn people() -> impl Strategy<Value = Vec<MemberFact>> {
    let one = (
        0..6u8,
        words_of_rows(),
        prop::sample::select(vec!["IC", "Manager", "VP", "C-Level"]),
        0..500i64,
    );
    prop::collection::vec(one, 0..8).prop_map(|all| {
        let member = |(key, department, seniority, hours): &(u8, String, &str, i64)| {
            member(&format!("C{key}"), department, seniority, *hours)
        };
        all.iter().map(member).collect()
    })
}

fn events() -> impl Strategy<Value = Vec<EventFact>> {
    prop::collection::vec((words_of_rows(), 0..6u8, 0..900i64), 0..8).prop_map(|all| {
        let mut events: Vec<EventFact> = all
            .iter()
            .map(|(kind, owner, hours)| event(kind, &format!("C{owner}"), *hours))
            .collect();
        events.sort_by_key(|event| std::cmp::Reverse(event.time_ms));
        events
    })
}

fn drafts() -> impl Strategy<Value = AlertDraft> {
    let life = prop::sample::select(vec![
        AlertLife::Open,
        AlertLife::Updated,
        AlertLife::Resolved,
    ]);
    (
        prop::sample::select(AlertType::ALL.to_vec()),
        life,
        0.0001..0.9999f64,
        prop::option::of((0.0001..0.9999f64, 1..2_000i64)),
        prop::option::of(0..9u32),
    )
        .prop_map(|(alert_type, life, probability, before, before_people)| {
            // The fold gives a threshold no change against its direction.
            let agrees = |(before, _): &(f64, i64)| match alert_type {
                AlertType::ThresholdUp => *before < probability,
                AlertType::ThresholdDown => *before > probability,
                _ => true,
            };
            let before = before.filter(|before| life == AlertLife::Resolved || agrees(before));
            let base = draft(alert_type, probability, before);
            let people = |change: ScoreChange| ScoreChange {
                active_people: before_people,
                ..change
            };
            AlertDraft {
                life,
                change: base.change.map(people),
                threshold: matches!(
                    alert_type,
                    AlertType::ThresholdUp | AlertType::ThresholdDown
                )
                .then_some(0.2),
                ..base
            }
        })
}

fn alert_facts() -> impl Strategy<Value = AlertFacts> {
    let arrivals = || {
        let one = (0..9u8, prop::option::of(0..9u8), 0..700i64);
        prop::collection::vec(one, 0..3).prop_map(|all| {
            let arrival = |(key, from, hours): &(u8, Option<u8>, i64)| Arrival {
                key: format!("C{key}"),
                from: from.map(|from| format!("A{from}")),
                at_ms: NOW_MS - hours * HOUR_MS,
            };
            all.iter().map(arrival).collect::<Vec<_>>()
        })
    };
    let pace = || {
        prop::option::of(
            (0.0..40.0f64, 0.0..9.0f64).prop_map(|(week, usual_week)| Pace { week, usual_week }),
        )
    };
    let peers = prop::option::of((words_of_rows(), 0.0..30.0f64, 1..40u32).prop_map(
        |(hub, closed, of)| PeerClosings {
            hub: leadpulse_features::words::value(&hub).unwrap_or_default(),
            closed,
            of,
            within_days: 90,
        },
    ));
    let hours = || prop::option::of(0..5_000i64);
    (
        (
            prop::option::of(0..9u32),
            hours(),
            hours(),
            hours(),
            prop::option::of(0..40i64),
        ),
        (pace(), pace(), peers, arrivals(), arrivals()),
    )
        .prop_map(
            |(
                (people, newest, limit, lost, gap),
                (engagement, usage, peers, executives, from_elsewhere),
            )| {
                let at = |hours: Option<i64>| hours.map(|hours| NOW_MS - hours * HOUR_MS);
                AlertFacts {
                    active_people: people,
                    newest_event_ms: at(newest),
                    limit_ms: at(limit),
                    lost_ms: at(lost),
                    usual_gap_ms: gap.map(|days| days * DAY_MS),
                    engagement,
                    usage,
                    peers,
                    executives,
                    from_elsewhere,
                    ..AlertFacts::default()
                }
            },
        )
}

/// Differences as the evidence has them.
fn changes() -> impl Strategy<Value = Vec<EvidenceChange>> {
    let label = prop::sample::select(vec!["pricing page view", "demo request", "open deals"]);
    let one = (label, 0..40u32, 1..40u32, 0..4u8).prop_map(|(label, low, more, kind)| {
        let (text, direction) = match kind {
            0 => (format!("{label} added"), Direction::Rise),
            1 => (format!("{label} {low} → {}", low + more), Direction::Rise),
            2 => (format!("{label} {} → {low}", low + more), Direction::Fall),
            _ => (
                format!("no {label} for {} days, usually {more} a week", 7 + low),
                Direction::Fall,
            ),
        };
        change(&text, direction)
    });
    prop::collection::vec(one, 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]
    #[test]
    fn every_sentence_passes_twelve_checks(
        draft in drafts(),
        alert_facts in alert_facts(),
        members in people(),
        events in events(),
        name in prop_oneof![Just("Acme".to_owned()), "[A-Za-z][A-Za-z ]{0,90}[a-z]"],
        next in prop::option::of(prop_oneof![Just("Call before it is lost".to_owned()), Just(String::new()), "[A-Z][b-m ]{1,80}"]),
        from in prop::option::of(words_of_rows()),
        changes in changes(),
    ) {
        let facts = facts(members, events);
        let telling = Telling {
            name: &name,
            draft: &draft,
            alert_facts: &alert_facts,
            facts: &facts,
            changes: &changes,
            drag: Some("High intent content"),
            from: from.as_deref(),
            next: next.as_deref(),
        };
        let text = telling.sentence();
        let name = short(&name, LONGEST_NAME);
        let faults = faults(&text, &draft, &name);
        prop_assert!(faults.is_empty(), "{:?}: {}", faults, text);
    }
}

#[test]
fn the_checks_find_what_they_are_for() {
    let up = draft(AlertType::ThresholdUp, 0.2, Some((0.3, 10)));
    for (text, fault) in [
        ("Acme: 2 people. 20 %", "ends with a full stop, in one line"),
        ("Acme: 2 people (). 20 %.", "has no empty name or list"),
        (
            "Acme: since 1731283200000. 20 %.",
            "has no raw milliseconds",
        ),
        (
            "Acme: about 0 of 3 peers. 20 %.",
            "has no count below one half",
        ),
        (
            "Acme: 2.8 × Closed Won. 20 %.",
            "has no multiple of a decimal",
        ),
        (
            "Acme: no activity for 3 days. 20 %.",
            "has no word against its sign",
        ),
        (
            "Acme: 2 people. 20 % (was 30 % a day ago).",
            "has one change, in the direction of the alert",
        ),
        (
            "Acme: demo_request. 20 %.",
            "has no code, address or placeholder",
        ),
        ("Acme: 2 people.", "says the score"),
        (
            "Acme: pricing 5 → 2. 20 %.",
            "has counts that move in its direction",
        ),
        (
            "Acme: pricing 1.5 → 2. 20 %.",
            "has counts that move in its direction",
        ),
        (
            "Acme: a deal was lost today. 20 %.",
            "says of a rise what came, of a fall what stopped",
        ),
    ] {
        assert_eq!(faults(text, &up, "Acme"), [fault], "{text}");
    }
    let long = format!("Acme: {} 20 %.", "a".repeat(300));
    assert_eq!(faults(&long, &up, "Acme"), ["is short"]);
}
