use proptest::prelude::*;

use super::*;
use crate::alerts::AlertType;

const HOUR_MS: i64 = 60 * 60 * 1000;

fn policy(json: &str) -> Policy {
    let options: PolicyOptions = serde_json::from_str(json).expect("the options parse");
    options.validated().expect("the options have no fault")
}

fn warm_hot(more: &str) -> Policy {
    policy(&format!(
        r#"{{"bands":[{{"name":"warm","enter":0.2}},{{"name":"hot","enter":0.5,"exit":0.4}}],"threshold_up":"hot","threshold_down":"hot"{more}}}"#
    ))
}

fn seen(probability: f64, as_of_ms: i64) -> Observation {
    Observation {
        probability,
        logit: leadpulse_schema::units::logit(probability),
        as_of_ms,
        muted: false,
        forced: false,
    }
}

/// A decision in one line: `reason band ↑ordinal !suppressed`.
fn told(decision: &Decision) -> String {
    let mut words = vec![
        decision.emit.map_or("-", EmitReason::name).to_owned(),
        decision.band.as_deref().unwrap_or("none").to_owned(),
    ];
    for alert in &decision.alerts {
        let arrow = if alert.alert_type == AlertType::ThresholdUp {
            "↑"
        } else {
            "↓"
        };
        words.push(format!("{arrow}{}{}", alert.ordinal, alert.severity));
    }
    words.extend(
        decision
            .suppressed
            .iter()
            .map(|(alert_type, reason)| format!("!{alert_type}:{}", reason.name())),
    );
    words.join(" ")
}

enum Step {
    Sees(f64, i64),
    Muted(f64, i64),
    Forced(f64, i64),
    Leaves,
    Gone(Absence),
}
use Step::{Forced, Gone, Leaves, Muted, Sees};

fn check(policy: &Policy, steps: &[(Step, &str)]) {
    let mut state = EntityState::default();
    for (index, (step, expected)) in steps.iter().enumerate() {
        let before = state.clone();
        let decision = match step {
            Sees(probability, hour) => {
                policy.observe(&mut state, seen(*probability, hour * HOUR_MS))
            }
            Muted(probability, hour) => policy.observe(
                &mut state,
                Observation {
                    muted: true,
                    ..seen(*probability, hour * HOUR_MS)
                },
            ),
            Forced(probability, hour) => policy.observe(
                &mut state,
                Observation {
                    forced: true,
                    ..seen(*probability, hour * HOUR_MS)
                },
            ),
            Leaves => policy.observe_ineligible(&mut state, Absence::Outside),
            Gone(why) => policy.observe_ineligible(&mut state, *why),
        };
        assert_eq!(told(&decision), *expected, "step {index}");
        assert_eq!(
            decision.state_changed,
            state != before,
            "step {index}: {before:?} → {state:?}"
        );
        assert_eq!(decision.band, policy.band_of(&state));
    }
}

#[test]
fn alerts_fire_on_crossing_and_not_on_value() {
    check(
        &warm_hot(""),
        &[
            (Sees(0.1, 0), "first none"),
            (Sees(0.3, 1), "crossing warm"),
            (Sees(0.6, 2), "crossing hot ↑1P1"),
            (Sees(0.9, 3), "step hot"),
            (Sees(0.45, 4), "step hot"),
            (Sees(0.39, 5), "crossing warm ↓1P1"),
            (Sees(0.1, 6), "crossing none"),
            (Sees(0.8, 40), "crossing hot ↑2P1"),
        ],
    );
}

#[test]
fn a_crossing_within_the_cooldown_is_counted() {
    check(
        &warm_hot(r#","cooldown_ms":36000000"#),
        &[
            (Sees(0.1, 0), "first none"),
            (Sees(0.6, 1), "crossing hot ↑1P1"),
            (Sees(0.3, 2), "crossing warm ↓1P1"),
            (Sees(0.6, 3), "crossing hot !threshold_up:cooldown"),
            (Sees(0.3, 4), "crossing warm !threshold_down:cooldown"),
            (Sees(0.6, 11), "crossing hot ↑2P1"),
            (Sees(0.3, 12), "crossing warm ↓2P1"),
        ],
    );
}

#[test]
fn a_first_score_and_a_muted_crossing_are_silent() {
    check(
        &warm_hot(""),
        &[
            (Sees(0.6, 0), "first hot !threshold_up:first_score"),
            (Muted(0.1, 1), "crossing none !threshold_down:muted"),
            (Muted(0.6, 2), "crossing hot !threshold_up:muted"),
            (Sees(0.1, 3), "crossing none ↓1P1"),
            (Sees(0.6, 4), "crossing hot ↑1P1"),
        ],
    );
    check(
        &warm_hot(r#","alert_on_first":true"#),
        &[(Sees(0.6, 0), "first hot ↑1P1")],
    );
    check(
        &warm_hot(r#","alert_on_first":true"#),
        &[(Muted(0.6, 0), "first hot !threshold_up:muted")],
    );
}

#[test]
fn small_movements_are_not_emitted_until_they_add_up() {
    check(
        &warm_hot(r#","emit_step":{"probability":0.05}"#),
        &[
            (Sees(0.25, 0), "first warm"),
            (Sees(0.25, 1), "- warm"),
            (Sees(0.28, 2), "- warm"),
            (Sees(0.31, 3), "step warm"),
            (Sees(0.31, 4), "- warm"),
            (Forced(0.31, 5), "forced warm"),
            (Forced(0.41, 5), "step warm"),
        ],
    );
    check(
        &warm_hot(r#","emit_step":{"logit":0}"#),
        &[
            (Sees(0.3, 0), "first warm"),
            (Sees(0.3, 1), "- warm"),
            (Sees(0.3001, 2), "step warm"),
        ],
    );
}

#[test]
fn leaving_the_population_is_told_once_and_is_no_decline() {
    check(
        &warm_hot(""),
        &[
            (Leaves, "- none"),
            (Leaves, "- none"),
            (Sees(0.6, 1), "eligible hot ↑1P1"),
            (Leaves, "ineligible none !threshold_down:ineligible"),
            (Leaves, "- none"),
            (Sees(0.6, 2), "eligible hot !threshold_up:cooldown"),
        ],
    );
}

#[test]
fn another_reason_for_having_no_score_is_told_once() {
    check(
        &warm_hot(""),
        &[
            (Gone(Absence::Deleted), "- none"),
            (Leaves, "- none"),
            (Sees(0.3, 1), "eligible warm"),
            (Leaves, "ineligible none"),
            (Gone(Absence::Deleted), "ineligible none"),
            (Gone(Absence::Deleted), "- none"),
            (Sees(0.3, 2), "eligible warm"),
            (Gone(Absence::Merged), "ineligible none"),
            (Gone(Absence::Merged), "- none"),
        ],
    );
}

#[test]
fn a_crossing_dwells_first() {
    check(
        &warm_hot(r#","min_dwell_epochs":2,"min_dwell_ms":7200000"#),
        &[
            (Sees(0.1, 0), "first none"),
            (Sees(0.6, 1), "step none"),
            (Sees(0.6, 2), "- none"),
            (Sees(0.6, 3), "crossing hot ↑1P1"),
            (Sees(0.1, 4), "step hot"),
            (Sees(0.6, 5), "step hot"),
        ],
    );
}

#[test]
fn a_dwell_asks_to_be_revisited() {
    let (policy, mut state) = (
        warm_hot(r#","min_dwell_ms":7200000"#),
        EntityState::default(),
    );
    assert_eq!(policy.observe(&mut state, seen(0.1, 0)).revisit_at_ms, None);
    assert_eq!(
        policy.observe(&mut state, seen(0.6, HOUR_MS)).revisit_at_ms,
        Some(3 * HOUR_MS)
    );
    let decision = policy.observe(&mut state, seen(0.6, 3 * HOUR_MS));
    assert_eq!(
        (told(&decision).as_str(), decision.revisit_at_ms),
        ("crossing hot ↑1P1", None)
    );
}

#[test]
fn a_threshold_may_be_a_probability_between_bands() {
    let policy = policy(
        r#"{"bands":[{"name":"warm","enter":0.2},{"name":"hot","enter":0.8}],"threshold_up":0.5,"threshold_down":0.2,"hysteresis_ratio":0.2}"#,
    );
    check(
        &policy,
        &[
            (Sees(0.1, 0), "first none"),
            (Sees(0.3, 1), "crossing warm"),
            (Sees(0.5, 2), "crossing warm ↑1P2"),
            (Sees(0.9, 3), "crossing hot"),
            (Sees(0.17, 4), "crossing warm"),
            (Sees(0.15, 5), "crossing none ↓1P2"),
        ],
    );
    assert_eq!(
        policy.bands().map(|band| &*band.name).collect::<Vec<_>>(),
        ["warm", "hot"]
    );
}

#[test]
fn an_alert_says_what_was_crossed() {
    let (policy, mut state) = (warm_hot(""), EntityState::default());
    policy.observe(&mut state, seen(0.3, 0));
    let up = policy.observe(&mut state, seen(0.7, HOUR_MS));
    assert_eq!(
        (up.previous_probability, up.previous_band.as_deref()),
        (Some(0.3), Some("warm"))
    );
    assert_eq!(
        (
            up.alerts[0].threshold,
            up.alerts[0].previous_band.as_deref(),
            up.alerts[0].band.as_deref()
        ),
        (0.5, Some("warm"), Some("hot"))
    );
    let down = policy.observe(&mut state, seen(0.1, 2 * HOUR_MS));
    assert_eq!(
        (
            down.alerts[0].threshold,
            down.alerts[0].previous_band.as_deref(),
            down.alerts[0].band.as_deref()
        ),
        (0.4, Some("hot"), None)
    );
}

#[test]
fn new_thresholds_place_the_entity_again_without_an_alert() {
    let (old, new) = (
        warm_hot(""),
        policy(
            r#"{"bands":[{"name":"any","enter":0.05},{"name":"top","enter":0.25}],"threshold_up":"top"}"#,
        ),
    );
    let mut state = EntityState::default();
    old.observe(&mut state, seen(0.3, 0));
    assert_eq!(
        new.band_of(&state),
        None,
        "the level of other thresholds is not read as one of these"
    );
    assert_eq!(
        told(&new.observe(&mut state, seen(0.3, HOUR_MS))),
        "reconfigured top !threshold_up:reconfigured"
    );
    assert_eq!(
        told(&new.observe(&mut state, seen(0.1, 2 * HOUR_MS))),
        "crossing any"
    );
    assert_eq!(
        told(&new.observe(&mut state, seen(0.3, 3 * HOUR_MS))),
        "crossing top ↑1P1"
    );
}

#[test]
fn a_policy_without_bands_emits_and_never_alerts() {
    check(
        &policy("{}"),
        &[
            (Sees(0.1, 0), "first none"),
            (Sees(0.9, 1), "step none"),
            (Leaves, "ineligible none"),
        ],
    );
}

#[derive(Clone, Copy, Debug)]
enum Input {
    Score(f64, bool),
    Ineligible,
}

fn inputs() -> impl Strategy<Value = Vec<(i64, Input)>> {
    let input = prop_oneof![
        9 => (0.001..0.999f64, prop::bool::weighted(0.1)).prop_map(|(probability, muted)| Input::Score(probability, muted)),
        1 => Just(Input::Ineligible),
    ];
    prop::collection::vec((0..8 * HOUR_MS, input), 1..120)
}

fn policies() -> impl Strategy<Value = Policy> {
    (0u32..4, prop_oneof![Just(0u64), Just(4 * HOUR_MS as u64)], prop_oneof![Just(0u64), Just(24 * HOUR_MS as u64)], any::<bool>()).prop_map(
        |(min_dwell_epochs, min_dwell_ms, cooldown_ms, alert_on_first)| {
            warm_hot(&format!(
                r#","min_dwell_epochs":{min_dwell_epochs},"min_dwell_ms":{min_dwell_ms},"cooldown_ms":{cooldown_ms},"alert_on_first":{alert_on_first}"#
            ))
        },
    )
}

fn run(
    policy: &Policy,
    state: &mut EntityState,
    mut as_of_ms: i64,
    inputs: &[(i64, Input)],
) -> Vec<(i64, Input, Decision)> {
    let mut decisions = Vec::new();
    for (wait_ms, input) in inputs {
        as_of_ms += wait_ms;
        let before = state.clone();
        let decision = match input {
            Input::Score(probability, muted) => policy.observe(
                state,
                Observation {
                    muted: *muted,
                    ..seen(*probability, as_of_ms)
                },
            ),
            Input::Ineligible => policy.observe_ineligible(state, Absence::Outside),
        };
        assert_eq!(decision.state_changed, *state != before);
        decisions.push((as_of_ms, *input, decision));
    }
    decisions
}

proptest! {
    #[test]
    fn every_crossing_of_the_threshold_is_an_alert_or_counted(policy in policies(), inputs in inputs()) {
        let is_hot = |band: &Option<Arc<str>>| band.as_deref() == Some("hot");
        for (_, _, decision) in run(&policy, &mut EntityState::default(), 0, &inputs) {
            let told: Vec<AlertType> =
                decision.alerts.iter().map(|alert| alert.alert_type).chain(decision.suppressed.iter().map(|(alert_type, _)| *alert_type)).collect();
            let expected = match (is_hot(&decision.previous_band), is_hot(&decision.band)) {
                (false, true) => vec![AlertType::ThresholdUp],
                (true, false) => vec![AlertType::ThresholdDown],
                _ => vec![],
            };
            prop_assert_eq!(told, expected);
            prop_assert!(decision.band == decision.previous_band || decision.emit.is_some());
        }
    }

    #[test]
    fn no_two_ups_without_a_descent_between(policy in policies(), inputs in inputs()) {
        let mut descended = true;
        for (_, _, decision) in run(&policy, &mut EntityState::default(), 0, &inputs) {
            if decision.alerts.iter().any(|alert| alert.alert_type == AlertType::ThresholdUp) {
                prop_assert!(descended);
                descended = false;
            }
            let left = decision.previous_band.as_deref() == Some("hot") && decision.band.as_deref() != Some("hot");
            descended |= left;
        }
    }

    #[test]
    fn alerts_of_a_type_keep_the_cooldown_and_are_numbered_without_gaps(policy in policies(), inputs in inputs()) {
        for alert_type in [AlertType::ThresholdUp, AlertType::ThresholdDown] {
            let decisions = run(&policy, &mut EntityState::default(), 0, &inputs);
            let fired: Vec<(i64, u64)> = decisions
                .iter()
                .flat_map(|(as_of_ms, _, decision)| decision.alerts.iter().filter(|a| a.alert_type == alert_type).map(|a| (*as_of_ms, a.ordinal)))
                .collect();
            prop_assert!(fired.iter().map(|(_, ordinal)| *ordinal).eq(1..=fired.len() as u64));
            prop_assert!(fired.windows(2).all(|pair| pair[1].0 - pair[0].0 >= policy.alert_limits.cooldown_ms));
        }
    }

    #[test]
    fn noise_within_the_gap_never_flaps(policy in policies(), start in prop_oneof![Just(0.3), Just(0.9)], noise in prop::collection::vec(0.4..0.4999f64, 1..60)) {
        let mut state = EntityState::default();
        let start = policy.observe(&mut state, seen(start, 0));
        for (index, probability) in noise.iter().enumerate() {
            let decision = policy.observe(&mut state, seen(*probability, HOUR_MS * (index as i64 + 1)));
            prop_assert_eq!(&decision.band, &start.band);
            prop_assert!(decision.alerts.is_empty() && decision.suppressed.is_empty());
        }
    }

    #[test]
    fn a_replay_from_any_saved_state_decides_alike(policy in policies(), inputs in inputs(), cut in 0usize..120) {
        let whole = run(&policy, &mut EntityState::default(), 0, &inputs);
        let cut = cut.min(inputs.len());
        let mut state = EntityState::default();
        run(&policy, &mut state, 0, &inputs[..cut]);
        let mut restored: EntityState = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
        prop_assert_eq!(&restored, &state);
        let as_of_ms = inputs[..cut].iter().map(|(wait_ms, _)| wait_ms).sum();
        let rest = run(&policy, &mut restored, as_of_ms, &inputs[cut..]);
        prop_assert_eq!(rest.iter().map(|r| &r.2).collect::<Vec<_>>(), whole[cut..].iter().map(|r| &r.2).collect::<Vec<_>>());
    }

    #[test]
    fn without_dwell_the_level_is_what_hysteresis_allows(inputs in inputs()) {
        let policy = warm_hot("");
        for (_, input, decision) in run(&policy, &mut EntityState::default(), 0, &inputs) {
            let Input::Score(probability, _) = input else { continue };
            let allowed: &[Option<&str>] = match probability {
                p if p < 0.18 => &[None],
                p if p < 0.2 => &[None, Some("warm")],
                p if p < 0.4 => &[Some("warm")],
                p if p < 0.5 => &[Some("warm"), Some("hot")],
                _ => &[Some("hot")],
            };
            prop_assert!(allowed.contains(&decision.band.as_deref()), "{probability}: {:?}", decision.band);
        }
    }
}
