//! The console of a made-up deployment whose scores wander, to look at without an engine:
//! `cargo run -p leadpulse-server --example console [software|wells]`, then open the address it prints.

use std::error::Error;
use std::thread::sleep;
use std::time::Duration;

use leadpulse_server::ServerOptions;

#[path = "../tests/console/past.rs"]
mod past;
#[path = "../tests/console/words.rs"]
mod words;
#[path = "../tests/console/world.rs"]
mod world;

/// Entities whose scores move in an epoch.
const MOVED: usize = 8;
/// Epochs between two alerts.
const ALERT_EVERY: u64 = 40;

fn main() -> Result<(), Box<dyn Error>> {
    let words = match std::env::args().nth(1).as_deref() {
        Some("wells") => &words::WELLS,
        _ => &words::SOFTWARE,
    };
    let mut world = world::World::start(&ServerOptions::default(), words);
    println!("{}", world.address(""));
    for epoch in 1_u64.. {
        sleep(Duration::from_millis(700));
        world.step(MOVED, 60_000, epoch.is_multiple_of(ALERT_EVERY));
    }
    Ok(())
}
