//! The filter's beliefs against the sum over all hidden paths of a tiny market, with likelihoods
//! written out from the knobs.

use std::collections::HashMap;

use crate::bayes::Filter;
use crate::deals::OPEN_STAGES;
use crate::engagement::SENTIMENT_LEVELS;
use crate::market::DAY_MS;
use crate::people::LeadStatus;
use crate::rates::Rates;
use crate::{
    Audience, EngagementPhase, FieldValue, Knobs, LATEST_DAYS, Market, MarketOptions, RowOut,
    Travellers,
};

const DAYS: usize = 6;
const TECHNICAL: [bool; 10] = [
    true, true, true, true, false, true, false, false, false, false,
];

/// The knobs of a market in which a week is full of events.
fn busy() -> Knobs {
    let mut knobs = Knobs {
        start: [0.3, 0.2, 0.15, 0.15, 0.1, 0.1],
        customer_ratio: 0.3,
        trial_days: 2,
        ..Knobs::default()
    };
    for step in &mut knobs.moves {
        step.per_day *= if step.to == crate::Destination::Purchase {
            30.0
        } else {
            6.0
        };
    }
    knobs
        .engagement
        .iter_mut()
        .for_each(|kind| kind.per_day *= 8.0);
    let busier = |rates: &mut [f64; 6]| rates.iter_mut().for_each(|rate| *rate *= 8.0);
    busier(&mut knobs.deals.opens_per_day);
    knobs.deals.advances_per_day.iter_mut().for_each(busier);
    busier(&mut knobs.deals.lost_per_day);
    busier(&mut knobs.leads.qualifies_per_day);
    busier(&mut knobs.leads.accepted_per_day);
    busier(&mut knobs.leads.converts_per_day);
    busier(&mut knobs.leads.given_up_per_day);
    knobs
        .people
        .revealed_per_day
        .iter_mut()
        .for_each(|rate| *rate *= 150.0);
    knobs.people.champions_per_day = 0.4;
    knobs.people.moves_per_day = 0.2;
    knobs.people.champion_days = 2;
    knobs.leads.identified_ratio = 0.3;
    knobs.leads.strangers_per_day = 0.5;
    knobs.mess.late_ratio = 0.3;
    knobs.mess.repeated_ratio = 0.3;
    knobs.mess.mistaken_ratio = 0.5;
    knobs.mess.duplicate_contact_ratio = 0.3;
    knobs.mess.duplicate_account_ratio = 0.3;
    knobs.mess.merged_per_day = 0.2;
    knobs
}

/// A person: keys in rows, department, seniority, lead.
type Somebody = (Vec<String>, usize, usize, Option<(String, LeadStatus)>);

/// The visible part of an account in the morning.
#[derive(Clone)]
struct Morning {
    people: HashMap<usize, Somebody>,
    stage: Option<usize>,
    has_access: bool,
    has_champion: bool,
    wave: f64,
}

fn mornings(market: &Market) -> Vec<Morning> {
    let day = i64::from(market.days_lived());
    let mut mornings = Vec::new();
    for firm in &market.firms {
        let person = |&p: &usize| {
            let person = &market.people[p];
            let mut keys = vec![person.contact_key.clone()];
            keys.extend(
                person
                    .duplicate
                    .as_ref()
                    .map(|duplicate| duplicate.key.clone()),
            );
            keys.extend(person.lead.as_ref().map(|lead| lead.key.clone()));
            let lead = person
                .lead
                .as_ref()
                .map(|lead| (lead.key.clone(), lead.status));
            (p, (keys, person.department, person.seniority, lead))
        };
        mornings.push(Morning {
            people: firm.people.iter().map(person).collect(),
            stage: firm.deal.as_ref().map(|deal| deal.stage),
            has_access: firm.has_access(day),
            has_champion: firm.champion_until_day > day,
            wave: market.waves[firm.industry],
        });
    }
    mornings
}

/// Events a weekday of one person and kind, written out.
fn rate(
    knobs: &Knobs,
    kind: usize,
    department: usize,
    seniority: usize,
    state: usize,
    researcher: bool,
) -> f64 {
    let kind = &knobs.engagement[kind];
    let audience = match kind.audience {
        Audience::Anyone => 1.0,
        Audience::Technical => {
            [1.0 / knobs.audience, knobs.audience][usize::from(TECHNICAL[department])]
        }
        Audience::Business => {
            [knobs.audience, 1.0 / knobs.audience][usize::from(TECHNICAL[department])]
        }
    };
    let joined = knobs.committee.departments_by_state[state];
    let mut part = if joined == 0 {
        1.0
    } else {
        [knobs.committee.uninvolved, knobs.committee.involved][usize::from(department < joined)]
    };
    if seniority >= 3 && (state == 3 || state == 4) {
        part *= knobs.committee.executive;
    }
    let noise = if researcher {
        knobs.researcher_noise * kind.researcher
    } else {
        0.0
    };
    kind.per_day * audience * (kind.by_state[state] * part + noise)
}

/// Probability of the day's choice among ways that compete.
fn choice(rates: &[f64], taken: Option<usize>) -> f64 {
    let total: f64 = rates.iter().sum();
    match taken {
        None => (-total).exp(),
        Some(way) => (1.0 - (-total).exp()) * rates[way] / total,
    }
}

struct History {
    knobs: Knobs,
    start_ms: i64,
    rows: Vec<RowOut>,
    /// Visible parts by day, one more than days.
    mornings: Vec<Vec<Morning>>,
    market: Market,
}

impl History {
    fn day_of(&self, at_ms: i64) -> usize {
        ((at_ms - self.start_ms) / DAY_MS) as usize
    }

    fn rows_of<'a>(&'a self, table: &'a str, day: usize) -> impl Iterator<Item = &'a RowOut> {
        self.rows
            .iter()
            .filter(move |row| row.table == table && self.day_of(row.known_ms) == day)
    }

    fn stage_changes(&self, firm: usize, day: usize) -> Vec<&str> {
        let rows = self.rows_of("opportunity_stage_changes", day);
        rows.filter(|row| row.account.as_deref() == Some(&self.market.firms[firm].key))
            .filter_map(|row| row.fields.text("to_stage"))
            .collect()
    }

    fn is_won(&self, firm: usize, day: usize) -> bool {
        self.stage_changes(firm, day).contains(&"Closed Won")
    }

    /// Likelihood of an account's events of a day, as known at the end.
    fn likelihood(&self, firm: usize, day: usize, state: usize, researcher: bool) -> f64 {
        let knobs = &self.knobs;
        let morning = &self.mornings[day][firm];
        let latest = LATEST_DAYS as f64;
        let age = (DAYS - 1 - day) as f64;
        let under_way = ((latest - age) / latest).max(0.0);
        let repeated_by_now = ((age + 1.0) / latest).min(1.0);
        // 1970-01-01 was a Thursday.
        let is_weekend = (self.start_ms / DAY_MS + day as i64 + 3) % 7 >= 5;
        let factor = if is_weekend { knobs.weekend } else { 1.0 };
        let mut likelihood = 1.0;

        let mut events: HashMap<&str, Vec<&RowOut>> = HashMap::new();
        for row in self.rows.iter().filter(|row| {
            row.fields
                .whole("occurred_at")
                .is_some_and(|at| self.day_of(at) == day)
        }) {
            events.entry(row.key.as_str()).or_default().push(row);
        }
        for (keys, department, seniority, _) in morning.people.values() {
            for (number, kind) in knobs.engagement.iter().enumerate() {
                let possible = match kind.phase {
                    EngagementPhase::Always => true,
                    EngagementPhase::OpensTrial => !morning.has_access,
                    EngagementPhase::WithAccess => morning.has_access,
                };
                let prompt = kind.phase == EngagementPhase::OpensTrial;
                let mean = if possible {
                    factor * rate(knobs, number, *department, *seniority, state, researcher)
                } else {
                    0.0
                };
                let arrived = if prompt {
                    1.0
                } else {
                    1.0 - knobs.mess.late_ratio * under_way
                };
                likelihood *= (-mean * arrived).exp();
                for rows in events.values() {
                    let row = rows[0];
                    let actor = row
                        .fields
                        .text("contact_id")
                        .or(row.fields.text("lead_id"))
                        .unwrap();
                    let name = ["type", "content_type", "kind"]
                        .iter()
                        .find_map(|field| row.fields.text(field));
                    let taken_back = rows.iter().any(|row| row.fields.get("retracted").is_some());
                    if name != Some(kind.kind) || taken_back || !keys.iter().any(|key| key == actor)
                    {
                        continue;
                    }
                    let felt = |state: usize| match row.fields.get("sentiment") {
                        Some(FieldValue::Number(felt)) => {
                            let level = SENTIMENT_LEVELS
                                .iter()
                                .position(|level| (level - felt).abs() < 0.3)
                                .unwrap();
                            knobs.sentiment[state][level]
                                / knobs.sentiment[state].iter().sum::<f64>()
                        }
                        _ => 1.0,
                    };
                    let real = mean * felt(state);
                    let is_late = self.day_of(row.known_ms) > day;
                    likelihood *= if prompt || is_late || rows.len() > 1 {
                        real
                    } else {
                        let quiet = factor
                            * rate(knobs, number, *department, *seniority, 0, false)
                            * felt(0);
                        real * (1.0 - knobs.mess.late_ratio)
                            * (1.0 - knobs.mess.repeated_ratio * repeated_by_now)
                            + knobs.mess.mistaken_ratio * quiet * under_way
                    };
                }
            }
        }

        for (_, _, _, lead) in morning.people.values() {
            let Some((key, status)) = lead
                .as_ref()
                .filter(|(_, status)| status.worked().is_some())
            else {
                continue;
            };
            let forward = [
                &knobs.leads.qualifies_per_day,
                &knobs.leads.accepted_per_day,
                &knobs.leads.converts_per_day,
            ];
            let ways = [
                forward[status.worked().unwrap()][state],
                knobs.leads.given_up_per_day[state],
            ];
            let moved = self
                .rows_of("leads", day)
                .filter(|row| row.key == *key)
                .find_map(|row| match row.fields.text("status").unwrap() {
                    "Closed Won" | "Closed Lost" => None,
                    "MQL" | "SQL" | "Converted" => Some(0),
                    _ => Some(1),
                });
            likelihood *= choice(&ways, moved);
        }

        let rates = Rates::new(knobs);
        likelihood *= (-knobs.people.revealed_per_day[state]).exp();
        for (person, (_, department, seniority, _)) in &self.mornings[day + 1][firm].people {
            if !self.mornings[day]
                .iter()
                .any(|morning| morning.people.contains_key(person))
            {
                let position = Rates::newcomer_index(*department, *seniority);
                likelihood *=
                    knobs.people.revealed_per_day[state] * rates.newcomer[2 * state][position];
            }
        }

        if !self.is_won(firm, day) {
            let change = self.stage_changes(firm, day).first().copied();
            likelihood *= match morning.stage {
                None => choice(&[knobs.deals.opens_per_day[state]], change.map(|_| 0)),
                Some(stage) => {
                    let forward = knobs
                        .deals
                        .advances_per_day
                        .get(stage)
                        .map_or(0.0, |by_state| by_state[state]);
                    let way = change.map(|to| usize::from(!OPEN_STAGES.contains(&to)));
                    choice(&[forward, knobs.deals.lost_per_day[state]], way)
                }
            };
        }
        likelihood
    }

    /// Probability a day of a move; `None` stands for a purchase.
    fn moves(
        &self,
        firm: usize,
        day: usize,
        fit: usize,
        researcher: bool,
        from: usize,
        to: Option<usize>,
    ) -> f64 {
        let knobs = &self.knobs;
        let morning = &self.mornings[day][firm];
        let champion = if morning.has_champion {
            knobs.people.champion_weight
        } else {
            0.0
        };
        let push = (knobs.wave.weight * morning.wave.min(knobs.wave.cap) + champion).exp();
        let speed = knobs.pace
            * knobs.fit.speed[fit]
            * push
            * if researcher {
                knobs.researcher_speed
            } else {
                1.0
            };
        let probability = |destination: Option<usize>| {
            let of = |step: &crate::Move| match step.to {
                crate::Destination::State(state) => Some(state.index()),
                crate::Destination::Purchase => None,
            };
            let steps = knobs
                .moves
                .iter()
                .filter(|step| step.from.index() == from && of(step) == destination);
            assert!(
                knobs
                    .moves
                    .iter()
                    .all(|step| step.travellers == Travellers::Everyone)
            );
            steps
                .map(|step| (step.per_day * speed.powf(step.speed_power)).min(0.4))
                .sum::<f64>()
        };
        if to == Some(from) {
            return 1.0
                - (0..6)
                    .filter(|state| *state != from)
                    .map(|state| probability(Some(state)))
                    .sum::<f64>()
                - probability(None);
        }
        probability(to)
    }

    /// Beliefs from the sum over all paths, in the order of the filter's.
    fn beliefs(&self, firm: usize, appeal: f64) -> Vec<f64> {
        let cdf = |cut: f64| {
            // Simpson's rule.
            let (from, steps) = (-9.0, 4_000);
            let width = (cut - appeal - from) / f64::from(steps);
            let density = |x: f64| (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
            let weight = |at: i32| {
                if at == 0 || at == steps {
                    1.0
                } else {
                    f64::from(2 + 2 * (at % 2))
                }
            };
            (0..=steps)
                .map(|at| weight(at) * density(from + width * f64::from(at)))
                .sum::<f64>()
                * width
                / 3.0
        };
        let [low, high] = self.knobs.fit.cuts.map(cdf);
        let mut beliefs = Vec::new();
        for fit in 0..3 {
            for researcher in [false, true] {
                let of_type = if researcher {
                    self.knobs.researcher_ratio
                } else {
                    1.0 - self.knobs.researcher_ratio
                };
                let prior = of_type * [low, high - low, 1.0 - high][fit];
                let shown: Vec<Vec<f64>> = (0..DAYS)
                    .map(|day| {
                        (0..6)
                            .map(|state| self.likelihood(firm, day, state, researcher))
                            .collect()
                    })
                    .collect();
                let moved = |day: usize, from: usize, to: usize| match (self.is_won(firm, day), to)
                {
                    (true, 0) => self.moves(firm, day, fit, researcher, from, None),
                    (true, _) => 0.0,
                    (false, _) => self.moves(firm, day, fit, researcher, from, Some(to)),
                };
                let table: Vec<Vec<Vec<f64>>> = (0..DAYS)
                    .map(|day| {
                        (0..6)
                            .map(|from| (0..6).map(|to| moved(day, from, to)).collect())
                            .collect()
                    })
                    .collect();
                let mut ends = [0.0; 6];
                for path in 0..6_usize.pow(DAYS as u32 + 1) {
                    let at = |day: usize| path / 6_usize.pow(day as u32) % 6;
                    let mut probability = prior * self.knobs.start[at(0)];
                    for day in 0..DAYS {
                        probability *= shown[day][at(day)] * table[day][at(day)][at(day + 1)];
                    }
                    ends[at(DAYS)] += probability;
                }
                beliefs.extend(ends);
            }
        }
        let total: f64 = beliefs.iter().sum();
        beliefs.iter().map(|belief| belief / total).collect()
    }
}

fn history(knobs: Knobs, seed: u64) -> (History, Filter) {
    let options = MarketOptions {
        accounts: 5,
        days: DAYS as u32,
        seed,
        ..MarketOptions::default()
    };
    let start_ms = options.start_ms;
    let mut market = Market::new(options, knobs.clone()).unwrap();
    let mut filter = Filter::new(&knobs, start_ms);
    let (mut all_rows, mut all_mornings) = (Vec::new(), Vec::new());
    loop {
        all_mornings.push(mornings(&market));
        let mut rows = Vec::new();
        if !market.next_day(&mut |row| rows.push(row)) {
            break;
        }
        filter.observe_day(&rows);
        all_rows.extend(rows);
    }
    // Second records exist from the first day on. The market announces them later.
    let first = all_mornings[1].clone();
    for (morning, next) in all_mornings[0].iter_mut().zip(first) {
        for (person, seen) in &mut morning.people {
            if let Some(later) = next.people.get(person) {
                seen.0.clone_from(&later.0);
            }
        }
    }
    (
        History {
            knobs,
            start_ms,
            rows: all_rows,
            mornings: all_mornings,
            market,
        },
        filter,
    )
}

/// Covers purchases, moves, late and repeated events, mistakes, duplicates and people from
/// free-mail addresses.
#[test]
fn beliefs_are_those_of_all_hidden_paths() {
    let mut met = [0; 5];
    for seed in 0..6 {
        let (history, filter) = history(busy(), seed);
        for firm in 0..5 {
            let expected = history.beliefs(firm, filter.appeal(firm));
            let found: Vec<f64> = filter.belief(firm).into_iter().flatten().collect();
            assert_eq!(
                filter.key(firm),
                Some(history.market.firms[firm].key.as_str())
            );
            for (at, (expected, found)) in expected.iter().zip(&found).enumerate() {
                assert!(
                    (expected - found).abs() < 1e-6,
                    "seed {seed}, account {firm}, {at}: {expected} and {found}"
                );
            }
            met[0] += usize::from((0..DAYS).any(|day| history.is_won(firm, day)));
            met[1] += usize::from((0..DAYS).any(|day| history.mornings[day][firm].has_champion));
        }
        met[2] += history
            .rows
            .iter()
            .filter(|row| row.fields.get("retracted").is_some())
            .count();
        met[3] += history
            .rows
            .iter()
            .filter(|row| {
                row.fields
                    .whole("occurred_at")
                    .is_some_and(|at| row.known_ms - at > DAY_MS)
            })
            .count();
        met[4] += history
            .rows
            .iter()
            .filter(|row| row.fields.text("converted_contact_id").is_some())
            .count();
    }
    assert!(
        met.iter().all(|count| *count > 3),
        "purchases, champions, mistakes, late events, conversions: {met:?}"
    );
}

/// Without waves and champions ahead, the forecast is exact too.
#[test]
fn forecasts_are_those_of_all_hidden_paths() {
    let mut knobs = busy();
    knobs.wave.weight = 0.0;
    knobs.people.champions_per_day = 0.0;
    let (history, filter) = history(knobs, 3);
    let forecasts = filter.forecast(history.start_ms + DAYS as i64 * DAY_MS, 2);
    assert_eq!(forecasts.len(), 5);
    for (firm, forecast) in forecasts.iter().enumerate() {
        let beliefs = history.beliefs(firm, filter.appeal(firm));
        let mut expected = 0.0;
        for (at, belief) in beliefs.iter().enumerate() {
            let (fit, researcher, state) = (at / 12, at / 6 % 2 == 1, at % 6);
            let moves = |from, to| history.moves(firm, DAYS, fit, researcher, from, to);
            expected += belief
                * (moves(state, None)
                    + (0..6)
                        .map(|next| moves(state, Some(next)) * moves(next, None))
                        .sum::<f64>());
        }
        assert!(
            (expected - forecast.probability).abs() < 1e-6,
            "account {firm}: {expected} and {}",
            forecast.probability
        );
        assert!(forecast.probability > 0.0 && forecast.probability < 1.0);
    }
}
