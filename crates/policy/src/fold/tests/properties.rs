//! Properties of the fold over random scores, dwells and cooldowns.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Score(f64, bool),
    Absent,
}

fn steps() -> impl Strategy<Value = Vec<(i64, Step)>> {
    let step = prop_oneof![
        12 => (0.02..0.5f64, prop::bool::weighted(0.08)).prop_map(|(p, is_placed)| Step::Score(p, is_placed)),
        1 => Just(Step::Absent),
    ];
    prop::collection::vec((1..30 * HOUR_MS, step), 1..80)
}

fn policies() -> impl Strategy<Value = Policy> {
    (0u32..3, 0u32..40, 0u32..100).prop_map(|(rise, fall, cooldown)| {
        hot(&format!(
            r#","min_dwell":"{rise}h","fall_dwell":"{fall}h","cooldown":"{cooldown}h""#
        ))
    })
}

/// Folds steps and every moment that time asks for between them, as an engine does.
fn run(
    policy: &Policy,
    state: &mut AlertState,
    steps: &[(i64, Step)],
    repeats: usize,
) -> Vec<(i64, Step, Folded)> {
    let mut all: Vec<(i64, Step, Folded)> = Vec::new();
    let mut tick_ms = 0;
    let fold = |state: &mut AlertState, tick_ms: i64, step: &Step, is_revisit: bool| {
        let facts = busy(tick_ms);
        let (score, stage) = match step {
            Step::Score(probability, true) if !is_revisit => (scored(*probability), Stage::Placing),
            Step::Score(probability, _) => (scored(*probability), Stage::Live),
            Step::Absent => (Err(Absence::Outside), Stage::Live),
        };
        let seen = Seen {
            tick_ms,
            score,
            stage,
            is_new: true,
            facts: &facts,
            ruling: None,
        };
        let folded = policy.fold(state, &seen);
        for _ in 0..repeats {
            let before = state.clone();
            let again = policy.fold(state, &seen);
            assert!(again.fired.is_empty() && again.held.is_empty() && !again.changed);
            assert_eq!(again.revisit_at_ms, folded.revisit_at_ms);
            assert_eq!(*state, before);
        }
        folded
    };
    for (index, (wait_ms, step)) in steps.iter().enumerate() {
        let next_ms = tick_ms + wait_ms;
        while let Some(due_ms) = state.revisit_at_ms.filter(|due_ms| *due_ms < next_ms) {
            let last = match steps[index - 1].1 {
                Step::Score(probability, _) => Step::Score(probability, false),
                Step::Absent => Step::Absent,
            };
            let folded = fold(state, due_ms, &last, true);
            all.push((due_ms, last, folded));
        }
        tick_ms = next_ms;
        let folded = fold(state, tick_ms, step, false);
        all.push((tick_ms, step.clone(), folded));
    }
    all
}

fn opened(folded: &Folded, alert_type: AlertType) -> Option<&AlertDraft> {
    folded
        .fired
        .iter()
        .find(|draft| draft.key.alert_type == alert_type && draft.life == AlertLife::Open)
}

proptest! {
    #[test]
    fn between_two_rises_the_score_has_left(policy in policies(), steps in steps()) {
        let mut low = true;
        for (_, step, folded) in run(&policy, &mut AlertState::default(), &steps, 0) {
            if matches!(step, Step::Absent) || matches!(step, Step::Score(p, _) if p < 0.14) {
                low = true;
            }
            if let Some(up) = opened(&folded, AlertType::ThresholdUp) {
                prop_assert!(low, "a second rise without a descent");
                prop_assert!(up.probability >= 0.2);
                low = false;
            }
        }
    }

    #[test]
    fn alerts_of_a_type_keep_the_cooldown_and_name_their_crossing(policy in policies(), steps in steps()) {
        let told = run(&policy, &mut AlertState::default(), &steps, 0);
        for rule in &policy.rules.rules {
            let fired: Vec<&AlertDraft> = told.iter().filter_map(|(_, _, folded)| opened(folded, rule.alert_type)).collect();
            for pair in fired.windows(2) {
                prop_assert!(pair[1].tick_ms - pair[0].tick_ms >= rule.cooldown_ms);
                prop_assert!(pair[1].key.crossed_at_ms > pair[0].key.crossed_at_ms);
            }
            prop_assert!(fired.iter().all(|draft| draft.key.crossed_at_ms <= draft.tick_ms));
        }
    }

    #[test]
    fn a_deferred_crossing_fires_at_the_end_of_the_cooldown_iff_it_holds(policy in policies(), steps in steps()) {
        let told = run(&policy, &mut AlertState::default(), &steps, 0);
        for rule in &policy.rules.rules {
            let is_up = rule.alert_type == AlertType::ThresholdUp;
            let (mut end_ms, mut waiting) = (i64::MIN, None);
            for (tick_ms, step, folded) in &told {
                let held = folded.held.iter().filter(|(alert_type, _)| *alert_type == rule.alert_type);
                let reasons: Vec<SuppressReason> = held.map(|(_, reason)| *reason).collect();
                let open = opened(folded, rule.alert_type);
                if let Some(crossed_ms) = waiting {
                    let is_told = open.map(|draft| draft.key.crossed_at_ms) == Some(crossed_ms);
                    let has_ended = reasons.iter().any(|reason| matches!(reason, SuppressReason::Reversed | SuppressReason::Ineligible | SuppressReason::Unconfirmed));
                    let holds = match step {
                        Step::Score(probability, false) if is_up => *probability >= 0.2,
                        Step::Score(probability, false) => *probability < 0.14,
                        _ => false,
                    };
                    if *tick_ms == end_ms {
                        prop_assert_eq!(is_told, holds && !has_ended);
                    }
                    prop_assert!(!is_told || (*tick_ms >= end_ms && holds));
                    prop_assert!(is_told || has_ended || *tick_ms <= end_ms || !holds);
                    let is_placed_away = matches!(step, Step::Score(p, true) if (is_up && *p < 0.14) || (!is_up && *p >= 0.2));
                    if is_told || has_ended || is_placed_away {
                        waiting = None;
                    }
                }
                if reasons.contains(&SuppressReason::Cooldown) {
                    waiting = Some(*tick_ms);
                }
                if let Some(draft) = open {
                    end_ms = draft.tick_ms + rule.cooldown_ms;
                }
            }
        }
    }

    #[test]
    fn repeats_change_nothing_and_a_saved_state_goes_on_alike(policy in policies(), steps in steps(), cut in 0usize..80) {
        let whole = run(&policy, &mut AlertState::default(), &steps, 2);
        prop_assert_eq!(&whole.iter().map(|one| one.2.clone()).collect::<Vec<_>>(), &run(&policy, &mut AlertState::default(), &steps, 0).into_iter().map(|one| one.2).collect::<Vec<_>>());
        // A state that was recorded only when it changed decides alike.
        let (mut state, mut recorded) = (AlertState::default(), AlertState::default());
        let cut = cut.min(steps.len());
        let mut tick_ms = 0;
        for (wait_ms, step) in &steps[..cut] {
            tick_ms += wait_ms;
            let Step::Score(probability, _) = step else { continue };
            let facts = busy(tick_ms);
            let seen = Seen { tick_ms, score: scored(*probability), stage: Stage::Live, is_new: true, facts: &facts, ruling: None };
            if policy.fold(&mut state, &seen).changed {
                recorded = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
            }
        }
        for (wait_ms, step) in &steps[cut..] {
            tick_ms += wait_ms;
            let Step::Score(probability, _) = step else { continue };
            let facts = busy(tick_ms);
            let seen = Seen { tick_ms, score: scored(*probability), stage: Stage::Live, is_new: true, facts: &facts, ruling: None };
            prop_assert_eq!(policy.fold(&mut state, &seen), policy.fold(&mut recorded, &seen));
        }
    }

    #[test]
    fn nothing_fires_while_levels_are_placed(policy in policies(), steps in steps()) {
        let placed: Vec<(i64, Step)> = steps.into_iter().map(|(wait_ms, step)| match step {
            Step::Score(probability, _) => (wait_ms, Step::Score(probability, true)),
            absent => (wait_ms, absent),
        }).collect();
        let mut state = AlertState::default();
        let mut tick_ms = 0;
        for (wait_ms, step) in &placed {
            tick_ms += wait_ms;
            let score = match step { Step::Score(probability, _) => scored(*probability), Step::Absent => Err(Absence::Outside) };
            let facts = busy(tick_ms);
            let seen = Seen { tick_ms, score, stage: Stage::Placing, is_new: true, facts: &facts, ruling: None };
            let folded = policy.fold(&mut state, &seen);
            prop_assert!(folded.fired.is_empty());
            prop_assert_eq!(folded.revisit_at_ms, None);
        }
    }

    #[test]
    fn a_change_and_its_direction_agree(policy in policies(), steps in steps()) {
        for (tick_ms, _, folded) in run(&policy, &mut AlertState::default(), &steps, 0) {
            for draft in &folded.fired {
                let Some(change) = &draft.change else {
                    prop_assert_eq!(draft.trend, Trend::Unknown);
                    continue;
                };
                let moved = draft.probability - change.probability;
                prop_assert!(change.since_ms < tick_ms);
                prop_assert!(draft.trend != Trend::Improving || moved > 0.0);
                prop_assert!(draft.trend != Trend::Declining || moved < 0.0);
                prop_assert!(draft.velocity_per_day.is_none_or(|slope| slope * moved >= 0.0));
                match (draft.life, draft.key.alert_type) {
                    (AlertLife::Open, AlertType::ThresholdUp) => prop_assert!(moved > 0.0),
                    (AlertLife::Open, AlertType::ThresholdDown) => prop_assert!(moved < 0.0),
                    _ => {}
                }
            }
        }
    }
}
