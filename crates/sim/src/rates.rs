//! The rates and probabilities from which rows are drawn, computed once.
//!
//! They depend on the state and the type (a *guise*) and on earlier rows, never on fit. So the
//! accounts are independent given the rows, and a filter over states, types and fits is exact. A
//! day's likelihood is a product of
//!
//! * engagement: for each known person and kind of event a Poisson count of mean rate × weekday
//!   factor;
//! * sentiment of a conversation: one of three levels;
//! * people who become known: a Poisson count, each with a department and a seniority drawn
//!   together;
//! * each lead being worked on: ways that compete, at most one a day: with total rate h none with
//!   e^−h, else one in proportion;
//! * the opportunity: likewise, unless the account buys that day;
//! * the move of the hidden state, a purchase among them.
//!
//! Everything else in a row is noise, or follows from rows before it.

use crate::knobs::{Audience, Engagement, EngagementPhase, Knobs};
use crate::state::{BuyingState, GUISES, STATES, guise};
use crate::vocabulary::{DEPARTMENT_WEIGHTS, DEPARTMENTS, EXECUTIVE, SENIORITIES, TECHNICAL};

/// A number for each guise.
pub(crate) type ByGuise = [f64; GUISES];

/// Rates of ways that compete for a day. The first way that comes is the only one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ways<const N: usize>(pub(crate) [f64; N]);

impl<const N: usize> Ways<N> {
    /// Rate of all ways together.
    pub(crate) fn total(&self) -> f64 {
        self.0.iter().sum()
    }

    /// Log of the probability that this way is taken in a day; `None` for no way.
    pub(crate) fn ln_taken(&self, way: usize) -> f64 {
        let total = self.total();
        (-(-total).exp_m1()).ln() + (self.0[way] / total).ln()
    }
}

/// The ways of a lead: forward, and given up.
pub(crate) type LeadWays = Ways<2>;
/// The ways of an open opportunity: the next stage, and lost.
pub(crate) type DealWays = Ways<2>;

/// All rates of a world.
#[derive(Clone, Debug)]
pub(crate) struct Rates {
    kinds: usize,
    /// Events a weekday by department, executive or not, kind.
    engagement: Vec<ByGuise>,
    /// Events a weekday by department, executive or not, phase: sums over the kinds of that phase.
    totals: Vec<[ByGuise; 3]>,
    /// Probability of each level of sentiment.
    pub(crate) sentiment: [ByGuise; 3],
    /// Number of people who become known a day.
    pub(crate) revealed: ByGuise,
    /// Probability of each department and seniority of people who become known, by guise.
    pub(crate) newcomer: Vec<Vec<f64>>,
    /// Ways of a lead, by status (open, MQL, SQL) and guise.
    pub(crate) leads: [[LeadWays; GUISES]; 3],
    /// Rate at which an opportunity is opened.
    pub(crate) opens: ByGuise,
    /// Ways of an opportunity, by stage and guise.
    pub(crate) deals: [[DealWays; GUISES]; 4],
}

/// The state that an account shows: researchers may go through the states in reverse.
fn shown(knobs: &Knobs, state: usize, researcher: bool) -> usize {
    match state {
        1..=4 if researcher && knobs.researchers_reversed => 5 - state,
        _ => state,
    }
}

fn by_guise(knobs: &Knobs, of: impl Fn(usize, bool) -> f64) -> ByGuise {
    let mut values = [0.0; GUISES];
    for state in 0..STATES {
        for researcher in [false, true] {
            values[guise(state, researcher)] = of(shown(knobs, state, researcher), researcher);
        }
    }
    values
}

/// Factor by which a person takes part in the account's activity in a state.
fn part(knobs: &Knobs, department: usize, is_executive: bool, state: usize) -> f64 {
    let committee = &knobs.committee;
    let department = match committee.departments_by_state[state] {
        0 => 1.0,
        joined if department < joined => committee.involved,
        _ => committee.uninvolved,
    };
    let is_decisive =
        state == BuyingState::Evaluating.index() || state == BuyingState::Committing.index();
    department
        * if is_executive && is_decisive {
            committee.executive
        } else {
            1.0
        }
}

fn rate(
    knobs: &Knobs,
    kind: &Engagement,
    department: usize,
    is_executive: bool,
    state: usize,
    researcher: bool,
) -> f64 {
    let audience = match kind.audience {
        Audience::Anyone => 1.0,
        Audience::Technical if TECHNICAL[department] => knobs.audience,
        Audience::Business if !TECHNICAL[department] => knobs.audience,
        _ => 1.0 / knobs.audience,
    };
    let noise = if researcher {
        knobs.researcher_noise * kind.researcher
    } else {
        0.0
    };
    kind.per_day
        * audience
        * (kind.by_state[state] * part(knobs, department, is_executive, state) + noise)
}

impl Rates {
    pub(crate) fn new(knobs: &Knobs) -> Self {
        let mut engagement = Vec::new();
        let mut totals = Vec::new();
        for department in 0..DEPARTMENTS.len() {
            for is_executive in [false, true] {
                let mut sums = [[0.0; GUISES]; 3];
                for kind in &knobs.engagement {
                    let rates = by_guise(knobs, |state, researcher| {
                        rate(knobs, kind, department, is_executive, state, researcher)
                    });
                    let sum = &mut sums[kind.phase as usize];
                    (0..GUISES).for_each(|guise| sum[guise] += rates[guise]);
                    engagement.push(rates);
                }
                totals.push(sums);
            }
        }
        let ways = |forward: &[f64; 6], back: &[f64; 6]| {
            let forward = by_guise(knobs, |state, _| forward[state]);
            let back = by_guise(knobs, |state, _| back[state]);
            std::array::from_fn(|guise| Ways([forward[guise], back[guise]]))
        };
        let leads = &knobs.leads;
        let deals = &knobs.deals;
        let newcomer = (0..GUISES)
            .map(|guise| newcomers(knobs, shown(knobs, guise / 2, guise % 2 == 1)))
            .collect();
        Self {
            kinds: knobs.engagement.len(),
            engagement,
            totals,
            sentiment: std::array::from_fn(|level| {
                by_guise(knobs, |state, _| {
                    knobs.sentiment[state][level] / knobs.sentiment[state].iter().sum::<f64>()
                })
            }),
            revealed: by_guise(knobs, |state, _| knobs.people.revealed_per_day[state]),
            newcomer,
            leads: [
                &leads.qualifies_per_day,
                &leads.accepted_per_day,
                &leads.converts_per_day,
            ]
            .map(|forward| ways(forward, &leads.given_up_per_day)),
            opens: by_guise(knobs, |state, _| deals.opens_per_day[state]),
            deals: std::array::from_fn(|stage| {
                ways(
                    deals.advances_per_day.get(stage).unwrap_or(&[0.0; 6]),
                    &deals.lost_per_day,
                )
            }),
        }
    }

    fn person(department: usize, is_executive: bool) -> usize {
        department * 2 + usize::from(is_executive)
    }

    /// Events a weekday of one person and kind.
    pub(crate) fn engagement(
        &self,
        department: usize,
        is_executive: bool,
        kind: usize,
    ) -> &ByGuise {
        &self.engagement[Self::person(department, is_executive) * self.kinds + kind]
    }

    /// Events a weekday of one person, of all kinds of a phase.
    pub(crate) fn total(
        &self,
        department: usize,
        is_executive: bool,
        phase: EngagementPhase,
    ) -> &ByGuise {
        &self.totals[Self::person(department, is_executive)][phase as usize]
    }

    /// Events a weekday of one person, of all kinds except those of
    /// [`EngagementPhase::OpensTrial`].
    pub(crate) fn ordinary(
        &self,
        department: usize,
        is_executive: bool,
        has_access: bool,
        guise: usize,
    ) -> f64 {
        let in_use = if has_access {
            self.total(department, is_executive, EngagementPhase::WithAccess)[guise]
        } else {
            0.0
        };
        self.total(department, is_executive, EngagementPhase::Always)[guise] + in_use
    }

    /// Index of a department and a seniority in [`Rates::newcomer`].
    pub(crate) fn newcomer_index(department: usize, seniority: usize) -> usize {
        department * SENIORITIES.len() + seniority
    }
}

fn newcomers(knobs: &Knobs, state: usize) -> Vec<f64> {
    let mut weights = Vec::with_capacity(DEPARTMENTS.len() * SENIORITIES.len());
    for (department, department_weight) in DEPARTMENT_WEIGHTS.iter().enumerate() {
        for (seniority, seniority_weight) in knobs.people.seniority_weights.iter().enumerate() {
            let joins = if seniority >= EXECUTIVE {
                knobs.committee.executive_joins[state]
            } else {
                1.0
            };
            weights.push(
                department_weight
                    * seniority_weight
                    * part(knobs, department, false, state)
                    * joins,
            );
        }
    }
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total).collect()
}

/// True for the seniority of an executive.
pub(crate) fn is_executive(seniority: usize) -> bool {
    seniority >= EXECUTIVE
}
