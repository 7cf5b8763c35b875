//! The grammar: what parses, how it prints, how faults are told.

use insta::assert_snapshot;
use proptest::prelude::*;

use crate::parse;
use crate::syntax::parser::MAX_QUERY_BYTES;
use crate::syntax::samples;

fn rejected(source: &str) -> String {
    parse(source).expect_err(source).render(source)
}

#[test]
fn each_construct_of_the_language_parses_and_prints() {
    for (source, printed) in [
        (
            "predict SUM(OPPORTUNITIES.AMOUNT, 0, 90, days) > 0 for each ACCOUNTS.ACCOUNT_ID",
            "PREDICT SUM(OPPORTUNITIES.AMOUNT, 0, 90, days) > 0 FOR EACH ACCOUNTS.ACCOUNT_ID",
        ),
        (
            "PREDICT BOOL(LEADS.STATUS = \"Closed Won\", 0, 90) FOR EACH LEADS.LEAD_ID WHERE LEADS.STATUS = 'MQL';",
            "PREDICT BOOL(LEADS.STATUS = 'Closed Won', 0, 90, days) FOR EACH LEADS.LEAD_ID WHERE LEADS.STATUS = 'MQL'",
        ),
        (
            "PREDICT will_convert # why not\nFOR contact\nUSING contact, company, activity, opportunity",
            "PREDICT will_convert FOR contact USING contact, company, activity, opportunity",
        ),
        (
            "PREDICT conversion FOR leads",
            "PREDICT conversion FOR leads",
        ),
        (
            "PREDICT LIST_DISTINCT(orders.item_id, 0, 2, WEEKS) RANK TOP 5 FOR EACH users.id",
            "PREDICT LIST_DISTINCT(orders.item_id, 0, 2, weeks) RANK TOP 5 FOR EACH users.id",
        ),
        (
            "PREDICT FIRST(a.b, 0, 1, months) CLASSIFY FOR u.id IN (1, 2)",
            "PREDICT FIRST(a.b, 0, 1, months) CLASSIFY FOR u.id IN (1, 2)",
        ),
        (
            "PREDICT SUM(a.b, 0, 7) FORECAST 4 TIMEFRAMES FOR EACH u.id",
            "PREDICT SUM(a.b, 0, 7, days) FORECAST 4 TIMEFRAMES FOR EACH u.id",
        ),
        (
            "PREDICT COUNT(a.* WHERE a.x NOT IS IN ('q', 'r') AND (a.y IS NOT NULL OR a.z IS TRUE), 0, 3, months) = 0 FOR EACH u.id \
             ASSUMING COUNT(m.*, 0, 7) > 2 WHERE COUNT(a.*, -INF, 0) > 0",
            "PREDICT COUNT(a.* WHERE a.x NOT IN ('q', 'r') AND (a.y IS NOT NULL OR a.z = TRUE), 0, 3, months) = 0 FOR EACH u.id \
             WHERE COUNT(a.*, -INF, 0, days) > 0 ASSUMING COUNT(m.*, 0, 7, days) > 2",
        ),
        (
            "PREDICT NOT (a.b LIKE 'x%' AND a.b NOT CONTAINS 'it''s') OR `my target` FOR EACH `for`.`each` WHERE u.n STARTS WITH 'a' AND u.n ENDS WITH 'z'",
            "PREDICT NOT (a.b LIKE 'x%' AND a.b NOT CONTAINS 'it''s') OR `my target` FOR EACH `for`.`each` WHERE u.n STARTS WITH 'a' AND u.n ENDS WITH 'z'",
        ),
        (
            "PREDICT t FOR EACH u.id WHERE u.at > 2025-01-01 AND u.at <= 2025-01-02 03:04:05 AND u.x >= -1.50 AND u.y != 1e3",
            "PREDICT t FOR EACH u.id WHERE u.at > 2025-01-01 AND u.at <= 2025-01-02 03:04:05 AND u.x >= -1.5 AND u.y != 1000.0",
        ),
    ] {
        let query = parse(source).unwrap_or_else(|e| panic!("{}", e.render(source)));
        assert_eq!(query.to_string(), printed);
        assert_eq!(parse(printed).unwrap(), query);
    }
}

#[test]
fn a_fault_names_place_and_way_out() {
    for (source, line, column, message, hint) in [
        (
            "PREDICT COUNT(a.*, 0, 9) > 0",
            1,
            29,
            "for whom",
            "FOR EACH accounts.account_id",
        ),
        (
            "EVALUATE PREDICT x FOR EACH a.b",
            1,
            1,
            "EVALUATE is not part",
            "leadpulse backtest",
        ),
        (
            "PREDICT x FOR EACH a.b RANK BY x",
            1,
            24,
            "no order",
            "ranked by score",
        ),
        (
            "PREDICT x Rank By y FOR EACH a.b",
            1,
            11,
            "no order",
            "ranked by score",
        ),
        (
            "PREDICT x\nFOR EACH a.b\n  where a.c == 1",
            3,
            13,
            "== is not",
            "write =",
        ),
        (
            "PREDICT x FOR EACH a.b WHERE a.c = MQL",
            1,
            36,
            "expected a constant",
            "'MQL'",
        ),
        (
            "PREDICT x FOR EACH a.b WHERE a.c = a.d",
            1,
            36,
            "expected a constant",
            "left only",
        ),
        (
            "PREDICT x FOR EACH a.b WHERE a.c = ‘MQL’",
            1,
            36,
            "unexpected character",
            "straight quotes",
        ),
        (
            "PREDICT x FOR EACH a.b WHERE a.c = NULL",
            1,
            36,
            "never true",
            "IS NULL",
        ),
        (
            "PREDICT x FOR EACH a.b WHERE a.c = 'MQL",
            1,
            36,
            "not closed",
            "close it",
        ),
        (
            "PREDICT x FOR EACH a.b WHERE a.c",
            1,
            30,
            "needs a comparison",
            "a.c = TRUE",
        ),
        (
            "PREDICT x FOR EACH a.b GROUP BY a.c",
            1,
            24,
            "found GROUP",
            "no joins",
        ),
        (
            "PREDICT COUNT(a.*, 0, 9, dais) > 0 FOR EACH a.b",
            1,
            26,
            "did you mean days",
            "seconds, minutes",
        ),
        (
            "PREDICT COUNT(a.*, 0, 1.5) > 0 FOR EACH a.b",
            1,
            23,
            "whole number",
            "a smaller one",
        ),
        (
            "PREDICT COUNT(a.*, 0) > 0 FOR EACH a.b",
            1,
            21,
            "expected ','",
            "start and an end",
        ),
        (
            "PREDICT COUNT(amount, 0, 9) > 0 FOR EACH a.b",
            1,
            15,
            "with their table",
            "COUNT(table.amount",
        ),
        (
            "PREDICT SUM(a.*, 0, 9) > 0 FOR EACH a.b",
            1,
            13,
            "needs a column",
            "only COUNT",
        ),
        (
            "PREDICT SUM(COUNT(a.*, 0, 9), 0, 9) > 0 FOR EACH a.b",
            1,
            13,
            "aggregate of an aggregate",
            "outside",
        ),
        (
            "PREDICT COUNTS(a.*, 0, 9) > 0 FOR EACH a.b",
            1,
            9,
            "did you mean COUNT?",
            "there are SUM",
        ),
        (
            "PREDICT 0 < COUNT(a.*, 0, 9) FOR EACH a.b",
            1,
            9,
            "found a number",
            "to the right",
        ),
        (
            "PREDICT x, y FOR EACH a.b",
            1,
            10,
            "expected FOR EACH",
            "one target",
        ),
        (
            "PREDICT x FOR EACH a.b WHERE a.c = 2025-02-30",
            1,
            36,
            "no date",
            "YYYY-MM-DD",
        ),
        (
            "PREDICT x FOR EACH each",
            1,
            20,
            "expected an entity table",
            "`each`",
        ),
        (
            "PREDICT x FOR EACH a.b WHERE a.c = 99999999999999999999",
            1,
            36,
            "too large",
            "9.2e18",
        ),
        (
            "PREDICT x FOR EACH a.b WHERE a.c = 1 WHERE a.d = 1",
            1,
            38,
            "twice",
            "AND",
        ),
        ("", 1, 1, "expected PREDICT", "for example"),
    ] {
        let fault = parse(source).expect_err(source);
        assert!(
            fault.message.contains(message),
            "{source}: {}",
            fault.message
        );
        assert!(fault.hint.contains(hint), "{source}: {}", fault.hint);
        assert_eq!(
            (fault.line, fault.column),
            (line, column),
            "{source}: {}",
            fault.message
        );
    }
}

#[test]
fn a_fault_is_shown_in_its_line() {
    assert_snapshot!(rejected("PREDICT COUNT(a.*, 0, 90, days) > 0\nFOR EACH a.b\nWHERE a.c = 'stätus' AND a.d = MQL # not quoted"), @r"
    Error: expected a constant, found MQL
       ,-[ query:3:32 ]
       |
     3 | WHERE a.c = 'stätus' AND a.d = MQL # not quoted
       |                                ^|^
       |                                 `--- here
       |
       | Help: text stands between quotes: 'MQL'
    ---'
    ");
}

#[test]
fn nesting_and_length_are_bounded() {
    let nested = format!(
        "PREDICT {}x{} FOR EACH a.b",
        "(".repeat(10_000),
        ")".repeat(10_000)
    );
    assert!(rejected(&nested[..MAX_QUERY_BYTES]).contains("nested deeper"));
    assert!(
        rejected(&format!("PREDICT {}x FOR EACH a.b", "NOT ".repeat(1000)))
            .contains("nested deeper")
    );
    assert!(rejected(&" ".repeat(MAX_QUERY_BYTES + 1)).contains("longer than"));
    let wide = format!(
        "PREDICT x FOR EACH a.b WHERE {} a.c = 1",
        "a.c = 1 AND ".repeat(1000)
    );
    assert_eq!(
        parse(&parse(&wide).unwrap().to_string()).unwrap(),
        parse(&wide).unwrap()
    );
}

proptest! {
    #[test]
    fn printed_queries_parse_to_the_same_tree(query in samples::query()) {
        let printed = query.to_string();
        match parse(&printed) {
            Ok(parsed) => prop_assert_eq!(parsed, query, "{}", printed),
            Err(fault) => prop_assert!(false, "{}", fault.render(&printed)),
        }
    }
}
