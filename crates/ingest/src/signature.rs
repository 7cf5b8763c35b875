//! Signatures and tokens of calls.
//!
//! Segment signs the body with HMAC-SHA1
//! ([docs](https://segment.com/docs/connections/destinations/catalog/webhooks/)). HubSpot signs
//! method, address, body and time with HMAC-SHA256
//! ([version 3](https://developers.hubspot.com/docs/apps/developer-platform/build-apps/authentication/request-validation)).
//! Marketo has no signatures, so its calls carry a token, as do those of other programs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use subtle::ConstantTimeEq;

use leadpulse_registry::Secret;

use crate::call::IngestCall;

/// Age up to which a call of HubSpot counts: an older one may be somebody's copy.
const FRESH_MS: i64 = 300_000;

/// A call that is not whom it says, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotGenuine(pub(crate) &'static str);

/// Bytes of hexadecimal digits; `None` for other text.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let pairs = (0..text.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

/// Checks `X-Signature` of Segment.
pub(crate) fn check_segment(call: &IngestCall, secret: &Secret) -> Result<(), NotGenuine> {
    let given = call.header("x-signature").and_then(from_hex);
    let given = given.ok_or(NotGenuine("there is no X-Signature in hexadecimal"))?;
    let algorithm = hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY;
    let key = hmac::Key::new(algorithm, secret.reveal().as_bytes());
    hmac::verify(&key, &call.body, &given)
        .map_err(|_| NotGenuine("X-Signature is not that of this body"))
}

/// Checks `X-HubSpot-Signature-v3` and its time.
pub(crate) fn check_hubspot(
    call: &IngestCall,
    secret: &Secret,
    base_url: &str,
    now_ms: i64,
) -> Result<(), NotGenuine> {
    let timestamp = call
        .header("x-hubspot-request-timestamp")
        .unwrap_or_default();
    let at_ms: i64 = timestamp
        .parse()
        .map_err(|_| NotGenuine("there is no X-HubSpot-Request-Timestamp in milliseconds"))?;
    if now_ms.saturating_sub(at_ms).saturating_abs() > FRESH_MS {
        return Err(NotGenuine("the call is not of the last five minutes"));
    }
    let given = call.header("x-hubspot-signature-v3");
    let given = given.and_then(|text| STANDARD.decode(text).ok());
    let given = given.ok_or(NotGenuine("there is no X-HubSpot-Signature-v3 in base64"))?;
    let base = base_url.trim_end_matches('/');
    let mut signed = format!("POST{base}{}", call.path_and_query).into_bytes();
    signed.extend_from_slice(&call.body);
    signed.extend_from_slice(timestamp.as_bytes());
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal().as_bytes());
    hmac::verify(&key, &signed, &given).map_err(|_| {
        NotGenuine("X-HubSpot-Signature-v3 is not that of this call; see ingest.hubspot.url")
    })
}

fn check_token(given: Option<&str>, token: &Secret, why: &'static str) -> Result<(), NotGenuine> {
    let given = given.unwrap_or_default().as_bytes();
    if bool::from(given.ct_eq(token.reveal().as_bytes())) {
        Ok(())
    } else {
        Err(NotGenuine(why))
    }
}

/// Checks `X-Leadpulse-Token`.
pub(crate) fn check_marketo(call: &IngestCall, token: &Secret) -> Result<(), NotGenuine> {
    let given = call.header("x-leadpulse-token");
    check_token(
        given,
        token,
        "X-Leadpulse-Token is not the token of ingest.marketo",
    )
}

/// Checks `Authorization: Bearer`.
pub(crate) fn check_bearer(call: &IngestCall, token: &Secret) -> Result<(), NotGenuine> {
    let given = call.header("authorization");
    let given = given.and_then(|text| text.strip_prefix("Bearer "));
    check_token(
        given,
        token,
        "Authorization is not Bearer with the token of ingest.json",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::IngestSource;

    const SECRET: &str = "a secret of tests";
    const NOW_MS: i64 = 1_760_486_400_000;

    fn call(headers: &[(&str, &str)], body: &str) -> IngestCall {
        IngestCall {
            source: IngestSource::Segment,
            path_and_query: "/v1/ingest/hubspot?app=1".into(),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
            body: body.into(),
        }
    }

    #[test]
    fn segment_signs_the_body() {
        let secret = Secret::new(SECRET);
        // printf '{"type":"track"}' | openssl dgst -sha1 -hmac 'a secret of tests'
        let right = "97f6b0adeb737d031e350596485b6c19b872ade2";
        let with = |signature: &str, body: &str| {
            check_segment(&call(&[("x-signature", signature)], body), &secret).is_ok()
        };
        assert!(with(right, "{\"type\":\"track\"}"));
        assert!(with(&right.to_uppercase(), "{\"type\":\"track\"}"));
        assert!(!with(right, "{\"type\":\"page\"}"));
        assert!(!with(&right[2..], "{\"type\":\"track\"}"));
        assert!(!with("no hex", "{\"type\":\"track\"}"));
        assert!(check_segment(&call(&[], "{}"), &secret).is_err());
        let twice = call(
            &[("x-signature", right), ("x-signature", right)],
            "{\"type\":\"track\"}",
        );
        assert!(check_segment(&twice, &secret).is_err());
    }

    #[test]
    fn hubspot_signs_method_address_body_and_time_of_the_last_minutes() {
        let secret = Secret::new(SECRET);
        // printf 'POSThttps://ingest.example/v1/ingest/hubspot?app=1[]1760486400000' |
        //   openssl dgst -sha256 -hmac 'a secret of tests' -binary | base64
        let right = "s5Je7GNPsUIcycZogJDRVwhEZWeyPD1WucNe3uSXAYE=";
        let check = |base: &str, time: &str, body: &str, now_ms: i64| {
            let headers = [
                ("x-hubspot-signature-v3", right),
                ("x-hubspot-request-timestamp", time),
            ];
            check_hubspot(&call(&headers, body), &secret, base, now_ms).is_ok()
        };
        let (base, time) = ("https://ingest.example", "1760486400000");
        assert!(check(base, time, "[]", NOW_MS));
        assert!(check(
            "https://ingest.example/",
            time,
            "[]",
            NOW_MS + 300_000
        ));
        assert!(!check(base, time, "[]", NOW_MS + 300_001), "too old");
        assert!(!check(base, time, "[]", NOW_MS - 300_001), "of the future");
        assert!(!check(base, time, "[1]", NOW_MS));
        assert!(!check("https://other.example", time, "[]", NOW_MS));
        assert!(!check(base, "1760486400001", "[]", NOW_MS));
        assert!(!check(base, "now", "[]", NOW_MS));
    }

    #[test]
    fn tokens_are_whole() {
        let token = Secret::new("0123456789abcdef");
        let bearer =
            |value: &str| check_bearer(&call(&[("authorization", value)], ""), &token).is_ok();
        assert!(bearer("Bearer 0123456789abcdef"));
        assert!(
            !bearer("Bearer 0123456789abcde") && !bearer("0123456789abcdef") && !bearer("Bearer ")
        );
        let marketo =
            |value: &str| check_marketo(&call(&[("x-leadpulse-token", value)], ""), &token).is_ok();
        assert!(marketo("0123456789abcdef") && !marketo("0123456789abcdeF"));
        assert!(check_marketo(&call(&[], ""), &token).is_err());
    }
}
