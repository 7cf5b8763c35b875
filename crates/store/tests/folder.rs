//! The folder: what is written is read after the process is gone, damage is told, one process has it.

#![allow(
    clippy::unwrap_used,
    reason = "clippy knows tests, but not their helpers"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use leadpulse_engine::ports::{
    Clock, OutputPositions, StateStore, StoreError, StoreHead, StoreStatus, StoredChange,
};
use leadpulse_engine::{NODE_AREA, PieceError, Pieces};
use leadpulse_store::{FolderStore, SnapshotPlace, StoreMetrics};

fn store(dir: &Path) -> FolderStore {
    let metrics = StoreMetrics::register(&prometheus::Registry::new()).unwrap();
    FolderStore::new(dir, 1 << 20, &metrics)
}

fn head(epoch: u64) -> StoreHead {
    StoreHead {
        epoch,
        nonce: epoch * 7,
        outputs: OutputPositions(vec![(3, 0, epoch as i64)]),
        ..StoreHead::default()
    }
}

fn pieces(all: &[(u8, Option<&str>)]) -> Pieces {
    let mut pieces = Pieces::default();
    for (key, value) in all {
        match value {
            Some(value) => pieces.put_bytes(1, |out| out.push(*key), value.as_bytes()),
            None => pieces.remove(1, |out| out.push(*key)),
        }
    }
    pieces
}

fn change(epoch: u64, all: &[(u8, Option<&str>)]) -> StoredChange {
    StoredChange {
        after: epoch - 1,
        head: head(epoch),
        pieces: pieces(all),
        is_erasure: false,
    }
}

fn content(store: &mut FolderStore) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut content = BTreeMap::new();
    let mut last = Vec::new();
    store
        .read(&mut |key, value| {
            assert!(*key > *last, "pieces come in the order of keys");
            last = key.to_vec();
            content.insert(key.to_vec(), value.to_vec());
            Ok(())
        })
        .unwrap();
    content
}

fn expected(all: &[(u8, &str)]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let piece = |(key, value): &(u8, &str)| (vec![1, *key], value.as_bytes().to_vec());
    all.iter().map(piece).collect()
}

#[test]
fn what_was_written_is_there_after_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = store(dir.path());
    assert_eq!(first.head().unwrap(), None);
    first.replace().unwrap();
    first
        .put(&pieces(&[(1, Some("a")), (2, Some("b"))]))
        .unwrap();
    assert_eq!(first.head().unwrap(), None, "not whole yet");
    first.finish(&head(4)).unwrap();
    assert!(
        first
            .write(change(5, &[(2, Some("c")), (3, Some("d"))]))
            .is_none()
    );
    assert!(first.write(change(6, &[(1, None)])).is_none());
    let status = first.close();
    assert_eq!(
        (status.epoch, status.queued_bytes, status.failure),
        (6, 0, None)
    );
    drop(first);
    let mut second = store(dir.path());
    assert_eq!(second.head().unwrap(), Some(head(6)));
    assert_eq!(content(&mut second), expected(&[(2, "c"), (3, "d")]));
    second.replace().unwrap();
    assert_eq!(second.head().unwrap(), None);
    assert!(content(&mut second).is_empty());
}

#[test]
fn a_folder_in_use_and_a_damaged_one_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = store(dir.path());
    first.replace().unwrap();
    first.finish(&head(1)).unwrap();
    let mut second = store(dir.path());
    let error = second.head().unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    first.close();
    drop(first);
    std::fs::write(dir.path().join("version"), b"something else").unwrap();
    let error = second.head().unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    // It is made anew, and what is not the database's stays.
    std::fs::write(dir.path().join("notes.txt"), b"mine").unwrap();
    second.replace().unwrap();
    assert_eq!(second.head().unwrap(), None);
    assert!(dir.path().join("notes.txt").exists());
}

#[test]
fn a_full_queue_gives_the_change_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.replace().unwrap();
    store.finish(&head(0)).unwrap();
    store.close();
    // Nothing can be written: a file stands where the folder was.
    std::fs::remove_dir_all(dir.path()).unwrap();
    std::fs::write(dir.path(), b"in the way").unwrap();
    let large = "x".repeat(700_000);
    assert!(store.write(change(1, &[(1, Some(&large))])).is_none());
    let refused = store.write(change(2, &[(2, Some(&large))]));
    assert_eq!(refused.map(|change| change.head.epoch), Some(2));
    let deadline = Instant::now() + Duration::from_secs(20);
    while store.status().failure.is_none() {
        assert!(Instant::now() < deadline, "the failure is told");
        std::thread::sleep(Duration::from_millis(10));
    }
    // The disk is well again: it goes on by itself.
    std::fs::remove_file(dir.path()).unwrap();
    let mut waiting = Some(change(2, &[(2, Some("b"))]));
    while let Some(change) = waiting.take() {
        assert!(Instant::now() < deadline, "the queue is written");
        waiting = store.write(change);
        std::thread::sleep(Duration::from_millis(10));
    }
    let status = store.close();
    assert_eq!((status.epoch, status.failure), (2, None));
    let mut again = self::store(dir.path());
    assert_eq!(again.head().unwrap(), Some(head(2)));
    assert_eq!(content(&mut again), expected(&[(1, &large), (2, "b")]));
}

/// A store waits for a condition of its thread.
fn wait_for(store: &FolderStore, what: &str, is_so: impl Fn(&StoreStatus) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so(&store.status()) {
        assert!(Instant::now() < deadline, "{what}: {:?}", store.status());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Nodes are left out at a start, and read while epochs are written, also by one who meets a
/// database that is being opened anew.
#[test]
fn nodes_are_read_while_epochs_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.replace().unwrap();
    let mut first = pieces(&[(1, Some("a"))]);
    first.put_bytes(NODE_AREA, |out| out.push(7), b"node");
    store.put(&first).unwrap();
    store.finish(&head(1)).unwrap();
    assert_eq!(content(&mut store), expected(&[(1, "a")]));
    let nodes = store.nodes().unwrap();
    let read = || {
        let mut found = Vec::new();
        let read = nodes.read(&[NODE_AREA], &mut |key, value| {
            found.push((key[1], String::from_utf8(value.to_vec()).unwrap()));
            Ok(())
        });
        read.map(|()| found)
    };
    assert_eq!(read().unwrap(), [(7, "node".to_owned())]);
    let node = |epoch: u64, value: &str| {
        let mut pieces = Pieces::default();
        pieces.put_bytes(NODE_AREA, |out| out.push(8), value.as_bytes());
        StoredChange {
            after: epoch - 1,
            head: head(epoch),
            pieces,
            is_erasure: false,
        }
    };
    assert!(store.write(node(2, "new")).is_none());
    wait_for(&store, "an epoch is synced", |status| status.synced == 2);
    let both = [(7, "node".to_owned()), (8, "new".to_owned())];
    assert_eq!(read().unwrap(), both);
    // What the reader does is told as it is.
    let fault = nodes.read(&[NODE_AREA], &mut |_, _| Err(PieceError::Key));
    assert!(fault.unwrap_err().contains("unknown key"));
    store.close();
    drop(store);
    let mut again = self::store(dir.path());
    let nodes = again.nodes().unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut found = 0;
            let counted = nodes.read(&[NODE_AREA], &mut |_, _| {
                found += 1;
                Ok(())
            });
            counted.map(|()| found)
        });
        std::thread::sleep(Duration::from_millis(100));
        again.head().unwrap();
        assert_eq!(reader.join().unwrap(), Ok(2));
    });
}

/// A process that is killed leaves what it wrote: its folder as of any moment is at one epoch, and
/// has exactly the pieces of that epoch.
#[test]
fn a_copy_of_the_folder_at_any_moment_is_at_one_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = store(dir.path());
    store.replace().unwrap();
    store.finish(&head(0)).unwrap();
    let text = Arc::new("y".repeat(5_000));
    let (mut copies, mut seen) = (0, std::collections::BTreeSet::new());
    for epoch in 1..=400_u64 {
        let value = format!("{epoch} {text}");
        let pieces = [(1, Some(value.as_str())), (2, Some(value.as_str()))];
        let mut waiting = Some(change(epoch, &pieces));
        while let Some(change) = waiting.take() {
            waiting = store.write(change);
        }
        if epoch % 40 == 0 {
            let copy = tempfile::tempdir().unwrap();
            if copy_folder(dir.path(), copy.path()).is_err() {
                continue; // a file was renamed meanwhile
            }
            let mut killed = self::store(copy.path());
            let Ok(Some(head)) = killed.head() else {
                continue; // the copy is of several moments
            };
            copies += 1;
            seen.insert(head.epoch);
            if head.epoch > 0 {
                let value = format!("{} {text}", head.epoch);
                assert_eq!(content(&mut killed), expected(&[(1, &value), (2, &value)]));
            }
        }
    }
    assert!(copies > 3 && seen.len() > 2, "{copies} copies, {seen:?}");
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_folder(&entry.path(), &target)?,
            false => std::fs::copy(entry.path(), target).map(|_| ())?,
        }
    }
    Ok(())
}

/// The moment of all snapshots.
struct Noon;

impl Clock for Noon {
    fn wall_ms(&self) -> i64 {
        1_700_000_000_000
    }
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
    fn wait(&self, _: Duration) {}
}

fn snapshots(dir: &Path) -> SnapshotPlace {
    SnapshotPlace::in_folder(dir, 2).unwrap()
}

fn files(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => files(&entry.path()),
            false => 1,
        })
        .sum()
}

/// Writes epochs until a snapshot of at least `epoch` is there.
fn written_until(store: &mut FolderStore, place: &Path, from: u64, epoch: u64) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut next = from;
    loop {
        assert!(Instant::now() < deadline, "no snapshot of epoch {epoch}");
        let value = format!("{next}");
        let mut waiting = Some(change(next, &[(1, Some(value.as_str()))]));
        while let Some(change) = waiting.take() {
            waiting = store.write(change);
        }
        let last = snapshots(place)
            .list()
            .unwrap()
            .last()
            .map(|m| m.head.epoch);
        if last >= Some(epoch) {
            return next;
        }
        next += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn another_machine_starts_from_the_newest_whole_snapshot() {
    let (here, there, place) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let mut first = store(here.path()).with_snapshots(
        snapshots(place.path()),
        Duration::from_millis(50),
        Arc::new(Noon),
    );
    first.replace().unwrap();
    // Many chunks that never change, and one piece that does.
    let mut all = Pieces::default();
    for key in 0..60_000_u32 {
        all.put_bytes(2, |out| out.extend(key.to_be_bytes()), &key.to_le_bytes());
    }
    first.put(&all).unwrap();
    first.finish(&head(0)).unwrap();
    let mut last = written_until(&mut first, place.path(), 1, 1);
    let chunks = files(&place.path().join("chunks"));
    assert!(chunks > 3, "{chunks} chunks");
    last = written_until(&mut first, place.path(), last + 1, last + 30);
    last = written_until(&mut first, place.path(), last + 1, last + 30);
    // One may be under way until the end.
    first.close();
    let made = snapshots(place.path()).list().unwrap();
    assert_eq!(made.len(), 2, "older ones are removed");
    let new = files(&place.path().join("chunks"));
    assert!(
        new <= chunks + 2,
        "{new} chunks: only what changed is written, and nothing is left over"
    );
    assert!(last >= made[1].head.epoch);

    let restored = |dir: &Path| {
        let mut second = store(dir).with_snapshots(
            snapshots(place.path()),
            Duration::from_secs(600),
            Arc::new(Noon),
        );
        let head = second.head().unwrap();
        (head, content(&mut second))
    };
    let (found, all) = restored(there.path());
    assert_eq!(found.as_ref(), Some(&made[1].head));
    assert_eq!(all.len(), 60_001);
    assert_eq!(
        all[&vec![1, 1]],
        made[1].head.epoch.to_string().into_bytes()
    );

    // A damaged chunk: the snapshot before takes its place.
    let of = |manifest: &leadpulse_store::Manifest| -> std::collections::BTreeSet<String> {
        manifest
            .chunks
            .iter()
            .map(|chunk| chunk.hash.clone())
            .collect()
    };
    let own: Vec<String> = of(&made[1]).difference(&of(&made[0])).cloned().collect();
    for hash in &own {
        std::fs::write(
            place.path().join("chunks").join(&hash[..2]).join(hash),
            b"cut",
        )
        .unwrap();
    }
    assert!(!own.is_empty());
    let elsewhere = tempfile::tempdir().unwrap();
    assert_eq!(restored(elsewhere.path()).0, Some(made[0].head.clone()));
}

/// Whether any file below a folder contains some bytes.
fn holds(dir: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => holds(&path, bytes),
            false => {
                let content = std::fs::read(&path).unwrap_or_default();
                content.windows(bytes.len()).any(|part| part == bytes)
            }
        }
    })
}

const SECRET: &str = "zq-the-bytes-of-a-person-that-no-block-compresses-away";

/// A store with a person's bytes, replaced once and removed by the changes after `epoch`.
fn with_person(dir: &Path) -> FolderStore {
    let mut store = store(dir);
    store.replace().unwrap();
    store
        .put(&pieces(&[(1, Some(SECRET)), (2, Some("b"))]))
        .unwrap();
    store.finish(&head(0)).unwrap();
    assert!(store.write(change(1, &[(3, Some(SECRET))])).is_none());
    store
}

fn erasure(epoch: u64) -> StoredChange {
    StoredChange {
        is_erasure: true,
        ..change(epoch, &[(1, Some("other")), (3, None)])
    }
}

#[test]
fn erased_bytes_are_in_no_file_of_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = with_person(dir.path());
    assert!(first.write(erasure(2)).is_none());
    assert!(first.write(change(3, &[(4, Some("d"))])).is_none());
    let status = first.close();
    assert_eq!((status.epoch, status.failure), (3, None));
    drop(first);
    assert!(!holds(dir.path(), SECRET.as_bytes()));
    assert!(!dir.path().join("rewrite").exists());
    let mut second = store(dir.path());
    assert_eq!(second.head().unwrap(), Some(head(3)));
    let left = expected(&[(1, "other"), (2, "b"), (4, "d")]);
    assert_eq!(content(&mut second), left);
    // A change without an erasure leaves old values where they are: the test can tell.
    second.close();
    drop(second);
    let other = tempfile::tempdir().unwrap();
    let mut kept = with_person(other.path());
    let change = StoredChange {
        is_erasure: false,
        ..erasure(2)
    };
    assert!(kept.write(change).is_none());
    kept.close();
    assert!(holds(other.path(), SECRET.as_bytes()));
}

#[test]
fn a_folder_that_is_emptied_keeps_no_byte() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = with_person(dir.path());
    store.close();
    assert!(holds(dir.path(), SECRET.as_bytes()));
    store.replace().unwrap();
    store.finish(&head(1)).unwrap();
    store.close();
    assert!(!holds(dir.path(), SECRET.as_bytes()));
}

/// A process that ends at any step of a rewriting: the next one goes on, and loses nothing.
#[test]
fn a_rewriting_goes_on_after_a_kill_at_any_step() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = with_person(dir.path());
    assert!(first.write(erasure(2)).is_none());
    first.close();
    drop(first);
    let left = expected(&[(1, "other"), (2, "b")]);
    for step in ["begun", "whole", "moving", "moved in part"] {
        let killed = tempfile::tempdir().unwrap();
        let inner = killed.path().join("rewrite");
        match step {
            "begun" => {
                // Half written: the first database counts.
                copy_folder(dir.path(), killed.path()).unwrap();
                std::fs::create_dir_all(inner.join("keyspaces")).unwrap();
                std::fs::write(inner.join("0.jnl"), b"half").unwrap();
            }
            "whole" => {
                let mut before = with_person(killed.path());
                before.close();
                copy_folder(dir.path(), &inner).unwrap();
                std::fs::write(inner.join("whole"), b"").unwrap();
            }
            _ => {
                copy_folder(dir.path(), &inner).unwrap();
                std::fs::write(inner.join("moving"), b"").unwrap();
                if step == "moved in part" {
                    let (from, to) = (inner.join("keyspaces"), killed.path().join("keyspaces"));
                    std::fs::rename(from, to).unwrap();
                }
            }
        }
        let mut next = store(killed.path());
        assert_eq!(next.head().unwrap(), Some(head(2)), "{step}");
        assert_eq!(content(&mut next), left, "{step}");
        next.close();
        drop(next);
        assert!(!inner.exists(), "{step}");
        assert!(!holds(killed.path(), SECRET.as_bytes()), "{step}");
    }
}

#[test]
fn a_mark_of_the_process_before_lets_the_next_write_the_folder_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = with_person(dir.path());
    // Nothing can be written there.
    std::fs::write(dir.path().join("rewrite"), b"no folder").unwrap();
    assert!(first.write(erasure(2)).is_none());
    wait_for(&first, "the rewriting fails", |status| {
        status.synced == 2 && status.failure.is_some()
    });
    first.close();
    drop(first);
    std::fs::remove_file(dir.path().join("rewrite")).unwrap();
    assert!(holds(dir.path(), SECRET.as_bytes()));
    let mut second = store(dir.path());
    assert_eq!(second.head().unwrap(), Some(head(2)));
    assert!(second.write(change(3, &[(4, Some("d"))])).is_none());
    let status = second.close();
    assert_eq!((status.synced, status.failure), (3, None));
    drop(second);
    assert!(!holds(dir.path(), SECRET.as_bytes()));
}

/// Cold cells are read from the second database as from the first.
#[test]
fn nodes_are_read_while_a_folder_is_written_anew() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = with_person(dir.path());
    let nodes = store.nodes().unwrap();
    let mut pieces = Pieces::default();
    pieces.put_bytes(NODE_AREA, |out| out.push(7), b"node");
    let with_node = StoredChange {
        pieces,
        ..change(2, &[])
    };
    assert!(store.write(with_node).is_none());
    wait_for(&store, "an epoch is synced", |status| status.synced == 2);
    for epoch in 3..8 {
        assert!(store.write(erasure(epoch)).is_none());
        let mut found = 0;
        let read = nodes.read(&[NODE_AREA], &mut |_, value| {
            found += usize::from(value == b"node");
            Ok(())
        });
        assert_eq!((read, found), (Ok(()), 1));
    }
    wait_for(&store, "all is synced", |status| {
        (status.synced, status.kept_bytes, status.queued_bytes) == (7, 0, 0)
    });
    store.close();
    assert!(!holds(dir.path(), SECRET.as_bytes()));
}
