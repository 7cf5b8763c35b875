//! Text into a tree, by recursive descent: one function a rule, one token of lookahead.
//!
//! Every construct of the public language parses, whether the planner supports it or not. No input makes it panic:
//! text and nesting are bounded.

use leadpulse_schema::Comparison;

use crate::syntax::ast::{
    AggregateCall, Bool, ColumnName, ConstantKind, Entity, Expression, Function, Modifier, Name,
    Query, RankingKind, Start, Test, TestedValue, TextMatch, Unit, WrittenConstant, WrittenWindow,
};
use crate::syntax::diagnostic::{Diagnostic, Span, did_you_mean};
use crate::syntax::lexer::{Token, tokens};

/// The longest text that is parsed.
pub const MAX_QUERY_BYTES: usize = 16_384;
/// How deep conditions may be nested.
pub const MAX_DEPTH: usize = 48;

/// Words that are names only between backticks.
const RESERVED: [&str; 22] = [
    "PREDICT", "FOR", "EACH", "WHERE", "ASSUMING", "USING", "AND", "OR", "NOT", "IN", "IS", "LIKE",
    "CONTAINS", "STARTS", "ENDS", "TRUE", "FALSE", "NULL", "FORECAST", "RANK", "CLASSIFY", "TOP",
];
/// Words that other query languages have.
const FOREIGN: [&str; 8] = [
    "GROUP", "ORDER", "LIMIT", "HAVING", "SELECT", "FROM", "JOIN", "AS",
];

/// How the bounds of a window are written.
const BOUND: &str = "bounds are whole numbers of a unit, with a smaller one where needed; only a filter's window may start at -INF";

/// Whether a name must stand in backticks.
pub(crate) fn is_reserved(word: &str) -> bool {
    RESERVED
        .iter()
        .any(|reserved| reserved.eq_ignore_ascii_case(word))
}

/// Parses a query.
///
/// # Errors
/// The first place where the text is not of the language, with what was expected there.
///
/// # Examples
/// ```
/// let query = leadpulse_pql::parse("predict count(visits.*, 0, 30) > 0 for accounts")?;
/// assert_eq!(query.to_string(), "PREDICT COUNT(visits.*, 0, 30, days) > 0 FOR accounts");
///
/// let fault = leadpulse_pql::parse("PREDICT COUNT(visits.*, 0, 30) >").unwrap_err();
/// assert_eq!((fault.line, fault.column), (1, 33));
/// # Ok::<(), leadpulse_pql::Diagnostic>(())
/// ```
pub fn parse(source: &str) -> Result<Query, Diagnostic> {
    let mut parser = Parser::new(source, 0)?;
    let query = parser.query()?;
    parser.end()?;
    Ok(query)
}

/// Parses a target: the text after PREDICT, or the value of a named target.
///
/// # Errors
/// As [`parse`].
pub fn parse_target(source: &str) -> Result<Expression, Diagnostic> {
    parse_target_numbered(source, 0)
}

pub(crate) fn parse_target_numbered(
    source: &str,
    text_number: u16,
) -> Result<Expression, Diagnostic> {
    let mut parser = Parser::new(source, text_number)?;
    let target = parser.expression()?;
    parser.end()?;
    Ok(target)
}

struct Parser {
    tokens: Vec<(Token, Span)>,
    at: usize,
    depth: usize,
}

type Parsed<T> = Result<T, Diagnostic>;

impl Parser {
    fn new(source: &str, text_number: u16) -> Parsed<Self> {
        if source.len() > MAX_QUERY_BYTES {
            let span = Span {
                start: 0,
                end: 0,
                line: 1,
                column: 1,
                text: text_number,
            };
            let message = format!("the query is longer than {MAX_QUERY_BYTES} bytes");
            return Err(Diagnostic::new(
                span,
                message,
                "shorten its lists, or put part of it into a named target",
            ));
        }
        Ok(Self {
            tokens: tokens(source, text_number)?,
            at: 0,
            depth: 0,
        })
    }

    // Tokens.

    fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    fn peek_second(&self) -> &Token {
        &self.tokens[(self.at + 1).min(self.tokens.len() - 1)].0
    }

    fn span(&self) -> Span {
        self.tokens[self.at].1
    }

    /// The span from `start` to the token before this one.
    fn since(&self, start: Span) -> Span {
        start.to(self.tokens[self.at.saturating_sub(1)].1)
    }

    fn advance(&mut self) {
        self.at = (self.at + 1).min(self.tokens.len() - 1);
    }

    fn is_word(&self, keyword: &str) -> bool {
        matches!(self.peek(), Token::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    /// Takes the keyword if it is next; one in mixed case is a fault.
    fn keyword(&mut self, keyword: &str) -> Parsed<bool> {
        if !self.is_word(keyword) {
            return Ok(false);
        }
        self.check_case(keyword)?;
        self.advance();
        Ok(true)
    }

    fn check_case(&self, keyword: &str) -> Parsed<()> {
        match self.peek() {
            Token::Word(word)
                if *word != keyword.to_ascii_lowercase()
                    && *word != keyword.to_ascii_uppercase() =>
            {
                let hint = format!(
                    "write {} or {}",
                    keyword.to_ascii_uppercase(),
                    keyword.to_ascii_lowercase()
                );
                Err(Diagnostic::new(
                    self.span(),
                    format!("keywords are all capitals or all small letters, not {word}"),
                    hint,
                ))
            }
            _ => Ok(()),
        }
    }

    fn sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(s) if *s == sign);
        if found {
            self.advance();
        }
        found
    }

    fn expect_sign(&mut self, sign: &str, hint: &str) -> Parsed<()> {
        if self.sign(sign) {
            Ok(())
        } else {
            Err(self.unexpected(&format!("'{sign}'"), hint))
        }
    }

    fn unexpected(&self, expected: &str, hint: &str) -> Diagnostic {
        let found = self.peek().describe();
        let hint = match self.peek() {
            Token::Word(word) if FOREIGN.iter().any(|f| f.eq_ignore_ascii_case(word)) => {
                "the language has no joins, groups, orders, limits or aliases: tables are joined along their references"
            }
            _ => hint,
        };
        Diagnostic::new(
            self.span(),
            format!("expected {expected}, found {found}"),
            hint,
        )
    }

    fn end(&mut self) -> Parsed<()> {
        self.sign(";");
        match self.peek() {
            Token::End => Ok(()),
            Token::Sign(",") => Err(self.unexpected(
                "the end of the query",
                "a query has one target and one entity; write a query for each",
            )),
            Token::Sign("-" | "*") => {
                Err(self.unexpected("the end of the query", "the language has no arithmetic"))
            }
            _ => Err(self.unexpected(
                "the end of the query",
                "after the entity come WHERE, ASSUMING and USING",
            )),
        }
    }

    // Query.

    fn query(&mut self) -> Parsed<Query> {
        if !self.keyword("PREDICT")? {
            let hint = "for example: PREDICT COUNT(opportunities.*, 0, 90, days) > 0 FOR EACH accounts.account_id";
            return Err(self.unexpected("PREDICT", hint));
        }
        let target = self.expression()?;
        let modifier = self.modifier()?;
        if !self.keyword("FOR")? {
            return Err(match self.peek() {
                Token::End => Diagnostic::new(
                    self.span(),
                    "the query does not say for whom",
                    "add FOR EACH and the key of a table: FOR EACH accounts.account_id",
                ),
                Token::Sign(",") => self.unexpected("FOR EACH", "a query has one target; write a query for each"),
                Token::Sign("-" | "*") => self.unexpected("FOR EACH", "the language has no arithmetic"),
                _ => self.unexpected("FOR EACH", "after the target comes FOR EACH and the key of a table: FOR EACH accounts.account_id"),
            });
        }
        let entity = self.entity()?;
        let mut query = Query {
            target,
            modifier,
            entity,
            assuming: None,
            using: Vec::new(),
        };
        loop {
            let span = self.span();
            let repeated = |clause: &str| {
                Diagnostic::new(
                    span,
                    format!("{clause} stands twice"),
                    "join conditions with AND, tables with commas",
                )
            };
            if self.keyword("WHERE")? {
                if query.entity.filter.is_some() {
                    return Err(repeated("WHERE"));
                }
                query.entity.filter = Some(self.condition()?);
            } else if self.keyword("ASSUMING")? {
                if query.assuming.is_some() {
                    return Err(repeated("ASSUMING"));
                }
                query.assuming = Some(self.condition()?);
            } else if self.keyword("USING")? {
                if !query.using.is_empty() {
                    return Err(repeated("USING"));
                }
                query.using.push(self.name("a table")?);
                while self.sign(",") {
                    query.using.push(self.name("a table")?);
                }
            } else {
                return Ok(query);
            }
        }
    }

    fn modifier(&mut self) -> Parsed<Option<Modifier>> {
        let start = self.span();
        if self.keyword("FORECAST")? {
            let steps = self.whole_number(
                "how many timeframes to forecast",
                "write FORECAST 4 TIMEFRAMES",
            )?;
            if !self.keyword("TIMEFRAMES")? {
                return Err(self.unexpected("TIMEFRAMES", "write FORECAST 4 TIMEFRAMES"));
            }
            return Ok(Some(Modifier::Forecast {
                steps,
                span: self.since(start),
            }));
        }
        let ranking = if self.keyword("RANK")? {
            Some(RankingKind::Rank)
        } else if self.keyword("CLASSIFY")? {
            Some(RankingKind::Classify)
        } else {
            None
        };
        let top = if self.keyword("TOP")? {
            Some(self.whole_number("how many to return", "write TOP 10")?)
        } else {
            None
        };
        Ok((ranking.is_some() || top.is_some()).then(|| Modifier::Top {
            ranking,
            top,
            span: self.since(start),
        }))
    }

    fn entity(&mut self) -> Parsed<Entity> {
        let each = self.keyword("EACH")?;
        let start = self.span();
        let table = self.name("an entity table")?;
        let key = if self.sign(".") {
            Some(self.name_after_dot()?)
        } else {
            None
        };
        let span = self.since(start);
        let ids = if self.sign("=") {
            vec![self.constant()?]
        } else if self.keyword("IN")? {
            self.list()?
        } else {
            Vec::new()
        };
        Ok(Entity {
            each,
            table,
            key,
            ids,
            filter: None,
            span,
        })
    }

    // Expressions.

    fn deeper<T>(&mut self, rule: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
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
    fn condition(&mut self) -> Parsed<Expression> {
        let expression = self.expression()?;
        require_condition(&expression)?;
        Ok(expression)
    }

    fn expression(&mut self) -> Parsed<Expression> {
        self.deeper(|parser| {
            parser.series(
                "OR",
                |parser| parser.series("AND", Self::negation, Expression::And),
                Expression::Or,
            )
        })
    }

    fn series(
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
        while self.keyword(word)? {
            parts.push(part(self)?);
        }
        for part in &parts {
            require_condition(part)?;
        }
        Ok(join(parts))
    }

    fn negation(&mut self) -> Parsed<Expression> {
        if self.keyword("NOT")? {
            let inner = self.deeper(Self::negation)?;
            require_condition(&inner)?;
            return Ok(Expression::Not(Box::new(inner)));
        }
        if self.sign("(") {
            let inner = self.expression()?;
            self.expect_sign(")", "close the parenthesis")?;
            return Ok(inner);
        }
        let start = self.span();
        if matches!(self.peek_second(), Token::Sign("(")) && self.keyword("BOOL")? {
            self.advance();
            let condition = Box::new(self.condition()?);
            let window = self.window()?;
            self.expect_sign(")", "BOOL takes a condition, start, end and unit: BOOL(leads.status = 'Closed Won', 0, 90, days)")?;
            return Ok(Expression::Bool(Bool {
                condition,
                window,
                span: self.since(start),
            }));
        }
        let operand = self.operand()?;
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

    fn operand(&mut self) -> Parsed<TestedValue> {
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

    fn column_or_name(&mut self) -> Parsed<TestedValue> {
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

    fn aggregate(&mut self, function: Function) -> Parsed<AggregateCall> {
        let start = self.span();
        self.check_case(function.keyword())?;
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
        let filter = if self.keyword("WHERE")? {
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

    fn window(&mut self) -> Parsed<Option<WrittenWindow>> {
        if !self.sign(",") {
            return Ok(None);
        }
        let first = self.span();
        let infinite =
            matches!(self.peek_second(), Token::Word(word) if word.eq_ignore_ascii_case("INF"));
        let start = if infinite && self.sign("-") {
            self.keyword("INF")?;
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

    fn unit(&mut self) -> Parsed<Unit> {
        for unit in Unit::ALL {
            if self.keyword(unit.keyword())? {
                return Ok(unit);
            }
        }
        let proposal = match self.peek() {
            Token::Word(word) => did_you_mean(word, Unit::ALL.iter().map(|u| u.keyword())),
            _ => String::new(),
        };
        Err(self.unexpected(
            &format!("a unit{proposal}"),
            "units are seconds, minutes, hours, days, weeks and months",
        ))
    }

    fn test(&mut self) -> Parsed<Option<Test>> {
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
        if self.is_word("BETWEEN") {
            return Err(self.unexpected("a comparison", "write two: a.b >= 1 AND a.b <= 9"));
        }
        let start = self.span();
        let is = self.keyword("IS")?;
        let negated = self.keyword("NOT")?;
        if negated && !is {
            // NOT IS IN
            self.keyword("IS")?;
        }
        if self.keyword("IN")? {
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
        let kind = if self.keyword("LIKE")? {
            TextMatch::Like
        } else if self.keyword("CONTAINS")? {
            TextMatch::Contains
        } else if self.is_word("STARTS") || self.is_word("ENDS") {
            let kind = if self.keyword("STARTS")? {
                TextMatch::StartsWith
            } else {
                TextMatch::EndsWith
            };
            self.keyword("ENDS")?;
            if !self.keyword("WITH")? {
                return Err(self.unexpected("WITH", "write STARTS WITH 'text' or ENDS WITH 'text'"));
            }
            kind
        } else if negated {
            return Err(self.unexpected(
                "IN, LIKE, CONTAINS, STARTS WITH or ENDS WITH",
                "to negate a comparison write NOT before it, or use !=",
            ));
        } else {
            return Ok(None);
        };
        let constant = self.constant()?;
        match constant.kind {
            ConstantKind::Text(pattern) => Ok(Some(Test::Text {
                negated,
                kind,
                pattern,
                span: self.since(start),
            })),
            _ => Err(Diagnostic::new(
                constant.span,
                "expected a text",
                "put it between quotes: 'text'",
            )),
        }
    }

    // Leaves.

    fn name(&mut self, what: &str) -> Parsed<Name> {
        if let Token::Word(word) = self.peek()
            && is_reserved(word)
        {
            return Err(self.unexpected(what, &format!("{word} is a word of the language; as a name write it between backticks: `{word}`")));
        }
        self.any_name(what)
    }

    fn name_after_dot(&mut self) -> Parsed<Name> {
        self.any_name("a column")
    }

    fn any_name(&mut self, what: &str) -> Parsed<Name> {
        let span = self.span();
        let text = match self.peek() {
            Token::Word(text) | Token::Quoted(text) => text.clone(),
            _ => {
                return Err(self.unexpected(
                    what,
                    "names are letters, digits and _, or stand between backticks",
                ));
            }
        };
        self.advance();
        Ok(Name { text, span })
    }

    fn whole_number(&mut self, what: &str, hint: &str) -> Parsed<i64> {
        let start = self.span();
        let negative = self.sign("-");
        match *self.peek() {
            Token::Integer(n) => {
                self.advance();
                Ok(if negative { -n } else { n })
            }
            Token::Decimal(_) => Err(Diagnostic::new(
                self.since(start).to(self.span()),
                format!("{what} is a whole number"),
                hint,
            )),
            Token::Word(ref word) if word.eq_ignore_ascii_case("INF") => Err(self.unexpected(
                what,
                "only the start of a window may be without end, and only as -INF in a filter",
            )),
            _ => Err(self.unexpected(what, hint)),
        }
    }

    fn constant(&mut self) -> Parsed<WrittenConstant> {
        let start = self.span();
        let negative = self.sign("-");
        let kind = match self.peek() {
            Token::Integer(n) => ConstantKind::Integer(if negative { -n } else { *n }),
            Token::Decimal(x) => ConstantKind::Decimal(if negative { -x } else { *x }),
            _ if negative => {
                return Err(self.unexpected("a number", "write a number after the minus sign"));
            }
            Token::Text(text) => ConstantKind::Text(text.clone()),
            Token::Date(ms) => ConstantKind::Date(*ms),
            Token::Word(_) => return self.word_constant(start),
            _ => {
                return Err(self.unexpected(
                    "a constant",
                    "a constant is a number, a 'text', TRUE, FALSE, NULL or a date",
                ));
            }
        };
        self.advance();
        Ok(WrittenConstant {
            kind,
            span: self.since(start),
        })
    }

    fn word_constant(&mut self, start: Span) -> Parsed<WrittenConstant> {
        let kind = if self.keyword("TRUE")? {
            ConstantKind::Bool(true)
        } else if self.keyword("FALSE")? {
            ConstantKind::Bool(false)
        } else if self.keyword("NULL")? {
            ConstantKind::Null
        } else {
            let hint = match self.peek_second() {
                Token::Sign("." | "(") => {
                    "columns and aggregates stand on the left only; two cannot be compared with each other".to_owned()
                }
                _ => format!("text stands between quotes: '{}'", self.peek().describe()),
            };
            return Err(self.unexpected("a constant", &hint));
        };
        Ok(WrittenConstant { kind, span: start })
    }

    fn list(&mut self) -> Parsed<Vec<WrittenConstant>> {
        self.expect_sign("(", "a list stands in parentheses: IN ('MQL', 'SQL')")?;
        let mut items = Vec::new();
        loop {
            let constant = self.constant()?;
            if constant.kind == ConstantKind::Null {
                return Err(Diagnostic::new(
                    constant.span,
                    "NULL is in no list",
                    "write … IS NULL OR … IN (…)",
                ));
            }
            items.push(constant);
            if !self.sign(",") {
                self.expect_sign(")", "items are separated by commas")?;
                return Ok(items);
            }
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
