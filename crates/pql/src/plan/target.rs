//! The plan of a query in terms of the schemas: the rows that count, their windows, the prediction
//! made of them.

use leadpulse_schema::units::DAY_MS_F64;
use leadpulse_schema::{Comparison, Condition, FieldId, Literal, Operand, Population, TableId};

use crate::plan::lint::Lint;
use crate::syntax::ast::Unit;
use crate::syntax::dates::{add_months, longest_months_ms};

/// A query, checked and resolved.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The query with named targets written out, tables and columns as the schemas spell them. Two
    /// queries with the same text mean the same.
    pub text: String,
    /// The table whose rows are scored: the root or a member table.
    pub entity: TableId,
    /// The quantity or condition to predict.
    pub target: Target,
    /// The entities that qualify, as of the anchor.
    pub population: Population,
    /// A label is known at most this long after its anchor, milliseconds: the end of the longest
    /// window where the calendar is longest (366 days for 12 months). [`Plan::closes_ms`] has the
    /// moment for one anchor.
    pub horizon_ms: i64,
    /// USING: the only tables features may come from; empty means all. Labels and population do not
    /// depend on it.
    pub using: Vec<TableId>,
    /// Remarks that need no history; [`Plan::lints_on`] has the others.
    pub lints: Vec<Lint>,
}

/// The prediction of a query: an expression over aggregates of the future.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The aggregates that the expressions index, each distinct one once.
    pub aggregates: Vec<Aggregate>,
    /// The condition or the value that is predicted.
    pub expression: TargetExpression,
    /// ASSUMING: examples where it does not come true are dropped, so that the score is P(target |
    /// assumption).
    pub assumption: Option<TargetExpression>,
}

/// A condition over aggregates, or an aggregate by itself. Indices are into [`Target::aggregates`].
#[derive(Clone, Debug, PartialEq)]
pub enum TargetExpression {
    /// The aggregate's value is predicted.
    Value(usize),
    /// True if all parts are.
    And(Vec<TargetExpression>),
    /// True if any part is.
    Or(Vec<TargetExpression>),
    /// It does not hold.
    Not(Box<TargetExpression>),
    /// The aggregate against a number.
    Compare {
        /// Index into [`Target::aggregates`].
        aggregate: usize,
        comparison: Comparison,
        literal: f64,
    },
    /// The aggregate is one of the numbers.
    In {
        /// Index into [`Target::aggregates`].
        aggregate: usize,
        literals: Vec<f64>,
    },
    /// There is nothing to aggregate (mean, smallest, largest).
    IsNull {
        /// Index into [`Target::aggregates`].
        aggregate: usize,
    },
}

/// Something counted over the rows of a table in a window after the anchor.
#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    /// The quantity taken of the rows.
    pub quantity: Quantity,
    /// The table of the rows, and the moments at which they count.
    pub source: AggregateSource,
    /// For which entity a row counts.
    pub reach: Reach,
    /// The condition of the rows that count; `None` counts all.
    pub filter: Option<Condition>,
    /// The window in which rows count.
    pub window: Window,
}

/// The quantity taken of the rows in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quantity {
    /// Number of rows; 0 of none.
    Rows,
    /// Number of rows where the field is not null; 0 of none.
    Values(FieldId),
    /// Number of different values, nulls left out; 0 of none.
    Distinct(FieldId),
    /// Their sum, nulls left out; 0 of none.
    Sum(FieldId),
    /// Their mean, nulls left out; of none there is none.
    Mean(FieldId),
    /// The smallest; of none there is none.
    Min(FieldId),
    /// The largest; of none there is none.
    Max(FieldId),
}

impl Quantity {
    /// The field it reads.
    pub fn field(self) -> Option<FieldId> {
        match self {
            Quantity::Rows => None,
            Quantity::Values(f)
            | Quantity::Distinct(f)
            | Quantity::Sum(f)
            | Quantity::Mean(f)
            | Quantity::Min(f)
            | Quantity::Max(f) => Some(f),
        }
    }
    /// Whether the value is a count: whole, 0 or more.
    pub fn is_count(self) -> bool {
        matches!(
            self,
            Quantity::Rows | Quantity::Values(_) | Quantity::Distinct(_)
        )
    }
    /// Whether an empty window has a value (0).
    pub fn has_zero(self) -> bool {
        !matches!(
            self,
            Quantity::Mean(_) | Quantity::Min(_) | Quantity::Max(_)
        )
    }
}

/// The rows that an aggregate is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AggregateSource {
    /// The rows of an event table; each counts at its event time.
    Events(TableId),
    /// The versions of an entity table. A key counts when its versions *come to* match the filter
    /// (without one: when the key first appears), once in a window, with the field of its last
    /// matching version up to the window's end. A version takes effect at its time field, or, when
    /// that field did not move since the version before it (a creation time), when it became known.
    Versions(TableId),
}

impl AggregateSource {
    /// The table of the rows.
    pub fn table(self) -> TableId {
        match self {
            AggregateSource::Events(table) | AggregateSource::Versions(table) => table,
        }
    }
}

/// For which entity a row counts. The caller finds that entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// The row is a version of the entity.
    Itself,
    /// The row's owner is the entity (its first owner reference that is not null).
    Owner,
    /// The row lies in the cell that the entity is the root of: its owner, or its owner's owner, is
    /// the entity.
    Cell,
    /// This field of the row, which is not an owner reference, holds the entity's key, or, if it is
    /// a list, the keys of several.
    Reference(FieldId),
}

/// The window (anchor + start, anchor + end].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Excluded; 0 or more.
    pub start: i64,
    /// Included; more than `start`.
    pub end: i64,
    /// The unit of both ends.
    pub unit: Unit,
}

impl Window {
    /// The moments it lies between, in milliseconds since 1970: the first excluded, the second
    /// included.
    pub fn bounds_ms(self, anchor_ms: i64) -> (i64, i64) {
        let at = |units: i64| match self.unit {
            Unit::Months => add_months(anchor_ms, units),
            Unit::Years => add_months(anchor_ms, units.saturating_mul(12)),
            unit => anchor_ms.saturating_add(units.saturating_mul(unit.longest_ms())),
        };
        (at(self.start), at(self.end))
    }
    /// The longest time from the anchor to the target's end.
    pub fn horizon_ms(self) -> i64 {
        match self.unit {
            Unit::Months => longest_months_ms(self.end),
            Unit::Years => longest_months_ms(self.end.saturating_mul(12)),
            unit => self.end.saturating_mul(unit.longest_ms()),
        }
    }
}

/// The head of the network that predicts a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TargetKind {
    /// A condition that is false at the anchor and, once true, stays true: discrete-time hazards.
    Monotone,
    /// Any other condition: one probability for the window.
    Window,
    /// A number: one regression head.
    Regression,
}

/// Hazard edges as parts of the horizon: 7, 14, 30, 60 and 90 of 90 days.
// The prototype's edges, finer near the anchor. Why these is unknown.
const EDGE_RATIOS: [f64; 5] = [7.0 / 90.0, 14.0 / 90.0, 30.0 / 90.0, 60.0 / 90.0, 1.0];

impl Target {
    /// The head that predicts this target.
    ///
    /// Monotone are counts above a threshold, BOOL, and sums above a threshold of amounts that
    /// cannot be negative, joined by AND and OR, all windows starting at the anchor. Nothing in a
    /// schema says that amounts cannot be negative, so a sum counts as one that can fall unless its
    /// own filter says so: `SUM(invoices.amount WHERE invoices.amount > 0, 0, 90, days) > 0`.
    pub fn kind(&self) -> TargetKind {
        match &self.expression {
            TargetExpression::Value(_) => TargetKind::Regression,
            expression if self.assumption.is_none() && self.is_monotone(expression) => {
                TargetKind::Monotone
            }
            _ => TargetKind::Window,
        }
    }

    fn is_monotone(&self, expression: &TargetExpression) -> bool {
        match expression {
            TargetExpression::And(parts) | TargetExpression::Or(parts) => {
                parts.iter().all(|part| self.is_monotone(part))
            }
            TargetExpression::Compare {
                aggregate,
                comparison,
                literal,
            } => {
                let exceeds_zero = match comparison {
                    Comparison::Greater => *literal >= 0.0,
                    Comparison::GreaterOrEqual => *literal > 0.0,
                    Comparison::NotEqual => *literal == 0.0,
                    _ => false,
                };
                let aggregate = &self.aggregates[*aggregate];
                exceeds_zero && aggregate.window.start == 0 && aggregate.only_grows(*literal)
            }
            _ => false,
        }
    }

    /// The ends of the hazards' intervals in days after the anchor, ascending, the last being the
    /// horizon: 7, 14, 30, 60, 90 for 90 days, the same parts of any other horizon (whole days
    /// where that keeps them apart). Empty for targets that are not monotone.
    pub fn hazard_edges_days(&self) -> Vec<f64> {
        if self.kind() != TargetKind::Monotone {
            return Vec::new();
        }
        let horizon_days = self
            .aggregates
            .iter()
            .map(|a| a.window.horizon_ms())
            .max()
            .unwrap_or(0) as f64
            / DAY_MS_F64;
        let exact = EDGE_RATIOS.map(|ratio| ratio * horizon_days);
        let whole = exact.map(f64::round);
        let apart = whole[0] > 0.0
            && whole.windows(2).all(|pair| pair[0] < pair[1])
            && whole[4] == exact[4];
        if apart {
            whole.to_vec()
        } else {
            exact.to_vec()
        }
    }
}

impl Aggregate {
    /// Whether rows can only raise the value, as far as a comparison with `literal` can see.
    fn only_grows(&self, literal: f64) -> bool {
        let is_log = matches!(self.source, AggregateSource::Events(_));
        match self.quantity {
            Quantity::Rows => true,
            // A later version of a row that counts already may have another value.
            Quantity::Values(_) | Quantity::Distinct(_) => is_log,
            Quantity::Sum(field) => match self
                .filter
                .as_ref()
                .and_then(|filter| lower_bound(filter, field))
            {
                Some((bound, _)) if is_log => bound >= 0.0,
                Some((bound, strict)) => literal == 0.0 && (bound > 0.0 || strict && bound >= 0.0),
                None => false,
            },
            Quantity::Mean(_) | Quantity::Min(_) | Quantity::Max(_) => false,
        }
    }
}

/// The bound below which the filter lets no value of the field pass, and whether the bound itself
/// is excluded.
fn lower_bound(filter: &Condition, field: FieldId) -> Option<(f64, bool)> {
    match filter {
        Condition::And(a, b) => lower_bound(a, field).or_else(|| lower_bound(b, field)),
        Condition::Compare(Operand::Column(column), comparison, Literal::Number(bound))
            if *column == field =>
        {
            match comparison {
                Comparison::Greater => Some((*bound, true)),
                Comparison::GreaterOrEqual | Comparison::Equal => Some((*bound, false)),
                _ => None,
            }
        }
        _ => None,
    }
}

impl Plan {
    /// The moment at which the last window of an anchor ends, milliseconds: its label is known once
    /// everything up to then is. Calendar months make it differ between anchors.
    pub fn closes_ms(&self, anchor_ms: i64) -> i64 {
        let ends = self.target.aggregates.iter();
        ends.map(|aggregate| aggregate.window.bounds_ms(anchor_ms).1)
            .max()
            .unwrap_or(anchor_ms)
    }
    /// Whether rows of this table count towards the target (or the assumption).
    pub fn interested(&self, table: TableId) -> bool {
        self.reach(table).is_some()
    }
    /// For which entity rows of this table count; `None` when they do not.
    pub fn reach(&self, table: TableId) -> Option<Reach> {
        self.target
            .aggregates
            .iter()
            .find(|a| a.source.table() == table)
            .map(|a| a.reach)
    }
}
