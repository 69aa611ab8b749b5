//! Programs that know other rules than their cluster goes by, and logs of before rules had numbers.

use blixard_core::state::Role;
use blixard_types::{NodeId, Sha256Hash};

use super::*;

const EVERY: u64 = 4;

fn knowing(oldest: u32, newest: u32) -> Replica {
    Replica::knowing(KnownRules { oldest: Rules(oldest), newest: Rules(newest) }, EVERY)
}

fn encode(index: u8, command: Command) -> Vec<u8> {
    let (request, at) = (RequestId([index; 16]), UnixMillis(index.into()));
    encode_envelope(&Envelope { request, at, by: None, command }).unwrap()
}

/// A cluster that begins with these rules, and whose one server knows newer ones from entry 4 on.
fn log(founded: u32, newest: u32) -> Vec<Vec<u8>> {
    let node = NodeId(1);
    let (name, roles) = ("n1".parse().unwrap(), [Role::Server].into());
    let commands = [
        Command::InitCluster { cluster: ClusterId([7; 16]), rules: Rules(founded) },
        Command::RegisterNode { node, name, roles },
        Command::DeleteVm { vm: "web".parse().unwrap(), files: Files::Keep },
        Command::KnowRules { node, newest: Rules(newest) },
        Command::DeleteVm { vm: "db".parse().unwrap(), files: Files::Keep },
    ];
    (1..).zip(commands).map(|(index, command)| encode(index, command)).collect()
}

fn apply_all(replica: &Replica, log: &[Vec<u8>]) -> Result<(), ApplyHalt> {
    (1..).zip(log).try_for_each(|(index, entry)| replica.apply(position(index), entry).map(drop))
}

/// What a leader says whose state at this entry was another one.
fn other(rules: u32) -> Vec<u8> {
    let digest = Sha256Hash::of(b"another state");
    audit(StateDigest { revision: Revision(EVERY), rules: Rules(rules), digest })
}

#[test]
fn a_log_of_before_is_read_whatever_its_leaders_made_of_it() {
    let replica = knowing(1, 2);
    apply_all(&replica, &log(0, 0)).unwrap();
    assert_eq!(replica.digests().borrow().unwrap().rules, Rules::UNNUMBERED);
    replica.apply(position(6), &other(0)).unwrap();
}

#[test]
fn a_state_that_differs_by_the_same_rules_still_stops_its_server() {
    for rules in [1, 2] {
        let replica = knowing(1, 2);
        apply_all(&replica, &log(1, rules)).unwrap();
        let own = replica.digests().borrow().unwrap();
        assert_eq!(own.rules, Rules(rules));
        replica.apply(position(6), &audit(own)).unwrap();
        let halt = replica.apply(position(7), &other(rules)).unwrap_err();
        assert!(halt.reason.contains("at revision 4"), "{halt}");
    }
    // Who is the only one to go on without numbers has not the state of the others.
    let replica = knowing(1, 2);
    apply_all(&replica, &log(0, 0)).unwrap();
    assert!(replica.apply(position(6), &other(1)).is_err());
}

#[test]
fn a_server_stops_where_rules_begin_that_it_does_not_know() {
    let halt = apply_all(&knowing(1, 1), &log(1, 2)).unwrap_err();
    assert_eq!(halt.position, position(4));
    insta::assert_snapshot!(halt.reason, @"the cluster goes by rules 2, which are newer than what this program knows (1): upgrade this server to what the others run");
    let halt = apply_all(&knowing(2, 3), &log(1, 1)).unwrap_err();
    assert_eq!(halt.position, position(1));
    insta::assert_snapshot!(halt.reason, @"the cluster goes by rules 1, which this program has forgotten (it knows 2 and later): run a version between the two on every server first");
}

#[test]
fn a_checkpoint_by_rules_that_are_not_known_is_refused_for_that_reason() {
    let newer = knowing(1, 2);
    apply_all(&newer, &log(1, 2)).unwrap();
    let checkpoint = newer.checkpoint()();
    // Newer programs keep what this one has never heard of.
    let strange =
        String::from_utf8(checkpoint.clone()).unwrap().replacen("\"rules\"", "\"new\":1,\"rules\"", 1);
    for checkpoint in [checkpoint.as_slice(), strange.as_bytes()] {
        let refused = knowing(1, 1).restore(checkpoint).unwrap_err();
        assert!(refused.reason.starts_with("the cluster goes by rules 2"), "{refused}");
    }
    let forgotten = knowing(3, 3).restore(&checkpoint).unwrap_err();
    assert!(forgotten.reason.contains("has forgotten"), "{forgotten}");
    knowing(2, 3).restore(&checkpoint).unwrap();
}
