use blixard_core::command::{Command, Envelope};
use blixard_core::ports::UnixMillis;
use blixard_core::state::Files;
use blixard_proto::{decode_outcome, encode_envelope};
use blixard_types::{ClusterId, RequestId};
use futures_util::FutureExt as _;

use super::*;

mod golden;
mod rules;

fn position(index: u64) -> LogPosition {
    LogPosition { term: 1, index }
}

fn init() -> Vec<u8> {
    let command = Command::InitCluster { cluster: ClusterId([7; 16]), rules: RULES.newest };
    encode_envelope(&Envelope { request: RequestId([1; 16]), at: UnixMillis(5), by: None, command }).unwrap()
}

#[test]
fn readers_are_told_of_a_change_and_see_it() {
    let replica = Replica::default();
    let mut changes = replica.changes();
    let outcome = replica.apply(position(3), &init()).unwrap();
    assert!(decode_outcome(&outcome).unwrap().is_ok());
    assert_eq!(changes.changed().now_or_never(), Some(Ok(())));
    assert_eq!(replica.read(|state| state.applied.revision()), Revision(3));
    assert_eq!(replica.read(|state| state.identity.unwrap().cluster), ClusterId([7; 16]));
}

#[test]
fn a_checkpoint_restores_the_same_state_and_is_of_the_moment_it_was_taken() {
    let replica = Replica::default();
    replica.apply(position(3), &init()).unwrap();
    let checkpoint = replica.checkpoint();
    let before = replica.read(ClusterState::clone);
    let again = Envelope {
        request: RequestId([2; 16]),
        at: UnixMillis(6),
        by: None,
        command: Command::DeleteVm { vm: "web".parse().unwrap(), files: Files::Keep },
    };
    replica.apply(position(4), &encode_envelope(&again).unwrap()).unwrap();

    let restored = Replica::default();
    restored.restore(&checkpoint()).unwrap();
    assert_eq!(restored.read(ClusterState::clone), before);
    assert_ne!(replica.read(ClusterState::clone), before);
}

#[test]
fn a_command_that_is_not_known_stops_the_node_and_changes_nothing() {
    let replica = Replica::default();
    let mut newer = init();
    newer[1] = 99; // The version is the first field: its tag, then its value.
    for bytes in [newer.as_slice(), b"garbage", b""] {
        let halt = replica.apply(position(3), bytes).unwrap_err();
        assert_eq!(halt.position, position(3));
    }
    assert_eq!(replica.read(ClusterState::clone), ClusterState::default());
}

#[test]
fn a_checkpoint_that_cannot_be_read_leaves_the_state_as_it_was() {
    let replica = Replica::default();
    replica.apply(position(3), &init()).unwrap();
    let before = replica.read(ClusterState::clone);
    let newer = String::from_utf8(replica.checkpoint()()).unwrap().replace("\"version\":1", "\"version\":2");
    for bytes in [newer.as_bytes(), b"{}", b""] {
        assert!(replica.restore(bytes).is_err());
    }
    assert_eq!(replica.read(ClusterState::clone), before);
}

/// Commands that each leave their mark; the one at index 4 differs by `wish`.
fn marks(replica: &Replica, wish: &str) {
    let command = |index: u64, vm: &str| {
        let mut request = [0; 16];
        request[15] = u8::try_from(index).unwrap();
        let command = Command::DeleteVm { vm: vm.parse().unwrap(), files: Files::Keep };
        encode_envelope(&Envelope { request: RequestId(request), at: UnixMillis(index), by: None, command })
            .unwrap()
    };
    replica.apply(position(1), &init()).unwrap();
    for index in 2..=5 {
        let vm = if index == 4 { wish } else { "web" };
        replica.apply(position(index), &command(index, vm)).unwrap();
    }
}

fn audit(said: StateDigest) -> Vec<u8> {
    let StateDigest { revision, rules, digest } = said;
    let command = Command::Audit { revision, digest, rules };
    encode_envelope(&Envelope { request: RequestId([8; 16]), at: UnixMillis(9), by: None, command }).unwrap()
}

#[test]
fn a_server_whose_state_differs_from_the_leaders_stops_and_says_so() {
    let [leader, same, other] = ["web", "web", "db"].map(|wish| {
        let replica = Replica::auditing_every(4);
        marks(&replica, wish);
        replica
    });
    let said = leader.digests().borrow().unwrap();
    assert_eq!((said.revision, said.rules), (Revision(4), RULES.newest));
    same.apply(position(6), &audit(said)).unwrap();
    let halt = other.apply(position(6), &audit(said)).unwrap_err();
    assert!(halt.reason.contains("at revision 4"), "{halt}");
    // Who does not remember that entry, as after a restart, has nothing to compare.
    Replica::default().apply(position(6), &audit(said)).unwrap();
}

#[test]
fn a_digest_is_the_same_after_a_restart_from_a_checkpoint() {
    let replica = Replica::default();
    marks(&replica, "web");
    let restored = Replica::default();
    restored.restore(&replica.checkpoint()()).unwrap();
    assert_eq!(restored.digest_now(), replica.digest_now());
}
