//! The console's files, as they are: no build step, nothing from another origin.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use axum::routing::get;

use crate::api::answer::EntityTag;
use crate::service::App;

struct Asset {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

static ASSETS: [Asset; 9] = [
    Asset {
        path: "/",
        content_type: HTML,
        text: include_str!("console/pages/index.html"),
    },
    Asset {
        path: "/console.css",
        content_type: CSS,
        text: include_str!("console/pages/console.css"),
    },
    Asset {
        path: "/console.js",
        content_type: SCRIPT,
        text: include_str!("console/pages/console.js"),
    },
    Asset {
        path: "/dead-letters",
        content_type: HTML,
        text: include_str!("console/pages/dead-letters.html"),
    },
    Asset {
        path: "/dead-letters.js",
        content_type: SCRIPT,
        text: include_str!("console/pages/dead-letters.js"),
    },
    Asset {
        path: "/icon.svg",
        content_type: "image/svg+xml",
        text: include_str!("console/pages/icon.svg"),
    },
    Asset {
        path: "/lib/ask.js",
        content_type: SCRIPT,
        text: include_str!("console/lib/ask.js"),
    },
    Asset {
        path: "/lib/dom.js",
        content_type: SCRIPT,
        text: include_str!("console/lib/dom.js"),
    },
    Asset {
        path: "/lib/words.js",
        content_type: SCRIPT,
        text: include_str!("console/lib/words.js"),
    },
];

/// Routes of the console's files.
pub(crate) fn routes() -> Router<App> {
    let mut router = Router::new();
    for asset in &ASSETS {
        let handler = move |State(app): State<App>, headers: HeaderMap| async move {
            answer(&app, &headers, asset)
        };
        router = router.route(asset.path, get(handler));
    }
    router
}

fn answer(app: &App, headers: &HeaderMap, asset: &Asset) -> Response {
    // The files change with the program only, hence with the process.
    let tag = EntityTag::new(app.process, 0);
    if tag.is_known_to(headers) {
        tag.not_modified()
    } else {
        tag.on(([(header::CONTENT_TYPE, asset.content_type)], asset.text))
    }
}
