//! The sentence of an alert: what happened, who, when, the score, what to do.
//!
//! A sentence is composed of clauses from facts, the most telling first. Numbers are rounded by
//! their kind, and a number that rounds to nothing is left out with its clause. Nothing is said
//! whose sign contradicts the alert. What does not fit the length is left out from the end.
//!
//! Decision: docs/decisions/0054-one-account-one-sentence.md

mod clauses;

use leadpulse_features::{EvidenceChange, Facts};
use leadpulse_policy::{AlertDraft, AlertFacts, AlertLife, AlertType};
use leadpulse_schema::units::DAY_MS;

/// Most characters of a sentence: what a person reads in five seconds.
pub(crate) const LONGEST: usize = 240;
/// Most characters of a name.
const LONGEST_NAME: usize = 60;

/// Everything that a sentence is composed of.
pub(crate) struct Telling<'a> {
    /// Name of the account or person; a key where neither has one.
    pub name: &'a str,
    pub draft: &'a AlertDraft,
    pub alert_facts: &'a AlertFacts,
    pub facts: &'a Facts,
    /// Differences of the account's events and deals since the score that is compared with.
    pub changes: &'a [EvidenceChange],
    /// Label of the group that weighs most against the score.
    pub drag: Option<&'a str>,
    /// Name of the account that a person came from.
    pub from: Option<&'a str>,
    /// Label of the recommended action.
    pub next: Option<&'a str>,
}

/// A part of a sentence: the same in more and in fewer words, the longest first.
struct Clause(Vec<String>);

impl Clause {
    fn longest(self) -> Option<String> {
        self.0.into_iter().next()
    }
}

impl From<String> for Clause {
    fn from(text: String) -> Self {
        Self(vec![text])
    }
}

impl Telling<'_> {
    /// The sentence.
    pub(crate) fn sentence(&self) -> String {
        self.composed(self.clauses())
    }

    /// The sentence of an entry on a work list: activity, else silence, else the strongest signal.
    pub(crate) fn list_sentence(&self, signal: Option<&str>) -> String {
        let mut clauses = self.activity();
        if clauses.is_empty() {
            clauses = self.stopped();
        }
        if clauses.is_empty() {
            clauses.push("no activity yet".to_owned().into());
            clauses.extend(signal.map(|signal| format!("; strongest signal: {signal}").into()));
        }
        self.composed(clauses)
    }

    /// Clauses, the most telling first and at least one, with name, score and next step.
    fn composed(&self, clauses: Vec<Clause>) -> String {
        let name = short(self.name, LONGEST_NAME);
        let score = self.score();
        let mut clauses = clauses.into_iter();
        let first = clauses.next().and_then(Clause::longest);
        let first = first.unwrap_or_else(|| self.plainly());
        let room = LONGEST.saturating_sub(length(&name) + length(&score) + 2);
        let mut told = short(&first, room.saturating_sub(1));
        let next = self.next_step();
        let ending = if length(&told) + length(&next) <= room {
            score + &next
        } else {
            score
        };
        for clause in clauses {
            let taken = length(&name) + 2 + length(&told) + length(&ending);
            let mut fitting = clause.0.iter();
            if let Some(text) = fitting.find(|text| taken + length(text) <= LONGEST) {
                told.push_str(text);
            }
        }
        format!("{name}: {told}{ending}")
    }

    /// Clauses about the event behind the alert: the first is complete without the others.
    fn clauses(&self) -> Vec<Clause> {
        let type_name = self.draft.key.alert_type;
        if self.draft.life == AlertLife::Resolved {
            return vec![self.plainly().into()];
        }
        match type_name {
            AlertType::ThresholdUp => self.activity(),
            AlertType::ThresholdDown => self.stopped(),
            AlertType::NewExecutive => self.executive(),
            AlertType::CommitteeFormed => self.committee(),
            AlertType::EngagementSpike => self.spike(self.alert_facts.engagement, clauses::EVENTS),
            AlertType::UsageSpike => self.spike(self.alert_facts.usage, "uses of the product"),
            AlertType::UsageLimit => self.limit(),
            AlertType::GoingDark => self.stopped(),
            AlertType::ChampionMoved => self.champion(),
            AlertType::ReEngagedAfterLoss => self.return_after_loss(),
            AlertType::PeerWave => self.peers(),
        }
    }

    /// The event in a few words, for alerts without further facts and for ended ones.
    fn plainly(&self) -> String {
        if self.draft.has_left {
            return "left the scored population".to_owned();
        }
        if self.draft.is_silenced {
            return "a person switched its alerts off".to_owned();
        }
        let at = self.draft.threshold.map(percent);
        let is_over = self.draft.life == AlertLife::Resolved;
        let text = match (self.draft.key.alert_type, is_over) {
            (AlertType::ThresholdUp, false) => "the chance is above its threshold",
            (AlertType::ThresholdUp, true) => "the chance is no longer above its threshold",
            (AlertType::ThresholdDown, false) => "the chance is below its threshold",
            (AlertType::ThresholdDown, true) => "the chance is back above its threshold",
            (AlertType::NewExecutive, false) => "a person of high rank became active",
            (AlertType::NewExecutive, true) => "the new executive is no news any more",
            (AlertType::CommitteeFormed, false) => "several people are active together",
            (AlertType::CommitteeFormed, true) => "the group of active people is smaller again",
            (AlertType::EngagementSpike, false) => "unusually many events",
            (AlertType::EngagementSpike, true) => "the number of events is usual again",
            (AlertType::UsageSpike, false) => "unusually much use of the product",
            (AlertType::UsageSpike, true) => "the use of the product is usual again",
            (AlertType::UsageLimit, false) => "a limit of the product was reached",
            (AlertType::UsageLimit, true) => "the reached limit is no news any more",
            (AlertType::GoingDark, false) => "unusually long without activity",
            (AlertType::GoingDark, true) => "active again after the silence",
            (AlertType::ChampionMoved, false) => "a person from another account is active",
            (AlertType::ChampionMoved, true) => "the person from elsewhere is no news any more",
            (AlertType::ReEngagedAfterLoss, false) => "active again after a lost deal",
            (AlertType::ReEngagedAfterLoss, true) => "the activity after the lost deal has ended",
            (AlertType::PeerWave, false) => "several peers closed",
            (AlertType::PeerWave, true) => "the wave of closings among peers is over",
        };
        match at {
            Some(at) => format!("{text} of {at}"),
            None => text.to_owned(),
        }
    }

    /// The probability with its change: `. Chance 24 % (was 14 % a week ago).`
    fn score(&self) -> String {
        let now = percent(self.draft.probability);
        if self.draft.has_left {
            return format!(". The chance was {now}.");
        }
        let before = self.draft.change.as_ref().map(|change| {
            let was = percent(change.probability);
            let ago = span_ago(self.draft.tick_ms - change.since_ms);
            (was, ago)
        });
        match before {
            Some((was, ago)) if was != now => format!(". Chance {now} (was {was} {ago})."),
            _ => format!(". Chance {now}."),
        }
    }

    /// What to do: ` Next: schedule exec call.` Empty for an alert that has ended.
    fn next_step(&self) -> String {
        let open = self.next.filter(|_| self.draft.life != AlertLife::Resolved);
        let next = short(open.unwrap_or_default().trim_end_matches('.'), LONGEST_NAME);
        if next.is_empty() {
            next
        } else {
            format!(" Next: {next}.")
        }
    }
}

/// A text in one line with single spaces, at most so many characters: an ellipsis stands for the
/// others.
fn short(text: &str, most: usize) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text,
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// A probability in percent: whole from 1 % on, one decimal below, and never 0 or 100.
pub(crate) fn percent(probability: f64) -> String {
    let percent = 100.0 * probability;
    if percent >= 99.5 {
        "over 99 %".to_owned()
    } else if percent >= 0.95 {
        format!("{percent:.0} %")
    } else if percent >= 0.05 {
        format!("{percent:.1} %")
    } else {
        "below 0.1 %".to_owned()
    }
}

/// A span before the alert in words: `less than an hour ago`, `5 hours ago`, `a week ago`, `9 days ago`.
fn span_ago(ms: i64) -> String {
    const HOUR_MS: i64 = DAY_MS / 24;
    match ms {
        ms if ms < HOUR_MS => "less than an hour ago".to_owned(),
        ms if ms < 2 * HOUR_MS => "an hour ago".to_owned(),
        ms if ms < DAY_MS => format!("{} hours ago", ms / HOUR_MS),
        ms if ms < 2 * DAY_MS => "a day ago".to_owned(),
        ms if ms / DAY_MS == 7 => "a week ago".to_owned(),
        ms => format!("{} days ago", ms / DAY_MS),
    }
}

#[cfg(test)]
mod tests;
