//! Who may propose a closure: a builder, by its signature.

use blixard_types::{DeploymentId, NodeId};
use ed25519_dalek::{Signer as _, SigningKey};

use crate::apply::Rejection;
use crate::command::{Command, Deploy, Outcome, TakeOver, VmChange};
use crate::fixture::{Cluster, SOURCE, closure, definition, register, spec};
use crate::signature::{BuilderSignature, NodeKey, statement};
use crate::state::Role;

const BUILDER: NodeId = NodeId(1);
const HOST: NodeId = NodeId(2);

fn secret(node: NodeId) -> SigningKey {
    SigningKey::from_bytes(&[u8::try_from(node.0).unwrap(); 32])
}

fn set_key(node: NodeId) -> Command {
    Command::SetNodeKey { node, key: NodeKey(secret(node).verifying_key().to_bytes()) }
}

/// A builder and a host, whose keys are known.
fn cluster() -> Cluster {
    let mut cluster = Cluster::with_hosts(&[]);
    cluster.ok(register(1, &[Role::Builder, Role::Server]));
    cluster.ok(register(2, &[Role::Host]));
    cluster.ok(set_key(BUILDER));
    cluster.ok(set_key(HOST));
    cluster
}

fn signed(by: NodeId) -> Deploy {
    let vms = vec![definition("web", "a", spec(100)), definition("db", "b", spec(100))];
    let deployment = DeploymentId([7; 16]);
    let signature = secret(by).sign(&statement(deployment, &vms)).to_bytes();
    let builder = Some(BuilderSignature { node: by, signature });
    Deploy { deployment, source: SOURCE.parse().unwrap(), take_over: TakeOver::Refuse, vms, builder }
}

#[test]
fn a_deployment_that_its_builder_has_signed_is_accepted_and_remembers_who_it_was() {
    let mut cluster = cluster();
    cluster.ok(Command::Deploy(signed(BUILDER)));
    assert_eq!(cluster.vm("web").target_generation().unwrap().builder, Some(BUILDER));
}

#[test]
fn without_the_signature_of_a_builder_nothing_is_accepted() {
    let mut cluster = cluster();
    let unsigned = Deploy { builder: None, ..signed(BUILDER) };
    assert_eq!(cluster.apply(Command::Deploy(unsigned)), Err(Rejection::NotSigned));
    let by_host = Command::Deploy(signed(HOST));
    assert_eq!(cluster.apply(by_host), Err(Rejection::NotABuilder { node: HOST }));
    let mut forged = signed(HOST);
    forged.builder.as_mut().unwrap().node = BUILDER;
    assert_eq!(cluster.apply(Command::Deploy(forged)), Err(Rejection::BadSignature { node: BUILDER }));
    let mut stranger = signed(BUILDER);
    stranger.builder.as_mut().unwrap().node = NodeId(9);
    assert_eq!(cluster.apply(Command::Deploy(stranger)), Err(Rejection::UnknownNode { node: NodeId(9) }));
    assert!(cluster.state.vms.is_empty());
}

#[test]
fn whatever_is_changed_after_it_was_signed_is_refused() {
    let changes: [fn(&mut Deploy); 8] = [
        |deploy| deploy.deployment = DeploymentId([8; 16]),
        |deploy| deploy.vms[0].closure = closure("c"),
        |deploy| deploy.vms[0].closure.closure_digest.0[0] ^= 1,
        |deploy| deploy.vms[0].closure.nar_size += 1,
        |deploy| deploy.vms[0].drv = deploy.vms[1].drv.clone(),
        |deploy| deploy.vms[0].vm = "other".parse().unwrap(),
        |deploy| drop(deploy.vms.pop()),
        |deploy| deploy.builder.as_mut().unwrap().signature[5] ^= 1,
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let mut deploy = signed(BUILDER);
        change(&mut deploy);
        let refused = cluster().apply(Command::Deploy(deploy));
        assert_eq!(refused, Err(Rejection::BadSignature { node: BUILDER }), "change {at}");
    }
}

#[test]
fn a_key_is_set_once_for_a_node_that_is_there_and_a_new_one_replaces_it() {
    let mut cluster = cluster();
    assert!(matches!(cluster.ok(set_key(BUILDER)), crate::command::Outcome::Unchanged));
    let unknown = Command::SetNodeKey { node: NodeId(9), key: NodeKey([1; 32]) };
    assert_eq!(cluster.apply(unknown), Err(Rejection::UnknownNode { node: NodeId(9) }));
    cluster.ok(Command::SetNodeKey { node: BUILDER, key: NodeKey(secret(HOST).verifying_key().to_bytes()) });
    let old = cluster.apply(Command::Deploy(signed(BUILDER)));
    assert_eq!(old, Err(Rejection::BadSignature { node: BUILDER }));
    // A node that is registered anew, with other roles, keeps its key.
    cluster.ok(set_key(BUILDER));
    cluster.ok(register(1, &[Role::Builder, Role::Server]));
    cluster.ok(Command::Deploy(signed(BUILDER)));
}

#[test]
fn before_any_builder_has_a_key_there_is_nothing_to_check_with() {
    let mut cluster = Cluster::with_hosts(&[]);
    cluster.ok(register(1, &[Role::Builder]));
    let unsigned = Deploy { builder: None, ..signed(BUILDER) };
    cluster.ok(Command::Deploy(unsigned));
}

#[test]
fn what_another_builder_has_built_again_is_its_from_then_on_and_no_new_generation() {
    let mut cluster = cluster();
    cluster.ok(Command::Deploy(signed(BUILDER)));
    cluster.ok(register(2, &[Role::Host, Role::Builder]));
    let again = Deploy { deployment: DeploymentId([8; 16]), ..signed(HOST) };
    let signature = secret(HOST).sign(&statement(again.deployment, &again.vms)).to_bytes();
    let again = Deploy { builder: Some(BuilderSignature { node: HOST, signature }), ..again };
    let Outcome::Deployed { vms, .. } = cluster.ok(Command::Deploy(again)) else { panic!() };
    assert!(vms.iter().all(|vm| vm.change == VmChange::Unchanged), "{vms:?}");
    let web = cluster.vm("web").target_generation().unwrap();
    assert_eq!((web.builder, web.deployment), (Some(HOST), DeploymentId([8; 16])));
    // The same builder's root goes by the deployment that made it.
    let once_more = Deploy { deployment: DeploymentId([9; 16]), ..signed(HOST) };
    let signature = secret(HOST).sign(&statement(once_more.deployment, &once_more.vms)).to_bytes();
    cluster.ok(Command::Deploy(Deploy {
        builder: Some(BuilderSignature { node: HOST, signature }),
        ..once_more
    }));
    assert_eq!(cluster.vm("web").target_generation().unwrap().deployment, DeploymentId([8; 16]));
}
