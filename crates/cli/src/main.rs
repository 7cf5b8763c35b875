//! The `leadpulse` command: arguments, configuration, wiring. Exit codes: 0 done, 1 failed, 2 usage.

#[macro_use]
mod output;

mod commands;
mod progress;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

// glibc returns large tensors to the system after every use; that triples the time of a batch.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Keeps the probability that every account and lead will buy up to date, event by event.
#[derive(Parser)]
#[command(name = "leadpulse", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Logs as JSON lines.
    #[arg(long, global = true)]
    log_json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// A whole market in one process: broker, producers, engine, HTTP. Prints scores as they move and alerts as they fire.
    Demo(commands::demo::Demo),
    /// Scores what arrives, until stopped; with --until-end what the topics hold.
    Run(commands::run::Run),
    /// Computes committed epochs again and compares: an audit that changes nothing.
    Verify(commands::verify::Verify),
    /// Trains a bundle on files: every task of the configuration, or those named.
    Train(commands::train::Train),
    /// Scores past moments from files, and judges the scores against labels given or against what happened.
    Backtest(commands::backtest::Backtest),
    /// Prints why entities had their scores at a past moment, from files.
    Explain(commands::explain::Explain),
    /// Produces files to topics as producers would, in time order.
    Replay(commands::replay::Replay),
    /// Plans a query; with data, counts its labels.
    Query(commands::query::Query),
    /// Writes the files of a simulated market.
    Simulate(commands::simulate::Simulate),
    /// Works on schemas folders.
    #[command(subcommand)]
    Schema(commands::schema::Schema),
    /// Prints the effective configuration and where each value came from.
    Config(commands::ConfigArgument),
}

impl Command {
    fn run(self) -> anyhow::Result<()> {
        match self {
            Command::Demo(command) => command.run(),
            Command::Run(command) => command.run(),
            Command::Verify(command) => command.run(),
            Command::Train(command) => command.run(),
            Command::Backtest(command) => command.run(),
            Command::Explain(command) => command.run(),
            Command::Replay(command) => command.run(),
            Command::Query(command) => command.run(),
            Command::Simulate(command) => command.run(),
            Command::Schema(command) => command.run(),
            Command::Config(argument) => {
                say!("{}", argument.load(&[])?.effective()?.trim_end());
                Ok(())
            }
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter =
        tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    let log = log.with_ansi(std::io::stderr().is_terminal());
    if arguments.log_json {
        log.json().init()
    } else {
        log.init()
    }
    match arguments.command.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", output::explain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Where the shipped configuration is, relative to the working directory.
fn default_config() -> PathBuf {
    PathBuf::from("leadpulse.toml")
}
