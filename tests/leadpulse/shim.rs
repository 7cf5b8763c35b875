//! Faults of files, preloaded into the program: `tests/shim/faults.c`.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::scenario::Scenario;
use crate::harness::repository;

/// `ENOSPC`: no space is left.
pub const NO_SPACE: i64 = 28;
/// `EIO`: an error of the device.
pub const DEVICE_ERROR: i64 = 5;

/// A number that the test sets while the program runs.
#[derive(Clone, Copy, Debug)]
pub enum Knob {
    /// The error of every write below the folder, 0 for none.
    Write,
    /// The error of every sync below the folder, 0 for none.
    Sync,
}

/// The preloaded library with its numbers.
pub struct Shim {
    control: std::fs::File,
    /// Contains the file of the numbers.
    _dir: tempfile::TempDir,
}

impl Shim {
    /// Preloads the library into the processes of a deployment. Files fail below `under`.
    pub fn preloaded(scenario: &mut Scenario, under: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("numbers");
        std::fs::write(&path, [0; 16]).unwrap();
        let variables = [
            ("LD_PRELOAD", library().as_path()),
            ("FAULTS_CONTROL", &path),
            ("FAULTS_UNDER", under),
        ];
        for (name, value) in variables {
            scenario.set_variable(name, &value.to_string_lossy());
        }
        let control = std::fs::File::options().write(true).open(&path).unwrap();
        Self { control, _dir: dir }
    }

    pub fn set(&self, knob: Knob, value: i64) {
        let at = 8 * knob as u64;
        self.control.write_all_at(&value.to_ne_bytes(), at).unwrap();
    }
}

/// The library, compiled once by `cc`, which building the program needs as well.
fn library() -> &'static PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let to = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("faults-{}.so", std::process::id()));
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(&to)
            .arg(repository().join("tests/shim/faults.c"))
            .arg("-ldl")
            .status();
        assert!(
            compiled.is_ok_and(|status| status.success()),
            "cc cannot compile tests/shim/faults.c"
        );
        to
    })
}
