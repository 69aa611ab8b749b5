//! A member that is left, when the others are gone for ever.

use blixard_core::ports::consensus::{Consensus as _, Standing};
use blixard_types::NodeId;

use super::options;
use crate::node::alone::{AloneError, stand_alone_on};
use crate::node::open::OpenError;
use crate::testing::{Cluster, Keep, Killed, Recorder, until};
use crate::{RaftNode, RaftOptions};

const ALL: [u64; 3] = [1, 2, 3];
const NEW: &[u8] = b"a new incarnation";

/// What is left of the second of three nodes that had agreed on so many commands.
async fn left(commands: u32, change: fn(&mut RaftOptions)) -> Killed {
    let mut cluster = Cluster::with(change).await;
    cluster.propose_many(&ALL, 0..commands).await;
    cluster.agree(&ALL).await;
    let mut killed = cluster.kill_all(Keep::Nothing).await;
    killed.remove(&2).unwrap()
}

fn member(number: u64, left: &Killed) -> RaftOptions {
    RaftOptions::new(NodeId(number), left.directory.path())
}

fn stand_alone(number: u64, left: &Killed, command: Option<&[u8]>) -> (Result<(), AloneError>, Vec<Vec<u8>>) {
    let machine = Recorder::new();
    let disk = left.disk.clone();
    let decided = command.map(<[u8]>::to_vec);
    let done = stand_alone_on(
        &member(number, left),
        machine.as_ref(),
        || decided,
        move |_| Ok::<_, OpenError>(Box::new(disk)),
    );
    (done, machine.commands())
}

/// Opens what is left, with nobody else in the world.
async fn open(left: &Killed) -> (RaftNode, std::sync::Arc<Recorder>) {
    let machine = Recorder::new();
    let disk = Box::new(left.disk.clone());
    (RaftNode::open_on(member(2, left), machine.clone() as _, disk).await.unwrap(), machine)
}

#[tokio::test]
async fn who_is_left_leads_alone_with_all_that_it_had_and_what_was_decided() {
    for change in [|_: &mut RaftOptions| (), |options: &mut RaftOptions| options.checkpoint_every = 7] {
        let left = left(20, change).await;
        let (done, seen) = stand_alone(2, &left, Some(NEW));
        done.unwrap();
        assert_eq!(seen.len(), 20, "the state is known when it is decided");

        let (node, machine) = open(&left).await;
        assert!(node.is_only_voter().await.unwrap());
        until(&node, Standing::leads).await;
        node.recovered().await.unwrap();
        let mut expected = seen;
        expected.push(NEW.to_vec());
        assert_eq!(machine.commands(), expected);
        assert_eq!(node.standing().voters, [NodeId(2)]);
        node.propose(b"next".to_vec()).await.unwrap();
        node.shutdown().await;
    }
}

#[tokio::test]
async fn without_a_decision_nothing_changes() {
    let left = left(3, |_| ()).await;
    let (done, seen) = stand_alone(2, &left, None);
    done.unwrap();
    assert_eq!(seen.len(), 3);
    let (node, _) = open(&left).await;
    assert!(!node.is_only_voter().await.unwrap());
    node.shutdown().await;
}

#[tokio::test]
async fn it_can_be_done_again() {
    let left = left(3, |_| ()).await;
    stand_alone(2, &left, Some(NEW)).0.unwrap();
    let (done, seen) = stand_alone(2, &left, Some(b"another"));
    done.unwrap();
    assert_eq!(seen.last().map(Vec::as_slice), Some(NEW));
    let (node, machine) = open(&left).await;
    until(&node, Standing::leads).await;
    node.recovered().await.unwrap();
    assert_eq!(machine.commands().len(), 5);
    node.shutdown().await;
}

#[test]
fn who_has_no_log_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let refused = RaftNode::stand_alone(&options(directory.path()), Recorder::new().as_ref(), || None);
    assert!(matches!(refused, Err(AloneError::NoLog(_))), "{refused:?}");
}
