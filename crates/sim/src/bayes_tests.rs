//! The filter is calibrated, and ahead of every single number.

use std::collections::HashMap;
use std::time::Instant;

use crate::market::DAY_MS;
use crate::{Forecast, Knobs, Market, MarketOptions, RowOut, World, bayes};

const HORIZON_DAYS: u32 = 90;

/// Forecasts of a market beside the outcomes.
struct Judged {
    /// Forecast probability and outcome of each pair.
    pairs: Vec<(f64, bool)>,
    /// Numbers of each heuristic for the same pairs.
    heuristics: Vec<(&'static str, Vec<f64>)>,
}

fn text<'a>(row: &'a RowOut, field: &str) -> Option<&'a str> {
    row.fields.text(field)
}

/// The events of an account: moments of hot ones, of all, stage of the opportunity, last moment of
/// each department.
type Seen = (Vec<i64>, Vec<i64>, f64, HashMap<String, i64>);

/// Forecasts at anchors `every` days from day 120 on, for the market of these options and knobs.
fn judge(world: World, accounts: usize, days: u32, seed: u64, every: usize) -> Judged {
    let options = MarketOptions {
        accounts,
        days,
        seed,
        ..MarketOptions::default()
    };
    let start_ms = options.start_ms;
    let mut market = Market::new(options, world.knobs()).unwrap();
    let anchors: Vec<i64> = (120..=days - HORIZON_DAYS)
        .step_by(every)
        .map(|day| start_ms + i64::from(day) * DAY_MS)
        .collect();
    let forecasts = bayes(&market, &anchors, HORIZON_DAYS).unwrap();

    let names = [
        "hot events in 90 days",
        "all events in 30 days",
        "stage of the opportunity",
        "departments in 30 days",
    ];
    let mut heuristics: Vec<(&str, Vec<f64>)> = names.map(|name| (name, Vec::new())).to_vec();
    let mut seen: HashMap<String, Seen> = HashMap::new();
    let mut departments: HashMap<String, String> = HashMap::new();
    let mut next = 0;
    while next < forecasts.len() {
        while market.next_day_ms() < forecasts[next].anchor_ms {
            market.next_day(&mut |row| {
                if let Some(department) = text(&row, "department") {
                    departments.insert(row.key.clone(), department.to_owned());
                }
                let Some(account) = row.account.clone() else {
                    return;
                };
                let state = seen.entry(account).or_default();
                if let Some(stage) = text(&row, "to_stage") {
                    let stages = ["Discovery", "Qualification", "Proposal", "Negotiation"];
                    state.2 = stages
                        .iter()
                        .position(|s| *s == stage)
                        .map_or(0.0, |at| at as f64 + 1.0);
                }
                let Some(kind) = text(&row, "type")
                    .or(text(&row, "content_type"))
                    .filter(|_| row.fields.get("occurred_at").is_some())
                else {
                    return;
                };
                state.1.push(row.known_ms);
                if matches!(
                    kind,
                    "pricing"
                        | "pricing_page_view"
                        | "demo_request"
                        | "meeting"
                        | "security"
                        | "docs"
                ) {
                    state.0.push(row.known_ms);
                }
                if let Some(department) =
                    text(&row, "contact_id").and_then(|contact| departments.get(contact))
                {
                    state.3.insert(department.clone(), row.known_ms);
                }
            });
        }
        let anchor_ms = forecasts[next].anchor_ms;
        while let Some(forecast) = forecasts
            .get(next)
            .filter(|forecast| forecast.anchor_ms == anchor_ms)
        {
            let state = seen.entry(forecast.account.clone()).or_default();
            let within = |times: &[i64], days: i64| {
                times
                    .iter()
                    .filter(|at| **at >= anchor_ms - days * DAY_MS)
                    .count() as f64
            };
            let active = state
                .3
                .values()
                .filter(|at| **at >= anchor_ms - 30 * DAY_MS)
                .count() as f64;
            for (values, value) in heuristics.iter_mut().zip([
                within(&state.0, 90),
                within(&state.1, 30),
                state.2,
                active,
            ]) {
                values.1.push(value);
            }
            next += 1;
        }
    }
    while market.next_day(&mut |_| {}) {}
    let mut purchases: HashMap<&str, Vec<i64>> = HashMap::new();
    for purchase in market.purchases() {
        purchases
            .entry(&purchase.account)
            .or_default()
            .push(purchase.at_ms);
    }
    let outcome = |forecast: &Forecast| {
        let until_ms = forecast.anchor_ms + i64::from(HORIZON_DAYS) * DAY_MS;
        purchases
            .get(forecast.account.as_str())
            .is_some_and(|times| {
                times
                    .iter()
                    .any(|at| (forecast.anchor_ms..until_ms).contains(at))
            })
    };
    Judged {
        pairs: forecasts
            .iter()
            .map(|forecast| (forecast.probability, outcome(forecast)))
            .collect(),
        heuristics,
    }
}

impl Judged {
    fn base_rate(&self) -> f64 {
        self.pairs.iter().filter(|(_, won)| *won).count() as f64 / self.pairs.len() as f64
    }

    fn mean(&self) -> f64 {
        self.pairs
            .iter()
            .map(|(probability, _)| probability)
            .sum::<f64>()
            / self.pairs.len() as f64
    }

    fn auroc(&self) -> f64 {
        auroc(self.pairs.clone())
    }

    fn best_heuristic(&self) -> (f64, &'static str) {
        let outcomes = self.pairs.iter().map(|(_, won)| *won);
        let score = |values: &[f64]| auroc(values.iter().copied().zip(outcomes.clone()).collect());
        self.heuristics
            .iter()
            .map(|(name, values)| (score(values), *name))
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .unwrap()
    }
}

/// Area under the ROC curve; ties count half.
fn auroc(mut pairs: Vec<(f64, bool)>) -> f64 {
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut sum, mut won_total) = (0.0, 0.0, 0.0);
    for tied in pairs.chunk_by(|a, b| a.0 == b.0) {
        let won = tied.iter().filter(|(_, won)| *won).count() as f64;
        let lost = tied.len() as f64 - won;
        sum += won * (below + lost / 2.0);
        below += lost;
        won_total += won;
    }
    sum / (won_total * below)
}

/// The ceiling is calibrated, well below certainty, and above any single number. Purchases are as
/// rare as in business-to-business sales.
#[test]
fn forecasts_are_calibrated() {
    let judged = judge(World::Market, 2_000, 390, 7, 30);
    let rate = judged.base_rate();
    assert!(
        (0.018..=0.042).contains(&rate),
        "{rate} of the accounts buy within {HORIZON_DAYS} days"
    );
    let auroc = judged.auroc();
    assert!((0.83..=0.93).contains(&auroc), "{auroc}");
    let (single, name) = judged.best_heuristic();
    assert!(
        auroc > single + 0.1,
        "{auroc}, but {single} with {name} alone"
    );

    // A purchase is seen from up to three anchors, and an industry's accounts buy together: errors
    // are larger than those of independent pairs.
    const WIDER: f64 = 2.0;
    let mut pairs = judged.pairs.clone();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (lower, upper) = pairs.split_at(pairs.len() * 4 / 5);
    for bin in [
        lower,
        &upper[..upper.len() * 3 / 4],
        &upper[upper.len() * 3 / 4..],
    ] {
        let n = bin.len() as f64;
        let expected = bin.iter().map(|(probability, _)| probability).sum::<f64>() / n;
        let found = bin.iter().filter(|(_, won)| *won).count() as f64 / n;
        let error = WIDER
            * (bin
                .iter()
                .map(|(probability, _)| probability * (1.0 - probability))
                .sum::<f64>())
            .sqrt()
            / n;
        assert!(
            (expected - found).abs() < 3.0 * error,
            "forecast {expected}, found {found} of {n}"
        );
    }
}

/// `cargo test -p leadpulse-sim -- --ignored --nocapture at_a_glance`
#[test]
#[ignore = "a report, not a check"]
fn worlds_at_a_glance() {
    let setting = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |value| value.parse().unwrap())
    };
    let (from, seeds) = (setting("SIM_SEED", 100), setting("SIM_SEEDS", 2));
    println!("world               seed    time   rate  mean p   AUROC  best single");
    let only = std::env::var("SIM_WORLD").ok();
    for world in World::ALL
        .into_iter()
        .filter(|world| only.as_ref().is_none_or(|name| name == world.name()))
    {
        for seed in from..from + seeds {
            let begin = Instant::now();
            let judged = judge(
                world,
                setting("SIM_ACCOUNTS", 2_000) as usize,
                setting("SIM_DAYS", 540) as u32,
                seed,
                15,
            );
            let (single, name) = judged.best_heuristic();
            let (rate, mean, seconds) = (
                100.0 * judged.base_rate(),
                100.0 * judged.mean(),
                begin.elapsed().as_secs_f64(),
            );
            println!(
                "{world:<18} {seed:>5} {seconds:>6.1}s {rate:>5.2}% {mean:>6.2}%   {:.3}  {single:.3} {name}",
                judged.auroc()
            );
        }
    }
}

/// `cargo test -p leadpulse-sim -- --ignored --nocapture time_to_write`
#[test]
#[ignore = "a report, not a check"]
fn time_to_write_a_large_market() {
    let folder = tempfile::tempdir().unwrap();
    let options = MarketOptions {
        accounts: 12_000,
        days: 720,
        ..MarketOptions::default()
    };
    let begin = Instant::now();
    let written = crate::write_files(
        &mut Market::new(options, Knobs::default()).unwrap(),
        folder.path(),
        &mut |_| {},
    )
    .unwrap();
    println!(
        "{:.1} s for {} rows: {written:?}",
        begin.elapsed().as_secs_f64(),
        written.values().sum::<u64>()
    );
}
