//! Accounts: visible fields, and hidden state.

use crate::chance::Dice;
use crate::deals::Deal;
use crate::knobs::{FitKnobs, Knobs};
use crate::market::DAY_MS;
use crate::rows::{ACCOUNTS, RowDraft, RowOut};
use crate::sellers::{account_owner, territory};
use crate::state::{BuyingState, guise};
use crate::vocabulary::{
    COUNTRIES, Compatibility, HOME_INDUSTRIES, INDUSTRIES, INDUSTRY_WEIGHTS, REGION_WEIGHTS,
    REGIONS, TECHNOLOGIES, company_name, domain,
};

/// Sizes of companies are log-normal: this median, and the spread of their logarithm.
// Frozen with the market. Why these values is unknown.
const MEDIAN_EMPLOYEES: f64 = 420.0;
const EMPLOYEES_SPREAD: f64 = 1.35;

/// Log size of an account, in standard deviations, from the number of employees.
pub(crate) fn size_of(employees: i64) -> f64 {
    (employees as f64 / MEDIAN_EMPLOYEES).ln() / EMPLOYEES_SPREAD
}

/// The visible part of fit. Hidden fit is the visible part plus standard normal noise, cut into
/// levels.
pub(crate) fn visible_appeal(
    knobs: &FitKnobs,
    employees: i64,
    technologies: &[usize],
    industry: usize,
    region: usize,
) -> f64 {
    let count = |what| {
        technologies
            .iter()
            .filter(|&&t| TECHNOLOGIES[t].2 == what)
            .count() as f64
    };
    knobs.size * size_of(employees)
        + knobs.friendly_technology * count(Compatibility::Friendly)
        + knobs.hostile_technology * count(Compatibility::Hostile)
        + if HOME_INDUSTRIES.contains(&industry) {
            knobs.home_industry
        } else {
            0.0
        }
        + if region == 0 { knobs.home_region } else { 0.0 }
}

/// Events a weekday of all known people of an account, by the way they are reported.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DailyRates {
    /// Kinds that may be late, missing, or taken back.
    pub(crate) ordinary: f64,
    /// Kinds that open a trial.
    pub(crate) opening: f64,
    /// Rate of the ordinary kinds, if the account were dormant and no researcher.
    pub(crate) quiet: f64,
}

/// An account of the market, visible fields and hidden state.
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
    /// Start of the first contract: the first purchase, or the creation of an account that was a
    /// customer at the start.
    pub(crate) contract_ms: i64,
    /// True once the account has bought.
    pub(crate) customer: bool,
    /// The opportunity in progress.
    pub(crate) deal: Option<Deal>,
    /// Index of the person who led the opportunity that was lost last.
    pub(crate) lost_with: Option<usize>,
    /// Day after the last day of a trial.
    pub(crate) trial_until_day: i64,
    /// Day after the last day on which a former user of ours has an effect here.
    pub(crate) champion_until_day: i64,
    /// Indices of the account's known people.
    pub(crate) people: Vec<usize>,
    /// Indices of the known people who are leads being worked on.
    pub(crate) open_leads: Vec<usize>,

    /// Level of fit, 0 to 2. Hidden.
    pub(crate) fit: usize,
    /// True for an account that reads a lot and buys little. Hidden.
    pub(crate) researcher: bool,
    /// The hidden buying state, which no row contains.
    pub(crate) state: BuyingState,

    /// Rates of the account's people; `None` after a change, until they are computed again.
    pub(crate) daily_rates: Option<DailyRates>,
}

impl Firm {
    /// The account with this number, as of `start_ms`.
    pub(crate) fn born(number: usize, start_ms: i64, knobs: &Knobs, dice: &mut Dice) -> Self {
        let industry = dice.weighted(&INDUSTRY_WEIGHTS);
        let region = dice.weighted(&REGION_WEIGHTS);
        let employees = (MEDIAN_EMPLOYEES * (EMPLOYEES_SPREAD * dice.normal()).exp())
            .round()
            .max(5.0) as i64;
        let revenue = (employees as f64 * 190_000.0 * (0.4 * dice.normal()).exp() / 100_000.0)
            .round()
            * 100_000.0;
        let technologies: Vec<usize> = (0..TECHNOLOGIES.len())
            .filter(|&t| dice.chance(TECHNOLOGIES[t].1))
            .collect();
        let name = company_name(number);
        let appeal =
            visible_appeal(&knobs.fit, employees, &technologies, industry, region) + dice.normal();
        let fit = knobs.fit.cuts.iter().filter(|&&cut| appeal > cut).count();

        // In this order, for each draws chance.
        let country = dice.pick(&COUNTRIES[region]);
        let created_ms = start_ms - DAY_MS * (1 + dice.below(1_000)) as i64;

        Self {
            key: format!("A{:05}", number + 1),
            domain: domain(&name),
            name,
            industry,
            region,
            country,
            employees,
            revenue,
            technologies,
            created_ms,
            contract_ms: created_ms,
            customer: dice.chance(knobs.customer_ratio),
            deal: None,
            lost_with: None,
            trial_until_day: 0,
            champion_until_day: 0,
            people: Vec::new(),
            open_leads: Vec::new(),
            fit,
            researcher: dice.chance(knobs.researcher_ratio),
            state: BuyingState::ALL[dice.weighted(&knobs.start)],
            daily_rates: None,
        }
    }

    /// State and type as one index of the rates.
    pub(crate) fn guise(&self) -> usize {
        guise(self.state.index(), self.researcher)
    }

    /// True if the account's people may use the product on a day.
    pub(crate) fn has_access(&self, day: i64) -> bool {
        self.customer || self.trial_until_day > day
    }

    /// Names of the account's technologies.
    pub(crate) fn tech_stack(&self) -> Vec<&'static str> {
        self.technologies
            .iter()
            .map(|&t| TECHNOLOGIES[t].0)
            .collect()
    }

    /// The version of the account's row at a moment.
    pub(crate) fn row(&self, at_ms: i64) -> RowOut {
        RowDraft::new(
            ACCOUNTS,
            "account_id",
            self.key.clone(),
            "updated_at",
            at_ms,
        )
        .own_account()
        .set("name", self.name.clone())
        .set("domain", self.domain.clone())
        .set("website", format!("https://www.{}", self.domain))
        .set("industry", INDUSTRIES[self.industry])
        .set("employee_count", self.employees)
        .set("revenue", self.revenue)
        .set("region", REGIONS[self.region])
        .set("country", self.country)
        .set("territory", territory(self.region, self.employees))
        .set("owner_id", account_owner(self))
        .set("tech_stack", self.tech_stack())
        .set(
            "status",
            if self.customer {
                "Customer"
            } else {
                "Prospect"
            },
        )
        .set("created_at", self.created_ms)
        .finish()
    }
}
