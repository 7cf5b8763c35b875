//! Text into words, constants and signs, each with its place. Spaces, line ends and `#` comments
//! separate.

use crate::syntax::dates::{date_length, parse_date};
use crate::syntax::diagnostic::{Diagnostic, Span};

/// One piece of a query.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// A keyword or a name: letters, digits, `_`, not starting with a digit.
    Word(String),
    /// A name in backticks: never a keyword.
    Quoted(String),
    /// Text in single or double quotes.
    Text(String),
    /// A whole number without sign.
    Integer(i64),
    /// A number with fraction or exponent, without sign.
    Decimal(f64),
    /// A date: milliseconds since 1970 UTC.
    Date(i64),
    /// `( ) , . * - = != < <= > >= ;`
    Sign(&'static str),
    /// After the last one.
    End,
}

impl Token {
    /// For "found …" in messages.
    pub(crate) fn describe(&self) -> String {
        match self {
            Token::Word(word) => word.clone(),
            Token::Quoted(name) => format!("`{name}`"),
            Token::Text(_) => "a text".to_owned(),
            Token::Integer(_) | Token::Decimal(_) => "a number".to_owned(),
            Token::Date(_) => "a date".to_owned(),
            Token::Sign(sign) => format!("'{sign}'"),
            Token::End => "the end of the query".to_owned(),
        }
    }
}

/// All tokens, [`Token::End`] last. `text_number` goes into the spans.
pub(crate) fn tokens(source: &str, text_number: u16) -> Result<Vec<(Token, Span)>, Diagnostic> {
    let mut lexer = Lexer {
        source,
        at: 0,
        line: 1,
        line_start: 0,
        text_number,
    };
    let mut found = Vec::new();
    loop {
        lexer.skip_blank();
        let start = lexer.at;
        let token = lexer.next()?;
        let done = token == Token::End;
        found.push((token, lexer.span(start)));
        if done {
            return Ok(found);
        }
    }
}

/// The signs of the language, longest first, so that the longest match wins.
const SIGNS: [&str; 13] = [
    "!=", "<=", ">=", "(", ")", ",", ".", "*", "-", "=", "<", ">", ";",
];
/// Signs of other languages, with the spelling of this one.
const FOREIGN_SIGNS: [(&str, &str); 7] = [
    ("==", "write ="),
    ("<>", "write !="),
    ("&&", "write AND"),
    ("||", "write OR"),
    ("!", "write NOT before a condition, != between values"),
    (
        "+",
        "the language has no arithmetic; a number needs no sign",
    ),
    ("/", "the language has no arithmetic; comments start with #"),
];

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    line: u32,
    line_start: usize,
    text_number: u16,
}

impl Lexer<'_> {
    fn rest(&self) -> &str {
        &self.source[self.at..]
    }

    /// From `start`, which is on the current line, to here.
    fn span(&self, start: usize) -> Span {
        let column = self.source[self.line_start..start].chars().count() as u32 + 1;
        Span {
            start: start as u32,
            end: self.at as u32,
            line: self.line,
            column,
            text: self.text_number,
        }
    }

    fn skip_blank(&mut self) {
        let mut comment = false;
        while let Some(c) = self.rest().chars().next() {
            if c == '\n' {
                comment = false;
            } else if c == '#' {
                comment = true;
            } else if !comment && !c.is_whitespace() {
                return;
            }
            self.at += c.len_utf8();
            if c == '\n' {
                self.line += 1;
                self.line_start = self.at;
            }
        }
    }

    fn next(&mut self) -> Result<Token, Diagnostic> {
        let start = self.at;
        let Some(first) = self.rest().chars().next() else {
            return Ok(Token::End);
        };
        if first.is_ascii_alphabetic() || first == '_' {
            let length = self
                .rest()
                .bytes()
                .take_while(|b| b.is_ascii_alphanumeric() || *b == b'_')
                .count();
            self.at += length;
            return Ok(Token::Word(self.source[start..self.at].to_owned()));
        }
        if first.is_ascii_digit() {
            return self.number();
        }
        match first {
            '\'' | '"' => return self.quoted(first).map(Token::Text),
            '`' => {
                let name = self.quoted('`')?;
                if name.is_empty() || name.contains('`') {
                    let hint = "put the name of a table or column between the backticks";
                    return Err(Diagnostic::new(
                        self.span(start),
                        "a name cannot be empty or hold a backtick",
                        hint,
                    ));
                }
                return Ok(Token::Quoted(name));
            }
            _ => {}
        }
        for (foreign, hint) in FOREIGN_SIGNS {
            let is_sign = foreign != "!" || !self.rest().starts_with("!=");
            if is_sign && self.rest().starts_with(foreign) {
                self.at += foreign.len();
                return Err(Diagnostic::new(
                    self.span(start),
                    format!("{foreign} is not part of the language"),
                    hint,
                ));
            }
        }
        if let Some(sign) = SIGNS.iter().find(|sign| self.rest().starts_with(**sign)) {
            self.at += sign.len();
            return Ok(Token::Sign(sign));
        }
        self.at += first.len_utf8();
        let hint = match first {
            '‘' | '’' | '“' | '”' | '„' | '‚' | '«' | '»' => {
                "write straight quotes: 'text'"
            }
            '−' | '–' | '—' => "write the minus sign of the keyboard: -",
            '≤' => "write <=",
            '≥' => "write >=",
            '≠' => "write !=",
            _ => {
                "a name with other characters than letters, digits and _ goes between backticks: \
                 `like this`"
            }
        };
        Err(Diagnostic::new(
            self.span(start),
            format!("unexpected character {first:?}"),
            hint,
        ))
    }

    fn number(&mut self) -> Result<Token, Diagnostic> {
        let start = self.at;
        let length = date_length(self.rest());
        if length > 0 {
            self.at += length;
            let text = &self.source[start..self.at];
            return parse_date(text).map(Token::Date).ok_or_else(|| {
                Diagnostic::new(
                    self.span(start),
                    format!("{text} is no date of the calendar"),
                    "write YYYY-MM-DD [HH:MM:SS]",
                )
            });
        }
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        self.at += digits(self.rest());
        let mut whole = true;
        if let Some(fraction) = self.rest().strip_prefix('.').map(digits).filter(|n| *n > 0) {
            self.at += 1 + fraction;
            whole = false;
        }
        if let Some(exponent) = self.rest().strip_prefix(['e', 'E']) {
            let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits(unsigned) > 0 {
                self.at += 1 + (exponent.len() - unsigned.len()) + digits(unsigned);
                whole = false;
            }
        }
        let text = &self.source[start..self.at];
        if self
            .rest()
            .starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        {
            let hint = "a name that starts with a digit goes between backticks, a key between \
                quotes: 'A001'";
            return Err(Diagnostic::new(
                self.span(start),
                format!("a letter follows the number {text}"),
                hint,
            ));
        }
        let token = if whole {
            text.parse().ok().map(Token::Integer)
        } else {
            text.parse()
                .ok()
                .filter(|x: &f64| x.is_finite())
                .map(Token::Decimal)
        };
        token.ok_or_else(|| {
            Diagnostic::new(
                self.span(start),
                format!("the number {text} is too large"),
                "whole numbers reach to about 9.2e18",
            )
        })
    }

    /// Text up to the closing quote; a doubled quote stands for one.
    fn quoted(&mut self, quote: char) -> Result<String, Diagnostic> {
        let start = self.at;
        let mut text = String::new();
        self.at += 1;
        while let Some(c) = self.rest().chars().next().filter(|c| *c != '\n') {
            self.at += c.len_utf8();
            if c != quote {
                text.push(c);
            } else if self.rest().starts_with(quote) {
                self.at += 1;
                text.push(quote);
            } else {
                return Ok(text);
            }
        }
        Err(Diagnostic::new(
            self.span(start),
            format!("{quote} is not closed on its line"),
            format!("close it with {quote}; within the text double it"),
        ))
    }
}
