//! Releases in memory: each is a rig, and a schedule says when one is asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use leadpulse_engine::Deployed;
use leadpulse_engine::ports::{OfferedRelease, ReleaseRefusal, Releases};

use super::rig::Rig;

/// The releases of a deployment, shared by all of its processes.
#[derive(Clone, Default)]
pub struct ReleaseDesk(Arc<Mutex<Desk>>);

#[derive(Clone, Default)]
struct Desk {
    rigs: BTreeMap<String, Rig>,
    /// (looks at the desk, release): from so many looks on the release is asked for.
    schedule: Vec<(usize, String)>,
    looks: usize,
    in_force: Option<String>,
    refused: Option<String>,
}

impl ReleaseDesk {
    /// A desk with these releases, by the names in their rigs.
    pub fn new(rigs: &[Rig], schedule: &[(usize, &str)]) -> Self {
        let named = rigs
            .iter()
            .map(|rig| (rig.release.clone().unwrap(), rig.clone()));
        let desk = Desk {
            rigs: named.collect(),
            schedule: schedule
                .iter()
                .map(|(looks, release)| (*looks, (*release).to_owned()))
                .collect(),
            ..Desk::default()
        };
        Self(Arc::new(Mutex::new(desk)))
    }

    /// The same releases and schedule, for another deployment.
    pub fn elsewhere(&self) -> Self {
        let desk = self.lock();
        let copy = Desk {
            rigs: desk.rigs.clone(),
            schedule: desk.schedule.clone(),
            ..Desk::default()
        };
        Self(Arc::new(Mutex::new(copy)))
    }

    /// The rig of a release.
    pub fn rig(&self, release: &str) -> Option<Rig> {
        self.lock().rigs.get(release).cloned()
    }

    /// Takes a release away.
    pub fn remove(&self, release: &str) {
        self.lock().rigs.remove(release);
    }

    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.0.lock().unwrap()
    }
}

impl Releases for ReleaseDesk {
    fn offered(&mut self) -> Option<OfferedRelease> {
        let asked = {
            let mut desk = self.lock();
            desk.looks += 1;
            let due = desk.schedule.iter().rfind(|(at, _)| *at <= desk.looks);
            let asked = due.map(|(_, release)| release.clone())?;
            let known = [desk.in_force.as_ref(), desk.refused.as_ref()];
            if known.contains(&Some(&asked)) {
                return None;
            }
            desk.refused = Some(asked.clone());
            asked
        };
        Some(self.load(&asked))
    }

    fn load(&mut self, release: &str) -> OfferedRelease {
        let rig = self.rig(release).ok_or_else(|| ReleaseRefusal {
            release: release.to_owned(),
            reason: "there is no such release".to_owned(),
        })?;
        Ok(rig.machine().into_parts().0)
    }

    fn is_in_force(&mut self, given: &Deployed) {
        let mut desk = self.lock();
        desk.in_force = given.release().map(str::to_owned);
        desk.refused = None;
    }
}
