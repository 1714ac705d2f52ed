//! `<bridge>.snoop`: what a bridge and its controllers say to one another, in whatever version they do.

use super::super::Bridge;
use super::super::conversation::Conversation;
use super::converse::agree;
use super::turned_true;
use ovsdb::transport::Connection;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::broadcast::error::RecvError;

/// Shows a snooper what the bridge and its controllers say, from the end of the handshakes on.
pub(super) async fn snooper(mut stream: Connection, bridge: &Arc<Bridge>) {
    let mut messages = bridge.snooped();
    let mut closed = bridge.closed();
    let mut talk = Conversation::new(&[]);
    if agree(&mut stream, &mut talk, bridge).await.is_err() {
        return;
    }
    let Connection {
        mut reader,
        mut writer,
    } = stream;
    let mut ignored = [0; 256];
    loop {
        tokio::select! {
            () = turned_true(&mut closed) => return,
            r = reader.read(&mut ignored) => if !matches!(r, Ok(n) if n > 0) {
                return;
            },
            m = messages.recv() => match m {
                Ok(bytes) => if writer.write_all(&bytes).await.is_err() {
                    return;
                },
                // Missing some is better than slowing the switch down.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
        }
    }
}
