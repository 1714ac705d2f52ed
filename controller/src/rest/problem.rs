//! Error answers: problem documents (RFC 9457, `application/problem+json`).

use crate::flows::FieldError;
use crate::hub::ChangeError;
use crate::switch::RequestError;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

/// A problem: status, a stable kind (the last part of `type`), words, and members of its own.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    kind: &'static str,
    detail: String,
    more: Map<String, Value>,
}

impl Problem {
    /// A problem of this kind.
    pub fn new(status: StatusCode, kind: &'static str, detail: impl Into<String>) -> Problem {
        Problem {
            status,
            kind,
            detail: detail.into(),
            more: Map::new(),
        }
    }

    /// Nothing of that name.
    pub fn not_found(what: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, "not-found", what)
    }

    /// The same problem, about the `index`th of several documents.
    #[must_use]
    pub fn at(mut self, index: usize) -> Problem {
        if let Some(Value::String(p)) = self.more.get_mut("field") {
            *p = format!("/{index}{p}");
        }
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": format!("urn:weir:problem:{}", self.kind),
            "title": self.status.canonical_reason().unwrap_or("error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Value::Object(o) = &mut body {
            o.extend(self.more);
        }
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (self.status, kind, body.to_string()).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                header::HeaderValue::from_static("Bearer realm=\"weir\""),
            );
        }
        response
    }
}

impl From<FieldError> for Problem {
    fn from(e: FieldError) -> Problem {
        let mut p = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-field", e.detail);
        p.more.insert("field".into(), json!(e.pointer));
        p
    }
}

impl From<ChangeError> for Problem {
    fn from(e: ChangeError) -> Problem {
        let (status, kind) = match &e {
            ChangeError::Exists(_) => (StatusCode::CONFLICT, "exists"),
            ChangeError::Conflict { .. } => (StatusCode::CONFLICT, "conflict"),
            ChangeError::Missing(_) => (StatusCode::NOT_FOUND, "not-found"),
            ChangeError::Full => (StatusCode::INSUFFICIENT_STORAGE, "full"),
            ChangeError::Store(_) => (StatusCode::INTERNAL_SERVER_ERROR, "store"),
            ChangeError::Refused { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "refused-by-switch"),
        };
        Problem::new(status, kind, e.to_string())
    }
}

impl From<RequestError> for Problem {
    fn from(e: RequestError) -> Problem {
        let (status, kind) = match e {
            RequestError::Timeout => (StatusCode::GATEWAY_TIMEOUT, "switch-timeout"),
            RequestError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "switch-busy"),
            RequestError::Disconnected => (StatusCode::BAD_GATEWAY, "switch-disconnected"),
            RequestError::Refused(_) => (StatusCode::BAD_GATEWAY, "switch-error"),
        };
        Problem::new(status, kind, e.to_string())
    }
}
