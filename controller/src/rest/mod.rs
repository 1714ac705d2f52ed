//! The HTTP side: REST under `/api/v1`, Ryu's paths under `/stats`, `/metrics`, and the page at `/`.
//!
//! Everything needs the token: `Authorization: Bearer TOKEN`, or, for browsers, the cookie that
//! `/?token=TOKEN` sets. Bodies ([`MAX_BODY`]), connections ([`MAX_CONNECTIONS`]), header time
//! ([`HEADER_TIMEOUT`]) and request time ([`REQUEST_TIMEOUT`]) are bounded, so that slow and many
//! clients take a fixed amount of memory.

mod auth;
mod metrics;
mod openapi;
mod page;
mod problem;
mod ryu;
mod v1;

pub use auth::Token;
pub use problem::Problem;

use crate::hub::Hub;
use crate::southbound::is_set;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Request};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Largest request body, in bytes.
pub const MAX_BODY: usize = 4 << 20;
/// Connections served at once; more wait to be accepted.
pub const MAX_CONNECTIONS: usize = 512;
/// Time a client has for a request's head.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Time a request may take in all, body included.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest request head, in bytes.
pub const MAX_HEAD: usize = 16 << 10;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) hub: Arc<Hub>,
    pub(crate) token: Option<Arc<Token>>,
}

/// The whole service. Without a token nothing is asked for: for loopback only.
pub(crate) fn router(hub: Arc<Hub>, token: Option<Token>) -> Router {
    let app = App {
        hub,
        token: token.map(Arc::new),
    };
    Router::new()
        .route("/", get(page::page))
        .route("/metrics", get(metrics::metrics))
        .route("/api/v1/openapi.json", get(openapi::document))
        .route("/api/v1/switches", get(v1::switches))
        .route("/api/v1/switches/{switch}", get(v1::switch))
        .route("/api/v1/switches/{switch}/ports", get(v1::ports))
        .route("/api/v1/switches/{switch}/tables", get(v1::tables))
        .route("/api/v1/switches/{switch}/flows", get(v1::switch_flows))
        .route("/api/v1/hosts", get(v1::hosts))
        .route("/api/v1/links", get(v1::links))
        .route("/api/v1/stats", get(v1::stats))
        .route("/api/v1/flows", get(v1::flows).post(v1::add_flow))
        .route(
            "/api/v1/flows/{name}",
            get(v1::flow).put(v1::put_flow).delete(v1::delete_flow),
        )
        .route("/stats/switches", get(ryu::switches))
        .route("/stats/desc/{dpid}", get(ryu::desc))
        .route(
            "/stats/flow/{dpid}",
            get(ryu::flow).post(ryu::flow_filtered),
        )
        .route(
            "/stats/aggregateflow/{dpid}",
            get(ryu::aggregate).post(ryu::aggregate_filtered),
        )
        .route("/stats/table/{dpid}", get(ryu::table))
        .route("/stats/port/{dpid}", get(ryu::port))
        .route("/stats/port/{dpid}/{port}", get(ryu::one_port))
        .route("/stats/portdesc/{dpid}", get(ryu::portdesc))
        .route("/stats/portdesc/{dpid}/{port}", get(ryu::one_portdesc))
        .route("/stats/flowentry/{command}", post(ryu::flowentry))
        .route(
            "/stats/flowentry/clear/{dpid}",
            axum::routing::delete(ryu::clear),
        )
        .fallback(async || {
            Problem::not_found(
                "there is nothing at this address; /api/v1/openapi.json lists what there is",
            )
        })
        .method_not_allowed_fallback(async || {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "this address does not take this method",
            )
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(app.clone(), auth::check))
        .layer(middleware::from_fn(bound_time))
        .layer(middleware::from_fn(security_headers))
        .with_state(app)
}

async fn bound_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
        Ok(r) => r,
        Err(_) => axum::response::IntoResponse::into_response(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            format!(
                "the request took more than {} seconds",
                REQUEST_TIMEOUT.as_secs()
            ),
        )),
    }
}

async fn security_headers(request: Request, next: Next) -> Response {
    let mut r = next.run(request).await;
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        ),
    ] {
        r.headers_mut()
            .insert(name, header::HeaderValue::from_static(value));
    }
    r
}

/// A body that is JSON, whatever its content type says; a problem document if it is not.
pub(crate) struct Json(pub(crate) Value);

impl<S: Send + Sync> FromRequest<S> for Json {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Json, Problem> {
        let body = Bytes::from_request(request, state).await.map_err(|e| {
            Problem::new(
                e.status(),
                "body",
                format!("{}; a body has at most {MAX_BODY} bytes", e.body_text()),
            )
        })?;
        serde_json::from_slice(&body).map(Json).map_err(|e| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "not-json",
                format!("the body is not JSON: {e}"),
            )
        })
    }
}

/// Serves until `stop` is true, then lets requests finish for a moment.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    mut stop: tokio::sync::watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = is_set(&mut stop) => return,
            a = async {
                let permit = permits.clone().acquire_owned().await.ok();
                (listener.accept().await, permit)
            } => a,
        };
        let (Ok((stream, _)), Some(permit)) = accepted else {
            // Out of descriptors, most likely: give others time to close theirs.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        let mut stop = stop.clone();
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(MAX_HEAD)
                .serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            tokio::select! {
                r = connection.as_mut() => {
                    if let Err(e) = r {
                        tracing::debug!(error = %e, "HTTP connection ended");
                    }
                }
                () = is_set(&mut stop) => {
                    connection.as_mut().graceful_shutdown();
                    let _ = tokio::time::timeout(Duration::from_secs(1), connection).await;
                }
            }
            drop(permit);
        });
    }
}
