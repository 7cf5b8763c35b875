//! The constants of the world. Frozen before any model was trained on it; a change is a new world and says so in the changelog.
//!
//! Tables by state are in the order of [`BuyingState::ALL`]: dormant, curious, shortlisting, evaluating, committing, shelved.

use crate::rows::{ACTIVITIES, CONTENT_VIEWS, PRODUCT_USAGE};
use crate::state::{BuyingState, Destination};

/// A way out of a hidden state.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// The state left.
    pub from: BuyingState,
    /// Where it leads.
    pub to: Destination,
    /// Probability a day for an account of speed 1.
    pub per_day: f64,
    /// Exponent of the account's speed: above 0 fast accounts do it sooner, below 0 later.
    pub speed_power: f64,
}

/// Who at an account does a kind of thing more often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Everybody.
    Anyone,
    /// Engineering, data, IT, security, product.
    Technical,
    /// The other departments.
    Business,
}

/// A kind of event that known people emit.
#[derive(Clone, Copy, Debug)]
pub struct Engagement {
    /// Table of the event.
    pub table: &'static str,
    /// Its type in that table.
    pub kind: &'static str,
    /// Events a day and person in the dormant state.
    pub per_day: f64,
    /// Factor by state.
    pub by_state: [f64; 6],
    /// Extra factor of `per_day` that researchers add whatever their state.
    pub researcher: f64,
    /// Who does it more often.
    pub audience: Audience,
    /// Whether it needs a running trial.
    pub in_trial: bool,
    /// Points an ordinary point system gives for it.
    pub points: f64,
}

/// What makes an account a good fit. The sum, with normal noise of deviation 1, is cut into three levels.
#[derive(Clone, Debug)]
pub struct FitKnobs {
    /// Per standard deviation of log size.
    pub size: f64,
    /// Per technology that our product works with.
    pub friendly_technology: f64,
    /// Per technology that stands in the way.
    pub hostile_technology: f64,
    /// For each of the home industries.
    pub home_industry: f64,
    /// For the home region.
    pub home_region: f64,
    /// Below the first: poor; below the second: fair; else good.
    pub cuts: [f64; 2],
    /// Speed by level.
    pub speed: [f64; 3],
}

/// Opportunities in the CRM: what sales sees of the hidden state.
#[derive(Clone, Debug)]
pub struct DealKnobs {
    /// Probability a day that an opportunity is opened, by state.
    pub opens_per_day: [f64; 6],
    /// Probability a day to enter the next stage, by stage left (discovery, qualification, proposal) and state.
    pub advances_per_day: [[f64; 6]; 3],
    /// Probability a day to be closed as lost, by state.
    pub lost_per_day: [f64; 6],
    /// Median amount of an account of average size, in dollars.
    pub median_amount: f64,
    /// How log amount grows with a standard deviation of log size.
    pub amount_by_size: f64,
    /// Deviation of log amount.
    pub amount_spread: f64,
}

/// People who come first as leads.
#[derive(Clone, Debug)]
pub struct LeadKnobs {
    /// Share of newly known people who come as leads; the others are entered as contacts.
    pub lead_ratio: f64,
    /// Share of leads that carry their account's key; the others only an e-mail address.
    pub account_known_ratio: f64,
    /// Probability a day of open → MQL, by state.
    pub qualifies_per_day: [f64; 6],
    /// Probability a day of MQL → SQL, by state.
    pub accepted_per_day: [f64; 6],
    /// Probability a day of SQL → converted to a contact.
    pub converts_per_day: f64,
    /// Probability a day to be given up (nurture, no reply, disqualified), by state.
    pub given_up_per_day: [f64; 6],
}

/// People and their employers.
#[derive(Clone, Debug)]
pub struct PeopleKnobs {
    /// Fewest people of interest at an account.
    pub fewest: u32,
    /// Mean of the further ones for an account of average size; grows with size.
    pub further: f64,
    /// Share of them in the CRM at the start.
    pub known_ratio: f64,
    /// Probability a day that an unknown person becomes known, by state.
    pub revealed_per_day: [f64; 6],
    /// New people a day and person.
    pub hired_per_day: f64,
    /// Probability a day that a contact changes employer.
    pub moves_per_day: f64,
    /// What a mover from a customer adds to the new account's champion level, by seniority.
    pub champion: [f64; 5],
    /// Days in which the champion level falls to 1/e.
    pub champion_days: f64,
    /// Weights of seniorities: IC, Manager, Director, VP, C-Level.
    pub seniority_weights: [f64; 5],
}

/// All constants of a world.
#[derive(Clone, Debug)]
pub struct Knobs {
    /// Share of accounts in each hidden state at the start.
    pub start: [f64; 6],
    /// How hidden states move.
    pub moves: Vec<Move>,
    /// Fit.
    pub fit: FitKnobs,
    /// Share of accounts that read a lot and do not buy.
    pub researcher_ratio: f64,
    /// Their speed factor.
    pub researcher_speed: f64,
    /// Log speed per unit of the industry's wave.
    pub wave_weight: f64,
    /// The wave counts up to this.
    pub wave_cap: f64,
    /// Every industry's wave at the start.
    pub wave_start: f64,
    /// What a purchase adds to its industry's wave, divided among the accounts of that industry.
    pub wave_per_purchase: f64,
    /// In small markets no purchase adds more than this.
    pub wave_per_purchase_cap: f64,
    /// Days in which a wave falls to 1/e.
    pub wave_days: f64,
    /// Log speed per unit of champion level.
    pub champion_weight: f64,
    /// What people do.
    pub engagement: Vec<Engagement>,
    /// Factor for people in the departments that a state involves (see `departments_by_state`).
    pub involved: f64,
    /// Factor for the others, in states that involve some.
    pub uninvolved: f64,
    /// How many departments a state involves; the first so many of the vocabulary's order of joining. 0: none in particular.
    pub departments_by_state: [usize; 6],
    /// Factor for VPs and C-Level while evaluating and committing.
    pub executive: f64,
    /// Factor for the audience of a kind; the others get its inverse.
    pub audience: f64,
    /// Activity on Saturdays and Sundays.
    pub weekend: f64,
    /// Length of a trial in days.
    pub trial_days: i64,
    /// Mean sentiment of conversations by state; the deviation is `sentiment_spread`.
    pub sentiment: [f64; 6],
    /// Deviation of sentiment.
    pub sentiment_spread: f64,
    /// Opportunities.
    pub deals: DealKnobs,
    /// Leads.
    pub leads: LeadKnobs,
    /// People.
    pub people: PeopleKnobs,
    /// Share of accounts that are customers at the start.
    pub customer_ratio: f64,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            start: [0.845, 0.055, 0.036, 0.022, 0.014, 0.028],
            moves: default_moves(),
            fit: FitKnobs {
                size: 0.55,
                friendly_technology: 0.45,
                hostile_technology: -0.35,
                home_industry: 0.4,
                home_region: 0.25,
                cuts: [-0.1, 1.1],
                speed: [0.28, 1.0, 2.6],
            },
            researcher_ratio: 0.18,
            researcher_speed: 0.4,
            wave_weight: 0.8,
            wave_cap: 1.5,
            wave_start: 0.2,
            wave_per_purchase: 12.0,
            wave_per_purchase_cap: 0.35,
            wave_days: 50.0,
            champion_weight: 1.1,
            engagement: default_engagement(),
            involved: 2.3,
            uninvolved: 0.6,
            departments_by_state: [0, 2, 4, 6, 8, 0],
            executive: 1.6,
            audience: 1.3,
            weekend: 0.25,
            trial_days: 40,
            sentiment: [0.0, 0.1, 0.15, 0.3, 0.45, -0.2],
            sentiment_spread: 0.35,
            deals: DealKnobs {
                opens_per_day: [0.0003, 0.0012, 0.008, 0.09, 0.16, 0.0005],
                advances_per_day: [
                    [0.006, 0.012, 0.035, 0.12, 0.20, 0.004],
                    [0.003, 0.006, 0.015, 0.07, 0.18, 0.003],
                    [0.002, 0.003, 0.006, 0.03, 0.14, 0.002],
                ],
                lost_per_day: [0.025, 0.018, 0.009, 0.004, 0.002, 0.045],
                median_amount: 42_000.0,
                amount_by_size: 0.7,
                amount_spread: 0.5,
            },
            leads: LeadKnobs {
                lead_ratio: 0.65,
                account_known_ratio: 0.8,
                qualifies_per_day: [0.008, 0.03, 0.06, 0.09, 0.09, 0.006],
                accepted_per_day: [0.006, 0.015, 0.04, 0.08, 0.10, 0.005],
                converts_per_day: 0.10,
                given_up_per_day: [0.020, 0.010, 0.006, 0.004, 0.004, 0.025],
            },
            people: PeopleKnobs {
                fewest: 3,
                further: 3.5,
                known_ratio: 0.7,
                revealed_per_day: [0.0006, 0.006, 0.011, 0.014, 0.012, 0.0006],
                hired_per_day: 0.0006,
                moves_per_day: 0.0002,
                champion: [0.25, 0.4, 0.7, 1.0, 1.2],
                champion_days: 110.0,
                seniority_weights: [0.46, 0.24, 0.16, 0.09, 0.05],
            },
            customer_ratio: 0.12,
        }
    }
}

fn default_moves() -> Vec<Move> {
    use BuyingState::{Committing, Curious, Dormant, Evaluating, Shelved, Shortlisting};
    use Destination::{Purchase, State};
    let step = |from, to, per_day, speed_power| Move { from, to, per_day, speed_power };
    vec![
        step(Dormant, State(Curious), 0.0014, 1.0),
        step(Curious, State(Shortlisting), 0.021, 0.4),
        step(Curious, State(Dormant), 0.019, -0.4),
        step(Shortlisting, State(Evaluating), 0.021, 0.4),
        step(Shortlisting, State(Shelved), 0.014, -0.4),
        step(Evaluating, State(Committing), 0.023, 0.4),
        step(Evaluating, State(Shelved), 0.011, -0.4),
        step(Evaluating, Purchase, 0.0011, 0.4),
        step(Committing, Purchase, 0.027, 0.4),
        step(Committing, State(Shelved), 0.008, -0.4),
        step(Shelved, State(Dormant), 0.011, 0.0),
        step(Shelved, State(Shortlisting), 0.0012, 0.6),
    ]
}

#[rustfmt::skip]
fn default_engagement() -> Vec<Engagement> {
    use Audience::{Anyone, Business, Technical};
    let out_of = |table, kind, per_day, by_state, researcher, audience, points| Engagement { table, kind, per_day, by_state, researcher, audience, in_trial: false, points };
    let in_trial = |kind, per_day, by_state| Engagement { table: PRODUCT_USAGE, kind, per_day, by_state, researcher: 0.3, audience: Technical, in_trial: true, points: 1.0 };
    vec![
        //                                        a day    dormant curious shortl. eval. commit. shelved   researcher
        out_of(ACTIVITIES,    "ad_click",          0.0060, [1.0, 1.8, 1.2, 1.0, 0.9, 0.6], 1.6, Anyone,    2.0),
        out_of(ACTIVITIES,    "email_open",        0.0220, [1.0, 1.2, 1.3, 1.2, 1.1, 0.6], 1.5, Anyone,    1.0),
        out_of(ACTIVITIES,    "email_click",       0.0050, [1.0, 1.6, 1.9, 1.5, 1.3, 0.5], 2.0, Anyone,    3.0),
        out_of(ACTIVITIES,    "email_reply",       0.0008, [1.0, 1.2, 2.0, 3.6, 5.0, 0.6], 0.6, Anyone,    5.0),
        out_of(ACTIVITIES,    "web_visit",         0.0130, [1.0, 2.6, 2.9, 2.4, 2.0, 0.7], 3.0, Anyone,    1.0),
        out_of(ACTIVITIES,    "pricing_page_view", 0.0016, [1.0, 1.3, 2.6, 5.6, 6.4, 0.7], 3.5, Business, 10.0),
        out_of(ACTIVITIES,    "form_fill",         0.0010, [1.0, 2.2, 2.8, 2.0, 1.4, 0.5], 2.0, Anyone,    8.0),
        out_of(ACTIVITIES,    "webinar",           0.0017, [1.0, 2.8, 3.6, 1.6, 1.0, 0.6], 3.0, Anyone,    6.0),
        out_of(ACTIVITIES,    "event",             0.0006, [1.0, 1.8, 2.4, 2.0, 1.2, 0.8], 1.5, Anyone,    6.0),
        out_of(ACTIVITIES,    "call",              0.0012, [1.0, 1.1, 1.8, 3.8, 5.4, 0.9], 0.4, Business,  5.0),
        out_of(ACTIVITIES,    "meeting",           0.0007, [1.0, 1.0, 1.7, 5.0, 7.6, 0.6], 0.4, Anyone,   10.0),
        out_of(ACTIVITIES,    "demo_request",      0.0005, [1.0, 1.0, 2.0, 5.2, 4.4, 0.5], 0.9, Anyone,   20.0),
        out_of(CONTENT_VIEWS, "blog",              0.0100, [1.0, 4.2, 2.4, 1.3, 1.0, 0.7], 4.5, Anyone,    1.0),
        out_of(CONTENT_VIEWS, "ebook",             0.0018, [1.0, 3.6, 2.6, 1.1, 0.8, 0.6], 4.0, Business,  4.0),
        out_of(CONTENT_VIEWS, "whitepaper",        0.0024, [1.0, 2.4, 4.4, 1.5, 0.9, 0.6], 4.5, Anyone,    5.0),
        out_of(CONTENT_VIEWS, "video",             0.0026, [1.0, 2.8, 2.8, 1.6, 1.1, 0.7], 3.0, Anyone,    2.0),
        out_of(CONTENT_VIEWS, "case_study",        0.0018, [1.0, 1.2, 5.8, 4.6, 1.6, 0.7], 3.2, Business,  5.0),
        out_of(CONTENT_VIEWS, "docs",              0.0034, [1.0, 1.3, 2.4, 5.4, 3.6, 0.6], 5.0, Technical, 3.0),
        out_of(CONTENT_VIEWS, "security",          0.0006, [1.0, 1.0, 2.0, 5.8, 6.6, 0.6], 1.6, Technical, 5.0),
        out_of(CONTENT_VIEWS, "pricing",           0.0014, [1.0, 1.2, 2.4, 6.0, 6.6, 0.7], 3.2, Business, 10.0),
        out_of(CONTENT_VIEWS, "calculator",        0.0004, [1.0, 1.0, 2.2, 4.8, 4.2, 0.5], 1.2, Business,  6.0),
        out_of(PRODUCT_USAGE, "signup",            0.0005, [1.0, 2.4, 3.4, 3.4, 1.6, 0.5], 2.0, Technical, 8.0),
        in_trial(             "login",             0.0550, [0.6, 0.8, 1.1, 2.1, 2.3, 0.3]),
        in_trial(             "feature_used",      0.0700, [0.5, 0.8, 1.1, 2.4, 2.5, 0.3]),
        in_trial(             "limit_hit",         0.0035, [0.3, 0.5, 1.0, 3.2, 3.8, 0.2]),
        in_trial(             "invite",            0.0026, [0.4, 0.6, 1.2, 3.0, 2.6, 0.2]),
        in_trial(             "integration",       0.0018, [0.3, 0.5, 1.0, 3.4, 3.6, 0.2]),
        in_trial(             "export",            0.0040, [0.5, 0.8, 1.1, 1.9, 2.2, 0.3]),
    ]
}
