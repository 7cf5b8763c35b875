//! The knowledge in the rows: employers, open leads and opportunities, access to the product, and
//! the events of today.
//!
//! An observer sees rows and nothing else. Two contacts with one e-mail address are one person to
//! the observer, an e-mail domain names an account, and an account without a domain is the second
//! record of another one.

use std::collections::HashMap;

use crate::deals::{LOST, OPEN_STAGES, WON};
use crate::engagement::{SENTIMENT_LEVELS, is_conversation};
use crate::firm::visible_appeal;
use crate::knobs::{EngagementPhase, Knobs};
use crate::market::DAY_MS;
use crate::people::LeadStatus;
use crate::rates::{Rates, is_executive};
use crate::rows::{
    ACCOUNTS, ACTIVITIES, CONTACTS, CONTENT_VIEWS, FieldValue, LEADS, PRODUCT_USAGE, RowOut,
    STAGE_CHANGES,
};
use crate::vocabulary::{DEPARTMENTS, INDUSTRIES, REGIONS, SENIORITIES, TECHNOLOGIES};

/// A person in the rows.
#[derive(Clone, Debug)]
struct SeenPerson {
    account: Option<usize>,
    /// Account at which the person was first seen. Events as a lead count for that account, however
    /// late they are known.
    first_account: Option<usize>,
    department: usize,
    is_executive: bool,
    lead: Option<LeadStatus>,
    /// Last day on which the person's events do not count for the account.
    unknown_until_day: i64,
}

/// An account as the rows show it.
#[derive(Clone, Debug)]
pub(crate) struct SeenAccount {
    pub(crate) key: String,
    /// `None` for the second record of another account.
    pub(crate) industry: Option<usize>,
    /// The visible part of fit.
    pub(crate) appeal: f64,
    is_customer: bool,
    trial_until_day: i64,
    champion_until_day: i64,
    /// Stage of the open opportunity.
    pub(crate) deal: Option<usize>,
    people: Vec<usize>,
    /// Leads being worked on, by status.
    pub(crate) leads: [u32; 3],
}

impl SeenAccount {
    pub(crate) fn has_access(&self, day: i64) -> bool {
        self.is_customer || self.trial_until_day > day
    }

    pub(crate) fn has_champion(&self, day: i64) -> bool {
        self.champion_until_day > day
    }

    /// True on the first day after a trial.
    pub(crate) fn trial_ends_on(&self, day: i64) -> bool {
        self.trial_until_day == day
    }
}

/// An engagement event in the rows.
#[derive(Clone, Debug)]
pub(crate) struct SeenEvent {
    /// Id of the event, by which it may be taken back.
    pub(crate) id: String,
    pub(crate) department: usize,
    pub(crate) is_executive: bool,
    pub(crate) kind: usize,
    /// Index of the sentiment's level; `None` for a kind without one.
    pub(crate) sentiment: Option<usize>,
    /// True for an event that cannot have been recorded by mistake.
    pub(crate) is_certain: bool,
}

/// The news of a row about an account on a day.
#[derive(Clone, Debug)]
pub(crate) enum Sight {
    /// An engagement event of this day or an earlier one.
    Event {
        account: usize,
        day: i64,
        event: SeenEvent,
    },
    /// An event of an earlier day is taken back.
    TakenBack {
        account: usize,
        day: i64,
        id: String,
    },
    /// A person became known; an index of [`Rates::newcomer`].
    Newcomer { account: usize, position: usize },
    /// A lead took a way out of a status.
    LeadMoved {
        account: usize,
        status: usize,
        way: usize,
    },
    /// An opportunity was opened.
    DealOpened { account: usize },
    /// An opportunity took a way out of a stage.
    DealMoved {
        account: usize,
        stage: usize,
        way: usize,
    },
    /// The account made a purchase.
    Won { account: usize },
}

/// A reader of rows in the order in which they are known.
#[derive(Clone, Debug)]
pub(crate) struct Observer {
    knobs: Knobs,
    start_ms: i64,
    pub(crate) accounts: Vec<SeenAccount>,
    by_key: HashMap<String, usize>,
    by_domain: HashMap<String, usize>,
    people: Vec<SeenPerson>,
    contacts: HashMap<String, usize>,
    leads: HashMap<String, usize>,
    by_email: HashMap<String, usize>,
    kinds: HashMap<&'static str, usize>,
    /// Accounts whose people, leads or access changed.
    pub(crate) changed: Vec<usize>,
}

fn text<'a>(row: &'a RowOut, field: &str) -> Option<&'a str> {
    row.fields.text(field)
}

fn index_in(words: &[&str], word: Option<&str>) -> Option<usize> {
    words.iter().position(|w| Some(*w) == word)
}

impl Observer {
    pub(crate) fn new(knobs: &Knobs, start_ms: i64) -> Self {
        Self {
            start_ms,
            accounts: Vec::new(),
            by_key: HashMap::new(),
            by_domain: HashMap::new(),
            people: Vec::new(),
            contacts: HashMap::new(),
            leads: HashMap::new(),
            by_email: HashMap::new(),
            kinds: knobs
                .engagement
                .iter()
                .enumerate()
                .map(|(number, kind)| (kind.kind, number))
                .collect(),
            changed: Vec::new(),
            knobs: knobs.clone(),
        }
    }

    fn day_of(&self, at_ms: i64) -> i64 {
        (at_ms - self.start_ms).div_euclid(DAY_MS)
    }

    fn account_of(&self, row: &RowOut) -> Option<usize> {
        self.by_key.get(text(row, "account_id")?).copied()
    }

    /// Number of accounts that stand for themselves, and how many of them are customers.
    pub(crate) fn census(&self) -> (usize, usize) {
        let real = self
            .accounts
            .iter()
            .filter(|account| account.industry.is_some());
        (
            real.clone().count(),
            real.filter(|account| account.is_customer).count(),
        )
    }

    /// Department and rank of each of an account's people.
    pub(crate) fn people_of(&self, account: usize) -> impl Iterator<Item = (usize, bool)> {
        self.accounts[account].people.iter().map(|&person| {
            (
                self.people[person].department,
                self.people[person].is_executive,
            )
        })
    }

    /// Updates the knowledge with a row.
    pub(crate) fn observe(&mut self, row: &RowOut) -> Option<Sight> {
        match row.table {
            ACCOUNTS => {
                self.account(row);
                None
            }
            CONTACTS => self.contact(row),
            LEADS => self.lead(row),
            STAGE_CHANGES => self.stage_change(row),
            ACTIVITIES => self.event(row, "type", "activity_id"),
            CONTENT_VIEWS => self.event(row, "content_type", "view_id"),
            PRODUCT_USAGE => self.event(row, "kind", "usage_id"),
            // Stage changes carry all news of opportunities.
            _ => None,
        }
    }

    fn account(&mut self, row: &RowOut) {
        let is_customer = text(row, "status") == Some("Customer");
        if let Some(known) = self.account_of(row) {
            self.accounts[known].is_customer |= is_customer;
            self.changed.push(known);
            return;
        }
        let domain = text(row, "domain");
        let industry = index_in(&INDUSTRIES, text(row, "industry")).filter(|_| domain.is_some());
        let region = index_in(&REGIONS, text(row, "region"));
        let technologies: Vec<usize> = match row.fields.get("tech_stack") {
            Some(FieldValue::Texts(names)) => (0..TECHNOLOGIES.len())
                .filter(|&t| names.iter().any(|name| *name == TECHNOLOGIES[t].0))
                .collect(),
            _ => Vec::new(),
        };
        let employees = row.fields.whole("employee_count");
        let appeal = match (employees, industry, region) {
            (Some(employees), Some(industry), Some(region)) => {
                visible_appeal(&self.knobs.fit, employees, &technologies, industry, region)
            }
            _ => 0.0,
        };
        let number = self.accounts.len();
        self.by_key.insert(row.key.clone(), number);
        if let Some(domain) = domain {
            self.by_domain.insert(domain.to_owned(), number);
        }
        self.accounts.push(SeenAccount {
            key: row.key.clone(),
            industry,
            appeal,
            is_customer,
            trial_until_day: 0,
            champion_until_day: 0,
            deal: None,
            people: Vec::new(),
            leads: [0; 3],
        });
        self.changed.push(number);
    }

    fn add_person(&mut self, account: Option<usize>, row: &RowOut) -> usize {
        let is_initial = row.known_ms == self.start_ms;
        self.people.push(SeenPerson {
            account,
            first_account: account,
            department: index_in(&DEPARTMENTS, text(row, "department")).unwrap_or(0),
            is_executive: index_in(&SENIORITIES, text(row, "seniority")).is_some_and(is_executive),
            lead: None,
            unknown_until_day: if is_initial {
                -1
            } else {
                self.day_of(row.known_ms)
            },
        });
        let person = self.people.len() - 1;
        if let Some(account) = account {
            self.accounts[account].people.push(person);
            self.changed.push(account);
        }
        person
    }

    fn newcomer(&self, account: usize, row: &RowOut) -> Option<Sight> {
        let department = index_in(&DEPARTMENTS, text(row, "department"))?;
        let seniority = index_in(&SENIORITIES, text(row, "seniority"))?;
        let is_initial = row.known_ms == self.start_ms;
        (!is_initial).then(|| Sight::Newcomer {
            account,
            position: Rates::newcomer_index(department, seniority),
        })
    }

    fn contact(&mut self, row: &RowOut) -> Option<Sight> {
        let account = self.account_of(row)?;
        if let Some(&person) = self.contacts.get(&row.key) {
            if text(row, "previous_account_id").is_some()
                && self.people[person].account != Some(account)
            {
                self.moves(person, account, self.day_of(row.known_ms));
            }
            return None;
        }
        let email = text(row, "email").unwrap_or_default();
        if let Some(&person) = self.by_email.get(email) {
            self.contacts.insert(row.key.clone(), person);
            return None;
        }
        let lead = text(row, "lead_id")
            .and_then(|lead| self.leads.get(lead))
            .copied();
        let Some(person) = lead else {
            let person = self.add_person(Some(account), row);
            self.by_email.insert(email.to_owned(), person);
            self.contacts.insert(row.key.clone(), person);
            return self.newcomer(account, row);
        };
        self.by_email.insert(email.to_owned(), person);
        self.contacts.insert(row.key.clone(), person);
        if self.people[person].account.is_some() {
            return None;
        }
        // A person from a free-mail address turns out to work here.
        let day = self.day_of(row.known_ms);
        let known = &mut self.people[person];
        known.account = Some(account);
        known.lead = Some(LeadStatus::Converted);
        known.unknown_until_day = day;
        known.department = index_in(&DEPARTMENTS, text(row, "department"))?;
        known.is_executive = is_executive(index_in(&SENIORITIES, text(row, "seniority"))?);
        self.accounts[account].people.push(person);
        self.changed.push(account);
        self.newcomer(account, row)
    }

    fn moves(&mut self, person: usize, account: usize, day: i64) {
        let Some(old) = self.people[person].account.replace(account) else {
            return;
        };
        self.accounts[old].people.retain(|&p| p != person);
        self.accounts[account].people.push(person);
        self.changed.extend([old, account]);
        if self.accounts[old].is_customer {
            self.accounts[account].champion_until_day = day + 1 + self.knobs.people.champion_days;
        }
    }

    fn lead(&mut self, row: &RowOut) -> Option<Sight> {
        let status = LeadStatus::read(text(row, "status")?)?;
        let Some(&person) = self.leads.get(&row.key) else {
            let domain = text(row, "email")
                .and_then(|email| email.split_once('@'))
                .map(|(_, domain)| domain);
            let account = self
                .account_of(row)
                .or_else(|| self.by_domain.get(domain?).copied());
            let person = self.add_person(account, row);
            self.leads.insert(row.key.clone(), person);
            self.people[person].lead = Some(status);
            let account = account?;
            if let Some(worked) = status.worked() {
                self.accounts[account].leads[worked] += 1;
            }
            return self.newcomer(account, row);
        };
        let before = self.people[person].lead.replace(status)?;
        let account = self.people[person].account?;
        let from = before.worked().filter(|_| before != status)?;
        self.accounts[account].leads[from] -= 1;
        if let Some(to) = status.worked() {
            self.accounts[account].leads[to] += 1;
        }
        self.changed.push(account);
        // The end of the leads follows from the end of the opportunity, so it is no news.
        let is_told_by_deal = matches!(status, LeadStatus::ClosedWon | LeadStatus::ClosedLost);
        let way = usize::from(status != before.forward());
        (!is_told_by_deal).then_some(Sight::LeadMoved {
            account,
            status: from,
            way,
        })
    }

    fn stage_change(&mut self, row: &RowOut) -> Option<Sight> {
        let account = self.account_of(row)?;
        let to = text(row, "to_stage")?;
        let deal = &mut self.accounts[account].deal;
        if to == WON {
            *deal = None;
            return Some(Sight::Won { account });
        }
        let Some(stage) = *deal else {
            *deal = Some(0);
            return Some(Sight::DealOpened { account });
        };
        *deal = index_in(&OPEN_STAGES, Some(to));
        Some(Sight::DealMoved {
            account,
            stage,
            way: usize::from(to == LOST),
        })
    }

    fn event(&mut self, row: &RowOut, kind_field: &str, key_field: &str) -> Option<Sight> {
        let contact = text(row, "contact_id");
        let person = match contact {
            Some(contact) => self.contacts.get(contact),
            None => self.leads.get(text(row, "lead_id")?),
        };
        let person = &self.people[*person?];
        let named = self
            .account_of(row)
            .filter(|&account| self.accounts[account].industry.is_some());
        let account = named.or(if contact.is_some() {
            person.account
        } else {
            person.first_account
        })?;
        let day = self.day_of(row.fields.whole("occurred_at")?);
        if day <= person.unknown_until_day {
            return None;
        }
        let id = text(row, key_field)?.to_owned();
        if row.fields.get("retracted") == Some(&FieldValue::Truth(true)) {
            return Some(Sight::TakenBack { account, day, id });
        }
        let kind = *self.kinds.get(text(row, kind_field)?)?;
        let known = &self.knobs.engagement[kind];
        let sentiment = match row.fields.get("sentiment") {
            Some(FieldValue::Number(felt)) if is_conversation(known.kind) => Some(*felt),
            _ => None,
        };
        let opens_trial = known.phase == EngagementPhase::OpensTrial;
        let known_day = self.day_of(row.known_ms);
        let event = SeenEvent {
            id,
            department: person.department,
            is_executive: person.is_executive,
            kind,
            sentiment: sentiment.map(nearest_level),
            is_certain: opens_trial || known_day > day,
        };
        if opens_trial && known_day == day {
            self.accounts[account].trial_until_day = day + 1 + self.knobs.trial_days;
            self.changed.push(account);
        }
        Some(Sight::Event {
            account,
            day,
            event,
        })
    }
}

fn nearest_level(felt: f64) -> usize {
    let distance = |level: usize| (SENTIMENT_LEVELS[level] - felt).abs();
    (0..SENTIMENT_LEVELS.len())
        .min_by(|&a, &b| distance(a).total_cmp(&distance(b)))
        .expect("there are levels")
}
