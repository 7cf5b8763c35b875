//! Accounts: what everybody sees of them, and what nobody does.

use crate::chance::Dice;
use crate::deals::Deal;
use crate::knobs::Knobs;
use crate::rows::{ACCOUNTS, Record, RowOut};
use crate::state::BuyingState;
use crate::vocabulary::{
    COUNTRIES, Compatibility, HOME_INDUSTRIES, INDUSTRIES, INDUSTRY_WEIGHTS, REGION_WEIGHTS, REGIONS, TECHNOLOGIES, company_name, domain,
};

const DAY_MS: i64 = 86_400_000;

/// An account.
#[derive(Clone, Debug)]
pub(crate) struct Firm {
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) domain: String,
    pub(crate) industry: usize,
    pub(crate) region: usize,
    country: &'static str,
    pub(crate) employees: i64,
    pub(crate) revenue: f64,
    technologies: Vec<usize>,
    created_ms: i64,
    /// Has bought.
    pub(crate) customer: bool,
    /// The opportunity in progress.
    pub(crate) deal: Option<Deal>,
    /// A trial runs up to, not including, this day.
    pub(crate) trial_until_day: Option<i64>,
    /// Indices of its people.
    pub(crate) people: Vec<usize>,

    /// Log size in standard deviations.
    pub(crate) size: f64,
    /// Level of fit. Hidden.
    pub(crate) fit: usize,
    /// Reads a lot, does not buy. Hidden.
    pub(crate) researcher: bool,
    /// Hidden.
    pub(crate) state: BuyingState,
    /// How much former users of ours among its people help. Hidden.
    pub(crate) champion: f64,

    /// Events a weekday of all its known people; `None` when something changed.
    pub(crate) daily_rate: Option<f64>,
}

impl Firm {
    /// The account with this number, as it is at `start_ms`.
    pub(crate) fn born(number: usize, start_ms: i64, knobs: &Knobs, dice: &mut Dice) -> Self {
        let industry = dice.weighted(&INDUSTRY_WEIGHTS);
        let region = dice.weighted(&REGION_WEIGHTS);
        let size = dice.normal();
        let employees = (420.0 * (1.35 * size).exp()).round().max(5.0);
        let revenue = (employees * 190_000.0 * (0.4 * dice.normal()).exp() / 100_000.0).round() * 100_000.0;
        let technologies: Vec<usize> = (0..TECHNOLOGIES.len()).filter(|&t| dice.chance(TECHNOLOGIES[t].1)).collect();
        let name = company_name(number);

        let count = |what| technologies.iter().filter(|&&t| TECHNOLOGIES[t].2 == what).count() as f64;
        let appeal = knobs.fit.size * size
            + knobs.fit.friendly_technology * count(Compatibility::Friendly)
            + knobs.fit.hostile_technology * count(Compatibility::Hostile)
            + if HOME_INDUSTRIES.contains(&industry) { knobs.fit.home_industry } else { 0.0 }
            + if region == 0 { knobs.fit.home_region } else { 0.0 }
            + dice.normal();
        let fit = knobs.fit.cuts.iter().filter(|&&cut| appeal > cut).count();

        Self {
            key: format!("A{:05}", number + 1),
            domain: domain(&name),
            name,
            industry,
            region,
            country: dice.pick(&COUNTRIES[region]),
            employees: employees as i64,
            revenue,
            technologies,
            created_ms: start_ms - DAY_MS * (1 + dice.below(1_000)) as i64,
            customer: dice.chance(knobs.customer_ratio),
            deal: None,
            trial_until_day: None,
            people: Vec::new(),
            size,
            fit,
            researcher: dice.chance(knobs.researcher_ratio),
            state: BuyingState::ALL[dice.weighted(&knobs.start)],
            champion: 0.0,
            daily_rate: None,
        }
    }

    /// How fast it moves through the buying states.
    pub(crate) fn speed(&self, wave: f64, knobs: &Knobs) -> f64 {
        let push = knobs.wave_weight * wave.min(knobs.wave_cap) + knobs.champion_weight * self.champion;
        knobs.fit.speed[self.fit] * push.exp() * if self.researcher { knobs.researcher_speed } else { 1.0 }
    }

    /// Its technologies' names.
    pub(crate) fn tech_stack(&self) -> Vec<&'static str> {
        self.technologies.iter().map(|&t| TECHNOLOGIES[t].0).collect()
    }

    /// Its version at a moment.
    pub(crate) fn row(&self, at_ms: i64) -> RowOut {
        Record::new(ACCOUNTS, "account_id", self.key.clone(), "updated_at", at_ms)
            .account(Some(&self.key))
            .set("name", self.name.as_str())
            .set("domain", self.domain.as_str())
            .set("website", format!("https://www.{}", self.domain))
            .set("industry", INDUSTRIES[self.industry])
            .set("employee_count", self.employees)
            .set("revenue", self.revenue)
            .set("region", REGIONS[self.region])
            .set("country", self.country)
            .set("tech_stack", self.tech_stack())
            .set("status", if self.customer { "Customer" } else { "Prospect" })
            .set("created_at", self.created_ms)
            .finish()
    }
}
