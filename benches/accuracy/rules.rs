//! Scores without a model: points for activities, and a profile of the ideal customer. Neither
//! learns anything.

use crate::history::{DAY_MS, History, NOBODY};
use crate::vocabulary::KINDS;

/// Technologies and industries that the product is sold to.
const FITTING_TECHNOLOGIES: [&str; 3] = ["Snowflake", "Databricks", "Kafka"];
const HOME_INDUSTRIES: [&str; 3] = ["Technology", "Finance", "Retail"];
const HOME_REGION: &str = "North America";

/// Figures of the whole market that both scores use.
pub struct Yardstick {
    mean: f64,
    deviation: f64,
    technologies: u64,
    industries: Vec<usize>,
    region: Option<usize>,
}

impl Yardstick {
    pub fn new(history: &History) -> Self {
        let sizes: Vec<f64> = history
            .accounts
            .iter()
            .map(|a| a.employees.ln())
            .filter(|size| size.is_finite())
            .collect();
        let mean = sizes.iter().sum::<f64>() / sizes.len().max(1) as f64;
        let variance =
            sizes.iter().map(|size| (size - mean).powi(2)).sum::<f64>() / sizes.len().max(1) as f64;
        let technologies = FITTING_TECHNOLOGIES
            .iter()
            .filter_map(|t| history.technologies.find(t))
            .fold(0, |bits, t| bits | 1 << t.min(63));
        Self {
            mean,
            deviation: variance.sqrt().max(1e-9),
            technologies,
            industries: HOME_INDUSTRIES
                .iter()
                .filter_map(|industry| history.industries.find(industry))
                .collect(),
            region: history.regions.find(HOME_REGION),
        }
    }

    fn size(&self, employees: f64) -> f64 {
        let size = (employees.ln() - self.mean) / self.deviation;
        if size.is_finite() { size } else { 0.0 }
    }

    /// Points: size, executives and what was done in 90 days.
    pub fn points(&self, history: &History, number: usize, at_ms: i64) -> f64 {
        let account = &history.accounts[number];
        let first = account
            .events
            .partition_point(|e| e.at_ms <= at_ms - 90 * DAY_MS);
        let mut has_executive = false;
        let (mut whitepapers, mut pricing, mut mails, mut webinars, mut demos) =
            (0.0_f64, 0.0_f64, 0.0_f64, 0.0_f64, 0.0_f64);
        for event in &account.events[first..] {
            has_executive |= event.person != NOBODY && history.is_executive(event.person);
            match KINDS[usize::from(event.kind)].1 {
                "whitepaper" => whitepapers += 1.0,
                "pricing" | "pricing_page_view" => pricing += 1.0,
                "email_open" | "email_click" | "email_reply" => mails += 1.0,
                "webinar" => webinars += 1.0,
                "demo_request" => demos += 1.0,
                _ => {}
            }
        }
        let size = if self.size(account.employees) > 0.5 {
            15.0
        } else {
            0.0
        };
        let executive = if has_executive { 10.0 } else { 0.0 };
        size + executive
            + 5.0 * whitepapers.min(4.0)
            + 10.0 * pricing.min(3.0)
            + mails.min(10.0)
            + 3.0 * webinars.min(2.0)
            + 20.0 * demos.min(1.0)
    }

    /// Likeness of the account to the ideal customer.
    pub fn icp(&self, history: &History, number: usize) -> f64 {
        let account = &history.accounts[number];
        let fits = |yes: bool, weight: f64| if yes { weight } else { 0.0 };
        self.size(account.employees)
            + fits(account.technologies & self.technologies != 0, 0.8)
            + fits(Some(account.region) == self.region, 0.3)
            + fits(self.industries.contains(&account.industry), 0.2)
    }
}
