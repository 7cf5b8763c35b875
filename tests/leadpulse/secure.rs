//! Clusters with TLS, logins and permissions: scores over each of them, and one clear sentence for
//! each way to be refused.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};

use super::dataset::accounts;
use super::process::Ended;
use super::scenario::Scenario;
use crate::harness::{free_port_base, kafka, repository};

/// A broker with one listener for each way in. It ends with the test process.
struct SecureCluster {
    /// Plaintext, for the test's own readers.
    plain: String,
    /// SASL inside TLS.
    secure: String,
    /// TLS with certificates of both sides.
    mutual: String,
    /// Like `secure`, with a certificate that has expired.
    expired: String,
    /// OAUTHBEARER inside TLS.
    oauth: String,
    /// A free port for a registry.
    registry_port: u16,
    /// Certificates and keys.
    files: PathBuf,
}

/// Certificates of an authority of our own, in a folder.
fn make_certificates(folder: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "authority");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    for (name, last_year) in [("broker", 2200), ("expired", 2001), ("service", 2200)] {
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(last_year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap().pem();
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).unwrap();
        std::fs::write(folder.join(format!("{name}.crt")), &certificate).unwrap();
        let both = key.serialize_pem() + &certificate;
        std::fs::write(folder.join(format!("{name}.pem")), both).unwrap();
    }
    // An authority that signed nothing here.
    let key = KeyPair::generate().unwrap();
    let stranger = CertificateParams::default().self_signed(&key).unwrap();
    std::fs::write(folder.join("stranger.pem"), stranger.pem()).unwrap();
}

/// The cluster; `None` where there is no Kafka.
fn cluster() -> Option<&'static SecureCluster> {
    static CLUSTER: OnceLock<Option<SecureCluster>> = OnceLock::new();
    CLUSTER
        .get_or_init(|| {
            // Says whether the tools are there, and brings them where it may.
            kafka()?;
            Some(start_cluster())
        })
        .as_ref()
}

fn start_cluster() -> SecureCluster {
    let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("secure-kafka-{}", std::process::id()));
    let files = home.join("certificates");
    std::fs::create_dir_all(&files).unwrap();
    make_certificates(&files);
    let port = free_port_base();
    let output = kafka_script(&home)
        .arg("up")
        .env("PORT", port.to_string())
        .env("OWNER_PID", std::process::id().to_string())
        .env("SECURITY_DIR", &files)
        .env("SASL_USERS", "alice=alice-secret guest=guest-secret")
        .env("SUPER_USERS", "User:alice;User:CN=service;User:robot")
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "deploy/kafka/kafka.sh up failed");
    let at = |offset: u16| format!("127.0.0.1:{}", port + offset);
    SecureCluster {
        plain: at(0),
        secure: at(3),
        mutual: at(4),
        expired: at(5),
        oauth: at(6),
        registry_port: port + 9,
        files,
    }
}

fn kafka_script(home: &Path) -> Command {
    let mut command = Command::new(repository().join("deploy/kafka/kafka.sh"));
    command
        .env("LEADPULSE_KAFKA_HOME", home)
        .env("LEADPULSE_KAFKA_LIBS", repository().join(".kafka/libs"))
        .env_remove("PROXY_PORT");
    command
}

impl SecureCluster {
    /// A file as a setting.
    fn file(&self, name: &str) -> String {
        self.files.join(name).display().to_string()
    }

    /// A deployment with input, whose program has yet to be told how to connect.
    fn scenario(&self, name: &str) -> Scenario {
        let dataset = accounts();
        let scenario = Scenario::on(&self.plain, dataset, name, dataset.config.clone());
        scenario.create_inputs(2);
        scenario
    }

    /// Settings of a login with SCRAM.
    fn login(&self, user: &str, password: &str) -> Vec<(&'static str, String)> {
        vec![
            ("KAFKA__SECURITY__SASL", "SCRAM-SHA-512".into()),
            ("KAFKA__SECURITY__USERNAME", user.into()),
            ("KAFKA__SECURITY__PASSWORD", password.into()),
            ("KAFKA__SECURITY__CA", self.file("ca.pem")),
        ]
    }

    /// Starts a registry over https, which ends with the test process. `None` where the tools are
    /// missing and not required.
    fn start_registry(&self) -> Option<String> {
        const TOOLS_MISSING: i32 = 3;
        let required = std::env::var("REQUIRE_KAFKA").is_ok_and(|value| value == "1");
        let mut command = Command::new(repository().join("deploy/kafka/registry.sh"));
        if !required {
            command.env("NO_INSTALL", "1");
        }
        let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("registry-{}", std::process::id()));
        let output = command
            .arg("up")
            .env("LEADPULSE_REGISTRY_HOME", home)
            .env(
                "LEADPULSE_REGISTRY_LIBS",
                repository().join(".kafka/apicurio"),
            )
            .env("PORT", self.registry_port.to_string())
            .env("CERTIFICATE", self.file("broker.crt"))
            .env("KEY", self.file("broker.key"))
            .env("OWNER_PID", std::process::id().to_string())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        if !required && output.status.code() == Some(TOOLS_MISSING) {
            eprintln!("SKIPPED: the registry over https; see the line above for what is missing");
            return None;
        }
        assert!(
            output.status.success(),
            "deploy/kafka/registry.sh up failed"
        );
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs a class of Kafka's tools.
    fn tool(&self, class: &str, args: &[&str]) {
        let output = kafka_script(self.files.parent().unwrap())
            .args(["tool", class, "--bootstrap-server", &self.plain])
            .args(args)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{class}: {text}");
    }
}

fn connect(scenario: &mut Scenario, brokers: &str, settings: &[(&str, String)]) {
    scenario.set("KAFKA__BROKERS", brokers);
    for (name, value) in settings {
        scenario.set(name, value);
    }
}

/// Replays a batch and scores it, both over the connection of the scenario. Returns the number of
/// records that were accepted; how often cells are scored depends on where epochs are cut.
fn scores(scenario: &Scenario) -> i64 {
    let batch = &scenario.dataset.batches(&scenario.catalog)[0];
    let produced = scenario.replay(batch, &[]);
    let summary = scenario.run_to_end();
    assert_eq!(summary.records, produced);
    assert!(summary.scores > 0 && !scenario.scores().is_empty());
    summary.accepted
}

#[test]
fn scores_come_over_tls_and_scram_and_over_mutual_tls() {
    let Some(cluster) = cluster() else { return };
    let mut scram = cluster.scenario("scram");
    let mut login = cluster.login("alice", "alice-secret");
    connect(&mut scram, &cluster.secure, &login);
    let expected = scores(&scram);
    let checked = scram.start("config", &["check", "--connect"]).wait().done();
    assert!(
        checked.out.contains("lets user 'alice' in"),
        "{}",
        checked.out
    );

    for mechanism in ["SCRAM-SHA-256", "PLAIN"] {
        login[0].1 = mechanism.into();
        let mut other = cluster.scenario("sasl");
        connect(&mut other, &cluster.secure, &login);
        other.start("config", &["check", "--connect"]).wait().done();
    }

    let mut mutual = cluster.scenario("mutual");
    connect(
        &mut mutual,
        &cluster.mutual,
        &[
            ("KAFKA__SECURITY__CA", cluster.file("ca.pem")),
            ("KAFKA__SECURITY__CERTIFICATE", cluster.file("service.crt")),
            ("KAFKA__SECURITY__KEY", cluster.file("service.key")),
        ],
    );
    assert_eq!(scores(&mutual), expected);
}

#[test]
fn schemas_come_from_a_registry_over_https() {
    let Some(cluster) = cluster() else { return };
    let Some(url) = cluster.start_registry() else {
        return;
    };
    let mut scenario = cluster.scenario("https");
    let settings = [
        (
            "REGISTRY__URL",
            format!("[\"https://127.0.0.1:1\", {url:?}]"),
        ),
        ("REGISTRY__CA", cluster.file("ca.pem")),
    ];
    connect(
        &mut scenario,
        &cluster.secure,
        &cluster.login("alice", "alice-secret"),
    );
    connect(&mut scenario, &cluster.secure, &settings);
    let batch = &scenario.dataset.batches(&scenario.catalog)[0];
    let produced = scenario.replay(batch, &[]);
    let summary = scenario.run_to_end();
    assert_eq!((summary.records, summary.dead_lettered), (produced, 0));
    assert!(summary.scores > 0);
    let checked = scenario
        .start("config", &["check", "--connect"])
        .wait()
        .done();
    assert!(checked.out.contains("the registry at"), "{}", checked.out);

    scenario.set("REGISTRY__URL", &url);
    scenario.set("REGISTRY__CA", &cluster.file("stranger.pem"));
    let checked = scenario.start("config", &["check", "--connect"]).wait();
    let told = checked.failed(1, &["has 1 fault"]).out;
    assert!(
        told.contains("signed by an authority that is not trusted here"),
        "{told}"
    );
}

/// Answers requests for tokens with an unsigned one for user `robot`. Returns the URL.
fn token_endpoint() -> String {
    // {"alg":"none"} and the claims below, in base64url.
    const HEAD: &str = "eyJhbGciOiJub25lIn0";
    const CLAIMS: &str = "eyJzdWIiOiJyb2JvdCIsImlhdCI6MTcwMDAwMDAwMCwiZXhwIjo0MTAyNDQ0ODAwfQ";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/token", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap();
            let text = String::from_utf8_lossy(&request[..length]).to_lowercase();
            // leadpulse:oauth-secret
            let knows = text.contains("authorization: basic bgvhzhb1bhnlom9hdxrolxnly3jlda==");
            let (status, body) = if knows {
                let token = format!("{HEAD}.{CLAIMS}.");
                (
                    "200 OK",
                    format!(r#"{{"access_token":"{token}","expires_in":600}}"#),
                )
            } else {
                (
                    "401 Unauthorized",
                    r#"{"error":"invalid_client"}"#.to_owned(),
                )
            };
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
        }
    });
    url
}

#[test]
fn scores_come_over_oauthbearer_with_a_token_endpoint() {
    let Some(cluster) = cluster() else { return };
    let mut scenario = cluster.scenario("oauth");
    let mut settings = vec![
        ("KAFKA__SECURITY__SASL", "OAUTHBEARER".to_owned()),
        ("KAFKA__SECURITY__CA", cluster.file("ca.pem")),
        ("KAFKA__SECURITY__OAUTH__TOKEN_URL", token_endpoint()),
        ("KAFKA__SECURITY__OAUTH__CLIENT_ID", "leadpulse".to_owned()),
        (
            "KAFKA__SECURITY__OAUTH__CLIENT_SECRET",
            "oauth-secret".to_owned(),
        ),
    ];
    connect(&mut scenario, &cluster.oauth, &settings);
    let missing = scenario.run(&["--until-end"]).wait();
    missing.failed(1, &["cannot be created over OAUTHBEARER"]);
    scenario.create_outputs();
    scores(&scenario);

    settings[4].1 = "wrong".into();
    connect(&mut scenario, &cluster.oauth, &settings);
    refused(
        scenario.run(&["--until-end"]).wait(),
        &["refuses client 'leadpulse'", "client_secret"],
    );
}

/// Requires a failure that is told in one line, without the library's lines around it.
#[track_caller]
fn refused(ended: Ended, words: &[&str]) {
    let ended = ended.failed(1, words);
    let told: Vec<&str> = ended
        .err
        .lines()
        .filter(|line| line.starts_with("error:"))
        .collect();
    assert_eq!(told.len(), 1, "{}", ended.err);
    for word in words {
        assert!(told[0].contains(word), "{word:?} is not in {:?}", told[0]);
    }
    let noise: Vec<&str> = ended
        .err
        .lines()
        .filter(|line| line.contains("WARN") || line.contains("ERROR"))
        // librdkafka tells once of each partition that a transaction may not write to, and of a
        // producer that waits for the one before.
        .filter(|line| !line.contains("ADDPARTS") && !line.contains("GETPID"))
        .collect();
    assert!(noise.len() <= 2, "{}", ended.err);
    for secret in ["alice-secret", "not-the-password"] {
        assert!(!ended.err.contains(secret), "{}", ended.err);
    }
}

#[test]
fn a_denied_connection_ends_with_one_sentence() {
    let Some(cluster) = cluster() else { return };
    let login = || cluster.login("alice", "alice-secret");
    let with = |name: &'static str, value: String| {
        let mut settings = login();
        settings.retain(|(other, _)| *other != name);
        settings.push((name, value));
        settings
    };
    let cases = [
        (
            &cluster.secure,
            cluster.login("alice", "not-the-password"),
            vec![
                "refuses the login of user 'alice'",
                "kafka.security.username and password",
            ],
        ),
        (
            &cluster.expired,
            login(),
            vec!["is not trusted: its certificate has expired"],
        ),
        (
            &cluster.secure,
            with("KAFKA__SECURITY__CA", cluster.file("stranger.pem")),
            vec![
                "signed by an authority that is not trusted here",
                "kafka.security.ca",
            ],
        ),
        (
            &cluster.plain,
            login(),
            vec!["does not speak TLS on this port"],
        ),
        (
            &cluster.oauth,
            login(),
            vec!["does not offer SCRAM-SHA-512"],
        ),
        (
            &cluster.mutual,
            vec![("KAFKA__SECURITY__CA", cluster.file("ca.pem"))],
            vec!["does not accept this program's certificate"],
        ),
    ];
    for (brokers, settings, words) in cases {
        let mut scenario = cluster.scenario("denied");
        connect(&mut scenario, brokers, &settings);
        refused(scenario.run(&["--until-end"]).wait(), &words);
        // A service does not wait for ever either, but for a port that may be that of a broker
        // which is just stopping.
        if *brokers != cluster.plain {
            refused(scenario.run(&[]).wait(), &words);
        }
        let checked = scenario.start("config", &["check", "--connect"]).wait();
        let checked = checked.failed(1, &["has 1 fault"]);
        for word in &words {
            assert!(checked.out.contains(word), "{word}: {}", checked.out);
        }
    }
}

#[test]
fn a_denied_permission_ends_with_one_sentence() {
    let Some(cluster) = cluster() else { return };
    let mut scenario = cluster.scenario("acl");
    let batch = &scenario.dataset.batches(&scenario.catalog)[0];
    scenario.beside("writer").replay(batch, &[]);
    connect(
        &mut scenario,
        &cluster.secure,
        &cluster.login("guest", "guest-secret"),
    );
    let nobody = |words: &[&str]| refused(scenario.run(&["--until-end"]).wait(), words);
    nobody(&["user 'guest'", "may not create it"]);

    scenario.create_outputs();
    let outputs = scenario.options.group_id.clone();
    let prefix = ["--resource-pattern-type", "prefixed", "--topic", &outputs];
    let allow = |args: &[&str]| {
        let grant = ["--add", "--allow-principal", "User:guest"];
        cluster.tool("AclCommand", &[&grant, args].concat());
    };
    // Inputs and outputs have one prefix.
    allow(&[&prefix[..], &["--operation", "Describe"]].concat());
    nobody(&["deny user 'guest' access to transactional id '", "Write"]);

    let id = scenario.options.transactional_id.clone();
    let both = ["--operation", "Write", "--operation", "Describe"];
    allow(&[&["--transactional-id", id.as_str()][..], &both].concat());
    nobody(&["deny user 'guest' access to group '", "Read"]);

    allow(&["--group", &outputs, "--operation", "Read"]);
    nobody(&["deny user 'guest' access to topic '", "Read"]);

    allow(&[&prefix[..], &["--operation", "Read"]].concat());
    // An epoch's record goes into every transaction, scores only into some.
    nobody(&[
        "deny user 'guest' access to ",
        "topic",
        ".epochs'",
        "grant Write",
    ]);
}
