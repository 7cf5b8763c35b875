//! Requests and answers of HTTP as data, so that rules need no network.

use std::time::Duration;

/// The method of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Creates or calls.
    Post,
    /// Changes parts.
    Patch,
}

/// A request, ready to be sent. The bearer token is added when it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// Method.
    pub method: Method,
    /// Absolute URL. It may hold a secret (Slack), so it is never logged.
    pub url: String,
    /// Headers in order; names in lower case.
    pub headers: Vec<(&'static str, String)>,
    /// JSON.
    pub body: Vec<u8>,
}

impl HttpRequest {
    /// A request with a JSON body.
    pub(crate) fn json(method: Method, url: &str, body: Vec<u8>) -> Self {
        Self {
            method,
            url: url.to_owned(),
            headers: vec![("content-type", "application/json".to_owned())],
            body,
        }
    }

    /// Adds a header.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The value of a header; `None` if there is no such header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(header, _)| *header == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// An answer whose head and body came whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpAnswer {
    /// Status code.
    pub status: u16,
    /// Time that the other side asks to wait; `None` if it names none.
    pub retry_after: Option<Duration>,
    /// Body, at most 1 MiB; the rest is cut off.
    pub body: Vec<u8>,
}

/// Most characters of a body that stand in a reason.
const SHOWN_CHARS: usize = 300;

impl HttpAnswer {
    /// Status and beginning of the body, for reasons.
    pub(crate) fn shown(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let text: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(SHOWN_CHARS)
            .collect();
        if text.trim().is_empty() {
            format!("HTTP {}", self.status)
        } else {
            format!("HTTP {}: {}", self.status, text.trim())
        }
    }
}

/// The time that a `Retry-After` names: seconds, or a date of HTTP. `None` for other text.
pub(crate) fn retry_after(text: &str, now_ms: i64) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let moment = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text);
    let ahead_ms = moment.ok()?.as_millisecond().saturating_sub(now_ms);
    Some(Duration::from_millis(u64::try_from(ahead_ms).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now_ms = 784_111_770_000; // 1994-11-06T08:49:30Z
        let seconds = |text| retry_after(text, now_ms).map(|wait| wait.as_secs());
        assert_eq!(seconds(" 120 "), Some(120));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(7));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(seconds("soon"), None);
    }
}
