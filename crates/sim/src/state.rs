//! The hidden buying state of an account, and how it moves. Never written to any row.

use crate::chance::Dice;
use crate::knobs::Move;

/// Where an account really is on the way to a purchase.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BuyingState {
    /// No thought of buying.
    Dormant = 0,
    /// Somebody looks around.
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

    /// As an index of the knobs' tables by state.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// Where a move leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Another state.
    State(BuyingState),
    /// A purchase; afterwards the account is dormant again and may buy more later.
    Purchase,
}

/// No hazard is above this, however fast the account.
const HIGHEST_DAILY_HAZARD: f64 = 0.4;

/// One day of a state: the move that happened, if one did. The moves compete for the day.
pub(crate) fn live_a_day(state: BuyingState, speed: f64, moves: &[Move], dice: &mut Dice) -> Option<Destination> {
    let mut left = dice.uniform();
    for step in moves.iter().filter(|m| m.from == state) {
        left -= (step.per_day * speed.powf(step.speed_power)).min(HIGHEST_DAILY_HAZARD);
        if left < 0.0 {
            return Some(step.to);
        }
    }
    None
}
