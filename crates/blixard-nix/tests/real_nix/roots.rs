//! What the garbage collector makes of our roots.

use std::path::PathBuf;

use blixard_core::ports::nix::{NixStore as _, RootName};
use blixard_types::StorePath;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::UnboundedSender;

use super::fixture::{Trial, command, silent};

/// A trial whose roots the collector sees; `None`, and a word about it, where they may not be made.
fn collected() -> Option<Trial> {
    let gcroots = PathBuf::from("/nix/var/nix/gcroots");
    match tempfile::tempdir_in(&gcroots) {
        Ok(folder) => {
            let roots = folder.path().join("blixard");
            Trial::with_roots(folder, roots)
        }
        Err(error) => {
            eprintln!("SKIPPED: {} is not ours to write: {error}", gcroots.display());
            None
        }
    }
}

fn can_delete(path: &StorePath) -> bool {
    command("nix-store").args(["--delete", path.as_str()]).output().unwrap().status.success()
}

#[tokio::test]
async fn a_rooted_path_cannot_be_collected_until_its_root_is_removed() {
    let Some(trial) = collected() else { return };
    let vm = trial.one(r#"runner "web""#).await;
    trial.nix.build(vec![vm.drv], silent()).await.unwrap();
    let root = RootName("acme/web/1".to_owned());
    trial.nix.add_root(root.clone(), vm.out.clone()).await.unwrap();
    assert!(!can_delete(&vm.out));
    trial.nix.remove_root(root.clone()).await.unwrap();
    assert!(can_delete(&vm.out));
    let error = trial.nix.add_root(root, vm.out.clone()).await.unwrap_err();
    assert_eq!(error.cause.kind(), std::io::ErrorKind::NotFound);
    assert!(trial.nix.roots().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_root_of_a_derivation_does_not_build_it() {
    let Some(trial) = collected() else { return };
    let vm = trial.one(r#"runner "web""#).await;
    let root = RootName("drv".to_owned());
    trial.nix.add_root(root.clone(), vm.drv.clone()).await.unwrap();
    assert!(!can_delete(&vm.drv));
    assert_eq!(trial.nix.missing(vec![vm.out.clone()]).await.unwrap(), [vm.out]);
    trial.nix.remove_root(root).await.unwrap();
}

#[tokio::test]
async fn a_collection_that_is_already_running_is_told_of_a_new_root() {
    let Some(trial) = collected() else { return };
    let vm = trial.one(r#"runner "web""#).await;
    trial.nix.build(vec![vm.drv], silent()).await.unwrap();
    let mut collector = RunningCollector::start();
    let root = RootName("web/1".to_owned());
    let added = trial.nix.add_root(root.clone(), vm.out.clone());
    let () = tokio::select! {
        added = added => added.unwrap(),
        () = collector.listen() => (),
    };
    assert!(collector.kept.contains(&vm.out.to_string()), "{:?}", collector.kept);
    trial.nix.remove_root(root).await.unwrap();
}

/// Does what a collector does while it deletes: holds the lock, and answers who wants a path kept.
struct RunningCollector {
    _lock: std::fs::File,
    socket: UnixListener,
    kept: Vec<String>,
}

const GC_LOCK: &str = "/nix/var/nix/gc.lock";
const GC_SOCKET: &str = "/nix/var/nix/gc-socket/socket";

impl RunningCollector {
    fn start() -> Self {
        let lock = std::fs::File::options().create(true).truncate(false).write(true).open(GC_LOCK).unwrap();
        lock.lock().unwrap();
        let _ = std::fs::remove_file(GC_SOCKET);
        std::fs::create_dir_all("/nix/var/nix/gc-socket").unwrap();
        let socket = UnixListener::bind(GC_SOCKET).unwrap();
        Self { _lock: lock, socket, kept: Vec::new() }
    }

    /// Never ends. A process sends its paths one by one, each answered with `1`.
    async fn listen(&mut self) {
        let (paths, mut asked) = tokio::sync::mpsc::unbounded_channel();
        let mut clients = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                Some(path) = asked.recv() => self.kept.push(path),
                Ok((client, _)) = self.socket.accept() => {
                    clients.spawn(answer(client, paths.clone()));
                }
            }
        }
    }
}

async fn answer(client: UnixStream, paths: UnboundedSender<String>) {
    let mut client = BufStream::new(client);
    let mut line = String::new();
    while client.read_line(&mut line).await.is_ok_and(|count| count > 0) {
        paths.send(line.trim().to_owned()).unwrap();
        client.write_all(b"1").await.unwrap();
        client.flush().await.unwrap();
        line.clear();
    }
}

impl Drop for RunningCollector {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(GC_SOCKET);
    }
}
