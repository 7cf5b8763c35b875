//! `leadpulse top`: the figures of a running worker, refreshed in the terminal.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use console::{Term, truncate_str};

use leadpulse_deployment::{Loaded, SystemClock};
use leadpulse_engine::ports::Clock;

use crate::commands::{ConfigArgument, parse_duration};
use crate::output::JsonArgument;
use crate::top::figures::Figures;
use crate::top::lines::lines;
use crate::top::reader::{Answers, Reader};

/// Arguments of `top`.
#[derive(clap::Args)]
pub struct TopArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// URL of the worker, with its base path; from server.listen of the configuration by default.
    #[arg(long)]
    url: Option<String>,
    /// URL of `leadpulse deliver`; from deliver.listen by default, where sinks are configured.
    #[arg(long)]
    deliver_url: Option<String>,
    /// File with a bearer token of scope read, where the worker asks for one.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// PEM file with the certificates that https is trusted by, instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Time between two readings, which rates are of.
    #[arg(long, value_parser = parse_duration, default_value = "2s", value_name = "DURATION")]
    every: i64,
    /// Print one reading and end; so it is off a terminal, and with --json.
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    json: JsonArgument,
}

/// The addresses to ask.
struct Addresses {
    worker: String,
    sinks: Option<String>,
}

impl TopArguments {
    pub fn run(self) -> Result<()> {
        self.json.begin();
        let addresses = self.addresses()?;
        let token = self.token_file.as_deref();
        let reader = Reader::new(&addresses.worker, addresses.sinks, token, self.ca.clone())?;
        let every = Duration::from_millis(self.every.max(0) as u64);
        let terminal = Term::stdout();
        if !self.once && !self.json.is_wanted() && terminal.is_term() {
            return refresh(&reader, every, &terminal);
        }
        let before = reader.ask(&SystemClock)?;
        SystemClock.wait(every);
        let figures = Figures::between(reader.worker(), &before, reader.ask(&SystemClock)?);
        for line in lines(&figures) {
            say!("{line}");
        }
        self.json.print(|| Ok(serde_json::to_value(&figures)?))
    }

    /// The addresses given, and of those that are not given the ones of the configuration.
    fn addresses(&self) -> Result<Addresses> {
        // A URL is enough: the worker may run elsewhere, with a configuration that is not here.
        if let Some(worker) = &self.url {
            return Ok(Addresses {
                worker: worker.clone(),
                sinks: self.deliver_url.clone(),
            });
        }
        let Loaded { config, .. } = self.config.load(&[])?;
        let server = &config.server;
        let Some(worker) = url_of(server.listen) else {
            bail!(
                "server.listen is {}: its port is chosen at the start; pass --url URL",
                server.listen
            )
        };
        let configured = match config.deliver.is_empty() {
            true => None,
            false => url_of(config.deliver.listen),
        };
        Ok(Addresses {
            worker: worker + &server.base_path,
            sinks: self.deliver_url.clone().or(configured),
        })
    }
}

/// URL of a listener on this machine; `None` for a port that the system chooses.
fn url_of(listen: SocketAddr) -> Option<String> {
    if listen.port() == 0 {
        return None;
    }
    let mut address = listen;
    if listen.ip().is_unspecified() {
        address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    Some(format!("http://{address}"))
}

/// Draws readings over one another until the command is interrupted. A worker that stops answering
/// is asked again: a restart is what somebody watches.
fn refresh(reader: &Reader, every: Duration, terminal: &Term) -> Result<()> {
    let mut before = reader.ask(&SystemClock)?;
    let mut shown = Vec::new();
    loop {
        SystemClock.wait(every);
        match reader.ask(&SystemClock) {
            Ok(now) => shown = lines(&advance(reader, &mut before, now)),
            Err(error) => {
                shown.retain(|line: &String| !line.starts_with("fault "));
                shown.push(format!("fault    {error:#}"));
            }
        }
        draw(&shown, terminal)?;
    }
}

/// Figures since the reading before, which the new one replaces.
fn advance(reader: &Reader, before: &mut Answers, now: Answers) -> Figures {
    let figures = Figures::between(reader.worker(), before, now.clone());
    *before = now;
    figures
}

/// Draws lines from the top of the screen, as many and as wide as fit.
fn draw(lines: &[String], terminal: &Term) -> Result<()> {
    let (rows, columns) = terminal.size();
    let (rows, columns) = (usize::from(rows), usize::from(columns));
    let mut screen = String::from("\u{1b}[H");
    for line in lines.iter().take(rows.saturating_sub(1)) {
        screen.push_str(&truncate_str(line, columns, "…"));
        // Clears what an earlier, longer line left.
        screen.push_str("\u{1b}[K\r\n");
    }
    screen.push_str("\u{1b}[J");
    let mut out = terminal;
    out.write_all(screen.as_bytes())?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::url_of;

    #[test]
    fn a_listener_is_reached_on_this_machine() {
        let url = |listen: &str| url_of(listen.parse().unwrap());
        assert_eq!(
            url("0.0.0.0:8080").as_deref(),
            Some("http://127.0.0.1:8080")
        );
        assert_eq!(url("[::]:8080").as_deref(), Some("http://127.0.0.1:8080"));
        assert_eq!(url("10.0.0.7:80").as_deref(), Some("http://10.0.0.7:80"));
        assert_eq!(url("127.0.0.1:0"), None);
    }
}
