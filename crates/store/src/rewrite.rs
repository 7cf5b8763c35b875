//! A folder's database written anew, so that no byte of what was removed or replaced stays in it.
//!
//! A database keeps old values in its journal and files until it compacts them, and offers no way to
//! ask for all of that. So the state is written into a second database inside the folder, which
//! then takes the place of the first. A mark says how far that is; the next opening goes on from
//! there, whenever the process ended.
//!
//! | in `rewrite/` | an opening |
//! |---|---|
//! | no mark | removes the second database: it may be half written |
//! | `whole` | removes the first database, then moves the second |
//! | `moving` | moves what is left of the second |

use std::fs;
use std::io;
use std::path::Path;

use leadpulse_engine::ports::StoreError;

use crate::database::StateDatabase;

const FOLDER: &str = "rewrite";
const WHOLE: &str = "whole";
const MOVING: &str = "moving";
/// Pieces that are written at once.
const PORTION: usize = 4_096;

/// Writes the database of a folder anew, beside it: the next opening lets the second take the place
/// of the first, which is not to be written meanwhile, and of which no handle may be left then.
///
/// # Errors
/// Those of the folder.
pub(crate) fn copy(dir: &Path, database: &StateDatabase) -> Result<(), StoreError> {
    let inner = dir.join(FOLDER);
    if inner.exists() {
        // Of a try that failed.
        fs::remove_dir_all(&inner).map_err(|error| failed(dir, &error))?;
    }
    let second = StateDatabase::open_new(&inner)?;
    copy_pieces(database, &second)?;
    second.sync_all()?;
    drop(second);
    let mark = fs::File::create(inner.join(WHOLE));
    mark.and_then(|mark| mark.sync_all())
        .map_err(|error| failed(dir, &error))
}

fn copy_pieces(from: &StateDatabase, to: &StateDatabase) -> Result<(), StoreError> {
    let view = from.view();
    let mut portion: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let write = |portion: &mut Vec<(Vec<u8>, Vec<u8>)>| {
        let pieces = portion.iter().map(|(key, value)| (&key[..], &value[..]));
        let written = to.write_raw(&pieces.collect::<Vec<_>>());
        portion.clear();
        written
    };
    view.read(&mut |key, value| {
        portion.push((key.to_vec(), value.to_vec()));
        match portion.len() {
            PORTION => write(&mut portion),
            _ => Ok(()),
        }
    })?;
    write(&mut portion)?;
    match view.head()? {
        Some(head) => to.write(&leadpulse_engine::Pieces::default(), Some(&head)),
        None => Ok(()),
    }
}

/// Ends a rewriting that the process before began, before the folder is opened.
///
/// # Errors
/// Those of the folder.
pub(crate) fn go_on(dir: &Path) -> Result<(), StoreError> {
    let inner = dir.join(FOLDER);
    let ended = match (inner.join(WHOLE).exists(), inner.join(MOVING).exists()) {
        (_, true) => move_second(dir, &inner),
        (true, false) => {
            StateDatabase::remove_files(dir)?;
            fs::rename(inner.join(WHOLE), inner.join(MOVING))
                .and_then(|()| move_second(dir, &inner))
        }
        (false, false) if inner.exists() => fs::remove_dir_all(&inner),
        (false, false) => Ok(()),
    };
    ended.map_err(|error| failed(dir, &error))
}

fn move_second(dir: &Path, inner: &Path) -> io::Result<()> {
    for entry in fs::read_dir(inner)? {
        let entry = entry?;
        if entry.file_name() != MOVING {
            fs::rename(entry.path(), dir.join(entry.file_name()))?;
        }
    }
    fs::remove_dir_all(inner)
}

fn failed(dir: &Path, error: &io::Error) -> StoreError {
    StoreError::Io {
        place: dir.display().to_string(),
        fault: error.to_string(),
    }
}
