//! A daemon that cannot be reached, in every way.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

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
async fn a_socket_that_another_program_listens_at_is_told_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("blixardd.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let hang_up = async {
        for _ in 0..2 {
            drop(listener.accept().await.unwrap());
        }
    };
    tokio::select! {
        ran = list(&socket) => insta::assert_snapshot!(ran, @"
        --- stderr
        error: connection reset
        hint: `journalctl -u blixardd` may tell more
        --- exit 3
        "),
        () = hang_up => panic!("connected twice"),
    }
}

#[tokio::test]
async fn a_socket_of_others_needs_their_group() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("blixardd.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::fs::set_permissions(&socket, Permissions::from_mode(0o000)).unwrap();
    let ran = list(&socket).await;
    // Root may do everything; there is nothing to see then.
    if ran.code != 3 {
        insta::assert_snapshot!(ran, @"");
    }
}
