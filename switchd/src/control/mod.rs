//! Control sockets: `<run_dir>/<daemon>.<pid>.ctl`, spoken to by `ovs-appctl`.
//!
//! JSON-RPC 1.0 over a unix stream: `{"id":0,"method":"fdb/show","params":["br0"]}` is answered by
//! `{"id":0,"result":"text","error":null}` or the text as `error`. Any daemon may have one, with
//! its own table of commands ([`registry`]); the switch's are in [`commands`]. Each runs on a blocking thread, since dumps wait for the forwarding threads.

pub mod commands;
pub mod fdb;
pub mod qos;
pub mod registry;
pub mod show;
pub mod threads;
pub mod trace;
pub mod tunnels;

use serde_json::{Value, json};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// Largest request taken; `ovs-appctl` sends a few words, traces and flow lists some kilobytes.
pub const MAX_REQUEST: usize = 1 << 20;
/// Most clients served at a time; further ones wait in the listen queue.
pub const MAX_CLIENTS: usize = 64;

/// Answers one command: the text, or what was wrong.
pub type Handler = dyn Fn(&str, &[String]) -> Result<String, String> + Send + Sync;

/// The listening socket, removed on drop.
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
}

/// Removes the control sockets `<name>.<pid>.ctl` of processes that were killed before they could. One goes only if there
/// is no such process and nobody listens either: a process in another pid namespace may share the directory.
fn remove_stale(run_dir: &Path, name: &str) {
    let Ok(entries) = std::fs::read_dir(run_dir) else {
        return;
    };
    for entry in entries.flatten() {
        let file = entry.file_name();
        let pid: Option<u32> = file
            .to_str()
            .and_then(|f| {
                f.strip_prefix(name)?
                    .strip_prefix('.')?
                    .strip_suffix(".ctl")
            })
            .and_then(|pid| pid.parse().ok());
        let Some(pid) = pid else {
            continue;
        };
        let alive = Path::new("/proc").join(pid.to_string()).exists();
        let path = entry.path();
        let refused = || {
            std::os::unix::net::UnixStream::connect(&path)
                .is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
        };
        if !alive && refused() {
            match std::fs::remove_file(&path) {
                Ok(()) => tracing::info!("{}: removed, its process is gone", path.display()),
                Err(e) => tracing::warn!("{}: cannot be removed: {e}", path.display()),
            }
        }
    }
}

impl ControlSocket {
    /// Binds `path`, or `<name>.<pid>.ctl`, in `run_dir`, and removes what dead daemons of this name left there.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(run_dir: &Path, name: &str, path: Option<&Path>) -> io::Result<ControlSocket> {
        let path = match path {
            Some(p) => run_dir.join(p),
            None => run_dir.join(format!("{name}.{}.ctl", std::process::id())),
        };
        remove_stale(run_dir, name);
        // A socket of our own pid's name can only be a dead predecessor's.
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        Ok(ControlSocket { listener, path })
    }

    /// Serves clients for ever.
    pub async fn serve(&self, handler: Arc<Handler>) {
        let places = Arc::new(Semaphore::new(MAX_CLIENTS));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let handler = handler.clone();
                    tokio::spawn(async move {
                        if let Err(e) = client(stream, handler).await {
                            tracing::debug!("control connection: {e}");
                        }
                        drop(place);
                    });
                }
                Err(e) => {
                    tracing::warn!("{}: accept failed: {e}", self.path.display());
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn client(mut stream: UnixStream, handler: Arc<Handler>) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        while let Some(request) = take_message(&mut buffer)? {
            let answer = answer(request, handler.clone()).await;
            let mut bytes = serde_json::to_vec(&answer)?;
            bytes.push(b'\n');
            stream.write_all(&bytes).await?;
        }
        if buffer.len() > MAX_REQUEST {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("request of more than {MAX_REQUEST} bytes"),
            ));
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// Takes one whole JSON value off the front of `buffer`, if there is one.
fn take_message(buffer: &mut Vec<u8>) -> io::Result<Option<Value>> {
    let mut values = serde_json::Deserializer::from_slice(buffer).into_iter::<Value>();
    match values.next() {
        None => {
            buffer.clear();
            Ok(None)
        }
        Some(Ok(value)) => {
            let used = values.byte_offset();
            buffer.drain(..used);
            Ok(Some(value))
        }
        Some(Err(e)) if e.is_eof() => Ok(None),
        Some(Err(e)) => Err(io::Error::new(io::ErrorKind::InvalidData, e)),
    }
}

async fn answer(request: Value, handler: Arc<Handler>) -> Value {
    let id = request.get("id").cloned().unwrap_or(Value::Null);
    let outcome = match parse(&request) {
        Err(e) => Err(e),
        Ok((method, args)) => tokio::task::spawn_blocking(move || handler(&method, &args))
            .await
            .unwrap_or_else(|e| Err(format!("the command failed inside the daemon: {e}"))),
    };
    let lined = |s: String| {
        if s.is_empty() || s.ends_with('\n') {
            s
        } else {
            s + "\n"
        }
    };
    match outcome {
        Ok(text) => json!({"id": id, "result": lined(text), "error": null}),
        Err(text) => json!({"id": id, "result": null, "error": lined(text)}),
    }
}

fn parse(request: &Value) -> Result<(String, Vec<String>), String> {
    let method = request
        .get("method")
        .and_then(Value::as_str)
        .ok_or("a request has a \"method\" that is a string")?;
    let params = match request.get("params") {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(params)) => params,
        Some(_) => return Err("\"params\" is an array of strings".to_owned()),
    };
    let args = params
        .iter()
        .map(|p| p.as_str().map(str::to_owned))
        .collect::<Option<Vec<_>>>()
        .ok_or("command has non-string argument")?;
    Ok((method.to_owned(), args))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_out_of_the_stream_wherever_it_was_split() {
        let text = br#"{"id":0,"method":"a","params":[]} {"id":1,"method":"b","params":["}"]}"#;
        for cut in 0..text.len() {
            let mut buffer = text[..cut].to_vec();
            let mut got = Vec::new();
            while let Some(v) = take_message(&mut buffer).unwrap() {
                got.push(v);
            }
            buffer.extend_from_slice(&text[cut..]);
            while let Some(v) = take_message(&mut buffer).unwrap() {
                got.push(v);
            }
            assert_eq!(got.len(), 2, "cut at {cut}");
            assert_eq!(got[1]["params"][0], "}");
        }
        assert!(take_message(&mut b"{]".to_vec()).is_err());
    }

    #[tokio::test]
    async fn sockets_of_dead_processes_are_removed_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        // No pid is as large as these.
        let names = [
            "ovs-vswitchd.4000000000.ctl",
            "ovs-vswitchd.4000000001.ctl",
            "ovs-vswitchd.1.ctl",
            "ovs-vswitchd.x.ctl",
            "ovsdb-server.4000000000.ctl",
        ];
        let mut listeners: Vec<_> = (names.iter())
            .map(|n| Some(std::os::unix::net::UnixListener::bind(dir.path().join(n)).unwrap()))
            .collect();
        // Somebody still listens on the second; the others were left behind.
        let kept = listeners[1].take();
        listeners.clear();
        let socket = ControlSocket::bind(dir.path(), "ovs-vswitchd", None).unwrap();
        let there: Vec<bool> = names.iter().map(|n| dir.path().join(n).exists()).collect();
        assert_eq!(there, [false, true, true, true, true]);
        assert!(socket.path.exists());
        drop(kept);
    }

    #[tokio::test]
    async fn requests_are_answered_and_garbage_ends_the_connection() {
        let dir = tempfile::tempdir().unwrap();
        let socket = ControlSocket::bind(dir.path(), "ovs-vswitchd", None).unwrap();
        let path = socket.path.clone();
        let task = tokio::spawn(async move {
            socket
                .serve(Arc::new(|name, args| match name {
                    "echo" => Ok(args.join(" ")),
                    _ => Err(format!("no {name}")),
                }))
                .await
        });
        let mut s = UnixStream::connect(&path).await.unwrap();
        s.write_all(br#"{"id":7,"method":"echo","params":["a","b"]}"#)
            .await
            .unwrap();
        let mut buf = vec![0; 1000];
        let n = s.read(&mut buf).await.unwrap();
        let v: Value = serde_json::from_slice(&buf[..n]).unwrap();
        assert_eq!(v, json!({"id": 7, "result": "a b\n", "error": null}));
        s.write_all(br#"{"id":8,"method":"x","params":[]}"#)
            .await
            .unwrap();
        let n = s.read(&mut buf).await.unwrap();
        let v: Value = serde_json::from_slice(&buf[..n]).unwrap();
        assert_eq!(v["error"], "no x\n");
        s.write_all(b"nonsense").await.unwrap();
        assert_eq!(s.read(&mut buf).await.unwrap(), 0);
        task.abort();
    }
}
