//! Identity: rows joined by links into one.
//!
//! A link (this row is now that row) is never taken back, so the groups are a function of the set
//! of links, whatever their order. The survivor of a group is the end of its links; of several
//! ends, the smallest (table, key). Where links run in a ring, entities that no link leads to are
//! peeled off one by one, and the survivor is the smallest of those left.

use std::fmt;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::ids::EntityId;
use crate::pieces::{KeptList, KeptMap, Lend};
use crate::who::directory::Directory;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct IdentityGroup {
    survivor: EntityId,
    /// Ascending by (table, key).
    members: Vec<EntityId>,
}

/// All links and the groups that they join.
#[derive(Clone, Default)]
pub struct Identity {
    /// Of a trial that joined nothing yet: all is there.
    beneath: Option<Arc<dyn Lend<Identity>>>,
    pub(crate) links: KeptMap<EntityId, SmallVec<[EntityId; 1]>>,
    /// Index of each linked entity's group. Not stored: groups name their members.
    group_of: FxHashMap<EntityId, usize>,
    pub(crate) groups: KeptList<IdentityGroup>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("groups", &&*self.groups)
            .finish()
    }
}

impl Identity {
    /// The identity of a trial, above this one. The first new link of the trial copies all.
    pub(crate) fn above(beneath: Arc<dyn Lend<Identity>>) -> Self {
        Self {
            beneath: Some(beneath),
            ..Self::default()
        }
    }
    fn here(&self) -> &Self {
        self.beneath.as_ref().map_or(self, |beneath| beneath.lend())
    }
    /// Finds the groups of entities again, after links and groups were read from stored state.
    pub(crate) fn index(&mut self) {
        for (group, of) in self.groups.iter().enumerate() {
            let members = of.members.iter().map(|member| (*member, group));
            self.group_of.extend(members);
        }
    }
    /// The number of linked entities.
    pub fn len(&self) -> usize {
        self.here().group_of.len()
    }
    /// The entity that stands for another: the entity itself unless it was joined to one.
    pub fn survivor(&self, entity: EntityId) -> EntityId {
        let here = self.here();
        let group = here.group_of.get(&entity);
        group.map_or(entity, |group| here.groups[*group].survivor)
    }
    /// All entities joined with one, itself included, ascending by (table, key); empty without
    /// links.
    pub fn group(&self, entity: EntityId) -> &[EntityId] {
        let here = self.here();
        let group = here.group_of.get(&entity);
        group.map_or(&[], |group| &here.groups[*group].members)
    }
    /// Notes that `from` became `to`. Returns whether that was new.
    pub(crate) fn link(&mut self, directory: &Directory, from: EntityId, to: EntityId) -> bool {
        let links = self.here().links.get(&from);
        if from == to || links.is_some_and(|links| links.contains(&to)) {
            return false;
        }
        if let Some(beneath) = self.beneath.take() {
            *self = beneath.lend().clone();
        }
        self.links.entry_or(from, SmallVec::new).push(to);
        let (a, b) = (self.group_index(from), self.group_index(to));
        let mut keeps_its_end = false;
        let group = if a == b {
            a
        } else {
            let (large, small) = if self.groups[a].members.len() > self.groups[b].members.len() {
                (a, b)
            } else {
                (b, a)
            };
            let members = std::mem::take(&mut self.groups.at_mut(small).members);
            // A lone entity that became one of a group with an end leaves that end as it is.
            keeps_its_end =
                small == a && members.len() == 1 && self.is_end(self.groups[large].survivor);
            for member in members {
                self.group_of.insert(member, large);
                let at = self.groups[large]
                    .members
                    .partition_point(|m| directory.order(*m, member).is_lt());
                self.groups.at_mut(large).members.insert(at, member);
            }
            large
        };
        if !keeps_its_end {
            let survivor = self.find_survivor(&self.groups[group].members);
            self.groups.at_mut(group).survivor = survivor;
        }
        true
    }
    /// Forgets an entity that is erased with all that are joined with it.
    pub(crate) fn forget(&mut self, entity: EntityId) {
        self.links.remove(&entity);
        if let Some(group) = self.group_of.remove(&entity) {
            self.groups.at_mut(group).members.clear();
        }
    }
    fn is_end(&self, entity: EntityId) -> bool {
        self.links.get(&entity).is_none_or(|to| to.is_empty())
    }
    fn group_index(&mut self, entity: EntityId) -> usize {
        *self.group_of.entry(entity).or_insert_with(|| {
            self.groups.push(IdentityGroup {
                survivor: entity,
                members: vec![entity],
            });
            self.groups.len() - 1
        })
    }
    /// The smallest end; of a group without one, the smallest of those on or behind a ring.
    fn find_survivor(&self, members: &[EntityId]) -> EntityId {
        if let Some(end) = members.iter().find(|m| self.is_end(**m)) {
            return *end;
        }
        let targets = |from: &EntityId| self.links.get(from).into_iter().flatten().copied();
        let mut left: FxHashSet<EntityId> = members.iter().copied().collect();
        let mut incoming: FxHashMap<EntityId, usize> = FxHashMap::default();
        members
            .iter()
            .flat_map(targets)
            .for_each(|to| *incoming.entry(to).or_default() += 1);
        let mut peel: Vec<EntityId> = members
            .iter()
            .copied()
            .filter(|m| !incoming.contains_key(m))
            .collect();
        while let Some(from) = peel.pop() {
            left.remove(&from);
            for to in targets(&from) {
                let count = incoming.get_mut(&to).expect("a target has incoming links");
                *count -= 1;
                if *count == 0 {
                    peel.push(to);
                }
            }
        }
        *members
            .iter()
            .find(|m| left.contains(m))
            .expect("links without an end run in a ring")
    }
}

#[cfg(test)]
mod tests {
    use leadpulse_schema::{Catalog, TableId};

    use super::*;

    const ROOT: &str = r#"{"type":"record","name":"A","leadpulse":{"table":"a","role":"root"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}}]}"#;
    const EVENT: &str = r#"{"type":"record","name":"E","leadpulse":{"table":"e","role":"event"},"fields":[
      {"name":"id","type":"string","leadpulse":{"key":true}},
      {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"},"leadpulse":{"time":true}},
      {"name":"a","type":"string","leadpulse":{"ref":"a","owner":true}}]}"#;

    /// Links in every rotation and reversal join the same rows into the same survivor.
    #[test]
    fn the_survivor_does_not_depend_on_the_order_of_links() {
        let catalog =
            Catalog::from_json(&[("a.avsc".to_owned(), ROOT), ("e.avsc".to_owned(), EVENT)])
                .unwrap();
        let cases: [(&[(&str, &str)], &str); 7] = [
            (&[("x", "y")], "y"),
            (&[("a", "b"), ("b", "c"), ("c", "d")], "d"),
            (&[("a", "c"), ("a", "b")], "b"),
            (&[("c", "b"), ("b", "c")], "b"),
            (&[("a", "b"), ("b", "c"), ("c", "b")], "b"),
            (&[("z", "y"), ("x", "y"), ("w", "x"), ("y", "v")], "v"),
            (&[("b", "a"), ("d", "c"), ("b", "d")], "a"),
        ];
        for (links, expected) in cases {
            for turn in 0..links.len() * 2 {
                let mut links = links.to_vec();
                let steps = turn % links.len();
                links.rotate_left(steps);
                if turn >= links.len() {
                    links.reverse();
                }
                let mut directory = Directory::new(&catalog);
                let mut identity = Identity::default();
                let space = directory.of_table(TableId(0));
                for (from, to) in &links {
                    let (from, to) = (directory.intern(space, from), directory.intern(space, to));
                    assert!(identity.link(&directory, from, to));
                    assert!(!identity.link(&directory, from, to));
                }
                for (from, to) in &links {
                    for key in [from, to] {
                        let entity = directory.find(space, key).unwrap();
                        assert_eq!(
                            &**directory.key(identity.survivor(entity)),
                            expected,
                            "{links:?}"
                        );
                    }
                }
            }
        }
    }
}
