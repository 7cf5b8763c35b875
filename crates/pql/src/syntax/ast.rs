//! The language as a tree. What it means is the planner's concern; `print` writes it back.

use leadpulse_schema::Comparison;
use leadpulse_schema::units::DAY_MS;

use crate::syntax::diagnostic::Span;

/// A query, from PREDICT to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// The expression behind PREDICT.
    pub target: Expression,
    /// FORECAST, RANK, CLASSIFY, TOP: parsed so that the planner can say what to do instead.
    pub modifier: Option<Modifier>,
    /// The entity that scores are for.
    pub entity: Entity,
    /// ASSUMING: a condition on the future that is taken to hold.
    pub assuming: Option<Expression>,
    /// The only tables that may be used.
    pub using: Vec<Name>,
}

/// A name as written, backticks removed.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    pub text: String,
    pub span: Span,
}

/// A column, or all of a table's: always qualified.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnName {
    pub table: Name,
    /// The column; `None` is `*`.
    pub name: Option<Name>,
    pub span: Span,
}

/// `FOR [EACH] table[.key] [= id | IN (ids)] [WHERE …]`
#[derive(Clone, Debug, PartialEq)]
pub struct Entity {
    /// Whether EACH was written.
    pub each: bool,
    pub table: Name,
    /// The key column; `FOR leads` leaves it out.
    pub key: Option<Name>,
    /// The keys of chosen entities; empty means all.
    pub ids: Vec<WrittenConstant>,
    /// The condition of the entities that qualify, as of the anchor.
    pub filter: Option<Expression>,
    /// The place of table and key.
    pub span: Span,
}

/// A clause between target and FOR in the public language.
#[derive(Clone, Debug, PartialEq)]
pub enum Modifier {
    /// The clause `FORECAST n TIMEFRAMES`.
    Forecast {
        /// The number of timeframes.
        steps: i64,
        span: Span,
    },
    /// `[RANK | CLASSIFY] [TOP k]`, at least one of them.
    Top {
        /// The first word, if written.
        ranking: Option<RankingKind>,
        /// The k of `TOP k`, if written.
        top: Option<i64>,
        span: Span,
    },
}

/// The keyword that asks for items in an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RankingKind {
    Rank,
    Classify,
}

/// A target or a condition.
#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    /// All hold; at least two.
    And(Vec<Expression>),
    /// One holds; at least two.
    Or(Vec<Expression>),
    /// It does not hold.
    Not(Box<Expression>),
    /// An operand and a test of its value.
    Test {
        operand: TestedValue,
        test: Test,
        span: Span,
    },
    /// `BOOL(condition, start, end, unit)`: it comes to hold within the window.
    Bool(Bool),
    /// An operand by itself: as a whole target, or the name of a condition.
    Value(TestedValue),
}

/// `BOOL(condition, start, end, unit)`
#[derive(Clone, Debug, PartialEq)]
pub struct Bool {
    /// The condition that comes to hold.
    pub condition: Box<Expression>,
    /// The window, if written.
    pub window: Option<WrittenWindow>,
    pub span: Span,
}

/// An operand: a value that can be tested or predicted.
#[derive(Clone, Debug, PartialEq)]
pub enum TestedValue {
    /// A column's stored value.
    Column(ColumnName),
    /// Something counted in a window.
    Aggregate(AggregateCall),
    /// A bare name: a named target of the configuration.
    Name(Name),
}

/// A test of an operand's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// `= != < <= > >=`, `IS x`, `IS NOT x`
    Compare(Comparison, WrittenConstant),
    /// The test `[NOT] IN (…)`.
    In {
        /// Whether NOT was written.
        negated: bool,
        list: Vec<WrittenConstant>,
    },
    /// The test `IS [NOT] NULL`.
    Null {
        /// Whether NOT was written.
        negated: bool,
    },
    /// `[NOT] LIKE | CONTAINS | STARTS WITH | ENDS WITH 'text'`
    Text {
        /// Whether NOT was written.
        negated: bool,
        kind: TextMatch,
        /// The text looked for.
        pattern: String,
        span: Span,
    },
}

/// The kind of a text match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextMatch {
    /// LIKE: `%` any run, `_` any one character, `\` takes the next literally.
    Like,
    Contains,
    StartsWith,
    EndsWith,
}

/// `FUNCTION(table.column [WHERE …] [, start, end [, unit]])`
#[derive(Clone, Debug, PartialEq)]
pub struct AggregateCall {
    pub function: Function,
    /// The column, or `table.*`.
    pub column: ColumnName,
    /// The inner WHERE: the condition of the rows that count.
    pub filter: Option<Box<Expression>>,
    /// The window, if written.
    pub window: Option<WrittenWindow>,
    pub span: Span,
}

/// The aggregates of the public language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// Sum of a number.
    Sum,
    /// Mean of a number.
    Avg,
    Min,
    Max,
    /// Number of rows, or of values that are not null.
    Count,
    /// Number of different values.
    CountDistinct,
    /// The value of the earliest row.
    First,
    /// The value of the latest row.
    Last,
    /// The list of different values.
    ListDistinct,
}

impl Function {
    /// All functions, in the order of their documentation.
    pub const ALL: [Function; 9] = [
        Function::Sum,
        Function::Avg,
        Function::Min,
        Function::Max,
        Function::Count,
        Function::CountDistinct,
        Function::First,
        Function::Last,
        Function::ListDistinct,
    ];
    /// As written in a query.
    pub fn keyword(self) -> &'static str {
        match self {
            Function::Sum => "SUM",
            Function::Avg => "AVG",
            Function::Min => "MIN",
            Function::Max => "MAX",
            Function::Count => "COUNT",
            Function::CountDistinct => "COUNT_DISTINCT",
            Function::First => "FIRST",
            Function::Last => "LAST",
            Function::ListDistinct => "LIST_DISTINCT",
        }
    }
}

/// A window relative to the anchor: (start, end].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WrittenWindow {
    /// The start, excluded from the window.
    pub start: Start,
    /// The end, included in the window.
    pub end: i64,
    /// The unit of both ends.
    pub unit: Unit,
    pub span: Span,
}

/// The start of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Minus infinity, written `-INF`: the window has no start.
    Ever,
    /// Units after the anchor (before, when negative).
    At(i64),
}

/// The unit of a window's ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    Seconds,
    Minutes,
    Hours,
    /// 24 hours; what is meant when no unit is written.
    Days,
    /// Weeks of 7 days.
    Weeks,
    /// Calendar months in UTC.
    Months,
    /// Calendar years in UTC: 12 calendar months.
    Years,
}

impl Unit {
    /// All units, shortest first.
    pub const ALL: [Unit; 7] = [
        Unit::Seconds,
        Unit::Minutes,
        Unit::Hours,
        Unit::Days,
        Unit::Weeks,
        Unit::Months,
        Unit::Years,
    ];
    /// As written in a query.
    pub fn keyword(self) -> &'static str {
        match self {
            Unit::Seconds => "seconds",
            Unit::Minutes => "minutes",
            Unit::Hours => "hours",
            Unit::Days => "days",
            Unit::Weeks => "weeks",
            Unit::Months => "months",
            Unit::Years => "years",
        }
    }
    /// The word for one, which a query may also write.
    pub fn singular(self) -> &'static str {
        self.keyword().trim_end_matches('s')
    }
    /// Milliseconds of one; a month is taken at its longest, 31 days, a year with 366.
    pub fn longest_ms(self) -> i64 {
        match self {
            Unit::Seconds => 1_000,
            Unit::Minutes => 60_000,
            Unit::Hours => 3_600_000,
            Unit::Days => DAY_MS,
            Unit::Weeks => 7 * DAY_MS,
            Unit::Months => 31 * DAY_MS,
            Unit::Years => 366 * DAY_MS,
        }
    }
}

/// A constant and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct WrittenConstant {
    pub kind: ConstantKind,
    pub span: Span,
}

/// The value of a constant.
#[derive(Clone, Debug, PartialEq)]
pub enum ConstantKind {
    Integer(i64),
    /// A number with a fraction or an exponent; finite.
    Decimal(f64),
    Text(String),
    Bool(bool),
    Null,
    /// A date, with or without a time of day: milliseconds since 1970 UTC.
    Date(i64),
}

impl WrittenConstant {
    /// The constant as a number; `None` for any other.
    pub fn number(&self) -> Option<f64> {
        match self.kind {
            ConstantKind::Integer(n) => Some(n as f64),
            ConstantKind::Decimal(x) => Some(x),
            _ => None,
        }
    }
}

impl TestedValue {
    /// The place in the text.
    pub fn span(&self) -> Span {
        match self {
            TestedValue::Column(column) => column.span,
            TestedValue::Aggregate(aggregate) => aggregate.span,
            TestedValue::Name(name) => name.span,
        }
    }
}

impl Expression {
    /// The place in the text; of several parts, from the first to the last.
    pub fn span(&self) -> Span {
        match self {
            Expression::And(parts) | Expression::Or(parts) => match (parts.first(), parts.last()) {
                (Some(first), Some(last)) => first.span().to(last.span()),
                _ => Span::default(),
            },
            Expression::Not(inner) => inner.span(),
            Expression::Test { span, .. } => *span,
            Expression::Bool(bool) => bool.span,
            Expression::Value(operand) => operand.span(),
        }
    }
}
