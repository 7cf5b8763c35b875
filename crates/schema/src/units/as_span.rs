//! Serde forms of durations that a field keeps as a number: text with a unit is written; text and
//! numbers are read.
//!
//! Use with `#[serde(with = "…")]`, and an alias for the key that named the unit before. A number is
//! in the unit of that older key, so a bundle of any age keeps its meaning.

/// A duration in milliseconds.
pub mod ms {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

    use super::super::Span;

    /// Writes a text with a unit, such as `20s`.
    ///
    /// # Errors
    /// More than 292 million years.
    pub fn serialize<T, S>(ms: &T, serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Copy + TryInto<i64>,
        S: Serializer,
    {
        let ms = (*ms).try_into();
        let ms = ms.map_err(|_| ser::Error::custom("a duration of more than i64::MAX ms"))?;
        Span::from_ms(ms).serialize(serializer)
    }

    /// Reads a text with a unit, or milliseconds.
    ///
    /// # Errors
    /// Another text; a number outside the field's range.
    pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
    where
        T: TryFrom<i64>,
        D: Deserializer<'de>,
    {
        let span = Span::deserialize(deserializer)?;
        T::try_from(span.ms()).map_err(|_| de::Error::custom(format!("{span} is out of range")))
    }
}

/// A duration in days, with a fraction.
pub mod days {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::SpanOrDays;

    /// Writes a text with a unit, such as `14d`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(days: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        SpanOrDays(*days).serialize(serializer)
    }

    /// Reads a text with a unit, or days.
    ///
    /// # Errors
    /// Another text.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        Ok(SpanOrDays::deserialize(deserializer)?.0)
    }
}

/// A list of durations in days, with fractions.
pub mod list_of_days {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::SpanOrDays;

    /// Writes texts with a unit, such as `14d`.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(days: &[f64], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(days.iter().copied().map(SpanOrDays))
    }

    /// Reads texts with a unit, or days.
    ///
    /// # Errors
    /// Another text.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
        let days = Vec::<SpanOrDays>::deserialize(deserializer)?;
        Ok(days.into_iter().map(|SpanOrDays(days)| days).collect())
    }
}

macro_rules! whole_units {
    ($(#[$doc:meta])* $name:ident, $unit_ms:expr, $unit:literal) => {
        $(#[$doc])*
        pub mod $name {
            use serde::{Deserializer, Serializer};

            /// Writes a text with a unit; nothing for `None`.
            ///
            /// # Errors
            /// Those of the serializer.
            pub fn serialize<S: Serializer>(
                count: &Option<u32>,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                super::serialize_count(*count, $unit_ms, serializer)
            }

            #[doc = concat!("Reads a text with a unit that makes whole ", $unit, ", or their number.")]
            ///
            /// # Errors
            /// Another text, a fraction, or more than `u32::MAX`.
            pub fn deserialize<'de, D: Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Option<u32>, D::Error> {
                super::deserialize_count(deserializer, $unit_ms, $unit)
            }
        }
    };
}

whole_units! {
    /// An optional number of whole minutes. The field needs `#[serde(default)]`.
    whole_minutes, 60_000, "minutes"
}
whole_units! {
    /// An optional number of whole days. The field needs `#[serde(default)]`.
    whole_days, super::super::DAY_MS, "days"
}

fn serialize_count<S: serde::Serializer>(
    count: Option<u32>,
    unit_ms: i64,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match count {
        Some(count) => serializer.collect_str(&super::Span::from_ms(i64::from(count) * unit_ms)),
        None => serializer.serialize_none(),
    }
}

fn deserialize_count<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
    unit_ms: i64,
    unit: &str,
) -> Result<Option<u32>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged, expecting = "a duration such as \"8h\" or \"3d\"")]
    enum CountOrSpan {
        Count(u32),
        Text(String),
    }
    use serde::de::Error;
    let span: super::Span = match serde::Deserialize::deserialize(deserializer)? {
        None => return Ok(None),
        Some(CountOrSpan::Count(count)) => return Ok(Some(count)),
        Some(CountOrSpan::Text(text)) => text.parse().map_err(D::Error::custom)?,
    };
    let count = u32::try_from(span.ms() / unit_ms).ok();
    let count = count.filter(|_| span.ms() % unit_ms == 0);
    let fault = || D::Error::custom(format!("{span} is not a number of whole {unit}"));
    count.map(Some).ok_or_else(fault)
}

/// A number of days that is written as a [`Span`](super::Span) where that loses nothing.
struct SpanOrDays(f64);

impl serde::Serialize for SpanOrDays {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let ms = self.0 * super::DAY_MS_F64;
        let span = super::Span::from_ms(ms.round() as i64);
        // A third of a day is no whole number of milliseconds, and features depend on each bit.
        if span.days() == self.0 {
            span.serialize(serializer)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

impl<'de> serde::Deserialize<'de> for SpanOrDays {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DaysVisitor;
        impl serde::de::Visitor<'_> for DaysVisitor {
            type Value = SpanOrDays;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a duration such as \"12h\" or \"14d\"")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<SpanOrDays, E> {
                let span: super::Span = text.parse().map_err(E::custom)?;
                Ok(SpanOrDays(span.days()))
            }
            fn visit_f64<E: serde::de::Error>(self, days: f64) -> Result<SpanOrDays, E> {
                Ok(SpanOrDays(days))
            }
            fn visit_i64<E: serde::de::Error>(self, days: i64) -> Result<SpanOrDays, E> {
                Ok(SpanOrDays(days as f64))
            }
            fn visit_u64<E: serde::de::Error>(self, days: u64) -> Result<SpanOrDays, E> {
                Ok(SpanOrDays(days as f64))
            }
        }
        deserializer.deserialize_any(DaysVisitor)
    }
}

#[cfg(test)]
mod tests {
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Durations {
        #[serde(with = "super::ms", rename = "pause", alias = "pause_ms")]
        pause_ms: u64,
        #[serde(with = "super::days", rename = "window", alias = "window_days")]
        window_days: f64,
        #[serde(with = "super::list_of_days", rename = "halves", alias = "halves_days")]
        halves_days: Vec<f64>,
    }

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Deadlines {
        #[serde(with = "super::whole_minutes", default, alias = "sla_minutes")]
        sla: Option<u32>,
        #[serde(with = "super::whole_days", default, alias = "expires_days")]
        expires: Option<u32>,
    }

    #[test]
    fn whole_minutes_and_days_are_read_in_both_forms() {
        let old = r#"{"sla_minutes":480,"expires_days":3}"#;
        let new = r#"{"sla":"8h","expires":"3d"}"#;
        let read: Deadlines = serde_json::from_str(old).unwrap();
        assert_eq!((read.sla, read.expires), (Some(480), Some(3)));
        assert_eq!(serde_json::from_str::<Deadlines>(new).unwrap(), read);
        assert_eq!(serde_json::to_string(&read).unwrap(), new);
        let none: Deadlines = serde_json::from_str("{}").unwrap();
        assert_eq!((none.sla, none.expires), (None, None));
        for fault in [
            r#"{"expires":"36h"}"#,
            r#"{"sla":"1s"}"#,
            r#"{"sla":"soon"}"#,
        ] {
            assert!(serde_json::from_str::<Deadlines>(fault).is_err(), "{fault}");
        }
    }

    #[test]
    fn both_forms_of_a_duration_are_read_and_text_is_written() {
        let old = r#"{"pause_ms":1500,"window_days":90,"halves_days":[0.5,2.0]}"#;
        let new = r#"{"pause":"1500ms","window":"90d","halves":["12h","2d"]}"#;
        let read: Durations = serde_json::from_str(old).unwrap();
        assert_eq!((read.pause_ms, read.window_days), (1_500, 90.0));
        assert_eq!(read.halves_days, [0.5, 2.0]);
        assert_eq!(serde_json::from_str::<Durations>(new).unwrap(), read);
        assert_eq!(serde_json::to_string(&read).unwrap(), new);
        let odd = Durations {
            window_days: 1.0 / 3.0 + 1e-13,
            ..read
        };
        let written = serde_json::to_string(&odd).unwrap();
        assert_eq!(serde_json::from_str::<Durations>(&written).unwrap(), odd);
    }

    #[test]
    fn a_negative_duration_does_not_fit_an_unsigned_field() {
        let text = r#"{"pause":-5,"window":"1d","halves":[]}"#;
        let error = serde_json::from_str::<Durations>(text).unwrap_err();
        assert!(error.to_string().contains("out of range"), "{error}");
    }
}
