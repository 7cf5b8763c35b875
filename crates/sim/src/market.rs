//! [`Market`]: the world, lived day by day.

use std::collections::{HashMap, VecDeque};

use crate::chance::{Dice, DiceStream};
use crate::error::SimError;
use crate::firm::Firm;
use crate::knobs::Knobs;
use crate::mess::Shell;
use crate::people::Person;
use crate::rates::Rates;
use crate::rows::{LEADS, RowOut};
use crate::state::{BuyingState, Destination, Motions, age_waves};
use crate::vocabulary::INDUSTRIES;

/// Milliseconds of a day. The simulator uses no other crate, so it has its own.
pub(crate) const DAY_MS: i64 = 86_400_000;

/// Size, length and seed of a market.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarketOptions {
    /// Number of accounts, 1 to 1,000,000.
    pub accounts: usize,
    /// Number of days, at least 1.
    pub days: u32,
    /// Seed of all chance: the same seed gives the same rows.
    pub seed: u64,
    /// Midnight (UTC) of the first day, milliseconds since 1970. A market that ends in the future
    /// has rows that a live deployment refuses, because they are ahead of its clock.
    pub start_ms: i64,
}

impl Default for MarketOptions {
    /// 300 accounts for 400 days from 2020-01-01, so that no row is ahead of a clock.
    fn default() -> Self {
        Self {
            accounts: 300,
            days: 400,
            seed: 1,
            start_ms: 1_577_836_800_000,
        }
    }
}

impl MarketOptions {
    fn check(&self) -> Result<(), SimError> {
        let refuse = |option, value: String, expected| {
            Err(SimError::Option {
                option,
                value,
                expected,
            })
        };
        if !(1..=1_000_000).contains(&self.accounts) {
            return refuse(
                "accounts",
                self.accounts.to_string(),
                "between 1 and 1,000,000",
            );
        }
        if self.days == 0 {
            return refuse("days", self.days.to_string(), "at least 1");
        }
        if self.start_ms.rem_euclid(DAY_MS) != 0 {
            return refuse(
                "start_ms",
                self.start_ms.to_string(),
                "midnight UTC, a multiple of 86,400,000",
            );
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
    pub(crate) moves: Dice,
    pub(crate) mess: Dice,
    pub(crate) strangers: Dice,
}

/// An event in the life of an account, to judge forecasts by. Not part of any row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Milestone {
    /// Key of the account.
    pub account: String,
    /// Moment, milliseconds since 1970 UTC.
    pub at_ms: i64,
}

/// A synthetic B2B market.
#[derive(Clone, Debug)]
pub struct Market {
    pub(crate) options: MarketOptions,
    pub(crate) knobs: Knobs,
    pub(crate) rates: Rates,
    pub(crate) dice: DiceSet,
    pub(crate) firms: Vec<Firm>,
    pub(crate) people: Vec<Person>,
    /// People from free-mail addresses who are still worked on.
    pub(crate) strangers: Vec<usize>,
    /// Second records of accounts that were entered twice.
    pub(crate) shells: Vec<Shell>,
    /// Contacts entered twice and not merged yet.
    pub(crate) duplicates: Vec<usize>,
    /// Strength of the push of recent purchases on the other accounts, by industry.
    pub(crate) waves: Vec<f64>,
    /// Number of accounts by industry.
    peers: Vec<u32>,
    /// Number of days lived.
    day: u32,
    pub(crate) leads_made: u64,
    pub(crate) deals_made: u64,
    pub(crate) changes_made: u64,
    pub(crate) events_made: u64,
    purchases: Vec<Milestone>,
    evaluations: Vec<Milestone>,
    /// The accounts of leads that will convert, where old events carry them.
    pub(crate) backfilled: HashMap<String, String>,
    /// The rows of the day so far.
    pub(crate) outbox: Vec<RowOut>,
    /// Rows known later, by days from today.
    pub(crate) pending: VecDeque<Vec<RowOut>>,
}

impl Market {
    /// A market before the first day.
    ///
    /// # Errors
    /// [`SimError::Option`] when an option is outside its range.
    pub fn new(options: MarketOptions, knobs: Knobs) -> Result<Self, SimError> {
        options.check()?;
        let dice = |stream| Dice::new(options.seed, stream);
        let mut market = Self {
            rates: Rates::new(&knobs),
            dice: DiceSet {
                birth: dice(DiceStream::Birth),
                fate: dice(DiceStream::Fate),
                engagement: dice(DiceStream::Engagement),
                deals: dice(DiceStream::Deals),
                people: dice(DiceStream::People),
                moves: dice(DiceStream::Moves),
                mess: dice(DiceStream::Mess),
                strangers: dice(DiceStream::Strangers),
            },
            firms: Vec::with_capacity(options.accounts),
            people: Vec::new(),
            strangers: Vec::new(),
            shells: Vec::new(),
            duplicates: Vec::new(),
            waves: vec![knobs.wave.start; INDUSTRIES.len()],
            peers: vec![0; INDUSTRIES.len()],
            day: 0,
            leads_made: 0,
            deals_made: 0,
            changes_made: 0,
            events_made: 0,
            purchases: Vec::new(),
            evaluations: Vec::new(),
            backfilled: match knobs.mess.backfilled {
                true => conversions(&options, &knobs)?,
                false => HashMap::new(),
            },
            outbox: Vec::new(),
            pending: VecDeque::new(),
            options,
            knobs,
        };
        for number in 0..market.options.accounts {
            let firm = Firm::born(
                number,
                market.options.start_ms,
                &market.knobs,
                &mut market.dice.birth,
            );
            market.peers[firm.industry] += 1;
            market.firms.push(firm);
            market.populate(number);
        }
        Ok(market)
    }

    /// The options of this market.
    pub fn options(&self) -> &MarketOptions {
        &self.options
    }

    /// The constants of this world.
    pub fn knobs(&self) -> &Knobs {
        &self.knobs
    }

    /// Number of days lived so far.
    pub fn days_lived(&self) -> u32 {
        self.day
    }

    /// Midnight (UTC) before the next day to live, milliseconds since 1970.
    pub fn next_day_ms(&self) -> i64 {
        self.options.start_ms + i64::from(self.day) * DAY_MS
    }

    /// The purchases so far, in order of time. The rows report them too.
    pub fn purchases(&self) -> &[Milestone] {
        &self.purchases
    }

    /// The moments at which accounts began to evaluate vendors. A good forecast notices them early;
    /// no row reports them.
    pub fn evaluations(&self) -> &[Milestone] {
        &self.evaluations
    }

    /// Lives one day and hands out the day's rows in the order in which they are known. Rows of one
    /// moment come in the order in which they were written. All rows are known in `[day start, day
    /// start + 24 h)`; some events happened up to [`crate::LATEST_DAYS`] days before. The first day
    /// starts with the accounts and contacts known by then.
    ///
    /// Returns false, without rows, once all days are lived.
    pub fn next_day(&mut self, sink: &mut dyn FnMut(RowOut)) -> bool {
        if self.day == self.options.days {
            return false;
        }
        let day_ms = self.next_day_ms();
        let day = i64::from(self.day);
        self.change_sellers(day, day_ms);
        if day == 0 {
            self.announce();
        }
        let day_factor = day_factor(&self.knobs, day_ms);
        let motions = Motions::new(&self.knobs, &self.waves);
        let mut purchases = vec![0.0; INDUSTRIES.len()];
        for firm in 0..self.firms.len() {
            self.engage(firm, day, day_ms, day_factor);
            self.work_leads(firm, day_ms);
            self.reveal_people(firm, day_ms);
            let this = &self.firms[firm];
            let motion = motions.of(
                this.industry,
                this.champion_until_day > day,
                this.fit,
                this.researcher,
            );
            let step = motion.live_a_day(this.state, &mut self.dice.fate);
            if step == Some(Destination::Purchase) {
                purchases[this.industry] += 1.0;
                let at_ms = day_ms + self.dice.deals.afternoon_ms();
                self.purchases.push(Milestone {
                    account: this.key.clone(),
                    at_ms,
                });
                self.purchase(firm, at_ms);
            } else {
                self.live_deal(firm, day_ms);
            }
            if let Some(destination) = step {
                let state = match destination {
                    Destination::State(state) => state,
                    Destination::Purchase => BuyingState::Dormant,
                };
                if state == BuyingState::Evaluating {
                    self.evaluations.push(Milestone {
                        account: self.firms[firm].key.clone(),
                        at_ms: day_ms + DAY_MS,
                    });
                }
                self.firms[firm].state = state;
                self.firms[firm].daily_rates = None;
            }
        }
        self.live_strangers(day_ms, day_factor);
        self.move_people(day, day_ms);
        self.merge_duplicates(day_ms);
        age_waves(&self.knobs, &mut self.waves, &self.peers, &purchases);
        self.deliver_pending();
        self.day += 1;

        let mut rows = std::mem::take(&mut self.outbox);
        rows.sort_by_key(|row| row.known_ms);
        rows.drain(..).for_each(sink);
        self.outbox = rows;
        true
    }

    fn announce(&mut self) {
        let start_ms = self.options.start_ms;
        self.outbox
            .extend(self.firms.iter().map(|firm| firm.row(start_ms)));
        (0..self.shells.len()).for_each(|shell| self.push_shell(shell, start_ms));
        self.announce_contacts();
    }
}

/// The accounts of the leads that convert by the end of a market: it is lived once for them alone.
fn conversions(
    options: &MarketOptions,
    knobs: &Knobs,
) -> Result<HashMap<String, String>, SimError> {
    let mut knobs = knobs.clone();
    knobs.mess.backfilled = false;
    let mut market = Market::new(options.clone(), knobs)?;
    let mut accounts = HashMap::new();
    let mut note = |row: RowOut| {
        let text = |field| row.fields.text(field).map(str::to_owned);
        if row.table == LEADS {
            accounts.extend(text("lead_id").zip(text("converted_account_id")));
        }
    };
    while market.next_day(&mut note) {}
    Ok(accounts)
}

/// Activity of people on a day, relative to a weekday.
pub(crate) fn day_factor(knobs: &Knobs, day_ms: i64) -> f64 {
    // 1970-01-01 was a Thursday.
    // 1970-01-01 was a Thursday.
    let is_weekend = (day_ms.div_euclid(DAY_MS) + 3).rem_euclid(7) >= 5;
    if is_weekend { knobs.weekend } else { 1.0 }
}
