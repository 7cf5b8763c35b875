//! The disk of the stored state is full or fails while epochs are committed. Epochs go on, the
//! fault is told, the store goes on by itself, and a start from whatever is on the disk gives the
//! same outputs.

use std::path::Path;
use std::process::Command;

use super::dataset::alone;
use super::shim::{DEVICE_ERROR, Knob, NO_SPACE, Shim};
use super::staged::Staged;
use super::standby::{Peer, metric_of};

/// Waits until the store has every committed epoch.
#[track_caller]
fn all_is_stored(staged: &Staged, worker: &mut Peer) {
    let last = staged.scenario.epochs().last().map_or(0, |last| last.epoch);
    worker.answers("/metrics", |_, text| {
        metric_of(text, "leadpulse_store_epoch").is_some_and(|stored| stored >= last as f64)
            && metric_of(text, "leadpulse_store_queued_bytes") == Some(0.0)
    });
}

/// Waits until the fault of the store is counted.
#[track_caller]
fn fault_is_counted(worker: &mut Peer) {
    worker.answers("/metrics", |_, text| {
        metric_of(text, "leadpulse_store_failures_total").is_some_and(|failures| failures > 0.0)
    });
}

/// A fault that begins while a worker is live, is there when the next one starts, and ends.
fn survives(staged: Option<Staged>, fails: impl Fn(&Shim), recovers: impl Fn(&Shim)) {
    let Some(mut staged) = staged else { return };
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    staged.scenario.set("STORE__DIR", &state.to_string_lossy());
    let shim = Shim::preloaded(&mut staged.scenario, dir.path());
    let mut worker = Peer::start(&staged.scenario);
    staged.is_taken_by(&mut worker.process);
    all_is_stored(&staged, &mut worker);

    fails(&shim);
    staged.produce_beside(&worker.process);
    staged.is_taken_by(&mut worker.process);
    fault_is_counted(&mut worker);
    worker.process.kill();

    // The next process meets the fault at its start.
    staged.produce();
    let mut worker = Peer::start(&staged.scenario);
    staged.is_taken_by(&mut worker.process);
    recovers(&shim);
    all_is_stored(&staged, &mut worker);
    let ended = worker.process.kill();
    assert!(
        ended.err.contains("the state is stored again"),
        "{}",
        ended.err
    );

    let mut process = staged.scenario.run(&[]);
    assert!(
        process.logs("stored state read"),
        "{}",
        process.last_lines(8)
    );
    process.kill();
    staged.judge();
}

#[test]
fn a_disk_without_space_stops_no_epoch() {
    let _alone = alone();
    survives(
        Staged::new("disk-full"),
        |shim| shim.set(Knob::Write, NO_SPACE),
        |shim| shim.set(Knob::Write, 0),
    );
}

#[test]
fn a_sync_that_fails_stops_no_epoch() {
    let _alone = alone();
    survives(
        Staged::of_the_campaign("sync-fails"),
        |shim| shim.set(Knob::Sync, DEVICE_ERROR),
        |shim| shim.set(Knob::Sync, 0),
    );
}

/// Beyond the budget epochs wait for the disk, and say so.
#[test]
fn epochs_wait_for_a_failing_disk_once_the_budget_is_full() {
    let _alone = alone();
    let Some(mut staged) = Staged::of_the_campaign("disk-budget") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    staged.scenario.set("STORE__DIR", &state.to_string_lossy());
    staged.scenario.set("STORE__QUEUE_BYTES", "200000");
    let shim = Shim::preloaded(&mut staged.scenario, dir.path());
    let mut worker = Peer::start(&staged.scenario);
    staged.is_taken_by(&mut worker.process);
    all_is_stored(&staged, &mut worker);

    shim.set(Knob::Write, NO_SPACE);
    staged.produce_beside(&worker.process);
    worker.answers("/readyz", |_, body| {
        body.contains("takes no more of the state; epochs wait for it")
    });
    shim.set(Knob::Write, 0);
    staged.is_taken_by(&mut worker.process);
    all_is_stored(&staged, &mut worker);
    worker.process.stop().done();
    staged.judge();
}

/// A file system of a few megabytes in memory, which only root may mount.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    /// `None` where this user may not mount.
    fn mounted(size: &str) -> Option<Self> {
        let disk = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        if disk.mount(&format!("size={size}")) {
            return Some(disk);
        }
        eprintln!("SKIPPED: a file system of its own needs the right to mount");
        None
    }

    fn mount(&self, options: &str) -> bool {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", options, "tmpfs"]);
        let status = command.arg(self.path()).stderr(std::process::Stdio::null());
        status.status().is_ok_and(|status| status.success())
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    #[track_caller]
    fn resize(&self, size: &str) {
        assert!(self.mount(&format!("remount,size={size}")));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Fails where nothing was mounted; a process that still has files open keeps them.
        let mut command = Command::new("umount");
        let _ = command.arg("-l").arg(self.dir.path()).status();
    }
}

/// The file system fills up by the state itself.
#[test]
fn a_small_file_system_that_fills_up_stops_no_epoch() {
    let _alone = alone();
    let Some(mut staged) = Staged::of_the_campaign("disk-small") else {
        return;
    };
    let Some(disk) = SmallDisk::mounted("1m") else {
        return;
    };
    let state = disk.path().join("state");
    staged.scenario.set("STORE__DIR", &state.to_string_lossy());
    let mut worker = Peer::start(&staged.scenario);
    staged.is_taken_by(&mut worker.process);
    staged.produce_beside(&worker.process);
    staged.is_taken_by(&mut worker.process);
    fault_is_counted(&mut worker);
    worker.process.kill();

    staged.produce();
    let mut process = staged.scenario.run(&[]);
    staged.is_taken_by(&mut process);
    process.kill();
    disk.resize("200m");
    let mut worker = Peer::start(&staged.scenario);
    all_is_stored(&staged, &mut worker);
    worker.process.kill();
    staged.judge();
}
