//! The moment of a number: no number depends on rows after the anchor, and only the season depends
//! on the calendar.

use leadpulse_graph::{DAY_MS, Graph, Tracking};
use leadpulse_schema::units::AsOf;
use proptest::prelude::*;

use crate::market::{Dice, Market, Plain, START_MS, Style, cases, crm, network, seeds, stream};
use crate::support::{encode_all, last_ms, plan_of};

/// Replays rows in order of known time up to an anchor, board by board.
fn replay(market: &Market, rows: &[Plain], graph: &mut Graph, anchor_ms: i64) -> usize {
    let known = rows.partition_point(|r| r.known_ms <= anchor_ms);
    for row in &rows[..known] {
        graph.advance(AsOf::from_ms(row.known_ms));
        graph.apply(&market.batch(std::slice::from_ref(row)), None);
    }
    graph.advance(AsOf::from_ms(anchor_ms));
    known
}

proptest! {
    #![proptest_config(cases(96))]

    /// Two histories with one past have one past score, and reading it leaves no trace in the
    /// future.
    #[test]
    fn the_future_changes_no_past(seeds in seeds(80, 60), hour in 0..60 * 24_i64, entropy in any::<u64>(), is_network in any::<bool>()) {
        let market = if is_network { network(true) } else { crm() };
        let plan = plan_of(&market);
        let mut rows = stream(&market, Style { ties: false, wild: false }, &seeds);
        rows.sort_by_key(|r| r.known_ms);
        let anchor_ms = START_MS + hour * 3_600_000;
        let end_ms = last_ms(&rows).max(anchor_ms) + DAY_MS;

        let mut graph = market.graph(Tracking::Off);
        let known = replay(&market, &rows, &mut graph, anchor_ms);
        let past = encode_all(&plan, &graph, anchor_ms);
        replay(&market, &rows[known..], &mut graph, end_ms);
        let read_between = encode_all(&plan, &graph, end_ms);

        let mut other_rows = rows.clone();
        let mut dice = Dice(entropy);
        for i in (known + 1..other_rows.len()).rev() {
            let j = known + dice.below((i - known + 1) as u64) as usize;
            let (a, b) = (other_rows[i].known_ms, other_rows[j].known_ms);
            other_rows.swap(i, j);
            (other_rows[i].known_ms, other_rows[j].known_ms) = (a, b);
        }
        let mut other = market.graph(Tracking::Off);
        prop_assert_eq!(replay(&market, &other_rows, &mut other, anchor_ms), known);
        prop_assert_eq!(&encode_all(&plan, &other, anchor_ms), &past);

        let mut never_read = market.graph(Tracking::Off);
        replay(&market, &rows, &mut never_read, anchor_ms);
        replay(&market, &rows[known..], &mut never_read, end_ms);
        prop_assert_eq!(encode_all(&plan, &never_read, end_ms), read_between);
    }

    /// Whole days later all numbers are the same except the season, and except the weekday unless
    /// the days are whole weeks.
    #[test]
    fn only_season_and_weekday_depend_on_the_calendar(seeds in seeds(60, 100), days in -2000..2000_i64, weeks in any::<bool>(), is_network in any::<bool>()) {
        let market = if is_network { network(true) } else { crm() };
        let plan = plan_of(&market);
        let rows = stream(&market, Style { ties: true, wild: false }, &seeds);
        let delta_ms = if weeks { days / 7 * 7 } else { days } * DAY_MS;
        let encoded = |delta_ms: i64| {
            let mut graph = market.graph(Tracking::Off);
            let rows: Vec<Plain> = rows.iter().map(|r| r.shifted(delta_ms)).collect();
            for batch in rows.chunks(10) {
                graph.apply(&market.batch(batch), None);
                graph.advance(AsOf::from_ms(last_ms(&rows)));
            }
            let t_ms = last_ms(&rows) + DAY_MS;
            graph.advance(AsOf::from_ms(t_ms));
            encode_all(&plan, &graph, t_ms)
        };
        let is_compared = |name: &str| !name.starts_with("season/") && (delta_ms % (7 * DAY_MS) == 0 || !name.contains("/weekday_"));
        let layout = plan.layout();
        let (here, there) = (encoded(0), encoded(delta_ms));
        prop_assert_eq!(here.keys().collect::<Vec<_>>(), there.keys().collect::<Vec<_>>());
        for (cell, numbers) in &here {
            let mut rows = vec![(&layout.root, &numbers.root, &there[cell].root)];
            for (member, values) in &numbers.members {
                rows.push((&layout.members[member.0].columns, values, &there[cell].members[member]));
            }
            for (columns, a, b) in rows {
                for ((column, x), y) in columns.iter().zip(a).zip(b).filter(|((c, _), _)| is_compared(&c.name)) {
                    prop_assert!((x - y).abs() <= 1e-5 * x.abs().max(1.0), "{} of {}: {} {}", column.name, cell, x, y);
                }
            }
        }
    }
}
