//! The world, lived day by day.

use crate::chance::{Dice, Stream};
use crate::error::SimError;
use crate::firm::Firm;
use crate::knobs::Knobs;
use crate::people::Person;
use crate::rows::RowOut;
use crate::state::{BuyingState, Destination, live_a_day};
use crate::vocabulary::INDUSTRIES;

const DAY_MS: i64 = 86_400_000;

/// How large a world, for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarketOptions {
    /// Number of accounts, 1 to 1,000,000.
    pub accounts: usize,
    /// Number of days, at least 1.
    pub days: u32,
    /// Seed: the same one gives the same rows.
    pub seed: u64,
    /// Midnight (UTC) of the first day, in milliseconds since 1970.
    pub start_ms: i64,
}

impl Default for MarketOptions {
    /// 300 accounts for 400 days from 2025-01-01.
    fn default() -> Self {
        Self { accounts: 300, days: 400, seed: 1, start_ms: 1_735_689_600_000 }
    }
}

impl MarketOptions {
    fn check(&self) -> Result<(), SimError> {
        let refuse = |option, value: String, expected| Err(SimError::Option { option, value, expected });
        if !(1..=1_000_000).contains(&self.accounts) {
            return refuse("accounts", self.accounts.to_string(), "between 1 and 1,000,000");
        }
        if self.days == 0 {
            return refuse("days", self.days.to_string(), "at least 1");
        }
        if self.start_ms.rem_euclid(DAY_MS) != 0 {
            return refuse("start_ms", self.start_ms.to_string(), "midnight UTC, a multiple of 86,400,000");
        }
        Ok(())
    }
}

/// One stream of chance for each concern.
#[derive(Clone, Debug)]
pub(crate) struct DiceSet {
    pub(crate) birth: Dice,
    pub(crate) fate: Dice,
    pub(crate) engagement: Dice,
    pub(crate) deals: Dice,
    pub(crate) people: Dice,
}

/// A synthetic B2B market.
#[derive(Clone, Debug)]
pub struct Market {
    pub(crate) options: MarketOptions,
    pub(crate) knobs: Knobs,
    pub(crate) dice: DiceSet,
    pub(crate) firms: Vec<Firm>,
    pub(crate) people: Vec<Person>,
    /// How strongly recent purchases in an industry push its others, by industry.
    waves: Vec<f64>,
    /// Accounts by industry.
    peers: Vec<u32>,
    /// Days lived.
    day: u32,
    pub(crate) leads_made: u64,
    pub(crate) deals_made: u64,
    pub(crate) changes_made: u64,
    pub(crate) events_made: u64,
    /// The rows of the day so far.
    pub(crate) outbox: Vec<RowOut>,
}

impl Market {
    /// A market as it is before its first day.
    ///
    /// # Errors
    /// [`SimError::Option`] when an option is outside its range.
    pub fn new(options: MarketOptions, knobs: Knobs) -> Result<Self, SimError> {
        options.check()?;
        let dice = |stream| Dice::new(options.seed, stream);
        let mut market = Self {
            dice: DiceSet {
                birth: dice(Stream::Birth),
                fate: dice(Stream::Fate),
                engagement: dice(Stream::Engagement),
                deals: dice(Stream::Deals),
                people: dice(Stream::People),
            },
            firms: Vec::with_capacity(options.accounts),
            people: Vec::new(),
            waves: vec![knobs.wave_start; INDUSTRIES.len()],
            peers: vec![0; INDUSTRIES.len()],
            day: 0,
            leads_made: 0,
            deals_made: 0,
            changes_made: 0,
            events_made: 0,
            outbox: Vec::new(),
            options,
            knobs,
        };
        for number in 0..market.options.accounts {
            let firm = Firm::born(number, market.options.start_ms, &market.knobs, &mut market.dice.birth);
            market.peers[firm.industry] += 1;
            market.firms.push(firm);
            market.populate(number);
        }
        Ok(market)
    }

    /// What it was made with.
    pub fn options(&self) -> &MarketOptions {
        &self.options
    }

    /// Days lived so far.
    pub fn days_lived(&self) -> u32 {
        self.day
    }

    /// Midnight (UTC) before the next day to live, in milliseconds since 1970.
    pub fn next_day_ms(&self) -> i64 {
        self.options.start_ms + i64::from(self.day) * DAY_MS
    }

    /// Lives one day and hands out its rows in order of time; rows of one moment in the order in which they were written.
    /// All rows lie in `[day start, day start + 24 h)`. The first day starts with the accounts and contacts known by then.
    ///
    /// Returns false, without rows, once all days are lived.
    pub fn next_day(&mut self, sink: &mut dyn FnMut(RowOut)) -> bool {
        if self.day == self.options.days {
            return false;
        }
        let day_ms = self.next_day_ms();
        let day = i64::from(self.day);
        if day == 0 {
            self.announce();
        }
        let day_factor = if is_weekend(day_ms) { self.knobs.weekend } else { 1.0 };
        let mut purchases = vec![0_u32; INDUSTRIES.len()];
        for firm in 0..self.firms.len() {
            self.engage(firm, day, day_ms, day_factor);
            self.live_people(firm, day_ms);
            let speed = self.firms[firm].speed(self.waves[self.firms[firm].industry], &self.knobs);
            let step = live_a_day(self.firms[firm].state, speed, &self.knobs.moves, &mut self.dice.fate);
            if step == Some(Destination::Purchase) {
                purchases[self.firms[firm].industry] += 1;
                let at_ms = day_ms + self.dice.fate.time_of_day_ms();
                self.purchase(firm, at_ms);
            } else {
                self.live_deal(firm, day_ms);
            }
            if let Some(destination) = step {
                self.firms[firm].state = match destination {
                    Destination::State(state) => state,
                    Destination::Purchase => BuyingState::Dormant,
                };
                self.firms[firm].daily_rate = None;
            }
        }
        self.move_people(day_ms);
        self.age_influences(&purchases);
        self.day += 1;

        let mut rows = std::mem::take(&mut self.outbox);
        rows.sort_by_key(|row| row.known_ms);
        rows.drain(..).for_each(sink);
        self.outbox = rows;
        true
    }

    fn announce(&mut self) {
        let start_ms = self.options.start_ms;
        self.outbox.extend(self.firms.iter().map(|firm| firm.row(start_ms)));
        self.announce_contacts();
    }

    /// Waves and champions fade; the day's purchases raise their industry's wave.
    fn age_influences(&mut self, purchases: &[u32]) {
        let fade = (-1.0 / self.knobs.wave_days).exp();
        for (industry, wave) in self.waves.iter_mut().enumerate() {
            let each = (self.knobs.wave_per_purchase / f64::from(self.peers[industry].max(1))).min(self.knobs.wave_per_purchase_cap);
            *wave = *wave * fade + each * f64::from(purchases[industry]);
        }
        let fade = (-1.0 / self.knobs.people.champion_days).exp();
        self.firms.iter_mut().for_each(|firm| firm.champion *= fade);
    }
}

fn is_weekend(day_ms: i64) -> bool {
    // 1970-01-01 was a Thursday.
    (day_ms.div_euclid(DAY_MS) + 3).rem_euclid(7) >= 5
}
