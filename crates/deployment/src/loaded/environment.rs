//! Settings from the environment, and variables that were meant to be settings.

use std::collections::BTreeSet;

use crate::config_error::ConfigError;

/// Environment variables of this prefix override the file: `LEADPULSE_ENGINE__MAX_RECORDS=1000`
/// sets `engine.max_records`.
const PREFIX: &str = "LEADPULSE_";

/// Beginnings of the variables of tests and scripts, after the prefix.
const NOT_SETTINGS: [&str; 11] = [
    "BIN",
    "BROKER_FAULTS",
    "FAULTS",
    "KAFKA_HOME",
    "KAFKA_LIBS",
    "KILLS",
    "NETWORK_FAULTS",
    "PAUSES",
    "PROPERTY_CASES",
    "REGISTRY_HOME",
    "TEST_",
];

/// Most edits between a variable and the setting that it probably means.
const NEAR: usize = 2;
/// Fewest letters of a name that may differ from a setting's: shorter ones are near to everything.
const LETTERS: usize = 8;

/// A value that replaces one of the file.
pub(super) struct Override {
    /// Keys from the top to the value: `engine`, `max_records`.
    pub(super) path: Vec<String>,
    /// TOML; a bare word is text.
    pub(super) value: String,
    /// The environment variable, or `command line`.
    pub(super) origin: String,
}

impl Override {
    /// The path as the file's paths are written.
    pub(super) fn dotted(&self) -> String {
        self.path.join(".")
    }
}

/// The settings that `variables` make. A section and a key are separated by two underscores.
/// `known` lists the paths of all settings.
///
/// # Errors
/// Adds a fault for each variable that misses a setting by a little: it would be ignored in silence.
pub(super) fn overrides(
    variables: impl Iterator<Item = (String, String)>,
    known: &BTreeSet<String>,
    faults: &mut Vec<ConfigError>,
) -> Vec<Override> {
    let mut found = Vec::new();
    for (name, value) in variables {
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        if NOT_SETTINGS.iter().any(|start| rest.starts_with(start)) {
            continue;
        }
        if rest.contains("__") || known.contains(&rest.to_lowercase()) {
            found.push(Override {
                path: path_of(rest),
                value,
                origin: name,
            });
        } else if let Some(meant) = nearest(rest, known) {
            faults.push(ConfigError::NearMiss {
                variable: name,
                meant,
            });
        }
    }
    found
}

/// The path of a variable's name without its prefix. librdkafka's dotted names follow
/// `KAFKA__CLIENT__`, with underscores for dots: none of its settings that can be changed has an
/// underscore.
fn path_of(rest: &str) -> Vec<String> {
    let parts: Vec<String> = rest.to_lowercase().split("__").map(str::to_owned).collect();
    match parts.as_slice() {
        [kafka, client, setting @ ..]
            if kafka == "kafka" && client == "client" && !setting.is_empty() =>
        {
            let setting = setting.join(".");
            let setting = if setting.ends_with("log_level") {
                setting
            } else {
                setting.replace('_', ".")
            };
            vec![kafka.clone(), client.clone(), setting]
        }
        _ => parts,
    }
}

/// The variable of the setting that is written almost like `rest`; `None` if none is.
pub(super) fn nearest(rest: &str, known: &BTreeSet<String>) -> Option<String> {
    let letters = |text: &str| text.to_lowercase().replace(['_', '.'], "");
    let wanted = letters(rest);
    let (distance, path) = known
        .iter()
        .map(|path| (edits(&wanted, &letters(path)), path))
        .min_by_key(|(distance, _)| *distance)?;
    let is_near = distance == 0 || (distance <= NEAR && wanted.len() >= LETTERS);
    is_near.then(|| format!("{PREFIX}{}", path.to_uppercase().replace('.', "__")))
}

/// Insertions, deletions and replacements that make one text of the other
/// ([Wagner and Fischer 1974](https://doi.org/10.1145/321796.321811)).
fn edits(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, left) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(names: &[&str]) -> (Vec<String>, Vec<String>) {
        let known = ["kafka.brokers", "engine.max_records", "schemas"]
            .map(str::to_owned)
            .into();
        let mut faults = Vec::new();
        let variables = names.iter().map(|name| ((*name).into(), String::new()));
        let found = overrides(variables, &known, &mut faults);
        (
            found.iter().map(Override::dotted).collect(),
            faults.iter().map(ToString::to_string).collect(),
        )
    }

    #[test]
    fn variables_become_paths() {
        let (paths, faults) = read(&[
            "LEADPULSE_KAFKA__BROKERS",
            "LEADPULSE_SCHEMAS",
            "LEADPULSE_KAFKA__CLIENT__SOCKET_TIMEOUT_MS",
            "LEADPULSE_KAFKA__CLIENT__CONSUMER__FETCH_MIN_BYTES",
            "LEADPULSE_KAFKA__OUTPUTS__SCORES",
            "HOME",
        ]);
        assert_eq!(
            paths,
            [
                "kafka.brokers",
                "schemas",
                "kafka.client.socket.timeout.ms",
                "kafka.client.consumer.fetch.min.bytes",
                "kafka.outputs.scores",
            ]
        );
        assert!(faults.is_empty(), "{faults:?}");
    }

    #[test]
    fn a_near_miss_is_named_with_the_right_spelling() {
        let cases = [
            ("LEADPULSE_KAFKA_BROKERS", "LEADPULSE_KAFKA__BROKERS"),
            ("LEADPULSE_KAFKA_BROKER", "LEADPULSE_KAFKA__BROKERS"),
            (
                "LEADPULSE_ENGINE_MAXRECORD",
                "LEADPULSE_ENGINE__MAX_RECORDS",
            ),
        ];
        for (name, right) in cases {
            let (paths, faults) = read(&[name]);
            assert!(
                paths.is_empty() && faults.len() == 1,
                "{name}: {paths:?} {faults:?}"
            );
            assert!(
                faults[0].contains(name) && faults[0].contains(right),
                "{faults:?}"
            );
        }
    }

    #[test]
    fn variables_of_tests_and_of_kubernetes_are_no_settings() {
        let (paths, faults) = read(&[
            "LEADPULSE_TEST_BROKERS",
            "LEADPULSE_FAULTS",
            "LEADPULSE_KILLS",
            "LEADPULSE_KAFKA_LIBS",
            "LEADPULSE_SERVICE_HOST",
            "LEADPULSE_PORT",
            "LEADPULSE_PORT_8080_TCP_ADDR",
        ]);
        assert!(
            paths.is_empty() && faults.is_empty(),
            "{paths:?} {faults:?}"
        );
    }
}
