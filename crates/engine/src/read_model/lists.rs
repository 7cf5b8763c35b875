//! The newest work list of each task and person.

use std::collections::BTreeMap;
use std::sync::Arc;

use leadpulse_records::WorkList;

/// The newest work lists, by task and person.
#[derive(Clone, Default)]
pub(super) struct KeptLists {
    version: u64,
    newest: BTreeMap<(Arc<str>, Arc<str>), Arc<WorkList>>,
}

impl KeptLists {
    /// Takes lists, each in the place of the one before.
    pub fn replace(&mut self, lists: Vec<Arc<WorkList>>) {
        self.version += 1;
        for list in lists {
            let owner: Arc<str> = list.owner().into();
            self.newest.insert((list.task.clone(), owner), list);
        }
    }

    /// Drops the lists of all tasks but these.
    pub fn keep_tasks(&mut self, names: &[Arc<str>]) {
        self.version += 1;
        self.newest.retain(|(task, _), _| names.contains(task));
    }

    /// The lists of a task, of one person or of all, with the number of changes so far.
    pub fn of(&self, task: &str, owner: Option<&str>) -> (u64, Vec<Arc<WorkList>>) {
        let mut found = Vec::new();
        for list in self.newest.values() {
            let is_wanted = owner.is_none_or(|owner| list.owner() == owner);
            if *list.task == *task && is_wanted {
                found.push(list.clone());
            }
        }
        (self.version, found)
    }
}
