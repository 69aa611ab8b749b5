use blixard_types::spec::OnPartition;

use super::*;
use crate::command::{Command, FenceCommand};
use crate::fixture::{Cluster, lost, place, spec, vm};
use crate::state::Admission;

fn said(cluster: &Cluster, node: u64, answers: Answers) -> Vec<String> {
    let all = objections(&cluster.state, NodeId(node), answers);
    all.iter().map(|one| format!("{}{one}", if one.forbids() { "! " } else { "" })).collect()
}

fn cordon(node: u64) -> Command {
    Command::Fence(FenceCommand::SetAdmission { node: NodeId(node), admission: Admission::Cordoned })
}

#[test]
fn nothing_speaks_against_giving_up_a_silent_host_among_others() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000)]);
    cluster.deploy("web", "web", spec(100));
    cluster.ok(place("web", 1, 1));
    assert_eq!(said(&cluster, 1, Answers::No), [] as [&str; 0]);
}

#[test]
fn a_host_that_answers_is_not_off() {
    let cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000)]);
    let against = said(&cluster, 1, Answers::Yes);
    assert_eq!(
        against,
        [
            "! its daemon answers, so it is not off: what runs there is killed when its lease ends, not shut down"
        ]
    );
    let mut cluster = cluster;
    cluster.ok(lost(1));
    assert_eq!(said(&cluster, 1, Answers::Yes), [] as [&str; 0], "it is given up already");
}

#[test]
fn without_another_host_that_takes_vms_they_would_run_nowhere() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000)]);
    cluster.deploy("web", "web", spec(100));
    cluster.ok(place("web", 1, 1));
    cluster.ok(cordon(2));
    assert_eq!(said(&cluster, 2, Answers::No), [] as [&str; 0], "nothing runs there");
    cluster.ok(cordon(1));
    assert_eq!(said(&cluster, 2, Answers::No), [] as [&str; 0], "nothing runs there");
    assert_eq!(
        said(&cluster, 1, Answers::No),
        ["! no other host takes vms, so its 1 vm would run nowhere before it is back"]
    );
}

#[test]
fn what_no_lease_ends_may_run_twice() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000)]);
    let mut kept = spec(100);
    kept.placement.on_partition = OnPartition::Keep;
    cluster.deploy("web", "web", kept);
    cluster.ok(place("web", 1, 1));
    assert_eq!(
        said(&cluster, 1, Answers::No),
        [
            "! no other host takes vms, so its 1 vm would run nowhere before it is back",
            "it holds no lease that ends, so what runs there runs on, and then twice, unless it is off",
            "default/web runs on in a partition, so it would run elsewhere at once, and twice unless it is off",
        ]
    );
    let two = Objection::Kept(vec![vm("a"), vm("b")]).to_string();
    assert_eq!(
        two,
        "default/a, default/b run on in a partition, so they would run elsewhere at once, and twice unless it is off"
    );
}
