//! The `[ingest]` sections of the configuration.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use leadpulse_registry::Secret;
use leadpulse_schema::units::as_span;

/// Shortest secret or token, bytes.
const MIN_SECRET_BYTES: usize = 16;

/// A setting of `[ingest]` that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ingest.{setting}: {problem}")]
pub struct IngestOptionsError {
    /// Dotted path of the setting below `ingest`.
    pub setting: String,
    /// The fault and the remedy.
    pub problem: String,
}

/// The `[ingest]` section. A source without its section answers 404.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IngestOptions {
    /// Address of calls, probes and metrics. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// Longest body of a call, bytes.
    pub body_bytes: usize,
    /// Longest time for the body of a call, milliseconds.
    #[serde(rename = "body_timeout", with = "as_span::ms")]
    pub body_timeout_ms: u64,
    /// Records of a call, at most.
    pub records: usize,
    /// Calls that are worked on at once; further ones get 429.
    pub calls_at_once: usize,
    /// Calls of one address per second, on average; further ones get 429.
    pub calls_per_second: u32,
    /// Longest time for Kafka's acknowledgements, milliseconds.
    #[serde(rename = "acknowledge_timeout", with = "as_span::ms")]
    pub acknowledge_timeout_ms: u64,
    /// Segment's webhooks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment: Option<SegmentIngest>,
    /// HubSpot's webhooks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hubspot: Option<HubspotIngest>,
    /// Marketo's webhooks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marketo: Option<MarketoIngest>,
    /// Programs of one's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<JsonIngest>,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8082)),
            body_bytes: 1 << 20,
            body_timeout_ms: 10_000,
            records: 1_000,
            calls_at_once: 64,
            calls_per_second: 500,
            acknowledge_timeout_ms: 30_000,
            segment: None,
            hubspot: None,
            marketo: None,
            json: None,
        }
    }
}

/// Segment's webhooks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SegmentIngest {
    /// Shared secret of the destination: a reference to a file or to a variable.
    pub secret: Secret,
    /// Topic of the calls.
    pub topic: String,
}

/// HubSpot's webhooks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HubspotIngest {
    /// Client secret of the app: a reference to a file or to a variable.
    pub secret: Secret,
    /// Address at which HubSpot reaches this process, before `/v1/ingest/hubspot`: the signature
    /// covers it.
    pub url: String,
    /// Topic of contacts; without one their events are ignored.
    pub contacts: Option<String>,
    /// Topic of companies.
    pub companies: Option<String>,
    /// Topic of deals.
    pub deals: Option<String>,
}

/// Marketo's webhooks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MarketoIngest {
    /// Token that calls carry in `X-Leadpulse-Token`: a reference to a file or to a variable.
    pub token: Secret,
    /// Topic of leads.
    pub leads: Option<String>,
    /// Topic of activities.
    pub activities: Option<String>,
}

/// Programs of one's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JsonIngest {
    /// Bearer token: a reference to a file or to a variable.
    pub token: Secret,
    /// Topics that calls may write to; a call names one with `?topic=` where there are several.
    pub topics: Vec<String>,
}

fn fault(setting: &str, problem: &str) -> IngestOptionsError {
    IngestOptionsError {
        setting: setting.to_owned(),
        problem: problem.to_owned(),
    }
}

fn check_secret(setting: &str, secret: &Secret) -> Result<(), IngestOptionsError> {
    if secret.reveal().len() >= MIN_SECRET_BYTES {
        return Ok(());
    }
    Err(fault(setting, "must have at least 16 characters"))
}

fn check_topics<'t>(
    setting: &str,
    topics: impl IntoIterator<Item = &'t String>,
) -> Result<(), IngestOptionsError> {
    let mut topics = topics.into_iter().peekable();
    if topics.peek().is_none() {
        return Err(fault(
            setting,
            "names no topic; name one that a source reads",
        ));
    }
    match topics.find(|topic| topic.is_empty()) {
        Some(_) => Err(fault(setting, "has a topic without a name")),
        None => Ok(()),
    }
}

impl IngestOptions {
    /// True if no source is configured.
    pub fn is_empty(&self) -> bool {
        self.segment.is_none()
            && self.hubspot.is_none()
            && self.marketo.is_none()
            && self.json.is_none()
    }

    /// Topics that calls may write to.
    pub fn topics(&self) -> BTreeSet<&str> {
        let segment = self.segment.iter().map(|it| &it.topic);
        let hubspot = self.hubspot.iter().flat_map(HubspotIngest::topics);
        let marketo = self.marketo.iter().flat_map(MarketoIngest::topics);
        let json = self.json.iter().flat_map(|it| &it.topics);
        let all = segment.chain(hubspot).chain(marketo).chain(json);
        all.map(String::as_str).collect()
    }

    /// Checks the section.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn check(&self) -> Result<(), IngestOptionsError> {
        let limits = [
            ("body_bytes", self.body_bytes as u64),
            ("body_timeout", self.body_timeout_ms),
            ("records", self.records as u64),
            ("calls_at_once", self.calls_at_once as u64),
            ("calls_per_second", self.calls_per_second.into()),
            ("acknowledge_timeout", self.acknowledge_timeout_ms),
        ];
        if let Some((name, _)) = limits.into_iter().find(|(_, limit)| *limit == 0) {
            return Err(fault(name, "must be at least 1"));
        }
        if let Some(segment) = &self.segment {
            check_secret("segment.secret", &segment.secret)?;
            check_topics("segment.topic", [&segment.topic])?;
        }
        if let Some(hubspot) = &self.hubspot {
            check_secret("hubspot.secret", &hubspot.secret)?;
            check_topics("hubspot", hubspot.topics())?;
            if !hubspot.url.starts_with("https://") && !hubspot.url.starts_with("http://") {
                return Err(fault("hubspot.url", "is not of the form https://host"));
            }
        }
        if let Some(marketo) = &self.marketo {
            check_secret("marketo.token", &marketo.token)?;
            check_topics("marketo", marketo.topics())?;
        }
        if let Some(json) = &self.json {
            check_secret("json.token", &json.token)?;
            check_topics("json.topics", &json.topics)?;
        }
        Ok(())
    }
}

impl HubspotIngest {
    fn topics(&self) -> impl Iterator<Item = &String> {
        [&self.contacts, &self.companies, &self.deals]
            .into_iter()
            .flatten()
    }
}

impl MarketoIngest {
    fn topics(&self) -> impl Iterator<Item = &String> {
        [&self.leads, &self.activities].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &str = r#"
        [segment]
        secret = "0123456789abcdef"
        topic = "segment.calls"
        [hubspot]
        secret = "0123456789abcdef"
        url = "https://ingest.example"
        contacts = "hubspot.contacts"
        [marketo]
        token = "0123456789abcdef"
        activities = "marketo.activities"
        [json]
        token = "0123456789abcdef"
        topics = ["app.usage"]
    "#;

    #[test]
    fn a_setting_that_cannot_work_is_named() {
        let check = |text: &str| -> Result<(), String> {
            let options: IngestOptions = toml::from_str(text).map_err(|error| error.to_string())?;
            options.check().map_err(|error| error.to_string())
        };
        assert_eq!(check(ALL), Ok(()));
        assert_eq!(check(""), Ok(()));
        let cases = [
            ("\"segment.calls\"", "\"\"", "segment.topic"),
            ("https://ingest.example", "ingest.example", "hubspot.url"),
            (
                "contacts = \"hubspot.contacts\"",
                "",
                "hubspot: names no topic",
            ),
            (
                "activities = \"marketo.activities\"",
                "",
                "marketo: names no topic",
            ),
            ("[\"app.usage\"]", "[]", "json.topics"),
            ("[json]", "[jsonl]", "unknown field `jsonl`"),
            ("[segment]", "records = 0\n[segment]", "ingest.records"),
        ];
        for (from, to, word) in cases {
            let error = check(&ALL.replacen(from, to, 1)).expect_err(to);
            assert!(error.contains(word), "{to}: {error}");
        }
        let sections = [
            "segment.secret",
            "hubspot.secret",
            "marketo.token",
            "json.token",
        ];
        for (number, section) in sections.into_iter().enumerate() {
            let parts: Vec<&str> = ALL.split("0123456789abcdef").collect();
            let mut secrets = ["0123456789abcdef"; 4];
            secrets[number] = "short";
            let mut text = parts[0].to_owned();
            for (secret, part) in secrets.into_iter().zip(&parts[1..]) {
                text.push_str(secret);
                text.push_str(part);
            }
            let error = check(&text).expect_err(section);
            assert!(error.contains(section), "{section}: {error}");
        }
    }
}
