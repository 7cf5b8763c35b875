//! The console's files, as they are: no build step, nothing from another origin.

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::Response;

use crate::answer::EntityTag;
use crate::service::App;

struct Asset {
    content_type: &'static str,
    text: &'static str,
}

const PAGE: Asset = Asset {
    content_type: "text/html; charset=utf-8",
    text: include_str!("console/index.html"),
};
const STYLE: Asset = Asset {
    content_type: "text/css; charset=utf-8",
    text: include_str!("console/console.css"),
};
const SCRIPT: Asset = Asset {
    content_type: "text/javascript; charset=utf-8",
    text: include_str!("console/console.js"),
};
const ICON: Asset = Asset {
    content_type: "image/svg+xml",
    text: include_str!("console/icon.svg"),
};

fn answer(app: &App, headers: &HeaderMap, asset: &Asset) -> Response {
    // The files change with the program only, hence with the process.
    let tag = EntityTag::new(app.process, 0);
    if tag.is_known_to(headers) {
        tag.not_modified()
    } else {
        tag.on(([(header::CONTENT_TYPE, asset.content_type)], asset.text))
    }
}

pub(crate) async fn page(State(app): State<App>, headers: HeaderMap) -> Response {
    answer(&app, &headers, &PAGE)
}

pub(crate) async fn style(State(app): State<App>, headers: HeaderMap) -> Response {
    answer(&app, &headers, &STYLE)
}

pub(crate) async fn script(State(app): State<App>, headers: HeaderMap) -> Response {
    answer(&app, &headers, &SCRIPT)
}

pub(crate) async fn icon(State(app): State<App>, headers: HeaderMap) -> Response {
    answer(&app, &headers, &ICON)
}
