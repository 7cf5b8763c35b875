//! Labels of random targets over random histories equal what a direct reading of the rows gives: in
//! any order, with events taken back, with rows known late, and as far as known by any moment.

use leadpulse_pql::Plan;
use leadpulse_schema::{Comparison, Operation, RowBatch, Value};
use proptest::prelude::*;

use super::Label;
use super::market::{at_day, catalog, labels_known_by, planned, push_as};

/// An invoice. Times are in quarters of days, so that they meet the ends of windows.
#[derive(Clone, Debug)]
struct Invoice {
    account: u32,
    key: u8,
    at: u32,
    known_after: u32,
    amount: Option<i32>,
    sku: Option<&'static str>,
}

/// The invoice of this account and key is taken back, known at this quarter of a day.
#[derive(Clone, Debug)]
struct Retraction {
    account: u32,
    key: u8,
    known_at: u32,
}

fn invoices() -> impl Strategy<Value = Vec<Invoice>> {
    let sku = prop::sample::select(vec![None, Some("A1"), Some("A2"), Some("B1")]);
    let late = prop_oneof![3 => Just(0_u32), 1 => 0..120_u32];
    let invoice = (
        0..2_u32,
        0..24_u8,
        0..160_u32,
        late,
        prop::option::weighted(0.8, -3..4_i32),
        sku,
    )
        .prop_map(|(account, key, at, known_after, amount, sku)| Invoice {
            account,
            key,
            at,
            known_after,
            amount,
            sku,
        });
    prop::collection::vec(invoice, 0..30)
}

fn retractions() -> impl Strategy<Value = Vec<Retraction>> {
    let retraction =
        (0..2_u32, 0..24_u8, 0..280_u32).prop_map(|(account, key, known_at)| Retraction {
            account,
            key,
            known_at,
        });
    prop::collection::vec(retraction, 0..8)
}

/// A condition on an invoice, with its meaning.
#[derive(Clone, Debug)]
enum Filter {
    Amount(Comparison, i32),
    Sku { negated: bool, is: &'static str },
    StartsWith { negated: bool, start: &'static str },
    NoAmount { negated: bool },
    Not(Box<Filter>),
    And(Box<Filter>, Box<Filter>),
    Or(Box<Filter>, Box<Filter>),
}

fn filter() -> impl Strategy<Value = Filter> {
    let leaf = prop_oneof![
        (comparison(), -2..3_i32)
            .prop_map(|(comparison, amount)| Filter::Amount(comparison, amount)),
        (any::<bool>(), prop::sample::select(vec!["A1", "B1"]))
            .prop_map(|(negated, is)| Filter::Sku { negated, is }),
        (any::<bool>(), prop::sample::select(vec!["A", "B"]))
            .prop_map(|(negated, start)| Filter::StartsWith { negated, start }),
        any::<bool>().prop_map(|negated| Filter::NoAmount { negated }),
    ];
    leaf.prop_recursive(2, 6, 2, |inner| {
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            inner.prop_map(|filter| Filter::Not(Box::new(filter))),
            pair.clone()
                .prop_map(|(a, b)| Filter::And(Box::new(a), Box::new(b))),
            pair.prop_map(|(a, b)| Filter::Or(Box::new(a), Box::new(b))),
        ]
    })
}

impl Filter {
    fn text(&self) -> String {
        let not = |negated: &bool| if *negated { "NOT " } else { "" };
        match self {
            Filter::Amount(comparison, amount) => {
                format!("invoices.amount {} {amount}", sign(*comparison))
            }
            Filter::Sku { negated, is } => format!("invoices.sku {}IN ('{is}', 'C')", not(negated)),
            Filter::StartsWith { negated, start } => {
                format!("invoices.sku {}STARTS WITH '{start}'", not(negated))
            }
            Filter::NoAmount { negated } => format!("invoices.amount IS {}NULL", not(negated)),
            Filter::Not(inner) => format!("NOT ({})", inner.text()),
            Filter::And(a, b) => format!("({}) AND ({})", a.text(), b.text()),
            Filter::Or(a, b) => format!("({}) OR ({})", a.text(), b.text()),
        }
    }
    fn holds(&self, row: &Invoice) -> bool {
        match self {
            Filter::Amount(comparison, amount) => row
                .amount
                .is_some_and(|own| compare(f64::from(own), *comparison, f64::from(*amount))),
            Filter::Sku { negated, is } => row.sku.is_some_and(|sku| (sku == *is) != *negated),
            Filter::StartsWith { negated, start } => row
                .sku
                .is_some_and(|sku| sku.starts_with(start) != *negated),
            Filter::NoAmount { negated } => row.amount.is_none() != *negated,
            Filter::Not(inner) => !inner.holds(row),
            Filter::And(a, b) => a.holds(row) && b.holds(row),
            Filter::Or(a, b) => a.holds(row) || b.holds(row),
        }
    }
}

fn comparison() -> impl Strategy<Value = Comparison> {
    use Comparison::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual, NotEqual};
    prop::sample::select(vec![
        Equal,
        NotEqual,
        Less,
        LessOrEqual,
        Greater,
        GreaterOrEqual,
    ])
}

fn compare(a: f64, comparison: Comparison, b: f64) -> bool {
    match comparison {
        Comparison::Equal => a == b,
        Comparison::NotEqual => a != b,
        Comparison::Less => a < b,
        Comparison::LessOrEqual => a <= b,
        Comparison::Greater => a > b,
        Comparison::GreaterOrEqual => a >= b,
    }
}

/// An aggregate over the invoices.
#[derive(Clone, Debug)]
struct Counted {
    what: &'static str,
    filter: Option<Filter>,
    start_days: i64,
    length_days: i64,
    in_hours: bool,
}

const WHATS: [&str; 7] = [
    "COUNT(invoices.*",
    "COUNT(invoices.amount",
    "COUNT_DISTINCT(invoices.sku",
    "SUM(invoices.amount",
    "AVG(invoices.amount",
    "MIN(invoices.amount",
    "MAX(invoices.amount",
];

fn counted() -> impl Strategy<Value = Counted> {
    (
        prop::sample::select(WHATS.to_vec()),
        prop::option::of(filter()),
        prop_oneof![2 => Just(0_i64), 1 => 0..10_i64],
        1..30_i64,
        any::<bool>(),
    )
        .prop_map(
            |(what, filter, start_days, length_days, in_hours)| Counted {
                what,
                filter,
                start_days,
                length_days,
                in_hours,
            },
        )
}

/// The rows of one account after an anchor, as far as known. All in quarters of days.
struct Known<'a> {
    invoices: &'a [Invoice],
    retractions: &'a [Retraction],
    account: u32,
    anchor: u32,
    known_until: u32,
}

impl Counted {
    fn text(&self) -> String {
        let filter = self
            .filter
            .as_ref()
            .map_or_else(String::new, |filter| format!(" WHERE {}", filter.text()));
        let (times, unit) = if self.in_hours {
            (24, "hours")
        } else {
            (1, "days")
        };
        format!(
            "{}{filter}, {}, {}, {unit})",
            self.what,
            self.start_days * times,
            (self.start_days + self.length_days) * times
        )
    }
    /// The rows in the window that count.
    fn rows<'a>(&self, known: &Known<'a>) -> Vec<&'a Invoice> {
        let after = i64::from(known.anchor) + 4 * self.start_days;
        let until = after + 4 * self.length_days;
        let taken_back = |row: &Invoice| {
            let mut retractions = known.retractions.iter();
            retractions.any(|r| r.key == row.key && r.known_at <= known.known_until)
        };
        known
            .invoices
            .iter()
            .filter(|row| {
                row.account == known.account
                    && i64::from(row.at) > after
                    && i64::from(row.at) <= until
            })
            .filter(|row| row.at + row.known_after <= known.known_until && !taken_back(row))
            .filter(|row| self.filter.as_ref().is_none_or(|filter| filter.holds(row)))
            .collect()
    }
    fn value(&self, known: &Known<'_>) -> Option<f64> {
        let rows = self.rows(known);
        let amounts: Vec<f64> = rows
            .iter()
            .filter_map(|row| row.amount)
            .map(f64::from)
            .collect();
        let sum: f64 = amounts.iter().sum();
        match self.what {
            "COUNT(invoices.*" => Some(rows.len() as f64),
            "COUNT(invoices.amount" => Some(amounts.len() as f64),
            "COUNT_DISTINCT(invoices.sku" => Some(
                rows.iter()
                    .filter_map(|row| row.sku)
                    .collect::<std::collections::BTreeSet<_>>()
                    .len() as f64,
            ),
            "SUM(invoices.amount" => Some(sum),
            "AVG(invoices.amount" => (!amounts.is_empty()).then(|| sum / amounts.len() as f64),
            "MIN(invoices.amount" => amounts.into_iter().reduce(f64::min),
            _ => amounts.into_iter().reduce(f64::max),
        }
    }
}

/// A condition over counts.
#[derive(Clone, Debug)]
enum Target {
    Compare(Counted, Comparison, i32),
    In(Counted, i32, i32),
    /// LIST_DISTINCT of the articles of the counted rows.
    Lists {
        counted: Counted,
        negated: bool,
        sku: &'static str,
    },
    Null(Counted),
    Not(Box<Target>),
    And(Box<Target>, Box<Target>),
    Or(Box<Target>, Box<Target>),
}

fn target() -> impl Strategy<Value = Target> {
    // What counts can be is never in question: comparisons with 1 or more are sometimes true.
    let leaf = prop_oneof![
        4 => (counted(), comparison(), 1..4_i32).prop_map(|(counted, comparison, literal)| Target::Compare(counted, comparison, literal)),
        1 => (counted(), -1..3_i32, 0..3_i32).prop_map(|(counted, a, b)| Target::In(counted, a, b)),
        1 => (counted(), any::<bool>(), prop::sample::select(vec!["A1", "B1"]))
            .prop_map(|(counted, negated, sku)| Target::Lists { counted, negated, sku }),
        1 => counted().prop_filter("never null", |c| ["AVG", "MIN", "MAX"].iter().any(|f| c.what.starts_with(f))).prop_map(Target::Null),
    ];
    leaf.prop_recursive(3, 8, 2, |inner| {
        let pair = (inner.clone(), inner.clone());
        prop_oneof![
            inner.prop_map(|target| Target::Not(Box::new(target))),
            pair.clone()
                .prop_map(|(a, b)| Target::And(Box::new(a), Box::new(b))),
            pair.prop_map(|(a, b)| Target::Or(Box::new(a), Box::new(b))),
        ]
    })
}

impl Target {
    fn text(&self) -> String {
        match self {
            Target::Compare(counted, comparison, literal) => {
                format!("{} {} {literal}", counted.text(), sign(*comparison))
            }
            Target::In(counted, a, b) => format!("{} IN ({a}, {b})", counted.text()),
            Target::Lists {
                counted,
                negated,
                sku,
            } => {
                let what = "LIST_DISTINCT(invoices.sku";
                let list = Counted {
                    what,
                    ..counted.clone()
                };
                let not = if *negated { "NOT " } else { "" };
                format!("({}) {not}CONTAINS '{sku}'", list.text())
            }
            Target::Null(counted) => format!("{} IS NULL", counted.text()),
            Target::Not(inner) => format!("NOT ({})", inner.text()),
            Target::And(a, b) => format!("({}) AND ({})", a.text(), b.text()),
            Target::Or(a, b) => format!("({}) OR ({})", a.text(), b.text()),
        }
    }
    fn truth(&self, known: &Known<'_>) -> Option<bool> {
        match self {
            Target::Compare(counted, comparison, literal) => counted
                .value(known)
                .map(|v| compare(v, *comparison, f64::from(*literal))),
            Target::In(counted, a, b) => counted
                .value(known)
                .map(|v| v == f64::from(*a) || v == f64::from(*b)),
            Target::Lists {
                counted,
                negated,
                sku,
            } => {
                let is_listed = counted.rows(known).iter().any(|row| row.sku == Some(*sku));
                Some(is_listed != *negated)
            }
            Target::Null(counted) => Some(counted.value(known).is_none()),
            Target::Not(inner) => inner.truth(known).map(|truth| !truth),
            Target::And(a, b) => match (a.truth(known), b.truth(known)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Target::Or(a, b) => match (a.truth(known), b.truth(known)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
        }
    }
}

/// All rows, invoices first.
fn batch(invoices: &[Invoice], retractions: &[Retraction]) -> RowBatch {
    let catalog = catalog();
    let mut batch = RowBatch::new();
    let day = |quarters: u32| f64::from(quarters) / 4.0;
    let mut push = |operation,
                    account: u32,
                    key: u8,
                    at: Value<'_>,
                    known: u32,
                    amount: Option<i32>,
                    sku: Option<&str>| {
        let (key, account) = (key.to_string(), account.to_string());
        let values = [
            ("invoice", Value::Text(&key)),
            ("account_id", Value::Text(&account)),
            ("at", at),
            (
                "amount",
                amount.map_or(Value::Null, |amount| Value::Double(f64::from(amount))),
            ),
            ("sku", sku.map_or(Value::Null, Value::Text)),
        ];
        push_as(
            operation,
            &mut batch,
            &catalog,
            "invoices",
            day(known),
            &values,
        );
    };
    for row in invoices {
        push(
            Operation::Upsert,
            row.account,
            row.key,
            Value::Time(at_day(day(row.at))),
            row.at + row.known_after,
            row.amount,
            row.sku,
        );
    }
    for row in retractions {
        // What a retraction says besides table and key does not matter.
        push(
            Operation::Retract,
            row.account,
            row.key,
            Value::Time(0),
            row.known_at,
            Some(99),
            None,
        );
    }
    batch
}

proptest! {
    #[test]
    fn conditions_and_numbers_equal_a_direct_reading(
        invoices in invoices(),
        retractions in retractions(),
        target in target(),
        number in counted(),
        anchor in 0..160_u32,
        known_until in 0..400_u32,
        shuffle in any::<prop::sample::Index>(),
    ) {
        let batch = batch(&invoices, &retractions);
        let mut order: Vec<usize> = (0..batch.len()).collect();
        if !order.is_empty() {
            let turn = shuffle.index(order.len());
            order.rotate_left(turn);
            order.reverse();
        }
        let (Some(condition), Some(value)) = (read(&target.text()), read(&number.text())) else {
            return Err(TestCaseError::reject("a condition that is always or never true"));
        };
        let anchor_ms = at_day(f64::from(anchor) / 4.0);
        for account in 0..2 {
            for known_until in [known_until, u32::MAX] {
                let known = Known { invoices: &invoices, retractions: &retractions, account, anchor, known_until };
                let known_until_ms = if known_until == u32::MAX { i64::MAX } else { at_day(f64::from(known_until) / 4.0) };
                let expected = target.truth(&known).map_or(Label::Dropped, Label::Binary);
                prop_assert_eq!(labels_known_by(&condition, &batch, &order, known_until_ms).label(account, anchor_ms), expected, "{}", target.text());
                let expected = number.value(&known).map_or(Label::Dropped, Label::Value);
                prop_assert_eq!(labels_known_by(&value, &batch, &order, known_until_ms).label(account, anchor_ms), expected, "{}", number.text());
            }
        }
    }

    #[test]
    fn the_first_time_is_when_the_label_turns(
        invoices in invoices(),
        retractions in retractions(),
        filter in prop::option::of(filter()),
        more_than in 0..3_i32,
        anchor in 0..160_u32,
        known_until in 0..400_u32,
    ) {
        let batch = batch(&invoices, &retractions);
        let order: Vec<usize> = (0..batch.len()).rev().collect();
        let counted = |length_days| Counted { what: "COUNT(invoices.*", filter: filter.clone(), start_days: 0, length_days, in_hours: false };
        let Some(plan) = read(&format!("{} > {more_than}", counted(20).text())) else {
            return Err(TestCaseError::reject("a filter that is never true"));
        };
        let (anchor_ms, known_until_ms) = (at_day(f64::from(anchor) / 4.0), at_day(f64::from(known_until) / 4.0));
        let labels = labels_known_by(&plan, &batch, &order, known_until_ms);
        let known = Known { invoices: &invoices, retractions: &retractions, account: 0, anchor, known_until };
        // The invoice that makes it one more than asked.
        let mut times: Vec<u32> = invoices
            .iter()
            .filter(|row| Counted { length_days: 20, ..counted(20) }.value(&Known { invoices: std::slice::from_ref(row), ..known }) == Some(1.0))
            .map(|row| row.at)
            .collect();
        times.sort_unstable();
        let expected = times.get(more_than as usize).map(|at| at_day(f64::from(*at) / 4.0));
        prop_assert_eq!(labels.first_time_true(0, anchor_ms), expected);
        prop_assert_eq!(labels.label(0, anchor_ms), Label::Binary(expected.is_some()));
    }
}

/// The plan of a target, which reads the same again from its own text; `None` for a condition that is
/// refused as always or never true.
fn read(text: &str) -> Option<Plan> {
    let query = format!("PREDICT {text} FOR accounts");
    let plan = match planned(&query) {
        Ok(plan) => plan,
        Err(fault) if fault.message.contains("these parts together") => return None,
        Err(fault) => panic!("{}", fault.render(&query)),
    };
    let again = planned(&plan.text).unwrap_or_else(|f| panic!("{}", f.render(&plan.text)));
    assert_eq!((&again.target, &again.text), (&plan.target, &plan.text));
    Some(plan)
}

/// A comparison as queries spell it.
fn sign(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "=",
        Comparison::NotEqual => "!=",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
    }
}
