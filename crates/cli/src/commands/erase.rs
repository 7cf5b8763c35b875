//! `leadpulse erase`: requests to erase a person, and their proofs.

use anyhow::{Result, bail};
use serde_json::json;

use leadpulse_deployment::{ErasureOrder, SystemClock, erasure_proofs, request_erasure};
use leadpulse_engine::ErasureProof;
use leadpulse_engine::ports::Clock;

use crate::commands::{ClusterArguments, date};
use crate::output::JsonArgument;

/// `erase` and its subcommands.
#[derive(clap::Subcommand)]
pub enum EraseArguments {
    /// Asks the running worker to erase a person. The request is a record of the erasures topic.
    Request(RequestArguments),
    /// Takes rows of an erased person again from now on. What was erased stays erased.
    Lift(RequestArguments),
    /// Lists the proofs of all erasures, the newest last.
    Proofs(ProofArguments),
}

impl EraseArguments {
    pub fn run(self) -> Result<()> {
        match self {
            Self::Request(command) => command.run(false),
            Self::Lift(command) => command.run(true),
            Self::Proofs(command) => command.run(),
        }
    }
}

/// Arguments of `erase request` and `erase lift`.
#[derive(clap::Args)]
pub struct RequestArguments {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Table of the person, such as contacts.
    #[arg(long, requires = "key")]
    table: Option<String>,
    /// Key of the person in the table.
    #[arg(long, requires = "table")]
    key: Option<String>,
    /// An address of the person.
    #[arg(long)]
    email: Option<String>,
    /// The person or system that asks.
    #[arg(long)]
    by: String,
    /// The reason, for readers of the erasures topic.
    #[arg(long)]
    reason: Option<String>,
    /// Id of the request, which proofs show. Made from the time where there is none.
    #[arg(long)]
    id: Option<String>,
    #[command(flatten)]
    json: JsonArgument,
}

impl RequestArguments {
    fn run(self, lifts: bool) -> Result<()> {
        self.json.begin();
        let subject = self.table.zip(self.key);
        if subject.is_none() && self.email.is_none() {
            bail!("name the person: --table and --key, --email, or both");
        }
        let loaded = self.cluster.load()?;
        let order = ErasureOrder {
            id: self.id.unwrap_or_else(new_id),
            subject,
            email: self.email,
            who: self.by,
            reason: self.reason,
            lifts,
        };
        let topic = request_erasure(&loaded, &order)?;
        say!(
            "request {} is in {topic}. `leadpulse erase proofs` shows its proof once a worker has read it",
            order.id
        );
        let action = if lifts { "lift" } else { "erase" };
        self.json
            .print(|| Ok(json!({ "request": order.id, "action": action, "topic": topic })))
    }
}

fn new_id() -> String {
    format!("erase-{}", SystemClock.wall_ms())
}

/// Arguments of `erase proofs`.
#[derive(clap::Args)]
pub struct ProofArguments {
    #[command(flatten)]
    cluster: ClusterArguments,
    /// Only the proofs of this request.
    #[arg(long)]
    id: Option<String>,
    /// Prints a line of JSON for each proof.
    #[arg(long)]
    json: bool,
}

impl ProofArguments {
    fn run(self) -> Result<()> {
        let loaded = self.cluster.load()?;
        let mut proofs = erasure_proofs(&loaded)?;
        let is_wanted = |proof: &ErasureProof| {
            let id = self.id.as_ref();
            id.is_none_or(|id| *id == proof.request_id)
        };
        proofs.retain(is_wanted);
        for proof in &proofs {
            match self.json {
                true => println!("{}", serde_json::to_string(proof)?),
                false => print!("{}", in_words(proof)),
            }
        }
        if proofs.is_empty() && !self.json {
            println!("no proof yet");
        }
        Ok(())
    }
}

fn in_words(proof: &ErasureProof) -> String {
    let ErasureProof {
        request_id,
        subject,
        action,
        epoch,
        entities,
        events,
        tombstones,
        ..
    } = proof;
    let at = date(proof.clock_at.unwrap_or(proof.as_of));
    let mut text = format!(
        "{at}  {action}  {request_id}  epoch {epoch}\n  subject {subject}\n  entities {entities}, events {events}, tombstones {tombstones}\n"
    );
    for held in &proof.held {
        let until = match (held.until, held.kind.as_str()) {
            (Some(until_ms), _) => format!("until {}", date(until_ms)),
            (None, "compacted") => "until its next compaction".to_owned(),
            (None, _) => "for ever: set a retention".to_owned(),
        };
        text += &format!("  {} ({}) may hold copies {until}\n", held.place, held.kind);
    }
    text
}
