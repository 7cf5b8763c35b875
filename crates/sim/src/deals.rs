//! Opportunities: the hidden state as sales sees it, with a stage change for every step.

use crate::firm::{Firm, size_of};
use crate::market::{DAY_MS, Market};
use crate::rates::Ways;
use crate::rows::{OPPORTUNITIES, RowDraft, RowOut, STAGE_CHANGES};
use crate::sellers::account_owner;

/// The stages of an open opportunity, in order.
pub(crate) const OPEN_STAGES: [&str; 4] = ["Discovery", "Qualification", "Proposal", "Negotiation"];
pub(crate) const WON: &str = "Closed Won";
pub(crate) const LOST: &str = "Closed Lost";
/// Days from opening to the expected close.
// The same for all: an expectation that knew the hidden state would give it away.
const EXPECTED_DAYS: i64 = 60;
/// Most contacts of an opportunity.
const MOST_CONTACTS: usize = 4;

/// Days of a contract.
const CONTRACT_DAYS: i64 = 365;
/// Days before the end of a contract in which what a customer buys is its renewal.
const RENEWAL_DAYS: i64 = 75;

/// The type of an opportunity that an account opens at a moment.
// A word about the deal, not a process of its own: it draws no chance, so no outcome depends on it.
fn kind(seller: &Firm, at_ms: i64) -> &'static str {
    if !seller.customer {
        return "New business";
    }
    let day_of_contract = (at_ms - seller.contract_ms).div_euclid(DAY_MS) % CONTRACT_DAYS;
    match day_of_contract >= CONTRACT_DAYS - RENEWAL_DAYS {
        true => "Renewal",
        false => "Expansion",
    }
}

/// An opportunity in progress.
#[derive(Clone, Debug)]
pub(crate) struct Deal {
    pub(crate) key: String,
    /// Index of [`OPEN_STAGES`].
    pub(crate) stage: usize,
    amount: f64,
    kind: &'static str,
    /// Index of the person who leads on the buyer's side.
    led_by: Option<usize>,
    /// Keys of all contacts involved, the leading one first.
    contacts: Vec<String>,
    opened_ms: i64,
}

impl Deal {
    fn row(&self, firm: &Firm, stage: &'static str, close_ms: i64, at_ms: i64) -> RowOut {
        RowDraft::new(
            OPPORTUNITIES,
            "opportunity_id",
            self.key.clone(),
            "updated_at",
            at_ms,
        )
        .account(Some(&firm.key))
        .set(
            "name",
            format!("{} {}", firm.name, self.kind.to_lowercase()),
        )
        .set("stage", stage)
        .set("amount", self.amount)
        .set("currency", "USD")
        .set("type", self.kind)
        .set_some("primary_contact_id", self.contacts.first().cloned())
        .set("contact_ids", self.contacts.clone())
        .set("owner_id", account_owner(firm))
        .set("close_date", close_ms)
        .set("created_at", self.opened_ms)
        .finish()
    }
}

impl Market {
    /// A day of an account's opportunity, in the state it had in the morning.
    pub(crate) fn live_deal(&mut self, firm: usize, day_ms: i64) {
        let guise = self.firms[firm].guise();
        let dice = &mut self.dice.deals;
        let Some(deal) = &self.firms[firm].deal else {
            if dice.way(&Ways([self.rates.opens[guise]])).is_some() {
                let at_ms = day_ms + dice.afternoon_ms();
                self.open_deal(firm, at_ms);
            }
            return;
        };
        let Some(way) = dice.way(&self.rates.deals[deal.stage][guise]) else {
            return;
        };
        let at_ms = day_ms + dice.afternoon_ms();
        if way == 1 {
            self.close_deal(firm, false, at_ms);
        } else if let Some(mut deal) = self.firms[firm].deal.take() {
            let from = OPEN_STAGES[deal.stage];
            deal.stage += 1;
            self.push_stage(firm, &deal, Some(from), OPEN_STAGES[deal.stage], at_ms);
            self.firms[firm].deal = Some(deal);
        }
    }

    /// The account buys: its opportunity is won. Where sales had none, it is entered with the
    /// order.
    pub(crate) fn purchase(&mut self, firm: usize, at_ms: i64) {
        if self.firms[firm].deal.is_none() {
            self.open_deal(firm, at_ms);
        }
        self.close_deal(firm, true, at_ms);
        self.firms[firm].daily_rates = None;
        if !self.firms[firm].customer {
            self.firms[firm].customer = true;
            self.firms[firm].contract_ms = at_ms;
            self.outbox.push(self.firms[firm].row(at_ms));
        }
    }

    fn open_deal(&mut self, firm: usize, at_ms: i64) {
        self.deals_made += 1;
        let seller = &self.firms[firm];
        let knobs = &self.knobs.deals;
        let dice = &mut self.dice.deals;
        let log_amount =
            knobs.amount_by_size * size_of(seller.employees) + knobs.amount_spread * dice.normal();
        let amount = (knobs.median_amount * log_amount.exp() / 500.0)
            .round()
            .max(1.0)
            * 500.0;
        // Senior contacts are likelier to take part. After a loss another person asks again, if
        // there is another one.
        let mut candidates: Vec<usize> = seller
            .people
            .iter()
            .copied()
            .filter(|&p| {
                self.people[p]
                    .contact_since_ms
                    .is_some_and(|since| since < at_ms)
            })
            .collect();
        let mut contacts = Vec::new();
        while !candidates.is_empty() && contacts.len() < MOST_CONTACTS {
            let weights: Vec<f64> = candidates
                .iter()
                .map(|&p| match (contacts.is_empty(), seller.lost_with) {
                    (true, Some(before)) if before == p => 1e-9,
                    _ => 1.0 + self.people[p].seniority as f64,
                })
                .collect();
            contacts.push(candidates.swap_remove(dice.weighted(&weights)));
            if dice.chance(0.3) {
                break;
            }
        }
        let deal = Deal {
            key: format!("O{:06}", self.deals_made),
            stage: 0,
            amount,
            kind: kind(seller, at_ms),
            led_by: contacts.first().copied(),
            contacts: contacts
                .into_iter()
                .map(|p| self.people[p].contact_key.clone())
                .collect(),
            opened_ms: at_ms,
        };
        self.push_stage(firm, &deal, None, OPEN_STAGES[0], at_ms);
        self.firms[firm].deal = Some(deal);
    }

    fn close_deal(&mut self, firm: usize, won: bool, at_ms: i64) {
        if let Some(deal) = self.firms[firm].deal.take() {
            self.push_stage(
                firm,
                &deal,
                Some(OPEN_STAGES[deal.stage]),
                if won { WON } else { LOST },
                at_ms,
            );
            self.firms[firm].lost_with = deal.led_by.filter(|_| !won);
            self.close_leads(firm, won, at_ms);
        }
    }

    /// The opportunity's new version, then the event of the change.
    fn push_stage(
        &mut self,
        firm: usize,
        deal: &Deal,
        from: Option<&'static str>,
        to: &'static str,
        at_ms: i64,
    ) {
        let is_closed = to == WON || to == LOST;
        let close_ms = if is_closed {
            at_ms
        } else {
            deal.opened_ms + EXPECTED_DAYS * DAY_MS
        };
        let account = &self.firms[firm];
        self.outbox.push(deal.row(account, to, close_ms, at_ms));
        self.changes_made += 1;
        let change = RowDraft::new(
            STAGE_CHANGES,
            "change_id",
            format!("chg-{:07}", self.changes_made),
            "changed_at",
            at_ms,
        )
        .set("opportunity_id", deal.key.clone())
        .account(Some(&account.key))
        .set("to_stage", to)
        .set_some("from_stage", from)
        .set("amount", deal.amount)
        .set("currency", "USD")
        .set("type", deal.kind);
        self.outbox.push(change.finish());
    }
}
