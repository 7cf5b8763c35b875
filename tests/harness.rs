//! A real Kafka for the tests that need one.
//!
//! [`kafka`] gives the bootstrap servers of `LEADPULSE_TEST_BROKERS`, or starts a broker through
//! `deploy/kafka/kafka.sh`, once per test process and on a free port. The broker ends with the
//! process. Without Java and Maven the tests are skipped with a message, unless `REQUIRE_KAFKA=1`.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Addresses of a cluster for its clients.
pub struct Bootstrap {
    /// `host:port`, separated by commas.
    pub servers: String,
    /// The way in for clients behind a proxy; `None` on a cluster that the tests did not start.
    #[allow(dead_code, reason = "the benches have no proxy")]
    pub proxied: Option<Proxied>,
}

/// A listener of the broker that is advertised at a proxy's address.
#[allow(dead_code, reason = "the benches have no proxy")]
pub struct Proxied {
    /// Address of the broker, for the proxy.
    pub broker: SocketAddr,
    /// Listener of the proxy, for clients: bound, but not accepted from yet.
    pub listener: TcpListener,
}

/// The cluster to test on; `None` means: skip the test.
pub fn kafka() -> Option<&'static Bootstrap> {
    static CLUSTER: OnceLock<Option<Bootstrap>> = OnceLock::new();
    CLUSTER
        .get_or_init(|| match std::env::var("LEADPULSE_TEST_BROKERS") {
            Ok(servers) => Some(Bootstrap {
                servers,
                proxied: None,
            }),
            Err(_) => start(),
        })
        .as_ref()
}

/// A name that no other test, run or process uses.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!(
        "{name}-{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

/// The repository's root, from any of its crates.
pub fn repository() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest
        .ancestors()
        .find(|folder| folder.join("deploy/kafka/kafka.sh").exists())
        .expect("the crate lies in the repository")
        .to_owned()
}

/// kafka.sh's exit code when Java or Maven is not installed.
const TOOLS_MISSING: i32 = 3;

fn start() -> Option<Bootstrap> {
    let required = std::env::var("REQUIRE_KAFKA").is_ok_and(|value| value == "1");
    let repository = repository();
    let home =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("kafka-{}", std::process::id()));
    let mut command = Command::new(repository.join("deploy/kafka/kafka.sh"));
    if !required {
        command.env("NO_INSTALL", "1");
    }
    let port = free_port_base();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has free ports");
    let proxy_port = listener
        .local_addr()
        .expect("a bound socket has an address")
        .port();
    let output = command
        .arg("up")
        .env("LEADPULSE_KAFKA_HOME", &home)
        .env("LEADPULSE_KAFKA_LIBS", repository.join(".kafka/libs"))
        .env("PORT", port.to_string())
        .env("PROXY_PORT", proxy_port.to_string())
        .env("OWNER_PID", std::process::id().to_string())
        .stderr(Stdio::inherit())
        .output()
        .expect("kafka.sh can be run");
    if !required && output.status.code() == Some(TOOLS_MISSING) {
        eprintln!(
            "SKIPPED: the tests on real Kafka; see the line above for what is missing (REQUIRE_KAFKA=1 makes this a failure)"
        );
        return None;
    }
    let servers = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(
        output.status.success() && !servers.is_empty(),
        "deploy/kafka/kafka.sh up failed ({}); its messages are above",
        output.status
    );
    let broker = (Ipv4Addr::LOCALHOST, port + 2).into();
    Some(Bootstrap {
        servers,
        proxied: Some(Proxied { broker, listener }),
    })
}

/// A port that is free together with the next two: broker, controller, and the broker's listener
/// for a proxy.
pub fn free_port_base() -> u16 {
    const STEP: u16 = 50;
    const BASES: u16 = 400;
    // Below the ports that the system gives to connections: a broker that is down for a moment must
    // find its port free again.
    let base = |number: u32| 12_000 + STEP * (number % u32::from(BASES)) as u16;
    let is_free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let tried = (0..).map(|attempt| base(std::process::id().wrapping_mul(7).wrapping_add(attempt)));
    tried
        .take(usize::from(BASES))
        .find(|port| (*port..*port + STEP).all(is_free))
        .expect("some ports of loopback are free")
}
