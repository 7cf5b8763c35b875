//! The `[deliver]` sections of the configuration.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use leadpulse_registry::Secret;
use leadpulse_schema::units::as_span;

/// A setting of `[deliver]` that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("deliver.{setting}: {problem}")]
pub struct DeliverOptionsError {
    /// Dotted path of the setting below `deliver`.
    pub setting: String,
    /// The fault and the remedy.
    pub problem: String,
}

/// The `[deliver]` section. Each sink has a section of its own, `[deliver.KIND.NAME]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeliverOptions {
    /// Address of probes and metrics. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// Topic of records that a sink can never take; beside the epochs topic by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<String>,
    /// Signed webhooks: alerts, one a request.
    pub webhook: BTreeMap<String, WebhookOptions>,
    /// Incoming webhooks of Slack: alerts, several a message.
    pub slack: BTreeMap<String, SlackOptions>,
    /// Objects of Salesforce: fields from scores.
    pub salesforce: BTreeMap<String, SalesforceOptions>,
    /// Objects of HubSpot: properties from scores.
    pub hubspot: BTreeMap<String, HubspotOptions>,
}

impl Default for DeliverOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)),
            dead_letters: None,
            webhook: BTreeMap::new(),
            slack: BTreeMap::new(),
            salesforce: BTreeMap::new(),
            hubspot: BTreeMap::new(),
        }
    }
}

impl DeliverOptions {
    /// True if no sink is configured.
    pub fn is_empty(&self) -> bool {
        self.webhook.is_empty()
            && self.slack.is_empty()
            && self.salesforce.is_empty()
            && self.hubspot.is_empty()
    }

    /// Tasks that sinks name, each with the setting below `deliver` that names it.
    pub fn tasks(&self) -> Vec<(String, &str)> {
        let mut named = Vec::new();
        let webhooks = self
            .webhook
            .iter()
            .map(|(name, it)| ("webhook", name, &it.only));
        let slacks = self
            .slack
            .iter()
            .map(|(name, it)| ("slack", name, &it.only));
        for (kind, name, only) in webhooks.chain(slacks) {
            let setting = format!("{kind}.{name}.only.tasks");
            named.extend(
                only.tasks
                    .iter()
                    .map(|task| (setting.clone(), task.as_str())),
            );
        }
        let salesforces = self
            .salesforce
            .iter()
            .map(|(name, it)| ("salesforce", name, &it.task));
        let hubspots = self
            .hubspot
            .iter()
            .map(|(name, it)| ("hubspot", name, &it.task));
        for (kind, name, task) in salesforces.chain(hubspots) {
            named.push((format!("{kind}.{name}.task"), task.as_str()));
        }
        named
    }

    /// Lets relative paths start at `folder`.
    pub fn resolve_paths(&mut self, folder: &Path) {
        let webhooks = self.webhook.values_mut().map(|sink| &mut sink.ca);
        let slacks = self.slack.values_mut().map(|sink| &mut sink.ca);
        let salesforces = self.salesforce.values_mut().map(|sink| &mut sink.ca);
        let hubspots = self.hubspot.values_mut().map(|sink| &mut sink.ca);
        for path in webhooks.chain(slacks).chain(salesforces).chain(hubspots) {
            *path = path.take().map(|path| folder.join(path));
        }
    }
}

/// The place at which a new sink begins. Later starts go on from committed positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartAt {
    /// Records that are committed after the sink's first start.
    #[default]
    Now,
    /// Every record that the topic holds.
    Beginning,
}

/// Alerts that a sink wants. An empty list leaves every value in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Interest {
    /// Names of tasks.
    pub tasks: Vec<String>,
    /// `P1`, `P2`, `P3`.
    pub severities: Vec<String>,
    /// Types of alerts, such as `threshold_up`.
    pub types: Vec<String>,
    /// `open`, `updated`, `resolved`.
    pub states: Vec<String>,
    /// Keys of the people that alerts are for.
    pub owners: Vec<String>,
}

/// A signed webhook.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookOptions {
    /// Address that alerts are posted to.
    pub url: String,
    /// Secret of the signature: a reference to a file or to a variable.
    pub secret: Secret,
    /// Alerts that are sent.
    pub only: Interest,
    /// The place at which a new sink begins.
    pub start: StartAt,
    /// Requests a second, at most.
    pub rate: u32,
    /// Limit of one request, milliseconds.
    #[serde(rename = "timeout", with = "as_span::ms")]
    pub timeout_ms: u64,
    /// Longest pause between two tries, milliseconds; an answer may ask for a longer one.
    #[serde(rename = "longest_pause", with = "as_span::ms")]
    pub longest_pause_ms: u64,
    /// Certificates (PEM) that sign the other side's; the system's roots where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

impl Default for WebhookOptions {
    fn default() -> Self {
        Self {
            url: String::new(),
            secret: Secret::default(),
            only: Interest::default(),
            start: StartAt::Now,
            rate: 20,
            timeout_ms: 10_000,
            longest_pause_ms: 300_000,
            ca: None,
        }
    }
}

/// Alerts of one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DigestBy {
    /// Alerts for one person.
    #[default]
    Owner,
    /// Alerts for anybody.
    All,
}

/// Gathering of alerts into messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DigestOptions {
    /// Alerts that share a message.
    pub by: DigestBy,
    /// Time for which alerts are gathered after the first, milliseconds; 0 sends at once.
    #[serde(rename = "every", with = "as_span::ms")]
    pub every_ms: u64,
    /// Alerts of a message, at most 45: Slack takes 50 blocks.
    pub most: usize,
}

impl Default for DigestOptions {
    fn default() -> Self {
        Self {
            by: DigestBy::Owner,
            every_ms: 60_000,
            most: 20,
        }
    }
}

/// An incoming webhook of Slack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SlackOptions {
    /// The webhook's address, which is a secret: a reference to a file or to a variable.
    pub url: Secret,
    /// Text of an alert in Slack's markup. `{field}` stands for a field of the alert,
    /// `{field|other}` for the first that is not null.
    pub template: String,
    /// Alerts that are sent.
    pub only: Interest,
    /// Gathering of alerts into messages.
    pub digest: DigestOptions,
    /// The place at which a new sink begins.
    pub start: StartAt,
    /// Messages a second, at most; Slack takes one.
    pub rate: u32,
    /// Limit of one request, milliseconds.
    #[serde(rename = "timeout", with = "as_span::ms")]
    pub timeout_ms: u64,
    /// Longest pause between two tries, milliseconds; an answer may ask for a longer one.
    #[serde(rename = "longest_pause", with = "as_span::ms")]
    pub longest_pause_ms: u64,
    /// Certificates (PEM) that sign the other side's; the system's roots where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

impl Default for SlackOptions {
    fn default() -> Self {
        Self {
            url: Secret::default(),
            template: "*{severity}* {account_name|entity_id}: {summary|type}".to_owned(),
            only: Interest::default(),
            digest: DigestOptions::default(),
            start: StartAt::Now,
            rate: 1,
            timeout_ms: 10_000,
            longest_pause_ms: 300_000,
            ca: None,
        }
    }
}

/// Fields of an object of Salesforce, upserted by an external id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SalesforceOptions {
    /// Address of the organisation, such as `https://acme.my.salesforce.com`.
    pub url: String,
    /// Version of the REST API.
    pub version: String,
    /// Address of the token endpoint; that of the organisation by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_url: Option<String>,
    /// Consumer key of the connected app.
    pub client_id: String,
    /// Consumer secret of the connected app: a reference to a file or to a variable.
    pub client_secret: Secret,
    /// Object, such as `Account`.
    pub object: String,
    /// Field of the object that is an external id.
    pub external_id: String,
    /// Field of the score that holds the external id.
    pub key: String,
    /// Task whose scores are written.
    pub task: String,
    /// Table of the entities whose scores are written; all by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Fields of the object → fields of the score.
    pub fields: BTreeMap<String, String>,
    /// The place at which a new sink begins.
    pub start: StartAt,
    /// Requests a second, at most.
    pub rate: u32,
    /// Records of a request, at most 200.
    pub batch: usize,
    /// Time for which scores are gathered after the first, milliseconds.
    #[serde(rename = "every", with = "as_span::ms")]
    pub every_ms: u64,
    /// Limit of one request, milliseconds.
    #[serde(rename = "timeout", with = "as_span::ms")]
    pub timeout_ms: u64,
    /// Longest pause between two tries, milliseconds; an answer may ask for a longer one.
    #[serde(rename = "longest_pause", with = "as_span::ms")]
    pub longest_pause_ms: u64,
    /// Certificates (PEM) that sign the other side's; the system's roots where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

impl Default for SalesforceOptions {
    fn default() -> Self {
        Self {
            url: String::new(),
            version: "v62.0".to_owned(),
            token_url: None,
            client_id: String::new(),
            client_secret: Secret::default(),
            object: String::new(),
            external_id: String::new(),
            key: "entity_id".to_owned(),
            task: String::new(),
            entity: None,
            fields: BTreeMap::new(),
            start: StartAt::Now,
            rate: 2,
            batch: 200,
            every_ms: 10_000,
            timeout_ms: 60_000,
            longest_pause_ms: 300_000,
            ca: None,
        }
    }
}

/// Properties of an object of HubSpot, updated in batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HubspotOptions {
    /// Address of the API.
    pub url: String,
    /// Token of a private app: a reference to a file or to a variable.
    pub token: Secret,
    /// Object, such as `contacts` or `companies`.
    pub object: String,
    /// Unique property that holds the key; HubSpot's own id by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_property: Option<String>,
    /// Field of the score that holds the key.
    pub key: String,
    /// Task whose scores are written.
    pub task: String,
    /// Table of the entities whose scores are written; all by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity: Option<String>,
    /// Properties of the object → fields of the score.
    pub fields: BTreeMap<String, String>,
    /// The place at which a new sink begins.
    pub start: StartAt,
    /// Requests a second, at most.
    pub rate: u32,
    /// Records of a request, at most 100.
    pub batch: usize,
    /// Time for which scores are gathered after the first, milliseconds.
    #[serde(rename = "every", with = "as_span::ms")]
    pub every_ms: u64,
    /// Limit of one request, milliseconds.
    #[serde(rename = "timeout", with = "as_span::ms")]
    pub timeout_ms: u64,
    /// Longest pause between two tries, milliseconds; an answer may ask for a longer one.
    #[serde(rename = "longest_pause", with = "as_span::ms")]
    pub longest_pause_ms: u64,
    /// Certificates (PEM) that sign the other side's; the system's roots where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

impl Default for HubspotOptions {
    fn default() -> Self {
        Self {
            url: "https://api.hubapi.com".to_owned(),
            token: Secret::default(),
            object: "contacts".to_owned(),
            id_property: None,
            key: "entity_id".to_owned(),
            task: String::new(),
            entity: None,
            fields: BTreeMap::new(),
            start: StartAt::Now,
            rate: 5,
            batch: 100,
            every_ms: 10_000,
            timeout_ms: 60_000,
            longest_pause_ms: 300_000,
            ca: None,
        }
    }
}
