//! Arguments of a request: the query string, checked against the parameters of its endpoint, and the
//! body.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;

use super::answer::ApiError;
use super::endpoint::{Endpoint, Parameter, ParameterValues};

/// The JSON body of a request.
///
/// # Errors
/// A body that is none, with `hint`: what to send.
pub(crate) fn json_body<T>(
    body: Result<Json<T>, JsonRejection>,
    hint: &str,
) -> Result<T, ApiError> {
    match body {
        Ok(Json(body)) => Ok(body),
        Err(rejection) => Err(ApiError::bad_request(
            rejection.body_text(),
            format!("{hint}; the content-type is application/json"),
        )),
    }
}

/// The values of an endpoint's parameters. Every value was checked.
#[derive(Debug)]
pub(crate) struct QueryArguments {
    parameters: &'static [Parameter],
    given: BTreeMap<&'static str, String>,
}

impl QueryArguments {
    /// Reads a query string.
    ///
    /// # Errors
    /// A parameter that the endpoint does not have, one that is given twice, or a value that it may
    /// not have.
    pub fn of(
        pairs: Vec<(String, String)>,
        parameters: &'static [Parameter],
    ) -> Result<Self, ApiError> {
        let mut given = BTreeMap::new();
        for (name, value) in pairs {
            let Some(parameter) = parameters.iter().find(|one| one.name == name) else {
                return Err(unknown(&name, parameters));
            };
            check(parameter, &value)?;
            if given.insert(parameter.name, value).is_some() {
                let detail = format!("{name} is given twice");
                return Err(ApiError::bad_request(detail, "give it once")
                    .of_parameter(parameter.name, allowed(parameter)));
            }
        }
        Ok(Self { parameters, given })
    }

    /// The value as text; `None` without the parameter.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(String::as_str)
    }

    /// The value as text; `None` without the parameter and for an empty one, which a form sends for
    /// "all".
    pub fn chosen(&self, name: &str) -> Option<&str> {
        self.text(name).filter(|text| !text.is_empty())
    }

    /// The value of a number, or its default.
    pub fn number(&self, name: &str) -> u64 {
        let default = match self.values(name) {
            Some(ParameterValues::Number { default, .. }) => default,
            _ => 0,
        };
        let given = self.text(name).and_then(|text| text.parse().ok());
        given.unwrap_or(default)
    }

    /// The value of a number that counts entries, or its default.
    pub fn limit(&self) -> usize {
        usize::try_from(self.number("limit")).unwrap_or(usize::MAX)
    }

    /// The value of a choice, or its default.
    pub fn choice(&self, name: &str) -> &str {
        let default = match self.values(name) {
            Some(ParameterValues::OneOf(choices)) => choices.first().copied().unwrap_or_default(),
            _ => "",
        };
        self.text(name).unwrap_or(default)
    }

    /// The value of a truth; `None` without the parameter.
    pub fn truth(&self, name: &str) -> Option<bool> {
        self.text(name).map(|text| text == "true")
    }

    /// The values of a list; empty without the parameter.
    pub fn list(&self, name: &str) -> Vec<&str> {
        let text = self.chosen(name).unwrap_or_default();
        text.split(',').filter(|item| !item.is_empty()).collect()
    }

    /// True if the parameter is given.
    pub fn has(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    fn values(&self, name: &str) -> Option<ParameterValues> {
        let mut parameters = self.parameters.iter();
        parameters
            .find(|one| one.name == name)
            .map(|one| one.values)
    }
}

fn unknown(name: &str, parameters: &[Parameter]) -> ApiError {
    let names: Vec<&str> = parameters.iter().map(|one| one.name).collect();
    let hint = match names.as_slice() {
        [] => "it takes none".to_owned(),
        names => format!("parameters are {}", names.join(", ")),
    };
    ApiError::bad_request(
        format!("there is no parameter \"{}\"", name.escape_debug()),
        hint,
    )
}

fn check(parameter: &'static Parameter, value: &str) -> Result<(), ApiError> {
    let fits = match parameter.values {
        ParameterValues::Text => true,
        ParameterValues::Number { min, max, .. } => value
            .parse()
            .is_ok_and(|number: u64| (min..=max).contains(&number)),
        ParameterValues::OneOf(choices) => choices.contains(&value),
        ParameterValues::Truth => matches!(value, "true" | "false"),
        ParameterValues::List { max } => value.split(',').count() <= max,
    };
    if fits {
        return Ok(());
    }
    let allowed = allowed(parameter);
    let detail = format!("{} is \"{}\"", parameter.name, value.escape_debug());
    let hint = format!("it must be {}", words(parameter.values));
    Err(ApiError::bad_request(detail, hint).of_parameter(parameter.name, allowed))
}

/// Values that a parameter may have, where they can be listed.
fn allowed(parameter: &Parameter) -> Vec<String> {
    match parameter.values {
        ParameterValues::OneOf(choices) => choices.iter().map(|one| (*one).to_owned()).collect(),
        ParameterValues::Truth => vec!["true".to_owned(), "false".to_owned()],
        ParameterValues::Number { min, max, .. } => vec![format!("{min} to {max}")],
        ParameterValues::Text | ParameterValues::List { .. } => Vec::new(),
    }
}

/// Values in words.
pub(super) fn words(values: ParameterValues) -> String {
    match values {
        ParameterValues::Text => "text".to_owned(),
        ParameterValues::Number { min, max, .. } => format!("a whole number from {min} to {max}"),
        ParameterValues::OneOf(choices) => format!("one of {}", choices.join(", ")),
        ParameterValues::Truth => "true or false".to_owned(),
        ParameterValues::List { max } => format!("at most {max} texts, separated by commas"),
    }
}

impl<S: Send + Sync> FromRequestParts<S> for QueryArguments {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let endpoint = parts.extensions.get::<&'static Endpoint>();
        let parameters = endpoint.map_or(&[][..], |endpoint| endpoint.parameters);
        let query = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let Query(pairs) = query.map_err(|rejection| {
            ApiError::bad_request(rejection.body_text(), "write it as name=value&name=value")
        })?;
        Self::of(pairs, parameters)
    }
}
