//! Plans of queries, and the reasons for queries without one.

use insta::assert_snapshot;
use leadpulse_schema::units::{DAY_MS, DAY_MS_F64};
use leadpulse_schema::{
    Comparison, Condition, DayWindow, Literal, Measure, Operand, Population, Value, View,
};

use crate::plan::market::{catalog, names, planned};
use crate::{
    AggregateSource, HistoryExtent, LintKind, Quantity, Reach, TargetExpression, TargetKind, Unit,
    Window, parse, plan,
};

fn rejected(query: &str) -> String {
    planned(query).expect_err(query).render(query)
}

#[test]
fn the_text_of_a_plan_is_canonical() {
    for (query, text) in [
        (
            "predict sum(INVOICES.Amount, 0, 90) > 0 for each COMPANY",
            "PREDICT SUM(invoices.amount, 0, 90, days) > 0 FOR EACH accounts.account_id",
        ),
        (
            "PREDICT Will_Convert FOR contact USING contact, company, ACTIVITY",
            "PREDICT COUNT(opportunities.* WHERE opportunities.stage = 'Closed Won', 0, 90, days) > 0 FOR EACH contacts.contact_id \
             USING contacts, accounts, activities",
        ),
        (
            "PREDICT revenue > 100 AND NOT will_convert FOR EACH accounts.account_id",
            "PREDICT SUM(invoices.amount, 0, 90, days) > 100 AND NOT COUNT(opportunities.* WHERE opportunities.stage = 'Closed Won', 0, 90, days) > 0 \
             FOR EACH accounts.account_id",
        ),
    ] {
        let planned = planned(query).unwrap_or_else(|e| panic!("{}", e.render(query)));
        assert_eq!(planned.text, text);
        let again = plan(&parse(text).unwrap(), &catalog(), &names()).unwrap();
        assert_eq!(
            (again.text, again.target, again.population),
            (planned.text, planned.target, planned.population)
        );
    }
}

#[test]
fn heads_follow_the_target() {
    use TargetKind::{Monotone, Regression, Window};
    let of = |target: &str, entity: &str| {
        let query = format!("PREDICT {target} FOR EACH {entity}");
        planned(&query)
            .unwrap_or_else(|e| panic!("{}", e.render(&query)))
            .target
            .kind()
    };
    for (target, kind) in [
        ("COUNT(invoices.*, 0, 90, days) > 0", Monotone),
        ("COUNT(invoices.*, 0, 3, months) >= 3", Monotone),
        ("COUNT(invoices.*, 0, 90, days) != 0", Monotone),
        ("COUNT(invoices.*, 1, 90, days) > 0", Window),
        ("COUNT(invoices.*, 0, 90, days) = 0", Window),
        ("NOT COUNT(invoices.*, 0, 90, days) > 0", Window),
        (
            "COUNT(invoices.*, 0, 30) > 0 OR COUNT(invoices.* WHERE invoices.is_cancel = TRUE, 0, 90) > 1",
            Monotone,
        ),
        ("COUNT_DISTINCT(invoices.sku, 0, 90, days) > 2", Monotone),
        ("SUM(invoices.amount, 0, 90, days) > 0", Window),
        (
            "SUM(invoices.amount WHERE invoices.amount > 0, 0, 90, days) > 0",
            Monotone,
        ),
        (
            "SUM(invoices.amount WHERE invoices.amount >= 0 AND invoices.is_cancel = 0, 0, 90, days) > 500",
            Monotone,
        ),
        (
            "SUM(invoices.amount WHERE invoices.amount > -5, 0, 90, days) > 0",
            Window,
        ),
        (
            "SUM(opportunities.amount WHERE opportunities.amount > 0, 0, 90, days) > 0",
            Monotone,
        ),
        (
            "SUM(opportunities.amount WHERE opportunities.amount > 0, 0, 90, days) > 500",
            Window,
        ),
        (
            "SUM(opportunities.amount WHERE opportunities.amount >= 0, 0, 90, days) > 0",
            Window,
        ),
        ("AVG(invoices.amount, 0, 90, days) > 10", Window),
        ("MAX(invoices.amount, 0, 90, days) > 10", Window),
        ("SUM(invoices.amount, 0, 90, days)", Regression),
        ("revenue", Regression),
        ("COUNT(opportunities.contact_id, 0, 90, days) > 0", Window),
    ] {
        assert_eq!(of(target, "accounts.account_id"), kind, "{target}");
    }
    assert_eq!(of("conversion", "leads.lead_id"), Monotone);
    assert_eq!(
        of(
            "conversion",
            "leads.lead_id ASSUMING COUNT(activities.*, 0, 7) > 0"
        ),
        Window
    );
}

#[test]
fn hazard_edges_are_parts_of_the_horizon() {
    for (window, edges) in [
        ("0, 90, days", vec![7.0, 14.0, 30.0, 60.0, 90.0]),
        ("0, 30, days", vec![2.0, 5.0, 10.0, 20.0, 30.0]),
        ("0, 52, weeks", vec![28.0, 57.0, 121.0, 243.0, 364.0]),
        ("0, 3, months", vec![7.0, 14.0, 31.0, 61.0, 92.0]),
        ("0, 1, year", vec![28.0, 57.0, 122.0, 244.0, 366.0]),
        ("0, 9, days", vec![0.7, 1.4, 3.0, 6.0, 9.0]),
    ] {
        let plan = planned(&format!(
            "PREDICT COUNT(invoices.*, {window}) > 0 FOR accounts"
        ))
        .unwrap();
        let found = plan.target.hazard_edges_days();
        assert!(
            found.len() == edges.len()
                && found.iter().zip(&edges).all(|(a, b)| (a - b).abs() < 1e-9),
            "{window}: {found:?}"
        );
        assert_eq!(*edges.last().unwrap() * DAY_MS_F64, plan.horizon_ms as f64);
    }
    assert!(
        planned("PREDICT revenue FOR accounts")
            .unwrap()
            .target
            .hazard_edges_days()
            .is_empty()
    );
}

#[test]
fn calendar_windows_close_when_the_calendar_says() {
    let at = |text: &str| crate::syntax::dates::parse_date(text).unwrap();
    for (window, anchor, closes) in [
        ("0, 12, months", "2023-01-01", "2024-01-01"),
        ("0, 12, months", "2024-01-01", "2025-01-01"),
        ("0, 1, year", "2024-02-29", "2025-02-28"),
        ("0, 1, month", "2025-01-31 06:00:00", "2025-02-28 06:00:00"),
        ("0, 30, days", "2025-01-31", "2025-03-02"),
    ] {
        let query = format!("PREDICT COUNT(invoices.*, {window}) > 0 FOR accounts");
        let plan = planned(&query).unwrap();
        assert_eq!(plan.closes_ms(at(anchor)), at(closes), "{window} {anchor}");
        assert!(plan.closes_ms(at(anchor)) - at(anchor) <= plan.horizon_ms);
    }
    let two = "COUNT(invoices.*, 0, 1, month) > 0 AND COUNT(invoices.*, 0, 40, days) > 0";
    let plan = planned(&format!("PREDICT {two} FOR accounts")).unwrap();
    assert_eq!(plan.closes_ms(at("2025-01-01")), at("2025-02-10"));
}

#[test]
fn other_spellings_have_the_plan_of_the_plain_one() {
    for (written, plain) in [
        (
            "PREDICT ((COUNT(invoices.*, 0, 30)) > 2) FOR accounts",
            "PREDICT COUNT(invoices.*, 0, 30) > 2 FOR accounts",
        ),
        (
            "Predict Count(invoices.*, 0, 1, Day) > 0 For Each accounts",
            "PREDICT COUNT(invoices.*, 0, 1, days) > 0 FOR EACH accounts",
        ),
        (
            "PREDICT LIST_DISTINCT(invoices.sku, 0, 9) CONTAINS 'x' FOR accounts",
            "PREDICT COUNT(invoices.* WHERE invoices.sku = 'x', 0, 9) > 0 FOR accounts",
        ),
        (
            "PREDICT revenue FOR accounts WHERE LIST_DISTINCT(invoices.sku WHERE \
             invoices.amount > 5 AND invoices.is_cancel = 0, -90, 0) NOT CONTAINS 'x'",
            "PREDICT revenue FOR accounts WHERE COUNT(invoices.* WHERE invoices.amount > 5 AND \
             invoices.is_cancel = 0 AND invoices.sku = 'x', -90, 0) = 0",
        ),
        (
            "PREDICT revenue FOR accounts WHERE LIST_DISTINCT(invoices.sku WHERE \
             invoices.amount > 5 OR invoices.is_cancel = 0, -90, 0) CONTAINS 'x'",
            "PREDICT revenue FOR accounts WHERE COUNT(invoices.* WHERE (invoices.amount > 5 OR \
             invoices.is_cancel = 0) AND invoices.sku = 'x', -90, 0) > 0",
        ),
        (
            "PREDICT conversion FOR leads WHERE LAST(leads.status, -INF, 0) = 'MQL'",
            "PREDICT conversion FOR leads WHERE leads.status = 'MQL'",
        ),
    ] {
        let of = |query: &str| planned(query).unwrap_or_else(|e| panic!("{}", e.render(query)));
        let (written, plain) = (of(written), of(plain));
        assert_eq!(written.text, plain.text);
        assert_eq!(written.target, plain.target);
        assert_eq!(written.population, plain.population);
    }
}

#[test]
fn a_member_is_filtered_by_columns_of_its_root() {
    let catalog = catalog();
    let accounts = catalog.table("accounts").unwrap();
    let industry = Operand::Root(accounts.id, accounts.field("industry").unwrap().id);
    let stack = Operand::Root(accounts.id, accounts.field("tech_stack").unwrap().id);
    let text = |text: &str| Literal::Text(text.to_owned());
    for (entity, filter, expected) in [
        (
            "contacts",
            "accounts.industry = 'Retail'",
            Condition::Compare(industry, Comparison::Equal, text("Retail")),
        ),
        (
            "contacts",
            "accounts.industry LIKE 'R%'",
            Condition::Like(industry, "R%".to_owned()),
        ),
        (
            "opportunities",
            "company.tech_stack CONTAINS 'kafka'",
            Condition::Compare(stack, Comparison::Equal, text("kafka")),
        ),
    ] {
        let query = format!("PREDICT COUNT({entity}.*, 0, 9) > 0 FOR {entity} WHERE {filter}");
        let plan = planned(&query).unwrap_or_else(|e| panic!("{}", e.render(&query)));
        assert_eq!(plan.population.condition, Some(expected), "{query}");
        assert!(plan.describe(&catalog)[0].contains("accounts."), "{query}");
    }
    for query in [
        "PREDICT revenue FOR accounts WHERE contacts.title = 'CEO'",
        "PREDICT COUNT(activities.*, 0, 9) > 0 FOR contacts WHERE leads.status = 'MQL'",
    ] {
        assert!(planned(query).is_err(), "{query}");
    }
}

#[test]
fn conditions_that_are_always_or_never_true_are_refused() {
    let count = "COUNT(invoices.*, 0, 9)";
    let past = "COUNT(invoices.*, -9, 0)";
    for (target, filter, verdict) in [
        (format!("{count} = 2.5"), "", "never"),
        (format!("{count} != 2.5"), "", "always"),
        (format!("{count} > 1e30"), "", "never"),
        (format!("{count} < 1e30"), "", "always"),
        (format!("{count} >= 0"), "", "always"),
        (format!("{count} IN (2.5, -1)"), "", "never"),
        (format!("{count} NOT IN (2.5)"), "", "always"),
        (format!("{count} > 0 AND NOT {count} > 0"), "", "never"),
        (
            format!("NOT NOT {count} > 1 OR NOT {count} > 1"),
            "",
            "always",
        ),
        (
            format!("{count} > 0 AND (will_convert AND {count} < 1)"),
            "",
            "never",
        ),
        (format!("{count} > 2 OR {count} <= 3"), "", "always"),
        (format!("{count} = 0 OR {count} > 0"), "", "always"),
        ("revenue > 5 AND revenue < 5".to_owned(), "", "never"),
        (
            "COUNT(invoices.* WHERE invoices.amount > 5 AND invoices.amount <= 5, 0, 9) > 0"
                .to_owned(),
            "",
            "never",
        ),
        (
            "BOOL(invoices.sku = 'a' AND invoices.sku = 'b', 0, 9)".to_owned(),
            "",
            "never",
        ),
        (
            format!("{count} > 0"),
            "COUNT(invoices.*, -9, 0) >= 0",
            "always",
        ),
        (
            format!("{count} > 0"),
            "COUNT(invoices.*, -9, 0) = 2.5",
            "never",
        ),
        (
            format!("{count} > 0"),
            "accounts.employees > 9 AND accounts.employees < 9",
            "never",
        ),
    ] {
        let filter = match filter {
            "" => String::new(),
            filter => format!(" WHERE {filter}"),
        };
        let query = format!("PREDICT {target} FOR accounts{filter}");
        let fault = planned(&query).expect_err(&query);
        assert!(
            fault.message.contains(verdict),
            "{query}: {}",
            fault.message
        );
    }
    for (target, filter) in [
        (
            format!("{count} > 2.5"),
            "accounts.industry IS NULL".to_owned(),
        ),
        (
            format!("{count} IN (2.5, 3)"),
            format!("{past} > 0 OR {past} = 5"),
        ),
        (
            "revenue > 5 OR revenue <= 5".to_owned(),
            "accounts.tech_stack = 'a' AND accounts.tech_stack = 'b'".to_owned(),
        ),
        (
            format!("{count} > 1 AND {count} < 3"),
            "accounts.employees > 1 AND accounts.employees < 2".to_owned(),
        ),
        (
            format!("{count} > 0 AND NOT COUNT(invoices.*, 0, 8) > 0"),
            "accounts.industry = 'a' OR accounts.industry = 'b'".to_owned(),
        ),
    ] {
        let query = format!("PREDICT {target} FOR accounts WHERE {filter}");
        planned(&query).unwrap_or_else(|fault| panic!("{}", fault.render(&query)));
    }
}

#[test]
fn rows_find_their_entity_along_owners_then_references() {
    let catalog = catalog();
    let of = |target: &str, entity: &str| {
        let plan = planned(&format!("PREDICT {target} > 0 FOR {entity}")).unwrap();
        (
            plan.target.aggregates[0].source,
            plan.target.aggregates[0].reach,
        )
    };
    let table = |name: &str| catalog.table(name).unwrap();
    assert_eq!(
        of("COUNT(activities.*, 0, 9)", "contacts"),
        (
            AggregateSource::Events(table("activities").id),
            Reach::Owner
        )
    );
    assert_eq!(
        of("COUNT(activities.*, 0, 9)", "accounts"),
        (AggregateSource::Events(table("activities").id), Reach::Cell)
    );
    assert_eq!(
        of("COUNT(invoices.*, 0, 9)", "accounts"),
        (AggregateSource::Events(table("invoices").id), Reach::Cell)
    );
    assert_eq!(
        of("COUNT(leads.*, 0, 9)", "leads"),
        (AggregateSource::Versions(table("leads").id), Reach::Itself)
    );
    assert_eq!(
        of("COUNT(leads.*, 0, 9)", "accounts"),
        (AggregateSource::Versions(table("leads").id), Reach::Cell)
    );
    let contact = table("opportunities").field("contact_id").unwrap().id;
    assert_eq!(
        of("COUNT(opportunities.*, 0, 9)", "contacts"),
        (
            AggregateSource::Versions(table("opportunities").id),
            Reach::Reference(contact)
        )
    );
    let plan = planned(
        "PREDICT COUNT(invoices.*, 0, 9) > 0 AND COUNT(invoices.amount, 0, 9) > 0 FOR accounts",
    )
    .unwrap();
    assert!(plan.interested(table("invoices").id) && !plan.interested(table("leads").id));
    assert_eq!(plan.reach(table("invoices").id), Some(Reach::Cell));
}

#[test]
fn equal_aggregates_are_counted_once() {
    let plan = planned("PREDICT SUM(invoices.amount, 0, 9) > 5 AND NOT SUM(INVOICES.AMOUNT, 0, 9, days) > 10 FOR accounts").unwrap();
    let amount = catalog()
        .table("invoices")
        .unwrap()
        .field("amount")
        .unwrap()
        .id;
    assert_eq!(plan.target.aggregates.len(), 1);
    assert_eq!(plan.target.aggregates[0].quantity, Quantity::Sum(amount));
    assert_eq!(
        plan.target.aggregates[0].window,
        Window {
            start: 0,
            end: 9,
            unit: Unit::Days
        }
    );
    let over = |literal| TargetExpression::Compare {
        aggregate: 0,
        comparison: Comparison::Greater,
        literal,
    };
    assert_eq!(
        plan.target.expression,
        TargetExpression::And(vec![over(5.0), TargetExpression::Not(Box::new(over(10.0)))])
    );
}

#[test]
fn a_population_reads_columns_and_days_of_the_past() {
    let query = "PREDICT revenue > 0 FOR EACH accounts.account_id \
        WHERE COUNT(invoices.* WHERE invoices.is_cancel = 0, -365, 0, days) > 0 \
        AND NOT SUM(invoices.amount, -INF, -7, days) >= 100 AND COUNT(invoices.* WHERE invoices.is_cancel = 0, -2, -1, weeks) = 0 \
        AND (accounts.industry IN ('A', 'B') OR accounts.employees IS NULL) AND BOOL(activities.type = 'demo', -48, 0, hours)";
    let Population {
        condition,
        windows,
        counters,
    } = planned(query).unwrap().population;
    assert_eq!(counters.len(), 3);
    let catalog = catalog();
    let amount = catalog
        .table("invoices")
        .unwrap()
        .field("amount")
        .unwrap()
        .id;
    assert_eq!(
        counters.iter().map(|c| c.measure).collect::<Vec<_>>(),
        [Measure::Count, Measure::SumOf(amount), Measure::Count]
    );
    assert_eq!(
        windows,
        [
            DayWindow {
                counter: 0,
                start_days: Some(-365),
                end_days: 0
            },
            DayWindow {
                counter: 1,
                start_days: None,
                end_days: -7
            },
            DayWindow {
                counter: 0,
                start_days: Some(-14),
                end_days: -7
            },
            DayWindow {
                counter: 2,
                start_days: Some(-2),
                end_days: 0
            },
        ]
    );
    let condition = condition.unwrap();
    struct Entity<'a>(&'a [f64], Option<&'a str>);
    impl View for Entity<'_> {
        fn column(&self, _: leadpulse_schema::FieldId) -> Value<'_> {
            self.1.map_or(Value::Null, Value::Text)
        }
        fn window(&self, index: usize) -> Value<'_> {
            Value::Double(self.0[index])
        }
    }
    assert!(condition.holds(&Entity(&[1.0, 99.0, 0.0, 1.0], Some("B"))));
    assert!(
        condition.holds(&Entity(&[1.0, 99.0, 0.0, 1.0], None)),
        "unknown employees"
    );
    assert!(!condition.holds(&Entity(&[1.0, 99.0, 0.0, 1.0], Some("C"))));
    for index in 0..4 {
        let mut values = [1.0, 99.0, 0.0, 1.0];
        values[index] = if index == 1 {
            100.0
        } else {
            1.0 - values[index]
        };
        assert!(!condition.holds(&Entity(&values, Some("B"))), "{index}");
    }
}

#[test]
fn dates_flags_and_patterns_are_typed_by_their_column() {
    let filter = |filter: &str, entity: &str| {
        planned(&format!(
            "PREDICT COUNT(activities.*, 0, 9) > 0 FOR {entity} WHERE {filter}"
        ))
        .unwrap()
        .population
        .condition
    };
    let catalog = catalog();
    let created = Operand::Column(
        catalog
            .table("contacts")
            .unwrap()
            .field("created_at")
            .unwrap()
            .id,
    );
    let since = Condition::Compare(
        created,
        Comparison::Greater,
        Literal::Time(1_735_689_600_000),
    );
    assert_eq!(
        filter("contacts.created_at > '2025-01-01'", "contacts"),
        Some(since.clone())
    );
    assert_eq!(
        filter("contacts.created_at > 2025-01-01 00:00:00", "contacts"),
        Some(since)
    );
    let title = Operand::Column(
        catalog
            .table("contacts")
            .unwrap()
            .field("title")
            .unwrap()
            .id,
    );
    assert_eq!(
        filter("contacts.title CONTAINS '50%_'", "contacts"),
        Some(Condition::Like(title, "%50\\%\\_%".to_owned()))
    );
    assert_eq!(
        filter("contacts.title STARTS WITH 'VP'", "contacts"),
        Some(Condition::Like(title, "VP%".to_owned()))
    );
    let tech = Operand::Column(
        catalog
            .table("accounts")
            .unwrap()
            .field("tech_stack")
            .unwrap()
            .id,
    );
    assert_eq!(
        filter("accounts.tech_stack CONTAINS 'kafka'", "accounts"),
        Some(Condition::Compare(
            tech,
            Comparison::Equal,
            Literal::Text("kafka".to_owned())
        ))
    );
    let customer = Operand::Column(
        catalog
            .table("accounts")
            .unwrap()
            .field("is_customer")
            .unwrap()
            .id,
    );
    assert_eq!(
        filter("accounts.is_customer = 1", "accounts"),
        Some(Condition::Compare(
            customer,
            Comparison::Equal,
            Literal::Bool(true)
        ))
    );
    // NOT IN does not hold of null, as != does not.
    let condition = filter("accounts.industry NOT IN ('A', 'B')", "accounts").unwrap();
    struct Null;
    impl View for Null {
        fn column(&self, _: leadpulse_schema::FieldId) -> Value<'_> {
            Value::Null
        }
        fn window(&self, _: usize) -> Value<'_> {
            Value::Null
        }
    }
    assert!(!condition.holds(&Null));
}

#[test]
fn a_query_without_a_plan_names_place_reason_and_correction() {
    const FOR: &str = "FOR EACH accounts.account_id";
    for (query, at, message, hint) in [
        (
            format!("PREDICT COUNT(acounts.*, 0, 9) > 0 {FOR}"),
            "acounts",
            "no table acounts, did you mean accounts?",
            "the schemas have accounts",
        ),
        (
            format!("PREDICT SUM(invoices.amout, 0, 9) > 0 {FOR}"),
            "amout",
            "did you mean amount?",
            "it has invoice",
        ),
        (
            "PREDICT revenue > 0 FOR EACH accounts.industry".to_owned(),
            "industry",
            "not the key",
            "FOR EACH accounts.account_id",
        ),
        (
            "PREDICT revenue > 0 FOR EACH products.sku".to_owned(),
            "products.sku",
            "hub",
            "entities are accounts, contacts, leads, opportunities",
        ),
        (
            "PREDICT revenue > 0 FOR EACH invoices.invoice".to_owned(),
            "invoices.invoice",
            "events",
            "entities are",
        ),
        (
            "PREDICT revenue > 0 FOR accounts.account_id = '7'".to_owned(),
            "'7'",
            "every entity",
            "scores are read",
        ),
        (
            "PREDICT revenue > 0 FOR leads".to_owned(),
            "SUM(invoices.amount, 0, 90, days)",
            "no reference leads",
            "for leads rows of activities, leads, opportunities count",
        ),
        (
            format!("PREDICT COUNT(products.*, 0, 9) > 0 {FOR}"),
            "COUNT(products.*, 0, 9)",
            "no reference leads",
            "rows of",
        ),
        (
            format!("PREDICT COUNT(invoices.*) > 0 {FOR}"),
            "COUNT(invoices.*)",
            "no window",
            "0, 90, days",
        ),
        (
            format!("PREDICT COUNT(invoices.*, 90, 0) > 0 {FOR}"),
            "90, 0",
            "ends before it starts: from 90 to 0 days",
            "0, 90, days",
        ),
        (
            format!("PREDICT COUNT(invoices.*, 5, 5) > 0 {FOR}"),
            "5, 5",
            "empty",
            "later",
        ),
        (
            format!("PREDICT COUNT(invoices.*, -5, 5) > 0 {FOR}"),
            "-5, 5",
            "after the anchor",
            "WHERE",
        ),
        (
            format!("PREDICT COUNT(invoices.*, -INF, 5) > 0 {FOR}"),
            "-INF, 5",
            "after the anchor",
            "WHERE",
        ),
        (
            format!("PREDICT COUNT(invoices.*, 0, 9000, months) > 0 {FOR}"),
            "0, 9000, months",
            "century",
            "unit",
        ),
        (
            format!("PREDICT COUNT(invoices.*, 0, 9) >= 0 {FOR}"),
            "COUNT(invoices.*, 0, 9) >= 0",
            "always true",
            "> 0",
        ),
        (
            format!("PREDICT COUNT(invoices.*, 0, 9) > 'many' {FOR}"),
            "'many'",
            "COUNT gives a number",
            "> 0",
        ),
        (
            format!("PREDICT COUNT(invoices.*, 0, 9) IS NULL {FOR}"),
            "COUNT(invoices.*, 0, 9) IS NULL",
            "never NULL",
            "= 0",
        ),
        (
            format!("PREDICT SUM(invoices.sku, 0, 9) > 0 {FOR}"),
            "invoices.sku",
            "needs a number",
            "COUNT(invoices.sku",
        ),
        (
            format!("PREDICT LAST(invoices.sku, 0, 9) = 'x' {FOR}"),
            "LAST(invoices.sku, 0, 9)",
            "silently drops",
            "COUNT(invoices.* WHERE",
        ),
        (
            format!("PREDICT LIST_DISTINCT(invoices.sku, 0, 9) {FOR}"),
            "LIST_DISTINCT(invoices.sku, 0, 9)",
            "not supported",
            "COUNT_DISTINCT",
        ),
        (
            format!("PREDICT LIST_DISTINCT(invoices.sku, 0, 9) RANK TOP 3 {FOR}"),
            "RANK TOP 3",
            "RANK is not supported",
            "leave it out",
        ),
        (
            format!("PREDICT revenue CLASSIFY {FOR}"),
            "CLASSIFY",
            "not one for each class",
            "one condition for each",
        ),
        (
            format!("PREDICT revenue FORECAST 4 TIMEFRAMES {FOR}"),
            "FORECAST 4 TIMEFRAMES",
            "one window",
            "30, 60",
        ),
        (
            format!("PREDICT accounts.is_customer {FOR}"),
            "accounts.is_customer",
            "stored value",
            "BOOL(accounts.is_customer = TRUE, 0, 90, days)",
        ),
        (
            format!("PREDICT accounts.industry = 'A' {FOR}"),
            "accounts.industry = 'A'",
            "stored value",
            "BOOL(accounts.industry = 'A', 0, 90, days)",
        ),
        (
            format!("PREDICT is_customer {FOR}"),
            "is_customer",
            "no named target",
            "BOOL(accounts.is_customer",
        ),
        (
            format!("PREDICT wil_convert {FOR}"),
            "wil_convert",
            "did you mean will_convert?",
            "named targets",
        ),
        (
            format!("PREDICT will_convert > 3 {FOR}"),
            "will_convert",
            "a condition",
            "NOT will_convert",
        ),
        (
            format!("PREDICT revenue AND will_convert {FOR}"),
            "revenue",
            "need conditions",
            "> 0",
        ),
        (
            format!("PREDICT chicken {FOR}"),
            "chicken",
            "defined by itself",
            "write out",
        ),
        (
            format!("PREDICT BOOL(COUNT(invoices.*, 0, 9) > 0, 0, 9) {FOR}"),
            "BOOL(COUNT(invoices.*, 0, 9) > 0, 0, 9)",
            "columns of one table",
            "without BOOL",
        ),
        (
            format!("PREDICT BOOL(leads.status = 'MQL' AND invoices.sku = 'x', 0, 9) {FOR}"),
            "invoices.sku",
            "rows of leads",
            "join both with AND",
        ),
        (
            format!("PREDICT COUNT(invoices.* WHERE leads.status = 'MQL', 0, 9) > 0 {FOR}"),
            "leads.status",
            "rows of invoices",
            "only columns of invoices",
        ),
        (
            format!("PREDICT COUNT(invoices.* WHERE sku = 'x', 0, 9) > 0 {FOR}"),
            "sku",
            "without its table",
            "write invoices.sku",
        ),
        (
            format!("PREDICT revenue > 0 {FOR} WHERE industry = 'x'"),
            "industry",
            "without its table",
            "write accounts.industry",
        ),
        (
            format!("PREDICT revenue > 0 {FOR} WHERE leads.status = 'MQL'"),
            "leads.status",
            "entities are accounts",
            "COUNT(activities.*",
        ),
        (
            format!("PREDICT revenue > 0 {FOR} WHERE invoices.sku = 'x'"),
            "invoices.sku",
            "entities are accounts",
            "COUNT(invoices.*",
        ),
        (
            format!("PREDICT revenue > 0 {FOR} WHERE COUNT(invoices.*, -7, 30) > 0"),
            "-7, 30",
            "looks into the future",
            "ASSUMING",
        ),
        (
            format!("PREDICT revenue > 0 {FOR} WHERE COUNT(invoices.*, -36, 0, hours) > 0"),
            "-36, 0, hours",
            "not whole days",
            "whole days",
        ),
        (
            format!("PREDICT revenue > 0 {FOR} WHERE COUNT(invoices.*, -3, 0, months) > 0"),
            "-3, 0, months",
            "kept in days",
            "90",
        ),
        (
            format!("PREDICT revenue > 0 {FOR} WHERE COUNT(invoices.*, 0, -3) > 0"),
            "0, -3",
            "ends before it starts",
            "-3, 0",
        ),
        (
            format!("PREDICT revenue > 0 {FOR} WHERE COUNT(invoices.*) > 0"),
            "COUNT(invoices.*)",
            "no window",
            "-INF",
        ),
        (
            format!("PREDICT revenue > 0 {FOR} WHERE AVG(invoices.amount, -9, 0) > 0"),
            "AVG(invoices.amount, -9, 0)",
            "only counts and sums",
            "COUNT or SUM",
        ),
        (
            format!("PREDICT revenue > 0 {FOR} WHERE COUNT(leads.*, -9, 0) > 0"),
            "COUNT(leads.*, -9, 0)",
            "event tables only",
            "own columns",
        ),
        (
            format!("PREDICT revenue > 0 {FOR} WHERE accounts.employees > 'ten'"),
            "'ten'",
            "a whole number, 'ten' is not",
            "number",
        ),
        (
            format!("PREDICT revenue > 0 {FOR} WHERE accounts.employees > '10'"),
            "'10'",
            "whole number",
            "write 10 without quotes",
        ),
        (
            format!("PREDICT revenue > 0 {FOR} WHERE accounts.account_id = 12346"),
            "12346",
            "is text",
            "'12346'",
        ),
        (
            format!("PREDICT revenue > 0 {FOR} WHERE accounts.updated_at > 'soon'"),
            "'soon'",
            "is a time",
            "'2025-01-31'",
        ),
        (
            format!("PREDICT revenue > 0 {FOR} WHERE accounts.is_customer > TRUE"),
            "accounts.is_customer > TRUE",
            "no order",
            "= or !=",
        ),
        (
            format!("PREDICT revenue > 0 {FOR} WHERE accounts.employees LIKE '1%'"),
            "LIKE '1%'",
            "only text",
            "<=",
        ),
        (
            "PREDICT COUNT(activities.*, 0, 9) > 0 FOR contacts WHERE contacts.tier = 'Golt'"
                .to_owned(),
            "'Golt'",
            "did you mean Gold?",
            "Gold, Silver",
        ),
        (
            format!("PREDICT will_convert {FOR} USING contacts"),
            "contacts",
            "leaves out accounts",
            "add accounts",
        ),
        (
            format!("PREDICT will_convert {FOR} ASSUMING accounts.industry = 'x'"),
            "accounts.industry = 'x'",
            "stored value",
            "BOOL(",
        ),
    ] {
        let fault = planned(&query).expect_err(&query);
        assert!(
            fault.message.contains(message),
            "{query}: {}",
            fault.message
        );
        assert!(fault.hint.contains(hint), "{query}: {}", fault.hint);
        let text = fault
            .within
            .as_ref()
            .map_or(query.as_str(), |within| within.text.as_str());
        assert_eq!(
            &text[fault.span.start as usize..fault.span.end as usize],
            at,
            "{query}"
        );
    }
}

#[test]
fn faults_are_shown_where_they_are() {
    assert_snapshot!(rejected("PREDICT SUM(invoices.amount, 0, 90, days) > 0\nFOR EACH accounts.account_id\nWHERE accounts.industri = 'Retail'"), @r"
    Error: accounts has no column industri, did you mean industry?
       ,-[ query:3:16 ]
       |
     3 | WHERE accounts.industri = 'Retail'
       |                ^^^^|^^^
       |                    `----- here
       |
       | Help: it has account_id, updated_at, industry, employees, is_customer, tech_stack
    ---'
    ");
    assert_snapshot!(rejected("PREDICT typo FOR accounts"), @r"
    Error: there is no table invoicess, did you mean invoices?
       ,-[ typo:1:7 ]
       |
     1 | COUNT(invoicess.*, 0, 90, days) > 0
       |       ^^^^|^^^^
       |           `------ here
       |
       | Help: the schemas have accounts, activities, contacts, invoices, leads, opportunities, products
    ---'
    ");
    assert_snapshot!(rejected("PREDICT unparsable FOR accounts"), @r"
    Error: expected ')', found the end of the query
       ,-[ unparsable:1:17 ]
       |
     1 | COUNT(invoices.*
       |                 |
       |                 `- here
       |
       | Help: COUNT takes a column, WHERE, start, end and unit: COUNT(invoices.*, 0, 90, days)
    ---'
    ");
}

#[test]
fn remarks_say_what_is_probably_not_meant() {
    let kinds = |query: &str| {
        planned(query)
            .unwrap_or_else(|e| panic!("{}", e.render(query)))
            .lints
            .iter()
            .map(|l| l.kind)
            .collect::<Vec<_>>()
    };
    for (query, expected) in [
        (
            "PREDICT SUM(opportunities.amount, 0, 90, days) > 0 FOR EACH accounts.account_id",
            vec![LintKind::AnyRow, LintKind::SumCanFall],
        ),
        (
            "PREDICT SUM(invoices.amount WHERE invoices.amount > 0, 0, 90) > 0 FOR accounts",
            vec![],
        ),
        (
            "PREDICT AVG(invoices.amount, 0, 90) > 10 FOR accounts",
            vec![LintKind::SilentDropped],
        ),
        (
            "PREDICT AVG(invoices.amount, 0, 90) > 10 AND AVG(invoices.amount, 0, 90) < 20 FOR accounts",
            vec![LintKind::SilentDropped],
        ),
        (
            "PREDICT MAX(invoices.amount, 0, 90) IS NULL FOR accounts",
            vec![],
        ),
        (
            "PREDICT revenue > 0 FOR accounts ASSUMING MIN(invoices.amount, 0, 90) > 0",
            vec![LintKind::SilentDropped],
        ),
        (
            "PREDICT COUNT(opportunities.* WHERE opportunities.amount > 5, 0, 90) > 0 FOR accounts",
            vec![LintKind::AnyRow],
        ),
        (
            "PREDICT COUNT(opportunities.* WHERE NOT (opportunities.stage = 'Closed Lost' OR opportunities.amount < 5), 0, 90) > 0 FOR accounts",
            vec![],
        ),
        (
            "PREDICT COUNT_DISTINCT(opportunities.stage, 0, 90) > 1 FOR accounts",
            vec![],
        ),
        (
            "PREDICT BOOL(contacts.title = 'CEO', 0, 9) FOR accounts",
            vec![LintKind::CurrentRow],
        ),
        ("PREDICT COUNT(contacts.*, 0, 9) > 0 FOR accounts", vec![]),
        (
            "PREDICT COUNT(activities.*, 0, 9) > 0 AND conversion FOR leads",
            vec![LintKind::Becomes],
        ),
        ("PREDICT COUNT(activities.*, 0, 9) > 0 FOR contacts", vec![]),
        (
            "PREDICT conversion FOR leads WHERE leads.status STARTS WITH 'Won'",
            vec![LintKind::UnknownValue],
        ),
        (
            "PREDICT conversion FOR leads WHERE leads.status LIKE '%Won'",
            vec![],
        ),
        (
            "PREDICT BOOL(leads.status IN ('Closed Won', 'Won'), 0, 9) FOR leads",
            vec![LintKind::UnknownValue],
        ),
        (
            "PREDICT COUNT(activities.*, 0, 9) > 0 FOR contacts WHERE contacts.title = 'CEO'",
            vec![LintKind::CurrentRow],
        ),
        (
            "PREDICT COUNT(activities.*, 0, 9) > 0 FOR contacts WHERE contacts.created_at > '2025-01-01'",
            vec![],
        ),
        (
            "PREDICT conversion FOR leads WHERE leads.status != 'Closed'",
            vec![LintKind::UnknownValue],
        ),
        (
            "PREDICT BOOL(leads.status = 'MQL', 0, 9) FOR accounts",
            vec![LintKind::SeveralPaths],
        ),
    ] {
        assert_eq!(kinds(query), expected, "{query}");
    }
    let plan =
        planned("PREDICT SUM(opportunities.amount, 0, 90, days) > 0 FOR EACH accounts.account_id")
            .unwrap();
    assert_snapshot!(plan.lints.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"), @r"
    line 1, column 9: rows of opportunities count here when they first appear, whatever their stage: won, lost and open ones alike (to count what was won, add WHERE opportunities.stage = 'Closed Won')
    line 1, column 9: the sum of opportunities.amount may fall again, so the task gives one probability for the whole window (if negative amounts need not be netted, WHERE opportunities.amount > 0 gives a probability for each part of the window)
    ");
}

#[test]
fn remarks_on_a_history_say_what_it_is_too_short_for() {
    let plan =
        planned("PREDICT revenue > 0 FOR accounts WHERE COUNT(invoices.*, -365, 0) > 0 AND COUNT(invoices.*, -INF, -7) > 0").unwrap();
    let on = |days: i64, stride_days: Option<i64>| {
        let stride_ms = stride_days.map(|days| days * DAY_MS);
        plan.lints_on(HistoryExtent {
            first_ms: 0,
            last_ms: days * DAY_MS,
            stride_ms,
        })
    };
    for (days, stride_days, expected) in [
        (90, Some(30), vec![LintKind::ShortHistory]),
        (91, Some(30), vec![LintKind::ShortHistory]),
        (454, None, vec![LintKind::ShortHistory]),
        (455, Some(90), vec![]),
        (455, Some(91), vec![LintKind::Gaps]),
        (60, Some(91), vec![LintKind::ShortHistory, LintKind::Gaps]),
    ] {
        let kinds: Vec<LintKind> = on(days, stride_days).iter().map(|lint| lint.kind).collect();
        assert_eq!(kinds, expected, "{days} {stride_days:?}");
    }
    let shown: Vec<String> = [on(60, None), on(200, Some(120))]
        .concat()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_snapshot!(shown.join("\n"), @r"
    the query looks 90 days ahead, the history is 60 days long: no anchor has a label (shorten the window or supply more history)
    the filter looks 365 days back, but the last anchor that has a label has 110 days of history before it: it counts less in training than in scoring (shorten the filter's window, supply more history, or start it at -INF)
    anchors are 120 days apart and the query looks 90 days ahead: what happens in between is in no label (let anchors follow each other within the window)
    ");
}

#[test]
fn named_targets_cannot_explode() {
    let mut names: std::collections::BTreeMap<String, String> = (0..40)
        .map(|i| (format!("t{i}"), format!("t{} AND t{}", i + 1, i + 1)))
        .collect();
    names.insert("t7".to_owned(), "COUNT(invoices.*, 0, 9) > 0".to_owned());
    let planned = |query: &str| plan(&parse(query).unwrap(), &catalog(), &names);
    assert_eq!(
        planned("PREDICT t0 FOR accounts")
            .unwrap()
            .target
            .aggregates
            .len(),
        1
    );
    assert!(
        planned("PREDICT t0 AND t0 AND t0 FOR accounts")
            .unwrap_err()
            .message
            .contains("more than 256")
    );
    assert!(
        planned("PREDICT t8 FOR accounts")
            .unwrap_err()
            .message
            .contains("more than 8")
    );
}

/// Rows have `A1` where files say ` a1`, so a query that says ` a1` means them.
#[test]
fn constants_have_the_spelling_of_the_keys_that_they_are_compared_with() {
    let account = r#"{"type":"record","name":"A","leadpulse":{"table":"accounts","role":"root"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true,"normalise":["trim","lower"]}},
      {"name":"name","type":["null","string"],"default":null}]}"#;
    let visit = r#"{"type":"record","name":"V","leadpulse":{"table":"visits","role":"event"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
      {"name":"account","type":"string","leadpulse":{"ref":"accounts","owner":true}},
      {"name":"others","type":{"type":"array","items":"string"},"default":[],"leadpulse":{"ref":"accounts"}}]}"#;
    let catalog = leadpulse_schema::Catalog::from_json(&[("a", account), ("v", visit)]).unwrap();
    let texts = |filter: &str| {
        let query =
            format!("PREDICT COUNT(visits.*, 0, 9, days) > 0 FOR EACH accounts.id WHERE {filter}");
        let planned = plan(&parse(&query).unwrap(), &catalog, &names());
        let planned = planned.unwrap_or_else(|fault| panic!("{}", fault.render(&query)));
        format!("{:?}", planned.population.condition.unwrap())
    };
    assert!(texts("accounts.id = ' A1'").contains("Text(\"a1\")"));
    assert!(texts("accounts.id IN ('B2 ', 'c3')").contains("[Text(\"b2\"), Text(\"c3\")]"));
    assert!(
        texts("accounts.name = ' A1'").contains("Text(\" A1\")"),
        "no key, no steps"
    );
    let of_rows = "PREDICT COUNT(visits.* WHERE visits.account = ' A1' AND visits.others CONTAINS 'B2', \
                   0, 9, days) > 0 FOR EACH accounts.id";
    let planned = plan(&parse(of_rows).unwrap(), &catalog, &names()).unwrap();
    let filter = format!("{:?}", planned.target.aggregates[0].filter);
    assert!(
        filter.contains("\"a1\"") && filter.contains("\"b2\""),
        "{filter}"
    );
}
