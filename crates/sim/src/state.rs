//! The hidden buying state of an account, and its moves. Never written to any row.

use crate::chance::Dice;
use crate::knobs::{Knobs, Travellers};

/// The true place of an account on the way to a purchase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BuyingState {
    /// No thought of buying.
    Dormant = 0,
    /// First people look around.
    Curious = 1,
    /// A shortlist of vendors is made.
    Shortlisting = 2,
    /// Vendors are tried out.
    Evaluating = 3,
    /// We are the choice; terms are left.
    Committing = 4,
    /// The project is put off.
    Shelved = 5,
}

impl BuyingState {
    /// All states, in the order of their numbers.
    pub const ALL: [BuyingState; 6] = [
        BuyingState::Dormant,
        BuyingState::Curious,
        BuyingState::Shortlisting,
        BuyingState::Evaluating,
        BuyingState::Committing,
        BuyingState::Shelved,
    ];

    /// The index of the state in the knobs' tables.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// Number of hidden buying states.
pub(crate) const STATES: usize = 6;
/// Number of combinations of state and type.
pub(crate) const GUISES: usize = 2 * STATES;

/// State and type (researcher or not) as one index. An account's activity depends on no other
/// hidden part.
pub(crate) fn guise(state: usize, researcher: bool) -> usize {
    2 * state + usize::from(researcher)
}

/// The destination of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A hidden state, other than the one left.
    State(BuyingState),
    /// A purchase; afterwards the account is dormant again and may buy more later.
    Purchase,
}

/// Highest hazard a day, however fast the account.
// A champion and a wave multiply hazards: the ways out of a state must stay a probability.
const HIGHEST_DAILY_HAZARD: f64 = 0.4;

/// The moves of an account of some speed and type in a day: probabilities by state left and
/// destination, the last one a purchase. The rest to 1 is the probability of staying.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Motion(pub(crate) [[f64; STATES + 1]; STATES]);

impl Motion {
    /// Index of the purchase among the destinations.
    pub(crate) const PURCHASE: usize = STATES;

    pub(crate) fn new(knobs: &Knobs, speed: f64, researcher: bool) -> Self {
        let mut probabilities = [[0.0; STATES + 1]; STATES];
        for step in &knobs.moves {
            let is_taken = match step.travellers {
                Travellers::Everyone => true,
                Travellers::Buyers => !researcher,
                Travellers::Researchers => researcher,
            };
            let to = match step.to {
                Destination::State(state) => state.index(),
                Destination::Purchase => Self::PURCHASE,
            };
            if is_taken {
                probabilities[step.from.index()][to] =
                    (step.per_day * speed.powf(step.speed_power)).min(HIGHEST_DAILY_HAZARD);
            }
        }
        Self(probabilities)
    }

    /// One day of a state: the move that happened, if one did.
    pub(crate) fn live_a_day(&self, state: BuyingState, dice: &mut Dice) -> Option<Destination> {
        let mut left = dice.uniform();
        for (to, probability) in self.0[state.index()].iter().enumerate() {
            left -= probability;
            if left < 0.0 {
                return Some(
                    BuyingState::ALL
                        .get(to)
                        .map_or(Destination::Purchase, |&state| Destination::State(state)),
                );
            }
        }
        None
    }
}

/// The motions of a day, for every industry, with and without a champion, by fit and type.
#[derive(Clone, Debug)]
pub(crate) struct Motions(Vec<Motion>);

impl Motions {
    /// The motions under these waves by industry. `champion` is the log speed that a champion adds.
    pub(crate) fn new(knobs: &Knobs, waves: &[f64]) -> Self {
        Self::with_champion_factors(knobs, waves, [1.0, knobs.people.champion_weight.exp()])
    }

    /// Like [`Motions::new`], with other factors of speed for accounts without and with a champion.
    pub(crate) fn with_champion_factors(knobs: &Knobs, waves: &[f64], champion: [f64; 2]) -> Self {
        let mut motions = Vec::with_capacity(waves.len() * 12);
        for wave in waves {
            let push = (knobs.wave.weight * wave.min(knobs.wave.cap)).exp();
            for factor in champion {
                for fit in knobs.fit.speed {
                    for researcher in [false, true] {
                        let type_factor = if researcher {
                            knobs.researcher_speed
                        } else {
                            1.0
                        };
                        motions.push(Motion::new(
                            knobs,
                            knobs.pace * fit * push * factor * type_factor,
                            researcher,
                        ));
                    }
                }
            }
        }
        Self(motions)
    }

    pub(crate) fn of(
        &self,
        industry: usize,
        champion: bool,
        fit: usize,
        researcher: bool,
    ) -> &Motion {
        &self.0[((industry * 2 + usize::from(champion)) * 3 + fit) * 2 + usize::from(researcher)]
    }
}

/// The waves of the next day: the rest of today's waves, and the push of the day's purchases.
pub(crate) fn age_waves(knobs: &Knobs, waves: &mut [f64], peers: &[u32], purchases: &[f64]) {
    let fade = (-1.0 / knobs.wave.days).exp();
    for (industry, wave) in waves.iter_mut().enumerate() {
        *wave = *wave * fade
            + knobs.wave.per_purchase / f64::from(peers[industry].max(1)) * purchases[industry];
    }
}
