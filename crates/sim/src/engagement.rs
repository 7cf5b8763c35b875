//! Events of known people. Every kind of event is a Poisson process whose rate follows the
//! account's hidden state.
//!
//! Order and committees are not scripted. They emerge from the states, and from the people who take
//! part.

use crate::firm::DailyRates;
use crate::knobs::EngagementPhase;
use crate::market::Market;
use crate::mess::EventReport;
use crate::people::Person;
use crate::rows::{ACTIVITIES, CONTENT_VIEWS, PRODUCT_USAGE, RowDraft};
use crate::vocabulary::{PRODUCT_FEATURES, PRODUCTS, TOPICS};

/// Centre of a conversation's sentiment, by level.
pub(crate) const SENTIMENT_LEVELS: [f64; 3] = [-0.6, 0.0, 0.6];
/// Largest distance of a sentiment from the centre of its level.
// Below half the distance of two levels: the level can be read back, which the exact filter needs.
const SENTIMENT_JITTER: f64 = 0.25;
/// The guise of an account that does nothing out of the ordinary.
const QUIET: usize = 0;

/// True for kinds of events with a sentiment.
pub(crate) fn is_conversation(kind: &str) -> bool {
    matches!(kind, "call" | "meeting" | "email_reply")
}

impl Market {
    /// One day of the events of an account's people.
    pub(crate) fn engage(&mut self, firm: usize, day: i64, day_ms: i64, day_factor: f64) {
        if self.firms[firm].trial_until_day == day {
            self.firms[firm].daily_rates = None;
        }
        let daily = match self.firms[firm].daily_rates {
            Some(daily) => daily,
            None => {
                let daily = self.daily_rates(firm, day);
                self.firms[firm].daily_rates = Some(daily);
                daily
            }
        };
        let guise = self.firms[firm].guise();
        for _ in 0..self.dice.engagement.poisson(daily.ordinary * day_factor) {
            self.act(firm, guise, day, day_ms, EventReport::Ordinary);
        }
        for _ in 0..self
            .dice
            .mess
            .poisson(self.knobs.mess.mistaken_ratio * daily.quiet * day_factor)
        {
            self.act(firm, QUIET, day, day_ms, EventReport::Mistaken);
        }
        let opened = match daily.opening {
            rate if rate > 0.0 => self.dice.engagement.poisson(rate * day_factor),
            _ => 0,
        };
        for _ in 0..opened {
            self.act(firm, guise, day, day_ms, EventReport::Prompt);
        }
        if opened > 0 {
            // The product is used from the next day on.
            self.firms[firm].trial_until_day = day + 1 + self.knobs.trial_days;
            self.firms[firm].daily_rates = None;
        }
    }

    fn daily_rates(&self, firm: usize, day: i64) -> DailyRates {
        let firm = &self.firms[firm];
        let guise = firm.guise();
        let has_access = firm.has_access(day);
        let mut daily = DailyRates {
            ordinary: 0.0,
            opening: 0.0,
            quiet: 0.0,
        };
        for person in firm.people.iter().map(|&person| &self.people[person]) {
            let position = (person.department, person.is_executive());
            daily.ordinary += person.loudness
                * self
                    .rates
                    .ordinary(position.0, position.1, has_access, guise);
            daily.quiet += person.loudness
                * self
                    .rates
                    .ordinary(position.0, position.1, has_access, QUIET);
            if !has_access {
                daily.opening += person.loudness
                    * self
                        .rates
                        .total(position.0, position.1, EngagementPhase::OpensTrial)[guise];
            }
        }
        daily
    }

    /// An event of a person at an account, at the rates of a guise.
    fn act(&mut self, firm: usize, guise: usize, day: i64, day_ms: i64, report: EventReport) {
        let has_access = self.firms[firm].has_access(day);
        let rate = |person: &Person| {
            let (department, is_executive) = (person.department, person.is_executive());
            person.loudness
                * match report {
                    EventReport::Prompt => {
                        self.rates
                            .total(department, is_executive, EngagementPhase::OpensTrial)[guise]
                    }
                    _ => self
                        .rates
                        .ordinary(department, is_executive, has_access, guise),
                }
        };
        let people = &self.firms[firm].people;
        let weights: Vec<f64> = people
            .iter()
            .map(|&person| rate(&self.people[person]))
            .collect();
        let person = people[self.dice.engagement.weighted(&weights)];
        let kind = self.choose_kind(person, has_access, guise, report);
        self.emit(Some(firm), person, kind, guise, day_ms, report);
    }

    fn choose_kind(
        &mut self,
        person: usize,
        has_access: bool,
        guise: usize,
        report: EventReport,
    ) -> usize {
        let person = &self.people[person];
        let weights: Vec<f64> = (self.knobs.engagement.iter().enumerate())
            .map(|(number, kind)| match (kind.phase, report) {
                (EngagementPhase::OpensTrial, EventReport::Prompt) => {
                    self.rates
                        .engagement(person.department, person.is_executive(), number)[guise]
                }
                (EngagementPhase::OpensTrial, _) | (_, EventReport::Prompt) => 0.0,
                (EngagementPhase::WithAccess, _) if !has_access => 0.0,
                _ => self
                    .rates
                    .engagement(person.department, person.is_executive(), number)[guise],
            })
            .collect();
        self.dice.engagement.weighted(&weights)
    }

    /// One day of the events of people from free-mail addresses.
    pub(crate) fn strangers_act(&mut self, day_ms: i64, day_factor: f64) {
        for at in 0..self.strangers.len() {
            let person = self.strangers[at];
            let (department, is_executive) = (
                self.people[person].department,
                self.people[person].is_executive(),
            );
            let rate = self.rates.ordinary(department, is_executive, false, QUIET);
            for _ in 0..self.dice.strangers.poisson(rate * day_factor) {
                let kind = self.choose_kind(person, false, QUIET, EventReport::Ordinary);
                self.emit(None, person, kind, QUIET, day_ms, EventReport::Ordinary);
            }
        }
    }

    fn emit(
        &mut self,
        firm: Option<usize>,
        person: usize,
        kind: usize,
        guise: usize,
        day_ms: i64,
        report: EventReport,
    ) {
        let at_ms = day_ms + self.dice.engagement.time_of_day_ms();
        let engagement = self.knobs.engagement[kind];
        self.events_made += 1;
        let number = self.events_made;
        let record = match engagement.table {
            ACTIVITIES => self.activity(firm, guise, engagement.kind, number, at_ms),
            CONTENT_VIEWS => self.content_view(engagement.kind, number, at_ms),
            _ => self.usage(firm, person, engagement.kind, number, at_ms),
        };
        if report == EventReport::Ordinary
            && self.knobs.mess.missing_ratio > 0.0
            && self.dice.mess.chance(self.knobs.mess.missing_ratio)
        {
            return;
        }
        self.people[person].points += engagement.points;
        let actor = &self.people[person];
        let account = firm.map(|firm| self.firms[firm].key.as_str());
        let record = match (&actor.lead, actor.contact_since_ms) {
            (_, Some(_)) => match &actor.duplicate {
                // Either record of a contact may be used.
                Some(second) if !second.is_merged && self.dice.mess.chance(0.5) => {
                    let shell = second
                        .shell
                        .map(|shell| &self.shells[shell])
                        .filter(|shell| !shell.is_merged);
                    record
                        .set("contact_id", second.key.clone())
                        .account(shell.map(|shell| shell.key.as_str()).or(account))
                }
                _ => record
                    .set("contact_id", actor.contact_key.clone())
                    .account(account),
            },
            (Some(lead), None) => record.set("lead_id", lead.key.clone()).account(
                account
                    .filter(|_| lead.account_known)
                    .or(self.backfilled.get(&lead.key).map(String::as_str)),
            ),
            (None, None) => unreachable!("only known people act"),
        };
        self.deliver(record.finish(), report);
    }

    fn activity(
        &mut self,
        firm: Option<usize>,
        guise: usize,
        kind: &'static str,
        number: u64,
        at_ms: i64,
    ) -> RowDraft {
        let dice = &mut self.dice.engagement;
        let record = RowDraft::new(
            ACTIVITIES,
            "activity_id",
            format!("act-{number:08}"),
            "occurred_at",
            at_ms,
        )
        .set("type", kind)
        .set("channel", channel(kind));
        let minutes = match kind {
            "call" => Some(4.0 + 22.0 * dice.uniform()),
            "meeting" => Some(20.0 + 50.0 * dice.uniform()),
            "webinar" => Some(15.0 + 45.0 * dice.uniform()),
            _ => None,
        };
        let sentiment = is_conversation(kind).then(|| {
            let level = dice.weighted(&self.rates.sentiment.map(|by_guise| by_guise[guise]));
            let felt = SENTIMENT_LEVELS[level] + SENTIMENT_JITTER * (2.0 * dice.uniform() - 1.0);
            (felt * 100.0).round() / 100.0
        });
        let campaign = matches!(kind, "ad_click" | "email_open" | "email_click")
            .then(|| format!("campaign-{:02}", 1 + dice.below(24)));
        let deal = firm.and_then(|firm| self.firms[firm].deal.as_ref());
        let about = deal.filter(|_| is_conversation(kind) || kind == "demo_request");
        record
            .set_some("duration_seconds", minutes.map(|m| (m * 60.0).round()))
            .set_some("sentiment", sentiment)
            .set_some("campaign", campaign)
            .set_some("opportunity_id", about.map(|deal| deal.key.clone()))
    }

    fn content_view(&mut self, kind: &'static str, number: u64, at_ms: i64) -> RowDraft {
        let dice = &mut self.dice.engagement;
        let topic = dice.pick(&TOPICS);
        let seconds = (45.0 * (0.9 * dice.normal()).exp()).round().max(1.0);
        RowDraft::new(
            CONTENT_VIEWS,
            "view_id",
            format!("view-{number:08}"),
            "occurred_at",
            at_ms,
        )
        .set("content_type", kind)
        .set("title", format!("{}: {topic}", kind.replace('_', " ")))
        .set(
            "url",
            format!("/{}/{}", kind.replace('_', "-"), topic.replace(' ', "-")),
        )
        .set("topic", topic)
        .set("seconds", seconds)
    }

    fn usage(
        &mut self,
        firm: Option<usize>,
        person: usize,
        kind: &'static str,
        number: u64,
        at_ms: i64,
    ) -> RowDraft {
        let dice = &mut self.dice.engagement;
        let firm = &self.firms[firm.expect("strangers do not use the product")];
        // A company tries one product at a time.
        let product = PRODUCTS[firm.employees as usize % PRODUCTS.len()];
        let feature = (kind == "feature_used").then(|| dice.pick(&PRODUCT_FEATURES));
        let quantity = matches!(kind, "feature_used" | "limit_hit" | "export")
            .then(|| (8.0 * dice.normal().exp()).ceil());
        let seconds = (kind == "login").then(|| (600.0 * (0.8 * dice.normal()).exp()).round());
        let colleagues = || {
            firm.people.iter().filter(|&&p| {
                p != person && self.people[p].contact_since_ms.is_some_and(|t| t < at_ms)
            })
        };
        let invited = match colleagues().count() {
            count if count > 0 && kind == "invite" => colleagues()
                .nth(dice.below(count))
                .map(|&p| self.people[p].contact_key.clone()),
            _ => None,
        };
        RowDraft::new(
            PRODUCT_USAGE,
            "usage_id",
            format!("use-{number:08}"),
            "occurred_at",
            at_ms,
        )
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
