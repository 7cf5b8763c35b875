//! People: they become known as leads or contacts, and now and then change employer.

use crate::chance::Dice;
use crate::firm::Firm;
use crate::knobs::Knobs;
use crate::market::{DAY_MS, Market};
use crate::rates::is_executive;
use crate::rows::{CONTACTS, LEADS, RowDraft, RowOut};
use crate::sellers::{account_owner, lead_owner};
use crate::vocabulary::{
    DEPARTMENT_WEIGHTS, DEPARTMENTS, FAMILY_NAMES, FIRST_NAMES, FREE_MAIL, INDUSTRIES,
    LEAD_SOURCES, SENIORITIES, title,
};

/// The status of a lead.
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
    /// The status as written in rows.
    pub(crate) fn text(self) -> &'static str {
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

    /// The status from the text in rows.
    pub(crate) fn read(text: &str) -> Option<Self> {
        use LeadStatus::{
            ClosedLost, ClosedWon, Converted, Disqualified, Mql, NoReply, Nurture, Open, Sql,
        };
        [
            Open,
            Mql,
            Sql,
            Nurture,
            NoReply,
            Disqualified,
            Converted,
            ClosedWon,
            ClosedLost,
        ]
        .into_iter()
        .find(|s| s.text() == text)
    }

    /// Index of the rates of a lead that may still become a contact.
    pub(crate) fn worked(self) -> Option<usize> {
        match self {
            LeadStatus::Open => Some(0),
            LeadStatus::Mql => Some(1),
            LeadStatus::Sql => Some(2),
            _ => None,
        }
    }

    /// The way forward of a lead that may still become a contact.
    pub(crate) fn forward(self) -> Self {
        match self {
            LeadStatus::Open => LeadStatus::Mql,
            LeadStatus::Mql => LeadStatus::Sql,
            _ => LeadStatus::Converted,
        }
    }
}

const GIVEN_UP: [LeadStatus; 3] = [
    LeadStatus::Nurture,
    LeadStatus::NoReply,
    LeadStatus::Disqualified,
];

/// The lead that a person is or was.
#[derive(Clone, Debug)]
pub(crate) struct Lead {
    pub(crate) key: String,
    pub(crate) status: LeadStatus,
    /// Account that the lead came from, if any. The person may have left the account since.
    pub(crate) firm: Option<usize>,
    /// True if the rows carry the account's key.
    pub(crate) account_known: bool,
    source: &'static str,
    referred_by: Option<String>,
    created_ms: i64,
    email: String,
}

/// A contact's second record.
#[derive(Clone, Debug)]
pub(crate) struct Duplicate {
    pub(crate) key: String,
    /// Second record of the account that this record belongs to, an index of [`Market::shells`].
    pub(crate) shell: Option<usize>,
    pub(crate) is_merged: bool,
}

/// A person of interest.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) contact_key: String,
    /// Employer; `None` for people from free-mail addresses.
    pub(crate) firm: Option<usize>,
    previous_firm: Option<usize>,
    pub(crate) name: String,
    /// Part of the e-mail address before the @. No two people share it.
    mailbox: String,
    pub(crate) department: usize,
    pub(crate) seniority: usize,
    /// The lead the person is or was.
    pub(crate) lead: Option<Lead>,
    /// Day on which the person became a contact.
    pub(crate) contact_since_ms: Option<i64>,
    pub(crate) duplicate: Option<Duplicate>,
    /// Sum of a point system.
    pub(crate) points: f64,
    /// Activity relative to others in the same position. Hidden.
    pub(crate) loudness: f64,
}

impl Person {
    fn born(
        number: usize,
        firm: Option<usize>,
        (department, seniority): (usize, usize),
        knobs: &Knobs,
        dice: &mut Dice,
    ) -> Self {
        let name = format!("{} {}", dice.pick(&FIRST_NAMES), dice.pick(&FAMILY_NAMES));
        let spread = knobs.people.loudness_spread;
        Self {
            contact_key: format!("C{:06}", number + 1),
            firm,
            previous_firm: None,
            mailbox: format!("{}.{}", name.to_lowercase().replace(' ', "."), number + 1),
            name,
            department,
            seniority,
            lead: None,
            contact_since_ms: None,
            duplicate: None,
            points: 0.0,
            // The mean of the factor is 1.
            loudness: if spread > 0.0 {
                (spread * dice.normal() - spread * spread / 2.0).exp()
            } else {
                1.0
            },
        }
    }

    pub(crate) fn is_executive(&self) -> bool {
        is_executive(self.seniority)
    }

    fn email(&self, domain: &str) -> String {
        format!("{}@{domain}", self.mailbox)
    }

    /// The fields that both records of a contact share.
    fn contact(&self, key: &str, account: &str, firms: &[Firm], at_ms: i64) -> RowDraft {
        let firm = &firms[self.firm.expect("contacts have an employer")];
        RowDraft::new(CONTACTS, "contact_id", key.to_owned(), "updated_at", at_ms)
            .account(Some(account))
            .set("name", self.name.clone())
            .set("email", self.email(&firm.domain))
            .set("title", title(self.department, self.seniority))
            .set("department", DEPARTMENTS[self.department])
            .set("seniority", SENIORITIES[self.seniority])
            .set("owner_id", account_owner(firm))
            .set_some("created_at", self.contact_since_ms)
    }

    fn contact_row(&self, firms: &[Firm], at_ms: i64) -> RowOut {
        let firm = &firms[self.firm.expect("contacts have an employer")];
        self.contact(&self.contact_key, &firm.key, firms, at_ms)
            .set_some("lead_id", self.lead.as_ref().map(|lead| lead.key.clone()))
            .set_some(
                "previous_account_id",
                self.previous_firm.map(|f| firms[f].key.clone()),
            )
            .set_some(
                "previous_company",
                self.previous_firm.map(|f| firms[f].name.clone()),
            )
            .finish()
    }

    fn lead_row(&self, lead: &Lead, firms: &[Firm], at_ms: i64) -> RowOut {
        const SENIORITY_POINTS: [f64; 5] = [0.0, 3.0, 6.0, 10.0, 15.0];
        let firm = lead.firm.map(|firm| &firms[firm]);
        let converted = firm.filter(|_| self.contact_since_ms.is_some());
        // A free-mail address names no account. Only a conversion does.
        let profile = firm.map(|_| (self.department, self.seniority));
        let points = profile.map_or(0.0, |(_, seniority)| SENIORITY_POINTS[seniority]);
        RowDraft::new(LEADS, "lead_id", lead.key.clone(), "updated_at", at_ms)
            .account(
                firm.filter(|_| lead.account_known)
                    .map(|firm| firm.key.as_str()),
            )
            .set_some(
                "converted_account_id",
                converted.map(|firm| firm.key.clone()),
            )
            .set_some(
                "converted_contact_id",
                converted.map(|_| self.contact_key.clone()),
            )
            .set("status", lead.status.text())
            .set("source", lead.source)
            .set("point_score", self.points + points)
            .set_some("referred_by_account_id", lead.referred_by.clone())
            .set("name", self.name.clone())
            .set_some("company", firm.map(|firm| firm.name.clone()))
            .set("email", lead.email.clone())
            .set_some(
                "title",
                profile.map(|(department, seniority)| title(department, seniority)),
            )
            .set_some(
                "department",
                profile.map(|(department, _)| DEPARTMENTS[department]),
            )
            .set_some(
                "seniority",
                profile.map(|(_, seniority)| SENIORITIES[seniority]),
            )
            .set_some("industry", firm.map(|firm| INDUSTRIES[firm.industry]))
            .set_some("employees", firm.map(|firm| firm.employees))
            .set_some("revenue", firm.map(|firm| firm.revenue))
            .set_some("tech_stack", firm.map(Firm::tech_stack))
            .set("owner_id", lead_owner(firm.map(|firm| firm.region)))
            .set("created_at", lead.created_ms)
            .finish()
    }
}

impl Market {
    /// The contacts of an account at the start.
    pub(crate) fn populate(&mut self, firm: usize) {
        let knobs = &self.knobs.people;
        let further = knobs.further
            * (knobs.further_by_size * crate::firm::size_of(self.firms[firm].employees)).exp();
        let people = knobs.fewest + self.dice.birth.poisson(further);
        for _ in 0..people {
            let dice = &mut self.dice.birth;
            let position = (
                dice.weighted(&DEPARTMENT_WEIGHTS),
                dice.weighted(&self.knobs.people.seniority_weights),
            );
            let mut person =
                Person::born(self.people.len(), Some(firm), position, &self.knobs, dice);
            person.contact_since_ms = Some(self.options.start_ms - DAY_MS * dice.below(900) as i64);
            self.firms[firm].people.push(self.people.len());
            self.people.push(person);
        }
        let first = self.people.len() - people as usize;
        let mess = &self.knobs.mess;
        for person in first..self.people.len() {
            if self.dice.mess.chance(mess.duplicate_contact_ratio) {
                self.duplicates.push(person);
            }
        }
        // An account entered twice takes a second record of one of its contacts with it.
        if self
            .dice
            .mess
            .chance(self.knobs.mess.duplicate_account_ratio)
        {
            if !self.duplicates.contains(&first) {
                self.duplicates.push(first);
            }
            self.add_shell(firm, first);
        }
    }

    /// The contacts known at the start.
    pub(crate) fn announce_contacts(&mut self) {
        let start_ms = self.options.start_ms;
        for person in &self.people {
            self.outbox.push(person.contact_row(&self.firms, start_ms));
        }
        for person in self.duplicates.clone() {
            self.enter_again(person, start_ms);
        }
    }

    /// Writes a contact's second record.
    fn enter_again(&mut self, person: usize, at_ms: i64) {
        let shell = self.shells.iter().position(|shell| shell.contact == person);
        self.people[person].duplicate = Some(Duplicate {
            key: format!("D{:06}", person + 1),
            shell,
            is_merged: false,
        });
        self.push_duplicate(person, at_ms);
    }

    /// A version of a contact's second record.
    pub(crate) fn push_duplicate(&mut self, person: usize, at_ms: i64) {
        let person = &self.people[person];
        if let Some(duplicate) = &person.duplicate {
            let account = match duplicate.shell {
                Some(shell) => &self.shells[shell].key,
                None => &self.firms[person.firm.expect("contacts have an employer")].key,
            };
            let row = person.contact(&duplicate.key, account, &self.firms, at_ms);
            let merged_into = duplicate.is_merged.then(|| person.contact_key.clone());
            self.outbox
                .push(row.set_some("merged_into_id", merged_into).finish());
        }
    }

    /// One day of an account's leads, which are worked on in the morning.
    pub(crate) fn work_leads(&mut self, firm: usize, day_ms: i64) {
        let guise = self.firms[firm].guise();
        let mut at = 0;
        while at < self.firms[firm].open_leads.len() {
            let person = self.firms[firm].open_leads[at];
            let status = self.people[person]
                .lead
                .as_ref()
                .expect("only leads are worked on")
                .status;
            let ways =
                self.rates.leads[status.worked().expect("only open leads are worked on")][guise];
            let Some(way) = self.dice.people.way(&ways) else {
                at += 1;
                continue;
            };
            let next = if way == 0 {
                status.forward()
            } else {
                self.dice.people.pick(&GIVEN_UP)
            };
            let at_ms = day_ms + self.dice.people.morning_ms();
            if next == LeadStatus::Converted {
                self.convert(person, at_ms);
            }
            self.set_lead_status(person, next, at_ms);
            if next.worked().is_some() {
                at += 1;
            } else {
                self.firms[firm].open_leads.remove(at);
            }
        }
    }

    /// Adds the people of an account who become known today.
    pub(crate) fn reveal_people(&mut self, firm: usize, day_ms: i64) {
        let guise = self.firms[firm].guise();
        for _ in 0..self.dice.people.poisson(self.rates.revealed[guise]) {
            let dice = &mut self.dice.people;
            let at_ms = day_ms + dice.time_of_day_ms();
            let newcomer = dice.weighted(&self.rates.newcomer[guise]);
            let position = (newcomer / SENIORITIES.len(), newcomer % SENIORITIES.len());
            let is_identified = dice.chance(self.knobs.leads.identified_ratio);
            let is_lead = dice.chance(self.knobs.leads.lead_ratio) && !is_executive(position.1);
            self.firms[firm].daily_rates = None;
            if is_identified && !self.strangers.is_empty() {
                let at = self.dice.people.below(self.strangers.len());
                let person = self.strangers.swap_remove(at);
                self.identify(person, firm, position, at_ms);
                continue;
            }
            let person = self.people.len();
            self.people.push(Person::born(
                person,
                Some(firm),
                position,
                &self.knobs,
                &mut self.dice.people,
            ));
            self.firms[firm].people.push(person);
            if is_lead {
                self.add_lead(person, at_ms);
                self.firms[firm].open_leads.push(person);
            } else {
                self.people[person].contact_since_ms = Some(at_ms);
                self.outbox
                    .push(self.people[person].contact_row(&self.firms, at_ms));
                if self
                    .dice
                    .mess
                    .chance(self.knobs.mess.duplicate_contact_ratio)
                {
                    self.duplicates.push(person);
                    let minutes = 1 + self.dice.mess.below(60);
                    self.enter_again(person, at_ms + 60_000 * minutes as i64);
                }
            }
        }
    }

    fn add_lead(&mut self, person: usize, at_ms: i64) {
        let dice = &mut self.dice.people;
        let weights = LEAD_SOURCES.map(|(_, weight)| weight);
        let source = LEAD_SOURCES[dice.weighted(&weights)].0;
        let referrer = &self.firms[dice.below(self.firms.len())];
        let account_known = dice.chance(self.knobs.leads.account_known_ratio);
        let private_ratio = self.knobs.leads.private_ratio;
        let is_free_mail = match account_known {
            true => dice.chance(self.knobs.leads.free_mail_ratio),
            // Worlds without such leads throw no dice for them.
            false => private_ratio > 0.0 && dice.chance(private_ratio),
        };
        let firm = self.people[person].firm;
        let domain = match firm {
            Some(firm) if !is_free_mail => self.firms[firm].domain.as_str(),
            _ => dice.pick(&FREE_MAIL),
        };
        self.leads_made += 1;
        let lead = Lead {
            key: format!("L{:06}", self.leads_made),
            status: LeadStatus::Open,
            firm,
            account_known: account_known && firm.is_some(),
            source,
            referred_by: (source == "Referral" && referrer.customer).then(|| referrer.key.clone()),
            created_ms: at_ms,
            email: self.people[person].email(domain),
        };
        self.people[person].lead = Some(lead);
        self.push_lead(person, at_ms);
    }

    /// Makes a person from a free-mail address one of an account's people.
    fn identify(
        &mut self,
        person: usize,
        firm: usize,
        (department, seniority): (usize, usize),
        at_ms: i64,
    ) {
        let known = &mut self.people[person];
        known.firm = Some(firm);
        known.department = department;
        known.seniority = seniority;
        if let Some(lead) = &mut known.lead {
            lead.firm = Some(firm);
        }
        self.firms[firm].people.push(person);
        self.convert(person, at_ms);
        self.set_lead_status(person, LeadStatus::Converted, at_ms);
    }

    /// Converts a lead to a contact of its account.
    fn convert(&mut self, person: usize, at_ms: i64) {
        self.people[person].contact_since_ms = Some(at_ms);
        self.outbox
            .push(self.people[person].contact_row(&self.firms, at_ms));
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

    /// Ends the leads of an account with its opportunity.
    pub(crate) fn close_leads(&mut self, firm: usize, won: bool, at_ms: i64) {
        for at in 0..self.firms[firm].people.len() {
            let person = self.firms[firm].people[at];
            let Some(lead) = self.people[person]
                .lead
                .as_ref()
                .filter(|lead| lead.firm == Some(firm))
            else {
                continue;
            };
            match (won, lead.status) {
                (true, LeadStatus::Sql) => {
                    self.convert(person, at_ms);
                    self.set_lead_status(person, LeadStatus::ClosedWon, at_ms);
                    self.firms[firm].open_leads.retain(|&lead| lead != person);
                }
                (true, LeadStatus::Converted | LeadStatus::ClosedLost) => {
                    self.set_lead_status(person, LeadStatus::ClosedWon, at_ms)
                }
                (false, LeadStatus::Converted) => {
                    self.set_lead_status(person, LeadStatus::ClosedLost, at_ms)
                }
                _ => {}
            }
        }
    }

    /// One day of people who write from free-mail addresses, on their own behalf: some come, some
    /// are given up.
    pub(crate) fn live_strangers(&mut self, day_ms: i64, day_factor: f64) {
        let rate = self.knobs.leads.strangers_per_day * self.firms.len() as f64;
        let given_up = self.knobs.leads.given_up_per_day[0];
        self.strangers_act(day_ms, day_factor);
        let mut at = 0;
        while at < self.strangers.len() {
            let dice = &mut self.dice.strangers;
            if dice.chance(given_up) {
                let status = dice.pick(&GIVEN_UP);
                let at_ms = day_ms + dice.evening_ms();
                let person = self.strangers.swap_remove(at);
                self.set_lead_status(person, status, at_ms);
            } else {
                at += 1;
            }
        }
        for _ in 0..self.dice.strangers.poisson(rate) {
            let dice = &mut self.dice.strangers;
            let at_ms = day_ms + dice.time_of_day_ms();
            let position = (
                dice.weighted(&DEPARTMENT_WEIGHTS),
                dice.weighted(&self.knobs.people.seniority_weights),
            );
            let person = self.people.len();
            self.people.push(Person::born(
                person,
                None,
                position,
                &self.knobs,
                &mut self.dice.strangers,
            ));
            self.add_lead(person, at_ms);
            self.strangers.push(person);
        }
    }

    /// Moves the contacts who change employer today, in the evening. Contacts who leave a customer
    /// help at the new account.
    pub(crate) fn move_people(&mut self, day: i64, day_ms: i64) {
        let (customers, others): (Vec<usize>, Vec<usize>) =
            (0..self.firms.len()).partition(|&firm| self.firms[firm].customer);
        let rates = [
            self.knobs.people.champions_per_day,
            self.knobs.people.moves_per_day,
        ];
        let mut moved = Vec::new();
        for (from, per_day) in [customers, others].into_iter().zip(rates) {
            for _ in 0..self.dice.moves.poisson(per_day * from.len() as f64) {
                let dice = &mut self.dice.moves;
                let old = from[dice.below(from.len())];
                let new = dice.below(self.firms.len());
                let choice = dice.uniform();
                let at_ms = day_ms + dice.evening_ms();
                // A person moves once an evening.
                let may_move =
                    |&&p: &&usize| self.people[p].may_move(day_ms) && !moved.contains(&p);
                let movable: Vec<usize> = self.firms[old]
                    .people
                    .iter()
                    .filter(may_move)
                    .copied()
                    .collect();
                if old != new && !movable.is_empty() {
                    let mover = movable[(choice * movable.len() as f64) as usize];
                    self.change_employer(mover, old, new, day, at_ms);
                    moved.push(mover);
                }
            }
        }
    }

    fn change_employer(&mut self, mover: usize, old: usize, new: usize, day: i64, at_ms: i64) {
        self.firms[old].people.retain(|&person| person != mover);
        self.firms[new].people.push(mover);
        self.firms[old].daily_rates = None;
        self.firms[new].daily_rates = None;
        if self.firms[old].customer {
            self.firms[new].champion_until_day = day + 1 + self.knobs.people.champion_days;
        }
        let person = &mut self.people[mover];
        person.previous_firm = Some(old);
        person.firm = Some(new);
        self.outbox
            .push(self.people[mover].contact_row(&self.firms, at_ms));
    }
}

impl Person {
    /// True for contacts that may move: contacts for a day, with one record. With two records it
    /// would be open which of them moves.
    fn may_move(&self, day_ms: i64) -> bool {
        self.duplicate.is_none() && self.contact_since_ms.is_some_and(|since| since < day_ms)
    }
}
