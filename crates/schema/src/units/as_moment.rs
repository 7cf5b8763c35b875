//! Serde form of an optional moment that a field keeps as milliseconds: ISO 8601 text is written;
//! text and numbers are read.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Writes a text such as `2026-03-01T00:00:00Z`.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(ms: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    let text = ms.map(|ms| match Timestamp::from_millisecond(ms) {
        Ok(moment) => moment.to_string(),
        Err(_) => ms.to_string(),
    });
    text.serialize(serializer)
}

/// Reads a moment with its zone, a date (midnight UTC), or milliseconds since 1970 UTC.
///
/// # Errors
/// Another text, which is named.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Ms(i64),
        Text(String),
    }
    let form = Option::<Form>::deserialize(deserializer)?;
    form.map(|form| match form {
        Form::Ms(ms) => Ok(ms),
        Form::Text(text) => moment_ms(&text).ok_or_else(|| {
            de::Error::custom(format!(
                "\"{text}\" is no moment; write 2026-03-01T00:00:00Z, or 2026-03-01 for its midnight UTC"
            ))
        }),
    })
    .transpose()
}

fn moment_ms(text: &str) -> Option<i64> {
    let moment = text.parse::<Timestamp>().ok().or_else(|| {
        let date: Date = text.parse().ok()?;
        Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp())
    })?;
    Some(moment.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Holder {
        #[serde(default, with = "super")]
        at: Option<i64>,
    }

    #[test]
    fn moments_are_read_in_each_form_and_come_back() {
        let read = |json: &str| serde_json::from_str::<Holder>(json).map(|holder| holder.at);
        let march_ms = 1_772_323_200_000;
        for json in [
            r#"{"at":"2026-03-01"}"#,
            r#"{"at":"2026-03-01T00:00:00Z"}"#,
            r#"{"at":"2026-03-01T01:00:00+01:00"}"#,
            r#"{"at":1772323200000}"#,
        ] {
            assert_eq!(read(json).unwrap(), Some(march_ms), "{json}");
        }
        assert_eq!(read("{}").unwrap(), None);
        let text = serde_json::to_string(&Holder { at: Some(march_ms) }).unwrap();
        assert_eq!(text, r#"{"at":"2026-03-01T00:00:00Z"}"#);
        let fault = read(r#"{"at":"yesterday"}"#).unwrap_err().to_string();
        assert!(fault.contains("\"yesterday\" is no moment"), "{fault}");
    }
}
