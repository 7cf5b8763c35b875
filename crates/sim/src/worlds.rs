//! Worlds: the market, and controls in which one thing that a model could use is switched off or
//! left alone.

use std::fmt;
use std::str::FromStr;

use crate::knobs::{Knobs, Travellers};
use crate::state::{BuyingState, Destination};

/// A world of known nature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum World {
    /// The market as frozen.
    Market,
    /// Purchases in an industry push no other account.
    NoWaves,
    /// Former users of ours have no effect.
    NoChampions,
    /// All people take part in a purchase alike.
    NoCommittees,
    /// No waves, no champions, no committees: an account's own totals contain everything.
    NothingRelational,
    /// Half of the accounts go through the steps of a purchase in reverse and never buy. Only the
    /// order of events tells them apart.
    OrderOnly,
    /// A fifth of the events is lost, a tenth of the contacts entered twice, a tenth of the events
    /// late, and so on.
    Messy,
    /// Some people are far louder than others.
    Loud,
    /// The market, exported by a system that writes the account onto the old events of a lead when
    /// it converts.
    Backfilled,
}

impl World {
    /// All worlds, in the order in which help lists them.
    pub const ALL: [World; 9] = [
        World::Market,
        World::NoWaves,
        World::NoChampions,
        World::NoCommittees,
        World::NothingRelational,
        World::OrderOnly,
        World::Messy,
        World::Loud,
        World::Backfilled,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            World::Market => "market",
            World::NoWaves => "no-waves",
            World::NoChampions => "no-champions",
            World::NoCommittees => "no-committees",
            World::NothingRelational => "nothing-relational",
            World::OrderOnly => "order-only",
            World::Messy => "messy",
            World::Loud => "loud",
            World::Backfilled => "backfilled",
        }
    }

    /// The constants of this world.
    pub fn knobs(self) -> Knobs {
        let mut knobs = Knobs::default();
        match self {
            World::Market => {}
            World::NoWaves => {
                without_waves(&mut knobs);
                knobs.pace = 1.38;
            }
            World::NoChampions => {
                knobs.people.champion_weight = 0.0;
                knobs.pace = 1.06;
            }
            World::NoCommittees => without_committees(&mut knobs),
            World::NothingRelational => {
                without_waves(&mut knobs);
                knobs.people.champion_weight = 0.0;
                without_committees(&mut knobs);
                knobs.pace = 1.50;
            }
            World::OrderOnly => only_order(&mut knobs),
            World::Messy => {
                knobs.mess.missing_ratio = 0.20;
                knobs.mess.duplicate_contact_ratio = 0.10;
                knobs.mess.late_ratio = 0.10;
                knobs.mess.repeated_ratio = 0.05;
                knobs.mess.mistaken_ratio = 0.05;
            }
            World::Loud => knobs.people.loudness_spread = 0.6,
            World::Backfilled => {
                // Leads whose account only their conversion tells are what such a system fills in.
                knobs.leads.account_known_ratio = 0.2;
                knobs.leads.private_ratio = 1.0;
                knobs.mess.backfilled = true;
            }
        }
        knobs
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for World {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let names = || World::ALL.map(World::name).join(", ");
        World::ALL
            .into_iter()
            .find(|world| world.name() == text)
            .ok_or_else(|| format!("{text:?} is no world; there are {}", names()))
    }
}

fn without_waves(knobs: &mut Knobs) {
    knobs.wave.weight = 0.0;
}

fn without_committees(knobs: &mut Knobs) {
    knobs.committee.involved = 1.0;
    knobs.committee.uninvolved = 1.0;
    knobs.committee.executive = 1.0;
    knobs.committee.executive_joins = [1.0; 6];
}

/// The knobs of [`World`]'s order world. Every curious account goes all the way within weeks and
/// then waits for a decision. Buyers take the steps forwards, and buy or not. Researchers take them
/// backwards and never buy. All else is the same for all accounts in all states.
fn only_order(knobs: &mut Knobs) {
    without_waves(knobs);
    without_committees(knobs);
    knobs.people.champion_weight = 0.0;
    knobs.researcher_ratio = 0.5;
    knobs.researcher_speed = 1.0;
    knobs.researcher_noise = 0.0;
    knobs.researchers_reversed = true;
    knobs.fit.speed = [1.0; 3];
    knobs.moves = one_way_round();
    for kind in &mut knobs.engagement {
        // The steps are loud, since they are short. While all wait, the accounts are alike.
        kind.by_state[1..5]
            .iter_mut()
            .for_each(|factor| *factor *= 3.0);
        kind.by_state[5] = kind.by_state[0];
    }
    let flat = |by_state: &mut [f64; 6]| *by_state = [by_state[0]; 6];
    flat(&mut knobs.deals.opens_per_day);
    knobs.deals.advances_per_day.iter_mut().for_each(flat);
    flat(&mut knobs.deals.lost_per_day);
    flat(&mut knobs.leads.qualifies_per_day);
    flat(&mut knobs.leads.accepted_per_day);
    flat(&mut knobs.leads.converts_per_day);
    flat(&mut knobs.leads.given_up_per_day);
    flat(&mut knobs.people.revealed_per_day);
    knobs.sentiment = [knobs.sentiment[0]; 6];
}

/// The moves of the order world: one way round, which buyers leave at its end.
fn one_way_round() -> Vec<crate::Move> {
    use BuyingState::{Committing, Curious, Dormant, Evaluating, Shelved, Shortlisting};
    use Destination::{Purchase, State};
    const STEP_PER_DAY: f64 = 0.15;
    const DECIDED_PER_DAY: f64 = 0.02;
    let step = |from, to, per_day, travellers| crate::Move {
        from,
        to,
        per_day,
        speed_power: 0.0,
        travellers,
    };
    let all = |from, to| step(from, State(to), STEP_PER_DAY, Travellers::Everyone);
    vec![
        step(Dormant, State(Curious), 0.0011, Travellers::Everyone),
        all(Curious, Shortlisting),
        all(Shortlisting, Evaluating),
        all(Evaluating, Committing),
        all(Committing, Shelved),
        step(Shelved, Purchase, DECIDED_PER_DAY, Travellers::Buyers),
        step(
            Shelved,
            State(Dormant),
            DECIDED_PER_DAY,
            Travellers::Researchers,
        ),
    ]
}
