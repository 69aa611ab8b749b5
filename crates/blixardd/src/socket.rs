//! The Unix socket for local callers: who may use it, and what for.
//!
//! The kernel keeps others out by the file's mode (0660, root and one group); the caller's credentials
//! are checked besides, so that a mode that someone has changed opens nothing.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use blixard_proto::hint::with_hint;
use blixard_server::LocalUser;
use tokio::net::UnixListener;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Status};

const GROUPS_FILE: &str = "/etc/group";

/// Why the socket cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    /// Another daemon listens there.
    #[error("another daemon listens on {}", .0.display())]
    InUse(PathBuf),
    /// A step has failed.
    #[error("cannot {step} the socket {}", .path.display())]
    Step {
        /// What was done.
        step: &'static str,
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

/// Who may call, beside root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Admission {
    group: Option<u32>,
}

/// Listens on the socket, for root and the members of a group.
pub(crate) fn listen(path: &Path, group: &str) -> Result<(UnixListener, Admission), SocketError> {
    let step = |step| move |cause| SocketError::Step { step, path: path.to_owned(), cause };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(step("make the directory of"))?;
    }
    if UnixStream::connect(path).is_ok() {
        return Err(SocketError::InUse(path.to_owned()));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(step("replace")(error)),
        _ => {}
    }
    // Between bind and chmod only root can connect: that takes write permission, which a umask of 022
    // or stricter gives to the owner alone.
    let listener = UnixListener::bind(path).map_err(step("bind"))?;
    let gid = group_id(&fs::read_to_string(GROUPS_FILE).unwrap_or_default(), group);
    if gid.is_none() {
        tracing::warn!(group, "there is no such group: only root may use the socket");
    }
    if gid.is_some() {
        std::os::unix::fs::chown(path, None, gid).map_err(step("give away"))?;
    }
    let mode = if gid.is_some() { 0o660 } else { 0o600 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(step("set the mode of"))?;
    Ok((listener, Admission { group: gid }))
}

fn group_id(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next() == Some(name);
        found.then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

/// Who calls.
#[derive(Debug, Clone, Copy)]
struct Caller {
    uid: u32,
    gid: u32,
    pid: Option<i32>,
}

fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let info = request.extensions().get::<UdsConnectInfo>();
    let credentials = info.and_then(|info| info.peer_cred);
    let credentials = credentials.ok_or_else(|| Status::unauthenticated("who calls is not known"))?;
    Ok(Caller { uid: credentials.uid(), gid: credentials.gid(), pid: credentials.pid() })
}

impl Admission {
    /// Lets root and members of the group in, and says in the request who it is.
    pub(crate) fn admit(self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let caller = caller(&request)?;
        request.extensions_mut().insert(LocalUser(caller.uid));
        let member = self.group.is_some_and(|group| caller.gid == group || supplementary(caller.pid, group));
        if caller.uid == 0 || member {
            return Ok(request);
        }
        let status = Status::permission_denied("the caller is neither root nor in the daemon's group");
        Err(with_hint(status, "run it as root, or join the group `blixard` and log in anew"))
    }
}

/// Lets root in: what hosts and servers say to each other is not for users.
pub(crate) fn admit_root(request: Request<()>) -> Result<Request<()>, Status> {
    match caller(&request)?.uid {
        0 => Ok(request),
        _ => Err(Status::permission_denied("this service is for the daemon itself")),
    }
}

/// Whether a process has a supplementary group.
fn supplementary(pid: Option<i32>, group: u32) -> bool {
    let status = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok());
    status.is_some_and(|status| has_group(&status, group))
}

fn has_group(status: &str, group: u32) -> bool {
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    groups.split_whitespace().any(|one| one.parse() == Ok(group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_its_whole_name() {
        let groups = "root:x:0:\nblixard-x:x:7:\nblixard:x:997:alice,bob\n";
        assert_eq!(group_id(groups, "blixard"), Some(997));
        assert_eq!(group_id(groups, "blix"), None);
        assert_eq!(group_id("blixard", "blixard"), None);
    }

    #[test]
    fn supplementary_groups_are_read_from_the_process() {
        let status = "Name:\tblixard\nUid:\t1000\t1000\nGroups:\t27 997 1000 \n";
        assert!(has_group(status, 997) && !has_group(status, 99) && !has_group("", 997));
    }

    #[tokio::test]
    async fn a_second_daemon_does_not_take_the_socket_and_a_stale_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/blixardd.sock");
        let (listener, admission) = listen(&path, "no-such-group").unwrap();
        assert_eq!(admission, Admission { group: None });
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(listen(&path, "no-such-group"), Err(SocketError::InUse(_))));
        drop(listener);
        listen(&path, "no-such-group").unwrap();
    }
}
