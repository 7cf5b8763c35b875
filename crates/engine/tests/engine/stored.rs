//! The worker's state as bytes: it goes on in another process, and damaged bytes are refused.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use leadpulse_engine::{
    Deployed, Machine, Pieces, STATE_FORMAT, StateError, StateReader, SwapError, WorkerState,
};
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::market::Market;
use super::moves::{assert_undisturbed, built, rig};
use super::rig::{Put, Rig};

/// Bytes of the frame before the state, and of the checksum after it.
const HEAD: usize = 36;
const CHECKSUM: usize = 8;

fn encoded(state: &WorkerState) -> Vec<u8> {
    let mut bytes = Vec::new();
    state.encode(&mut bytes).unwrap();
    bytes
}

/// A state with scores, alerts and explanations, and the rig that it was made in.
fn made(records: u64) -> (Rig, Vec<u8>) {
    let rig = rig();
    let mut machine = rig.machine();
    let mut market = Market::new(11);
    for _ in 0..2 {
        market.send(&rig, records);
        rig.step(&mut machine, None);
    }
    let (_, state) = machine.into_parts();
    (rig, encoded(&state))
}

/// Body bytes with a checksum that fits them.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - CHECKSUM;
    let sum = xxh3_64(&bytes[..end]).to_le_bytes();
    bytes[end..].copy_from_slice(&sum);
    bytes
}

#[test]
fn a_stored_worker_state_goes_on_as_an_undisturbed_one() {
    assert_undisturbed(|rig, machine| {
        let (_, state) = machine.into_parts();
        let bytes = encoded(&state);
        assert!(bytes == encoded(&state), "one state has one form");
        let given = built(rig);
        let read = WorkerState::decode(&bytes, &given).unwrap();
        assert!(
            bytes == encoded(&read),
            "read back, it is written in another way"
        );
        Machine::from_parts(given, read).unwrap()
    });
}

/// Pieces by key, as a store has them.
type Stored = BTreeMap<Vec<u8>, Vec<u8>>;

fn put(pieces: &Pieces, stored: &mut Stored) {
    for (key, value) in pieces.iter() {
        match value {
            Some(value) => stored.insert(key.to_vec(), value.to_vec()),
            None => stored.remove(key),
        };
    }
}

fn of_pieces(stored: &Stored, given: &Deployed) -> WorkerState {
    let mut reader = StateReader::new(given, given.shape()).unwrap();
    for (key, value) in stored {
        reader.read(key, value).unwrap();
    }
    reader.finish(given).unwrap()
}

/// What epochs changed, one after the other, is the whole state, and it goes on as an undisturbed
/// one.
#[test]
fn changed_pieces_of_epochs_make_a_state_that_goes_on() {
    let stored = RefCell::new(Stored::new());
    let epochs = Cell::new(0);
    assert_undisturbed(|rig, machine| {
        let (given, mut state) = machine.into_parts();
        if state.number() == 1 {
            stored.borrow_mut().clear();
            state.note_changes();
            let mut each = |pieces: Pieces| {
                put(&pieces, &mut stored.borrow_mut());
                Ok::<(), ()>(())
            };
            state.write_portions(&mut each).unwrap();
        } else {
            put(&state.take_changes(), &mut stored.borrow_mut());
        }
        epochs.set(epochs.get() + 1);
        let mut read = of_pieces(&stored.borrow(), &built(rig));
        assert!(
            encoded(&read) == encoded(&state),
            "epoch {}: the changed pieces are not all that changed",
            state.number()
        );
        // Every second time the process ends here.
        let next = if epochs.get() % 2 == 0 {
            read.note_changes();
            read
        } else {
            state
        };
        Machine::from_parts(given, next).unwrap()
    });
}

#[test]
fn a_state_stored_amid_a_restart_goes_on_as_an_undisturbed_one() {
    let rig = rig();
    let mut undisturbed = rig.machine();
    Market::new(6).send(&rig, 200);
    rig.step(&mut undisturbed, None);
    undisturbed.restart(true);
    let next_ms = undisturbed.as_of().unwrap().ms() + 1;
    let (given, state) = undisturbed.into_parts();
    let read = WorkerState::decode(&encoded(&state), &given).unwrap();
    let mut stored = Machine::from_parts(given.clone(), read).unwrap();
    let mut undisturbed = Machine::from_parts(given, state).unwrap();
    let mut scored = 0;
    for tick in 0..6 {
        let expected = rig.step(&mut undisturbed, Some(next_ms + tick));
        assert!(rig.step(&mut stored, Some(next_ms + tick)).sealed == expected.sealed);
        scored += expected.record.scored;
    }
    assert!(scored > 10, "{scored}");
}

#[test]
fn every_cut_of_a_stored_state_is_refused() {
    let (rig, bytes) = made(20);
    let given = built(&rig);
    for end in 0..bytes.len() {
        let found = WorkerState::decode(&bytes[..end], &given).err();
        let expected = match end {
            0..8 => matches!(found, Some(StateError::NotState)),
            _ => matches!(found, Some(StateError::Damaged)),
        };
        assert!(expected, "{end} of {} bytes: {found:?}", bytes.len());
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(matches!(
        WorkerState::decode(&longer, &given),
        Err(StateError::Damaged)
    ));
}

#[test]
fn every_flipped_byte_of_a_stored_state_is_refused() {
    let (rig, bytes) = made(20);
    let given = built(&rig);
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let found = WorkerState::decode(&flipped, &given).err();
        let expected = match at {
            0..8 => matches!(found, Some(StateError::NotState)),
            8..12 => matches!(found, Some(StateError::OtherFormat { .. })),
            _ => matches!(found, Some(StateError::Damaged)),
        };
        assert!(expected, "byte {at}: {found:?}");
    }
}

#[test]
fn a_state_of_another_format_or_shape_names_the_difference() {
    let (rig, bytes) = made(20);
    let mut later = bytes.clone();
    later[8..12].copy_from_slice(&(STATE_FORMAT + 1).to_le_bytes());
    let found = WorkerState::decode(&sealed(later), &built(&rig)).err();
    assert!(
        matches!(found, Some(StateError::OtherFormat { found }) if found == STATE_FORMAT + 1),
        "{found:?}"
    );
    let other_schemas = Rig {
        fingerprint: "f00d".into(),
        ..rig.clone()
    };
    let other_tasks = Rig {
        tasks: rig.tasks[..1].to_vec(),
        ..rig.clone()
    };
    let mut renamed = rig.clone();
    renamed.tasks[0].name = "buys_60d";
    for (other, expected) in [
        (&other_schemas, SwapError::OtherSchemas),
        (&other_tasks, SwapError::OtherGraphOptions),
        (&renamed, SwapError::OtherTasks),
    ] {
        match WorkerState::decode(&bytes, &built(other)) {
            Err(StateError::OtherShape(found)) => assert_eq!(found, expected),
            other => panic!("{:?}", other.err()),
        }
    }
}

proptest! {
    /// A checksum that fits bytes of another program: they may be a state or none, but reading
    /// ends.
    #[test]
    fn reading_other_fields_ends_without_a_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        thread_local!(static MADE: (Rig, Vec<u8>) = made(20));
        MADE.with(|(rig, bytes)| {
            let mut bytes = bytes.clone();
            let body = bytes.len() - HEAD - CHECKSUM;
            for (at, byte) in &flips {
                bytes[HEAD + at.index(body)] = *byte;
            }
            let _ = WorkerState::decode(&sealed(bytes), &built(rig));
        });
    }
}

#[test]
fn a_failing_writer_is_reported_with_its_own_error() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::new(
                std::io::ErrorKind::StorageFull,
                "no space left on the disk",
            ))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let rig = rig();
    let mut machine = rig.machine();
    for number in 0..600 {
        let key = format!("A{number:0100}");
        let fields = [
            ("account_id", Put::Text(&key)),
            ("updated_at", Put::Time(1_748_736_000_000)),
        ];
        rig.send("accounts", 0, &fields);
    }
    rig.step(&mut machine, None);
    let (_, state) = machine.into_parts();
    let length = encoded(&state).len();
    assert!(
        length > 1 << 16,
        "{length} bytes: the buffer is written out on the way"
    );
    let failure = state.encode(&mut Full).unwrap_err();
    assert_eq!(failure.to_string(), "no space left on the disk");
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for line in bytes.chunks(60) {
        line.iter().for_each(|byte| text += &format!("{byte:02x}"));
        text.push('\n');
    }
    text
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pairs = digits
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).unwrap());
    pairs
        .map(|pair| u8::from_str_radix(pair, 16).unwrap())
        .collect()
}

/// Fails when a stored type was changed without a new number of the format. Schemas and options of
/// the fixture do not matter: its shape is replaced by that of today.
#[test]
fn the_fixture_of_the_format_is_read_and_written_as_it_was() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/engine/state.txt");
    let (rig, current) = made(6);
    let mut fixture = unhex(&std::fs::read_to_string(path).unwrap_or_default());
    if fixture.len() > HEAD {
        fixture[12..HEAD].copy_from_slice(&current[12..HEAD]);
        fixture = sealed(fixture);
    }
    let read = WorkerState::decode(&fixture, &built(&rig));
    assert!(
        read.as_ref().is_ok_and(|state| encoded(state) == fixture),
        "{:?}: stored types changed; raise STATE_FORMAT, and let {path} contain\n{}",
        read.err(),
        hex(&current)
    );
}
