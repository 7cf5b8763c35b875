use super::*;

fn check(toml: &str) -> Result<Vec<SinkSpec>, String> {
    let options: DeliverOptions = toml::from_str(toml).map_err(|error| error.to_string())?;
    options.checked().map_err(|error| error.to_string())
}

const WEBHOOK: &str = r#"
    [webhook.ops]
    url = "https://receiver.example/alerts"
    secret = "0123456789abcdef"
"#;

const SLACK: &str = r#"
    [slack.sales]
    url = "https://hooks.slack.com/services/T0/B0/sekrit"
"#;

const SALESFORCE: &str = r#"
    [salesforce.accounts]
    url = "https://acme.my.salesforce.com"
    client_id = "id"
    client_secret = "sekrit"
    object = "Account"
    external_id = "Leadpulse_Key__c"
    task = "wins"
    fields = { Leadpulse_Score__c = "score" }
"#;

const HUBSPOT: &str = r#"
    [hubspot.companies]
    token = "sekrit"
    object = "companies"
    task = "wins"
    fields = { leadpulse_score = "score" }
"#;

#[test]
fn each_section_is_a_sink_with_a_name_of_its_own() {
    let found = check(&[WEBHOOK, SLACK, SALESFORCE, HUBSPOT].concat()).unwrap();
    let names: Vec<&str> = found.iter().map(|sink| sink.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "webhook.ops",
            "slack.sales",
            "salesforce.accounts",
            "hubspot.companies"
        ]
    );
    let token_url = &found[2].tokens.as_ref().unwrap().token_url;
    assert_eq!(
        token_url,
        "https://acme.my.salesforce.com/services/oauth2/token"
    );
    assert!(check("").unwrap().is_empty());
}

#[test]
fn a_setting_that_cannot_work_is_named() {
    let cases = [
        (WEBHOOK, "url = \"https", "url = \"ftp", "webhook.ops.url"),
        (
            WEBHOOK,
            "//receiver",
            "//user:pw@receiver",
            "webhook.ops.url",
        ),
        (WEBHOOK, "0123456789abcdef", "short", "webhook.ops.secret"),
        (
            WEBHOOK,
            "[webhook.ops]",
            "[webhook.\"O p s\"]",
            "webhook.O p s",
        ),
        (
            WEBHOOK,
            "[webhook.ops]",
            "[webhook.ops]\nrate = 0",
            "webhook.ops.rate",
        ),
        (
            WEBHOOK,
            "[webhook.ops]",
            "[webhook.ops]\ntimeout = \"1ms\"",
            "webhook.ops.timeout",
        ),
        (
            WEBHOOK,
            "[webhook.ops]",
            "[webhook.ops]\nsecrets = \"x\"",
            "unknown field `secrets`",
        ),
        (
            SLACK,
            "[slack.sales]",
            "[slack.sales]\ntemplate = \"{subject}\"",
            "slack.sales.template",
        ),
        (
            SLACK,
            "[slack.sales]",
            "[slack.sales]\ndigest = { most = 46 }",
            "slack.sales.digest.most",
        ),
        (
            SALESFORCE,
            "\"Account\"",
            "\"Account/../x\"",
            "salesforce.accounts.object",
        ),
        (
            SALESFORCE,
            "\"score\"",
            "\"points\"",
            "salesforce.accounts.fields.Leadpulse_Score__c",
        ),
        (
            SALESFORCE,
            "task = \"wins\"",
            "",
            "salesforce.accounts.task",
        ),
        (
            SALESFORCE,
            "Leadpulse_Score__c =",
            "Leadpulse_Key__c =",
            "salesforce.accounts.fields",
        ),
        (
            SALESFORCE,
            "\"id\"",
            "\"\"",
            "salesforce.accounts.client_id",
        ),
        (
            SALESFORCE,
            "task",
            "batch = 201\ntask",
            "salesforce.accounts.batch",
        ),
        (
            HUBSPOT,
            "task",
            "batch = 101\ntask",
            "hubspot.companies.batch",
        ),
        (
            HUBSPOT,
            "task",
            "key = \"nobody\"\ntask",
            "hubspot.companies.key",
        ),
        (HUBSPOT, "\"sekrit\"", "\"\"", "hubspot.companies.token"),
    ];
    for (toml, from, to, word) in cases {
        assert!(toml.contains(from), "{from}");
        let error = check(&toml.replacen(from, to, 1)).err().unwrap_or_default();
        assert!(error.contains(word), "{to}: {error:?}");
        assert!(!error.contains("sekrit"), "{error}");
    }
}

#[test]
fn secrets_of_sinks_are_never_printed() {
    let toml = [SLACK, SALESFORCE, HUBSPOT].concat();
    let options: DeliverOptions = toml::from_str(&toml).unwrap();
    let printed = format!("{options:?} {}", serde_json::to_string(&options).unwrap());
    assert!(
        printed.contains("***") && !printed.contains("sekrit"),
        "{printed}"
    );
}

/// The manual's blocks of configuration, with values in place of references.
fn manual() -> Vec<String> {
    let text = include_str!("../../../../docs/deliver.md");
    let blocks = text.split("```toml\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap_or_default());
    let resolved = blocks.map(|block| {
        let lines = block.lines().map(|line| match line.split_once(" = {") {
            Some(("url", _)) => "url = \"https://hooks.example/x\"".to_owned(),
            Some((name @ ("secret" | "token" | "client_secret"), _)) => {
                format!("{name} = \"0123456789abcdef\"")
            }
            _ => line.to_owned(),
        });
        let lines: Vec<String> = lines.collect();
        lines.join("\n")
    });
    resolved.collect()
}

#[test]
fn sections_of_the_manual_are_sinks() {
    let blocks = manual();
    assert_eq!(blocks.len(), 4);
    for block in blocks {
        let found = check(&block.replace("[deliver.", "["));
        assert_eq!(found.map(|sinks| sinks.len()), Ok(1), "{block}");
    }
}
