//! Random queries for the property tests.

use leadpulse_schema::Comparison;
use leadpulse_schema::units::DAY_MS;
use proptest::prelude::*;

use crate::syntax::ast::{
    AggregateCall, Bool, ColumnName, ConstantKind, Entity, Expression, Function, Modifier, Name,
    Query, RankingKind, Start, Test, TestedValue, TextMatch, Unit, WrittenConstant, WrittenWindow,
};
use crate::syntax::diagnostic::Span;

fn span() -> Span {
    Span::default()
}

fn name() -> impl Strategy<Value = Name> {
    prop_oneof![
        "[a-zA-Z_][a-zA-Z0-9_]{0,8}",
        Just("for".to_owned()),
        Just("Sum".to_owned()),
        "[a-z é'\"#%-]{1,6}"
    ]
    .prop_map(|text| Name { text, span: span() })
}

fn column() -> impl Strategy<Value = ColumnName> {
    (name(), name()).prop_map(|(table, name)| ColumnName {
        table,
        name: Some(name),
        span: span(),
    })
}

fn constant() -> impl Strategy<Value = WrittenConstant> {
    prop_oneof![
        (-i64::MAX..=i64::MAX).prop_map(ConstantKind::Integer),
        any::<f64>()
            .prop_filter("finite", |x| x.is_finite())
            .prop_map(ConstantKind::Decimal),
        "[^\\n]{0,8}".prop_map(ConstantKind::Text),
        any::<bool>().prop_map(ConstantKind::Bool),
        (-60_000_000_000_000_i64..200_000_000_000_000).prop_map(ConstantKind::Date),
        (0_i64..20_000).prop_map(|days| ConstantKind::Date(days * DAY_MS)),
    ]
    .prop_map(|kind| WrittenConstant { kind, span: span() })
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

fn test() -> impl Strategy<Value = Test> {
    let kind = prop::sample::select(vec![
        TextMatch::Like,
        TextMatch::Contains,
        TextMatch::StartsWith,
        TextMatch::EndsWith,
    ]);
    prop_oneof![
        (comparison(), constant())
            .prop_map(|(comparison, constant)| Test::Compare(comparison, constant)),
        (any::<bool>(), prop::collection::vec(constant(), 1..4))
            .prop_map(|(negated, list)| Test::In { negated, list }),
        any::<bool>().prop_map(|negated| Test::Null { negated }),
        (any::<bool>(), kind, "[^\\n]{0,8}").prop_map(|(negated, kind, pattern)| Test::Text {
            negated,
            kind,
            pattern,
            span: span()
        }),
    ]
}

fn window() -> impl Strategy<Value = Option<WrittenWindow>> {
    let start = prop_oneof![Just(Start::Ever), (-400_i64..400).prop_map(Start::At)];
    prop::option::of(
        (
            start,
            -400_i64..400,
            prop::sample::select(Unit::ALL.to_vec()),
        )
            .prop_map(|(start, end, unit)| WrittenWindow {
                start,
                end,
                unit,
                span: span(),
            }),
    )
}

fn aggregate(condition: impl Strategy<Value = Expression>) -> impl Strategy<Value = AggregateCall> {
    (
        prop::sample::select(Function::ALL.to_vec()),
        column(),
        any::<bool>(),
        prop::option::of(condition),
        window(),
    )
        .prop_map(|(function, mut column, star, filter, window)| {
            if star && function == Function::Count {
                column.name = None;
            }
            AggregateCall {
                function,
                column,
                filter: filter.map(Box::new),
                window,
                span: span(),
            }
        })
}

fn condition() -> impl Strategy<Value = Expression> {
    let leaf = prop_oneof![
        3 => (column(), test()).prop_map(|(column, test)| Expression::Test { operand: TestedValue::Column(column), test, span: span() }),
        1 => name().prop_map(|name| Expression::Value(TestedValue::Name(name))),
        1 => (name(), test()).prop_map(|(name, test)| Expression::Test { operand: TestedValue::Name(name), test, span: span() }),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::And),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::Or),
            inner.clone().prop_map(|e| Expression::Not(Box::new(e))),
            (inner.clone(), window()).prop_map(|(e, window)| Expression::Bool(Bool {
                condition: Box::new(e),
                window,
                span: span()
            })),
            (aggregate(inner), test()).prop_map(|(aggregate, test)| Expression::Test {
                operand: TestedValue::Aggregate(aggregate),
                test,
                span: span()
            }),
        ]
    })
}

fn modifier() -> impl Strategy<Value = Option<Modifier>> {
    prop_oneof![
        3 => Just(None),
        1 => (1_i64..9).prop_map(|steps| Some(Modifier::Forecast { steps, span: span() })),
        1 => prop::option::of(1_i64..9).prop_map(|top| Some(Modifier::Top { ranking: Some(RankingKind::Rank), top, span: span() })),
        1 => (1_i64..9).prop_map(|k| Some(Modifier::Top { ranking: None, top: Some(k), span: span() })),
    ]
}

/// Any query the language can express.
pub(crate) fn query() -> impl Strategy<Value = Query> {
    let target = prop_oneof![
        2 => condition(),
        1 => aggregate(condition()).prop_map(|aggregate| Expression::Value(TestedValue::Aggregate(aggregate))),
        1 => column().prop_map(|column| Expression::Value(TestedValue::Column(column))),
    ];
    let entity = (
        any::<bool>(),
        name(),
        prop::option::of(name()),
        prop::collection::vec(constant(), 0..3),
        prop::option::of(condition()),
    )
        .prop_map(|(each, table, key, ids, filter)| Entity {
            each,
            table,
            key,
            ids,
            filter,
            span: span(),
        });
    (
        target,
        modifier(),
        entity,
        prop::option::of(condition()),
        prop::collection::vec(name(), 0..3),
    )
        .prop_map(|(target, modifier, entity, assuming, using)| Query {
            target,
            modifier,
            entity,
            assuming,
            using,
        })
}

/// A piece of a query, for sentences that are nearly right.
pub(crate) fn word() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "PREDICT",
        "FOR",
        "EACH",
        "WHERE",
        "ASSUMING",
        "USING",
        "AND",
        "OR",
        "NOT",
        "IN",
        "IS",
        "NULL",
        "LIKE",
        "CONTAINS",
        "STARTS",
        "ENDS",
        "WITH",
        "BOOL",
        "COUNT",
        "SUM",
        "(",
        ")",
        ",",
        ".",
        "*",
        "-",
        "=",
        "<",
        ">=",
        ";",
        "a",
        "a.b",
        "a.*",
        "'x'",
        "5",
        "-7",
        "1.5",
        "2025-01-01",
        "INF",
        "days",
        "COUNT(a.*",
        "BOOL(a.b",
        ", 0, 90)",
        "> 0",
        "FORECAST",
        "TOP",
        "RANK",
        "Where",
        "`x",
        "'y",
        "#",
        "é",
    ])
}

/// A name, or a piece with names, of the tests' schemas.
pub(crate) fn schema_word() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "FOR EACH accounts.account_id",
        "FOR accounts",
        "FOR leads",
        "FOR contact",
        "COUNT(invoices.*, 0, 90) > 0",
        "SUM(invoices.amount WHERE invoices.amount > 0, 0, 9, weeks) > 5",
        "AVG(invoices.amount, 1, 2, months)",
        "MAX(invoices.amount, 0, 9) IS NULL",
        "COUNT_DISTINCT(invoices.sku, 0, 9) = 2",
        "COUNT(activities.*, -30, 0) > 0",
        "SUM(invoices.amount, -INF, 0) > 0",
        "BOOL(leads.status = 'Closed Won', 0, 90)",
        "BOOL(activities.type = 'demo', -7, 0)",
        "BOOL(",
        "LAST(leads.status, 0, 9) = 'MQL'",
        "leads.status = 'MQL'",
        "accounts.industry IN ('A', 'B')",
        "accounts.industry IS NOT NULL",
        "accounts.tech_stack CONTAINS 'kafka'",
        "accounts.updated_at > '2025-01-01'",
        "contacts.tier = 'Gold'",
        "will_convert",
        "conversion",
        "revenue",
        "chicken",
        "typo",
        "unparsable",
        "contacts",
        "accounts",
        "invoices.amount",
        "products.price",
    ])
}
