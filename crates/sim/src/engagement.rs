//! What known people do: every kind of event is a Poisson process whose rate follows the account's hidden state.
//!
//! Order and committees are not scripted; they emerge from the states and from who takes part in them.

use crate::firm::Firm;
use crate::knobs::{Audience, Engagement, Knobs};
use crate::market::Market;
use crate::people::Person;
use crate::rows::{ACTIVITIES, CONTENT_VIEWS, PRODUCT_USAGE, Record};
use crate::state::BuyingState;
use crate::vocabulary::{PRODUCT_FEATURES, PRODUCTS, TECHNICAL, TOPICS};

/// The kind of event that starts a trial.
const SIGNUP: &str = "signup";

/// Weekday events a day of one person and kind.
fn rate(kind: &Engagement, person: &Person, firm: &Firm, knobs: &Knobs) -> f64 {
    if kind.in_trial && firm.trial_until_day.is_none() {
        return 0.0;
    }
    let departments = knobs.departments_by_state[firm.state.index()];
    let mut part = match departments {
        0 => 1.0,
        _ if person.department < departments => knobs.involved,
        _ => knobs.uninvolved,
    };
    if person.is_executive() && matches!(firm.state, BuyingState::Evaluating | BuyingState::Committing) {
        part *= knobs.executive;
    }
    let audience = match kind.audience {
        Audience::Anyone => 1.0,
        Audience::Technical if TECHNICAL[person.department] => knobs.audience,
        Audience::Business if !TECHNICAL[person.department] => knobs.audience,
        _ => 1.0 / knobs.audience,
    };
    let noise = if firm.researcher { kind.researcher } else { 0.0 };
    kind.per_day * audience * (kind.by_state[firm.state.index()] * part + noise)
}

impl Market {
    /// A day of what an account's people do.
    pub(crate) fn engage(&mut self, firm: usize, day: i64, day_ms: i64, day_factor: f64) {
        if self.firms[firm].trial_until_day.is_some_and(|until| until <= day) {
            self.firms[firm].trial_until_day = None;
            self.firms[firm].daily_rate = None;
        }
        let total = match self.firms[firm].daily_rate {
            Some(total) => total,
            None => {
                let total = self.rates(firm).map(|(_, _, rate)| rate).sum();
                self.firms[firm].daily_rate = Some(total);
                total
            }
        };
        let mut signed_up = false;
        for _ in 0..self.dice.engagement.poisson(total * day_factor) {
            let mut left = self.dice.engagement.uniform() * total;
            let mut chosen = None;
            for (person, kind, rate) in self.rates(firm) {
                if rate > 0.0 {
                    chosen = Some((person, kind));
                }
                left -= rate;
                if left < 0.0 {
                    break;
                }
            }
            if let Some((person, kind)) = chosen {
                let at_ms = day_ms + self.dice.engagement.time_of_day_ms();
                self.emit(firm, person, kind, at_ms);
                signed_up |= self.knobs.engagement[kind].kind == SIGNUP;
            }
        }
        // The product is used from the next day on.
        if signed_up && self.firms[firm].trial_until_day.is_none() {
            self.firms[firm].trial_until_day = Some(day + 1 + self.knobs.trial_days);
            self.firms[firm].daily_rate = None;
        }
    }

    /// Person, kind and rate of everything that may happen at an account.
    fn rates(&self, firm: usize) -> impl Iterator<Item = (usize, usize, f64)> {
        let firm = &self.firms[firm];
        firm.people.iter().filter(|&&p| self.people[p].is_known()).flat_map(move |&p| {
            let kinds = self.knobs.engagement.iter().enumerate();
            kinds.map(move |(number, kind)| (p, number, rate(kind, &self.people[p], firm, &self.knobs)))
        })
    }

    fn emit(&mut self, firm: usize, person: usize, kind: usize, at_ms: i64) {
        let engagement = self.knobs.engagement[kind];
        self.people[person].points += engagement.points;
        self.events_made += 1;
        let number = self.events_made;
        let record = match engagement.table {
            ACTIVITIES => self.activity(firm, engagement.kind, number, at_ms),
            CONTENT_VIEWS => self.content_view(engagement.kind, number, at_ms),
            _ => self.usage(firm, person, engagement.kind, number, at_ms),
        };
        let actor = &self.people[person];
        let record = match (&actor.lead, actor.contact_since_ms) {
            (_, Some(_)) => record.set("contact_id", actor.contact_key.as_str()).account(Some(&self.firms[firm].key)),
            (Some(lead), None) => {
                record.set("lead_id", lead.key.as_str()).account(lead.account_known.then_some(self.firms[firm].key.as_str()))
            }
            (None, None) => unreachable!("only known people have rates"),
        };
        self.outbox.push(record.finish());
    }

    fn activity(&mut self, firm: usize, kind: &'static str, number: u64, at_ms: i64) -> Record {
        let dice = &mut self.dice.engagement;
        let firm = &self.firms[firm];
        let record = Record::new(ACTIVITIES, "activity_id", format!("act-{number:08}"), "occurred_at", at_ms)
            .set("type", kind)
            .set("channel", channel(kind));
        let minutes = match kind {
            "call" => Some(4.0 + 22.0 * dice.uniform()),
            "meeting" => Some(20.0 + 50.0 * dice.uniform()),
            "webinar" => Some(15.0 + 45.0 * dice.uniform()),
            _ => None,
        };
        let is_conversation = matches!(kind, "call" | "meeting" | "email_reply");
        let sentiment = is_conversation.then(|| {
            let felt = self.knobs.sentiment[firm.state.index()] + self.knobs.sentiment_spread * dice.normal();
            (felt.clamp(-1.0, 1.0) * 100.0).round() / 100.0
        });
        let campaign = matches!(kind, "ad_click" | "email_open" | "email_click").then(|| format!("campaign-{:02}", 1 + dice.below(24)));
        let about = firm.deal.as_ref().filter(|_| is_conversation || kind == "demo_request");
        record
            .set_some("duration_seconds", minutes.map(|m| (m * 60.0).round()))
            .set_some("sentiment", sentiment)
            .set_some("campaign", campaign)
            .set_some("opportunity_id", about.map(|deal| deal.key.as_str()))
    }

    fn content_view(&mut self, kind: &'static str, number: u64, at_ms: i64) -> Record {
        let dice = &mut self.dice.engagement;
        let topic = dice.pick(&TOPICS);
        let seconds = (45.0 * (0.9 * dice.normal()).exp()).round().max(1.0);
        Record::new(CONTENT_VIEWS, "view_id", format!("view-{number:08}"), "occurred_at", at_ms)
            .set("content_type", kind)
            .set("title", format!("{}: {topic}", kind.replace('_', " ")))
            .set("url", format!("/{}/{}", kind.replace('_', "-"), topic.replace(' ', "-")))
            .set("topic", topic)
            .set("seconds", seconds)
    }

    fn usage(&mut self, firm: usize, person: usize, kind: &'static str, number: u64, at_ms: i64) -> Record {
        let dice = &mut self.dice.engagement;
        // A company tries one product at a time; which one is its own affair.
        let product = PRODUCTS[self.firms[firm].employees as usize % PRODUCTS.len()];
        let feature = (kind == "feature_used").then(|| dice.pick(&PRODUCT_FEATURES));
        let quantity = matches!(kind, "feature_used" | "limit_hit" | "export").then(|| (8.0 * dice.normal().exp()).ceil());
        let seconds = (kind == "login").then(|| (600.0 * (0.8 * dice.normal()).exp()).round());
        let colleagues =
            || self.firms[firm].people.iter().filter(|&&p| p != person && self.people[p].contact_since_ms.is_some_and(|t| t < at_ms));
        let invited = match colleagues().count() {
            count if count > 0 && kind == "invite" => colleagues().nth(dice.below(count)).map(|&p| self.people[p].contact_key.as_str()),
            _ => None,
        };
        Record::new(PRODUCT_USAGE, "usage_id", format!("use-{number:08}"), "occurred_at", at_ms)
            .set("kind", kind)
            .set("product", product)
            .set_some("feature", feature)
            .set_some("quantity", quantity)
            .set_some("seconds", seconds)
            .set_some("invited_contact_id", invited)
    }
}

fn channel(kind: &str) -> &'static str {
    match kind {
        "email_open" | "email_click" | "email_reply" => "email",
        "ad_click" => "paid",
        "call" => "phone",
        "meeting" | "event" => "in_person",
        _ => "web",
    }
}
