//! How a source writes text: cells, numbers, words for null and for truth.
//!
//! A [`TextOption`] is configuration, a [`TextRead`] the same checked. Nothing is guessed: without a
//! setting a number has a decimal point and nothing else, and a message names the setting.
//!
//! Decision: docs/decisions/0031-files-as-people-have-them.md

use std::borrow::Cow;
use std::sync::Arc;

use encoding_rs::{Encoding, UTF_8};
use serde::{Deserialize, Serialize};

/// The treatment of a value that is not its field's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BadValue {
    /// The row is refused.
    #[default]
    Refuse,
    /// A field that may be null becomes null, and the value is counted. Keys, owners, and the row's
    /// own time and version are refused all the same.
    Null,
}

/// How a source writes text: the setting `text`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextOption {
    /// In delimited files: the character between cells, or `tab`. A comma by default, in `.tsv` a
    /// tab.
    pub separator: Option<String>,
    /// In delimited files: the character around cells, `"` by default, or `none`.
    pub quote: Option<String>,
    /// In text files: a label of the WHATWG list, such as `windows-1252` or `utf-16le`; UTF-8 by
    /// default.
    pub encoding: Option<String>,
    /// The decimal sign of numbers, a point by default.
    pub decimal: Option<String>,
    /// Characters that are passed over between groups of digits.
    pub thousands: Option<String>,
    /// Signs and words that are passed over before or after a number.
    pub currency: Vec<String>,
    /// Words that are null in every field.
    pub nulls: Vec<String>,
    /// Words that are true, instead of `true` and `1`.
    pub yes: Vec<String>,
    /// Words that are false, instead of `false` and `0`.
    pub no: Vec<String>,
    /// The treatment of a value that is not its field's.
    pub bad_value: BadValue,
}

/// A setting of `text` that means nothing: its name, and the fault with the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TextFault {
    pub(crate) setting: &'static str,
    pub(crate) why: String,
}

/// A checked [`TextOption`].
#[derive(Clone, Debug)]
pub(crate) struct TextRead {
    /// The byte between cells, if configured.
    pub(crate) separator: Option<u8>,
    /// The byte around cells; `None` where quotes are characters like all others.
    pub(crate) quote: Option<u8>,
    /// The encoding, if configured.
    pub(crate) encoding: Option<&'static Encoding>,
    decimal: char,
    thousands: Box<str>,
    currency: Vec<String>,
    nulls: Vec<String>,
    yes: Vec<String>,
    no: Vec<String>,
    pub(crate) bad_value: BadValue,
}

impl Default for TextRead {
    fn default() -> Self {
        TextRead {
            separator: None,
            quote: Some(b'"'),
            encoding: None,
            decimal: '.',
            thousands: "".into(),
            currency: Vec::new(),
            nulls: Vec::new(),
            yes: Vec::new(),
            no: Vec::new(),
            bad_value: BadValue::Refuse,
        }
    }
}

fn fault(setting: &'static str, why: impl Into<String>) -> TextFault {
    TextFault {
        setting,
        why: why.into(),
    }
}

/// The only character of a setting, in ASCII.
fn one_byte(setting: &'static str, text: &str, word: &str) -> Result<u8, TextFault> {
    match text.as_bytes() {
        [byte] if byte.is_ascii() && !byte.is_ascii_alphanumeric() && !b"\r\n".contains(byte) => {
            Ok(*byte)
        }
        _ => Err(fault(
            setting,
            format!(
                "'{text}' is not one sign of ASCII; write one character such as \";\", or \"{word}\""
            ),
        )),
    }
}

/// Trimmed words, none of which is empty.
fn words(setting: &'static str, words: &[String]) -> Result<Vec<String>, TextFault> {
    let trimmed: Vec<String> = words.iter().map(|word| word.trim().to_owned()).collect();
    if trimmed.iter().any(String::is_empty) {
        let why = "an empty word; leave it out: empty cells are null without a setting";
        return Err(fault(setting, why));
    }
    Ok(trimmed)
}

/// Refuses a word with two meanings.
fn apart(
    setting: &'static str,
    words: &[String],
    other: &'static str,
    others: &[String],
) -> Result<(), TextFault> {
    match words.iter().find(|word| others.contains(word)) {
        Some(word) => Err(fault(
            setting,
            format!("'{word}' is also one of {other}; leave it out of one of them"),
        )),
        None => Ok(()),
    }
}

impl TextRead {
    /// Checks a configured reading.
    ///
    /// # Errors
    /// A setting that means nothing, or contradicts another one.
    pub(crate) fn of(option: &TextOption) -> Result<Arc<TextRead>, TextFault> {
        let separator = match option.separator.as_deref() {
            None => None,
            Some("tab") => Some(b'\t'),
            Some(text) => Some(one_byte("separator", text, "tab")?),
        };
        let quote = match option.quote.as_deref() {
            None => Some(b'"'),
            Some("none") => None,
            Some(text) => Some(one_byte("quote", text, "none")?),
        };
        if separator.is_some() && separator == quote || separator.is_none() && quote == Some(b',') {
            let why = "it is the separator too; write another sign for one of them";
            return Err(fault("quote", why));
        }
        let encoding = option.encoding.as_deref().map(encoding_of).transpose()?;
        let decimal = decimal_of(option.decimal.as_deref())?;
        let thousands = option.thousands.as_deref().unwrap_or_default();
        if thousands.contains(decimal) {
            let why = format!(
                "'{thousands}' contains the decimal sign '{decimal}'; set decimal to another sign, \
                 as in text = {{ decimal = \",\", thousands = \".\" }}"
            );
            return Err(fault("thousands", why));
        }
        if thousands.contains(|c: char| c.is_alphanumeric() || "+-()".contains(c)) {
            let why = format!(
                "'{thousands}' contains a character that numbers have; write signs such as \".\", \"'\" or \" \""
            );
            return Err(fault("thousands", why));
        }
        let mut currency = words("currency", &option.currency)?;
        if let Some(word) = currency
            .iter()
            .find(|w| w.contains(|c: char| c.is_ascii_digit()))
        {
            let why =
                format!("'{word}' contains a digit; write signs or words such as \"€\", \"EUR\"");
            return Err(fault("currency", why));
        }
        // `US$` before `$`.
        currency.sort_by_key(|word| std::cmp::Reverse(word.len()));
        let nulls = words("nulls", &option.nulls)?;
        let (yes, no) = (words("yes", &option.yes)?, words("no", &option.no)?);
        apart("yes", &yes, "no", &no)?;
        apart("nulls", &nulls, "yes", &yes)?;
        apart("nulls", &nulls, "no", &no)?;
        Ok(Arc::new(TextRead {
            separator,
            quote,
            encoding,
            decimal,
            thousands: thousands.into(),
            currency,
            nulls,
            yes,
            no,
            bad_value: option.bad_value,
        }))
    }

    /// True for a word that stands for null.
    pub(crate) fn is_null(&self, text: &str) -> bool {
        !self.nulls.is_empty() && self.nulls.iter().any(|word| word == text.trim())
    }

    /// The truth value that a word stands for.
    ///
    /// # Errors
    /// The words for a person.
    pub(crate) fn truth(&self, text: &str) -> Result<bool, String> {
        let stands = |own: &[String], built_in: [&str; 2]| match own {
            [] => text == built_in[0] || text.eq_ignore_ascii_case(built_in[1]),
            own => own.iter().any(|word| word == text),
        };
        if stands(&self.yes, ["1", "true"]) {
            return Ok(true);
        }
        if stands(&self.no, ["0", "false"]) {
            return Ok(false);
        }
        let side = |own: &[String], built_in: &str| match own {
            [] => built_in.to_owned(),
            own => own.join(", "),
        };
        if self.yes.is_empty() && self.no.is_empty() {
            return Err(
                "true, false, 1 or 0; declare other words in the source: text = { yes = [\"Yes\"], \
                 no = [\"No\"] }"
                    .into(),
            );
        }
        Err(format!(
            "a truth value: yes is {}, no is {}; add the word to text.yes or text.no of the source",
            side(&self.yes, "true, 1"),
            side(&self.no, "false, 0")
        ))
    }

    /// A number with its decimal sign as a point, without thousands and currencies. `None` where
    /// the signs do not stand as they must: groups after the first have three digits, in the Indian
    /// way two, and the last has three.
    pub(crate) fn number<'t>(&self, text: &'t str) -> Option<Cow<'t, str>> {
        let is_plain = self.decimal == '.' && self.thousands.is_empty() && self.currency.is_empty();
        if is_plain {
            return Some(Cow::Borrowed(text));
        }
        let (is_negative, bare) = self.unsigned(text)?;
        let (whole, fraction) = match bare.split_once(self.decimal) {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (bare, None),
        };
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let groups: Vec<&str> = whole.split(|c| self.thousands.contains(c)).collect();
        let (first, rest) = groups.split_first()?;
        let are_groups = match rest.split_last() {
            None => true,
            Some((last, inner)) => {
                (1..=3).contains(&first.len())
                    && last.len() == 3
                    && inner.iter().all(|group| (2..=3).contains(&group.len()))
            }
        };
        // An exponent is left to the parser of numbers.
        let fraction_digits = fraction.map(|f| f.split(['e', 'E']).next().unwrap_or(f));
        let is_number = are_groups
            && rest.iter().all(|group| is_digits(group))
            && first.starts_with(|c: char| c.is_ascii_digit() || first.is_empty())
            || first.is_empty() && rest.is_empty() && fraction.is_some_and(|f| !f.is_empty());
        if !is_number || !fraction_digits.is_none_or(is_digits) || first.contains('.') {
            return None;
        }
        let mut number = String::with_capacity(bare.len() + 1);
        if is_negative {
            number.push('-');
        }
        number.extend(groups);
        if let Some(fraction) = fraction {
            number.push('.');
            number.push_str(fraction);
        }
        Some(Cow::Owned(number))
    }

    /// The sign of a number and the rest of it without currencies; brackets are a minus sign.
    fn unsigned<'t>(&self, text: &'t str) -> Option<(bool, &'t str)> {
        let mut rest = text.trim();
        let (mut is_negative, mut has_sign) = (false, false);
        if !self.currency.is_empty() {
            rest = self.without_currency(rest);
        }
        let bracketed = rest.strip_prefix('(').and_then(|r| r.strip_suffix(')'));
        if let Some(inner) = bracketed {
            (rest, is_negative, has_sign) = (inner.trim(), true, true);
        }
        if let Some(inner) = rest.strip_prefix(['-', '+', '\u{2212}']) {
            if has_sign {
                return None;
            }
            is_negative = !rest.starts_with('+');
            has_sign = true;
            rest = inner.trim_start();
        }
        rest = self.without_currency(rest);
        // `$ -5`: the sign stands between the currency and the number.
        if let Some(inner) = rest.strip_prefix(['-', '\u{2212}']) {
            if has_sign {
                return None;
            }
            (rest, is_negative) = (inner.trim_start(), true);
        }
        Some((is_negative, rest))
    }

    fn without_currency<'t>(&self, text: &'t str) -> &'t str {
        for word in &self.currency {
            let word = word.as_str();
            if let Some(rest) = text.strip_prefix(word).or_else(|| text.strip_suffix(word)) {
                return rest.trim();
            }
        }
        text
    }

    /// The words for text that is no number: the setting that it seems to need, if there is one.
    pub(crate) fn number_hint(&self, text: &str) -> Option<String> {
        let is_digit = |c: char| c.is_ascii_digit();
        let (first, last) = (text.find(is_digit), text.rfind(is_digit));
        let (Some(first), Some(last)) = (first, last) else {
            let settings = match text.chars().all(char::is_alphabetic) && text.len() <= 12 {
                true => format!(
                    "if the word stands for no value, list it: text = {{ nulls = [\"{text}\"] }}"
                ),
                false => return None,
            };
            return Some(settings);
        };
        let signs: &[char] = &['(', ')', '-', '+', ' '];
        let before = text[..first].trim_matches(signs);
        let after = text[last + 1..].trim_matches(signs);
        let mut settings = Vec::new();
        for word in [before, after] {
            let is_currency = word.chars().all(|c| !"%.,".contains(c)) && word.len() <= 12;
            if !word.is_empty() && is_currency && !self.currency.iter().any(|w| w == word) {
                settings.push(format!("currency = [\"{word}\"]"));
            }
        }
        let is_sign = |c: &char| !c.is_alphanumeric() && !"+-".contains(*c);
        let inner: Vec<char> = text[first..=last].chars().filter(is_sign).collect();
        match (inner.first(), inner.last()) {
            (Some(thousands), Some(decimal)) if thousands != decimal => {
                if *decimal != '.' {
                    settings.push(format!("decimal = \"{decimal}\""));
                }
                settings.push(format!("thousands = \"{thousands}\""));
            }
            (Some(sign), _) if *sign != '.' || inner.len() > 1 => settings.push(format!(
                "decimal = \"{sign}\" or thousands = \"{sign}\", whichever the sign is"
            )),
            _ if settings.is_empty() && text.starts_with('(') => {
                settings.push("currency = [\"$\"], which also reads brackets as a minus".into());
            }
            _ => {}
        }
        (!settings.is_empty()).then(|| {
            format!(
                "declare how the source writes numbers: text = {{ {} }}",
                settings.join(", ")
            )
        })
    }
}

fn encoding_of(label: &str) -> Result<&'static Encoding, TextFault> {
    let found = Encoding::for_label_no_replacement(label.as_bytes());
    found.ok_or_else(|| {
        fault(
            "encoding",
            format!(
                "'{label}' is not an encoding; write a label of the WHATWG list, such as {}, \
                 windows-1252, iso-8859-2, utf-16le, shift_jis",
                UTF_8.name().to_lowercase()
            ),
        )
    })
}

fn decimal_of(setting: Option<&str>) -> Result<char, TextFault> {
    let text = setting.unwrap_or(".");
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(sign), None) if !sign.is_alphanumeric() && !"+-() ".contains(sign) => Ok(sign),
        _ => Err(fault(
            "decimal",
            format!("'{text}' is not one sign; write \",\" or \".\""),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> TextRead {
        let option: TextOption = serde_json::from_str(json).unwrap();
        Arc::unwrap_or_clone(TextRead::of(&option).unwrap())
    }

    fn number(read: &TextRead, text: &str) -> Option<f64> {
        read.number(text)?.parse().ok()
    }

    #[test]
    fn numbers_are_read_as_declared_and_not_otherwise() {
        let german = r#"{"decimal":",","thousands":".","currency":["€","EUR"]}"#;
        let english = r#"{"thousands":",","currency":["$","US$","USD"]}"#;
        let swiss = r#"{"thousands":"' \u00a0"}"#;
        let cases = [
            (german, "1.355,90", Some(1355.90)),
            (german, "1.234.567", Some(1_234_567.0)),
            (german, "1,12", Some(1.12)),
            (german, "-1,12 €", Some(-1.12)),
            (german, "EUR 5", Some(5.0)),
            (german, ",5", Some(0.5)),
            (german, "1.12", None),
            (german, "1,355.90", None),
            (german, "12.3456", None),
            (german, "€", None),
            (german, "", None),
            (german, "1,5e3", Some(1500.0)),
            (english, "$120,000", Some(120_000.0)),
            (english, "US$1,200.50", Some(1200.50)),
            (english, "(1,200)", Some(-1200.0)),
            (english, "($1,200)", Some(-1200.0)),
            (english, "$(1,200)", Some(-1200.0)),
            (english, "-$5", Some(-5.0)),
            (english, "$-5", Some(-5.0)),
            (english, "12,00,000", Some(1_200_000.0)),
            (english, "1,2", None),
            (english, "1,,200", None),
            (english, "(-5)", None),
            (english, "5 USD", Some(5.0)),
            (english, "5 CHF", None),
            (swiss, "1'200 000", Some(1_200_000.0)),
            (swiss, "1\u{a0}200.5", Some(1200.5)),
            (swiss, "1e5", Some(100_000.0)),
            ("{}", "1,2", None),
        ];
        for (option, text, expected) in cases {
            assert_eq!(number(&read(option), text), expected, "{option} {text}");
        }
    }

    #[test]
    fn a_number_that_needs_a_setting_names_it() {
        let plain = TextRead::default();
        let cases = [
            ("$120,000", "currency = [\"$\"]"),
            ("1.355,90", "decimal = \",\", thousands = \".\""),
            ("1,355.90", "thousands = \",\""),
            ("1,5", "decimal = \",\" or thousands = \",\""),
            ("5 EUR", "currency = [\"EUR\"]"),
            ("NULL", "nulls = [\"NULL\"]"),
            ("(12)", "brackets"),
        ];
        for (text, expected) in cases {
            let hint = plain.number_hint(text).unwrap_or_default();
            assert!(hint.contains(expected), "{text}: {hint}");
        }
    }

    #[test]
    fn a_setting_that_means_nothing_is_refused_with_its_name() {
        let cases = [
            (r#"{"separator":";;"}"#, "separator"),
            (r#"{"separator":""}"#, "separator"),
            (r#"{"separator":"a"}"#, "separator"),
            (r#"{"separator":"§"}"#, "separator"),
            (r#"{"quote":"''"}"#, "quote"),
            (r#"{"separator":";","quote":";"}"#, "quote"),
            (r#"{"encoding":"utf-99"}"#, "encoding"),
            (r#"{"decimal":"ab"}"#, "decimal"),
            (r#"{"decimal":",","thousands":","}"#, "thousands"),
            (r#"{"thousands":"."}"#, "thousands"),
            (r#"{"thousands":"1"}"#, "thousands"),
            (r#"{"currency":[""]}"#, "currency"),
            (r#"{"nulls":[" "]}"#, "nulls"),
            (r#"{"yes":["x"],"no":["x"]}"#, "yes"),
            (r#"{"yes":["x"],"nulls":["x"]}"#, "nulls"),
        ];
        for (json, setting) in cases {
            let option: TextOption = serde_json::from_str(json).unwrap();
            assert_eq!(
                TextRead::of(&option).unwrap_err().setting,
                setting,
                "{json}"
            );
        }
    }

    #[test]
    fn own_words_replace_those_that_are_built_in() {
        let plain = TextRead::default();
        assert_eq!(plain.truth("TRUE"), Ok(true));
        assert!(plain.truth("Yes").unwrap_err().contains("yes = [\"Yes\"]"));
        let german = read(r#"{"yes":["Ja","J"],"no":["Nein"],"nulls":["n/a"]}"#);
        assert_eq!(german.truth("J"), Ok(true));
        assert_eq!(german.truth("Nein"), Ok(false));
        assert!(german.truth("true").unwrap_err().contains("Ja, J"));
        assert!(german.is_null(" n/a ") && !german.is_null("N/A"));
    }
}
