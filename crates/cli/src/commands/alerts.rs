//! `leadpulse alerts`

use std::path::PathBuf;

use anyhow::Result;

use leadpulse_deployment::Loaded;
use leadpulse_learn::Extent;
use leadpulse_project::TaskPlan;

use crate::alert_figures::AlertFigures;
use crate::alert_table;
use crate::commands::{HistoryArguments, date, parse_moment};
use crate::progress::Bar;
use crate::simulation::{DEFAULT_DAYS, Simulated, Simulation};

/// Arguments of `alerts`.
#[derive(clap::Subcommand)]
pub enum AlertsArguments {
    /// Counts and judges the alerts that a policy would have sent, from files.
    Simulate(SimulateAlertsArguments),
}

impl AlertsArguments {
    pub fn run(self) -> Result<()> {
        match self {
            Self::Simulate(command) => command.run(),
        }
    }
}

/// Arguments of `alerts simulate`.
#[derive(clap::Args)]
pub struct SimulateAlertsArguments {
    #[command(flatten)]
    history: HistoryArguments,
    /// Days in which alerts fire, at the end of the files or before --until.
    #[arg(long, default_value_t = DEFAULT_DAYS, value_parser = clap::value_parser!(u32).range(1..))]
    days: u32,
    /// Alerts fire until this moment; later rows only tell what came of them. By default the end of
    /// the files.
    #[arg(long, value_parser = parse_moment, value_name = "MOMENT")]
    until: Option<i64>,
    /// Another configuration whose policies and caps are put beside those of --config.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Also print every alert with its sentence.
    #[arg(long)]
    list: bool,
}

impl SimulateAlertsArguments {
    fn run(self) -> Result<()> {
        let history = self.history.load(&[])?;
        let other = self.policy.as_deref().map(|path| {
            let loaded = Loaded::read(path, &[])?;
            anyhow::Ok((path.display().to_string(), loaded))
        });
        let others = Vec::from_iter(other.transpose()?);
        let simulation = Simulation::new(history, self.days, self.until)?;
        let mut bar = Bar::new();
        let simulated = simulation.run(&others, &mut |progress| bar.show(progress))?;
        bar.finish();
        self.print(&simulated)?;
        if !self.json {
            advise(&simulated.figures, &simulation.tasks(), simulation.extent);
        }
        Ok(())
    }

    fn print(&self, simulated: &Simulated) -> Result<()> {
        if self.json {
            let found = simulated.json(self.list)?;
            say!("{}", serde_json::to_string_pretty(&found)?);
            return Ok(());
        }
        for line in alert_table::lines(&simulated.figures) {
            say!("{line}");
        }
        for one in simulated.tried.iter().filter(|_| self.list) {
            say!("");
            say!("{}", one.policy);
            for alert in &one.news {
                say!("{}", alert_table::listed(alert));
            }
        }
        Ok(())
    }
}

/// Says what to do where figures are absent.
fn advise(figures: &[AlertFigures], tasks: &[&TaskPlan], extent: Extent) {
    for one in figures.iter().filter(|one| one.all.alerts == 0) {
        say!(
            "{} sends nothing: set threshold_up or [[tasks.policy.alerts]], lower a threshold, or \
             look at held back",
            one.policy
        );
    }
    let is_open = |one: &AlertFigures| one.all.open > 0 && one.all.closed == 0;
    if figures.iter().any(is_open) {
        let horizons = tasks.iter().map(|task| task.plan.horizon_ms);
        let longest_ms = horizons.max().unwrap_or_default();
        say!(
            "no window has ended, so nothing is right or wrong yet: give --until {} or earlier",
            &date(extent.last_ms - longest_ms)[..10]
        );
    }
}
