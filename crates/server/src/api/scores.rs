//! `/api/v1/scores`: a page of a ranking.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use leadpulse_engine::read_model::{PageCursor, PageRequest, Sort};
use leadpulse_records::ShownScore;
use serde::Serialize;
use serde_json::Value;

use super::answer::{ApiError, EntityTag, apart};
use super::arguments::QueryArguments;
use super::endpoint::{AnswerKind, Endpoint, Parameter, ParameterValues, READS};
use super::rows::{self, RowView};
use super::task_of;
use crate::service::App;
use crate::state::TaskView;

const PARAMETERS: &[Parameter] = &[
    super::TASK,
    Parameter {
        name: "entity",
        values: ParameterValues::Text,
        about: "table of the entities; that of the task without it",
    },
    Parameter {
        name: "sort",
        values: ParameterValues::OneOf(&["score", "velocity", "change", "as_of"]),
        about: "order, from high to low; entities without the value come last",
    },
    super::VIEW,
    super::FIELDS,
    Parameter {
        name: "band",
        values: ParameterValues::List { max: 16 },
        about: "only entities in one of these bands of the task",
    },
    Parameter {
        name: "owner",
        values: ParameterValues::Text,
        about: "only accounts assigned to this person; empty for those that nobody is assigned to",
    },
    Parameter {
        name: "region",
        values: ParameterValues::Text,
        about: "only accounts whose field region has this value",
    },
    Parameter {
        name: "text",
        values: ParameterValues::Text,
        about: "only entities whose name or key contains this, whatever the case",
    },
    Parameter {
        name: "open",
        values: ParameterValues::Truth,
        about: "only accounts with a deal that may still be won, or only those without",
    },
    super::limit(1000),
    Parameter {
        name: "cursor",
        values: ParameterValues::Text,
        about: "next_cursor of the page before; the first page without it",
    },
];

pub(crate) const SCORES: Endpoint = Endpoint {
    path: "/api/v1/scores",
    summary: "A page of a ranking, as of now",
    parameters: PARAMETERS,
    answer: AnswerKind::Json("ScoresPage"),
    refusals: &[400, 404],
    ..READS
};

#[derive(Serialize)]
struct ScoresAnswer {
    task: String,
    entity: String,
    sort: String,
    /// Entities of the list, over all pages.
    total: usize,
    scores: Vec<Value>,
    next_cursor: Option<String>,
}

/// `/api/v1/scores`
pub(crate) async fn scores(
    State(app): State<App>,
    arguments: QueryArguments,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let tasks = app.state.tasks.now();
    let task = task_of(&tasks, arguments.chosen("task"), arguments.chosen("entity"))?.clone();
    let question = ListQuestion::of(&arguments, &task)?;
    let read_model = &app.state.read_model;
    // Both numbers only grow, so the sum changes with each of them.
    let said_version = read_model.said_version();
    let ranking = read_model.ranking(&task.name, &task.entity);
    let tag = EntityTag::new(app.process, ranking.version + said_version);
    if tag.is_known_to(&headers) {
        return Ok(tag.not_modified());
    }
    let sort = arguments.choice("sort").to_owned();
    let answer = apart(move || {
        let read_model = &app.state.read_model;
        let owner_fields = app.state.owner_fields();
        let accepts = |score: &ShownScore| question.filter.accepts(score, &owner_fields);
        let condition: Option<&dyn Fn(&ShownScore) -> bool> = match question.filter.is_empty() {
            true => None,
            false => Some(&accepts),
        };
        let page = read_model.page(&ranking, &question.request, condition);
        let next_cursor = page.next.map(|cursor| question.write_cursor(&cursor));
        let first_place = page.first_rank;
        let view = &question.view;
        Ok(ScoresAnswer {
            scores: rows::rows(view, page.scores, first_place, read_model, &owner_fields)?,
            task: task.name,
            entity: task.entity,
            sort,
            total: page.total,
            next_cursor,
        })
    });
    Ok(tag.on(Json(answer.await?)))
}

/// A question for a page: order, place, condition and columns.
struct ListQuestion {
    request: PageRequest,
    filter: ScoreFilter,
    view: RowView,
    /// Hash of everything that decides the order and the entities of the list.
    list: u64,
}

impl ListQuestion {
    fn of(arguments: &QueryArguments, task: &TaskView) -> Result<Self, ApiError> {
        let sort_name = arguments.choice("sort");
        let sort = match sort_name {
            "velocity" => Sort::Velocity,
            "change" => Sort::Change,
            "as_of" => Sort::AsOf,
            _ => Sort::Score,
        };
        let filter = ScoreFilter::of(arguments, task)?;
        let mut hasher = DefaultHasher::new();
        (&task.name, &task.entity, sort_name, &filter).hash(&mut hasher);
        let list = hasher.finish();
        let after = arguments.text("cursor");
        Ok(Self {
            request: PageRequest {
                sort,
                limit: arguments.limit(),
                after: after.map(|text| read_cursor(text, list)).transpose()?,
            },
            filter,
            view: view_of(arguments)?,
            list,
        })
    }

    /// The cursor as clients see it: not to be read, and of this list only.
    fn write_cursor(&self, cursor: &PageCursor) -> String {
        URL_SAFE_NO_PAD.encode(format!("{:x}.{cursor}", self.list))
    }
}

/// The columns that a request asks for.
pub(super) fn view_of(arguments: &QueryArguments) -> Result<RowView, ApiError> {
    match (arguments.has("fields"), arguments.choice("view")) {
        (true, _) if arguments.has("view") => Err(ApiError::bad_request(
            "both view and fields are given",
            "give one of them",
        )
        .of_parameter("fields", Vec::new())),
        (true, _) => RowView::of_fields(&arguments.list("fields")),
        (false, "full") => Ok(RowView::Full),
        (false, _) => Ok(RowView::Summary),
    }
}

fn read_cursor(text: &str, list: u64) -> Result<PageCursor, ApiError> {
    let fault = |detail: &str| {
        ApiError::bad_request(detail, "leave cursor out for the first page")
            .of_parameter("cursor", Vec::new())
    };
    let not_one = "cursor is not a cursor; pass next_cursor of the page before, unchanged";
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| fault(not_one))?;
    let text = String::from_utf8(bytes).map_err(|_| fault(not_one))?;
    let (of_list, cursor) = text.split_once('.').ok_or_else(|| fault(not_one))?;
    if of_list != format!("{list:x}") {
        return Err(fault(
            "cursor is of another list; sort and filters stay the same from page to page",
        ));
    }
    cursor.parse().map_err(|_| fault(not_one))
}

/// The condition that entities of a list meet. Conditions that are absent are met by all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct ScoreFilter {
    bands: Vec<String>,
    owner: Option<String>,
    region: Option<String>,
    /// In lower case.
    text: Option<String>,
    has_open_deal: Option<bool>,
}

impl ScoreFilter {
    fn of(arguments: &QueryArguments, task: &TaskView) -> Result<Self, ApiError> {
        let bands = arguments.list("band");
        let known: Vec<String> = task.bands.iter().map(|band| band.name.clone()).collect();
        if let Some(band) = bands
            .iter()
            .find(|band| !known.iter().any(|one| one == *band))
        {
            let detail = format!("{} has no band \"{}\"", task.name, band.escape_debug());
            let hint = format!("bands are {}", known.join(", "));
            return Err(ApiError::bad_request(detail, hint).of_parameter("band", known));
        }
        Ok(Self {
            bands: bands.into_iter().map(str::to_owned).collect(),
            owner: arguments.text("owner").map(str::to_owned),
            region: arguments.text("region").map(str::to_owned),
            text: arguments.chosen("text").map(str::to_lowercase),
            has_open_deal: arguments.truth("open"),
        })
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn accepts(&self, score: &ShownScore, owner_fields: &[String]) -> bool {
        let band = score.record.band.as_deref();
        let is_in_band = self.bands.is_empty() || self.bands.iter().any(|one| Some(&**one) == band);
        let owner = || rows::owner(score, owner_fields).unwrap_or_default();
        let region = || rows::value(score, "region").unwrap_or_default();
        let is_open = || rows::has_open_deal(score);
        is_in_band
            && self.owner.as_ref().is_none_or(|wanted| owner() == wanted)
            && self.region.as_ref().is_none_or(|wanted| region() == wanted)
            && self.has_open_deal.is_none_or(|wanted| is_open() == wanted)
            && self.text.as_ref().is_none_or(|text| mentions(score, text))
    }
}

/// True if the name or the key of an entity contains a text, which is in lower case.
fn mentions(score: &ShownScore, text: &str) -> bool {
    let contains = |words: &str| words.to_lowercase().contains(text);
    contains(&score.record.entity_id) || score.name.as_deref().is_some_and(contains)
}
