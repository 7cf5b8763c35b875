//! The console's files, as they are: no build step, nothing from another origin.
//!
//! Decision: docs/decisions/0076-the-console-is-pages-of-modules.md

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use axum::routing::get;

use crate::api::answer::EntityTag;
use crate::service::App;

#[derive(Clone, Copy)]
struct Asset {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

/// Pages. All have the same document, whose script shows what the address names. They lie side by
/// side, so that addresses in them are relative whatever the base path.
const PAGES: [&str; 10] = [
    "/",
    "/alerts",
    "/dead-letters",
    "/entity",
    "/model",
    "/pipeline",
    "/query",
    "/thresholds",
    "/trace",
    "/worklist",
];

const PAGE: &str = include_str!("console/index.html");
const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

/// Files of the folder `console`, each with its type.
macro_rules! assets {
    ($($content_type:ident: $($file:literal)+;)+) => {
        [$($(Asset {
            path: concat!("/", $file),
            content_type: $content_type,
            text: include_str!(concat!("console/", $file)),
        },)+)+]
    };
}

static ASSETS: &[Asset] = &assets! {
    PICTURE: "icon.svg";
    CSS: "style/base.css" "style/parts.css" "style/pages.css";
    SCRIPT: "main.js" "theme.js"
        "lib/act.js" "lib/alert_card.js" "lib/ask.js" "lib/charts.js" "lib/committee.js" "lib/dom.js"
        "lib/notices.js" "lib/past.js" "lib/quality.js" "lib/ranked.js" "lib/reasons.js" "lib/rows.js" "lib/status.js"
        "lib/stream.js" "lib/what_if.js" "lib/words.js"
        "pages/alerts.js" "pages/dead-letters.js" "pages/entity.js" "pages/model.js"
        "pages/pipeline.js" "pages/query.js" "pages/ranking.js" "pages/thresholds.js"
        "pages/trace.js" "pages/worklist.js";
};

/// Routes of the console's files.
pub(crate) fn routes() -> Router<App> {
    let mut router = Router::new();
    let pages = PAGES.map(|path| Asset {
        path,
        content_type: HTML,
        text: PAGE,
    });
    for asset in pages.iter().chain(ASSETS).copied() {
        let handler = move |State(app): State<App>, headers: HeaderMap| async move {
            answer(&app, &headers, asset)
        };
        router = router.route(asset.path, get(handler));
    }
    router
}

fn answer(app: &App, headers: &HeaderMap, asset: Asset) -> Response {
    // The files change with the program only, hence with the process.
    let tag = EntityTag::new(app.process, 0);
    if tag.is_known_to(headers) {
        tag.not_modified()
    } else {
        tag.on(([(header::CONTENT_TYPE, asset.content_type)], asset.text))
    }
}
