//! E-mail addresses of people: two rows with one address are one person.
//!
//! Addresses are compared in lower case, without a display name and without the part after a plus.
//! Gmail ignores dots. Addresses that several people share (`info@`, `sales@`) name nobody.
//!
//! Decision: docs/decisions/0039-people-by-address.md

use std::sync::LazyLock;

use rustc_hash::FxHashSet;
use xxhash_rust::xxh3::xxh3_64;

use crate::who::domains::{host, listed};

/// One local part a line, sorted; lines that start with `#` name the source.
const ROLES: &str = include_str!("../../data/role_addresses.txt");

static ROLE_SET: LazyLock<FxHashSet<&'static str>> = LazyLock::new(|| listed(ROLES).collect());

/// The normalised address of a person; `None` for text without a mailbox, and for addresses that
/// several people share.
pub fn person_address(text: &str) -> Option<String> {
    let address = text.rsplit_once('<').map_or(text, |(_, address)| address);
    let (local, _) = address.rsplit_once('@')?;
    let host = host(address)?;
    let local = local.trim().trim_matches('"').to_lowercase();
    let local = local.strip_prefix("mailto:").unwrap_or(&local);
    // Some servers take the plus part for a mailbox of its own; nobody gives two people one name.
    let local = local.split('+').next().unwrap_or_default();
    if local.is_empty() || local.contains(char::is_whitespace) || ROLE_SET.contains(local) {
        return None;
    }
    Some(match host.as_str() {
        "gmail.com" | "googlemail.com" => format!("{}@gmail.com", local.replace('.', "")),
        host => format!("{local}@{host}"),
    })
}

/// The hash of the normalised address of a person: equal for rows of one person.
pub(crate) fn person_hash(text: &str) -> Option<u64> {
    person_address(text).map(|address| xxh3_64(address.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_person_are_one() {
        let cases = [
            ("jo@acme.com", Some("jo@acme.com")),
            (" Jo@ACME.com ", Some("jo@acme.com")),
            ("Jo Doe <JO@acme.com>", Some("jo@acme.com")),
            ("mailto:jo@acme.com", Some("jo@acme.com")),
            ("jo+news@acme.com", Some("jo@acme.com")),
            ("jo.doe@acme.com", Some("jo.doe@acme.com")),
            ("jo@mail.acme.com", Some("jo@mail.acme.com")),
            ("J.o.Doe+x@GoogleMail.com", Some("jodoe@gmail.com")),
            ("jo@b\u{fc}ro.de", Some("jo@xn--bro-hoa.de")),
            ("info@acme.com", None),
            ("Sales+eu@acme.com", None),
            ("acme.com", None),
            ("https://www.acme.com/jo", None),
            ("@acme.com", None),
            ("jo@", None),
            ("jo doe@acme.com", None),
            ("", None),
        ];
        for (address, expected) in cases {
            assert_eq!(person_address(address).as_deref(), expected, "{address}");
        }
    }

    #[test]
    fn the_list_of_roles_is_sorted_and_in_lower_case() {
        let lines: Vec<&str> = listed(ROLES).collect();
        assert!(lines.is_sorted_by(|a, b| a < b));
        assert!(lines.iter().all(|line| *line == line.to_lowercase()));
    }
}
