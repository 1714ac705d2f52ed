//! `/`
use super::App;
use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
pub(super) async fn page(State(_app): State<App>) -> Response {
    Html("").into_response()
}
pub(super) fn sign_in() -> Html<String> {
    Html(String::new())
}
