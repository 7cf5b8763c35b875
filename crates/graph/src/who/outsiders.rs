//! Outsiders: members whose address is of the firm's own or of a competitor's domain.
//!
//! An outsider belongs to no root, whatever its version names: it stands alone, with its events
//! and all that it owns. Its cell adds nothing to hubs, its edges and mentions are nobody's, and no
//! task asks about it. The addresses of current versions decide, so an address that arrives after
//! the events, or changes, moves the history exactly.
//!
//! Decision: docs/decisions/0037-who-does-not-count.md

use rustc_hash::FxHashSet;

use crate::ids::EntityId;
use crate::options::GraphOptions;
use crate::who::Entities;
use crate::who::domains::Domains;
use crate::who::matching::plain_domain;

/// The side that an outsider is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outsider {
    /// An address of the firm that runs Leadpulse.
    Own,
    /// An address of a competitor.
    Competitor,
}

/// The domains whose members count nowhere.
#[derive(Clone, Debug, Default)]
pub(crate) struct OutsideDomains {
    own: FxHashSet<String>,
    competitors: FxHashSet<String>,
}

impl OutsideDomains {
    /// The domains of the options, each as addresses are compared by it.
    pub fn new(domains: &Domains, options: &GraphOptions) -> Self {
        let compared = |list: &[String]| list.iter().filter_map(|d| domains.company(d)).collect();
        Self {
            own: compared(&options.own_domains),
            competitors: compared(&options.competitor_domains),
        }
    }

    /// True if no domain is left out.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.competitors.is_empty()
    }

    /// The side of a domain; `None` for one that counts. Own domains come first.
    pub fn side(&self, domain: &str) -> Option<Outsider> {
        if self.own.contains(domain) {
            Some(Outsider::Own)
        } else {
            let is_competitor = self.competitors.contains(domain);
            is_competitor.then_some(Outsider::Competitor)
        }
    }
}

impl Entities {
    /// The side of a member; `None` for one that counts, and for roots. Of joined rows the
    /// survivor's addresses decide, and where it names none, those of the first that does.
    pub fn outsider(&self, entity: EntityId) -> Option<Outsider> {
        if self.outside.is_empty() {
            return None;
        }
        let survivor = self.identity.survivor(entity);
        if self.is_root(survivor) {
            return None;
        }
        let mut rows = self.identity.group(survivor).iter();
        if rows.any(|row| self.is_root(*row)) {
            return None;
        }
        let mut named = self.deciding_domains(survivor).iter();
        named.find_map(|domain| self.outside.side(plain_domain(self.directory.key(*domain))))
    }

    /// The first of the domains that a version names, by which its owner's events are grouped into
    /// bursts; `None` without one.
    pub fn first_domain(&self, named: &[EntityId]) -> Option<EntityId> {
        let is_plain = |domain: &EntityId| {
            let key = self.directory.key(*domain);
            plain_domain(key) == &**key
        };
        named.iter().copied().find(is_plain)
    }

    /// The domains of a survivor, and where it names none, those of the first joined row that does.
    fn deciding_domains(&self, survivor: EntityId) -> &[EntityId] {
        let own = self.matching.named(survivor);
        if !own.is_empty() {
            return own;
        }
        let group = self.identity.group(survivor).iter();
        let mut named = group.map(|row| self.matching.named(*row));
        named.find(|named| !named.is_empty()).unwrap_or(&[])
    }
}
