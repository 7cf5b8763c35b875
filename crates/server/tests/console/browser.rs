//! Chromium over the pipe of the DevTools protocol: a message is JSON and a zero byte.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Longest wait for an answer or a condition: a browser that says nothing fails its test.
const PATIENCE: Duration = Duration::from_secs(60);
/// Distance of two looks at a condition.
const LOOK: Duration = Duration::from_millis(50);

/// Names of the program on Linux systems.
const PROGRAMS: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

/// The program; `None` where there is none and `REQUIRE_CHROMIUM` is not 1.
///
/// # Panics
/// Without a program where it is required.
pub fn program() -> Option<PathBuf> {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = named.or_else(|| {
        let mut folders = std::env::split_paths(&path);
        folders.find_map(|folder| {
            let programs = PROGRAMS.map(|name| folder.join(name));
            programs.into_iter().find(|program| program.is_file())
        })
    });
    if found.is_none() {
        let required = std::env::var("REQUIRE_CHROMIUM").is_ok_and(|value| value == "1");
        assert!(
            !required,
            "there is no Chromium; deploy/browser.sh installs it as root on Debian"
        );
        eprintln!("SKIPPED: no Chromium; deploy/browser.sh installs it, CHROMIUM names another");
    }
    found
}

/// A browser with one page, ended when it is dropped.
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    session: Option<String>,
    last_id: u64,
    /// Events of the page since it was opened.
    pub events: Vec<Value>,
    profile: PathBuf,
}

/// A window: its width in pixels, and the theme of the system.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub width: u32,
    pub height: u32,
    pub is_dark: bool,
}

/// A window on a desk.
pub const DESK: Window = Window {
    width: 1280,
    height: 900,
    is_dark: false,
};
/// A window on a phone, in the dark.
pub const PHONE: Window = Window {
    width: 390,
    height: 844,
    is_dark: true,
};

impl Browser {
    /// Starts the program, if there is one.
    pub fn start() -> Option<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("leadpulse-console-{}-{number}", std::process::id());
        let profile = std::env::temp_dir().join(name);
        // The protocol's descriptors are 3 and 4: the shell puts the pipes of 0 and 1 there.
        let mut child = Command::new("sh")
            .args([
                "-c",
                "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1",
                "sh",
            ])
            .arg(program()?)
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
            ])
            .args([
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
                "--remote-debugging-pipe",
            ])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the browser starts");
        let to = child.stdin.take().unwrap();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let (sender, from) = channel();
        thread::spawn(move || {
            let mut bytes = Vec::new();
            while answers.read_until(0, &mut bytes).is_ok_and(|read| read > 0) {
                bytes.pop();
                let message = serde_json::from_slice(&bytes).unwrap_or_default();
                bytes.clear();
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self {
            child,
            to,
            from,
            session: None,
            last_id: 0,
            events: Vec::new(),
            profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach);
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        Some(browser)
    }

    /// Calls a method and waits for its answer.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        let answer = self.ask(method, parameters);
        answer.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// The answer of a method, or the refusal of the browser.
    fn ask(&mut self, method: &str, parameters: Value) -> Result<Value, Value> {
        self.last_id += 1;
        let mut message = json!({"id": self.last_id, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = serde_json::to_vec(&message).unwrap();
        bytes.push(0);
        self.to.write_all(&bytes).expect("the browser listens");
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let message = self.from.recv_timeout(left).expect("the browser answers");
            if message["id"] != json!(self.last_id) {
                self.events.push(message);
                continue;
            }
            return match &message["error"] {
                Value::Null => Ok(message["result"].clone()),
                error => Err(error.clone()),
            };
        }
    }

    /// The value of an expression; a promise is waited for.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({
            "expression": expression, "awaitPromise": true, "returnByValue": true,
        });
        let answer = self.call("Runtime.evaluate", parameters);
        assert!(
            answer["exceptionDetails"].is_null(),
            "{expression}: {}",
            answer["exceptionDetails"]
        );
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub fn wait_for(&mut self, expression: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.is_true(expression) {
            let body = "document.body?.innerText.slice(0, 2000)";
            assert!(
                Instant::now() < end,
                "never: {expression}\n{}\n{:?}",
                self.evaluate(body),
                self.faults()
            );
            thread::sleep(LOOK);
        }
    }

    /// True if an expression is; false also while one document gives way to the next.
    fn is_true(&mut self, expression: &str) -> bool {
        let parameters = json!({"expression": expression, "returnByValue": true});
        let answer = self.ask("Runtime.evaluate", parameters);
        answer.is_ok_and(|answer| answer["result"]["value"] == true)
    }

    /// Sets the window. Pages that are open follow.
    pub fn resize(&mut self, window: Window) {
        let size = json!({
            "width": window.width, "height": window.height,
            "deviceScaleFactor": 1, "mobile": false,
        });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let theme = if window.is_dark { "dark" } else { "light" };
        let features = json!([
            {"name": "prefers-color-scheme", "value": theme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]);
        self.call("Emulation.setEmulatedMedia", json!({"features": features}));
    }

    /// Opens a page and waits until its script has shown it.
    pub fn open(&mut self, address: &str) {
        self.events.clear();
        // The answer comes once the new document is in place of the old one.
        self.call("Page.navigate", json!({"url": address}));
        self.wait_for("document.body?.dataset.ready === 'true'");
    }

    /// Presses a key, such as `Tab` or `ArrowDown`.
    pub fn press(&mut self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "ArrowDown" => 40,
            "End" => 35,
            _ => 0,
        };
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({
                "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code,
            });
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = json!(text);
            }
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    /// Exceptions, errors of the console and failed requests of the page that is open.
    pub fn faults(&self) -> Vec<String> {
        let fault = |event: &Value| {
            let parameters = &event["params"];
            let level = parameters["entry"]["level"].as_str();
            match event["method"].as_str()? {
                "Runtime.exceptionThrown" => Some(parameters["exceptionDetails"].to_string()),
                "Runtime.consoleAPICalled" if parameters["type"] == "error" => {
                    Some(parameters["args"].to_string())
                }
                "Log.entryAdded" if level == Some("error") => Some(parameters["entry"].to_string()),
                _ => None,
            }
        };
        self.events.iter().filter_map(fault).collect()
    }

    /// Bytes that came over the network, heads included, since the page was opened or the events
    /// were cleared.
    pub fn received_bytes(&self) -> u64 {
        let bytes = |event: &Value| match event["method"].as_str()? {
            "Network.dataReceived" => {
                let parameters = &event["params"];
                let coded = parameters["encodedDataLength"].as_u64()?;
                // A stream says only how many bytes it has once they are decoded.
                Some(coded.max(match coded {
                    0 => parameters["dataLength"].as_u64()?,
                    _ => 0,
                }))
            }
            "Network.responseReceivedExtraInfo" => {
                let head = event["params"]["headers"].to_string();
                Some(head.len() as u64)
            }
            _ => None,
        };
        self.events.iter().filter_map(bytes).sum()
    }

    /// A picture of the window, compressed as WebP.
    pub fn picture(&mut self) -> Vec<u8> {
        let kind = json!({"format": "webp", "quality": 60});
        let answer = self.call("Page.captureScreenshot", kind);
        STANDARD.decode(answer["data"].as_str().unwrap()).unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        // Its helpers may still write for a moment; what stays lies in the folder for such files.
        drop(std::fs::remove_dir_all(&self.profile));
    }
}
