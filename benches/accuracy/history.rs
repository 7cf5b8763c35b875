//! The CRM as a careful analyst would keep it: rows in order of time become accounts, people, deals
//! and events, from the raw tables only. Independent of the product's graph and features on
//! purpose: the baselines must not inherit its mistakes, or its merits.

use std::collections::HashMap;

use leadpulse_schema::{Catalog, Operation, Row, Value};

use crate::vocabulary::{
    EVENT_TABLES, EXECUTIVE, KINDS, LOST, OPEN_STAGES, SENIORITIES, WON, kind, step,
};

pub use leadpulse_schema::units::DAY_MS;
/// Time constants of decayed sums, days.
pub const TAUS: [f64; 5] = [3.0, 10.0, 30.0, 90.0, 300.0];
/// A step of the usual order counts if the one before is at most this old.
const STEP_WINDOW_MS: i64 = 60 * DAY_MS;

/// Σ exp(−age ÷ τ) of what was added, for several τ in days.
#[derive(Clone, Copy, Debug)]
pub struct Decayed<const N: usize> {
    sums: [f64; N],
    at_ms: i64,
}

impl<const N: usize> Default for Decayed<N> {
    fn default() -> Self {
        Self {
            sums: [0.0; N],
            at_ms: 0,
        }
    }
}

impl<const N: usize> Decayed<N> {
    /// Adds something, late or not.
    pub fn add(&mut self, at_ms: i64, weight: f64, taus: &[f64; N]) {
        if at_ms >= self.at_ms {
            self.sums = self.at(at_ms, taus).map(|sum| sum + weight);
            self.at_ms = at_ms;
        } else {
            let days = (self.at_ms - at_ms) as f64 / DAY_MS as f64;
            (0..N).for_each(|i| self.sums[i] += weight * (-days / taus[i]).exp());
        }
    }

    pub fn at(&self, at_ms: i64, taus: &[f64; N]) -> [f64; N] {
        let days = (at_ms - self.at_ms) as f64 / DAY_MS as f64;
        std::array::from_fn(|i| {
            if self.sums[i] == 0.0 {
                0.0
            } else {
                self.sums[i] * (-days / taus[i]).exp()
            }
        })
    }
}

/// Nobody.
pub const NOBODY: u32 = u32::MAX;

/// Something that happened at an account.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    pub at_ms: i64,
    pub kind: u8,
    /// Index of the person, or [`NOBODY`].
    pub person: u32,
    pub sentiment: Option<f32>,
}

#[derive(Clone, Debug, Default)]
pub struct Account {
    pub key: String,
    pub industry: usize,
    pub region: usize,
    pub country: usize,
    pub employees: f64,
    pub revenue: f64,
    /// A bit for each technology.
    pub technologies: u64,
    pub customer: bool,
    pub created_ms: Option<i64>,
    pub people: Vec<u32>,
    pub deals: Vec<usize>,
    pub events: Vec<Event>,
    /// By kind, as are the next two.
    pub counts: Vec<u32>,
    pub newest_ms: Vec<Option<i64>>,
    pub decayed: Vec<Decayed<5>>,
    /// Weighted by how far along, and plain.
    pub level: [Decayed<1>; 2],
    /// Last time of each step that was taken in the usual order.
    pub steps_ms: [Option<i64>; 4],
    pub sentiment: [Decayed<1>; 2],
    pub wins_ms: Vec<i64>,
    pub losses_ms: Vec<i64>,
    /// People who came from elsewhere: when, whether from a customer, seniority, what they had done
    /// there lately.
    pub arrivals: Vec<(i64, bool, u8, f64)>,
    /// Deleted, or merged into another.
    pub gone: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Person {
    pub account: Option<usize>,
    pub department: usize,
    pub seniority: u8,
    pub is_contact: bool,
    pub lead_status: usize,
    pub lead_since_ms: Option<i64>,
    pub points: f64,
    pub referred: bool,
    /// All events, those of high intent: of 30 and 300 days.
    pub done: [Decayed<2>; 2],
    /// Acts of a person before the employer was known.
    strays: Vec<Event>,
}

/// Time constants of what people do, days.
pub const PERSON_TAUS: [f64; 2] = [30.0, 300.0];

#[derive(Clone, Debug, Default)]
pub struct Deal {
    pub stage: Option<usize>,
    pub stage_since_ms: i64,
    pub opened_ms: i64,
    pub amount: f64,
    pub contacts: Vec<u32>,
    pub expansion: bool,
}

/// Numbers for texts, in order of appearance; 0 is for none.
#[derive(Clone, Debug, Default)]
pub struct Names(HashMap<String, usize>);

impl Names {
    fn of(&mut self, text: Option<&str>) -> usize {
        let Some(text) = text else { return 0 };
        let next = self.0.len() + 1;
        match self.0.get(text) {
            Some(number) => *number,
            None => *self.0.entry(text.to_owned()).or_insert(next),
        }
    }

    pub fn find(&self, text: &str) -> Option<usize> {
        self.0.get(text).copied()
    }
}

/// Peers by one property: what goes on among the accounts that share it.
#[derive(Clone, Debug, Default)]
pub struct Peers {
    pub size: f64,
    pub wins: Decayed<2>,
    pub opened: Decayed<2>,
    pub intent: Decayed<2>,
}

/// Time constants of peers, days.
pub const PEER_TAUS: [f64; 2] = [45.0, 150.0];

/// Everything known so far.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub accounts: Vec<Account>,
    pub people: Vec<Person>,
    pub deals: Vec<Deal>,
    pub industries: Names,
    pub regions: Names,
    pub technologies: Names,
    pub countries: Names,
    pub departments: Names,
    pub of_industry: Vec<Peers>,
    pub of_region: Vec<Peers>,
    account_of_key: HashMap<String, usize>,
    account_of_domain: HashMap<String, usize>,
    person_of_contact: HashMap<String, u32>,
    person_of_lead: HashMap<String, u32>,
    deal_of_key: HashMap<String, usize>,
    /// Events of this period and the one before, by a hash of their id, with the account if it was
    /// known: for records repeated or taken back.
    recent: [HashMap<u64, (Option<usize>, Event)>; 2],
    recent_since_ms: i64,
}

/// Records are repeated or taken back within this time.
const RECENT_MS: i64 = 10 * DAY_MS;

/// A row whose fields are found by name.
struct Named<'a>(&'a Catalog, Row<'a>);

impl<'a> Named<'a> {
    fn get(&self, field: &str) -> Value<'a> {
        self.0
            .table_at(self.1.table())
            .field(field)
            .map_or(Value::Null, |field| self.1.get(field.id))
    }
    fn text(&self, field: &str) -> Option<&'a str> {
        self.get(field).text()
    }
    fn number(&self, field: &str) -> Option<f64> {
        self.get(field).number()
    }
    fn time(&self, field: &str) -> Option<i64> {
        match self.get(field) {
            Value::Time(at_ms) => Some(at_ms),
            _ => None,
        }
    }
    fn list(&self, field: &str) -> impl Iterator<Item = &'a str> {
        let list = match self.get(field) {
            Value::List(list) => Some(list.iter()),
            _ => None,
        };
        list.into_iter().flatten()
    }
}

fn peers(of: &mut Vec<Peers>, number: usize) -> &mut Peers {
    if of.len() <= number {
        of.resize_with(number + 1, Peers::default);
    }
    &mut of[number]
}

impl History {
    /// Takes the next row, in order of time.
    pub fn take(&mut self, catalog: &Catalog, row: Row<'_>) {
        let named = Named(catalog, row);
        let table = catalog.table_at(row.table()).name.as_str();
        match (table, row.operation()) {
            ("accounts", Operation::Upsert) => self.account(&named),
            ("contacts", Operation::Upsert) => self.contact(&named),
            ("leads", Operation::Upsert) => self.lead(&named),
            ("opportunities", Operation::Upsert) => self.opportunity(&named),
            ("accounts", Operation::Delete) => {
                if let Some(account) = self.account_of_key.get(row.key()) {
                    self.accounts[*account].gone = true;
                }
            }
            ("contacts" | "leads" | "opportunities", _) => {}
            (_, Operation::Upsert) => self.event(table, &named),
            (_, Operation::Retract) => self.take_back(&named),
            _ => {}
        }
    }

    /// The account of a key.
    pub fn find(&self, key: &str) -> Option<usize> {
        self.account_of_key.get(key).copied()
    }

    fn account(&mut self, row: &Named<'_>) {
        let key = row.1.key();
        let next = self.accounts.len();
        let number = *self.account_of_key.entry(key.to_owned()).or_insert(next);
        if number == next {
            self.accounts.push(Account {
                key: key.to_owned(),
                counts: vec![0; KINDS.len()],
                newest_ms: vec![None; KINDS.len()],
                decayed: vec![Decayed::default(); KINDS.len()],
                ..Account::default()
            });
        } else {
            let Account {
                industry, region, ..
            } = self.accounts[number];
            self.of_industry[industry].size -= 1.0;
            self.of_region[region].size -= 1.0;
        }
        if let Some(domain) = row.text("domain") {
            self.account_of_domain.insert(domain.to_owned(), number);
        }
        let technologies = row
            .list("tech_stack")
            .map(|t| self.technologies.of(Some(t)))
            .fold(0, |bits, t| bits | 1 << t.min(63));
        let (industry, region) = (
            self.industries.of(row.text("industry")),
            self.regions.of(row.text("region")),
        );
        let country = self.countries.of(row.text("country"));
        peers(&mut self.of_industry, industry).size += 1.0;
        peers(&mut self.of_region, region).size += 1.0;
        let account = &mut self.accounts[number];
        account.industry = industry;
        account.region = region;
        account.country = country;
        account.technologies = technologies;
        account.employees = row.number("employee_count").unwrap_or(f64::NAN);
        account.revenue = row.number("revenue").unwrap_or(f64::NAN);
        account.customer = row.text("status") == Some("Customer");
        account.created_ms = row.time("created_at");
        if let Some(into) = row
            .text("merged_into_id")
            .and_then(|key| self.find(key))
            .filter(|into| *into != number)
        {
            self.merge(number, into);
        }
    }

    fn merge(&mut self, from: usize, into: usize) {
        self.account_of_key
            .insert(self.accounts[from].key.clone(), into);
        self.accounts[from].gone = true;
        for person in std::mem::take(&mut self.accounts[from].people) {
            self.people[person as usize].account = None;
            self.settle(person, Some(into));
        }
        for event in std::mem::take(&mut self.accounts[from].events) {
            self.post(into, event, 1.0);
        }
        let deals = std::mem::take(&mut self.accounts[from].deals);
        self.accounts[into].deals.extend(deals);
    }

    fn new_person(&mut self) -> u32 {
        self.people.push(Person::default());
        self.people.len() as u32 - 1
    }

    fn describe(&mut self, person: u32, row: &Named<'_>) {
        let department = self.departments.of(row.text("department"));
        let seniority = row
            .text("seniority")
            .and_then(|s| SENIORITIES.iter().position(|known| *known == s))
            .unwrap_or(0);
        let person = &mut self.people[person as usize];
        person.department = department;
        person.seniority = seniority as u8;
    }

    fn settle(&mut self, person: u32, account: Option<usize>) {
        let old = self.people[person as usize].account;
        if old == account || account.is_none() {
            return;
        }
        if let Some(old) = old {
            self.accounts[old].people.retain(|p| *p != person);
        }
        self.people[person as usize].account = account;
        if let Some(account) = account {
            self.accounts[account].people.push(person);
            for event in std::mem::take(&mut self.people[person as usize].strays) {
                self.post(account, event, 1.0);
            }
        }
    }

    fn matched(&self, row: &Named<'_>) -> Option<usize> {
        let by_key = ["account_id", "converted_account_id"]
            .into_iter()
            .find_map(|field| self.find(row.text(field)?));
        by_key.or_else(|| {
            self.account_of_domain
                .get(row.text("email")?.split_once('@')?.1)
                .copied()
        })
    }

    fn contact(&mut self, row: &Named<'_>) {
        let at_ms = row.1.known_ms();
        let known = self.person_of_contact.get(row.1.key()).copied();
        let as_lead = row
            .text("lead_id")
            .and_then(|lead| self.person_of_lead.get(lead).copied());
        let person = known.or(as_lead).unwrap_or_else(|| self.new_person());
        self.person_of_contact
            .insert(row.1.key().to_owned(), person);
        if let Some(same) = row
            .text("merged_into_id")
            .and_then(|key| self.person_of_contact.get(key).copied())
            .filter(|p| *p != person)
        {
            return self.same_person(row.1.key(), person, same);
        }
        self.describe(person, row);
        let (old, new) = (self.people[person as usize].account, self.matched(row));
        let told = row
            .text("previous_account_id")
            .and_then(|key| self.find(key))
            .filter(|_| known.is_none());
        self.settle(person, new);
        self.people[person as usize].is_contact = true;
        if let (Some(old), Some(new)) = (old.filter(|_| known.is_some()).or(told), new)
            && old != new
        {
            let from = &self.accounts[old];
            let from_customer = from.customer || !from.wins_ms.is_empty();
            let Person {
                seniority, done, ..
            } = &self.people[person as usize];
            let arrival = (
                at_ms,
                from_customer,
                *seniority,
                done[0].at(at_ms, &PERSON_TAUS)[1],
            );
            self.accounts[new].arrivals.push(arrival);
        }
    }

    fn lead(&mut self, row: &Named<'_>) {
        let known = self.person_of_lead.get(row.1.key()).copied();
        let as_contact = row
            .text("converted_contact_id")
            .and_then(|contact| self.person_of_contact.get(contact).copied());
        let person = known.or(as_contact).unwrap_or_else(|| self.new_person());
        self.person_of_lead.insert(row.1.key().to_owned(), person);
        if !self.people[person as usize].is_contact {
            self.describe(person, row);
            let account = self.matched(row);
            self.settle(person, account);
        }
        let status = row.text("status").and_then(|s| {
            crate::vocabulary::LEAD_STATUSES
                .iter()
                .position(|known| *known == s)
        });
        let person = &mut self.people[person as usize];
        person.lead_status = status.map_or(0, |status| status + 1);
        person.lead_since_ms = row.time("created_at").or(Some(row.1.known_ms()));
        person.points = row.number("point_score").unwrap_or(0.0);
        person.referred = row.text("referred_by_account_id").is_some();
    }

    fn opportunity(&mut self, row: &Named<'_>) {
        let Some(account) = row.text("account_id").and_then(|key| self.find(key)) else {
            return;
        };
        let at_ms = row.1.known_ms();
        let next = self.deals.len();
        let number = *self
            .deal_of_key
            .entry(row.1.key().to_owned())
            .or_insert(next);
        let stage = row
            .text("stage")
            .and_then(|stage| OPEN_STAGES.iter().position(|open| *open == stage));
        if number == next {
            self.deals.push(Deal {
                stage_since_ms: at_ms,
                ..Deal::default()
            });
            self.accounts[account].deals.push(number);
        }
        let contacts: Vec<u32> = row
            .list("contact_ids")
            .filter_map(|key| self.person_of_contact.get(key).copied())
            .collect();
        let deal = &mut self.deals[number];
        if deal.stage != stage {
            deal.stage = stage;
            deal.stage_since_ms = at_ms;
        }
        deal.opened_ms = row.time("created_at").unwrap_or(at_ms);
        deal.amount = row.number("amount").unwrap_or(0.0);
        deal.contacts = contacts;
        deal.expansion = row.text("type") == Some("Expansion");
    }

    /// A contact turned out to be another's second record.
    fn same_person(&mut self, key: &str, second: u32, first: u32) {
        self.person_of_contact.insert(key.to_owned(), first);
        if let Some(account) = self.people[second as usize].account.take() {
            self.accounts[account]
                .people
                .retain(|person| *person != second);
            self.accounts[account]
                .events
                .iter_mut()
                .filter(|e| e.person == second)
                .for_each(|e| e.person = first);
        }
    }

    fn event(&mut self, table: &str, row: &Named<'_>) {
        let Some((_, field)) = EVENT_TABLES.iter().find(|(t, _)| *t == table) else {
            return;
        };
        let Some(kind) = row.text(field).and_then(|value| kind(table, value)) else {
            return;
        };
        if row.1.known_ms() >= self.recent_since_ms + RECENT_MS {
            self.recent.swap(0, 1);
            self.recent[0].clear();
            self.recent_since_ms = row.1.known_ms();
        }
        let id = fingerprint(row.1.key());
        if self.recent.iter().any(|recent| recent.contains_key(&id)) {
            return;
        }
        let contact = || {
            row.text("contact_id")
                .and_then(|key| self.person_of_contact.get(key).copied())
        };
        let lead = || {
            row.text("lead_id")
                .and_then(|key| self.person_of_lead.get(key).copied())
        };
        let person = contact().or_else(lead);
        let of_person = person.and_then(|p| self.people[p as usize].account);
        let account = row
            .text("account_id")
            .and_then(|key| self.find(key))
            .or(of_person);
        let sentiment = row.number("sentiment").map(|s| s as f32);
        let event = Event {
            at_ms: row.1.event_ms(),
            kind: kind as u8,
            person: person.unwrap_or(NOBODY),
            sentiment,
        };
        self.recent[0].insert(id, (account, event));
        match (account, person) {
            (Some(account), _) => self.post(account, event, 1.0),
            (None, Some(person)) => self.people[person as usize].strays.push(event),
            (None, None) => {}
        }
    }

    fn take_back(&mut self, row: &Named<'_>) {
        let id = fingerprint(row.1.key());
        if let Some((Some(account), event)) =
            self.recent.iter_mut().find_map(|recent| recent.remove(&id))
        {
            self.post(account, event, -1.0);
        }
    }

    /// Enters an event at an account (weight 1), or takes it out again (−1).
    fn post(&mut self, number: usize, event: Event, weight: f64) {
        let Event {
            at_ms,
            kind,
            person,
            sentiment,
        } = event;
        let kind = usize::from(kind);
        let (_, value, level, high) = KINDS[kind];
        if person != NOBODY {
            let done = &mut self.people[person as usize].done;
            done[0].add(at_ms, weight, &PERSON_TAUS);
            if high {
                done[1].add(at_ms, weight, &PERSON_TAUS);
            }
        }
        let account = &mut self.accounts[number];
        let at = account.events.partition_point(|e| e.at_ms <= at_ms);
        if weight > 0.0 {
            account.events.insert(at, event);
            account.counts[kind] += 1;
            account.newest_ms[kind] = account.newest_ms[kind].max(Some(at_ms));
        } else if let Some(at) = account.events[..at]
            .iter()
            .rposition(|e| e.at_ms == at_ms && usize::from(e.kind) == kind)
        {
            account.events.remove(at);
            account.counts[kind] -= 1;
            account.newest_ms[kind] = account
                .events
                .iter()
                .rev()
                .find(|e| usize::from(e.kind) == kind)
                .map(|e| e.at_ms);
        }
        account.decayed[kind].add(at_ms, weight, &TAUS);
        if level > 0 {
            account.level[0].add(at_ms, weight * f64::from(level), &[30.0]);
            account.level[1].add(at_ms, weight, &[30.0]);
        }
        if let Some(step) = step(level).filter(|_| weight > 0.0)
            && (step == 0
                || account.steps_ms[step - 1]
                    .is_some_and(|before| (0..=STEP_WINDOW_MS).contains(&(at_ms - before))))
        {
            account.steps_ms[step] = account.steps_ms[step].max(Some(at_ms));
        }
        if let Some(sentiment) = sentiment {
            account.sentiment[0].add(at_ms, weight * f64::from(sentiment), &[30.0]);
            account.sentiment[1].add(at_ms, weight, &[30.0]);
        }
        match value {
            WON => account.wins_ms.push(at_ms),
            LOST => account.losses_ms.push(at_ms),
            _ => {}
        }
        let (industry, region) = (account.industry, account.region);
        for peers in [&mut self.of_industry[industry], &mut self.of_region[region]] {
            match value {
                WON => peers.wins.add(at_ms, weight, &PEER_TAUS),
                "Discovery" => peers.opened.add(at_ms, weight, &PEER_TAUS),
                _ if high => peers.intent.add(at_ms, weight, &PEER_TAUS),
                _ => {}
            }
        }
    }

    /// True for executives.
    pub fn is_executive(&self, person: u32) -> bool {
        self.people
            .get(person as usize)
            .is_some_and(|p| p.seniority >= EXECUTIVE)
    }
}

fn fingerprint(key: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}
