//! People: unknown at first, then leads or contacts; now and then they change employer.

use crate::chance::Dice;
use crate::firm::Firm;
use crate::knobs::Knobs;
use crate::market::Market;
use crate::rows::{CONTACTS, LEADS, Record, RowOut};
use crate::vocabulary::{
    DEPARTMENT_WEIGHTS, DEPARTMENTS, EXECUTIVE, FAMILY_NAMES, FIRST_NAMES, INDUSTRIES, LEAD_SOURCES, SENIORITIES, title,
};

const DAY_MS: i64 = 86_400_000;

/// Where a lead stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeadStatus {
    Open,
    Mql,
    Sql,
    Nurture,
    NoReply,
    Disqualified,
    Converted,
    ClosedWon,
    ClosedLost,
}

impl LeadStatus {
    fn text(self) -> &'static str {
        match self {
            LeadStatus::Open => "Open",
            LeadStatus::Mql => "MQL",
            LeadStatus::Sql => "SQL",
            LeadStatus::Nurture => "Nurture",
            LeadStatus::NoReply => "No reply",
            LeadStatus::Disqualified => "Disqualified",
            LeadStatus::Converted => "Converted",
            LeadStatus::ClosedWon => "Closed Won",
            LeadStatus::ClosedLost => "Closed Lost",
        }
    }
    /// Whether it still may become a contact.
    fn is_worked(self) -> bool {
        matches!(self, LeadStatus::Open | LeadStatus::Mql | LeadStatus::Sql)
    }
}

/// The lead a person is or was.
#[derive(Clone, Debug)]
pub(crate) struct Lead {
    pub(crate) key: String,
    pub(crate) status: LeadStatus,
    /// The account it came from; the person may have left since.
    pub(crate) firm: usize,
    /// Whether the rows carry the account's key.
    pub(crate) account_known: bool,
    source: &'static str,
    referred_by: Option<String>,
    created_ms: i64,
    email: String,
}

/// A person of interest.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) contact_key: String,
    pub(crate) firm: usize,
    previous_firm: Option<usize>,
    pub(crate) name: String,
    pub(crate) department: usize,
    pub(crate) seniority: usize,
    /// The lead the person is or was.
    pub(crate) lead: Option<Lead>,
    /// Since when the person is a contact.
    pub(crate) contact_since_ms: Option<i64>,
    /// What a point system has added up.
    pub(crate) points: f64,
}

impl Person {
    /// A person nobody knows yet.
    pub(crate) fn born(number: usize, firm: usize, knobs: &Knobs, dice: &mut Dice) -> Self {
        Self {
            contact_key: format!("C{:06}", number + 1),
            firm,
            previous_firm: None,
            name: format!("{} {}", dice.pick(&FIRST_NAMES), dice.pick(&FAMILY_NAMES)),
            department: dice.weighted(&DEPARTMENT_WEIGHTS),
            seniority: dice.weighted(&knobs.people.seniority_weights),
            lead: None,
            contact_since_ms: None,
            points: 0.0,
        }
    }

    /// Whether the CRM knows the person, as a lead or a contact.
    pub(crate) fn is_known(&self) -> bool {
        self.contact_since_ms.is_some() || self.lead.is_some()
    }

    /// Whether the person is an executive.
    pub(crate) fn is_executive(&self) -> bool {
        self.seniority >= EXECUTIVE
    }

    fn email(&self, domain: &str) -> String {
        format!("{}@{domain}", self.name.to_lowercase().replace(' ', "."))
    }

    fn contact_row(&self, firms: &[Firm], at_ms: i64) -> RowOut {
        let firm = &firms[self.firm];
        Record::new(CONTACTS, "contact_id", self.contact_key.clone(), "updated_at", at_ms)
            .account(Some(&firm.key))
            .set_some("lead_id", self.lead.as_ref().map(|lead| lead.key.as_str()))
            .set("name", self.name.as_str())
            .set("email", self.email(&firm.domain))
            .set("title", title(self.department, self.seniority))
            .set("department", DEPARTMENTS[self.department])
            .set("seniority", SENIORITIES[self.seniority])
            .set_some("previous_account_id", self.previous_firm.map(|f| firms[f].key.as_str()))
            .set_some("previous_company", self.previous_firm.map(|f| firms[f].name.as_str()))
            .set_some("created_at", self.contact_since_ms)
            .finish()
    }

    fn lead_row(&self, lead: &Lead, firms: &[Firm], at_ms: i64) -> RowOut {
        const SENIORITY_POINTS: [f64; 5] = [0.0, 3.0, 6.0, 10.0, 15.0];
        let firm = &firms[lead.firm];
        let converted = self.contact_since_ms.is_some();
        Record::new(LEADS, "lead_id", lead.key.clone(), "updated_at", at_ms)
            .account(lead.account_known.then_some(firm.key.as_str()))
            .set_some("converted_account_id", converted.then_some(firm.key.as_str()))
            .set_some("converted_contact_id", converted.then_some(self.contact_key.as_str()))
            .set("status", lead.status.text())
            .set("source", lead.source)
            .set("point_score", self.points + SENIORITY_POINTS[self.seniority])
            .set_some("referred_by_account_id", lead.referred_by.as_deref())
            .set("name", self.name.as_str())
            .set("company", firm.name.as_str())
            .set("email", lead.email.as_str())
            .set("title", title(self.department, self.seniority))
            .set("department", DEPARTMENTS[self.department])
            .set("seniority", SENIORITIES[self.seniority])
            .set("industry", INDUSTRIES[firm.industry])
            .set("employees", firm.employees)
            .set("revenue", firm.revenue)
            .set("tech_stack", firm.tech_stack())
            .set("created_at", lead.created_ms)
            .finish()
    }
}

impl Market {
    /// Fills an account with people; some are contacts already.
    pub(crate) fn populate(&mut self, firm: usize) {
        let knobs = &self.knobs.people;
        let further = knobs.further * (0.3 * self.firms[firm].size).exp();
        let people = knobs.fewest + self.dice.birth.poisson(further);
        for _ in 0..people {
            let mut person = Person::born(self.people.len(), firm, &self.knobs, &mut self.dice.birth);
            if self.dice.birth.chance(self.knobs.people.known_ratio) {
                person.contact_since_ms = Some(self.options.start_ms - DAY_MS * self.dice.birth.below(900) as i64);
            }
            self.firms[firm].people.push(self.people.len());
            self.people.push(person);
        }
    }

    /// The contacts known at the start.
    pub(crate) fn announce_contacts(&mut self) {
        let start_ms = self.options.start_ms;
        for person in self.people.iter().filter(|p| p.contact_since_ms.is_some()) {
            self.outbox.push(person.contact_row(&self.firms, start_ms));
        }
    }

    /// A day of an account's people: hired, revealed, worked on as leads.
    pub(crate) fn live_people(&mut self, firm: usize, day_ms: i64) {
        let state = self.firms[firm].state.index();
        for at in 0..self.firms[firm].people.len() {
            let person = self.firms[firm].people[at];
            if self.people[person].contact_since_ms.is_none() && self.people[person].lead.as_ref().is_some_and(|l| l.status.is_worked()) {
                self.work_lead(person, state, day_ms);
            }
        }
        let headcount = self.firms[firm].people.len();
        if self.dice.people.chance(self.knobs.people.hired_per_day * headcount as f64) {
            let person = Person::born(self.people.len(), firm, &self.knobs, &mut self.dice.people);
            self.firms[firm].people.push(self.people.len());
            self.people.push(person);
        }
        let unknown = self.firms[firm].people.iter().filter(|&&p| !self.people[p].is_known()).count();
        if unknown > 0 && self.dice.people.chance(self.knobs.people.revealed_per_day[state] * unknown as f64) {
            let which = self.dice.people.below(unknown);
            let person = *self.firms[firm].people.iter().filter(|&&p| !self.people[p].is_known()).nth(which).expect("which < unknown");
            self.reveal(person, day_ms);
        }
    }

    fn reveal(&mut self, person: usize, day_ms: i64) {
        let at_ms = day_ms + self.dice.people.time_of_day_ms();
        let firm = self.people[person].firm;
        self.firms[firm].daily_rate = None;
        if !self.dice.people.chance(self.knobs.leads.lead_ratio) {
            self.people[person].contact_since_ms = Some(at_ms);
            self.outbox.push(self.people[person].contact_row(&self.firms, at_ms));
            return;
        }
        let weights = LEAD_SOURCES.map(|(_, weight)| weight);
        let source = LEAD_SOURCES[self.dice.people.weighted(&weights)].0;
        let referrer = &self.firms[self.dice.people.below(self.firms.len())];
        self.leads_made += 1;
        let lead = Lead {
            key: format!("L{:06}", self.leads_made),
            status: LeadStatus::Open,
            firm,
            account_known: self.dice.people.chance(self.knobs.leads.account_known_ratio),
            source,
            referred_by: (source == "Referral" && referrer.customer).then(|| referrer.key.clone()),
            created_ms: at_ms,
            email: self.people[person].email(&self.firms[firm].domain),
        };
        self.people[person].lead = Some(lead);
        self.push_lead(person, at_ms);
    }

    fn work_lead(&mut self, person: usize, state: usize, day_ms: i64) {
        let knobs = &self.knobs.leads;
        let status = self.people[person].lead.as_ref().expect("only leads are worked on").status;
        let forward = match status {
            LeadStatus::Open => (knobs.qualifies_per_day[state], LeadStatus::Mql),
            LeadStatus::Mql => (knobs.accepted_per_day[state], LeadStatus::Sql),
            _ => (knobs.converts_per_day, LeadStatus::Converted),
        };
        let given_up = knobs.given_up_per_day[state];
        let roll = self.dice.people.uniform();
        let next = if roll < forward.0 {
            forward.1
        } else if roll < forward.0 + given_up {
            self.dice.people.pick(&[LeadStatus::Nurture, LeadStatus::NoReply, LeadStatus::Disqualified])
        } else {
            return;
        };
        let at_ms = day_ms + self.dice.people.time_of_day_ms();
        if next == LeadStatus::Converted {
            self.convert(person, at_ms);
        }
        self.set_lead_status(person, next, at_ms);
    }

    /// A lead becomes a contact of its account.
    fn convert(&mut self, person: usize, at_ms: i64) {
        self.people[person].contact_since_ms = Some(at_ms);
        self.outbox.push(self.people[person].contact_row(&self.firms, at_ms));
    }

    fn set_lead_status(&mut self, person: usize, status: LeadStatus, at_ms: i64) {
        if let Some(lead) = &mut self.people[person].lead {
            lead.status = status;
        }
        self.push_lead(person, at_ms);
    }

    fn push_lead(&mut self, person: usize, at_ms: i64) {
        let person = &self.people[person];
        if let Some(lead) = &person.lead {
            self.outbox.push(person.lead_row(lead, &self.firms, at_ms));
        }
    }

    /// An opportunity of the account ended: its leads end with it.
    pub(crate) fn close_leads(&mut self, firm: usize, won: bool, at_ms: i64) {
        for at in 0..self.firms[firm].people.len() {
            let person = self.firms[firm].people[at];
            let Some(lead) = self.people[person].lead.as_ref().filter(|lead| lead.firm == firm) else { continue };
            match (won, lead.status) {
                (true, LeadStatus::Sql) => {
                    self.convert(person, at_ms);
                    self.set_lead_status(person, LeadStatus::ClosedWon, at_ms);
                }
                (true, LeadStatus::Converted | LeadStatus::ClosedLost) => self.set_lead_status(person, LeadStatus::ClosedWon, at_ms),
                (false, LeadStatus::Converted) => self.set_lead_status(person, LeadStatus::ClosedLost, at_ms),
                _ => {}
            }
        }
    }

    /// Contacts who change employer today. Those who leave a customer help at the new account.
    pub(crate) fn move_people(&mut self, day_ms: i64) {
        let movers = self.dice.people.poisson(self.knobs.people.moves_per_day * self.people.len() as f64);
        for _ in 0..movers {
            let mover = self.dice.people.below(self.people.len());
            let (old, new) = (self.people[mover].firm, self.dice.people.below(self.firms.len()));
            let at_ms = day_ms + self.dice.people.time_of_day_ms();
            if self.people[mover].contact_since_ms.is_none_or(|since| since >= at_ms) || old == new {
                continue;
            }
            self.firms[old].people.retain(|&p| p != mover);
            self.firms[new].people.push(mover);
            self.firms[old].daily_rate = None;
            self.firms[new].daily_rate = None;
            let person = &mut self.people[mover];
            person.previous_firm = Some(old);
            person.firm = new;
            if self.firms[old].customer {
                self.firms[new].champion += self.knobs.people.champion[person.seniority];
            }
            self.outbox.push(self.people[mover].contact_row(&self.firms, at_ms));
        }
    }
}
