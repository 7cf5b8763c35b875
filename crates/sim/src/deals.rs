//! Opportunities: how the hidden state shows in the CRM, with a stage change for every step.

use crate::firm::Firm;
use crate::market::Market;
use crate::rows::{OPPORTUNITIES, Record, RowOut, STAGE_CHANGES};

const DAY_MS: i64 = 86_400_000;

/// The stages of an open opportunity, in order.
const OPEN_STAGES: [&str; 4] = ["Discovery", "Qualification", "Proposal", "Negotiation"];
const WON: &str = "Closed Won";
const LOST: &str = "Closed Lost";
/// Days from opening to the expected close.
const EXPECTED_DAYS: i64 = 60;

/// An opportunity in progress.
#[derive(Clone, Debug)]
pub(crate) struct Deal {
    pub(crate) key: String,
    /// Index of [`OPEN_STAGES`].
    stage: usize,
    amount: f64,
    kind: &'static str,
    primary_contact: Option<String>,
    contacts: Vec<String>,
    opened_ms: i64,
}

impl Deal {
    fn row(&self, firm: &Firm, stage: &str, close_ms: i64, at_ms: i64) -> RowOut {
        Record::new(OPPORTUNITIES, "opportunity_id", self.key.clone(), "updated_at", at_ms)
            .account(Some(&firm.key))
            .set("name", format!("{} {}", firm.name, self.kind.to_lowercase()))
            .set("stage", stage)
            .set("amount", self.amount)
            .set("currency", "USD")
            .set("type", self.kind)
            .set_some("primary_contact_id", self.primary_contact.as_deref())
            .set("contact_ids", self.contacts.as_slice())
            .set("close_date", close_ms)
            .set("created_at", self.opened_ms)
            .finish()
    }
}

impl Market {
    /// A day of an account's opportunity, in the state it had in the morning.
    pub(crate) fn live_deal(&mut self, firm: usize, day_ms: i64) {
        let knobs = &self.knobs.deals;
        let state = self.firms[firm].state.index();
        let Some(deal) = &self.firms[firm].deal else {
            if self.dice.deals.chance(knobs.opens_per_day[state]) {
                let at_ms = day_ms + self.dice.deals.time_of_day_ms();
                self.open_deal(firm, at_ms);
            }
            return;
        };
        let lost = knobs.lost_per_day[state];
        let advances = knobs.advances_per_day.get(deal.stage).map_or(0.0, |by_state| by_state[state]);
        let roll = self.dice.deals.uniform();
        if roll >= lost + advances {
            return;
        }
        let at_ms = day_ms + self.dice.deals.time_of_day_ms();
        if roll < lost {
            self.close_deal(firm, false, at_ms);
        } else if let Some(mut deal) = self.firms[firm].deal.take() {
            let from = OPEN_STAGES[deal.stage];
            deal.stage += 1;
            self.push_stage(firm, &deal, Some(from), OPEN_STAGES[deal.stage], at_ms);
            self.firms[firm].deal = Some(deal);
        }
    }

    /// The account buys: its opportunity is won. Where sales had none, it is entered with the order.
    pub(crate) fn purchase(&mut self, firm: usize, at_ms: i64) {
        if self.firms[firm].deal.is_none() {
            self.open_deal(firm, at_ms);
        }
        self.close_deal(firm, true, at_ms);
        if !self.firms[firm].customer {
            self.firms[firm].customer = true;
            self.outbox.push(self.firms[firm].row(at_ms));
        }
    }

    fn open_deal(&mut self, firm: usize, at_ms: i64) {
        self.deals_made += 1;
        let seller = &self.firms[firm];
        let knobs = &self.knobs.deals;
        let log_amount = knobs.amount_by_size * seller.size + knobs.amount_spread * self.dice.deals.normal();
        let amount = (knobs.median_amount * log_amount.exp() / 500.0).round().max(1.0) * 500.0;
        let mut contacts: Vec<usize> =
            seller.people.iter().copied().filter(|&p| self.people[p].contact_since_ms.is_some_and(|since| since <= at_ms)).collect();
        // The most senior contact leads; at most four take part.
        contacts.sort_by_key(|&p| (std::cmp::Reverse(self.people[p].seniority), p));
        contacts.truncate(4);
        let contacts: Vec<String> = contacts.into_iter().map(|p| self.people[p].contact_key.clone()).collect();
        let deal = Deal {
            key: format!("O{:06}", self.deals_made),
            stage: 0,
            amount,
            kind: if seller.customer { "Expansion" } else { "New business" },
            primary_contact: contacts.first().cloned(),
            contacts,
            opened_ms: at_ms,
        };
        self.push_stage(firm, &deal, None, OPEN_STAGES[0], at_ms);
        self.firms[firm].deal = Some(deal);
    }

    fn close_deal(&mut self, firm: usize, won: bool, at_ms: i64) {
        if let Some(deal) = self.firms[firm].deal.take() {
            self.push_stage(firm, &deal, Some(OPEN_STAGES[deal.stage]), if won { WON } else { LOST }, at_ms);
            self.close_leads(firm, won, at_ms);
        }
    }

    /// The opportunity's new version, then the event of the change.
    fn push_stage(&mut self, firm: usize, deal: &Deal, from: Option<&str>, to: &str, at_ms: i64) {
        let is_closed = to == WON || to == LOST;
        let close_ms = if is_closed { at_ms } else { deal.opened_ms + EXPECTED_DAYS * DAY_MS };
        let account = &self.firms[firm];
        self.outbox.push(deal.row(account, to, close_ms, at_ms));
        self.changes_made += 1;
        let change = Record::new(STAGE_CHANGES, "change_id", format!("chg-{:07}", self.changes_made), "changed_at", at_ms)
            .set("opportunity_id", deal.key.as_str())
            .account(Some(&account.key))
            .set("to_stage", to)
            .set_some("from_stage", from)
            .set("amount", deal.amount)
            .set("currency", "USD");
        self.outbox.push(change.finish());
    }
}
