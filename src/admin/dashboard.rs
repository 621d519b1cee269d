//! `GET /`: the dashboard. One document, one style, one script, nothing from elsewhere; what it shows it asks of the API as anybody does.

use axum::http::HeaderName;
use axum::http::header::CONTENT_TYPE;

type File = ([(HeaderName, &'static str); 1], &'static str);

pub(super) async fn page() -> File {
    ([(CONTENT_TYPE, "text/html; charset=utf-8")], include_str!("dashboard/index.html"))
}

pub(super) async fn style() -> File {
    ([(CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("dashboard/dashboard.css"))
}

pub(super) async fn script() -> File {
    ([(CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("dashboard/dashboard.js"))
}
