//! The program as a child process: lines, exit code, sudden death.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// A limit above the need of any process, on a slow machine with all of the data.
pub const PATIENCE: Duration = Duration::from_secs(1200);

/// Exit code and output of a process that ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Exit code; `None` when a signal ended the process.
    pub code: Option<i32>,
    /// Text of standard output.
    pub out: String,
    /// Text of standard error: log and errors.
    pub err: String,
}

impl Ended {
    fn take(&mut self, line: Line) {
        match line {
            Line::Out(line) => self.out.push_str(&(line + "\n")),
            Line::Err(line) => self.err.push_str(&(line + "\n")),
        }
    }

    /// Requires exit code 0.
    #[track_caller]
    pub fn done(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self
    }

    /// Requires an exit code, and words on standard error.
    #[track_caller]
    pub fn failed(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.out, self.err);
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not in:\n{}", self.err);
        }
        self
    }

    /// The rest of the line of standard output that starts with a word.
    #[track_caller]
    pub fn line(&self, word: &str) -> &str {
        let line = self.out.lines().find_map(|line| line.strip_prefix(word));
        line.unwrap_or_else(|| panic!("no line starts with {word:?}:\n{}", self.out))
            .trim()
    }
}

enum Line {
    Out(String),
    Err(String),
}

/// A process that runs, and is killed when this handle is dropped.
pub struct Process {
    child: Child,
    lines: Receiver<Line>,
    ended: Ended,
}

/// The program with arguments and environment, in the repository's root. The environment of the
/// test does not reach the program's configuration. `LEADPULSE_TEST_BINARY` names another build of
/// the program for the same tests.
pub fn start(args: &[&str], environment: &[(String, String)]) -> Process {
    let program = std::env::var("LEADPULSE_TEST_BINARY")
        .unwrap_or_else(|_| env!("CARGO_BIN_EXE_leadpulse").into());
    let mut command = Command::new(program);
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("LEADPULSE_") || name == "RUST_LOG")
    {
        command.env_remove(name);
    }
    command
        .args(args)
        .envs(environment.iter().cloned())
        .current_dir(crate::harness::repository());
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, lines) = channel();
    forward(child.stdout.take().unwrap(), sender.clone(), Line::Out);
    forward(child.stderr.take().unwrap(), sender, Line::Err);
    Process {
        child,
        lines,
        ended: Ended {
            code: None,
            out: String::new(),
            err: String::new(),
        },
    }
}

/// Runs the program to its end.
pub fn leadpulse(args: &[&str]) -> Ended {
    start(args, &[]).wait()
}

/// A path as an argument.
pub fn arg(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn forward(from: impl Read + Send + 'static, to: Sender<Line>, kind: fn(String) -> Line) {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if to.send(kind(line)).is_err() {
                return;
            }
        }
    });
}

impl Process {
    /// Takes the next line; `None` when there will be no more.
    fn next_line(&mut self, deadline: Instant) -> Option<()> {
        match self
            .lines
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            Ok(line) => self.ended.take(line),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => panic!(
                "it takes longer than {PATIENCE:?}:\n{}{}",
                self.ended.out, self.ended.err
            ),
        }
        Some(())
    }

    /// Waits until the process logs these words. False if it ends before.
    pub fn logs(&mut self, words: &str) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while !self.ended.err.contains(words) {
            if self.next_line(deadline).is_none() {
                return false;
            }
        }
        true
    }

    /// Waits for the next line, for a moment at most. False when the process has ended.
    pub fn runs_on(&mut self) -> bool {
        let soon = Instant::now() + Duration::from_millis(50);
        while let Ok(line) = self
            .lines
            .recv_timeout(soon.saturating_duration_since(Instant::now()))
        {
            self.ended.take(line);
        }
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for the end of the process.
    pub fn wait(mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        while self.next_line(deadline).is_some() {}
        self.ended.code = self.child.wait().unwrap().code();
        self.ended.clone()
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .arg(signal)
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Lets the process run for a while. False when it has ended.
    pub fn runs_for(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while Instant::now() < end && self.runs_on() {}
        self.runs_on()
    }

    /// Freezes the process (SIGSTOP), which keeps its connections.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets a frozen process go on (SIGCONT).
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    /// The last lines of standard error so far.
    pub fn last_lines(&self, count: usize) -> String {
        let lines: Vec<&str> = self.ended.err.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    /// Asks the process to stop (SIGTERM) and waits for the end.
    pub fn stop(self) -> Ended {
        self.signal("-TERM");
        self.wait()
    }

    /// Ends the process at once (SIGKILL).
    pub fn kill(mut self) -> Ended {
        self.child.kill().unwrap();
        self.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails when the process has ended, as it should have.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
