//! Expressions: conditions, operands and tests.

use leadpulse_schema::Comparison;

use super::{MAX_DEPTH, Parsed, Parser};
use crate::syntax::ast::{
    AggregateCall, Bool, ColumnName, ConstantKind, Expression, Function, Start, Test, TestedValue,
    TextMatch, Unit, WrittenWindow,
};
use crate::syntax::diagnostic::{Diagnostic, Span, did_you_mean};
use crate::syntax::lexer::Token;

/// Hint at the bounds that a window may have.
const BOUND: &str = "bounds are whole numbers of a unit, with a smaller one where needed; only a \
    filter's window may start at -INF";

impl Parser {
    pub(super) fn deeper<T>(&mut self, rule: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        if self.depth == MAX_DEPTH {
            let hint = "flatten it: a AND b AND c needs no parentheses";
            return Err(Diagnostic::new(
                self.span(),
                format!("conditions are nested deeper than {MAX_DEPTH} levels"),
                hint,
            ));
        }
        self.depth += 1;
        let parsed = rule(self);
        self.depth -= 1;
        parsed
    }

    /// An expression that is true or false.
    pub(super) fn condition(&mut self) -> Parsed<Expression> {
        let expression = self.expression()?;
        require_condition(&expression)?;
        Ok(expression)
    }

    pub(super) fn expression(&mut self) -> Parsed<Expression> {
        self.deeper(|parser| {
            parser.series(
                "OR",
                |parser| parser.series("AND", Self::negation, Expression::And),
                Expression::Or,
            )
        })
    }

    pub(super) fn series(
        &mut self,
        word: &str,
        part: fn(&mut Self) -> Parsed<Expression>,
        join: fn(Vec<Expression>) -> Expression,
    ) -> Parsed<Expression> {
        let first = part(self)?;
        if !self.is_word(word) {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.keyword(word) {
            parts.push(part(self)?);
        }
        for part in &parts {
            require_condition(part)?;
        }
        Ok(join(parts))
    }

    pub(super) fn negation(&mut self) -> Parsed<Expression> {
        if self.keyword("NOT") {
            let inner = self.deeper(Self::negation)?;
            require_condition(&inner)?;
            return Ok(Expression::Not(Box::new(inner)));
        }
        let start = self.span();
        if self.sign("(") {
            let inner = self.expression()?;
            self.expect_sign(")", "close the parenthesis")?;
            return match inner {
                Expression::Value(operand) => self.tested(operand, start),
                condition => Ok(condition),
            };
        }
        if matches!(self.peek_second(), Token::Sign("(")) && self.keyword("BOOL") {
            self.advance();
            let condition = Box::new(self.condition()?);
            let window = self.window()?;
            self.expect_sign(
                ")",
                "BOOL takes a condition, start, end and unit: BOOL(leads.status \
                = 'Closed Won', 0, 90, days)",
            )?;
            return Ok(Expression::Bool(Bool {
                condition,
                window,
                span: self.since(start),
            }));
        }
        let operand = self.operand()?;
        self.tested(operand, start)
    }

    /// The operand with the test that follows it, or by itself.
    fn tested(&mut self, operand: TestedValue, start: Span) -> Parsed<Expression> {
        match self.test()? {
            Some(test) => {
                if let TestedValue::Column(ColumnName {
                    name: None, span, ..
                }) = &operand
                {
                    return Err(Diagnostic::new(
                        *span,
                        "* is not a value",
                        "name a column, or count the rows: COUNT(table.*, 0, 90, days)",
                    ));
                }
                Ok(Expression::Test {
                    operand,
                    test,
                    span: self.since(start),
                })
            }
            None => Ok(Expression::Value(operand)),
        }
    }

    pub(super) fn operand(&mut self) -> Parsed<TestedValue> {
        if let Token::Word(word) = self.peek()
            && matches!(self.peek_second(), Token::Sign("("))
        {
            let function = Function::ALL
                .into_iter()
                .find(|f| f.keyword().eq_ignore_ascii_case(word));
            let Some(function) = function else {
                let known = Function::ALL.iter().map(|f| f.keyword()).chain(["BOOL"]);
                let message = format!("there is no function {word}{}", did_you_mean(word, known));
                let hint = "there are SUM, COUNT, COUNT_DISTINCT, AVG, MIN, MAX and BOOL";
                return Err(Diagnostic::new(self.span(), message, hint));
            };
            return self.aggregate(function).map(TestedValue::Aggregate);
        }
        match self.peek() {
            Token::Integer(_)
            | Token::Decimal(_)
            | Token::Date(_)
            | Token::Text(_)
            | Token::Sign("-") => Err(self.unexpected(
                "a column, an aggregate or a name",
                "the constant goes to the right: COUNT(opportunities.*, 0, 90, days) > 5",
            )),
            _ => self.column_or_name(),
        }
    }

    pub(super) fn column_or_name(&mut self) -> Parsed<TestedValue> {
        let start = self.span();
        let table = self.name("a column (table.column), an aggregate or the name of a target")?;
        if !self.sign(".") {
            return Ok(TestedValue::Name(table));
        }
        let name = if self.sign("*") {
            None
        } else {
            Some(self.name_after_dot()?)
        };
        Ok(TestedValue::Column(ColumnName {
            table,
            name,
            span: self.since(start),
        }))
    }

    pub(super) fn aggregate(&mut self, function: Function) -> Parsed<AggregateCall> {
        let start = self.span();
        self.advance();
        self.advance();
        if let Token::Word(word) = self.peek()
            && Function::ALL
                .iter()
                .any(|f| f.keyword().eq_ignore_ascii_case(word))
            && matches!(self.peek_second(), Token::Sign("("))
        {
            return Err(Diagnostic::new(
                self.span(),
                "an aggregate of an aggregate",
                "aggregate a column; compare and join aggregates outside",
            ));
        }
        if self.is_word("DISTINCT") && !matches!(self.peek_second(), Token::Sign(".")) {
            return Err(self.unexpected(
                "a column",
                "different values are counted with COUNT_DISTINCT(table.column, 0, 90, days)",
            ));
        }
        if matches!(self.peek(), Token::Sign("*")) {
            return Err(self.unexpected(
                "a column",
                "* stands behind its table: COUNT(table.*, 0, 90, days)",
            ));
        }
        let column = match self.column_or_name()? {
            TestedValue::Column(column) => column,
            other => {
                let message = "columns are always written with their table";
                return Err(Diagnostic::new(
                    other.span(),
                    message,
                    format!("write {}(table.{other}, …)", function.keyword()),
                ));
            }
        };
        if column.name.is_none() && function != Function::Count {
            let message = format!("{} needs a column, not *", function.keyword());
            return Err(Diagnostic::new(
                column.span,
                message,
                "only COUNT counts whole rows",
            ));
        }
        let filter = if self.keyword("WHERE") {
            Some(Box::new(self.condition()?))
        } else {
            None
        };
        let window = self.window()?;
        let name = function.keyword();
        self.expect_sign(
            ")",
            &format!(
                "{name} takes a column, WHERE, start, end and unit: {name}({column}, 0, 90, days)"
            ),
        )?;
        Ok(AggregateCall {
            function,
            column,
            filter,
            window,
            span: self.since(start),
        })
    }

    pub(super) fn window(&mut self) -> Parsed<Option<WrittenWindow>> {
        if !self.sign(",") {
            return Ok(None);
        }
        let first = self.span();
        let infinite =
            matches!(self.peek_second(), Token::Word(word) if word.eq_ignore_ascii_case("INF"));
        let start = if infinite && self.sign("-") {
            self.keyword("INF");
            Start::Ever
        } else {
            Start::At(self.whole_number("the start of the window", BOUND)?)
        };
        self.expect_sign(",", "a window has a start and an end: 0, 90, days")?;
        let end = self.whole_number("the end of the window", BOUND)?;
        let unit = if self.sign(",") {
            self.unit()?
        } else {
            Unit::Days
        };
        Ok(Some(WrittenWindow {
            start,
            end,
            unit,
            span: self.since(first),
        }))
    }

    pub(super) fn unit(&mut self) -> Parsed<Unit> {
        for unit in Unit::ALL {
            if self.keyword(unit.keyword()) || self.keyword(unit.singular()) {
                return Ok(unit);
            }
        }
        let proposal = match self.peek() {
            Token::Word(word) => did_you_mean(word, Unit::ALL.iter().map(|u| u.keyword())),
            _ => String::new(),
        };
        Err(self.unexpected(
            &format!("a unit{proposal}"),
            "units are seconds, minutes, hours, days, weeks, months and years",
        ))
    }

    pub(super) fn test(&mut self) -> Parsed<Option<Test>> {
        if let Some(comparison) = self.comparison()? {
            return Ok(Some(comparison));
        }
        if self.is_word("BETWEEN") {
            return Err(self.unexpected("a comparison", "write two: a.b >= 1 AND a.b <= 9"));
        }
        let start = self.span();
        let is = self.keyword("IS");
        let negated = self.keyword("NOT");
        if negated && !is {
            // NOT IS IN
            self.keyword("IS");
        }
        if self.keyword("IN") {
            return Ok(Some(Test::In {
                negated,
                list: self.list()?,
            }));
        }
        if is {
            let constant = self.constant()?;
            return Ok(Some(match constant.kind {
                ConstantKind::Null => Test::Null { negated },
                _ if negated => Test::Compare(Comparison::NotEqual, constant),
                _ => Test::Compare(Comparison::Equal, constant),
            }));
        }
        match self.text_match()? {
            Some(kind) => self.pattern(kind, negated, start).map(Some),
            None if negated => Err(self.unexpected(
                "IN, LIKE, CONTAINS, STARTS WITH or ENDS WITH",
                "to negate a comparison write NOT before it, or use !=",
            )),
            None => Ok(None),
        }
    }

    /// A comparison by a sign.
    fn comparison(&mut self) -> Parsed<Option<Test>> {
        // The lexer takes the longest sign, so that their order here decides nothing.
        const COMPARISONS: [(&str, Comparison); 6] = [
            ("=", Comparison::Equal),
            ("!=", Comparison::NotEqual),
            ("<", Comparison::Less),
            ("<=", Comparison::LessOrEqual),
            (">", Comparison::Greater),
            (">=", Comparison::GreaterOrEqual),
        ];
        for (sign, comparison) in COMPARISONS {
            if self.sign(sign) {
                let constant = self.constant()?;
                if constant.kind == ConstantKind::Null {
                    return Err(Diagnostic::new(
                        constant.span,
                        "a comparison with NULL is never true",
                        "write IS NULL or IS NOT NULL",
                    ));
                }
                return Ok(Some(Test::Compare(comparison, constant)));
            }
        }
        Ok(None)
    }

    /// The keywords that a pattern follows.
    fn text_match(&mut self) -> Parsed<Option<TextMatch>> {
        if self.keyword("LIKE") {
            return Ok(Some(TextMatch::Like));
        }
        if self.keyword("CONTAINS") {
            return Ok(Some(TextMatch::Contains));
        }
        if !self.is_word("STARTS") && !self.is_word("ENDS") {
            return Ok(None);
        }
        let kind = if self.keyword("STARTS") {
            TextMatch::StartsWith
        } else {
            TextMatch::EndsWith
        };
        self.keyword("ENDS");
        if !self.keyword("WITH") {
            return Err(self.unexpected("WITH", "write STARTS WITH 'text' or ENDS WITH 'text'"));
        }
        Ok(Some(kind))
    }

    fn pattern(&mut self, kind: TextMatch, negated: bool, start: Span) -> Parsed<Test> {
        let constant = self.constant()?;
        match constant.kind {
            ConstantKind::Text(pattern) => Ok(Test::Text {
                negated,
                kind,
                pattern,
                span: self.since(start),
            }),
            _ => Err(Diagnostic::new(
                constant.span,
                "expected a text",
                "put it between quotes: 'text'",
            )),
        }
    }
}

/// A column or aggregate by itself is no condition; a bare name may stand for one.
fn require_condition(expression: &Expression) -> Parsed<()> {
    match expression {
        Expression::Value(operand @ (TestedValue::Column(_) | TestedValue::Aggregate(_))) => {
            let example = if matches!(operand, TestedValue::Column(_)) {
                "= TRUE"
            } else {
                "> 0"
            };
            Err(Diagnostic::new(
                operand.span(),
                "a condition needs a comparison",
                format!("write {operand} {example}"),
            ))
        }
        _ => Ok(()),
    }
}
