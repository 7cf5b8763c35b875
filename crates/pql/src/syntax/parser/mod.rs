//! Text into a tree, by recursive descent: one function a rule, one token of lookahead.
//!
//! Every construct of the public language parses, whether the planner supports it or not. No input
//! makes it panic: text and nesting are bounded.

mod expression;
mod leaf;

use crate::syntax::ast::{Entity, Expression, Modifier, Query, RankingKind};
use crate::syntax::diagnostic::{Diagnostic, Span};
use crate::syntax::lexer::{Token, tokens};

/// The longest text that is parsed.
// Bounds every walk over the tree. Why 16 KiB is unknown; what people write is below one.
pub const MAX_QUERY_BYTES: usize = 16_384;
/// The deepest nesting of conditions.
// Each level is some stack frames here and in every walk of the tree: a deeper text would overflow
// the stack of a thread, which no error handling catches.
pub const MAX_DEPTH: usize = 48;

/// Words that are names only between backticks.
const RESERVED: [&str; 22] = [
    "PREDICT", "FOR", "EACH", "WHERE", "ASSUMING", "USING", "AND", "OR", "NOT", "IN", "IS", "LIKE",
    "CONTAINS", "STARTS", "ENDS", "TRUE", "FALSE", "NULL", "FORECAST", "RANK", "CLASSIFY", "TOP",
];
/// Words that other query languages have.
// An error that finds one of them says what this language has instead.
const FOREIGN: [&str; 8] = [
    "GROUP", "ORDER", "LIMIT", "HAVING", "SELECT", "FROM", "JOIN", "AS",
];

/// Whether a name must stand in backticks.
pub(crate) fn is_reserved(word: &str) -> bool {
    RESERVED
        .iter()
        .any(|reserved| reserved.eq_ignore_ascii_case(word))
}

/// Parses the text of a query.
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

    /// Takes the keyword if it is next, in any case.
    fn keyword(&mut self, keyword: &str) -> bool {
        let found = self.is_word(keyword);
        if found {
            self.advance();
        }
        found
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
                "the language has no joins, groups, orders, limits or aliases: tables are joined \
                 along their references"
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
        self.refuse_order()?;
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
        self.refuse_evaluate()?;
        if !self.keyword("PREDICT") {
            let hint = "for example: PREDICT COUNT(opportunities.*, 0, 90, days) > 0 FOR EACH \
                accounts.account_id";
            return Err(self.unexpected("PREDICT", hint));
        }
        let target = self.expression()?;
        let modifier = self.modifier()?;
        if !self.keyword("FOR") {
            return Err(self.no_entity());
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
            if self.keyword("WHERE") {
                if query.entity.filter.is_some() {
                    return Err(repeated("WHERE"));
                }
                query.entity.filter = Some(self.condition()?);
            } else if self.keyword("ASSUMING") {
                if query.assuming.is_some() {
                    return Err(repeated("ASSUMING"));
                }
                query.assuming = Some(self.condition()?);
            } else if self.keyword("USING") {
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

    /// EVALUATE before PREDICT asks for a measurement, which is a command here.
    fn refuse_evaluate(&self) -> Parsed<()> {
        if !self.is_word("EVALUATE") {
            return Ok(());
        }
        Err(Diagnostic::new(
            self.span(),
            "EVALUATE is not part of a query: a query says what is predicted, for whom",
            "leave EVALUATE out and give the query to `leadpulse backtest`, which measures it",
        ))
    }

    /// RANK BY and ORDER BY, wherever they are found.
    fn refuse_order(&self) -> Parsed<()> {
        let is_order = ["RANK", "ORDER"].iter().any(|word| self.is_word(word))
            && matches!(self.peek_second(), Token::Word(by) if by.eq_ignore_ascii_case("BY"));
        if !is_order {
            return Ok(());
        }
        let span = self.span().to(self.tokens[self.at + 1].1);
        Err(Diagnostic::new(
            span,
            "a query has no order: a task gives one number for each entity",
            "leave it out; entities are ranked by score where scores are read \
             (`leadpulse backtest --out`, /api/v1/scores)",
        ))
    }

    /// The error where FOR EACH should stand.
    fn no_entity(&self) -> Diagnostic {
        let hint = match self.peek() {
            Token::End => {
                return Diagnostic::new(
                    self.span(),
                    "the query does not say for whom",
                    "add FOR EACH and the key of a table: FOR EACH accounts.account_id",
                );
            }
            Token::Sign(",") => "a query has one target; write a query for each",
            Token::Sign("-" | "*") => "the language has no arithmetic",
            _ => {
                "after the target comes FOR EACH and the key of a table: FOR EACH \
                 accounts.account_id"
            }
        };
        self.unexpected("FOR EACH", hint)
    }

    fn modifier(&mut self) -> Parsed<Option<Modifier>> {
        let start = self.span();
        self.refuse_order()?;
        if self.keyword("FORECAST") {
            let steps = self.whole_number(
                "how many timeframes to forecast",
                "write FORECAST 4 TIMEFRAMES",
            )?;
            if !self.keyword("TIMEFRAMES") {
                return Err(self.unexpected("TIMEFRAMES", "write FORECAST 4 TIMEFRAMES"));
            }
            return Ok(Some(Modifier::Forecast {
                steps,
                span: self.since(start),
            }));
        }
        let ranking = if self.keyword("RANK") {
            Some(RankingKind::Rank)
        } else if self.keyword("CLASSIFY") {
            Some(RankingKind::Classify)
        } else {
            None
        };
        let top = if self.keyword("TOP") {
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
        let each = self.keyword("EACH");
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
        } else if self.keyword("IN") {
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
}
