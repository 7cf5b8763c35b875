//! [`OutputTopics`]: the names of the output topics.

use serde::{Deserialize, Serialize};

use leadpulse_engine::ports::Output;

/// Names of the output topics. A name that the configuration leaves out follows from the name of
/// the epochs topic.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(from = "ConfiguredOutputs")]
pub struct OutputTopics {
    /// Every score record: the history.
    pub scores: String,
    /// The newest score record of each (task, entity): the current state. An empty name switches
    /// this output off.
    pub current_scores: String,
    /// Alert records; one partition.
    pub alerts: String,
    /// Records that could not be used; one partition.
    pub dead_letters: String,
    /// Epoch records; one partition.
    pub epochs: String,
    /// Policy state; one partition.
    pub policy_state: String,
    /// Work lists; one partition.
    pub worklist: String,
    /// Alerts that were told or held out; one partition.
    pub exposures: String,
    /// Proofs of erasures; one partition.
    pub erasure_proofs: String,
}

/// The `[kafka.outputs]` section as written.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ConfiguredOutputs {
    scores: Option<String>,
    current_scores: Option<String>,
    alerts: Option<String>,
    dead_letters: Option<String>,
    epochs: Option<String>,
    policy_state: Option<String>,
    worklist: Option<String>,
    exposures: Option<String>,
    erasure_proofs: Option<String>,
}

impl From<ConfiguredOutputs> for OutputTopics {
    fn from(configured: ConfiguredOutputs) -> Self {
        let names = Self::beside(configured.epochs.as_deref().unwrap_or("scoring.epochs.v1"));
        Self {
            scores: configured.scores.unwrap_or(names.scores),
            current_scores: configured.current_scores.unwrap_or(names.current_scores),
            alerts: configured.alerts.unwrap_or(names.alerts),
            dead_letters: configured.dead_letters.unwrap_or(names.dead_letters),
            epochs: names.epochs,
            policy_state: configured.policy_state.unwrap_or(names.policy_state),
            worklist: configured.worklist.unwrap_or(names.worklist),
            exposures: configured.exposures.unwrap_or(names.exposures),
            erasure_proofs: configured.erasure_proofs.unwrap_or(names.erasure_proofs),
        }
    }
}

impl Default for OutputTopics {
    fn default() -> Self {
        ConfiguredOutputs::default().into()
    }
}

impl OutputTopics {
    /// The names that follow from the epochs topic's. The output's word replaces the last `epochs`
    /// in the name, or is appended where there is none: `scoring.epochs.v1` → `scoring.alerts.v1`;
    /// `pulse` → `pulse-alerts`.
    pub fn beside(epochs: &str) -> Self {
        let name = |word: &str| Self::named_beside(epochs, word);
        Self {
            scores: name("score-changes"),
            current_scores: name("scores"),
            alerts: name("alerts"),
            dead_letters: name("dlq"),
            epochs: epochs.to_owned(),
            policy_state: name("policy-state"),
            worklist: name("worklist"),
            exposures: name("exposures"),
            erasure_proofs: name("erasure-proofs"),
        }
    }

    fn named_beside(epochs: &str, word: &str) -> String {
        match epochs.rfind("epochs") {
            Some(at) => format!("{}{word}{}", &epochs[..at], &epochs[at + "epochs".len()..]),
            None => format!("{epochs}-{word}"),
        }
    }

    /// The topic of control records, which this program reads and tools write. Its name follows from
    /// that of the epochs topic.
    pub fn control(&self) -> String {
        Self::named_beside(&self.epochs, "control")
    }

    /// The topic of records that a sink of `deliver` can never take. Its name follows from that of
    /// the epochs topic.
    pub fn sink_letters(&self) -> String {
        Self::named_beside(&self.epochs, "sink-dlq")
    }

    /// The topic of an output; empty for current scores that are switched off.
    pub fn name(&self, output: Output) -> &str {
        match output {
            Output::Scores => &self.scores,
            Output::CurrentScores => &self.current_scores,
            Output::Alerts => &self.alerts,
            Output::DeadLetters => &self.dead_letters,
            Output::Epochs => &self.epochs,
            Output::PolicyState => &self.policy_state,
            Output::WorkLists => &self.worklist,
            Output::Exposures => &self.exposures,
            Output::ErasureProofs => &self.erasure_proofs,
        }
    }

    /// True if an output has a topic. Every output has one, except current scores that are switched
    /// off.
    pub fn writes(&self, output: Output) -> bool {
        !self.name(output).is_empty()
    }

    pub(crate) fn fields(&self) -> [(&'static str, &str); 9] {
        [
            ("scores", &self.scores),
            ("current_scores", &self.current_scores),
            ("alerts", &self.alerts),
            ("dead_letters", &self.dead_letters),
            ("epochs", &self.epochs),
            ("policy_state", &self.policy_state),
            ("worklist", &self.worklist),
            ("exposures", &self.exposures),
            ("erasure_proofs", &self.erasure_proofs),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::KafkaOptions;

    #[test]
    fn outputs_that_are_left_out_are_named_after_the_epochs() {
        let read = |json: &str| serde_json::from_str::<OutputTopics>(json).unwrap();
        let all = |outputs: &OutputTopics| outputs.fields().map(|(_, name)| name.to_owned());
        let cases = [
            (
                "{}",
                [
                    "scoring.score-changes.v1",
                    "scoring.scores.v1",
                    "scoring.alerts.v1",
                    "scoring.dlq.v1",
                    "scoring.epochs.v1",
                    "scoring.policy-state.v1",
                    "scoring.worklist.v1",
                    "scoring.exposures.v1",
                    "scoring.erasure-proofs.v1",
                ],
            ),
            (
                r#"{"epochs": "epochs-eu.epochs.v2", "alerts": "hot"}"#,
                [
                    "epochs-eu.score-changes.v2",
                    "epochs-eu.scores.v2",
                    "hot",
                    "epochs-eu.dlq.v2",
                    "epochs-eu.epochs.v2",
                    "epochs-eu.policy-state.v2",
                    "epochs-eu.worklist.v2",
                    "epochs-eu.exposures.v2",
                    "epochs-eu.erasure-proofs.v2",
                ],
            ),
            (
                r#"{"epochs": "pulse", "current_scores": ""}"#,
                [
                    "pulse-score-changes",
                    "",
                    "pulse-alerts",
                    "pulse-dlq",
                    "pulse",
                    "pulse-policy-state",
                    "pulse-worklist",
                    "pulse-exposures",
                    "pulse-erasure-proofs",
                ],
            ),
        ];
        for (json, expected) in cases {
            let outputs = read(json);
            assert_eq!(all(&outputs), expected, "{json}");
            KafkaOptions {
                outputs,
                ..KafkaOptions::default()
            }
            .validate()
            .unwrap();
        }
        assert_eq!(read("{}").control(), "scoring.control.v1");
        assert_eq!(read("{}"), OutputTopics::default());
        // A configuration that is printed and read again names the same topics.
        let written = read(r#"{"epochs": "x.epochs", "current_scores": ""}"#);
        assert_eq!(read(&serde_json::to_string(&written).unwrap()), written);
        let error = serde_json::from_str::<OutputTopics>(r#"{"alert": "x"}"#)
            .unwrap_err()
            .to_string();
        assert!(error.contains("unknown field `alert`"), "{error}");
    }
}
