//! What systemd is told (sd_notify(3)). Failing to say it is for systemd to notice, by its timeouts.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says this, if systemd listens.
pub(crate) fn say(what: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let name = path.to_string_lossy();
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let send = |address: SocketAddr| UnixDatagram::unbound()?.send_to_addr(what.as_bytes(), &address);
    drop(address.and_then(send));
}
