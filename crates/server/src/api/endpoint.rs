//! Endpoints as data: path, parameters, access, answer. The router, the checks of requests, the
//! index and the OpenAPI document are made from the same list.

use axum::Router;
use axum::handler::Handler;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get, post};

use crate::guard;
use crate::options::Scope;
use crate::service::App;

/// Method of an endpoint. A `GET` endpoint answers `HEAD` too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Post,
}

impl Verb {
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

/// Clients that an endpoint answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndpointAccess {
    /// Probes, and pages without data.
    Everybody,
    /// Clients with this scope, where any clients are known.
    Client(Scope),
}

/// Values of a parameter.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ParameterValues {
    /// Any text. An empty one counts as given.
    Text,
    /// A whole number.
    Number { min: u64, max: u64, default: u64 },
    /// One of these; the first is the default.
    OneOf(&'static [&'static str]),
    /// `true` or `false`; without the parameter, both.
    Truth,
    /// Texts, separated by commas; at most so many.
    List { max: usize },
}

/// A parameter of a query string.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parameter {
    pub name: &'static str,
    pub values: ParameterValues,
    /// Meaning, and the case without it.
    pub about: &'static str,
}

/// Content of an answer with status 200.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AnswerKind {
    /// JSON with the schema of this name.
    Json(&'static str),
    /// Server-sent events.
    Events,
    /// Text of this type.
    Text(&'static str),
}

/// One path with one method.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint {
    pub verb: Verb,
    /// Path with `{…}` for its variable parts.
    pub path: &'static str,
    /// The answer in a line.
    pub summary: &'static str,
    pub parameters: &'static [Parameter],
    /// Name of the schema of the body; `None` where there is none.
    pub body: Option<&'static str>,
    pub answer: AnswerKind,
    /// Statuses of refusals, besides those that every endpoint may have.
    pub refusals: &'static [u16],
    pub access: EndpointAccess,
    /// True for an operation that changes something, or asks the engine for work.
    pub is_audited: bool,
}

/// Defaults of an endpoint: a `GET` for readers, without parameters.
pub(crate) const READS: Endpoint = Endpoint {
    verb: Verb::Get,
    path: "",
    summary: "",
    parameters: &[],
    body: None,
    answer: AnswerKind::Text("text/plain"),
    refusals: &[],
    access: EndpointAccess::Client(Scope::Read),
    is_audited: false,
};

/// Defaults of an endpoint that operators call: a `POST`, audited.
pub(crate) const OPERATES: Endpoint = Endpoint {
    verb: Verb::Post,
    refusals: &[400, 503],
    access: EndpointAccess::Client(Scope::Operate),
    is_audited: true,
    ..READS
};

/// An endpoint with its handler.
pub(crate) struct ApiRoute {
    pub endpoint: &'static Endpoint,
    handler: MethodRouter<App>,
}

impl ApiRoute {
    pub fn new<H, T>(endpoint: &'static Endpoint, handler: H) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        let handler = match endpoint.verb {
            Verb::Get => get(handler),
            Verb::Post => post(handler),
        };
        Self { endpoint, handler }
    }

    /// Adds the route, behind the checks of its endpoint.
    pub fn on(self, router: Router<App>, app: &App) -> Router<App> {
        let checks = from_fn_with_state((app.clone(), self.endpoint), guard::pass);
        router.route(self.endpoint.path, self.handler.layer(checks))
    }
}
