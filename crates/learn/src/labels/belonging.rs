//! Who belonged to whom, and who was one with whom, over time.
//!
//! The graph knows homes as they are. Labels ask whose a row was at its time, by what was known at
//! a split, so the changes of a walk are kept here with the times of the rows that made them. A
//! version takes effect at its own time, or, when that did not move since the version before it,
//! when it became known. Memory: 40 bytes for each change of a home.
//!
//! Decision: docs/decisions/0040-whose-a-row-is.md

use std::cmp::Ordering;

use leadpulse_graph::{Change, Directory, EntityId, Graph, RootFoundBy};
use leadpulse_pql::Reach;
use leadpulse_schema::{Catalog, Operation, Role, Row, RowBatch, TableId};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::history::{OwnedAt, Ownership};
use super::versions::takes_effect_ms;

/// A home from a time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Home {
    since_ms: i64,
    known_ms: i64,
    home: Option<EntityId>,
    /// Only events say so, no row of the entity.
    by_events: bool,
    /// The entity is an outsider: what it does counts for nobody.
    is_outside: bool,
}

/// Another entity that is the same from a time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link {
    other: EntityId,
    since_ms: i64,
    known_ms: i64,
}

/// The rows of an entity so far.
#[derive(Clone, Copy, Debug)]
struct Described {
    /// The time at which its first version became known.
    first_known_ms: i64,
    /// The time at which its newest version took effect.
    effective_ms: i64,
}

/// Homes and links of all entities, in the order in which they became known.
#[derive(Debug, Default)]
pub(crate) struct Belonging {
    described: FxHashMap<EntityId, Described>,
    homes: FxHashMap<EntityId, SmallVec<[Home; 1]>>,
    links: FxHashMap<EntityId, SmallVec<[Link; 1]>>,
}

impl Belonging {
    /// Takes the rows of a batch that the graph applied, and the changes that they made.
    pub(crate) fn observe(
        &mut self,
        graph: &Graph,
        batch: &RowBatch,
        is_accepted: impl Fn(usize) -> bool,
        changes: Vec<(u32, Change)>,
    ) {
        let mut changes = changes.into_iter().peekable();
        for (index, row) in batch.iter().enumerate() {
            let is_event = graph.catalog().table_at(row.table()).role == Role::Event;
            let since_ms = match is_event {
                true => row.event_ms(),
                false if is_accepted(index) => self.take_effect(graph.directory(), row),
                false => row.known_ms(),
            };
            // A row may move an entity more than once, e.g. to its account and on to whom it became:
            // only the last counts.
            let mut homes: SmallVec<[(EntityId, Home); 2]> = SmallVec::new();
            while let Some((_, change)) = changes.next_if(|(of, _)| *of as usize == index) {
                match change {
                    Change::Home {
                        entity,
                        home,
                        found_by,
                    } => {
                        let home = Home {
                            since_ms,
                            known_ms: row.known_ms(),
                            home,
                            by_events: found_by == RootFoundBy::Events,
                            is_outside: found_by == RootFoundBy::Outside,
                        };
                        homes.retain(|(moved, _)| *moved != entity);
                        homes.push((entity, home));
                    }
                    Change::Link(from, to) => self.link(from, to, since_ms, row.known_ms()),
                }
            }
            for (entity, home) in homes {
                self.move_home(entity, home, is_event);
            }
        }
    }

    /// The time at which a row of an entity takes effect.
    fn take_effect(&mut self, directory: &Directory, row: Row<'_>) -> i64 {
        let Some(entity) = directory.find(directory.of_table(row.table()), row.key()) else {
            return row.event_ms();
        };
        let described = self.described.get_mut(&entity);
        let before_ms = described.as_ref().map(|before| before.effective_ms);
        let effective_ms = takes_effect_ms(row, before_ms);
        match described {
            Some(described) => described.effective_ms = effective_ms,
            None if row.operation() == Operation::Upsert => {
                let described = Described {
                    first_known_ms: row.known_ms(),
                    effective_ms,
                };
                self.described.insert(entity, described);
            }
            None => {}
        }
        effective_ms
    }

    fn move_home(&mut self, entity: EntityId, mut new: Home, is_event: bool) {
        let homes = self.homes.entry(entity).or_default();
        let Some(last) = homes.last().copied() else {
            if new.home.is_some() || new.is_outside {
                if is_event {
                    new.since_ms = i64::MIN;
                }
                homes.push(new);
            }
            return;
        };
        let kind = |home: &Home| (home.home, home.by_events, home.is_outside);
        if kind(&last) == kind(&new) {
            return;
        }
        // An event tells where an entity without a home belonged all along; it moves nobody.
        new.since_ms = match is_event {
            true => last.since_ms,
            false => new.since_ms.max(last.since_ms),
        };
        homes.push(new);
    }

    fn link(&mut self, from: EntityId, to: EntityId, since_ms: i64, known_ms: i64) {
        for (one, other) in [(from, to), (to, from)] {
            self.links.entry(one).or_default().push(Link {
                other,
                since_ms,
                known_ms,
            });
        }
    }

    /// Whether a row described the entity by a moment, milliseconds.
    fn is_known(&self, entity: EntityId, known_until_ms: i64) -> bool {
        let described = self.described.get(&entity);
        described.is_some_and(|described| described.first_known_ms <= known_until_ms)
    }

    /// Whether an entity is an outsider by what is known at a moment, milliseconds: then nothing that
    /// it ever did counts, also not before its address was known.
    fn is_outside(&self, entity: EntityId, known_until_ms: i64) -> bool {
        let homes = self.homes.get(&entity).into_iter().flatten();
        let mut known = homes
            .rev()
            .skip_while(|home| home.known_ms > known_until_ms);
        known.next().is_some_and(|home| home.is_outside)
    }

    /// Whether a row described the entity or one that it is joined with by a moment, milliseconds.
    fn is_described(&self, entity: EntityId, known_until_ms: i64) -> bool {
        if self.is_known(entity, known_until_ms) {
            return true;
        }
        let mut joined = vec![entity.0];
        let at = OwnedAt {
            time_ms: i64::MAX,
            known_until_ms,
        };
        self.add_joined(&mut joined, at);
        let mut joined = joined.into_iter().map(EntityId);
        joined.any(|other| self.is_known(other, known_until_ms))
    }

    /// The home at a time. Before the first one that is known it counts all the same: an export
    /// with one current row for each key knows no earlier ones.
    fn home(&self, entity: EntityId, at: OwnedAt, is_root: bool) -> Option<Home> {
        let known = self.homes.get(&entity)?.iter();
        let mut known = known.filter(|home| home.known_ms <= at.known_until_ms);
        let in_effect = known.clone().rfind(|home| home.since_ms <= at.time_ms);
        match in_effect {
            Some(home) => Some(*home),
            // A root is its own before it became another.
            None if is_root => None,
            None => known.next().copied(),
        }
    }

    /// The root that an entity belonged to at a time; `None` where its homes lead to none.
    fn root(
        &self,
        directory: &Directory,
        root_table: TableId,
        entity: EntityId,
        at: OwnedAt,
        may_follow_events: bool,
    ) -> Option<EntityId> {
        let mut path: SmallVec<[EntityId; 8]> = smallvec::smallvec![entity];
        loop {
            let last = path[path.len() - 1];
            let is_root = directory.table(last) == Some(root_table);
            let home = self.home(last, at, is_root);
            let home = home.filter(|home| may_follow_events || !home.by_events);
            let Some(next) = home.and_then(|home| home.home) else {
                return is_root.then_some(last);
            };
            if let Some(start) = path.iter().position(|e| *e == next) {
                let ring = path[start..].iter().copied();
                let roots = ring.filter(|e| directory.table(*e) == Some(root_table));
                return roots.min_by(|a, b| by_key(directory, *a, *b));
            }
            path.push(next);
        }
    }

    /// Adds the entities that are one with those found.
    fn add_joined(&self, found: &mut Vec<u32>, at: OwnedAt) {
        let mut next = 0;
        while next < found.len() {
            let links = self.links.get(&EntityId(found[next]));
            for link in links.into_iter().flatten() {
                let is_known = link.known_ms <= at.known_until_ms && link.since_ms <= at.time_ms;
                if is_known && !found.contains(&link.other.0) {
                    found.push(link.other.0);
                }
            }
            next += 1;
        }
    }
}

fn by_key(directory: &Directory, a: EntityId, b: EntityId) -> Ordering {
    directory.key(a).cmp(directory.key(b))
}

/// [`Belonging`] as the answer to whose a row is.
#[derive(Debug)]
pub(crate) struct Owners<'a> {
    pub(crate) belonging: &'a Belonging,
    pub(crate) directory: &'a Directory,
    pub(crate) catalog: &'a Catalog,
}

impl Owners<'_> {
    fn find(&self, named: &(TableId, &str)) -> Option<EntityId> {
        let (table, key) = *named;
        self.directory.find(self.directory.of_table(table), key)
    }

    /// The entities named that a row describes, its own or that of one it is joined with.
    fn described(&self, named: &[(TableId, &str)], at: OwnedAt) -> SmallVec<[EntityId; 3]> {
        let entities = named.iter().filter_map(|named| self.find(named));
        entities
            .filter(|entity| self.belonging.is_described(*entity, at.known_until_ms))
            .collect()
    }

    /// The time at which rows, not events alone, first made a member a root's, milliseconds.
    pub(crate) fn tied_since(&self, member: EntityId, root: EntityId) -> Option<i64> {
        let mut path: SmallVec<[EntityId; 4]> = smallvec::smallvec![member];
        let mut times: Vec<i64> = Vec::new();
        // The tie may come with a home of the member's home, e.g. of the contact it became.
        while let Some(entity) = path.pop() {
            let homes = self.belonging.homes.get(&entity).into_iter().flatten();
            for home in homes.filter(|home| !home.by_events) {
                times.push(home.known_ms);
                path.extend(home.home.filter(|next| *next != member && times.len() < 64));
            }
        }
        times.sort_unstable();
        let root_table = self.catalog.root().id;
        times.into_iter().find(|known_ms| {
            let at = OwnedAt {
                time_ms: i64::MAX,
                known_until_ms: *known_ms,
            };
            let belonging = self.belonging;
            belonging.root(self.directory, root_table, member, at, false) == Some(root)
        })
    }

    /// Whether rows describe a member, and lead it to no root, by what was known at a moment,
    /// milliseconds.
    pub(crate) fn is_homeless(&self, member: EntityId, known_until_ms: i64) -> bool {
        let at = OwnedAt {
            time_ms: i64::MAX,
            known_until_ms,
        };
        let (belonging, root_table) = (self.belonging, self.catalog.root().id);
        let root = || belonging.root(self.directory, root_table, member, at, false);
        belonging.is_known(member, known_until_ms) && root().is_none()
    }

    fn is_root(&self, entity: EntityId) -> bool {
        self.directory.table(entity) == Some(self.catalog.root().id)
    }

    /// The root that a row belongs to: that of the first known entity which leads to one, then what
    /// only other events say, last the first root that the row names. A root exists from its first
    /// mention, and many exports have no rows of it.
    fn root(&self, named: &[(TableId, &str)], at: OwnedAt) -> Option<EntityId> {
        let root_table = self.catalog.root().id;
        let entities = self.described(named, at);
        let is_outside = |entity: &EntityId| self.belonging.is_outside(*entity, at.known_until_ms);
        if entities.first().is_some_and(is_outside) {
            return None;
        }
        let root = |entity, may_follow_events| {
            let belonging = self.belonging;
            belonging.root(self.directory, root_table, entity, at, may_follow_events)
        };
        let described = [false, true].into_iter().find_map(|may_follow_events| {
            let mut entities = entities.iter().copied();
            entities.find_map(|entity| root(entity, may_follow_events))
        });
        described.or_else(|| {
            let mut named = named.iter().filter_map(|named| self.find(named));
            let named = named.find(|entity| self.is_root(*entity));
            named.and_then(|entity| root(entity, true))
        })
    }
}

impl Ownership for Owners<'_> {
    fn entities(&self, reach: Reach, named: &[(TableId, &str)], at: OwnedAt, found: &mut Vec<u32>) {
        match reach {
            Reach::Itself | Reach::Owner => {
                let described = self.described(named, at).first().copied();
                let first = || named.first().and_then(|named| self.find(named));
                let owner = described.or_else(|| first().filter(|first| self.is_root(*first)));
                found.extend(owner.map(|entity| entity.0));
            }
            Reach::Cell => found.extend(self.root(named, at).map(|root| root.0)),
            Reach::Reference(_) => {
                let entities = named.iter().filter_map(|named| self.find(named));
                found.extend(entities.map(|entity| entity.0));
                found.sort_unstable();
                found.dedup();
            }
        }
        self.belonging.add_joined(found, at);
        found.retain(|entity| {
            let entity = EntityId(*entity);
            self.is_root(entity) || self.belonging.is_known(entity, at.known_until_ms)
        });
    }
}
