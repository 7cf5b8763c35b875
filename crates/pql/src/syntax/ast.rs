//! The language as a tree. What it means is the planner's concern; `print` writes it back.

use leadpulse_schema::Comparison;

use crate::syntax::diagnostic::Span;

/// A whole query.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// What to predict.
    pub target: Expression,
    /// FORECAST, RANK, CLASSIFY, TOP: parsed so that the planner can say what to do instead.
    pub modifier: Option<Modifier>,
    /// For whom.
    pub entity: Entity,
    /// What is assumed to happen: a condition on the future.
    pub assuming: Option<Expression>,
    /// The only tables that may be used.
    pub using: Vec<Name>,
}

/// A name as written, backticks removed.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    /// The name.
    pub text: String,
    /// Where.
    pub span: Span,
}

/// A column, or all of a table's: always qualified.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// The table.
    pub table: Name,
    /// The column; `None` is `*`.
    pub name: Option<Name>,
    /// Where.
    pub span: Span,
}

/// `FOR [EACH] table[.key] [= id | IN (ids)] [WHERE …]`
#[derive(Clone, Debug, PartialEq)]
pub struct Entity {
    /// Whether EACH was written.
    pub each: bool,
    /// The entity table.
    pub table: Name,
    /// Its key; `FOR leads` leaves it out.
    pub key: Option<Name>,
    /// Chosen entities only.
    pub ids: Vec<Constant>,
    /// Which entities qualify, as of the anchor.
    pub filter: Option<Expression>,
    /// Where table and key stand.
    pub span: Span,
}

/// What stands between target and FOR in the public language.
#[derive(Clone, Debug, PartialEq)]
pub enum Modifier {
    /// `FORECAST n TIMEFRAMES`
    Forecast {
        /// How many.
        steps: i64,
        /// Where.
        span: Span,
    },
    /// `[RANK | CLASSIFY] [TOP k]`, at least one of them.
    Top {
        /// The first word, if written.
        ranking: Option<Ranking>,
        /// k, if written.
        top: Option<i64>,
        /// Where.
        span: Span,
    },
}

/// RANK or CLASSIFY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ranking {
    /// RANK
    Rank,
    /// CLASSIFY
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
    /// `operand test`
    Test {
        /// The left side.
        operand: Operand,
        /// What is asked of it.
        test: Test,
        /// Where.
        span: Span,
    },
    /// `BOOL(condition, start, end, unit)`: it comes to hold within the window.
    Bool(Bool),
    /// An operand by itself: as a whole target, or the name of a condition.
    Value(Operand),
}

/// `BOOL(condition, start, end, unit)`
#[derive(Clone, Debug, PartialEq)]
pub struct Bool {
    /// What comes to hold.
    pub condition: Box<Expression>,
    /// When.
    pub window: Option<Window>,
    /// Where.
    pub span: Span,
}

/// What can be tested or predicted.
#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    /// A stored value.
    Column(Column),
    /// Something counted in a window.
    Aggregate(Aggregate),
    /// A bare name: a named target of the configuration.
    Name(Name),
}

/// What is asked of an operand.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// `= != < <= > >=`, `IS x`, `IS NOT x`
    Compare(Comparison, Constant),
    /// `[NOT] IN (…)`
    In {
        /// Whether NOT was written.
        negated: bool,
        /// The list.
        list: Vec<Constant>,
    },
    /// `IS [NOT] NULL`
    Null {
        /// Whether NOT was written.
        negated: bool,
    },
    /// `[NOT] LIKE | CONTAINS | STARTS WITH | ENDS WITH 'text'`
    Text {
        /// Whether NOT was written.
        negated: bool,
        /// Which.
        kind: TextMatch,
        /// The text looked for.
        pattern: String,
        /// Where it stands.
        span: Span,
    },
}

/// How text is matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextMatch {
    /// LIKE: `%` any run, `_` any one character, `\` takes the next literally.
    Like,
    /// CONTAINS
    Contains,
    /// STARTS WITH
    StartsWith,
    /// ENDS WITH
    EndsWith,
}

/// `FUNCTION(table.column [WHERE …] [, start, end [, unit]])`
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// Which.
    pub function: Function,
    /// Of what.
    pub column: Column,
    /// Which rows count.
    pub filter: Option<Box<Expression>>,
    /// When.
    pub window: Option<Window>,
    /// Where.
    pub span: Span,
}

/// The aggregates of the public language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// Sum of a number.
    Sum,
    /// Mean of a number.
    Avg,
    /// Smallest number.
    Min,
    /// Largest number.
    Max,
    /// How many rows, or values that are not null.
    Count,
    /// How many different values.
    CountDistinct,
    /// The earliest value.
    First,
    /// The latest value.
    Last,
    /// The different values.
    ListDistinct,
}

impl Function {
    /// All of them.
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
pub struct Window {
    /// Excluded.
    pub start: Start,
    /// Included.
    pub end: i64,
    /// What they count.
    pub unit: Unit,
    /// Where.
    pub span: Span,
}

/// Where a window starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// `-INF`
    Ever,
    /// Units after the anchor (before, when negative).
    At(i64),
}

/// What a window counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Minutes.
    Minutes,
    /// Hours.
    Hours,
    /// 24 hours; what is meant when no unit is written.
    Days,
    /// 7 days.
    Weeks,
    /// Calendar months in UTC.
    Months,
}

impl Unit {
    /// All of them.
    pub const ALL: [Unit; 6] = [
        Unit::Seconds,
        Unit::Minutes,
        Unit::Hours,
        Unit::Days,
        Unit::Weeks,
        Unit::Months,
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
        }
    }
    /// Milliseconds of one; a month is taken at its longest, 31 days.
    pub fn longest_ms(self) -> i64 {
        match self {
            Unit::Seconds => 1_000,
            Unit::Minutes => 60_000,
            Unit::Hours => 3_600_000,
            Unit::Days => 86_400_000,
            Unit::Weeks => 7 * 86_400_000,
            Unit::Months => 31 * 86_400_000,
        }
    }
}

/// A constant and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// Its value.
    pub kind: ConstantKind,
    /// Where.
    pub span: Span,
}

/// The value of a constant.
#[derive(Clone, Debug, PartialEq)]
pub enum ConstantKind {
    /// A whole number.
    Integer(i64),
    /// A number with a fraction or an exponent; finite.
    Decimal(f64),
    /// Quoted text.
    Text(String),
    /// TRUE or FALSE.
    Bool(bool),
    /// NULL.
    Null,
    /// A date, with or without a time of day: milliseconds since 1970 UTC.
    Date(i64),
}

impl Operand {
    /// Where it stands.
    pub fn span(&self) -> Span {
        match self {
            Operand::Column(column) => column.span,
            Operand::Aggregate(aggregate) => aggregate.span,
            Operand::Name(name) => name.span,
        }
    }
}

impl Expression {
    /// Where it stands; of several, from the first to the last.
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
