use super::*;

/// A folder with a configuration and `secret.txt`.
fn folder(toml: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("leadpulse.toml"), toml).unwrap();
    std::fs::write(folder.path().join("secret.txt"), "hunter2\r\n").unwrap();
    folder
}

fn read(toml: &str, flags: &[(&str, &str)]) -> Result<Loaded, String> {
    let folder = folder(toml);
    let flags: Vec<(&str, String)> = flags.iter().map(|(k, v)| (*k, (*v).into())).collect();
    Loaded::read(&folder.path().join("leadpulse.toml"), &flags).map_err(|error| {
        let source = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", source.unwrap_or_default())
    })
}

/// A variable that every test process has.
const VARIABLE: &str = "CARGO_PKG_NAME";

#[test]
fn a_secret_is_read_by_reference_and_never_printed() {
    let toml = "
        [kafka.security]
        sasl = \"PLAIN\"
        username = { env = \"CARGO_PKG_NAME\" }
        password = { file = \"secret.txt\" }
        [kafka.client]
        \"client.id\" = \"seen\"
        \"ssl.keystore.password\" = { file = \"secret.txt\" }
        \"sasl.kerberos.kinit.cmd\" = \"unseen\"
        [registry]
        url = [\"https://one\", \"https://two\"]
        username = \"u\"
        password = { file = \"secret.txt\" }";
    let loaded = read(toml, &[]).unwrap();
    let security = &loaded.config.kafka.security;
    assert_eq!(security.password.as_ref().unwrap().reveal(), "hunter2");
    assert_eq!(security.username.as_deref(), Some(env!("CARGO_PKG_NAME")));
    assert_eq!(loaded.config.registry.as_ref().unwrap().url.len(), 2);
    let text = in_lines(&loaded.settings().unwrap());
    for shown in [
        "kafka.security.password = { file = \"secret.txt\" }",
        "kafka.security.username = { env = \"CARGO_PKG_NAME\" }",
        "kafka.client.client.id = \"seen\"",
        "registry.password = { file = \"secret.txt\" }",
    ] {
        assert!(text.contains(shown), "{shown}:\n{text}");
    }
    for hidden in ["hunter2", "unseen"] {
        assert!(!text.contains(hidden), "{hidden}:\n{text}");
        assert!(!format!("{loaded:?}").contains(hidden));
    }
}

#[test]
fn a_secret_in_the_file_is_refused_and_one_from_outside_is_not() {
    for (section, setting) in [
        (
            "[kafka.security]\nsasl = \"PLAIN\"\nusername = \"u\"\npassword = \"hunter2\"",
            "kafka.security.password",
        ),
        ("[registry]\ntoken = \"hunter2\"", "registry.token"),
        (
            "[kafka.client]\n\"sasl.password\" = \"hunter2\"",
            "kafka.client.sasl.password",
        ),
    ] {
        let error = read(section, &[]).unwrap_err();
        assert!(error.contains(setting), "{error}");
        assert!(error.contains("{ env =") && error.contains("{ file ="));
        assert!(!error.contains("hunter2"), "{error}");
    }
    let toml = "[kafka.security]\nsasl = \"PLAIN\"\nusername = \"u\"";
    let loaded = read(toml, &[("kafka.security.password", "1e5")]).unwrap();
    let password = loaded.config.kafka.security.password.clone().unwrap();
    assert_eq!(password.reveal(), "1e5");
    assert!(!in_lines(&loaded.settings().unwrap()).contains("1e5"));
}

#[test]
fn a_missing_variable_or_file_is_named_with_its_setting() {
    let cases = [
        (
            "[kafka]\nbrokers = { env = \"NO_SUCH_VARIABLE_HERE\" }",
            [
                "kafka.brokers",
                "the environment variable NO_SUCH_VARIABLE_HERE is not set",
            ],
        ),
        (
            "[registry]\ntoken = { file = \"no-such-file\" }",
            ["registry.token", "no-such-file cannot be read"],
        ),
        (
            "[[sources]]\ntable = \"t\"\ntopic = { env = \"NO_SUCH_VARIABLE_HERE\" }",
            ["sources[0].topic", "is not set"],
        ),
    ];
    for (toml, parts) in cases {
        let error = read(toml, &[]).unwrap_err();
        for part in parts {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}

#[test]
fn any_value_may_stand_elsewhere_whatever_its_type() {
    let folder = folder(
        "[engine]\nmax_records = { file = \"number\" }\nclock = { file = \"word\" }\n[kafka]\nrequest_timeout = { file = \"span\" }\nclose_timeout_ms = { file = \"number\" }",
    );
    for (file, text) in [("number", "20000\n"), ("word", "events"), ("span", "7s\n")] {
        std::fs::write(folder.path().join(file), text).unwrap();
    }
    let loaded = Loaded::read(&folder.path().join("leadpulse.toml"), &[]).unwrap();
    let config = &loaded.config;
    assert_eq!(config.engine.max_records, 20_000);
    assert_eq!(config.kafka.request_timeout_ms, 7_000);
    assert_eq!(config.kafka.close_timeout_ms, 20_000);
    let text = in_lines(&loaded.settings().unwrap());
    assert!(
        text.contains("kafka.close_timeout = { file = \"number\" }"),
        "{text}"
    );
}

#[test]
fn lists_of_domains_may_stand_in_a_file_or_a_variable() {
    let folder = folder(
        "[graph]\nown_domains = { file = \"ours.txt\" }\ncompetitor_domains = \"rival.com, other.com\"",
    );
    let text = "# all brands\nacme.com\n\n  acme.de   # the shop\nacme.fr,acme.it\n";
    std::fs::write(folder.path().join("ours.txt"), text).unwrap();
    let loaded = Loaded::read(&folder.path().join("leadpulse.toml"), &[]).unwrap();
    let graph = &loaded.config.graph;
    assert_eq!(
        graph.own_domains,
        ["acme.com", "acme.de", "acme.fr", "acme.it"]
    );
    assert_eq!(graph.competitor_domains, ["rival.com", "other.com"]);
    let effective = in_lines(&loaded.settings().unwrap());
    assert!(
        effective.contains("graph.own_domains = { file = \"ours.txt\" }"),
        "{effective}"
    );
}

#[test]
fn rates_of_currencies_are_checked_with_the_configuration() {
    let loaded = read(
        "[currency]\nbase = \"EUR\"\nrates = { USD = 0.92, JPY = 1 }",
        &[],
    )
    .unwrap();
    let rates = loaded.config.currency.checked().unwrap().unwrap();
    assert_eq!(rates.base(), "EUR");
    let error = read("[currency]\nbase = \"EUR\"\nrates = { USD = -1 }", &[]).unwrap_err();
    assert!(format!("{error:?}").contains("USD"), "{error:?}");
}

#[test]
fn maps_of_the_user_may_have_keys_named_like_references() {
    let toml = "[targets]\nenv = \"x\"\n[[sources]]\ntable = \"t\"\ncolumns = { file = \"id\" }";
    let loaded = read(toml, &[]).unwrap();
    assert_eq!(loaded.config.targets["env"], "x");
    assert_eq!(loaded.config.sources[0].columns["file"], "id".into());
}

#[test]
fn texts_and_numbers_are_read_as_the_setting_needs_them() {
    let toml = "[engine]\nmax_records = \"1000\"\n[kafka]\noutput_partitions = \"3\"\n[kafka.client]\n\"socket.timeout.ms\" = 15000\n\"socket.keepalive.enable\" = true";
    let flags = [
        ("kafka.group_id", "007"),
        ("kafka.request_timeout", "20s"),
        ("kafka.client.linger.ms", "5"),
    ];
    let mut loaded = read(toml, &flags[..2]).unwrap();
    let config = &loaded.config;
    assert_eq!(config.engine.max_records, 1_000);
    assert_eq!(config.kafka.output_partitions, 3);
    assert_eq!(config.kafka.group_id, "007");
    assert_eq!(config.kafka.client["socket.timeout.ms"], "15000");
    assert_eq!(config.kafka.client["socket.keepalive.enable"], "true");
    assert_eq!(config.kafka.request_timeout_ms, 20_000);
    loaded.origins.clear();
    assert!(in_lines(&loaded.settings().unwrap()).contains("kafka.request_timeout = \"20s\""));
}

#[test]
fn a_later_layer_rules_under_either_name_of_a_duration() {
    let (old, new) = ("kafka.request_timeout_ms", "kafka.request_timeout");
    let in_force = |toml: &str, path: &str, value: &str| {
        let loaded = read(toml, &[(path, value)]).unwrap();
        loaded.config.kafka.request_timeout_ms
    };
    assert_eq!(
        in_force("[kafka]\nrequest_timeout = \"1s\"", old, "200"),
        200
    );
    assert_eq!(
        in_force("[kafka]\nrequest_timeout_ms = 1000", new, "2s"),
        2_000
    );
}

#[test]
fn a_url_with_a_password_is_refused_without_repeating_it() {
    let cases = [
        ("[registry]\nurl = \"https://u:hunter2@x\"", "registry.url"),
        (
            "[kafka]\nbrokers = \"sasl://u:hunter2@x:9092\"",
            "kafka.brokers",
        ),
        (
            "[kafka.security]\nsasl = \"OAUTHBEARER\"\noauth = { token_url = \"https://u:hunter2@x/t\" }",
            "kafka.security.oauth.token_url",
        ),
    ];
    for (toml, setting) in cases {
        let error = read(toml, &[]).unwrap_err();
        assert!(error.contains(setting), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn all_faults_are_found_at_once() {
    let folder = folder(
        "[engine]\nmax_bytes = 5\n[graph]\nshards = 0\n[kafka]\ngroup_id = \"\"\noutput_partitions = 0\n[registry]\nurl = \"nowhere\"",
    );
    let path = folder.path().join("leadpulse.toml");
    let faults = Loaded::read_unchecked(&path, &[]).unwrap().faults();
    let text: Vec<String> = faults.iter().map(ToString::to_string).collect();
    for part in [
        "engine.",
        "graph.shards",
        "kafka.group_id",
        "kafka.output_partitions",
        "registry.url",
    ] {
        assert!(
            text.iter().any(|fault| fault.contains(part)),
            "{part}: {text:?}"
        );
    }
}

#[test]
fn every_known_path_is_a_setting() {
    let known = known_paths(&template());
    for path in [
        "kafka.brokers",
        "kafka.request_timeout",
        "kafka.security.ca",
        "kafka.security.oauth.token_url",
        "kafka.outputs.scores",
        "registry.url",
        "graph.half_lives",
        "server.listen",
        "schemas",
    ] {
        assert!(known.contains(path), "{path}: {known:?}");
    }
    assert!(std::env::var(VARIABLE).is_ok());
}

#[test]
fn tokens_of_clients_are_secrets_under_names_of_the_users_own() {
    let section = "[server.access.tokens.env]\nscope = \"operate\"\ntoken = ";
    let literal = read(&format!("{section}\"0123456789abcdef\""), &[]).unwrap_err();
    assert!(
        literal.contains("server.access.tokens.env.token"),
        "{literal}"
    );
    assert!(!literal.contains("0123456789"), "{literal}");
    let short = read(&format!("{section}{{ file = \"secret.txt\" }}"), &[]).unwrap_err();
    assert!(short.contains("at least 16 characters"), "{short}");
    // Its value, the name of this package, has more than sixteen characters.
    let toml = format!("{section}{{ env = \"{VARIABLE}\" }}");
    let loaded = read(&toml, &[]).unwrap();
    let client = &loaded.config.server.access.tokens["env"];
    assert_eq!(client.scope, leadpulse_server::Scope::Operate);
    let text = in_lines(&loaded.settings().unwrap());
    let shown = format!("server.access.tokens.env.token = {{ env = \"{VARIABLE}\" }}");
    assert!(text.contains(&shown), "{text}");
    assert!(!format!("{:?}", loaded.config.server).contains(env!("CARGO_PKG_NAME")));
}

#[test]
fn secrets_of_sinks_and_calls_are_needed_by_their_processes_only() {
    let toml = "
        [[sources]]
        table = \"activities\"
        topic = \"segment.calls\"
        [deliver.webhook.ops]
        url = \"https://receiver.example/\"
        secret = { env = \"NO_SUCH_VARIABLE\" }
        [ingest.segment]
        secret = { env = \"NO_SUCH_VARIABLE\" }
        topic = \"segment.calls\"";
    let loaded = read(toml, &[]).unwrap();
    for (found, setting) in [
        (loaded.sinks().map(drop), "deliver.webhook.ops.secret"),
        (loaded.intake().map(drop), "ingest.segment.secret"),
    ] {
        let error = found.unwrap_err().to_string();
        assert!(error.contains(setting), "{error}");
        assert!(error.contains("NO_SUCH_VARIABLE"), "{error}");
    }
    let there = toml.replace("NO_SUCH_VARIABLE", "CARGO_MANIFEST_DIR");
    let loaded = read(&there, &[]).unwrap();
    assert_eq!(loaded.sinks().unwrap().len(), 1);
    assert!(loaded.intake().is_ok());
    let literal = toml.replace("{ env = \"NO_SUCH_VARIABLE\" }", "\"0123456789abcdef\"");
    let error = read(&literal, &[]).unwrap_err();
    assert!(error.contains("must not stand in the file"), "{error}");
    let unread = there.replacen("segment.calls", "others", 1);
    let error = read(&unread, &[])
        .unwrap()
        .intake()
        .unwrap_err()
        .to_string();
    assert!(error.contains("no source reads"), "{error}");
    let address = "[deliver.slack.sales]\nurl = \"https://hooks.slack.com/x\"";
    assert!(read(address, &[]).is_err(), "the address is a secret");
    let misspelt = there.replace(
        "[ingest.segment]",
        "only = { tasks = [\"win\"] }\n[ingest.segment]",
    );
    let error = read(&misspelt, &[])
        .unwrap()
        .sinks()
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("webhook.ops.only.tasks") && error.contains("no task"),
        "{error}"
    );
    let none = read("", &[]).unwrap();
    assert!(none.sinks().is_err() && none.intake().is_err());
}
