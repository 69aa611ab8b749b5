//! A daemon that cannot be reached, in every way.

use std::path::Path;

use tokio::io::AsyncReadExt as _;

use super::{Ran, blixard};
use crate::flake::Nix;

async fn list(socket: &Path) -> Ran {
    let mut ran = blixard(socket, &Nix::in_path(), "vm list").await;
    ran.err = ran.err.replace(socket.parent().unwrap().to_str().unwrap(), "/run/blixard");
    ran
}

#[tokio::test]
async fn no_socket_means_no_daemon() {
    let folder = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(list(&folder.path().join("blixardd.sock")).await, @"
    --- stderr
    error: cannot connect to blixardd at /run/blixard/blixardd.sock
    caused by: No such file or directory (os error 2)
    hint: is blixardd running here? `systemctl status blixardd`
    --- exit 3
    ");
}

#[tokio::test]
async fn a_socket_that_nobody_listens_at_means_no_daemon() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("blixardd.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    insta::assert_snapshot!(list(&socket).await, @"
    --- stderr
    error: cannot connect to blixardd at /run/blixard/blixardd.sock
    caused by: Connection refused (os error 111)
    hint: is blixardd running here? `systemctl status blixardd`
    --- exit 3
    ");
}

#[tokio::test]
async fn a_daemon_that_hangs_up_is_lost_and_not_called_again() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("blixardd.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let hang_up = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        // Only once the client has begun to speak HTTP/2 (RFC 9113 §3.4) is it a lost connection.
        stream.read_exact(&mut [0; 24]).await.unwrap();
        drop(stream);
        listener.accept().await.unwrap();
    };
    tokio::select! {
        ran = list(&socket) => {
            assert!(ran.err.starts_with("error: lost contact with blixardd\ncaused by: "), "{ran}");
            assert_eq!(ran.code, 3, "{ran}");
        }
        () = hang_up => panic!("connected twice"),
    }
}
