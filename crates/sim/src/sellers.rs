//! The seller's own people: who owns which record, by territory, and who leaves.
//!
//! No chance is drawn here, so that the market lives the same lives with and without owners.

use crate::firm::Firm;
use crate::market::{DAY_MS, Market};
use crate::rows::{RowDraft, RowOut, USERS};
use crate::vocabulary::{FAMILY_NAMES, FIRST_NAMES, REGIONS};

/// Segments of a region; each segment of each region is a territory.
const SEGMENTS: [&str; 2] = ["Commercial", "Enterprise"];
/// Fewest employees of an enterprise account.
const ENTERPRISE_EMPLOYEES: i64 = 1_000;
/// Sellers of a territory, who share its accounts.
const SELLERS: usize = 3;
/// People of a region: the manager, the one who works its leads, the sellers of both territories.
const PEOPLE: usize = 2 + SEGMENTS.len() * SELLERS;
/// Time zones of [`REGIONS`].
const TIME_ZONES: [&str; 4] = [
    "America/New_York",
    "Europe/London",
    "Asia/Singapore",
    "America/Sao_Paulo",
];
/// One of so many people leaves; records keep naming those who left, as in a real CRM.
const ONE_LEAVES_OF: usize = 7;
/// Day on which the first of them leaves, and the days from one to the next.
const FIRST_LEAVES_DAY: usize = 45;
const NEXT_LEAVES_DAYS: usize = 60;

/// The territory of an account.
pub(crate) fn territory(region: usize, employees: i64) -> String {
    format!("{} {}", REGIONS[region], SEGMENTS[segment(employees)])
}

/// Key of the seller who owns an account, its contacts and its opportunities.
pub(crate) fn account_owner(firm: &Firm) -> String {
    let turn = firm.key.bytes().map(usize::from).sum::<usize>() % SELLERS;
    key(firm.region * PEOPLE + 2 + segment(firm.employees) * SELLERS + turn)
}

/// Key of the person who works the leads of a region; leads without a known account are the first
/// region's.
pub(crate) fn lead_owner(region: Option<usize>) -> String {
    key(region.unwrap_or(0) * PEOPLE + 1)
}

fn segment(employees: i64) -> usize {
    usize::from(employees >= ENTERPRISE_EMPLOYEES)
}

fn key(person: usize) -> String {
    format!("U{:03}", person + 1)
}

/// The day on which a person leaves; `None` for one who stays.
fn leaves_on(person: usize) -> Option<i64> {
    let leavers = person / ONE_LEAVES_OF;
    (person % ONE_LEAVES_OF == ONE_LEAVES_OF - 1)
        .then_some((FIRST_LEAVES_DAY + leavers * NEXT_LEAVES_DAYS) as i64)
}

fn row(person: usize, is_active: bool, at_ms: i64) -> RowOut {
    let (region, place) = (person / PEOPLE, person % PEOPLE);
    let first = FIRST_NAMES[person * 5 % FIRST_NAMES.len()];
    let family = FAMILY_NAMES[person * 7 % FAMILY_NAMES.len()];
    let segment = place
        .checked_sub(2)
        .map(|seller| SEGMENTS[seller / SELLERS]);
    RowDraft::new(USERS, "user_id", key(person), "updated_at", at_ms)
        .set("name", format!("{first} {family}"))
        .set(
            "email",
            format!("{first}.{family}@seller.example").to_lowercase(),
        )
        .set_some("manager_id", (place > 0).then(|| key(region * PEOPLE)))
        .set_some(
            "territory",
            segment.map(|segment| format!("{} {segment}", REGIONS[region])),
        )
        .set("time_zone", TIME_ZONES[region])
        .set("active", is_active)
        .finish()
}

impl Market {
    /// The versions of the seller's people that become known on a day: all on the first, later
    /// those of the people who leave.
    pub(crate) fn change_sellers(&mut self, day: i64, day_ms: i64) {
        for person in 0..REGIONS.len() * PEOPLE {
            if day == 0 {
                self.outbox.push(row(person, true, day_ms));
            } else if leaves_on(person) == Some(day) {
                self.outbox.push(row(person, false, day_ms + DAY_MS / 2));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_and_managers_are_people_of_the_first_day() {
        let people = REGIONS.len() * PEOPLE;
        let keys: Vec<String> = (0..people).map(key).collect();
        for person in 0..people {
            let row = row(person, true, 0);
            if let Some(manager) = row.fields.text("manager_id") {
                assert!(keys.iter().any(|key| key == manager));
            }
        }
        let leads = (0..REGIONS.len()).map(|region| lead_owner(Some(region)));
        assert!(
            leads
                .chain([lead_owner(None)])
                .all(|owner| keys.contains(&owner))
        );
        let left = (0..people).filter_map(leaves_on).count();
        assert_eq!(left, people / ONE_LEAVES_OF);
    }
}
