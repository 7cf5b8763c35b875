//! Late, duplicate, future: the gate decides as one that remembers everything, yet holds only what could still come again.

use leadpulse_graph::{DAY_MS, Outcome, Tracking};
use leadpulse_schema::Role;
use proptest::prelude::*;

use crate::market::{Dice, Plain, Style, cases, crm, seeds, stream};
use crate::oracle::Gatekeeper;

proptest! {
    #![proptest_config(cases(96))]

    /// Rows come roughly in order and again at any later time, in partitions of one table or of all.
    #[test]
    fn a_forgotten_duplicate_is_late(seeds in seeds(150, 60), entropy in any::<u64>(), mixed in any::<bool>()) {
        let mut market = crm();
        market.options.late_horizon_ms = 2 * DAY_MS;
        let mut dice = Dice(entropy);
        let mut rows = stream(&market, Style { ties: true, wild: false }, &seeds);
        rows.retain(|r| market.catalog.table_at(r.table).role == Role::Event);
        rows.sort_by_cached_key(|r| r.time_ms + dice.below(3 * DAY_MS as u64) as i64);
        let mut again: Vec<Plain> = Vec::new();
        for row in &mut rows {
            // A row comes again where it came before: producers choose partitions by key.
            let number = row.key(&market.catalog).len() as u32 + u32::from(*row.key(&market.catalog).as_bytes().last().unwrap());
            row.partition = if mixed { number % 3 } else { u32::from(row.table.0) * 2 + number % 2 };
            again.push(row.clone());
            if dice.below(2) == 0 {
                let copy = again[dice.below(again.len() as u64) as usize].clone();
                again.push(copy);
            }
        }
        let mut graph = market.graph(Tracking::Off);
        let mut gatekeeper = Gatekeeper::default();
        let mut newest_ms = i64::MIN;
        for (i, row) in again.iter().enumerate() {
            let expected = gatekeeper.judge(&market, row);
            prop_assert_eq!(graph.apply(&market.batch(std::slice::from_ref(row))), vec![expected], "row {}: {:?}", i, row);
            if expected == Outcome::Accepted {
                newest_ms = newest_ms.max(row.time_ms);
                graph.advance(newest_ms);
            }
        }
    }
}

/// Fingerprints do not pile up: after a long time only those of the horizon and its day are held.
#[test]
fn fingerprints_are_forgotten() {
    let mut market = crm();
    market.options.late_horizon_ms = 2 * DAY_MS;
    let purchases = market.catalog.table("purchases").unwrap();
    let mut graph = market.graph(Tracking::Off);
    for day in 0..100_i64 {
        let time_ms = crate::market::START_MS + day * DAY_MS;
        let mut values = vec![crate::market::Datum::Null; purchases.fields.len()];
        let mut set = |name: &str, datum| values[purchases.field(name).unwrap().id.index()] = datum;
        set("purchase_id", crate::market::Datum::Text(format!("p{day}")));
        set("account_id", crate::market::Datum::Text("a".into()));
        set("at", crate::market::Datum::Time(time_ms));
        let row = Plain { table: purchases.id, delete: false, partition: 0, time_ms, known_ms: time_ms, values };
        assert_eq!(graph.apply(&market.batch(&[row])), vec![Outcome::Accepted]);
        graph.advance(time_ms);
        assert!(graph.size().fingerprints <= 4, "{} on day {day}", graph.size().fingerprints);
    }
}
