//! E-mail addresses and web addresses become registrable domains, by which members find their
//! root.
//!
//! `Jo <jo@Mail.Acme.co.uk>` and `https://www.acme.co.uk/about` are both `acme.co.uk`. Domains of
//! free e-mail providers name no company and never match. The registrable part of a host is
//! decided by the [public suffix list](https://publicsuffix.org) (crate `psl`). Below the domain of
//! a platform (`acme.onmicrosoft.com`) the whole host names the company
//! ([0033](../../../../docs/decisions/0033-who-is-who-on-a-real-crm.md)).

use std::net::IpAddr;
use std::sync::LazyLock;

use rustc_hash::FxHashSet;

/// One domain a line, sorted; lines that start with `#` name the source.
const FREE_MAIL: &str = include_str!("../../data/free_mail_domains.txt");

/// Internet providers with mailboxes, in the same form.
const PROVIDERS: &str = include_str!("../../data/provider_domains.txt");

/// Platforms whose customers have a host each, in the same form.
const PLATFORMS: &str = include_str!("../../data/platform_domains.txt");

static FREE_MAIL_SET: LazyLock<FxHashSet<&'static str>> =
    LazyLock::new(|| listed(FREE_MAIL).chain(listed(PROVIDERS)).collect());

static PLATFORM_SET: LazyLock<FxHashSet<&'static str>> =
    LazyLock::new(|| listed(PLATFORMS).collect());

/// The domains of a list, without the lines that name the source.
pub(crate) fn listed(list: &'static str) -> impl Iterator<Item = &'static str> {
    list.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Finds the domain of a company in addresses.
#[derive(Clone, Debug, Default)]
pub struct Domains {
    /// Free e-mail providers besides those of the list.
    more_free_mail: FxHashSet<String>,
}

/// The host that an address names, in lower case and ASCII (punycode): the part after `@`, else
/// after the scheme, without port and path.
pub(crate) fn host(address: &str) -> Option<String> {
    let address = address.trim();
    let address = address.split_once("://").map_or(address, |(_, rest)| rest);
    let authority = address
        .split(['/', '?', '#', '\\'])
        .next()
        .unwrap_or_default();
    let host = authority
        .rsplit('@')
        .next()
        .unwrap_or_default()
        .trim()
        .trim_end_matches(['>', ')', ',', ';', '"', '\'']);
    let host = match host.rsplit_once(':') {
        Some((before, port)) if port.bytes().all(|b| b.is_ascii_digit()) => before,
        _ => host,
    };
    let host = host.trim_matches('.');
    let ascii = idna::domain_to_ascii(host).ok()?;
    let is_label = |label: &str| {
        !label.is_empty()
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    (ascii.contains('.') && ascii.split('.').all(is_label) && ascii.parse::<IpAddr>().is_err())
        .then_some(ascii)
}

/// The registrable domain of an address; `None` where it names no host below a public suffix.
pub fn registrable_domain(address: &str) -> Option<String> {
    psl::domain_str(&host(address)?).map(str::to_owned)
}

/// The host of a platform's customer, without `www.`; `None` for other hosts, and for the
/// platform itself.
fn customer_of_platform(host: &str) -> Option<&str> {
    let host = host.strip_prefix("www.").unwrap_or(host);
    let mut rest = host;
    while let Some((_, parent)) = rest.split_once('.') {
        if PLATFORM_SET.contains(parent) {
            return Some(host);
        }
        rest = parent;
    }
    None
}

impl Domains {
    /// Creates a finder with free e-mail providers besides the known ones.
    pub fn new(more_free_mail: &[String]) -> Self {
        let hosts = more_free_mail.iter().filter_map(|domain| host(domain));
        Self {
            more_free_mail: hosts.collect(),
        }
    }
    /// The domain by which an address finds a root: the registrable one, or the whole host of a
    /// platform's customer. `None` for addresses of free e-mail and internet providers.
    pub fn company(&self, address: &str) -> Option<String> {
        let host = host(address)?;
        let domain = psl::domain_str(&host)?;
        let is_free =
            |name: &str| FREE_MAIL_SET.contains(name) || self.more_free_mail.contains(name);
        if is_free(&host) || is_free(domain) {
            return None;
        }
        Some(customer_of_platform(&host).unwrap_or(domain).to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_company_have_one_domain() {
        let cases = [
            ("jo@acme.com", Some("acme.com")),
            ("Jo.Doe@ACME.com ", Some("acme.com")),
            ("Jo Doe <jo@mail.acme.com>", Some("acme.com")),
            ("\"a@b\"@acme.com", Some("acme.com")),
            ("jo@acme.com.", Some("acme.com")),
            ("acme.com", Some("acme.com")),
            ("www.acme.co.uk", Some("acme.co.uk")),
            ("jo@mail.acme.co.uk", Some("acme.co.uk")),
            ("https://www.acme.co.uk/about?x=1#y", Some("acme.co.uk")),
            ("http://user:secret@shop.acme.com:8080/", Some("acme.com")),
            ("//acme.com/x", None),
            ("jo@münchen.de", Some("xn--mnchen-3ya.de")),
            ("jo@xn--mnchen-3ya.de", Some("xn--mnchen-3ya.de")),
            ("jo@MÜNCHEN.DE", Some("xn--mnchen-3ya.de")),
            ("my_host.acme.com", Some("acme.com")),
            ("a.github.io", Some("a.github.io")),
            ("co.uk", None),
            ("localhost", None),
            ("jo@", None),
            ("", None),
            ("http://127.0.0.1/", None),
            ("not an address", None),
            ("jo@acme..com", None),
            ("n/a", None),
        ];
        for (address, expected) in cases {
            assert_eq!(
                registrable_domain(address).as_deref(),
                expected,
                "{address}"
            );
        }
    }

    #[test]
    fn free_mail_leads_to_no_company() {
        let domains = Domains::new(&["Mail.Example.org".into(), "isp.example".into()]);
        for address in [
            "a@gmail.com",
            "a@GMAIL.com",
            "a@yahoo.co.uk",
            "a@mail.example.org",
            "x@isp.example",
            "x@mail.isp.example",
        ] {
            assert_eq!(domains.company(address), None, "{address}");
        }
        assert_eq!(
            domains.company("a@example.org").as_deref(),
            Some("example.org")
        );
        assert_eq!(domains.company("a@acme.com").as_deref(), Some("acme.com"));
        assert_eq!(
            Domains::default().company("x@isp.example").as_deref(),
            Some("isp.example")
        );
    }

    #[test]
    fn customers_of_a_platform_match_by_their_whole_host() {
        let cases = [
            ("x@alpha.onmicrosoft.com", Some("alpha.onmicrosoft.com")),
            ("x@beta.OnMicrosoft.com.", Some("beta.onmicrosoft.com")),
            ("a.mail.onmicrosoft.com", Some("a.mail.onmicrosoft.com")),
            ("https://a.my.salesforce.com/x", Some("a.my.salesforce.com")),
            ("https://www.a.zendesk.com:443", Some("a.zendesk.com")),
            ("alpha.github.io", Some("alpha.github.io")),
            ("alpha.myshopify.com", Some("alpha.myshopify.com")),
            ("jo@zendesk.com", Some("zendesk.com")),
            ("www.zendesk.com", Some("zendesk.com")),
            ("jo@eu.salesforce.com", Some("salesforce.com")),
            ("jo@notzendesk.com", Some("notzendesk.com")),
            ("jo@privaterelay.appleid.com", None),
            ("jo@pop.telus.net", None),
        ];
        for (address, expected) in cases {
            let found = Domains::default().company(address);
            assert_eq!(found.as_deref(), expected, "{address}");
        }
    }

    #[test]
    fn the_lists_by_hand_are_sorted_and_normalised() {
        for list in [PROVIDERS, PLATFORMS] {
            assert!(list.starts_with("# "));
            let lines: Vec<&str> = listed(list).collect();
            assert!(!lines.is_empty() && lines.is_sorted_by(|a, b| a < b));
            for line in lines {
                assert_eq!(host(line).as_deref(), Some(line));
            }
        }
    }

    #[test]
    fn the_free_mail_list_is_sorted_and_normalised() {
        assert!(FREE_MAIL.starts_with("# "));
        let lines: Vec<&str> = FREE_MAIL
            .lines()
            .filter(|line| !line.starts_with('#'))
            .collect();
        assert!(lines.len() > 5_000 && lines.is_sorted(), "{}", lines.len());
        for line in lines {
            assert_eq!(host(line).as_deref(), Some(line));
        }
    }
}
