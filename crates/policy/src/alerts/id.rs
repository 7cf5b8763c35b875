//! Names of alerts, equal wherever they are computed.

use sha2::{Digest, Sha256};

use super::AlertType;

/// The name of an alert: a UUID of version 8 (RFC 9562, custom: SHA-256) that depends on nothing
/// but the arguments, so that a replay, another process or a later year names the same alert alike
/// and a consumer can ignore it the second time.
///
/// The digest is taken over `leadpulse.alert.v2`, the task, the entity's table, its key and the
/// alert type, each preceded by its length in bytes (u64, big-endian), and then the tick of the
/// crossing in milliseconds (i64, big-endian). Its first 16 bytes, with version and variant set, are the UUID.
pub fn alert_id(
    task: &str,
    entity_type: &str,
    entity_key: &str,
    alert_type: AlertType,
    crossed_at_ms: i64,
) -> String {
    let parts = [
        "leadpulse.alert.v2",
        task,
        entity_type,
        entity_key,
        alert_type.name(),
    ];
    uuid(&parts, crossed_at_ms)
}

/// The name of the digest of a person's day: a UUID like that of an alert, over
/// `leadpulse.digest.v1`, the person's key (empty for alerts of nobody) and the end of the day in
/// milliseconds.
pub fn digest_id(owner: &str, ends_at_ms: i64) -> String {
    uuid(&["leadpulse.digest.v1", owner], ends_at_ms)
}

/// A UUID of version 8 over texts, each preceded by its length, and a number.
fn uuid(parts: &[&str], number: i64) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.update(number.to_be_bytes());
    let digest = hasher.finalize();

    let mut id = String::with_capacity(36);
    for (index, byte) in digest.iter().take(16).enumerate() {
        // Version 8 and the variant of RFC 9562, sections 4.1, 4.2 and 5.8.
        let byte = match index {
            6 => byte & 0x0f | 0x80,
            8 => byte & 0x3f | 0x80,
            _ => *byte,
        };
        if matches!(index, 4 | 6 | 8 | 10) {
            id.push('-');
        }
        for nibble in [byte >> 4, byte & 0x0f] {
            id.push(
                char::from_digit(u32::from(nibble), 16).expect("a nibble is a hexadecimal digit"),
            );
        }
    }
    id
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn an_alert_id_never_changes() {
        // Computed independently: consumers keep these ids, so a change of the recipe must be seen.
        assert_eq!(
            alert_id(
                "buys_90d",
                "accounts",
                "A001",
                AlertType::ThresholdUp,
                1_780_000_000_000
            ),
            "9bb3a3fd-38a4-88a8-b573-28c7794f4311"
        );
    }

    #[test]
    fn an_alert_id_is_a_version_8_uuid() {
        let id = alert_id("t", "leads", "L-1", AlertType::ThresholdDown, 7);
        let groups: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12]);
        assert_eq!(&id[14..15], "8");
        assert!(matches!(&id[19..20], "8" | "9" | "a" | "b"));
    }

    #[test]
    fn alert_ids_differ_where_any_part_differs() {
        let mut seen = HashSet::new();
        for task in ["a", "ab"] {
            for entity_type in ["bc", "c", "leads"] {
                for key in ["", "1", "11"] {
                    for alert_type in [AlertType::ThresholdUp, AlertType::ThresholdDown] {
                        for tick_ms in [-10_000, 0, 10_000] {
                            assert!(seen.insert(alert_id(
                                task,
                                entity_type,
                                key,
                                alert_type,
                                tick_ms
                            )));
                        }
                    }
                }
            }
        }
    }
}
