//! Kinds of cells: numbers in any country's spelling, truth words, null words, ways to write times.

use super::profile::named_like_time;
use crate::shape::TimeOption;
use crate::shape::moment::{TimeRead, is_no_date, parse_time};

/// Words that stand for "no value" in any column.
const NULLS: [&str; 8] = ["NULL", "null", "Null", "\\N", "NaN", "nan", "#N/A", "N/A"];
/// Words that stand for "no value" where all others are numbers or times.
const NULLS_AMONG_NUMBERS: [&str; 9] = ["NA", "n/a", "None", "none", "nil", "-", "--", ".", "?"];
/// Pairs of truth words, lower case: yes, no.
const TRUTHS: [(&str, &str); 6] = [
    ("true", "false"),
    ("yes", "no"),
    ("y", "n"),
    ("t", "f"),
    ("ja", "nein"),
    ("oui", "non"),
];

/// The spelling of a number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct NumberShape {
    pub(super) currency: Option<String>,
    /// The sign before the fraction.
    pub(super) decimal: Option<char>,
    pub(super) thousands: Option<char>,
    /// True where one sign may be either, as in `1,234`.
    pub(super) is_ambiguous: bool,
    /// True for `007`: a name made of digits.
    pub(super) has_leading_zero: bool,
}

/// True for a word that means "no value" whatever the column contains.
pub(super) fn is_null_word(text: &str) -> bool {
    NULLS.contains(&text)
}

/// True for a word that means "no value" in a column of numbers or times.
pub(super) fn is_null_among_numbers(text: &str) -> bool {
    NULLS_AMONG_NUMBERS.contains(&text)
}

/// The words for yes and for no among these values; `None` where they are not truth values.
pub(super) fn truth_words(values: &[&str]) -> Option<(Vec<String>, Vec<String>)> {
    let pair = TRUTHS.iter().find(|(yes, no)| {
        let is_one = |value: &&str| {
            let lower = value.to_lowercase();
            lower == *yes || lower == *no
        };
        values.iter().all(is_one)
    })?;
    let of = |word: &str| {
        let words = values.iter().filter(|value| value.to_lowercase() == word);
        words.map(|value| (*value).to_owned()).collect::<Vec<_>>()
    };
    let (yes, no) = (of(pair.0), of(pair.1));
    (!yes.is_empty() && !no.is_empty()).then_some((yes, no))
}

/// Cuts a currency sign or code off either end.
fn without_currency(text: &str) -> (&str, Option<String>) {
    const SIGNS: [&str; 12] = [
        "€", "$", "£", "¥", "₹", "EUR", "USD", "GBP", "CHF", "JPY", "US$", "kr",
    ];
    for sign in SIGNS {
        if let Some(rest) = text.strip_prefix(sign).or_else(|| text.strip_suffix(sign)) {
            return (rest.trim(), Some(sign.to_owned()));
        }
        if let Some(rest) = text.strip_prefix('-').and_then(|t| t.strip_prefix(sign)) {
            return (rest.trim(), Some(sign.to_owned()));
        }
    }
    (text, None)
}

/// The spelling of a number; `None` for text that is not one.
pub(super) fn number_shape(text: &str) -> Option<NumberShape> {
    let (text, currency) = without_currency(text.trim());
    let mut shape = NumberShape {
        currency,
        ..NumberShape::default()
    };
    let digits = text.trim_start_matches(['-', '+']);
    if text.len() - digits.len() > 1
        || !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.' || c == ',')
    {
        return None;
    }
    if !digits.ends_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    if digits.contains(['e', 'E']) {
        shape.decimal = Some('.');
        return text
            .parse::<f64>()
            .ok()
            .filter(|n| n.is_finite())
            .map(|_| shape);
    }
    let is_sign = |c: char| matches!(c, '.' | ',' | ' ' | '\u{a0}' | '\u{202f}' | '\'');
    if !digits.chars().all(|c| c.is_ascii_digit() || is_sign(c)) {
        return None;
    }
    let groups: Vec<&str> = digits.split(is_sign).collect();
    let signs: Vec<char> = digits.chars().filter(|c| is_sign(*c)).collect();
    shape.has_leading_zero = groups[0].len() > 1 && groups[0].starts_with('0');
    let last = groups.last().map_or(0, |group| group.len());
    let are_thousands = |groups: &[&str]| {
        (1..=3).contains(&groups[0].len()) && groups[1..].iter().all(|group| group.len() == 3)
    };
    match signs[..] {
        [] => {}
        [one] if matches!(one, '.' | ',') => {
            let may_be_thousands = are_thousands(&groups) && groups[0] != "0";
            shape.decimal = Some(one);
            // A point before three digits is a fraction far more often than a thousands sign.
            shape.is_ambiguous = may_be_thousands;
        }
        [first, .., end] if first != end && matches!(end, '.' | ',') => {
            let whole = &groups[..groups.len() - 1];
            if !are_thousands(whole)
                || signs[..signs.len() - 1].iter().any(|s| *s != first)
                || last == 0
            {
                return None;
            }
            (shape.thousands, shape.decimal) = (Some(first), Some(end));
        }
        [first, ..] if signs.iter().all(|s| *s == first) && are_thousands(&groups) => {
            shape.thousands = Some(first);
        }
        _ => return None,
    }
    Some(shape)
}

/// How a column's times are written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TimeForm {
    /// The value of `times`; `None` for a form that files are read in without being told.
    pub(super) setting: Option<String>,
    /// A form with the same right: day and month may change places.
    pub(super) rival: Option<String>,
}

impl TimeForm {
    /// The length in days, at most, of the period that a value names: 366 for a year. `None` for
    /// days and moments.
    pub(super) fn period_days(&self) -> Option<u32> {
        let setting = self.setting.as_deref()?;
        let period = PERIODS.iter().find(|(form, _)| *form == setting);
        period.map(|(_, days)| *days)
    }
}

/// Forms of a period that are tried where no form of a day fits, with its length in days, at most.
const PERIODS: [(&str, u32); 8] = [
    ("%Y-%m", 31),
    ("%m/%Y", 31),
    ("%m.%Y", 31),
    ("%b %Y", 31),
    ("%B %Y", 31),
    ("%G-W%V", 7),
    ("%Y%m", 31),
    ("%Y", 366),
];

/// Forms of a date that are tried, in order.
const DATES: [&str; 17] = [
    "%d.%m.%Y",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%d-%m-%Y",
    "%m-%d-%Y",
    "%Y/%m/%d",
    "%Y.%m.%d",
    "%d.%m.%y",
    "%m/%d/%y",
    "%d/%m/%y",
    "%d-%b-%Y",
    "%d %b %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%d %B %Y",
    "%Y-%m-%d",
    "%Y%m%d",
];
/// What follows the date.
const CLOCKS: [&str; 14] = [
    "",
    " %H:%M",
    " %H:%M:%S",
    " %H:%M:%S%.f",
    "T%H:%M",
    "T%H:%M:%S",
    "T%H:%M:%S%.f",
    " %I:%M %p",
    " %I:%M:%S %p",
    ", %H:%M",
    " %H:%M:%S UTC",
    "T%H:%M:%S%z",
    " %H:%M:%S %z",
    " %H:%M:%S%.f UTC",
];

/// The form of the times of a column of this name; `None` where its values are not times. Numbers
/// need the name of a time, years that of a year.
pub(super) fn time_form(values: &[&str], field: &str) -> Option<TimeForm> {
    if values.is_empty() {
        return None;
    }
    let is_named = named_like_time(field);
    let enough = |count: usize| count * 1000 >= values.len() * 995;
    let plain = |setting: Option<&str>| {
        Some(TimeForm {
            setting: setting.map(str::to_owned),
            rival: None,
        })
    };
    let digits: Vec<usize> = values
        .iter()
        .filter(|value| value.bytes().all(|b| b.is_ascii_digit()))
        .map(|value| value.len())
        .collect();
    if enough(digits.len()) {
        let all = |length: usize| digits.iter().all(|digits| *digits == length);
        if all(8) && reads(values, "%Y%m%d") {
            return plain(Some("%Y%m%d"));
        }
        let unit = match digits[0] {
            9 | 10 if digits.iter().all(|d| matches!(d, 9 | 10)) => Some("seconds"),
            12 | 13 if digits.iter().all(|d| matches!(d, 12 | 13)) => None,
            15 | 16 if digits.iter().all(|d| matches!(d, 15 | 16)) => Some("micros"),
            18 | 19 if digits.iter().all(|d| matches!(d, 18 | 19)) => Some("nanos"),
            5 if all(5) => Some("days"),
            4 if all(4) && named_like_year(field) && reads(values, "%Y") => {
                return plain(Some("%Y"));
            }
            6 if all(6) && (is_named || named_like_month(field)) && reads(values, "%Y%m") => {
                return plain(Some("%Y%m"));
            }
            _ => return None,
        };
        return is_named.then(|| plain(unit)).flatten();
    }
    let looks = |value: &&str| value.len() >= 7 && value.contains(['-', ':', '/', '.', ' ']);
    if values.iter().filter(|value| looks(value)).count() * 2 < values.len() {
        return None;
    }
    let default = values.iter().filter(|value| {
        parse_time(value.trim()).is_some()
            && !value.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    });
    if enough(default.count()) {
        return plain(None);
    }
    let mut found = Vec::new();
    for date in DATES {
        for clock in CLOCKS {
            let form = format!("{date}{clock}");
            if reads(values, &form) {
                found.push(form);
            }
        }
    }
    if found.is_empty() {
        let periods = PERIODS.iter().map(|(form, _)| (*form).to_owned());
        found.extend(periods.filter(|form| reads(values, form)));
    }
    let mut found = found.into_iter();
    let first = found.next()?;
    Some(TimeForm {
        setting: Some(first),
        rival: found.next(),
    })
}

/// Whether a number of four digits is the year in which a row happened, by the column's name.
fn named_like_year(field: &str) -> bool {
    const YEARS: [&str; 4] = ["year", "season", "jahr", "annee"];
    // The year of a thing says nothing of when a row was written.
    const OF_THINGS: [&str; 8] = [
        "birth",
        "death",
        "model",
        "built",
        "build",
        "made",
        "found",
        "establish",
    ];
    let is_year = field.split('_').any(|word| YEARS.contains(&word));
    is_year && !OF_THINGS.iter().any(|word| field.contains(word))
}

/// Whether a number of six digits is a month, by the column's name.
fn named_like_month(field: &str) -> bool {
    let words = ["month", "period", "monat", "mois", "yyyymm"];
    field.split('_').any(|word| words.contains(&word))
}

/// True if nearly all values are times of this form.
fn reads(values: &[&str], form: &str) -> bool {
    let Ok(read) = TimeRead::of(&TimeOption::Form(form.to_owned())) else {
        return false;
    };
    let misses = values
        .iter()
        .filter(|value| !matches!(read.text(value.trim()), Ok(ms) if is_of_our_time(ms)))
        .filter(|value| !value.contains("9999") && !value.contains("0001"))
        // Values of another kind end the trial early: most forms fit nothing.
        .take(values.len() / 200 + 1)
        .count();
    misses <= values.len() / 200
}

fn is_of_our_time(ms: i64) -> bool {
    const YEAR_1800_MS: i64 = -5_364_662_400_000;
    const YEAR_2101_MS: i64 = 4_133_980_800_000;
    (YEAR_1800_MS..YEAR_2101_MS).contains(&ms)
}

/// The moment that a value stands for, milliseconds; `None` where it stands for none.
pub(super) fn moment(value: &str, form: &TimeForm) -> Option<i64> {
    let ms =
        match &form.setting {
            None => parse_time(value.trim()),
            Some(form) => TimeRead::of(&TimeOption::Form(form.clone()))
                .ok()
                .and_then(|read| match value.trim().parse::<i128>() {
                    Ok(number) if !read.has_format() => read.number(number).ok(),
                    _ => read.text(value.trim()).ok(),
                }),
        };
    ms.filter(|ms| !is_no_date(*ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_known_in_the_spelling_of_any_country() {
        let check = |text: &str, decimal: Option<char>, thousands: Option<char>| {
            let shape = number_shape(text).unwrap_or_else(|| panic!("{text} is a number"));
            assert_eq!(
                (shape.decimal, shape.thousands),
                (decimal, thousands),
                "{text}"
            );
        };
        check("12", None, None);
        check("-12.50", Some('.'), None);
        check("12,5", Some(','), None);
        check("1.234,56", Some(','), Some('.'));
        check("1,234,567.89", Some('.'), Some(','));
        check("1,234,567", None, Some(','));
        check("€ 12,50", Some(','), None);
        check("12.50 USD", Some('.'), None);
        check("-$5", None, None);
        check("1e-3", Some('.'), None);
        assert!(number_shape("1,234").unwrap().is_ambiguous);
        assert!(number_shape("007").unwrap().has_leading_zero);
        for text in [
            "",
            "-",
            "abc",
            "10.0.0.1",
            "2011-01-02",
            "12:30",
            "1,23,4",
            "A1",
        ] {
            assert_eq!(number_shape(text), None, "{text}");
        }
    }

    #[test]
    fn times_get_the_setting_that_reads_them() {
        let check = |values: &[&str], setting: Option<&str>, is_unsure: bool| {
            let form =
                time_form(values, "made_at").unwrap_or_else(|| panic!("{values:?} are times"));
            assert_eq!(form.setting.as_deref(), setting, "{values:?}");
            assert_eq!(form.rival.is_some(), is_unsure, "{values:?}: {form:?}");
            assert!(moment(values[0], &form).is_some());
        };
        check(&["2011-10-01 06:08:58.256", "2011-10-01"], None, false);
        check(&["2011-10-01T06:08:58Z"], None, false);
        check(&["1317449338256"], None, false);
        check(&["1317449338", "999999999"], Some("seconds"), false);
        check(&["20111001"], Some("%Y%m%d"), false);
        check(&["01.02.2011", "31.01.2011"], Some("%d.%m.%Y"), false);
        check(&["01/13/2011 10:30"], Some("%m/%d/%Y %H:%M"), false);
        check(&["13/01/2011"], Some("%d/%m/%Y"), false);
        check(&["01/02/2011", "03/04/2011"], Some("%m/%d/%Y"), true);
        for values in [["12"], ["10.0.0.1"], ["hello - world"], ["12345678901"]] {
            assert_eq!(time_form(&values, "made_at"), None, "{values:?}");
        }
        assert_eq!(time_form(&["1317449338"], "number"), None);
    }

    #[test]
    fn periods_are_times_by_their_form_or_name() {
        let check = |values: &[&str], field: &str, expected: Option<(&str, u32)>| {
            let form = time_form(values, field);
            let found = form.as_ref().map(|form| {
                assert!(moment(values[0], form).is_some(), "{values:?}");
                (
                    form.setting.as_deref().unwrap(),
                    form.period_days().unwrap(),
                )
            });
            assert_eq!(found, expected, "{field} {values:?}");
        };
        check(&["1999", "2004"], "year_id", Some(("%Y", 366)));
        check(&["1999", "2004"], "season", Some(("%Y", 366)));
        check(&["1999", "2004"], "birth_year", None);
        check(&["1999", "2004"], "seats", None);
        check(&["199912", "200401"], "month", Some(("%Y%m", 31)));
        check(&["199912", "200401"], "batch", None);
        check(&["199913", "200401"], "month", None);
        check(&["2024-02", "2023-12"], "handed_in", Some(("%Y-%m", 31)));
        check(&["02/2024", "12/2023"], "handed_in", Some(("%m/%Y", 31)));
        check(&["2024-W05", "2023-W52"], "week", Some(("%G-W%V", 7)));
        check(&["Feb 2024", "Dec 2023"], "month", Some(("%b %Y", 31)));
        check(&["100-200"], "range", None);
        let day = time_form(&["2024-02-01"], "made_at").unwrap();
        assert_eq!(day.period_days(), None);
    }

    #[test]
    fn truth_words_come_in_pairs() {
        assert!(truth_words(&["Yes", "No"]).is_some());
        assert!(truth_words(&["Y"]).is_none());
        assert!(truth_words(&["Yes", "No", "Maybe"]).is_none());
    }
}
