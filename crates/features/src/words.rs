//! Names, numbers and times as people read them. English, deterministic, never an e-mail address.

use leadpulse_schema::units::{AsOf, EventTime};

/// Most characters of a value; longer values are cut.
const LONGEST_VALUE: usize = 60;
/// Words that exports write into empty fields. `NA` is a region to some, and stays.
const PLACEHOLDERS: [&str; 7] = ["null", "none", "nan", "inf", "n/a", "undefined", "unknown"];

/// A name in words: `toStage`, `pricing_page_view`, `contact_id` → `to stage`, `pricing page view`,
/// `contact`.
pub fn name(code: &str) -> String {
    let mut words = String::new();
    let mut was_lower = false;
    for c in code.chars() {
        match c {
            '_' | '-' | '.' | '/' | ' ' => words.push(' '),
            c if c.is_uppercase() && was_lower => {
                words.push(' ');
                words.extend(c.to_lowercase());
            }
            c => words.extend(c.to_lowercase()),
        }
        was_lower = c.is_lowercase() || c.is_ascii_digit();
    }
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let plain = words
        .strip_suffix(" id")
        .or_else(|| words.strip_suffix(" ids"))
        .unwrap_or(&words);
    plain.to_owned()
}

/// The name of a time field in words: `created_at` → `created`.
pub(crate) fn moment(code: &str) -> String {
    let name = name(code);
    name.strip_suffix(" at").unwrap_or(&name).to_owned()
}

/// A value from a row in words: `case_study` → `case study`. `None` for an empty value, for what an
/// export writes in its place (`null`, `NaN`), and for one that looks like an e-mail address.
pub fn value(text: &str) -> Option<String> {
    let text = text.trim();
    let is_address = text
        .split_once('@')
        .is_some_and(|(before, after)| !before.is_empty() && !after.is_empty());
    let text = text.replace('_', " ");
    let text = text.trim();
    let is_placeholder = PLACEHOLDERS.iter().any(|p| p.eq_ignore_ascii_case(text));
    if text.is_empty() || is_address || is_placeholder {
        return None;
    }
    Some(match text.char_indices().nth(LONGEST_VALUE) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.to_owned(),
    })
}

/// The singular of an English plural.
pub fn singular(plural: &str) -> String {
    let ends = |suffix: &str| plural.strip_suffix(suffix);
    if let Some(stem) = ends("ies").filter(|s| s.len() > 1) {
        return format!("{stem}y");
    }
    if let Some(stem) = ["sses", "xes", "ches", "shes"]
        .iter()
        .find_map(|s| plural.ends_with(s).then(|| &plural[..plural.len() - 2]))
    {
        return stem.to_owned();
    }
    match ends("s") {
        Some(stem) if stem.len() > 1 && !stem.ends_with(['s', 'u', 'i']) => stem.to_owned(),
        _ => plural.to_owned(),
    }
}

/// The plural of an English singular.
pub(crate) fn plural(singular: &str) -> String {
    match singular
        .strip_suffix('y')
        .filter(|s| !s.ends_with(['a', 'e', 'i', 'o', 'u']) && !s.is_empty())
    {
        Some(stem) => format!("{stem}ies"),
        None if ["s", "x", "ch", "sh"].iter().any(|s| singular.ends_with(s)) => {
            format!("{singular}es")
        }
        None => format!("{singular}s"),
    }
}

/// A number of rows of a table, whose name is a plural: `1 contact`, `4 contacts`.
pub(crate) fn counted(n: usize, table: &str) -> String {
    let table = name(table);
    if n == 1 {
        format!("1 {}", singular(&table))
    } else {
        format!("{} {table}", number(n as f64))
    }
}

/// A number with groups of thousands and at most two decimals: `12,000`, `0.75`, `-3.5`.
pub(crate) fn number(x: f64) -> String {
    if x.abs() >= 1e15 {
        return format!("{x:.2e}");
    }
    let decimals = if x.abs() >= 100.0 { 0 } else { 2 };
    let text = format!("{:.*}", decimals, x.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let fraction = fraction.trim_end_matches('0');
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let is_negative = x < 0.0 && (grouped != "0" || !fraction.is_empty());
    let sign = if is_negative { "-" } else { "" };
    if fraction.is_empty() {
        format!("{sign}{grouped}")
    } else {
        format!("{sign}{grouped}.{fraction}")
    }
}

const HOUR_MS: i64 = 3_600_000;

/// A duration in words: `3 hours`, `1 day`, `24 days`, `3 years`.
pub(crate) fn span(ms: i64) -> String {
    let of = |n: i64, unit: &str| {
        if n == 1 {
            format!("1 {unit}")
        } else {
            format!("{} {unit}s", number(n as f64))
        }
    };
    match ms / HOUR_MS {
        0 => "less than an hour".into(),
        hours @ 1..24 => of(hours, "hour"),
        hours if hours < 24 * 730 => of(hours / 24, "day"),
        hours => of(hours / (24 * 365), "year"),
    }
}

/// The distance of a moment from `as_of`: `3 days ago`, `in 12 days`.
pub(crate) fn ago(time_ms: i64, as_of: AsOf) -> String {
    let since = as_of.since(EventTime::from_ms(time_ms));
    match since {
        0..HOUR_MS => "within the hour".into(),
        _ if since < 0 => format!("in {}", span(since.saturating_neg())),
        _ => format!("{} ago", span(since)),
    }
}

/// The first `most` items and the number of the others: `A, B, C and 4 more`.
pub fn listed(items: &[String], most: usize) -> String {
    let shown = items
        .iter()
        .take(most)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    match items.len().saturating_sub(most) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The English name of the month (UTC) of a moment.
pub(crate) fn month(time_ms: i64) -> &'static str {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    // Days since 1 March of year 0, in years that end with February, so that a leap day comes last
    // (https://howardhinnant.github.io/date_algorithms.html).
    let day = (time_ms.div_euclid(24 * HOUR_MS) + 719_468).rem_euclid(146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    MONTHS[((month + 2) % 12) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_values_become_words() {
        for (code, expected) in [
            ("pricing_page_view", "pricing page view"),
            ("AmountRequested", "amount requested"),
            ("contact_id", "contact"),
            ("contact_ids", "contact"),
            ("id", "id"),
            ("industries", "industries"),
        ] {
            assert_eq!(name(code), expected);
        }
        assert_eq!(moment("created_at"), "created");
        assert_eq!(value("case_study").as_deref(), Some("case study"));
        assert_eq!(value("C-Level").as_deref(), Some("C-Level"));
        assert_eq!(value("ann@acme.example"), None);
        for nothing in [" ", "_", "null", "NaN", "inf_", "N/A", "Unknown"] {
            assert_eq!(value(nothing), None, "{nothing}");
        }
        assert_eq!(value("NA").as_deref(), Some("NA"));
        assert_eq!(value(&"é".repeat(100)).map(|v| v.chars().count()), Some(61));
    }

    #[test]
    fn singulars_and_plurals_match() {
        for (one, many) in [
            ("contact", "contacts"),
            ("opportunity", "opportunities"),
            ("address", "addresses"),
            ("box", "boxes"),
            ("day", "days"),
        ] {
            assert_eq!((singular(many).as_str(), plural(one).as_str()), (one, many));
        }
        for same in ["status", "staff", "gas", "analysis"] {
            assert!(!singular(same).is_empty());
        }
        assert_eq!(counted(1, "opportunities"), "1 opportunity");
        assert_eq!(counted(1200, "contacts"), "1,200 contacts");
    }

    #[test]
    fn numbers_have_groups_of_thousands() {
        for (x, expected) in [
            (12_000.0, "12,000"),
            (1_234_567.8, "1,234,568"),
            (0.75, "0.75"),
            (2.999, "3"),
            (-3.5, "-3.5"),
            (0.0, "0"),
            (-0.001, "0"),
            (100.0, "100"),
            (1e300, "1.00e300"),
        ] {
            assert_eq!(number(x), expected);
        }
    }

    #[test]
    fn moments_become_distances_and_months() {
        const DAY_MS: i64 = 24 * HOUR_MS;
        for (since_ms, expected) in [
            (0, "within the hour"),
            (HOUR_MS, "1 hour ago"),
            (DAY_MS, "1 day ago"),
            (240 * DAY_MS, "240 days ago"),
            (1100 * DAY_MS, "3 years ago"),
            (-12 * DAY_MS, "in 12 days"),
        ] {
            assert_eq!(
                ago(
                    1_000_000_000_000 - since_ms,
                    AsOf::from_ms(1_000_000_000_000)
                ),
                expected
            );
        }
        for t in [i64::MIN, i64::MAX] {
            ago(t, AsOf::from_ms(0));
            month(t);
        }
        for (days, expected) in [
            (0, "January"),
            (58, "February"),
            (59, "March"),
            (364, "December"),
            (365, "January"),
            (-1, "December"),
            (11_016, "February"),
            (11_017, "March"),
        ] {
            assert_eq!(month(days * DAY_MS), expected, "{days}");
        }
    }
}
