//! The constants of the world, frozen as [`MARKET`] before any model was trained on it. A change is
//! a new world with a new name.
//!
//! Tables by state are in the order of [`BuyingState::ALL`]: dormant, curious, shortlisting,
//! evaluating, committing, shelved.

use crate::rows::{ACTIVITIES, CONTENT_VIEWS, PRODUCT_USAGE};
use crate::state::{BuyingState, Destination};

/// Name of the frozen constants in [`Knobs::default`].
pub const MARKET: &str = "market-1";

/// The accounts that may take a way out of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Travellers {
    Everyone,
    /// Accounts other than researchers.
    Buyers,
    /// Accounts that read a lot and buy little.
    Researchers,
}

/// A way out of a hidden state.
#[derive(Clone, Copy, Debug)]
pub struct Move {
    /// State that the move leaves.
    pub from: BuyingState,
    /// State or purchase that the move leads to.
    pub to: Destination,
    /// Probability a day for an account of speed 1.
    pub per_day: f64,
    /// Exponent of the account's speed: above 0 fast accounts move sooner, below 0 later.
    pub speed_power: f64,
    /// Accounts that may take the move.
    pub travellers: Travellers,
}

/// The people at an account with more events of a kind than others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// All people of an account alike.
    Anyone,
    /// Departments engineering, data, IT, security, product.
    Technical,
    /// Departments that are not technical.
    Business,
}

/// The condition under which a kind of event can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngagementPhase {
    Always,
    /// Only without access to the product. The event opens a trial from the next day on. The
    /// product reports it at once, so such events are never late, missing, or taken back.
    OpensTrial,
    /// Only with access: in a trial, or at a customer.
    WithAccess,
}

/// A kind of event that known people emit.
#[derive(Clone, Copy, Debug)]
pub struct Engagement {
    /// Table of the event.
    pub table: &'static str,
    /// Type of the event in that table.
    pub kind: &'static str,
    /// Events a weekday and person in the dormant state.
    pub per_day: f64,
    /// Factor of the rate, by hidden state.
    pub by_state: [f64; 6],
    /// Further factor of `per_day` that researchers add whatever their state.
    pub researcher: f64,
    /// People with more events of this kind.
    pub audience: Audience,
    /// The phase in which the engagement can happen.
    pub phase: EngagementPhase,
    /// Points an ordinary point system gives for it.
    pub points: f64,
}

/// The parts of an account's fit. Their sum, with normal noise of deviation 1, is cut into three
/// levels.
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
    /// Bounds of the levels: below the first poor, below the second fair, else good.
    pub cuts: [f64; 2],
    /// Speed by level of fit.
    pub speed: [f64; 3],
}

/// Waves: purchases in an industry push the other accounts of the industry.
#[derive(Clone, Debug)]
pub struct WaveKnobs {
    /// Weight of the wave in the log speed.
    pub weight: f64,
    /// Most push, whatever the wave.
    pub cap: f64,
    /// The wave of every industry at the start.
    pub start: f64,
    /// A purchase raises the wave by this, divided by the number of accounts of the industry.
    pub per_purchase: f64,
    /// Days in which a wave falls to 1/e.
    pub days: f64,
}

/// Opportunities in the CRM: the hidden state as sales sees it. Rates a day of ways that compete,
/// at most one a day.
#[derive(Clone, Debug)]
pub struct DealKnobs {
    /// Rate at which an opportunity is opened, by state.
    pub opens_per_day: [f64; 6],
    /// Rate of the next stage, by stage left (discovery, qualification, proposal) and state.
    pub advances_per_day: [[f64; 6]; 3],
    /// Rate of a loss, by state.
    pub lost_per_day: [f64; 6],
    /// Median amount of an account of average size, in dollars.
    pub median_amount: f64,
    /// Growth of the log amount with a standard deviation of log size.
    pub amount_by_size: f64,
    /// Deviation of log amount.
    pub amount_spread: f64,
}

/// People who come first as leads. Rates a day of ways that compete, at most one a day and lead.
#[derive(Clone, Debug)]
pub struct LeadKnobs {
    /// Share of newly known people who come as leads; the others are entered as contacts.
    pub lead_ratio: f64,
    /// Share of leads that carry their account's key; the others only an e-mail address of its
    /// domain.
    pub account_known_ratio: f64,
    /// Share of leads with their account's key who write from a free-mail address.
    pub free_mail_ratio: f64,
    /// Share of leads without their account's key who write from a free-mail address: only their
    /// conversion ties them to the account.
    pub private_ratio: f64,
    /// Share of newly known people who turn out to be a lead that came from a free-mail address
    /// without an account.
    pub identified_ratio: f64,
    /// Leads from a free-mail address without an account, a day and account. They act on their own
    /// behalf.
    pub strangers_per_day: f64,
    /// Rate of the way from open to MQL, by state.
    pub qualifies_per_day: [f64; 6],
    /// Rate of the way from MQL to SQL, by state.
    pub accepted_per_day: [f64; 6],
    /// Rate of the way from SQL to a contact, by state.
    pub converts_per_day: [f64; 6],
    /// Rate at which a lead is given up (nurture, no reply, disqualified), by state.
    pub given_up_per_day: [f64; 6],
}

/// People, their ranks and their changes of employer.
#[derive(Clone, Debug)]
pub struct PeopleKnobs {
    /// Fewest contacts of an account at the start.
    pub fewest: u32,
    /// Mean of the further ones for an account of average size; grows with size.
    pub further: f64,
    /// Growth of the log of that mean with a standard deviation of log size.
    pub further_by_size: f64,
    /// People who become known a day and account, by state.
    pub revealed_per_day: [f64; 6],
    /// Weights of seniorities: IC, Manager, Director, VP, C-Level.
    pub seniority_weights: [f64; 5],
    /// Contacts who leave a customer for another account, a day and customer.
    pub champions_per_day: f64,
    /// Contacts who change employer otherwise, a day and account that is no customer.
    pub moves_per_day: f64,
    /// Log speed that a former user of ours adds to the account joined.
    pub champion_weight: f64,
    /// Days for which the former user has that effect.
    pub champion_days: i64,
    /// Deviation of the log activity of a person. The exact filter does not know the activity.
    pub loudness_spread: f64,
}

/// The committee of a purchase: the departments and ranks that take part.
#[derive(Clone, Debug)]
pub struct CommitteeKnobs {
    /// Number of departments that take part, by state, in the order in which they join. 0: all
    /// alike.
    pub departments_by_state: [usize; 6],
    /// Activity of the people who take part.
    pub involved: f64,
    /// Activity of the other people.
    pub uninvolved: f64,
    /// Further activity of executives while evaluating and committing, a factor.
    pub executive: f64,
    /// Factor of executives among people who become known, by state: a new executive joins.
    pub executive_joins: [f64; 6],
}

/// Faults on the way into the files.
#[derive(Clone, Debug)]
pub struct MessKnobs {
    /// Share of engagement events known 1 to [`LATEST_DAYS`] days late.
    pub late_ratio: f64,
    /// Share of engagement events delivered twice, up to 3 days apart.
    pub repeated_ratio: f64,
    /// Events recorded by mistake and taken back after 1 to [`LATEST_DAYS`] days, as a share of
    /// what quiet people do.
    pub mistaken_ratio: f64,
    /// Whether a lead's old events carry the account of its later conversion: some systems write it
    /// onto them then, and an export does not tell when.
    pub backfilled: bool,
    /// Share of engagement events that are lost. The exact filter does not know the share.
    pub missing_ratio: f64,
    /// Share of contacts entered twice, later merged.
    pub duplicate_contact_ratio: f64,
    /// Share of accounts entered a second time, by name only, later merged.
    pub duplicate_account_ratio: f64,
    /// Probability a day that a second record is found and merged.
    pub merged_per_day: f64,
}

/// Most days between an event and the row that reports it or takes it back.
// Within the graph's horizon of seven days: late rows are late, not refused. The exact filter keeps
// as many days open.
pub const LATEST_DAYS: usize = 4;

/// All constants of a world.
#[derive(Clone, Debug)]
pub struct Knobs {
    /// Probabilities of the states at the start.
    pub start: [f64; 6],
    /// Ways out of the states.
    pub moves: Vec<Move>,
    /// Factor of every account's speed: keeps the base rate of a control world near that of the
    /// market.
    pub pace: f64,
    /// Parts of the fit.
    pub fit: FitKnobs,
    /// Share of accounts that read a lot and buy little.
    pub researcher_ratio: f64,
    /// Speed of researchers relative to others.
    pub researcher_speed: f64,
    /// Further activity of researchers, relative to [`Engagement::researcher`].
    pub researcher_noise: f64,
    /// Researchers show the states on the way to a purchase in reverse order.
    pub researchers_reversed: bool,
    /// Waves of purchases by industry.
    pub wave: WaveKnobs,
    /// Kinds of engagement events.
    pub engagement: Vec<Engagement>,
    /// Part that people take in a purchase, by department and rank.
    pub committee: CommitteeKnobs,
    /// Factor for the audience of a kind. All other people get the inverse.
    pub audience: f64,
    /// Activity on Saturdays and Sundays, relative to weekdays.
    pub weekend: f64,
    /// Length of a trial in days.
    pub trial_days: i64,
    /// Weights of bad, neutral and good conversations, by state.
    pub sentiment: [[f64; 3]; 6],
    /// Opportunities in the CRM.
    pub deals: DealKnobs,
    /// People who come as leads.
    pub leads: LeadKnobs,
    /// People and changes of employer.
    pub people: PeopleKnobs,
    /// Faults on the way into the files.
    pub mess: MessKnobs,
    /// Share of accounts that are customers at the start.
    pub customer_ratio: f64,
}

impl Default for Knobs {
    /// The market, as frozen under the name [`MARKET`].
    fn default() -> Self {
        Self {
            start: [0.93, 0.03, 0.012, 0.008, 0.002, 0.018],
            moves: default_moves(),
            pace: 1.0,
            fit: FitKnobs {
                size: 0.5,
                friendly_technology: 0.35,
                hostile_technology: -0.3,
                home_industry: 0.2,
                home_region: 0.2,
                cuts: [-0.1, 1.1],
                speed: [0.35, 1.0, 2.2],
            },
            researcher_ratio: 0.25,
            researcher_speed: 0.45,
            researcher_noise: 0.9,
            researchers_reversed: false,
            wave: WaveKnobs {
                weight: 0.9,
                cap: 1.6,
                start: 0.4,
                per_purchase: 26.7,
                days: 45.0,
            },
            engagement: default_engagement(),
            committee: CommitteeKnobs {
                departments_by_state: [0, 1, 3, 6, 8, 0],
                involved: 1.6,
                uninvolved: 0.55,
                executive: 1.5,
                executive_joins: [1.0, 1.0, 1.3, 2.2, 2.2, 0.8],
            },
            audience: 1.3,
            weekend: 0.25,
            trial_days: 40,
            sentiment: [
                [0.25, 0.50, 0.25],
                [0.22, 0.50, 0.28],
                [0.20, 0.48, 0.32],
                [0.16, 0.44, 0.40],
                [0.12, 0.40, 0.48],
                [0.38, 0.46, 0.16],
            ],
            deals: default_deals(),
            leads: default_leads(),
            people: default_people(),
            mess: default_mess(),
            customer_ratio: 0.12,
        }
    }
}

fn default_deals() -> DealKnobs {
    DealKnobs {
        opens_per_day: [0.0012, 0.0020, 0.0040, 0.012, 0.018, 0.0014],
        advances_per_day: [
            [0.014, 0.016, 0.020, 0.032, 0.045, 0.010],
            [0.010, 0.012, 0.015, 0.026, 0.042, 0.008],
            [0.008, 0.009, 0.011, 0.020, 0.036, 0.006],
        ],
        lost_per_day: [0.024, 0.021, 0.016, 0.011, 0.008, 0.030],
        median_amount: 42_000.0,
        amount_by_size: 0.7,
        amount_spread: 0.5,
    }
}

fn default_leads() -> LeadKnobs {
    LeadKnobs {
        lead_ratio: 0.65,
        account_known_ratio: 0.7,
        free_mail_ratio: 0.15,
        private_ratio: 0.0,
        identified_ratio: 0.08,
        strangers_per_day: 0.0006,
        qualifies_per_day: [0.012, 0.020, 0.028, 0.040, 0.040, 0.010],
        accepted_per_day: [0.010, 0.016, 0.024, 0.038, 0.042, 0.008],
        converts_per_day: [0.05, 0.06, 0.07, 0.09, 0.09, 0.04],
        given_up_per_day: [0.022, 0.018, 0.014, 0.010, 0.009, 0.026],
    }
}

fn default_people() -> PeopleKnobs {
    PeopleKnobs {
        fewest: 2,
        further: 3.6,
        further_by_size: 0.3,
        revealed_per_day: [0.0022, 0.0040, 0.0055, 0.0080, 0.0080, 0.0020],
        seniority_weights: [0.46, 0.24, 0.16, 0.09, 0.05],
        champions_per_day: 0.0012,
        moves_per_day: 0.0003,
        champion_weight: 1.2,
        champion_days: 144,
        loudness_spread: 0.0,
    }
}

fn default_mess() -> MessKnobs {
    MessKnobs {
        late_ratio: 0.02,
        repeated_ratio: 0.01,
        mistaken_ratio: 0.01,
        backfilled: false,
        missing_ratio: 0.0,
        duplicate_contact_ratio: 0.03,
        duplicate_account_ratio: 0.01,
        merged_per_day: 0.01,
    }
}

fn default_moves() -> Vec<Move> {
    use BuyingState::{Committing, Curious, Dormant, Evaluating, Shelved, Shortlisting};
    use Destination::{Purchase, State};
    let step = |from, to, per_day, speed_power| Move {
        from,
        to,
        per_day,
        speed_power,
        travellers: Travellers::Everyone,
    };
    vec![
        step(Dormant, State(Curious), 0.00100, 1.0),
        step(Curious, State(Shortlisting), 0.020, 0.5),
        step(Curious, State(Dormant), 0.020, -0.5),
        step(Shortlisting, State(Evaluating), 0.022, 0.5),
        step(Shortlisting, State(Shelved), 0.020, -0.5),
        step(Evaluating, State(Committing), 0.030, 0.5),
        step(Evaluating, Purchase, 0.0012, 0.5),
        step(Evaluating, State(Shelved), 0.016, -0.5),
        step(Committing, Purchase, 0.022, 0.5),
        step(Committing, State(Shelved), 0.014, -0.5),
        step(Shelved, State(Dormant), 0.010, 0.0),
        step(Shelved, State(Shortlisting), 0.0010, 1.0),
    ]
}

#[rustfmt::skip]
fn default_engagement() -> Vec<Engagement> {
    use Audience::{Anyone, Business, Technical};
    let out_of = |table, kind, per_day, by_state, researcher, audience, points| Engagement { table, kind, per_day, by_state, researcher, audience, phase: EngagementPhase::Always, points };
    let in_use = |kind, per_day, by_state| Engagement { table: PRODUCT_USAGE, kind, per_day, by_state, researcher: 0.3, audience: Technical, phase: EngagementPhase::WithAccess, points: 1.0 };
    let mut kinds = vec![
        //                                        a day    dormant curious shortl. eval. commit.
        //                                        shelved   researcher
        out_of(ACTIVITIES,    "ad_click",          0.0070, [1.0, 2.0, 1.0, 1.0, 1.0, 0.7], 2.0, Anyone,    2.0),
        out_of(ACTIVITIES,    "email_open",        0.0220, [1.0, 1.0, 1.0, 1.0, 1.0, 0.7], 2.0, Anyone,    1.0),
        out_of(ACTIVITIES,    "email_click",       0.0040, [1.0, 1.4, 1.4, 1.2, 1.2, 0.7], 2.0, Anyone,    3.0),
        out_of(ACTIVITIES,    "email_reply",       0.0006, [1.0, 1.0, 1.4, 3.0, 4.0, 0.7], 0.5, Anyone,    5.0),
        out_of(ACTIVITIES,    "web_visit",         0.0080, [1.0, 2.0, 1.8, 1.5, 1.4, 0.7], 2.5, Anyone,    1.0),
        out_of(ACTIVITIES,    "pricing_page_view", 0.0018, [1.0, 1.0, 2.0, 5.0, 6.0, 0.7], 4.0, Business, 10.0),
        out_of(ACTIVITIES,    "form_fill",         0.0008, [1.0, 2.0, 2.5, 1.5, 1.2, 0.7], 2.5, Anyone,    8.0),
        out_of(ACTIVITIES,    "webinar",           0.0020, [1.0, 3.0, 4.0, 1.0, 1.0, 0.7], 3.0, Anyone,    6.0),
        out_of(ACTIVITIES,    "event",             0.0005, [1.0, 1.6, 2.0, 1.6, 1.2, 0.7], 1.5, Anyone,    6.0),
        out_of(ACTIVITIES,    "call",              0.0008, [1.0, 1.0, 1.2, 2.5, 4.0, 0.9], 0.5, Business,  5.0),
        out_of(ACTIVITIES,    "meeting",           0.0006, [1.0, 1.0, 1.0, 4.0, 8.0, 0.7], 0.5, Anyone,   10.0),
        out_of(ACTIVITIES,    "demo_request",      0.0005, [1.0, 1.0, 1.0, 4.0, 7.0, 0.7], 1.5, Anyone,   20.0),
        out_of(CONTENT_VIEWS, "blog",              0.0120, [1.0, 4.0, 3.0, 1.5, 1.0, 0.7], 5.0, Anyone,    1.0),
        out_of(CONTENT_VIEWS, "ebook",             0.0010, [1.0, 3.0, 3.0, 1.0, 1.0, 0.7], 5.0, Business,  4.0),
        out_of(CONTENT_VIEWS, "whitepaper",        0.0024, [1.0, 3.0, 4.0, 1.0, 1.0, 0.7], 5.0, Anyone,    5.0),
        out_of(CONTENT_VIEWS, "video",             0.0020, [1.0, 2.0, 2.0, 1.4, 1.0, 0.7], 3.0, Anyone,    2.0),
        out_of(CONTENT_VIEWS, "case_study",        0.0018, [1.0, 1.0, 6.0, 4.5, 1.0, 0.7], 4.0, Business,  5.0),
        out_of(CONTENT_VIEWS, "docs",              0.0036, [1.0, 1.0, 2.0, 5.0, 4.0, 0.7], 6.0, Technical, 3.0),
        out_of(CONTENT_VIEWS, "security",          0.0005, [1.0, 1.0, 1.5, 5.0, 6.0, 0.7], 2.0, Technical, 5.0),
        out_of(CONTENT_VIEWS, "pricing",           0.0012, [1.0, 1.0, 2.0, 6.0, 8.0, 0.7], 4.0, Business, 10.0),
        out_of(CONTENT_VIEWS, "calculator",        0.0003, [1.0, 1.0, 1.8, 4.0, 5.0, 0.7], 2.0, Business,  6.0),
        out_of(PRODUCT_USAGE, "signup",            0.0004, [1.0, 1.8, 2.4, 2.6, 1.5, 0.7], 2.0, Technical, 8.0),
        in_use(               "login",             0.0300, [0.8, 0.9, 1.0, 1.6, 1.7, 0.5]),
        in_use(               "feature_used",      0.0380, [0.8, 0.9, 1.0, 1.7, 1.8, 0.5]),
        in_use(               "limit_hit",         0.0024, [0.6, 0.8, 1.2, 2.6, 3.0, 0.4]),
        in_use(               "invite",            0.0020, [0.6, 0.8, 1.4, 2.4, 2.4, 0.4]),
        in_use(               "integration",       0.0014, [0.6, 0.8, 1.2, 2.6, 2.6, 0.4]),
        in_use(               "export",            0.0030, [0.8, 0.9, 1.0, 1.5, 1.7, 0.5]),
    ];
    for kind in &mut kinds {
        if kind.kind == "signup" {
            kind.phase = EngagementPhase::OpensTrial;
        }
    }
    kinds
}
