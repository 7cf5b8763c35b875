//! Faults on the way into the files: records that are late, repeated, taken back, lost, or entered
//! twice.
//!
//! The faults are independent of the hidden state.

use crate::knobs::LATEST_DAYS;
use crate::market::{DAY_MS, Market};
use crate::rows::{ACCOUNTS, FieldValue, RowDraft, RowOut};

/// An account's second record: a name, and one contact's second record.
#[derive(Clone, Debug)]
pub(crate) struct Shell {
    pub(crate) key: String,
    name: String,
    /// Index of the account that the record stands for.
    pub(crate) firm: usize,
    /// Index of the person entered with the record.
    pub(crate) contact: usize,
    pub(crate) is_merged: bool,
}

/// The way in which an engagement event is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventReport {
    /// The event happened, and may be late, repeated or lost.
    Ordinary,
    /// The event happened, and the product reports it at once.
    Prompt,
    /// The event did not happen; the record is taken back later.
    Mistaken,
}

impl Market {
    pub(crate) fn add_shell(&mut self, firm: usize, contact: usize) {
        let number = self.options.accounts + self.shells.len() + 1;
        let name = format!("{} (new)", self.firms[firm].name);
        self.shells.push(Shell {
            key: format!("A{number:05}"),
            name,
            firm,
            contact,
            is_merged: false,
        });
    }

    /// A version of an account's second record.
    pub(crate) fn push_shell(&mut self, shell: usize, at_ms: i64) {
        let shell = &self.shells[shell];
        let row = RowDraft::new(
            ACCOUNTS,
            "account_id",
            shell.key.clone(),
            "updated_at",
            at_ms,
        )
        .own_account()
        .set("name", shell.name.clone())
        .set("status", "Prospect")
        .set_some(
            "merged_into_id",
            shell.is_merged.then(|| self.firms[shell.firm].key.clone()),
        );
        self.outbox.push(row.finish());
    }

    /// Merges the second records that are found today.
    pub(crate) fn merge_duplicates(&mut self, day_ms: i64) {
        let merged = self.knobs.mess.merged_per_day;
        for shell in 0..self.shells.len() {
            if !self.shells[shell].is_merged && self.dice.mess.chance(merged) {
                self.shells[shell].is_merged = true;
                let at_ms = day_ms + self.dice.mess.evening_ms();
                self.push_shell(shell, at_ms);
            }
        }
        let mut at = 0;
        while at < self.duplicates.len() {
            if self.dice.mess.chance(merged) {
                let person = self.duplicates.swap_remove(at);
                let at_ms = day_ms + self.dice.mess.evening_ms();
                if let Some(duplicate) = &mut self.people[person].duplicate {
                    duplicate.is_merged = true;
                }
                self.push_duplicate(person, at_ms);
            } else {
                at += 1;
            }
        }
    }

    /// Hands an engagement event over for delivery.
    pub(crate) fn deliver(&mut self, row: RowOut, report: EventReport) {
        let mess = &self.knobs.mess;
        let dice = &mut self.dice.mess;
        match report {
            EventReport::Mistaken => {
                let days = 1 + dice.below(LATEST_DAYS);
                let mut back = row.clone();
                back.fields.push("retracted", FieldValue::Truth(true));
                self.outbox.push(row);
                self.postpone(back, days);
            }
            EventReport::Ordinary if dice.chance(mess.late_ratio) => {
                let days = 1 + dice.below(LATEST_DAYS);
                self.postpone(row, days);
            }
            _ => {
                if dice.chance(mess.repeated_ratio) {
                    let days = dice.below(LATEST_DAYS);
                    let again = row.clone();
                    self.postpone(again, days);
                }
                self.outbox.push(row);
            }
        }
    }

    /// Delivers a row a number of days later; for 0 days, a minute later.
    fn postpone(&mut self, mut row: RowOut, days: usize) {
        if days == 0 {
            row.known_ms += 60_000;
            self.outbox.push(row);
            return;
        }
        let midnight = row.known_ms.div_euclid(DAY_MS) * DAY_MS;
        row.known_ms = midnight + DAY_MS * days as i64 + self.dice.mess.time_of_day_ms();
        while self.pending.len() <= days {
            self.pending.push_back(Vec::new());
        }
        self.pending[days].push(row);
    }

    /// The rows of earlier days that are known today.
    pub(crate) fn deliver_pending(&mut self) {
        if let Some(rows) = self.pending.pop_front() {
            self.outbox.extend(rows);
        }
    }
}
