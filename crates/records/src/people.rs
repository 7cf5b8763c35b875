//! People and open deals of an account, from facts to records, and the names that action rules may
//! use.
//!
//! Fields are found by name where a record has a place for them (`department`, `seniority`,
//! `stage`, `amount`, `close_date`, `title`). The maps by field carry whatever the tables have.

use leadpulse_features::{CommitteeFact, MemberFact, OpenFact};
use leadpulse_policy::Vocabulary;
use leadpulse_schema::{Catalog, Feature, Role};

use crate::alert::{Committee, CommitteeMember, OpenOpportunity};
use crate::score::ScoreCommittee;

fn departments(people: &CommitteeFact) -> Vec<String> {
    people
        .by_field
        .get("department")
        .cloned()
        .unwrap_or_default()
}

/// The highest seniority, or the highest value of the only ordered field there is.
fn seniority_max(people: &CommitteeFact) -> Option<String> {
    let only = || {
        people
            .highest
            .values()
            .next()
            .filter(|_| people.highest.len() == 1)
    };
    people.highest.get("seniority").or_else(only).cloned()
}

/// Counts and attributes of the active people; `None` if nobody is active.
pub(crate) fn for_score(people: &CommitteeFact) -> Option<ScoreCommittee> {
    (people.active > 0).then(|| ScoreCommittee {
        active_contacts_14d: people.active as i32,
        departments: departments(people),
        seniority_max: seniority_max(people),
        by_field: people.by_field.clone(),
        highest: people.highest.clone(),
    })
}

/// The active people with their counts and attributes; `None` if nobody is active.
pub(crate) fn for_alert(people: &CommitteeFact) -> Option<Committee> {
    let ScoreCommittee {
        active_contacts_14d,
        departments,
        seniority_max,
        by_field,
        highest,
    } = for_score(people)?;
    let members = people.members.iter().map(member).collect();
    Some(Committee {
        active_contacts_14d,
        departments,
        seniority_max,
        by_field,
        highest,
        members,
    })
}

fn member(m: &MemberFact) -> CommitteeMember {
    CommitteeMember {
        contact_id: m.key.clone(),
        title: m.values.get("title").cloned(),
        department: m.values.get("department").cloned(),
        seniority: m.values.get("seniority").cloned(),
        last_activity_at: Some(m.last_event_ms),
        active_days_14d: m.active_days as i32,
    }
}

/// Converts the facts of an open deal.
pub(crate) fn open_opportunity(open: &OpenFact) -> OpenOpportunity {
    let value = |name: &str| open.values.get(name);
    OpenOpportunity {
        opportunity_id: open.key.clone(),
        stage: value("stage").cloned(),
        amount: value("amount").and_then(|amount| amount.parse().ok()),
        // Times are milliseconds; a date as text stays in its table.
        close_date: value("close_date").and_then(|time| time.parse().ok()),
    }
}

/// Names that action rules may use: explanation groups, and the category fields of member tables.
pub fn vocabulary<'a>(catalog: &Catalog, groups: impl Iterator<Item = &'a str>) -> Vocabulary {
    let mut known = Vocabulary {
        groups: groups.map(str::to_owned).collect(),
        ..Vocabulary::default()
    };
    for table in catalog
        .tables
        .iter()
        .filter(|table| table.role == Role::Member)
    {
        for field in table
            .fields
            .iter()
            .filter(|field| field.feature == Feature::Category)
        {
            known.categories.insert(field.name.clone());
            if field.ordinal && !field.values.is_empty() {
                known
                    .ordered
                    .entry(field.name.clone())
                    .or_default()
                    .push(field.values.clone());
            }
        }
    }
    known
}
