//! A signed webhook: one alert a request, as JSON.
//!
//! The signature is HMAC-SHA256 ([RFC 2104](https://www.rfc-editor.org/rfc/rfc2104)) over
//! `TIMESTAMP.BODY`, in hexadecimal. The timestamp lets a receiver refuse old requests that
//! somebody sends again.

use ring::hmac;

use crate::fate::{Judgement, by_status};
use crate::options::Interest;
use crate::protocols::{Fields, Protocol, text};
use crate::request::{HttpAnswer, HttpRequest, Method};

/// Alerts for one address, signed with one secret.
pub(crate) struct Webhook {
    url: String,
    key: hmac::Key,
    only: Interest,
}

impl Webhook {
    pub(crate) fn new(url: &str, secret: &str, only: Interest) -> Self {
        Self {
            url: url.to_owned(),
            key: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()),
            only,
        }
    }

    fn signature(&self, timestamp: &str, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(timestamp.as_bytes());
        context.update(b".");
        context.update(body);
        let tag = context.sign();
        let digits = tag.as_ref().iter().map(|byte| format!("{byte:02x}"));
        digits.collect()
    }
}

impl Protocol for Webhook {
    fn wants(&self, record: &Fields) -> bool {
        self.only.wants(record)
    }

    fn plan(&self, records: &[&Fields]) -> Vec<Vec<usize>> {
        (0..records.len()).map(|index| vec![index]).collect()
    }

    fn request(&self, records: &[&Fields], now_ms: i64) -> HttpRequest {
        let alert = records[0];
        let body = serde_json::to_vec(alert).expect("a map of JSON can be written");
        let timestamp = now_ms.div_euclid(1000).to_string();
        let signature = format!("v1={}", self.signature(&timestamp, &body));
        let key = text(alert, "alert_id").unwrap_or_default();
        HttpRequest::json(Method::Post, &self.url, body)
            .with("idempotency-key", key)
            .with("x-leadpulse-timestamp", timestamp)
            .with("x-leadpulse-signature", signature)
    }

    fn judge(&self, _: &[&Fields], answer: &HttpAnswer) -> Judgement {
        Judgement::Together(by_status(answer))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_has_the_key_of_its_alert_and_a_signature_over_time_and_body() {
        let webhook = Webhook::new("http://receiver/", "a secret of tests", Interest::default());
        let alert = json!({"alert_id": "6f1c0a4be2d94a53", "severity": "P1"});
        let fields = alert.as_object().unwrap();
        let request = webhook.request(&[fields], 1_760_486_400_999);
        assert_eq!(request.body, alert.to_string().as_bytes());
        assert_eq!(request.header("idempotency-key"), Some("6f1c0a4be2d94a53"));
        assert_eq!(request.header("x-leadpulse-timestamp"), Some("1760486400"));
        // printf '1760486400.%s' '{"alert_id":"6f1c0a4be2d94a53","severity":"P1"}' |
        //   openssl dgst -sha256 -hmac 'a secret of tests'
        let expected = "665de1bd1ecdb8b21f4620e39832eb314a5b4a2a9f44a1c2ac6d90d41bf44827";
        let signature = request.header("x-leadpulse-signature").unwrap();
        assert_eq!(signature, format!("v1={expected}"));
        let later = webhook.request(&[fields], 1_760_486_401_000);
        assert_ne!(later.header("x-leadpulse-signature"), Some(signature));
        assert_eq!(
            later.header("idempotency-key"),
            request.header("idempotency-key")
        );
    }
}
