use proptest::prelude::*;

use super::*;

const HOUR_MS: i64 = 60 * 60 * 1000;

fn policy(json: &str) -> Policy {
    let options: PolicyOptions = serde_json::from_str(json).expect("the options parse");
    options.validated().expect("the options have no fault")
}

fn warm_hot(more: &str) -> Policy {
    policy(&format!(
        r#"{{"bands":[{{"name":"warm","enter":0.2,"exit":0.18}},{{"name":"hot","enter":0.5,"exit":0.4}}],"threshold_up":"hot","threshold_down":"hot"{more}}}"#
    ))
}

fn seen(probability: f64, as_of_ms: i64) -> Observation {
    Observation {
        probability,
        logit: leadpulse_schema::units::logit(probability),
        as_of_ms,
        forced: false,
    }
}

/// A decision in one line: `reason band`.
fn told(decision: &Decision) -> String {
    let emit = decision.emit.map_or("-", EmitReason::name);
    format!("{emit} {}", decision.band.as_deref().unwrap_or("none"))
}

enum Step {
    Sees(f64, i64),
    Forced(f64, i64),
    Leaves,
    Gone(Absence),
}
use Step::{Forced, Gone, Leaves, Sees};

fn check(policy: &Policy, steps: &[(Step, &str)]) {
    let mut state = EntityState::default();
    for (index, (step, expected)) in steps.iter().enumerate() {
        let before = state.clone();
        let decision = match step {
            Sees(probability, hour) => {
                policy.observe(&mut state, seen(*probability, hour * HOUR_MS))
            }
            Forced(probability, hour) => policy.observe(
                &mut state,
                Observation {
                    forced: true,
                    ..seen(*probability, hour * HOUR_MS)
                },
            ),
            Leaves => policy.observe_ineligible(&mut state, Absence::Outside, false),
            Gone(why) => policy.observe_ineligible(&mut state, *why, false),
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
fn bands_are_entered_and_left_at_different_points() {
    check(
        &warm_hot(""),
        &[
            (Sees(0.1, 0), "first none"),
            (Sees(0.3, 1), "crossing warm"),
            (Sees(0.6, 2), "crossing hot"),
            (Sees(0.9, 3), "step hot"),
            (Sees(0.45, 4), "step hot"),
            (Sees(0.39, 5), "crossing warm"),
            (Sees(0.1, 6), "crossing none"),
            (Sees(0.8, 40), "crossing hot"),
        ],
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
            (Sees(0.6, 1), "eligible hot"),
            (Leaves, "ineligible none"),
            (Leaves, "- none"),
            (Sees(0.6, 2), "eligible hot"),
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
fn new_thresholds_place_the_entity_again() {
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
        "reconfigured top"
    );
    assert_eq!(
        told(&new.observe(&mut state, seen(0.1, 2 * HOUR_MS))),
        "crossing any"
    );
    assert_eq!(
        told(&new.observe(&mut state, seen(0.3, 3 * HOUR_MS))),
        "crossing top"
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
    Score(f64),
    Ineligible,
}

fn inputs() -> impl Strategy<Value = Vec<(i64, Input)>> {
    let input = prop_oneof![
        9 => (0.001..0.999f64).prop_map(Input::Score),
        1 => Just(Input::Ineligible),
    ];
    prop::collection::vec((0..8 * HOUR_MS, input), 1..120)
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
            Input::Score(probability) => policy.observe(state, seen(*probability, as_of_ms)),
            Input::Ineligible => policy.observe_ineligible(state, Absence::Outside, false),
        };
        assert_eq!(decision.state_changed, *state != before);
        decisions.push((as_of_ms, *input, decision));
    }
    decisions
}

proptest! {
    #[test]
    fn noise_within_the_gap_never_flaps(start in prop_oneof![Just(0.3), Just(0.9)], noise in prop::collection::vec(0.4..0.4999f64, 1..60)) {
        let (policy, mut state) = (warm_hot(""), EntityState::default());
        let start = policy.observe(&mut state, seen(start, 0));
        for (index, probability) in noise.iter().enumerate() {
            let decision = policy.observe(&mut state, seen(*probability, HOUR_MS * (index as i64 + 1)));
            prop_assert_eq!(&decision.band, &start.band);
        }
    }

    #[test]
    fn a_replay_from_any_saved_state_decides_alike(inputs in inputs(), cut in 0usize..120) {
        let policy = warm_hot("");
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
    fn the_level_is_what_hysteresis_allows(inputs in inputs()) {
        let policy = warm_hot("");
        for (_, input, decision) in run(&policy, &mut EntityState::default(), 0, &inputs) {
            let Input::Score(probability) = input else { continue };
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

#[test]
fn an_entity_that_stays_away_moves_under_no_policy() {
    let other = policy(r#"{"bands":[{"name":"hot","enter":0.4}],"threshold_up":"hot"}"#);
    let before = warm_hot("");
    let mut state = EntityState::default();
    before.observe(&mut state, seen(0.6, 0));
    before.observe_ineligible(&mut state, Absence::Outside, false);
    let recorded = state.clone();
    let decision = other.observe_ineligible(&mut state, Absence::Outside, false);
    // A restart reads back what was recorded.
    assert!(!decision.state_changed && state == recorded);
}
