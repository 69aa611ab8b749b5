//! Peers in memory, and an importer that is a line of shell: what it says, and how much it reads.

mod peers;

use std::ffi::OsString;

use blixard_core::ports::{BootMillis, RawMillis, UnixMillis};
use blixard_types::{Manifest, PathRecord, Sha256Hash};
use rustix::time::{ClockId, clock_gettime};

use super::*;
use peers::{Peers, nar_size};

const MIB: u64 = 1 << 20;
/// What Linux lets the pipe to the importer hold.
const PIPE: u64 = MIB;
/// What a peer has taken from itself and not sent: its own buffers, and the connection in memory.
const UNSENT: u64 = MIB;

struct Monotonic;

impl Clock for Monotonic {
    fn wall(&self) -> UnixMillis {
        UnixMillis(0)
    }

    fn boot(&self) -> BootMillis {
        let now = clock_gettime(ClockId::Monotonic);
        BootMillis(u64::try_from(now.tv_sec * 1000 + now.tv_nsec / 1_000_000).unwrap())
    }

    fn raw(&self) -> RawMillis {
        RawMillis(0)
    }
}

/// A closure of so many paths, each a file of so many zeros.
fn closure(paths: u32, bytes: u64) -> Manifest {
    let record = |number: u32| PathRecord {
        path: format!("/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-{number:04}").parse().unwrap(),
        nar_hash: Sha256Hash::of(&number.to_le_bytes()),
        nar_size: nar_size(bytes),
        references: (number == 0).then_some(1..paths).into_iter().flatten().map(path).collect(),
    };
    Manifest::new(path(0), (0..paths).map(record).collect()).unwrap()
}

fn path(number: u32) -> blixard_types::StorePath {
    format!("/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-{number:04}").parse().unwrap()
}

fn fetcher(peers: &Arc<Peers>, importer: &str, limits: FetchLimits) -> Fetcher {
    let importer = ["sh", "-c", importer].map(OsString::from).to_vec();
    let access: Arc<dyn PeerAccess> = Arc::clone(peers) as Arc<dyn PeerAccess>;
    Fetcher::new(access, ImporterCommand(importer), Arc::new(Monotonic), limits)
}

async fn fetch(fetcher: &Fetcher, manifest: &Manifest, nodes: u64) -> Result<HeldClosure, FetchError> {
    let nodes = (1..=nodes).map(NodeId).collect();
    fetcher.fetch(manifest.closure_ref().unwrap(), nodes, Arc::new(|_| {})).await
}

async fn until(what: &str, mut there: impl FnMut() -> bool) {
    let wait = async {
        while !there() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap_or_else(|_| panic!("not {what}"));
}

/// Says what is missing, reads nothing, and ends when this folder does.
fn deaf(paths: u32, folder: &std::path::Path) -> String {
    let waits = format!("while [ -d {} ]; do sleep 0.05; done", folder.display());
    format!("echo missing 99999999999 {}; {waits}", places(paths))
}

fn places(paths: u32) -> String {
    (0..paths).map(|place| place.to_string()).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn what_peers_have_sent_and_nobody_takes_fits_into_the_memory() {
    let manifest = closure(2, 48 * MIB);
    let limits = FetchLimits { peers: 2, memory: 6 * MIB, bytes_per_s: None };
    let peers = Peers::of(&manifest, 2, limits.window());
    let folder = tempfile::tempdir().unwrap();
    let fetcher = fetcher(&peers, &deaf(2, folder.path()), limits);
    let mut fetching = std::pin::pin!(fetch(&fetcher, &manifest, 2));
    let watch = async {
        let held = 2 * u64::from(limits.window());
        until("full", || peers.sent() >= held).await;
        peers.at_rest().await;
        peers.sent()
    };
    let sent = tokio::select! {
        ended = &mut fetching => panic!("{ended:?}"),
        sent = watch => sent,
    };
    let most = limits.memory + PIPE + 2 * UNSENT;
    assert!(sent <= most, "{sent} bytes were taken, {most} are allowed");
}

#[tokio::test]
async fn no_more_peers_are_asked_than_allowed() {
    let manifest = closure(8, 1000);
    let limits = FetchLimits { peers: 2, ..FetchLimits::default() };
    let peers = Peers::of(&manifest, 3, limits.window());
    let importer = format!("echo missing 99999999999 {}; cat > /dev/null", places(8));
    let fetcher = fetcher(&peers, &importer, limits);
    let mut fetching = std::pin::pin!(fetch(&fetcher, &manifest, 3));
    tokio::select! {
        ended = &mut fetching => panic!("{ended:?}"),
        () = until("asked of two", || peers.streams(NodeId(1)) > 0 && peers.streams(NodeId(2)) > 0) => {}
    }
    assert_eq!(peers.streams(NodeId(3)), 0);
    assert_eq!(peers.connections(NodeId(3)), 0);
}

#[tokio::test]
async fn a_fetch_is_not_faster_than_allowed() {
    let manifest = closure(1, MIB);
    let limits = FetchLimits { bytes_per_s: Some(MIB), ..FetchLimits::default() };
    let peers = Peers::of(&manifest, 1, limits.window());
    let importer = "echo missing 99999999999 0; head -c 900000 > /dev/null; echo landed 0 0; \
        echo registered; exec cat > /dev/null";
    let fetcher = fetcher(&peers, importer, limits);
    let begun = Monotonic.boot();
    fetch(&fetcher, &manifest, 1).await.unwrap();
    // The fourth quarter of a megabyte is taken when three quarters of a second are over.
    let took = Monotonic.boot().0 - begun.0;
    assert!(took >= 700, "it took {took} ms");
}

#[tokio::test]
async fn a_fetch_that_is_given_up_ends_its_importer_and_the_next_begins_anew() {
    let manifest = closure(2, 48 * MIB);
    let limits = FetchLimits::default();
    let peers = Peers::of(&manifest, 1, limits.window());
    let folder = tempfile::tempdir().unwrap();
    let ended = folder.path().join("ended");
    // It ends when its pipe does, which every lane and the fetch itself hold.
    let importer = format!("echo missing 99999999999 0 1; cat > /dev/null; touch {}", ended.display());
    let given_up = fetcher(&peers, &importer, limits);
    for _ in 0..20 {
        let _ = std::fs::remove_file(&ended);
        let before = peers.sent();
        tokio::select! {
            ended = fetch(&given_up, &manifest, 1) => panic!("{ended:?}"),
            () = until("begun", || peers.sent() > before + MIB) => {}
        }
        until("ended", || ended.exists()).await;
    }
    let importer = "echo missing 99999999999 0 1; head -c 1000000 > /dev/null; echo landed 0 0; \
        echo landed 0 1; echo registered; exec cat > /dev/null";
    fetch(
        &Fetcher {
            importer: ImporterCommand(["sh", "-c", importer].map(OsString::from).to_vec()),
            ..given_up
        },
        &manifest,
        1,
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn a_peer_that_sends_parts_without_bytes_is_caught() {
    let manifest = closure(1, 1000);
    let limits = FetchLimits::default();
    let peers = Peers::that_send_nothing(&manifest, limits.window());
    let fetcher = fetcher(&peers, "echo missing 99999999999 0; cat > /dev/null", limits);
    let error = fetch(&fetcher, &manifest, 1).await.unwrap_err().to_string();
    assert!(error.contains("sent something else") && error.contains("is empty"), "{error}");
}
