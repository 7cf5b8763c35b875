//! Text becomes a query, and a query text again.

pub mod ast;
pub(crate) mod dates;
pub(crate) mod diagnostic;
mod lexer;
pub(crate) mod parser;
pub(crate) mod print;

#[cfg(test)]
mod parser_tests;
#[cfg(test)]
pub(crate) mod samples;

pub use ast::{Query, Unit};
pub use diagnostic::{Diagnostic, Span, Within};
pub use parser::{MAX_DEPTH, MAX_QUERY_BYTES, parse, parse_target};
