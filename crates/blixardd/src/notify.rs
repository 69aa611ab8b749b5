//! Tells systemd how the daemon does (sd_notify(3)).

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Says READY=1. Failing to say it is for systemd to notice, by its start timeout.
pub(crate) fn ready() {
    say("READY=1");
}

/// Asks for so long to stop in, from now on, whatever the unit's own limit is.
pub(crate) fn needs(time: Duration) {
    say(&format!("EXTEND_TIMEOUT_USEC={}", time.as_micros()));
}

/// Says something, if systemd listens.
fn say(text: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let name = path.to_string_lossy();
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::warn!(%error, text, "cannot tell systemd");
    }
}
