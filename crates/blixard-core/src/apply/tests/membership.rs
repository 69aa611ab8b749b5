//! Tokens, joining, certificates, going.

use blixard_types::{CertificateSerial, Sha256Hash};

use super::*;
use crate::apply::MembershipRejection as Refused;
use crate::command::{AdmitNode, MembershipCommand};
use crate::fixture::discard;
use crate::ports::UnixMillis;
use crate::state::{
    CERTIFICATES_KEPT, Fence, PeerStanding, Roles, TOKEN_REMEMBERED_MS, TOKEN_TTL_MAX_MS, TOKENS_MAX,
};

const TTL_MS: u64 = 1000;

fn hash(text: &str) -> Sha256Hash {
    Sha256Hash::of(text.as_bytes())
}

fn authority() -> Command {
    Command::Membership(MembershipCommand::AdoptAuthority { fingerprint: hash("authority") })
}

fn token(secret: &str, roles: &[Role]) -> Command {
    let roles: Roles = roles.iter().copied().collect();
    Command::Membership(MembershipCommand::CreateToken { token: hash(secret), roles, ttl_ms: TTL_MS })
}

fn admit(secret: &str, key: &str, name: &str, roles: &[Role]) -> Command {
    Command::Membership(MembershipCommand::AdmitNode(AdmitNode {
        token: hash(secret),
        key: hash(key),
        name: name.parse().unwrap(),
        roles: roles.iter().copied().collect(),
        address: Some(format!("{name}:7440").parse().unwrap()),
    }))
}

fn go(node: u64) -> Command {
    Command::Membership(MembershipCommand::RemoveNode { node: NodeId(node) })
}

fn forget(node: u64) -> Command {
    Command::Membership(MembershipCommand::ForgetNode { node: NodeId(node) })
}

fn certify(node: u64) -> Command {
    Command::Membership(MembershipCommand::CertifyNode { node: NodeId(node), shown: None })
}

/// [`scene`] with an authority and a token `t` for a server.
fn joinable() -> Cluster {
    let mut cluster = scene();
    cluster.ok(authority());
    cluster.ok(token("t", &[Role::Server]));
    cluster
}

#[track_caller]
fn refused(cluster: &mut Cluster, command: Command, expected: &Refused) {
    let before = but_for_the_log(cluster.state.clone());
    let shown = format!("{command:?}");
    assert_eq!(cluster.apply(command), Err(Rejection::Membership(expected.clone())), "{shown}");
    assert_eq!(but_for_the_log(cluster.state.clone()), before, "{shown}");
}

#[track_caller]
fn certified(outcome: &Outcome) -> (u64, u64) {
    let Outcome::Certified { node, serial, .. } = outcome else { panic!("{outcome:?}") };
    (node.0, serial.0)
}

#[test]
fn a_machine_joins_with_a_token_once_and_gets_a_number_of_its_own() {
    let mut cluster = joinable();
    let joined = cluster.ok(admit("t", "k", "n5", &[Role::Server]));
    assert_eq!(certified(&joined), (5, 1));
    let node = &cluster.state.nodes[&NodeId(5)];
    assert_eq!((node.name.as_str(), &node.roles), ("n5", &[Role::Server].into()));
    assert_eq!(node.address.as_ref().unwrap().as_str(), "n5:7440");
    assert_eq!(cluster.state.peer_standing(NodeId(5), CertificateSerial(1)), PeerStanding::Member);
    refused(&mut cluster, admit("t", "another", "n6", &[Role::Server]), &Refused::TokenUsed);
}

#[test]
fn an_interrupted_join_goes_on_as_the_same_node_with_another_certificate() {
    let mut cluster = joinable();
    cluster.ok(admit("t", "k", "n5", &[Role::Server]));
    // Also when the token has run out in between.
    cluster.at = UnixMillis(cluster.at.0 + TTL_MS + 1);
    assert_eq!(certified(&cluster.ok(admit("t", "k", "n5", &[Role::Server]))), (5, 2));
    assert_eq!(cluster.state.nodes.len(), 5);
    // But not once the node has been removed.
    cluster.ok(go(5));
    cluster.ok(forget(5));
    refused(&mut cluster, admit("t", "k", "n5", &[Role::Server]), &Refused::TokenUsed);
}

#[test]
fn a_token_that_is_unknown_or_over_or_too_narrow_makes_nothing() {
    let mut cluster = joinable();
    refused(&mut cluster, admit("x", "k", "n5", &[Role::Server]), &Refused::UnknownToken);
    let (wanted, allowed) = ([Role::Server, Role::Builder].into(), [Role::Server].into());
    let narrow = Refused::TokenRoles { wanted, allowed };
    refused(&mut cluster, admit("t", "k", "n5", &[Role::Server, Role::Builder]), &narrow);
    let Command::Membership(MembershipCommand::AdmitNode(mut mute)) = admit("t", "k", "n5", &[Role::Server])
    else {
        unreachable!()
    };
    mute.address = None;
    let mute = Command::Membership(MembershipCommand::AdmitNode(mute));
    refused(&mut cluster, mute, &Refused::ServerWithoutAddress);
    let taken = cluster.apply(admit("t", "k", "n1", &[Role::Server]));
    assert!(matches!(taken, Err(Rejection::NameTaken { .. })), "{taken:?}");
    cluster.at = UnixMillis(cluster.at.0 + TTL_MS + 1);
    refused(&mut cluster, admit("t", "k", "n5", &[Role::Server]), &Refused::TokenExpired);
}

#[test]
fn fencing_begins_with_the_admission_of_a_second_host_and_waits_for_the_first_to_hold_a_lease() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000)]);
    cluster.ok(authority());
    assert_eq!(cluster.state.fencing.since, None);
    cluster.ok(token("h", &[Role::Server, Role::Host]));
    let id = certified(&cluster.ok(admit("h", "k", "n5", &[Role::Host]))).0;
    assert_eq!(cluster.state.fencing.since, Some(cluster.state.applied.revision()));
    assert_eq!(cluster.state.nodes[&NodeId(id)].fence, Fence::Armed);
    cluster.ok(session(id, 1, facts(1000)));
    cluster.deploy("web", "a", spec(100));
    let placed = cluster.apply(place("web", id, 1));
    assert!(matches!(placed, Err(Rejection::BesideUnfenced { .. })), "{placed:?}");
}

#[test]
fn tokens_are_bounded_in_number_and_time_and_forgotten_when_they_are_over() {
    let mut cluster = scene();
    refused(&mut cluster, token("t", &[Role::Server]), &Refused::NoAuthority);
    cluster.ok(authority());
    refused(&mut cluster, token("t", &[]), &Refused::TokenWithoutRoles);
    for ttl_ms in [0, TOKEN_TTL_MAX_MS + 1] {
        let roles = [Role::Server].into();
        let token = MembershipCommand::CreateToken { token: hash("t"), roles, ttl_ms };
        refused(&mut cluster, Command::Membership(token), &Refused::TokenLifetime { ttl_ms });
    }
    for number in 0..TOKENS_MAX {
        cluster.ok(token(&number.to_string(), &[Role::Server]));
    }
    refused(&mut cluster, token("0", &[Role::Server]), &Refused::TokenKnown);
    refused(&mut cluster, token("t", &[Role::Server]), &Refused::TooManyTokens);
    cluster.ok(admit("0", "k", "n5", &[Role::Server]));
    cluster.at = UnixMillis(cluster.at.0 + TTL_MS + 1);
    cluster.ok(token("t", &[Role::Server]));
    assert_eq!(cluster.state.registry.tokens.len(), 2, "the used one is remembered for its user");
    cluster.at = UnixMillis(cluster.at.0 + TOKEN_REMEMBERED_MS);
    cluster.ok(token("u", &[Role::Server]));
    assert_eq!(cluster.state.registry.tokens.len(), 1);
}

#[test]
fn a_cluster_has_one_authority() {
    let mut cluster = joinable();
    assert_eq!(cluster.ok(authority()), Outcome::Unchanged);
    let other = MembershipCommand::AdoptAuthority { fingerprint: hash("other") };
    refused(&mut cluster, Command::Membership(other), &Refused::OtherAuthority);
    refused(&mut scene(), certify(1), &Refused::NoAuthority);
}

#[test]
fn the_certificate_that_a_node_uses_counts_however_many_got_lost_on_their_way() {
    let mut cluster = joinable();
    cluster.ok(admit("t", "k", "n5", &[Role::Server]));
    let renew =
        |shown| MembershipCommand::CertifyNode { node: NodeId(5), shown: Some(CertificateSerial(shown)) };
    let counts = |cluster: &Cluster| {
        let kept = cluster.state.nodes[&NodeId(5)].certificates.iter();
        kept.map(|serial| serial.0).collect::<Vec<_>>()
    };
    for kept in [[1, 2], [1, 3], [1, 4]] {
        cluster.ok(Command::Membership(renew(1)));
        assert_eq!(counts(&cluster), kept);
    }
    // The fourth has arrived.
    cluster.ok(Command::Membership(renew(4)));
    assert_eq!(counts(&cluster), [4, 5]);
    // What does not count is not kept by being shown.
    cluster.ok(Command::Membership(renew(2)));
    assert_eq!(counts(&cluster), [5, 6]);
}

#[test]
fn a_certificate_counts_until_the_second_one_after_it_or_until_its_node_goes() {
    let mut cluster = joinable();
    cluster.ok(admit("t", "k", "n5", &[Role::Server]));
    let standing =
        |cluster: &Cluster, serial| cluster.state.peer_standing(NodeId(5), CertificateSerial(serial));
    for serial in 2..=3 {
        assert_eq!(certified(&cluster.ok(certify(5))), (5, serial));
    }
    assert_eq!(cluster.state.nodes[&NodeId(5)].certificates.len(), CERTIFICATES_KEPT);
    assert_eq!(
        [1, 2, 3, 4].map(|serial| standing(&cluster, serial)),
        [PeerStanding::Replaced, PeerStanding::Member, PeerStanding::Member, PeerStanding::Newer]
    );
    let unknown = cluster.state.peer_standing(NodeId(6), CertificateSerial(4));
    assert_eq!(unknown, PeerStanding::Newer, "it joined after what this copy knows");
    cluster.ok(go(5));
    assert_eq!(standing(&cluster, 3), PeerStanding::Member, "it has to hand over first");
    cluster.ok(forget(5));
    assert_eq!([3, 4].map(|serial| standing(&cluster, serial)), [PeerStanding::Removed; 2]);
    assert_eq!(cluster.state.registry.removed.back().unwrap().node, NodeId(5));
}

#[test]
fn a_node_goes_only_without_vms_and_never_the_last_server() {
    let mut cluster = joinable();
    refused(&mut cluster, go(3), &Refused::LastServer { name: "n3".parse().unwrap() });
    cluster.ok(admit("t", "k", "n5", &[Role::Server]));
    refused(&mut cluster, go(1), &Refused::HostsVms { name: "n1".parse().unwrap(), vms: 2 });
    refused(&mut cluster, forget(5), &Refused::NotLeaving { name: "n5".parse().unwrap() });
    cluster.ok(go(3));
    assert_eq!(cluster.ok(go(3)), Outcome::Unchanged);
    refused(&mut cluster, go(5), &Refused::LastServer { name: "n5".parse().unwrap() });
    assert_eq!(cluster.apply(go(9)), Err(Rejection::UnknownNode { node: NodeId(9) }));
}

#[test]
fn nothing_is_placed_on_a_node_that_goes() {
    let mut cluster = joinable();
    cluster.ok(go(2));
    refused(&mut cluster, place("idle", 2, 1), &Refused::Leaving { name: "n2".parse().unwrap() });
    cluster.ok(place("idle", 1, 1));
}

#[test]
fn a_deletion_with_files_does_not_wait_for_a_node_that_is_gone() {
    for ask_after in [false, true] {
        let mut cluster = joinable();
        cluster.ok(place("idle", 2, 1));
        cluster.ok(desired("idle", Desired::Stopped));
        cluster.ok(report(2, "idle", 1, VmReport::Stopped));
        cluster.ok(go(2));
        if !ask_after {
            cluster.ok(discard("idle"));
            assert!(cluster.state.vms.contains_key(&vm("idle")), "its files are there");
        }
        cluster.ok(forget(2));
        if ask_after {
            cluster.ok(discard("idle"));
        }
        assert!(!cluster.state.vms.contains_key(&vm("idle")), "asked after: {ask_after}");
    }
}

#[test]
fn a_number_is_never_used_again() {
    let mut cluster = joinable();
    cluster.ok(admit("t", "k", "n5", &[Role::Server]));
    cluster.ok(go(5));
    cluster.ok(forget(5));
    cluster.ok(token("u", &[Role::Server]));
    // The name may be.
    assert_eq!(certified(&cluster.ok(admit("u", "k", "n5", &[Role::Server]))), (6, 2));
}

#[test]
fn events_are_resumed_without_gap_or_refused_as_forgotten() {
    let mut cluster = Cluster::with_hosts(&[]);
    cluster.deploy("web", "a", spec(1));
    let all = cluster.state.events_after(Revision(0)).unwrap().count();
    assert_eq!(all, cluster.state.events.iter().count());
    for round in 0..EVENTS_KEPT + 5 {
        let wanted = [Desired::Stopped, Desired::Running][round % 2];
        cluster.ok(desired("web", wanted));
    }
    let oldest = cluster.state.events_forgotten;
    assert!(oldest > Revision(0));
    let kept: Vec<_> = cluster.state.events_after(oldest).unwrap().collect();
    assert_eq!(kept.len(), EVENTS_KEPT);
    assert_eq!(kept[0].revision, oldest.next());
    let gone = cluster.state.events_after(Revision(oldest.0 - 1)).map(Iterator::count);
    assert_eq!(gone, Err(crate::state::Compacted { oldest }));
    let now = Revision(cluster.index);
    assert_eq!(cluster.state.events_after(now).unwrap().count(), 0);
}
