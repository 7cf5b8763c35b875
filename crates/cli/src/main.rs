//! The `leadpulse` command. Exit codes: 0 done, 1 failed, 2 usage.
//!
//! Decision: docs/decisions/0025-one-profile-one-librdkafka-one-allocator.md

#[macro_use]
mod output;

mod alert_figures;
mod alert_table;
mod backtest_figures;
mod commands;
mod dashboard;
mod data_report;
#[cfg(test)]
mod documented;
mod evaluation;
mod history_jobs;
mod label_figures;
mod nearest;
mod progress;
mod score_records;
mod shipped;
mod simulation;
mod top;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

// glibc returns large tensors to the system after every use; that triples the time of a batch.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keeps the probability that every account and lead will buy up to date, event by event.
#[derive(Parser)]
#[command(name = "leadpulse", version)]
struct Arguments {
    #[command(subcommand)]
    command: CommandArguments,
    /// Logs as JSON lines.
    #[arg(long, global = true)]
    log_json: bool,
}

#[derive(clap::Subcommand)]
enum CommandArguments {
    /// Writes schemas, a configuration and a first task, inferred from data files; without --from
    /// those of the shipped CRM.
    Init(commands::init::InitArguments),
    /// A whole market in one process: broker, producers, engine, HTTP. Prints scores as they move
    /// and alerts as they fire.
    Demo(commands::demo::DemoArguments),
    /// Scores records as they arrive, until stopped; with --until-end, the records that the topics
    /// hold.
    Run(commands::run::RunArguments),
    /// Sends committed alerts and scores on to webhooks, Slack, Salesforce and HubSpot, until
    /// stopped.
    Deliver(commands::deliver::DeliverArguments),
    /// Takes calls of Segment, HubSpot, Marketo and other programs as records of input topics, until
    /// stopped.
    Ingest(commands::ingest::IngestArguments),
    /// Shows a running worker: phase, lag, rates, waiting cells, sinks, newest alerts.
    Top(commands::top::TopArguments),
    /// Computes committed epochs again and compares: an audit that changes nothing.
    Verify(commands::verify::VerifyArguments),
    /// Trains a bundle on files: every task of the configuration, or those named.
    Train(commands::train::TrainArguments),
    /// Scores past moments from files, and judges the scores against labels given or against what
    /// happened.
    Backtest(commands::backtest::BacktestArguments),
    /// Works on the registry of models: adds, compares, promotes, rolls back.
    #[command(subcommand)]
    Models(commands::models::ModelsArguments),
    /// Asks the running worker to go on under the configuration as it is now, with the champion.
    Apply(commands::models::ApplyArguments),
    /// Works on alerts: tries policies on files.
    #[command(subcommand)]
    Alerts(commands::alerts::AlertsArguments),
    /// Works on reports: judges the scores that a deployment emitted.
    #[command(subcommand)]
    Report(commands::report::ReportArguments),
    /// Prints the reasons for entities' scores at a past moment, from files.
    Explain(commands::explain::ExplainArguments),
    /// Produces files to topics as producers would, in time order.
    Replay(commands::replay::ReplayArguments),
    /// Judges records of a file or topic as a run would, and writes nothing.
    Validate(commands::validate::ValidateArguments),
    /// Works on dead letters: lists, shows and replays records that could not be used.
    #[command(subcommand)]
    Dlq(commands::dlq::DlqArguments),
    /// Erases a person: sends requests, lists proofs.
    #[command(subcommand)]
    Erase(commands::erase::EraseArguments),
    /// Plans a query; with data, counts its labels.
    Query(commands::query::QueryArguments),
    /// Writes the files of a simulated market.
    Simulate(commands::simulate::SimulateArguments),
    /// Prints the metrics of a worker: names, kinds, labels, meaning.
    Metrics(commands::metrics::MetricsArguments),
    /// Works on schemas folders.
    #[command(subcommand)]
    Schema(commands::schema::SchemaArguments),
    /// Prints the effective configuration and the origin of each value; with `check` looks for
    /// faults.
    Config(commands::config::ConfigArguments),
    /// Prints a script that completes commands in a shell.
    Completions(commands::completions::CompletionsArguments),
    /// Writes manual pages to a folder.
    Man(commands::completions::ManArguments),
}

impl CommandArguments {
    fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Init(command) => command.run(),
            Self::Demo(command) => command.run(),
            Self::Run(command) => command.run(),
            Self::Deliver(command) => command.run(),
            Self::Ingest(command) => command.run(),
            Self::Top(command) => command.run(),
            Self::Verify(command) => command.run(),
            Self::Train(command) => command.run(),
            Self::Backtest(command) => command.run(),
            Self::Models(command) => command.run(),
            Self::Apply(command) => command.run(),
            Self::Alerts(command) => command.run(),
            Self::Report(command) => command.run(),
            Self::Explain(command) => command.run(),
            Self::Replay(command) => command.run(),
            Self::Validate(command) => command.run(),
            Self::Dlq(command) => command.run(),
            Self::Erase(command) => command.run(),
            Self::Query(command) => command.run(),
            Self::Simulate(command) => command.run(),
            Self::Metrics(command) => command.run(),
            Self::Schema(command) => command.run(),
            Self::Config(command) => command.run(),
            Self::Completions(command) => command.run(),
            Self::Man(command) => command.run(),
        }
    }
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return refuse_usage(&error),
    };
    // The verifier logs each certificate that it refuses; the error that follows says so in words.
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| "info,rustls_platform_verifier=off,fjall=warn,lsm_tree=warn".into());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    let log = log.with_ansi(wants_colour());
    if arguments.log_json {
        log.json().init()
    } else {
        log.init()
    }
    let log_json = arguments.log_json;
    match arguments.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let words = output::explain(&error);
            match log_json {
                true => eprintln!("{}", output::failure_json(&now(), &words)),
                false => eprintln!("error: {words}"),
            }
            ExitCode::FAILURE
        }
    }
}

/// Prints why arguments are not understood, or the help that they ask for.
fn refuse_usage(error: &clap::Error) -> ExitCode {
    let is_json = std::env::args_os().any(|argument| argument == "--log-json");
    if !error.use_stderr() || !is_json {
        error.exit();
    }
    let words = error.to_string();
    let words = words.strip_prefix("error: ").unwrap_or(&words);
    eprintln!("{}", output::failure_json(&now(), words.trim_end()));
    ExitCode::from(2)
}

/// Colours belong on a terminal, unless `NO_COLOR` is set to anything (<https://no-color.org>).
fn wants_colour() -> bool {
    let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && !is_refused
}

/// Date and time, RFC 3339 in UTC.
fn now() -> String {
    use leadpulse_engine::ports::Clock;
    let now_ms = leadpulse_deployment::SystemClock.wall_ms();
    jiff::Timestamp::from_millisecond(now_ms).map_or_else(|_| now_ms.to_string(), |t| t.to_string())
}

/// Path of the shipped configuration, relative to the working directory.
fn default_config() -> PathBuf {
    PathBuf::from("leadpulse.toml")
}
