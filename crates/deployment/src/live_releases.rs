//! The engine's port to releases: a thread follows the control topic, loads what is asked for, and
//! notes what is in force.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use leadpulse_engine::ports::{OfferedRelease, ReleaseRefusal, Releases};
use leadpulse_engine::{Deployed, Machine, MachineParts, OutputEncoders};
use leadpulse_features::Scorer;
use leadpulse_graph::Tracking;
use leadpulse_project::Project;
use leadpulse_schema::Catalog;
use leadpulse_server::{TaskView, TaskViews};

use crate::control::ControlReader;
use crate::deployment::{given_parts, load_bundle, scored_tasks};
use crate::error::DeployError;
use crate::loaded::Loaded;
use crate::models::{InForce, ModelRegistry};
use crate::views::task_views;

/// Pause between two looks at the control topic.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Makes deployed versions of releases, for one worker.
pub(crate) struct ReleaseLoader {
    pub registry: ModelRegistry,
    /// The worker's own configuration.
    pub loaded: Loaded,
    pub catalog: Arc<Catalog>,
    pub encoders: Arc<OutputEncoders>,
}

/// A release that was loaded, with its tasks for the API.
struct LoadedRelease {
    given: Arc<Deployed>,
    shown: ShownRelease,
}

/// The part of a release that the API shows.
struct ShownRelease {
    tasks: Vec<TaskView>,
    /// Card of its model.
    card: serde_json::Value,
}

impl ReleaseLoader {
    fn load(&self, digest: &str) -> Result<LoadedRelease, ReleaseRefusal> {
        self.try_load(digest).map_err(|error| ReleaseRefusal {
            release: digest.to_owned(),
            reason: in_words(&error),
        })
    }

    fn try_load(&self, digest: &str) -> Result<LoadedRelease, DeployError> {
        let release = self.registry.release(digest)?;
        let bundle = release.bundle.clone();
        let loaded = release.onto(&self.loaded, &self.catalog)?;
        let project = loaded.project_on(self.catalog.clone())?;
        let scorer = load_bundle(&project, &self.registry.bundle_dir(&bundle))?;
        let scorer = scorer.with_forward(loaded.config.engine.forward);
        let tasks = scored_tasks(&loaded, &project, &scorer)?;
        let views = task_views(&loaded.config, &project, &scorer, &tasks);
        let card = scorer.card();
        let machine = Machine::new(MachineParts {
            tasks,
            release: Some(digest.into()),
            ..self.parts(&loaded, &project, Arc::new(scorer))?
        })?;
        Ok(LoadedRelease {
            given: machine.into_parts().0,
            shown: ShownRelease { tasks: views, card },
        })
    }

    /// Parts of a machine that reads nothing.
    fn parts(
        &self,
        loaded: &Loaded,
        project: &Project,
        scorer: Arc<dyn Scorer>,
    ) -> Result<MachineParts, DeployError> {
        let graph = project.graph(Tracking::On);
        given_parts(loaded, &self.catalog, graph, scorer, &self.encoders)
    }
}

/// An error with its causes.
fn in_words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

/// Knowledge that the thread and the engine share.
#[derive(Default)]
struct Shared {
    /// The release that was asked for, once it was loaded or refused.
    offered: Option<(Result<LoadedRelease, ReleaseRefusal>, String)>,
    /// Tasks of the last offered release, by its digest: shown once it is in force.
    tasks: Option<(String, ShownRelease)>,
    in_force: Option<String>,
    /// True from the first note of what is in force on: before it, nothing is offered.
    is_live: bool,
}

/// The port, for a worker on a cluster.
pub(crate) struct LiveReleases {
    loader: Arc<ReleaseLoader>,
    shared: Arc<Mutex<Shared>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    views: TaskViews,
}

impl LiveReleases {
    /// Loads releases that committed epochs name, and offers none: for audits.
    pub fn without_control(loader: ReleaseLoader) -> Self {
        Self {
            loader: Arc::new(loader),
            shared: Arc::default(),
            stop: Arc::default(),
            thread: None,
            views: TaskViews::default(),
        }
    }

    /// Follows the control topic on a thread of its own. `views` are the tasks that the API shows.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub fn start(
        loader: ReleaseLoader,
        reader: ControlReader,
        views: TaskViews,
    ) -> Result<Self, DeployError> {
        let mut this = Self::without_control(loader);
        this.views = views;
        let watch = Watch {
            loader: this.loader.clone(),
            shared: this.shared.clone(),
            stop: this.stop.clone(),
            reader,
            asked: None,
            noted: None,
        };
        let thread = std::thread::Builder::new()
            .name("releases".into())
            .spawn(move || watch.run())?;
        this.thread = Some(thread);
        Ok(this)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Releases for LiveReleases {
    fn offered(&mut self) -> Option<OfferedRelease> {
        let (offered, release) = self.shared().offered.take()?;
        Some(offered.map(|loaded| {
            self.shared().tasks = Some((release, loaded.shown));
            loaded.given
        }))
    }

    fn load(&mut self, release: &str) -> OfferedRelease {
        let loaded = self.loader.load(release)?;
        self.shared().tasks = Some((release.to_owned(), loaded.shown));
        Ok(loaded.given)
    }

    fn is_in_force(&mut self, given: &Deployed) {
        let mut shared = self.shared();
        shared.in_force = given.release().map(str::to_owned);
        shared.is_live = true;
        let tasks = shared.tasks.take();
        let tasks = tasks.filter(|(release, _)| given.release() == Some(release));
        drop(shared);
        if let Some((_, shown)) = tasks {
            self.views.replace(shown.tasks, shown.card);
        }
    }
}

impl Drop for LiveReleases {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has told so.
            let _ = thread.join();
        }
    }
}

/// The thread that follows the control topic.
struct Watch {
    loader: Arc<ReleaseLoader>,
    shared: Arc<Mutex<Shared>>,
    stop: Arc<AtomicBool>,
    reader: ControlReader,
    /// The release that was asked for last.
    asked: Option<String>,
    /// The release in force that the registry has noted.
    noted: Option<InForce>,
}

impl Watch {
    fn run(mut self) {
        while !self.stop.load(Ordering::Relaxed) {
            match self.reader.newest() {
                Ok(Some(record)) => {
                    tracing::info!(
                        release = record.release,
                        by = record.by,
                        "a release is asked for"
                    );
                    self.asked = Some(record.release);
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "the control topic cannot be read now"),
            }
            self.look();
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what is in force, and loads what was asked for.
    fn look(&mut self) {
        let (in_force, is_live) = {
            let shared = self.shared();
            (shared.in_force.clone(), shared.is_live)
        };
        if !is_live {
            return;
        }
        self.note(in_force.clone());
        let Some(asked) = self.asked.take() else {
            return;
        };
        if in_force.as_ref() != Some(&asked) {
            let loaded = self.loader.load(&asked);
            self.shared().offered = Some((loaded, asked));
        }
    }

    fn note(&mut self, release: Option<String>) {
        let registry = &self.loader.registry;
        let worker = &self.loader.loaded.config.kafka.transactional_id;
        let known = match &self.noted {
            Some(noted) => noted.clone(),
            None => registry.in_force(worker).unwrap_or_default(),
        };
        if self.noted.is_some() && known.release == release {
            return;
        }
        let needed = match known.release == release {
            true => known,
            false => InForce {
                release,
                before: known.release,
            },
        };
        if let Err(error) = registry.note_in_force(worker, &needed) {
            tracing::warn!(%error, "`leadpulse models remove` does not know what this worker needs");
        }
        self.noted = Some(needed);
    }
}
