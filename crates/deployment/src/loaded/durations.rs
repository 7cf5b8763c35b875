//! Durations of the configuration: older keys, which named their unit, and numbers without one.

use leadpulse_schema::units::{DAY_MS, Span};

use super::table::is_free_form;
use crate::config_error::ConfigError;

const MINUTE_MS: i64 = 60_000;

/// Key of a duration, the older key, and the older key's unit in milliseconds.
const DURATIONS: [(&str, &str, i64); 20] = [
    ("request_timeout", "request_timeout_ms", 1),
    ("commit_timeout", "commit_timeout_ms", 1),
    ("transaction_timeout", "transaction_timeout_ms", 1),
    ("close_timeout", "close_timeout_ms", 1),
    ("timeout", "timeout_ms", 1),
    ("backoff", "backoff_ms", 1),
    ("unknown_ttl", "unknown_ttl_ms", 1),
    ("unavailable_ttl", "unavailable_ttl_ms", 1),
    ("heartbeat_timeout", "heartbeat_timeout_ms", 1),
    ("epoch_floor", "epoch_floor_ms", 1),
    ("half_lives", "half_lives_days", DAY_MS),
    ("order_window", "order_window_days", DAY_MS),
    ("board_period", "board_period_ms", 1),
    ("late_horizon", "late_horizon_ms", 1),
    ("future_tolerance", "future_tolerance_ms", 1),
    ("min_dwell", "min_dwell_ms", 1),
    ("cooldown", "cooldown_ms", 1),
    ("sla", "sla_minutes", MINUTE_MS),
    ("expires", "expires_days", DAY_MS),
    ("silent", "silent_days", DAY_MS),
];

/// The other name of a duration's key: the older of the present one, the present of the older one.
pub(super) fn other_name(key: &str) -> Option<&'static str> {
    DURATIONS.iter().find_map(|(new, old, _)| match key {
        key if key == *new => Some(*old),
        key if key == *old => Some(*new),
        _ => None,
    })
}

/// A value that was found under an older key.
pub(super) struct RenamedKey {
    pub(super) old: String,
    pub(super) new: String,
}

/// Writes durations as text under their present keys. Returns the renamed ones.
pub(super) fn modernise(table: &mut toml::Table, faults: &mut Vec<ConfigError>) -> Vec<RenamedKey> {
    let mut renamed = Vec::new();
    walk(String::new(), table, &mut renamed, faults);
    renamed
}

fn walk(
    prefix: String,
    table: &mut toml::Table,
    renamed: &mut Vec<RenamedKey>,
    faults: &mut Vec<ConfigError>,
) {
    for (new, old, unit_ms) in DURATIONS {
        let (new_path, old_path) = (format!("{prefix}{new}"), format!("{prefix}{old}"));
        if let Some(value) = table.get(new)
            && let Some(example) = without_unit(value, unit_ms)
        {
            faults.push(ConfigError::NoUnit {
                path: new_path,
                value: value.to_string(),
                example,
            });
            continue;
        }
        let Some(value) = table.get(old) else {
            continue;
        };
        if table.contains_key(new) {
            faults.push(ConfigError::TwoNames {
                old: old_path,
                new: new_path,
            });
            continue;
        }
        let text = with_unit(value, unit_ms);
        table.remove(old);
        table.insert(new.to_owned(), text);
        renamed.push(RenamedKey {
            old: old_path,
            new: new_path,
        });
    }
    for (key, value) in table.iter_mut() {
        if is_free_form(key) {
            continue;
        }
        match value {
            toml::Value::Table(inner) => walk(format!("{prefix}{key}."), inner, renamed, faults),
            toml::Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    if let toml::Value::Table(inner) = item {
                        walk(format!("{prefix}{key}[{index}]."), inner, renamed, faults);
                    }
                }
            }
            _ => {}
        }
    }
}

/// The number that a value is, also as text.
fn number(value: &toml::Value) -> Option<f64> {
    match value {
        toml::Value::Integer(number) => Some(*number as f64),
        toml::Value::Float(number) => Some(*number),
        toml::Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// The value with its unit; a value that is no number stays as it is.
fn with_unit(value: &toml::Value, unit_ms: i64) -> toml::Value {
    if let toml::Value::Array(items) = value {
        let items = items.iter().map(|item| with_unit(item, unit_ms));
        return toml::Value::Array(items.collect());
    }
    match number(value) {
        Some(number) if number >= 0.0 => {
            let span = Span::from_ms((number * unit_ms as f64).round() as i64);
            toml::Value::String(span.to_string())
        }
        _ => value.clone(),
    }
}

/// A right spelling for a value that contains a number without a unit; `None` for others.
fn without_unit(value: &toml::Value, unit_ms: i64) -> Option<String> {
    let has_number = match value {
        toml::Value::Array(items) => items.iter().any(|item| number(item).is_some()),
        _ => number(value).is_some(),
    };
    has_number.then(|| with_unit(value, unit_ms).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modern(text: &str) -> (String, Vec<String>, Vec<String>) {
        let mut table: toml::Table = text.parse().unwrap();
        let mut faults = Vec::new();
        let renamed = modernise(&mut table, &mut faults);
        (
            table.to_string(),
            renamed.into_iter().map(|key| key.new).collect(),
            faults.iter().map(ToString::to_string).collect(),
        )
    }

    #[test]
    fn older_keys_keep_their_meaning() {
        let cases = [
            (
                "[kafka]\nrequest_timeout_ms = 20000",
                "request_timeout = \"20s\"",
            ),
            (
                "[kafka]\nrequest_timeout_ms = \"20000\"",
                "request_timeout = \"20s\"",
            ),
            (
                "[graph]\nhalf_lives_days = [0.5, 2, 14]",
                "half_lives = [\"12h\", \"2d\", \"14d\"]",
            ),
            (
                "[[tasks]]\n[tasks.policy]\ncooldown_ms = 0\nsla_minutes = 90",
                "cooldown = \"0s\"\nsla = \"90m\"",
            ),
            (
                "[[tasks]]\n[[tasks.policy.actions]]\nwhen = { silent_days = 21 }",
                "silent = \"21d\"",
            ),
        ];
        for (old, new) in cases {
            let (text, renamed, faults) = modern(old);
            assert!(text.contains(new), "{text}");
            assert!(!renamed.is_empty() && faults.is_empty(), "{faults:?}");
        }
    }

    #[test]
    fn a_number_without_unit_is_refused_with_the_right_spelling() {
        let (_, _, faults) = modern("[kafka]\nrequest_timeout = 10000");
        assert_eq!(faults.len(), 1);
        assert!(
            faults[0].contains("kafka.request_timeout") && faults[0].contains("\"10s\""),
            "{faults:?}"
        );
        let (_, _, faults) = modern("[graph]\nhalf_lives = [2, \"14d\"]");
        assert!(faults[0].contains("\"2d\", \"14d\""), "{faults:?}");
        let (_, _, faults) = modern("[kafka]\nrequest_timeout = \"1s\"\nrequest_timeout_ms = 1");
        assert!(faults[0].contains("kafka.request_timeout_ms"), "{faults:?}");
    }

    #[test]
    fn names_in_maps_of_the_user_are_no_settings() {
        let text = "[kafka.client]\ntimeout_ms = \"5\"\n[targets]\ncooldown_ms = \"5\"";
        let (_, renamed, faults) = modern(text);
        assert!(renamed.is_empty() && faults.is_empty());
    }
}
