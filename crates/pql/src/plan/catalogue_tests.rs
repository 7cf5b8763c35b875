//! Every kind of plan, and every kind of fault, as its reader sees it.

use insta::assert_snapshot;

use crate::parse;
use crate::plan::market::{catalog, planned};

#[test]
fn plans_are_described_in_words() {
    let shown: Vec<String> = [
        "PREDICT SUM(opportunities.amount, 0, 90, days) > 0 FOR EACH ACCOUNTS.ACCOUNT_ID",
        "PREDICT BOOL(LEADS.STATUS = 'Closed Won', 0, 90, days) FOR EACH LEADS.LEAD_ID WHERE LEADS.STATUS = 'MQL'",
        "PREDICT will_convert FOR EACH contacts.contact_id WHERE contacts.created_at > '2025-01-01'",
        "PREDICT conversion FOR leads WHERE leads.status != 'Closed Lost'",
        "PREDICT will_convert FOR contact USING contact, company, activity, opportunity",
        "PREDICT revenue FOR accounts",
        "PREDICT AVG(invoices.amount WHERE invoices.sku LIKE 'A%', 1, 3, months) IN (1, 2.5) OR MAX(invoices.amount, 0, 2, weeks) IS NULL FOR accounts",
        "PREDICT COUNT_DISTINCT(invoices.sku, 0, 30) > 2 AND NOT MIN(invoices.amount, 0, 48, hours) < -1 FOR accounts \
         ASSUMING COUNT(activities.type, 0, 14) >= 1",
        "PREDICT COUNT(activities.type, 0, 90, minutes) > 3 FOR contacts ASSUMING COUNT(activities.* WHERE activities.type = 'demo', 0, 600, seconds) > 0",
        "PREDICT revenue > 100 FOR accounts WHERE (accounts.industry NOT IN ('A', 'B') OR accounts.employees IS NOT NULL) \
         AND COUNT(invoices.sku WHERE invoices.is_cancel = FALSE, -4, -1, weeks) > 0 AND NOT SUM(invoices.amount, -INF, 0) >= 10 \
         AND accounts.tech_stack CONTAINS 'kafka'",
    ]
    .iter()
    .map(|query| {
        let plan = planned(query).unwrap_or_else(|fault| panic!("{}", fault.render(query)));
        format!("{query}\n  {}", plan.describe(&catalog()).join("\n  "))
    })
    .collect();
    assert_snapshot!(shown.join("\n"));
}

/// Texts that are not of the language.
const UNPARSED: &[&str] = &[
    "",
    "SELECT 1",
    "EVALUATE PREDICT t FOR accounts",
    "PREDICT t RANK BY u FOR accounts",
    "PREDICT t FOR accounts RANK BY t",
    "PREDICT t FOR accounts ORDER BY t",
    "PREDICT t",
    "PREDICT t, u FOR accounts",
    "PREDICT revenue - 5 FOR accounts",
    "PREDICT revenue + 5 FOR accounts",
    "PREDICT revenue / 5 FOR accounts",
    "PREDICT t AS label FOR accounts",
    "PREDICT t FOR accounts, leads",
    "PREDICT t FOR accounts * 2",
    "PREDICT t FOR accounts LIMIT 5",
    "PREDICT t FOR accounts t",
    "PREDICT t FOR EACH",
    "PREDICT t FOR EACH accounts.",
    "PREDICT t FOR where",
    "PREDICT t FOR accounts WHERE a.b = 1 WHERE a.c = 1",
    "PREDICT t FOR accounts ASSUMING t ASSUMING u",
    "PREDICT t FOR accounts USING leads USING contacts",
    "PREDICT t FOR accounts USING leads,",
    "PREDICT t FORECAST TIMEFRAMES FOR accounts",
    "PREDICT t FORECAST 4 FOR accounts",
    "PREDICT t RANK TOP FOR accounts",
    "PREDICT t TOP 1.5 FOR accounts",
    "PREDICT BOOL(a.b = 1, 0, 9 FOR accounts",
    "PREDICT BOOL(a.b, 0, 9) FOR accounts",
    "PREDICT (t FOR accounts",
    "PREDICT a.* > 1 FOR accounts",
    "PREDICT COUNT(a.*, 0, 9) AND t FOR accounts",
    "PREDICT MEDIAN(a.b, 0, 9) FOR accounts",
    "PREDICT SUMM(a.b, 0, 9) FOR accounts",
    "PREDICT 5 < SUM(a.b, 0, 9) FOR accounts",
    "PREDICT SUM(COUNT(a.*, 0, 9), 0, 9) FOR accounts",
    "PREDICT SUM(amount, 0, 9) FOR accounts",
    "PREDICT SUM(a.*, 0, 9) FOR accounts",
    "PREDICT COUNT(*, 0, 9) FOR accounts",
    "PREDICT COUNT(DISTINCT a.b, 0, 9) FOR accounts",
    "PREDICT COUNT(a.* 0, 9) FOR accounts",
    "PREDICT COUNT(a.*, 0) FOR accounts",
    "PREDICT COUNT(a.*, 0, INF) FOR accounts",
    "PREDICT COUNT(a.*, 0, 1.5, months) FOR accounts",
    "PREDICT COUNT(a.*, x, 9) FOR accounts",
    "PREDICT COUNT(a.*, 0, 9, fortnights) FOR accounts",
    "PREDICT t FOR accounts WHERE a.b",
    "PREDICT t FOR accounts WHERE a.b = NULL",
    "PREDICT t FOR accounts WHERE a.b = MQL",
    "PREDICT t FOR accounts WHERE a.b = a.c",
    "PREDICT t FOR accounts WHERE a.b = -'x'",
    "PREDICT t FOR accounts WHERE a.b = )",
    "PREDICT t FOR accounts WHERE a.b == 1",
    "PREDICT t FOR accounts WHERE a.b <> 1",
    "PREDICT t FOR accounts WHERE a.b = 1 && a.c = 2",
    "PREDICT t FOR accounts WHERE a.b = 1 || a.c = 2",
    "PREDICT t FOR accounts WHERE !a.b",
    "PREDICT t FOR accounts WHERE a.b ≥ 1",
    "PREDICT t FOR accounts WHERE a.b ≤ 1",
    "PREDICT t FOR accounts WHERE a.b ≠ 1",
    "PREDICT t FOR accounts WHERE a.b = −1",
    "PREDICT t FOR accounts WHERE a.b = “x”",
    "PREDICT t FOR accounts WHERE a.naïve = 1",
    "PREDICT t FOR accounts WHERE a.b = 'x",
    "PREDICT t FOR accounts WHERE a.`` = 1",
    "PREDICT t FOR accounts WHERE a.b = 2025-02-30",
    "PREDICT t FOR accounts WHERE a.b = 90d",
    "PREDICT t FOR accounts WHERE a.b = 99999999999999999999",
    "PREDICT t FOR accounts WHERE a.b BETWEEN 1 AND 2",
    "PREDICT t FOR accounts WHERE a.b NOT 5",
    "PREDICT t FOR accounts WHERE a.b IN 5",
    "PREDICT t FOR accounts WHERE a.b IN (1 2)",
    "PREDICT t FOR accounts WHERE a.b IN (1, NULL)",
    "PREDICT t FOR accounts WHERE a.b STARTS 'x'",
    "PREDICT t FOR accounts WHERE a.b LIKE 5",
];

/// Queries that parse, but ask for something that does not exist, makes no sense or is not
/// supported.
const UNPLANNED: &[&str] = &[
    "PREDICT revenue FORECAST 4 TIMEFRAMES FOR accounts",
    "PREDICT LIST_DISTINCT(invoices.sku, 0, 9) RANK TOP 5 FOR accounts",
    "PREDICT LIST_DISTINCT(invoices.sku, 0, 9) CLASSIFY FOR accounts",
    "PREDICT revenue TOP 5 FOR accounts",
    "PREDICT LIST_DISTINCT(invoices.sku, 0, 9) FOR accounts",
    "PREDICT FIRST(invoices.sku, 0, 9) = 'x' FOR accounts",
    "PREDICT LAST(leads.status, 0, 90) = 'Closed Won' FOR leads",
    "PREDICT revenue > 0 FOR accounts.account_id = '7'",
    "PREDICT revenue > 0 FOR EACH accounts.account_id IN ('7', '8')",
    "PREDICT revenue > 0 FOR acounts",
    "PREDICT revenue > 0 FOR EACH accounts.industry",
    "PREDICT revenue > 0 FOR EACH accounts.id",
    "PREDICT revenue > 0 FOR products",
    "PREDICT revenue > 0 FOR invoices",
    "PREDICT accounts.is_customer FOR accounts",
    "PREDICT accounts.industry = 'A' FOR accounts",
    "PREDICT accounts.* FOR accounts",
    "PREDICT is_customer FOR accounts",
    "PREDICT will_convrt FOR accounts",
    "PREDICT chicken FOR accounts",
    "PREDICT will_convert > 3 FOR accounts",
    "PREDICT revenue AND will_convert FOR accounts",
    "PREDICT will_convert FOR accounts ASSUMING revenue",
    "PREDICT will_convert FOR accounts WHERE will_convert",
    "PREDICT BOOL(conversion, 0, 9) FOR accounts",
    "PREDICT BOOL(COUNT(invoices.*, 0, 9) > 0, 0, 9) FOR accounts",
    "PREDICT BOOL(leads.status = 'MQL' AND invoices.sku = 'x', 0, 9) FOR accounts",
    "PREDICT BOOL(leads.status = 'MQL') FOR accounts",
    "PREDICT COUNT(invoices.* WHERE leads.status = 'MQL', 0, 9) > 0 FOR accounts",
    "PREDICT COUNT(invoices.* WHERE COUNT(leads.*, 0, 9) > 0, 0, 9) > 0 FOR accounts",
    "PREDICT COUNT(invoices.* WHERE sku = 'x', 0, 9) > 0 FOR accounts",
    "PREDICT COUNT(invoices.*) > 0 FOR accounts",
    "PREDICT COUNT(invoices.*, -7, 7) > 0 FOR accounts",
    "PREDICT COUNT(invoices.*, -INF, 7) > 0 FOR accounts",
    "PREDICT COUNT(invoices.*, 9, 9) > 0 FOR accounts",
    "PREDICT COUNT(invoices.*, 0, 0) > 0 FOR accounts",
    "PREDICT COUNT(invoices.*, 9, 5) > 0 FOR accounts",
    "PREDICT COUNT(invoices.*, 0, 9999, months) > 0 FOR accounts",
    "PREDICT COUNT(invoices.*, 0, 9) >= 0 FOR accounts",
    "PREDICT COUNT(invoices.*, 0, 9) < 0 FOR accounts",
    "PREDICT COUNT(invoices.*, 0, 9) = 2.5 FOR accounts",
    "PREDICT will_convert AND NOT will_convert FOR accounts",
    "PREDICT COUNT(invoices.*, 0, 9) > 0 OR COUNT(invoices.*, 0, 9) < 3 FOR accounts",
    "PREDICT COUNT(invoices.*, 0, 101, years) > 0 FOR accounts",
    "PREDICT revenue > 0 FOR accounts WHERE COUNT(invoices.*, -1, 0, year) > 0",
    "PREDICT revenue > 0 FOR accounts WHERE LIST_DISTINCT(invoices.sku, -9, 0) = 'x'",
    "PREDICT revenue > 0 FOR accounts WHERE LAST(invoices.sku, -9, 0) = 'x'",
    "PREDICT conversion FOR leads WHERE LAST(leads.status, -9, 0) = 'MQL'",
    "PREDICT COUNT(invoices.*, 0, 9) IS NULL FOR accounts",
    "PREDICT COUNT(invoices.*, 0, 9) = 'x' FOR accounts",
    "PREDICT COUNT(invoices.*, 0, 9) LIKE 'x' FOR accounts",
    "PREDICT COUNT(invoices.*, 0, 9) > 0 FOR leads",
    "PREDICT COUNT(products.*, 0, 9) > 0 FOR accounts",
    "PREDICT SUM(invoices.sku, 0, 9) > 0 FOR accounts",
    "PREDICT AVG(invoices.at, 0, 9) > 0 FOR accounts",
    "PREDICT COUNT_DISTINCT(accounts.tech_stack, 0, 9) > 0 FOR accounts",
    "PREDICT will_convert FOR accounts USING contacts",
    "PREDICT will_convert FOR accounts USING acounts",
    "PREDICT revenue > 0 FOR accounts WHERE industry = 'x'",
    "PREDICT revenue > 0 FOR accounts WHERE accounts.industri = 'x'",
    "PREDICT revenue > 0 FOR accounts WHERE leads.status = 'MQL'",
    "PREDICT revenue > 0 FOR accounts WHERE accounts.industry > 5",
    "PREDICT revenue > 0 FOR accounts WHERE accounts.employees = 'ten'",
    "PREDICT revenue > 0 FOR accounts WHERE accounts.employees = '10'",
    "PREDICT revenue > 0 FOR accounts WHERE accounts.employees LIKE '1%'",
    "PREDICT revenue > 0 FOR accounts WHERE accounts.is_customer = 'yes'",
    "PREDICT revenue > 0 FOR accounts WHERE accounts.is_customer > FALSE",
    "PREDICT revenue > 0 FOR accounts WHERE accounts.updated_at > 'soon'",
    "PREDICT revenue > 0 FOR accounts WHERE accounts.updated_at > 5",
    "PREDICT revenue > 0 FOR accounts WHERE accounts.tech_stack LIKE 'k%'",
    "PREDICT revenue > 0 FOR accounts WHERE COUNT(invoices.*, -7, 30) > 0",
    "PREDICT revenue > 0 FOR accounts WHERE COUNT(invoices.*, -36, 0, hours) > 0",
    "PREDICT revenue > 0 FOR accounts WHERE COUNT(invoices.*, -3, 0, months) > 0",
    "PREDICT revenue > 0 FOR accounts WHERE COUNT(invoices.*, 0, 0) > 0",
    "PREDICT revenue > 0 FOR accounts WHERE COUNT(invoices.*, -3, -9) > 0",
    "PREDICT revenue > 0 FOR accounts WHERE COUNT(invoices.*) > 0",
    "PREDICT revenue > 0 FOR accounts WHERE COUNT(invoices.*, -9, 0) IS NULL",
    "PREDICT revenue > 0 FOR accounts WHERE COUNT(invoices.*, -9, 0) LIKE 'x'",
    "PREDICT revenue > 0 FOR accounts WHERE COUNT(invoices.*, -9, 0) = 'x'",
    "PREDICT revenue > 0 FOR accounts WHERE COUNT(leads.*, -9, 0) > 0",
    "PREDICT revenue > 0 FOR accounts WHERE SUM(invoices.sku, -9, 0) > 0",
    "PREDICT revenue > 0 FOR accounts WHERE LAST(invoices.amount, -9, 0) > 0",
    "PREDICT conversion FOR leads WHERE COUNT(invoices.*, -9, 0) > 0",
    "PREDICT COUNT(activities.*, 0, 9) > 0 FOR contacts WHERE contacts.tier = 'Golt'",
    "PREDICT typo FOR accounts",
    "PREDICT unparsable FOR accounts",
];

#[test]
fn texts_outside_the_language_give_these_faults() {
    let told: Vec<String> = UNPARSED
        .iter()
        .map(|query| format!("{query}\n  {}", parse(query).expect_err(query)))
        .collect();
    assert_snapshot!(told.join("\n"));
}

#[test]
fn queries_without_a_plan_give_these_faults() {
    let told = UNPLANNED.iter().map(|query| {
        parse(query).unwrap_or_else(|fault| panic!("{}", fault.render(query)));
        format!("{query}\n  {}", planned(query).expect_err(query))
    });
    assert_snapshot!(told.collect::<Vec<_>>().join("\n"));
}
