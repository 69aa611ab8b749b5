//! All nodes killed at one moment under load, on disks that lose what was not synced, and started again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use blixard_core::ports::consensus::Consensus as _;
use tokio::task::JoinSet;

use crate::log::{LogEngine as _, SEGMENT_BYTES, Segments};
use crate::testing::{Cluster, Keep, Killed};

const ALL: [u64; 3] = [1, 2, 3];
const WRITERS: u32 = 16;
const ANSWERS: usize = 150;

type Answered = Arc<Mutex<Vec<Vec<u8>>>>;

/// Each writer asks whichever node answers, as long as there is one.
fn write_on(cluster: &Cluster, round: u32) -> (JoinSet<()>, Answered) {
    let answered = Answered::default();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let answered = Arc::clone(&answered);
        let nodes: Vec<_> = ALL.iter().map(|number| cluster.node(*number).clone()).collect();
        writers.spawn(async move {
            for n in 0.. {
                for node in &nodes {
                    let command = format!("{round}/{writer}/{n}").into_bytes();
                    if node.propose(command.clone()).await.is_ok() {
                        answered.lock().unwrap().push(command);
                        break;
                    }
                }
                tokio::task::yield_now().await;
            }
        });
    }
    (writers, answered)
}

/// The log on a disk, by index.
fn log(killed: &Killed) -> BTreeMap<u64, Vec<u8>> {
    let engine = Segments::open(Box::new(killed.disk.after_a_crash(Keep::Nothing)), SEGMENT_BYTES).unwrap();
    engine.read(0..u64::MAX, usize::MAX).unwrap().into_iter().collect()
}

/// Logs are the same as far as everything was agreed to. One of three may lack an end that it had applied:
/// what the others have made durable is committed before it has.
fn assert_same(killed: &BTreeMap<u64, Killed>, agreed: u64) {
    let logs: Vec<_> = killed.values().map(log).collect();
    for index in 0..=agreed {
        let held: Vec<_> = logs.iter().filter_map(|log| log.get(&index)).collect();
        let distinct: BTreeSet<_> = held.iter().collect();
        assert_eq!(distinct.len(), 1, "the nodes hold different entries at {index}");
        assert!(held.len() >= 2, "only {} of 3 hold what was agreed to at {index}", held.len());
    }
}

#[tokio::test]
async fn all_killed_under_load_come_back_with_the_same_log_and_lose_nothing_acknowledged() {
    let mut cluster = Cluster::of_three().await;
    let mut acknowledged = BTreeSet::new();
    for round in 0..5 {
        let (mut writers, answered) = write_on(&cluster, round);
        while answered.lock().unwrap().len() < ANSWERS {
            tokio::task::yield_now().await;
        }
        let before_the_kill = answered.lock().unwrap().clone();
        let keep = if round == 0 { Keep::Nothing } else { Keep::Some(u64::from(round) * 0x9e37_79b9) };
        let killed = cluster.kill_all(keep).await;
        writers.shutdown().await;
        acknowledged.extend(before_the_kill);
        for (number, left) in killed {
            cluster.restart(number, left).await;
        }

        let states = cluster.agree(&ALL).await;

        let states: BTreeSet<_> = states.into_iter().collect();
        let lost: Vec<_> = acknowledged.difference(&states).map(|c| String::from_utf8_lossy(c)).collect();
        assert!(lost.is_empty(), "round {round}: lost {lost:?}");
    }
    let agreed = cluster.node(1).standing().applied.unwrap().index;
    assert_same(&cluster.kill_all(Keep::Nothing).await, agreed);
    cluster.shutdown().await;
}
