//! Options checked once into the sinks of a process.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;
use serde_json::Value as Json;

use leadpulse_records::{ALERT_SCHEMA, SCORE_SCHEMA};
use leadpulse_registry::TokenOptions;

use crate::options::{
    DeliverOptions, DeliverOptionsError, HubspotOptions, SalesforceOptions, SlackOptions, StartAt,
    WebhookOptions,
};
use crate::protocols::{CrmFields, Hubspot, Protocol, Salesforce, Slack, Template, Webhook};

/// Most alerts of a message of Slack: 50 blocks, some of them for headings.
const MOST_OF_A_MESSAGE: usize = 45;
/// Most objects of a request to Salesforce.
const MOST_OF_SALESFORCE: usize = 200;
/// Most objects of a request to HubSpot.
const MOST_OF_HUBSPOT: usize = 100;
/// Records that a webhook takes at once; each is a request.
pub(crate) const WEBHOOK_RECORDS: usize = 100;
/// Records that a gathering sink takes at once.
const GATHERED_RECORDS: usize = 1_000;
/// Longest time for which records are gathered.
const LONGEST_GATHERING_MS: u64 = 3_600_000;
/// Shortest secret of a signature, bytes.
const MIN_SECRET_BYTES: usize = 16;

/// The topic that a sink reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedKind {
    /// Alerts.
    Alerts,
    /// Every score record.
    Scores,
}

/// A sink, checked.
pub struct SinkSpec {
    /// Name, such as `webhook.ops`: in metrics, in dead letters, and at the end of the group's id.
    pub name: String,
    /// The topic that it reads.
    pub feed: FeedKind,
    /// The place at which it begins without committed positions.
    pub start: StartAt,
    /// Records that it takes at once.
    pub records: usize,
    /// Time for which it gathers records after the first.
    pub gather: Duration,
    /// Requests a second.
    pub rate: NonZeroU32,
    /// Limit of one request.
    pub timeout: Duration,
    /// Longest pause between two tries.
    pub longest_pause: Duration,
    /// Certificates of the other side.
    pub ca: Option<PathBuf>,
    /// The endpoint of its tokens; `None` for a sink without.
    pub tokens: Option<TokenOptions>,
    /// The protocol of the other side.
    pub protocol: Box<dyn Protocol>,
}

/// Names of the fields of an output schema.
fn field_names(schema: &str) -> Vec<String> {
    let schema: Json = serde_json::from_str(schema).unwrap_or_default();
    let fields = schema["fields"].as_array().cloned().unwrap_or_default();
    let names = fields.iter().filter_map(|field| field["name"].as_str());
    names.map(str::to_owned).collect()
}

/// The section of one sink, for faults.
struct Section<'s> {
    kind: &'static str,
    name: &'s str,
}

impl Section<'_> {
    fn sink(&self) -> String {
        format!("{}.{}", self.kind, self.name)
    }

    fn fault(&self, setting: &str, problem: impl Into<String>) -> DeliverOptionsError {
        DeliverOptionsError {
            setting: format!("{}.{setting}", self.sink()),
            problem: problem.into(),
        }
    }

    fn check_name(&self) -> Result<(), DeliverOptionsError> {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
        if self.name.is_empty() || self.name.len() > 40 || !self.name.chars().all(is_plain) {
            return Err(DeliverOptionsError {
                setting: self.sink(),
                problem: "is no name for a sink; use up to 40 small letters, digits, - and _"
                    .into(),
            });
        }
        Ok(())
    }

    /// Checks an address. Its text is not repeated where it is a secret.
    fn check_url(&self, setting: &str, text: &str) -> Result<(), DeliverOptionsError> {
        let url = Url::parse(text).ok().filter(|url| {
            let is_plain = url.username().is_empty() && url.password().is_none();
            matches!(url.scheme(), "http" | "https") && url.host_str().is_some() && is_plain
        });
        if url.is_none() {
            let problem = "is not of the form https://host/path, without user and password";
            return Err(self.fault(setting, problem));
        }
        Ok(())
    }

    fn rate(&self, rate: u32) -> Result<NonZeroU32, DeliverOptionsError> {
        NonZeroU32::new(rate).ok_or_else(|| self.fault("rate", "must be at least 1 a second"))
    }

    fn span(&self, setting: &str, ms: u64) -> Result<Duration, DeliverOptionsError> {
        if (100..=86_400_000).contains(&ms) {
            return Ok(Duration::from_millis(ms));
        }
        Err(self.fault(setting, "must be between 100ms and 1d"))
    }

    fn gathering(&self, setting: &str, ms: u64) -> Result<Duration, DeliverOptionsError> {
        if ms <= LONGEST_GATHERING_MS {
            return Ok(Duration::from_millis(ms));
        }
        Err(self.fault(setting, "must be at most 1h"))
    }

    fn most(&self, setting: &str, most: usize, limit: usize) -> Result<usize, DeliverOptionsError> {
        if (1..=limit).contains(&most) {
            return Ok(most);
        }
        Err(self.fault(setting, format!("must be between 1 and {limit}")))
    }

    fn filled(&self, settings: &[(&str, &str)]) -> Result<(), DeliverOptionsError> {
        match settings.iter().find(|(_, value)| value.trim().is_empty()) {
            Some((setting, _)) => Err(self.fault(setting, "is missing")),
            None => Ok(()),
        }
    }

    /// A part of a path: no character of it may lead elsewhere.
    fn path_part(&self, setting: &str, text: &str) -> Result<(), DeliverOptionsError> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !text.is_empty() && text.chars().all(is_plain) {
            return Ok(());
        }
        Err(self.fault(
            setting,
            format!("{text:?} is no name of letters, digits, - and _"),
        ))
    }

    fn webhook(&self, options: &WebhookOptions) -> Result<SinkSpec, DeliverOptionsError> {
        self.check_url("url", &options.url)?;
        if options.secret.reveal().len() < MIN_SECRET_BYTES {
            let problem = "must have at least 16 characters; make one with openssl rand -hex 32";
            return Err(self.fault("secret", problem));
        }
        let protocol = Webhook::new(&options.url, options.secret.reveal(), options.only.clone());
        Ok(SinkSpec {
            name: self.sink(),
            feed: FeedKind::Alerts,
            start: options.start,
            records: WEBHOOK_RECORDS,
            gather: Duration::ZERO,
            rate: self.rate(options.rate)?,
            timeout: self.span("timeout", options.timeout_ms)?,
            longest_pause: self.span("longest_pause", options.longest_pause_ms)?,
            ca: options.ca.clone(),
            tokens: None,
            protocol: Box::new(protocol),
        })
    }

    fn slack(&self, options: &SlackOptions) -> Result<SinkSpec, DeliverOptionsError> {
        self.check_url("url", options.url.reveal())?;
        let template = Template::parse(&options.template, &field_names(ALERT_SCHEMA));
        let digest = &options.digest;
        let protocol = Slack {
            url: options.url.reveal().to_owned(),
            template: template.map_err(|problem| self.fault("template", problem))?,
            only: options.only.clone(),
            by: digest.by,
            most: self.most("digest.most", digest.most, MOST_OF_A_MESSAGE)?,
        };
        Ok(SinkSpec {
            name: self.sink(),
            feed: FeedKind::Alerts,
            start: options.start,
            records: GATHERED_RECORDS,
            gather: self.gathering("digest.every", digest.every_ms)?,
            rate: self.rate(options.rate)?,
            timeout: self.span("timeout", options.timeout_ms)?,
            longest_pause: self.span("longest_pause", options.longest_pause_ms)?,
            ca: options.ca.clone(),
            tokens: None,
            protocol: Box::new(protocol),
        })
    }

    /// Checks the fields that a CRM sink reads from scores.
    fn crm(&self, crm: CrmFields) -> Result<CrmFields, DeliverOptionsError> {
        self.filled(&[("task", &crm.task)])?;
        if crm.fields.is_empty() {
            let problem = "names no field; write fields = { THEIR_FIELD = \"score\" }";
            return Err(self.fault("fields", problem));
        }
        let known = field_names(SCORE_SCHEMA);
        let named = crm
            .fields
            .iter()
            .map(|(to, from)| (format!("fields.{to}"), from));
        for (setting, from) in named.chain([("key".to_owned(), &crm.key)]) {
            if !known.contains(from) {
                let problem =
                    format!("a score has no field {from:?}; docs/events.md lists the fields");
                return Err(self.fault(&setting, problem));
            }
        }
        Ok(crm)
    }

    fn salesforce(&self, options: &SalesforceOptions) -> Result<SinkSpec, DeliverOptionsError> {
        self.check_url("url", &options.url)?;
        self.path_part("version", &options.version)?;
        self.path_part("object", &options.object)?;
        self.path_part("external_id", &options.external_id)?;
        let base = options.url.trim_end_matches('/');
        let token_url = options.token_url.clone();
        let tokens = TokenOptions {
            token_url: token_url.unwrap_or_else(|| format!("{base}/services/oauth2/token")),
            client_id: options.client_id.clone(),
            client_secret: options.client_secret.clone(),
            scope: None,
            ca: options.ca.clone(),
        };
        tokens
            .check()
            .map_err(|fault| self.fault(&fault.field, fault.problem))?;
        let crm = self.crm(CrmFields {
            key: options.key.clone(),
            task: options.task.clone(),
            entity: options.entity.clone(),
            fields: options.fields.clone(),
            batch: self.most("batch", options.batch, MOST_OF_SALESFORCE)?,
        })?;
        if crm.fields.contains_key(&options.external_id) {
            return Err(self.fault("fields", "writes the external id, which is the key"));
        }
        let (object, external_id) = (&options.object, &options.external_id);
        let protocol = Salesforce {
            url: Salesforce::upserts(base, &options.version, object, external_id),
            object: object.clone(),
            external_id: external_id.clone(),
            crm,
        };
        Ok(SinkSpec {
            name: self.sink(),
            feed: FeedKind::Scores,
            start: options.start,
            records: GATHERED_RECORDS,
            gather: self.gathering("every", options.every_ms)?,
            rate: self.rate(options.rate)?,
            timeout: self.span("timeout", options.timeout_ms)?,
            longest_pause: self.span("longest_pause", options.longest_pause_ms)?,
            ca: options.ca.clone(),
            tokens: Some(tokens),
            protocol: Box::new(protocol),
        })
    }

    fn hubspot(&self, options: &HubspotOptions) -> Result<SinkSpec, DeliverOptionsError> {
        self.check_url("url", &options.url)?;
        self.path_part("object", &options.object)?;
        self.filled(&[("token", options.token.reveal())])?;
        let protocol = Hubspot {
            url: Hubspot::updates(&options.url, &options.object),
            token: options.token.clone(),
            id_property: options.id_property.clone(),
            crm: self.crm(CrmFields {
                key: options.key.clone(),
                task: options.task.clone(),
                entity: options.entity.clone(),
                fields: options.fields.clone(),
                batch: self.most("batch", options.batch, MOST_OF_HUBSPOT)?,
            })?,
        };
        Ok(SinkSpec {
            name: self.sink(),
            feed: FeedKind::Scores,
            start: options.start,
            records: GATHERED_RECORDS,
            gather: self.gathering("every", options.every_ms)?,
            rate: self.rate(options.rate)?,
            timeout: self.span("timeout", options.timeout_ms)?,
            longest_pause: self.span("longest_pause", options.longest_pause_ms)?,
            ca: options.ca.clone(),
            tokens: None,
            protocol: Box::new(protocol),
        })
    }
}

/// Checks the sinks of one kind.
fn specs<O>(
    kind: &'static str,
    sinks: &BTreeMap<String, O>,
    check: fn(&Section<'_>, &O) -> Result<SinkSpec, DeliverOptionsError>,
    found: &mut Vec<SinkSpec>,
) -> Result<(), DeliverOptionsError> {
    for (name, options) in sinks {
        let section = Section { kind, name };
        section.check_name()?;
        found.push(check(&section, options)?);
    }
    Ok(())
}

impl DeliverOptions {
    /// The sinks of the configuration, in order of kinds and names.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn checked(&self) -> Result<Vec<SinkSpec>, DeliverOptionsError> {
        let mut found = Vec::new();
        specs(
            "webhook",
            &self.webhook,
            |section, options| section.webhook(options),
            &mut found,
        )?;
        specs(
            "slack",
            &self.slack,
            |section, options| section.slack(options),
            &mut found,
        )?;
        specs(
            "salesforce",
            &self.salesforce,
            |section, options| section.salesforce(options),
            &mut found,
        )?;
        specs(
            "hubspot",
            &self.hubspot,
            |section, options| section.hubspot(options),
            &mut found,
        )?;
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
