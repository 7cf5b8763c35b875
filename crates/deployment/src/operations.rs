//! The server's operations on a deployment: each is the library call of a command.

use std::error::Error;

use leadpulse_server::{
    AlertAnswer, ChangedChampion, KnownModel, OperationError, Operations, PromotionRequest,
    ReplayCounts, ReplayRequest, RollbackRequest, SentRow,
};

use crate::answers::send_answer;
use crate::champions::{Promotion, change_by, promote, roll_back};
use crate::error::DeployError;
use crate::letters::{LetterBox, LetterFilter, LetterJudge, Pace};
use crate::loaded::Loaded;
use crate::ports::writer_schemas;

/// Records a second that a replay sends at most.
const REPLAYED_PER_SECOND: f64 = 100.0;

/// Operations by the configuration that the process was started with.
pub(crate) struct LoadedOperations {
    pub loaded: Loaded,
}

impl Operations for LoadedOperations {
    fn answer_alert(&self, answer: &AlertAnswer, by: &str) -> Result<SentRow, OperationError> {
        send_answer(&self.loaded, answer, by).map_err(not_done)
    }

    fn models(&self) -> Result<Vec<KnownModel>, OperationError> {
        let models = self
            .loaded
            .models()
            .map_err(|error| not_done(error.into()))?;
        let models = models.list().map_err(|error| not_done(error.into()))?;
        let known = models.into_iter().map(|model| KnownModel {
            aliases: model.aliases.iter().map(ToString::to_string).collect(),
            grade: model.grade().map(|grade| grade.code().to_owned()),
            tasks: model
                .manifest
                .tasks
                .iter()
                .map(|task| task.name.clone())
                .collect(),
            bundle: model.manifest.bundle_id,
        });
        Ok(known.collect())
    }

    fn promote(
        &self,
        request: &PromotionRequest,
        by: &str,
    ) -> Result<ChangedChampion, OperationError> {
        let how = (request.force, request.live);
        let change = change_by(by.to_owned());
        let done = promote(&self.loaded, &request.bundle, how, &change);
        done.map(changed).map_err(not_done)
    }

    fn roll_back(
        &self,
        request: &RollbackRequest,
        by: &str,
    ) -> Result<ChangedChampion, OperationError> {
        let done = roll_back(&self.loaded, request.live, &change_by(by.to_owned()));
        done.map(changed).map_err(not_done)
    }

    fn replay(&self, request: &ReplayRequest, by: &str) -> Result<ReplayCounts, OperationError> {
        if request.reasons.is_empty() && request.topics.is_empty() {
            return Err(OperationError::Refused(
                "a replay of every dead letter is for `leadpulse dlq replay --all`; name reasons or topics"
                    .to_owned(),
            ));
        }
        tracing::info!(by, ?request, "dead letters are asked for again");
        replay(&self.loaded, request).map_err(not_done)
    }
}

fn changed(done: Promotion) -> ChangedChampion {
    ChangedChampion {
        bundle: done.entry.bundle,
        before: done.entry.before,
        release: done.release,
    }
}

fn replay(loaded: &Loaded, request: &ReplayRequest) -> Result<ReplayCounts, DeployError> {
    let filter = LetterFilter {
        reasons: request.reasons.clone(),
        topics: request.topics.clone(),
        ..LetterFilter::default()
    };
    let catalog = loaded.catalog()?;
    let inputs = loaded.inputs(&catalog)?;
    let sources = inputs.into_iter().map(|input| input.topic).collect();
    let letters = LetterBox::of(loaded)?;
    let plan = letters.plan(&filter, &sources, request.again)?;
    let mut judge = LetterJudge::new(loaded, writer_schemas(loaded)?)?;
    let mut counts = ReplayCounts {
        letters: plan.letters.len() as u64,
        replayed: plan.replayed,
        refused_again: plan.refused_again,
        incomplete: plan.incomplete,
        without_source: plan.without_source,
        ..ReplayCounts::default()
    };
    letters.read(&mut |letter| {
        let is_wanted = plan.letters.contains(&letter.place);
        counts.accepted_now += u64::from(is_wanted && judge.judge(&letter).is_accepted);
        Ok(())
    })?;
    if !request.dry_run {
        let pace = Pace::of(REPLAYED_PER_SECOND).expect("the pace is above 0");
        let done = letters.replay(&plan, pace, &mut |_| {})?;
        (counts.sent, counts.sent_by_others) = (done.sent, done.sent_by_others);
    }
    Ok(counts)
}

/// An error with its causes: of the cluster and of files a failure, any other a refusal.
fn not_done(error: DeployError) -> OperationError {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    match error {
        DeployError::Models(_)
        | DeployError::Answer(_)
        | DeployError::Bundle { .. }
        | DeployError::NoTask { .. } => OperationError::Refused(words),
        _ => OperationError::Failed(words),
    }
}
