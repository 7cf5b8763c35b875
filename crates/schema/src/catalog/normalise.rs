//! One spelling for keys: systems write one id in several ways.

use std::borrow::Cow;

use serde::Deserialize;

use super::{Catalog, Field, TableId};

/// A step towards the spelling in which keys of a table are compared (`"normalise"`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalise {
    /// Without white space around it.
    Trim,
    /// In lower case.
    Lower,
    /// A Salesforce id with 18 characters: one of 15 gets its suffix, one of 18 the case that its
    /// suffix says. Other text stays as it is.
    SalesforceId,
    /// A whole number without leading zeros and without an empty fraction: `4` for `004` and `4.0`.
    /// Other text stays as it is.
    Integer,
}

impl Normalise {
    fn apply<'t>(self, text: &'t str) -> Cow<'t, str> {
        match self {
            Normalise::Trim => Cow::Borrowed(text.trim()),
            Normalise::Lower if !text.chars().any(char::is_uppercase) => Cow::Borrowed(text),
            Normalise::Lower => Cow::Owned(text.to_lowercase()),
            Normalise::SalesforceId => salesforce_id(text).map_or(Cow::Borrowed(text), Cow::Owned),
            Normalise::Integer => integer(text).map_or(Cow::Borrowed(text), Cow::Owned),
        }
    }
}

/// The text after all steps, in their order.
pub(crate) fn normalised<'t>(steps: &[Normalise], text: &'t str) -> Cow<'t, str> {
    let mut result = Cow::Borrowed(text);
    for step in steps {
        result = match result {
            Cow::Borrowed(text) => step.apply(text),
            Cow::Owned(text) => Cow::Owned(step.apply(&text).into_owned()),
        };
    }
    result
}

impl Field {
    /// Text as rows have it in this field: a constant of a query goes through the steps of the
    /// field's keys.
    pub fn normalised<'t>(&self, text: &'t str) -> Cow<'t, str> {
        normalised(&self.normalise, text)
    }
}

impl Catalog {
    /// A key as rows of its table have it: what people type, and what other programs send, goes
    /// through this before it is looked for.
    pub fn normalised_key<'k>(&self, table: TableId, key: &'k str) -> Cow<'k, str> {
        let table = self.table_at(table);
        normalised(&table.field_at(table.key).normalise, key)
    }
}

/// The digits of a whole number.
pub(crate) fn integer(text: &str) -> Option<String> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let is_whole = !whole.is_empty()
        && whole.bytes().all(|byte| byte.is_ascii_digit())
        && fraction.bytes().all(|byte| byte == b'0');
    if !is_whole {
        return None;
    }
    match whole.trim_start_matches('0') {
        "" => Some("0".to_owned()),
        digits => Some(format!("{sign}{digits}")),
    }
}

/// The characters of a suffix, by the five bits that each stands for.
const SUFFIX: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345";
const SHORT: usize = 15;

/// The 18 characters of a Salesforce id. Each character of the suffix says which of five characters
/// are capitals
/// ([Salesforce](https://help.salesforce.com/s/articleView?id=000385008&type=1)).
pub(crate) fn salesforce_id(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    if !bytes.iter().all(u8::is_ascii_alphanumeric) {
        return None;
    }
    let mut id = bytes.to_vec();
    match id.len() {
        SHORT => {}
        18 => {
            let suffix = id.split_off(SHORT);
            for (part, sign) in id.chunks_mut(5).zip(suffix) {
                let sign = sign.to_ascii_uppercase();
                let bits = SUFFIX.iter().position(|known| *known == sign)?;
                for (place, letter) in part.iter_mut().enumerate() {
                    match bits >> place & 1 == 1 {
                        true if !letter.is_ascii_alphabetic() => return None,
                        true => letter.make_ascii_uppercase(),
                        false => letter.make_ascii_lowercase(),
                    }
                }
            }
        }
        _ => return None,
    }
    for part in 0..3 {
        let letters = &id[part * 5..part * 5 + 5];
        let mut bits = 0;
        for (place, letter) in letters.iter().enumerate() {
            bits |= usize::from(letter.is_ascii_uppercase()) << place;
        }
        id.push(SUFFIX[bits]);
    }
    String::from_utf8(id).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_key_become_one() {
        let check = |steps: &[Normalise], texts: &[&str], expected: &str| {
            for text in texts {
                assert_eq!(normalised(steps, text), expected, "{text}");
                let again = normalised(steps, expected);
                assert_eq!(again, expected, "a normal spelling stays");
            }
        };
        check(
            &[Normalise::Trim, Normalise::Lower],
            &[" A-1 ", "a-1"],
            "a-1",
        );
        check(
            &[Normalise::Integer],
            &["4", "4.0", "004", "4.", "04.00"],
            "4",
        );
        check(&[Normalise::Integer], &["0", "-0", "0.0", "00"], "0");
        check(&[Normalise::Integer], &["-07"], "-7");
        for other in ["4.5", "x4", "", "1e3", ".0", "-"] {
            check(&[Normalise::Integer], &[other], other);
        }
        let large = "123456789012345678901234567890";
        check(&[Normalise::Integer], &[&format!("0{large}.0")], large);
        let id = [Normalise::SalesforceId];
        let spellings = [
            "001D000000IqhSL",
            "001D000000IqhSLIAZ",
            "001d000000iqhsliaz",
            "001D000000IQHSLIAZ",
        ];
        check(&id, &spellings, "001D000000IqhSLIAZ");
        for other in [
            "001D000000IqhS",
            "not an id at all",
            "001D000000IqhSL999",
            "1234567890123456IAZ",
        ] {
            check(&id, &[other], other);
        }
        // Fifteen characters in lower case are another id: nothing says which were capitals.
        assert_eq!(normalised(&id, "001d000000iqhsl"), "001d000000iqhslAAA");
    }
}
