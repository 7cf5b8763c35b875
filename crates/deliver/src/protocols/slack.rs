//! Incoming webhooks of Slack: several alerts a message.
//!
//! Slack knows no idempotency key. Each alert is a block with its `alert_id` as `block_id`, so a
//! message that was sent twice can be told from two alerts. Limits are those of
//! [Block Kit](https://api.slack.com/reference/block-kit/blocks): 50 blocks, 3,000 characters each.

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};

use crate::fate::{Judgement, by_status};
use crate::options::{DigestBy, Interest};
use crate::protocols::{Fields, Protocol, Template, text};
use crate::request::{HttpAnswer, HttpRequest, Method};

/// Most characters of a block, below Slack's 3,000: an ellipsis comes on top.
const BLOCK_CHARS: usize = 2_900;

/// Alerts for one channel.
pub(crate) struct Slack {
    pub(crate) url: String,
    pub(crate) template: Template,
    pub(crate) only: Interest,
    pub(crate) by: DigestBy,
    /// Alerts of a message, at least 1.
    pub(crate) most: usize,
}

/// Characters with a meaning in Slack's markup.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn section(id: Option<&str>, text: &str) -> Json {
    let mut shown: String = text.chars().take(BLOCK_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    let mut block = json!({"type": "section", "text": {"type": "mrkdwn", "text": shown}});
    if let Some(id) = id {
        block["block_id"] = id.into();
    }
    block
}

impl Slack {
    /// The person of an alert's message; one for all where messages are for anybody.
    fn addressee<'f>(&self, record: &'f Fields) -> Option<&'f str> {
        match self.by {
            DigestBy::Owner => text(record, "owner_id"),
            DigestBy::All => None,
        }
    }

    fn heading(&self, records: &[&Fields]) -> String {
        let count = records.len();
        let alerts = if count == 1 { "alert" } else { "alerts" };
        match (self.by, self.addressee(records[0])) {
            (DigestBy::Owner, Some(owner)) => format!("{count} {alerts} for {}", escaped(owner)),
            (DigestBy::Owner, None) => format!("{count} {alerts} for nobody in particular"),
            (DigestBy::All, _) => format!("{count} {alerts}"),
        }
    }
}

impl Protocol for Slack {
    fn wants(&self, record: &Fields) -> bool {
        self.only.wants(record)
    }

    /// Messages by person. An entity whose alerts went to one person begins a new round of messages
    /// when it gets one for another: else the second could overtake the first.
    fn plan(&self, records: &[&Fields]) -> Vec<Vec<usize>> {
        let mut done: Vec<Vec<usize>> = Vec::new();
        let mut round: Vec<(Option<&str>, Vec<usize>)> = Vec::new();
        let mut placed: BTreeMap<Option<&str>, Option<&str>> = BTreeMap::new();
        for (index, record) in records.iter().enumerate() {
            let (entity, person) = (text(record, "entity_id"), self.addressee(record));
            if placed.get(&entity).is_some_and(|before| *before != person) {
                done.extend(round.drain(..).map(|(_, message)| message));
                placed.clear();
            }
            placed.insert(entity, person);
            match round.iter_mut().find(|(of, _)| *of == person) {
                Some((_, message)) => message.push(index),
                None => round.push((person, vec![index])),
            }
        }
        done.extend(round.into_iter().map(|(_, message)| message));
        let messages = done.iter().flat_map(|message| message.chunks(self.most));
        messages.map(<[usize]>::to_vec).collect()
    }

    fn request(&self, records: &[&Fields], _: i64) -> HttpRequest {
        let filled = |record: &&Fields| self.template.fill(record, escaped);
        let mut blocks = Vec::with_capacity(records.len() + 1);
        // Clients show `text` in notifications.
        let summary = if records.len() == 1 {
            filled(&records[0])
        } else {
            let heading = self.heading(records);
            blocks.push(section(None, &format!("*{heading}*")));
            heading
        };
        for record in records {
            blocks.push(section(text(record, "alert_id"), &filled(record)));
        }
        let body = json!({"text": summary, "blocks": blocks});
        HttpRequest::json(Method::Post, &self.url, body.to_string().into_bytes())
    }

    fn judge(&self, _: &[&Fields], answer: &HttpAnswer) -> Judgement {
        Judgement::Together(by_status(answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slack(by: DigestBy, most: usize) -> Slack {
        let known = ["severity", "summary"].map(str::to_owned);
        Slack {
            url: "http://hooks/T/B/x".into(),
            template: Template::parse("*{severity}* {summary}", &known).unwrap(),
            only: Interest::default(),
            by,
            most,
        }
    }

    fn alert(id: &str, entity: &str, owner: Option<&str>) -> Fields {
        let alert = json!({
            "alert_id": id, "entity_id": entity, "owner_id": owner, "severity": "P1",
            "summary": "Acme <new> & warm",
        });
        alert.as_object().unwrap().clone()
    }

    fn plan(slack: &Slack, alerts: &[(&str, Option<&str>)]) -> Vec<Vec<usize>> {
        let alerts: Vec<Fields> = alerts
            .iter()
            .enumerate()
            .map(|(index, (entity, owner))| alert(&index.to_string(), entity, *owner))
            .collect();
        slack.plan(&alerts.iter().collect::<Vec<_>>())
    }

    #[test]
    fn messages_are_by_person_and_an_entity_keeps_its_order() {
        let (ann, bob) = (Some("ann"), Some("bob"));
        let by_owner = slack(DigestBy::Owner, 2);
        let alerts = [("A", ann), ("B", bob), ("C", ann), ("D", ann), ("E", None)];
        assert_eq!(
            plan(&by_owner, &alerts),
            [vec![0, 2], vec![3], vec![1], vec![4]]
        );
        // B is bob's, then ann's: its second alert must not go with ann's first message.
        let alerts = [("A", ann), ("B", bob), ("B", ann), ("A", ann)];
        assert_eq!(plan(&by_owner, &alerts), [vec![0], vec![1], vec![2, 3]]);
        assert_eq!(plan(&slack(DigestBy::All, 45), &alerts), [vec![0, 1, 2, 3]]);
    }

    #[test]
    fn a_message_has_a_block_for_each_alert_with_its_id() {
        let slack = slack(DigestBy::Owner, 20);
        let (one, two) = (alert("a1", "A", Some("ann")), alert("a2", "B", Some("ann")));
        let body = |records: &[&Fields]| -> Json {
            serde_json::from_slice(&slack.request(records, 0).body).unwrap()
        };
        let both = body(&[&one, &two]);
        assert_eq!(both["text"], "2 alerts for ann");
        assert_eq!(both["blocks"].as_array().unwrap().len(), 3);
        assert_eq!(both["blocks"][1]["block_id"], "a1");
        assert_eq!(both["blocks"][2]["block_id"], "a2");
        assert_eq!(
            both["blocks"][1]["text"]["text"],
            "*P1* Acme &lt;new&gt; &amp; warm"
        );
        let single = body(&[&one]);
        assert_eq!(single["text"], "*P1* Acme &lt;new&gt; &amp; warm");
        assert_eq!(single["blocks"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_long_text_fits_into_a_block() {
        let block = section(None, &"ü".repeat(5_000));
        let shown = block["text"]["text"].as_str().unwrap().chars().count();
        assert_eq!(shown, BLOCK_CHARS + 1);
    }
}
