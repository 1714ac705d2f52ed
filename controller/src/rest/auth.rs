//! Who may ask: the bearer token (RFC 6750) or the browser's cookie.

use super::{App, Problem};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const COOKIE: &str = "weir_token";
/// Longest token read from a file.
const MAX_TOKEN: usize = 256;
/// Shortest: fewer characters can be guessed.
const MIN_TOKEN: usize = 16;

/// The secret that opens the controller.
pub struct Token(String);

impl Token {
    /// Reads the token of a file, or makes one and writes it there (mode 0600).
    ///
    /// # Errors
    /// If the file can be neither read nor made, or holds no usable token.
    pub fn load_or_create(path: &Path) -> std::io::Result<Token> {
        let invalid = |what: String| std::io::Error::new(std::io::ErrorKind::InvalidData, what);
        match std::fs::File::open(path) {
            Ok(f) => {
                let mut text = String::new();
                f.take(MAX_TOKEN as u64 + 2).read_to_string(&mut text)?;
                let token = text.trim();
                let usable = token
                    .bytes()
                    .all(|b| b.is_ascii_graphic() && b != b';' && b != b'"');
                if !(MIN_TOKEN..=MAX_TOKEN).contains(&token.len()) || !usable {
                    return Err(invalid(format!(
                        "a token has {MIN_TOKEN} to {MAX_TOKEN} printable characters without blanks; delete the file for a new one"
                    )));
                }
                Ok(Token(token.to_owned()))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let token = format!(
                    "{}{}",
                    uuid::Uuid::new_v4().simple(),
                    uuid::Uuid::new_v4().simple()
                );
                let mut f = std::fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(path)?;
                writeln!(f, "{token}")?;
                f.sync_all()?;
                Ok(Token(token))
            }
            Err(e) => Err(e),
        }
    }

    /// Compares whole, so that the time taken tells nothing of the token.
    fn is(&self, other: &str) -> bool {
        let (a, b) = (self.0.as_bytes(), other.as_bytes());
        a.len() == b.len() && a.iter().zip(b).fold(0, |d, (x, y)| d | (x ^ y)) == 0
    }
}

/// Lets a request pass that carries the token.
pub(super) async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    let Some(token) = &app.token else {
        // No token is asked for; then at least no web page of elsewhere may steer a browser here.
        return if host_is_local(request.headers()) {
            next.run(request).await
        } else {
            Problem::new(
                StatusCode::FORBIDDEN,
                "foreign-host",
                "without tokens, only requests to localhost are served",
            )
            .into_response()
        };
    };
    if bearer(request.headers()).is_some_and(|t| token.is(t)) {
        return next.run(request).await;
    }
    // The cookie serves reading only: nothing a foreign page makes a browser send changes anything.
    let reads = request.method().is_safe();
    if reads && cookie(request.headers()).is_some_and(|t| token.is(t)) {
        return next.run(request).await;
    }
    if request.uri().path() == "/" && reads {
        let given = request
            .uri()
            .query()
            .and_then(|q| q.split('&').find_map(|p| p.strip_prefix("token=")));
        if given.is_some_and(|t| token.is(t)) {
            let cookie = format!("{COOKIE}={}; HttpOnly; SameSite=Strict; Path=/", token.0);
            return (
                StatusCode::SEE_OTHER,
                [
                    (header::SET_COOKIE, cookie),
                    (header::LOCATION, "/".to_owned()),
                ],
            )
                .into_response();
        }
        return (StatusCode::UNAUTHORIZED, super::page::sign_in()).into_response();
    }
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "send the token of the file rest.token as \"Authorization: Bearer TOKEN\"",
    )
    .into_response()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(';'))
        .find_map(|c| c.trim().strip_prefix(COOKIE)?.strip_prefix('='))
}

fn host_is_local(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|h| h.to_str().ok()) else {
        return false;
    };
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|a| a.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_is_made_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rest.token");
        let a = Token::load_or_create(&path).unwrap();
        let b = Token::load_or_create(&path).unwrap();
        assert!(a.is(&b.0) && a.0.len() == 64);
        assert!(!a.is("") && !a.is(&a.0[1..]));
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        std::fs::write(&path, "short\n").unwrap();
        assert!(Token::load_or_create(&path).is_err());
    }

    #[test]
    fn only_local_hosts_are_local() {
        let host = |h: &str| {
            let mut m = HeaderMap::new();
            m.insert(header::HOST, h.parse().unwrap());
            host_is_local(&m)
        };
        assert!(host("127.0.0.1:8080") && host("localhost") && host("[::1]:8080"));
        assert!(!host("evil.example:8080") && !host("127.0.0.1.evil.example") && !host("10.0.0.1"));
    }
}
