//! Columns of the baselines: an account as of a moment.
//!
//! * Flat: firmographics, lifetime counts, recency, sums over 30 and 90 days of everything the
//!   account's people did and its deals went through. One table, as an account-based marketing tool
//!   exports it.
//! * Relational, further: decayed sums, recency by kind, distinct people, departments and
//!   executives, the strongest people, order and acceleration, own deals, leads and history, peers
//!   by industry, region and technology, people who came from customers.

use crate::history::{
    Account, DAY_MS, Event, History, NOBODY, PEER_TAUS, PERSON_TAUS, Peers, TAUS,
};
use crate::vocabulary::{EVENT_TABLES, KINDS, LEAD_STATUSES, OPEN_STAGES};

/// Industries, regions and technologies with columns of their own; the numbers are those of
/// [`crate::history::Names`].
const INDUSTRY_COLUMNS: usize = 12;
const REGION_COLUMNS: usize = 5;
const TECHNOLOGY_COLUMNS: usize = 14;
/// Length of "lately", days.
const SUMS_DAYS: [i64; 2] = [30, 90];
const COMMITTEE_DAYS: [i64; 2] = [14, 45];
const ORDER_DAYS: i64 = 120;

/// Figures of all accounts as of a moment, for columns that compare.
pub struct Moment<'a> {
    history: &'a History,
    at_ms: i64,
    /// By technology: accounts that use it, and their decayed wins.
    technologies: Vec<(f64, f64)>,
}

impl<'a> Moment<'a> {
    pub fn new(history: &'a History, at_ms: i64) -> Self {
        let mut technologies = vec![(0.0, 0.0); 64];
        for account in history.accounts.iter().filter(|account| !account.gone) {
            let wins = decayed_wins(account, at_ms);
            for (bit, (size, won)) in technologies.iter_mut().enumerate() {
                if account.technologies >> bit & 1 == 1 {
                    *size += 1.0;
                    *won += wins;
                }
            }
        }
        Self {
            history,
            at_ms,
            technologies,
        }
    }

    fn days_since(&self, at_ms: Option<i64>) -> f64 {
        at_ms.map_or(f64::NAN, |at_ms| {
            (self.at_ms - at_ms) as f64 / DAY_MS as f64
        })
    }

    /// Appends the columns of an account; returns how many of them are flat.
    pub fn describe(&self, number: usize, out: &mut Vec<f32>) -> usize {
        let account = &self.history.accounts[number];
        let start = out.len();
        let mut put = |value: f64| out.push(value as f32);
        self.firmographics(account, &mut put);
        self.totals(account, &mut put);
        let flat = out.len() - start;
        let mut put = |value: f64| out.push(value as f32);
        self.rhythm(account, &mut put);
        self.committee(account, &mut put);
        self.people(account, &mut put);
        self.order(account, &mut put);
        self.deals(account, &mut put);
        self.peers(account, &mut put);
        self.champions(account, &mut put);
        flat
    }

    fn firmographics(&self, account: &Account, put: &mut impl FnMut(f64)) {
        put(account.employees.ln_1p());
        put(account.revenue.ln_1p());
        let mut one_of = |number: usize, columns: usize| {
            (1..=columns).for_each(|i| put(f64::from(u8::from(number == i))))
        };
        one_of(account.industry, INDUSTRY_COLUMNS);
        one_of(account.region, REGION_COLUMNS);
        put(account.country as f64);
        (1..=TECHNOLOGY_COLUMNS).for_each(|bit| put((account.technologies >> bit & 1) as f64));
        put(f64::from(account.technologies.count_ones()));
        put(f64::from(u8::from(account.customer)));
        put(self.days_since(account.created_ms));
    }

    fn since(&self, account: &'a Account, days: i64) -> &'a [Event] {
        let first = account
            .events
            .partition_point(|e| e.at_ms <= self.at_ms - days * DAY_MS);
        &account.events[first..]
    }

    fn totals(&self, account: &'a Account, put: &mut impl FnMut(f64)) {
        account
            .counts
            .iter()
            .for_each(|count| put(f64::from(*count)));
        put(account.counts.iter().map(|c| f64::from(*c)).sum());
        put(self.days_since(account.newest_ms.iter().flatten().max().copied()));
        for (table, _) in EVENT_TABLES {
            let of_table = account
                .newest_ms
                .iter()
                .zip(KINDS)
                .filter(|(_, (t, ..))| *t == table);
            put(self.days_since(of_table.filter_map(|(newest, _)| *newest).max()));
        }
        for days in SUMS_DAYS {
            let mut sums = [0.0; KINDS.len()];
            let (mut all, mut high) = (0.0, 0.0);
            for event in self.since(account, days) {
                let kind = usize::from(event.kind);
                sums[kind] += 1.0;
                all += 1.0;
                high += f64::from(u8::from(KINDS[kind].3));
            }
            sums.into_iter().chain([all, high]).for_each(&mut *put);
        }
        let contacts = account
            .people
            .iter()
            .filter(|p| self.history.people[**p as usize].is_contact)
            .count();
        put(contacts as f64);
        put((account.people.len() - contacts) as f64);
    }

    /// Decayed sums and recency by kind; acceleration; sentiment.
    fn rhythm(&self, account: &Account, put: &mut impl FnMut(f64)) {
        let (mut all, mut high) = ([0.0; TAUS.len()], [0.0; TAUS.len()]);
        for (kind, decayed) in account.decayed.iter().enumerate() {
            let sums = decayed.at(self.at_ms, &TAUS);
            for (i, sum) in sums.into_iter().enumerate() {
                put(sum);
                all[i] += sum;
                high[i] += if KINDS[kind].3 { sum } else { 0.0 };
            }
            put(self.days_since(account.newest_ms[kind]));
        }
        for sums in [all, high] {
            sums.iter().for_each(|sum| put(*sum));
            put(((sums[1] / TAUS[1] + 0.01) / (sums[3] / TAUS[3] + 0.01)).ln());
            put(((sums[2] / TAUS[2] + 0.01) / (sums[4] / TAUS[4] + 0.01)).ln());
        }
        let in_14 = self.since(account, 14).len() as f64 / 14.0;
        let before = (self.since(account, 90).len() as f64 - 14.0 * in_14) / 76.0;
        put(((in_14 + 0.05) / (before + 0.05)).ln());
        let [felt, times] =
            [&account.sentiment[0], &account.sentiment[1]].map(|d| d.at(self.at_ms, &[30.0])[0]);
        put(felt);
        put(if times > 1e-6 { felt / times } else { f64::NAN });
    }

    /// Distinct people, departments and executives lately, of all events and of those of high
    /// intent.
    fn committee(&self, account: &'a Account, put: &mut impl FnMut(f64)) {
        for days in COMMITTEE_DAYS {
            for only_high in [false, true] {
                let mut people: Vec<u32> = self
                    .since(account, days)
                    .iter()
                    .filter(|e| e.person != NOBODY && (!only_high || KINDS[usize::from(e.kind)].3))
                    .map(|e| e.person)
                    .collect();
                people.sort_unstable();
                people.dedup();
                let departments = people.iter().fold(0_u64, |bits, p| {
                    bits | 1 << self.history.people[*p as usize].department.min(63)
                });
                put(people.len() as f64);
                put(f64::from(departments.count_ones()));
                put(people
                    .iter()
                    .filter(|p| self.history.is_executive(**p))
                    .count() as f64);
                put(people
                    .iter()
                    .map(|p| f64::from(self.history.people[*p as usize].seniority))
                    .fold(-1.0, f64::max));
            }
        }
    }

    /// The strongest people, who there is, and how leads stand.
    fn people(&self, account: &Account, put: &mut impl FnMut(f64)) {
        let of_account = || {
            account
                .people
                .iter()
                .map(|p| &self.history.people[*p as usize])
        };
        for high in 0..2 {
            for tau in 0..PERSON_TAUS.len() {
                let mut done: Vec<f64> = of_account()
                    .map(|p| p.done[high].at(self.at_ms, &PERSON_TAUS)[tau])
                    .collect();
                done.sort_by(|a, b| b.total_cmp(a));
                (0..3).for_each(|i| put(done.get(i).copied().unwrap_or(0.0)));
            }
        }
        let mut by_seniority = [0.0; 5];
        let mut departments = 0_u64;
        for person in of_account() {
            by_seniority[usize::from(person.seniority).min(4)] += 1.0;
            departments |= 1 << person.department.min(63);
        }
        by_seniority.iter().for_each(|count| put(*count));
        put(f64::from(departments.count_ones()));
        for status in 1..=LEAD_STATUSES.len() {
            put(of_account().filter(|p| p.lead_status == status).count() as f64);
        }
        put(of_account().map(|p| p.points).fold(0.0, f64::max));
        put(self.days_since(of_account().filter_map(|p| p.lead_since_ms).max()));
        put(of_account().filter(|p| p.referred).count() as f64);
    }

    /// Level on the way to a purchase, and its change.
    fn order(&self, account: &'a Account, put: &mut impl FnMut(f64)) {
        let levels = self
            .since(account, ORDER_DAYS)
            .iter()
            .map(|e| KINDS[usize::from(e.kind)].2)
            .filter(|level| *level > 0);
        let levels: Vec<u8> = levels.collect();
        let count = |wanted: fn(&[u8]) -> bool| {
            levels.windows(2).filter(|pair| wanted(pair)).count() as f64
        };
        let (up, down) = (
            count(|pair| pair[1] > pair[0]),
            count(|pair| pair[1] < pair[0]),
        );
        put(up);
        put(down);
        put((up + 1.0) / (down + 1.0));
        let [weighted, plain] =
            [&account.level[0], &account.level[1]].map(|d| d.at(self.at_ms, &[30.0])[0]);
        put(weighted);
        put(if plain > 1e-6 {
            weighted / plain
        } else {
            f64::NAN
        });
        let early: f64 = levels
            .iter()
            .take(levels.len() / 2)
            .map(|l| f64::from(*l))
            .sum::<f64>()
            / (levels.len() / 2).max(1) as f64;
        let late: f64 = levels
            .iter()
            .skip(levels.len() / 2)
            .map(|l| f64::from(*l))
            .sum::<f64>()
            / (levels.len().div_ceil(2)).max(1) as f64;
        put(late - early);
        account
            .steps_ms
            .iter()
            .for_each(|at_ms| put(self.days_since(*at_ms)));
    }

    /// The most advanced open deal; what became of earlier ones.
    fn deals(&self, account: &Account, put: &mut impl FnMut(f64)) {
        let open = || {
            account
                .deals
                .iter()
                .map(|d| &self.history.deals[*d])
                .filter(|deal| deal.stage.is_some())
        };
        put(open().count() as f64);
        match open().max_by_key(|deal| deal.stage) {
            Some(deal) => {
                put(deal.stage.map_or(f64::NAN, |stage| stage as f64));
                put(self.days_since(Some(deal.stage_since_ms)));
                put(self.days_since(Some(deal.opened_ms)));
                put(deal.amount.ln_1p());
                put(deal.contacts.len() as f64);
                put(deal
                    .contacts
                    .iter()
                    .map(|p| f64::from(self.history.people[*p as usize].seniority))
                    .fold(-1.0, f64::max));
                put(f64::from(u8::from(deal.expansion)));
            }
            None => (0..7).for_each(|_| put(f64::NAN)),
        }
        put(open()
            .filter_map(|deal| deal.stage)
            .max()
            .map_or(0.0, |stage| (stage + 1) as f64 / OPEN_STAGES.len() as f64));
        for ended in [&account.wins_ms, &account.losses_ms] {
            put(ended.len() as f64);
            put(self.days_since(ended.iter().max().copied()));
        }
        put(account.deals.len() as f64);
    }

    /// Peers, the account's own wins left out.
    fn peers(&self, account: &Account, put: &mut impl FnMut(f64)) {
        let own = own_wins(account, self.at_ms);
        for peers in [
            &self.history.of_industry[account.industry],
            &self.history.of_region[account.region],
        ] {
            let Peers {
                size,
                wins,
                opened,
                intent,
            } = peers;
            let size = (size - 1.0).max(1.0);
            let won = wins.at(self.at_ms, &PEER_TAUS);
            (0..PEER_TAUS.len()).for_each(|i| put(1000.0 * (won[i] - own[i]).max(0.0) / size));
            for decayed in [opened, intent] {
                decayed
                    .at(self.at_ms, &PEER_TAUS)
                    .iter()
                    .for_each(|sum| put(1000.0 * sum / size));
            }
            put(size);
        }
        let of_technologies = (0..64)
            .filter(|bit| account.technologies >> bit & 1 == 1)
            .map(|bit| {
                let (size, won) = self.technologies[bit];
                1000.0 * (won - own[0]) / (size - 1.0).max(1.0)
            });
        let rates: Vec<f64> = of_technologies.collect();
        put(rates.iter().copied().fold(f64::NAN, f64::max));
        put(rates.iter().sum::<f64>() / rates.len() as f64);
    }

    /// People who came from elsewhere, those from customers apart.
    fn champions(&self, account: &Account, put: &mut impl FnMut(f64)) {
        for from_customer in [true, false] {
            let arrivals = || {
                account
                    .arrivals
                    .iter()
                    .filter(move |(_, customer, ..)| *customer == from_customer)
            };
            let fade = |at_ms: i64| (-((self.at_ms - at_ms) as f64) / (120 * DAY_MS) as f64).exp();
            put(self.days_since(arrivals().map(|(at_ms, ..)| *at_ms).max()));
            put(arrivals().map(|(at_ms, ..)| fade(*at_ms)).sum());
            put(arrivals()
                .map(|(at_ms, _, seniority, _)| fade(*at_ms) * f64::from(*seniority + 1))
                .sum());
            put(arrivals()
                .map(|(at_ms, _, _, done)| fade(*at_ms) * done)
                .sum());
            put(arrivals().count() as f64);
        }
    }
}

fn own_wins(account: &Account, at_ms: i64) -> [f64; 2] {
    PEER_TAUS.map(|tau| {
        account
            .wins_ms
            .iter()
            .map(|won_ms| (-((at_ms - won_ms) as f64) / (tau * DAY_MS as f64)).exp())
            .sum()
    })
}

fn decayed_wins(account: &Account, at_ms: i64) -> f64 {
    own_wins(account, at_ms)[0]
}
