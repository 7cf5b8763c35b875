//! The console in real Chromium, on a server with a made-up deployment.
//!
//! Without Chromium the tests are skipped with a message, unless `REQUIRE_CHROMIUM=1`.
//! `LEADPULSE_PICTURES=FOLDER` writes a picture of every page.

#![allow(
    clippy::unwrap_used,
    reason = "clippy knows tests, but not their helpers"
)]

mod acts;
mod browser;
mod keyboard;
mod live;
mod pages;
mod past;
mod words;
mod world;

use leadpulse_server::ServerOptions;

use browser::{Browser, DESK};
use words::SOFTWARE;
use world::World;

/// Options of a server on a free port of this machine.
fn local() -> ServerOptions {
    ServerOptions {
        listen: "127.0.0.1:0".parse().unwrap(),
        ..ServerOptions::default()
    }
}

/// A ranking of the software deployment in a window of a desk; `None` without Chromium.
fn ranking() -> Option<(Browser, World)> {
    let mut browser = Browser::start()?;
    let world = World::start(&local(), &SOFTWARE);
    browser.resize(DESK);
    browser.open(&world.address(""));
    browser.wait_for("document.querySelectorAll('.rows li').length > 5");
    Some((browser, world))
}
