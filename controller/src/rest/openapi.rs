//! `/api/v1/openapi.json`: what there is, for programs.
use axum::response::{IntoResponse, Response};
pub(super) async fn document() -> Response {
    axum::Json(serde_json::json!({})).into_response()
}
