//! The controller's REST interface, called from inside weir's namespace.

use crate::switch::Weir;
use serde_json::Value;
use std::time::Duration;

/// Calls `http://127.0.0.1:8080{path}` with the token; the status and the JSON answer (null if none).
pub fn call(weir: &Weir, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let token = std::fs::read_to_string(weir.run_dir.join("rest.token")).expect("rest.token");
    let text = body.map(Value::to_string);
    raw(weir, method, path, Some(token.trim()), text.as_deref())
}

/// The same with any token and any body.
pub fn raw(
    weir: &Weir,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: Option<&str>,
) -> (u16, Value) {
    let work = || {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(20)))
            .build()
            .into();
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://127.0.0.1:8080{path}"))
            .header("Content-Type", "application/json");
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let request = request
            .body(body.unwrap_or("").to_owned())
            .expect("request");
        let mut response = agent
            .run(request)
            .unwrap_or_else(|e| panic!("{method} {path}: {e}"));
        let text = response.body_mut().read_to_string().expect("answer");
        (
            response.status().as_u16(),
            serde_json::from_str(&text).unwrap_or(Value::Null),
        )
    };
    match &weir.namespace {
        Some(ns) => ns.enter(work),
        None => work(),
    }
}
