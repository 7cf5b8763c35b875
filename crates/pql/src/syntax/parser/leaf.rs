//! Leaves of the tree: names, numbers, constants and lists of them.

use super::{Parsed, Parser, is_reserved};
use crate::syntax::ast::{ConstantKind, Name, WrittenConstant};
use crate::syntax::diagnostic::{Diagnostic, Span};
use crate::syntax::lexer::Token;

impl Parser {
    pub(super) fn name(&mut self, what: &str) -> Parsed<Name> {
        if let Token::Word(word) = self.peek()
            && is_reserved(word)
        {
            return Err(self.unexpected(
                what,
                &format!(
                    "{word} is a word of the language; as a \
                name write it between backticks: `{word}`"
                ),
            ));
        }
        self.any_name(what)
    }

    pub(super) fn name_after_dot(&mut self) -> Parsed<Name> {
        self.any_name("a column")
    }

    pub(super) fn any_name(&mut self, what: &str) -> Parsed<Name> {
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

    pub(super) fn whole_number(&mut self, what: &str, hint: &str) -> Parsed<i64> {
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

    pub(super) fn constant(&mut self) -> Parsed<WrittenConstant> {
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

    pub(super) fn word_constant(&mut self, start: Span) -> Parsed<WrittenConstant> {
        let kind = if self.keyword("TRUE") {
            ConstantKind::Bool(true)
        } else if self.keyword("FALSE") {
            ConstantKind::Bool(false)
        } else if self.keyword("NULL") {
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

    pub(super) fn list(&mut self) -> Parsed<Vec<WrittenConstant>> {
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
