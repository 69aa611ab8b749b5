//! What is to be known before one server goes on without the others.
//!
//! Owns: the number of the incarnation that it begins, and what is told to the person who decides. Refuses to know:
//! how the server becomes the only voter.

use std::fmt;

use blixard_types::{Incarnation, NodeId, NodeName, VmId, VolumeId};

use crate::command::{Command, FenceCommand};
use crate::ports::UnixMillis;
use crate::state::{ClusterState, InPartition, Vm};

/// 2020-01-01, in minutes since 1970.
const EPOCH_MINUTES: u64 = 26_297_280;

/// What a recovery makes of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// Who goes on.
    pub survivor: NodeId,
    /// What begins.
    pub incarnation: Incarnation,
    /// How long ago the newest event was that this server knows of.
    pub newest_ms: Option<u64>,
    /// Who is cut off for ever.
    pub cut_off: Vec<NodeName>,
    /// Vms that were placed, and are to be placed anew.
    pub placed: usize,
    /// Until then none is, in milliseconds.
    pub quarantine_ms: u64,
    /// Volumes on nodes that are cut off, for which their vms wait.
    pub volumes: Vec<(VolumeId, NodeName)>,
    /// Vms that may run where they cannot be seen.
    pub kept: Vec<(VmId, NodeName)>,
}

/// Why a server cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotRecover {
    /// There is no cluster yet.
    #[error("this node is in no cluster")]
    NoCluster,
    /// The state does not know it.
    #[error("by its own state this node, {0}, is no member of the cluster")]
    NoMember(NodeId),
}

/// What it means that this server goes on without the others.
///
/// # Errors
/// When it is no member of a cluster.
pub fn plan(state: &ClusterState, survivor: NodeId, now: UnixMillis) -> Result<Recovery, CannotRecover> {
    if state.identity.is_none() {
        return Err(CannotRecover::NoCluster);
    }
    if !state.nodes.contains_key(&survivor) {
        return Err(CannotRecover::NoMember(survivor));
    }
    let gone = |id: NodeId| state.nodes.get(&id).filter(|_| id != survivor).map(|node| node.name.clone());
    let volumes = state.volumes.iter().flat_map(|(vm, volumes)| {
        let of = move |name| VolumeId { vm: vm.clone(), name };
        volumes.iter().filter_map(move |(name, volume)| Some((of(name.clone()), gone(volume.node)?)))
    });
    let kept = state.vms.iter().filter(|(_, vm)| vm.in_partition != InPartition::Stops);
    let moves = |vm: &&Vm| vm.run.host().is_some() && vm.in_partition == InPartition::Stops;
    Ok(Recovery {
        survivor,
        incarnation: next_incarnation(state.incarnation(), now),
        newest_ms: state.events.iter().last().map(|event| now.since(event.at)),
        cut_off: state.nodes.keys().filter_map(|&id| gone(id)).collect(),
        placed: state.vms.values().filter(moves).count(),
        quarantine_ms: state.fencing.recovery_quarantine_ms(),
        volumes: volumes.collect(),
        kept: kept.filter_map(|(id, vm)| Some((id.clone(), gone(vm.run.host()?)?))).collect(),
    })
}

/// Higher than the last. By the time, because another recovery may have begun from the same state: two of them
/// that are begun in different minutes differ.
fn next_incarnation(last: Incarnation, now: UnixMillis) -> Incarnation {
    let minutes = (now.0 / 60_000).saturating_sub(EPOCH_MINUTES);
    Incarnation(minutes.max(last.0.saturating_add(1)))
}

impl Recovery {
    /// What begins it, in the log.
    #[must_use]
    pub fn command(&self) -> Command {
        let (incarnation, survivor) = (self.incarnation, Some(self.survivor));
        Command::Fence(FenceCommand::BeginIncarnation { incarnation, survivor })
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let newest =
            self.newest_ms.map_or_else(|| "of no event".to_owned(), |ms| format!("{} s old", ms / 1000));
        writeln!(
            out,
            "The newest event that this server knows of is {newest}: what was agreed on without it is lost."
        )?;
        if !self.cut_off.is_empty() {
            let names: Vec<&str> = self.cut_off.iter().map(NodeName::as_str).collect();
            writeln!(
                out,
                "Cut off for ever, their certificates void: {}. Make sure that none of them runs any more: \
                 what they agree on without this server is not seen here, and a vm could run twice. \
                 One that is to be used again gives up its data directory and joins with a new token.",
                names.join(", ")
            )?;
        }
        writeln!(
            out,
            "Vms that were placed, and are placed anew: {}, none before {} s after this server leads.",
            self.placed,
            self.quarantine_ms.div_ceil(1000)
        )?;
        for (volume, node) in &self.volumes {
            writeln!(
                out,
                "The volume {volume} is on {node}: its vm waits until `blixard volume forget {volume}`."
            )?;
        }
        for (vm, node) in &self.kept {
            writeln!(
                out,
                "{vm} is kept where it runs: it moves when `blixard node lost {node} --confirm` says so."
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{Cluster, facts, place, register, session, spec, volume};
    use blixard_types::spec::{OnPartition, Spec, VolumeKind};

    /// 2026-01-01, 00:01.
    const NOW: UnixMillis = UnixMillis(1_767_225_660_000);

    fn cluster() -> Cluster {
        let mut cluster = Cluster::with_hosts(&[(1, 4096), (2, 4096)]);
        let with = Spec { volumes: vec![volume("data", 10, VolumeKind::Local)], ..spec(64) };
        cluster.deploy("web", "a", spec(64));
        cluster.deploy("db", "a", with);
        cluster.ok(place("web", 1, 1));
        cluster.ok(place("db", 2, 1));
        cluster
    }

    #[test]
    fn a_person_is_told_what_is_lost_who_is_cut_off_and_what_waits() {
        let cluster = cluster();
        let recovery = plan(&cluster.state, NodeId(1), NOW).unwrap();
        let told = recovery.to_string();
        for words in ["void: n2.", "placed anew: 2, none before 37 s", "The volume default/db:data is on n2"]
        {
            assert!(told.contains(words), "no {words:?} in: {told}");
        }
        assert_eq!(recovery.incarnation, Incarnation(3_156_481), "minutes since 2020");
        assert_eq!(plan(&cluster.state, NodeId(9), NOW), Err(CannotRecover::NoMember(NodeId(9))));
        assert_eq!(plan(&ClusterState::default(), NodeId(1), NOW), Err(CannotRecover::NoCluster));
    }

    #[test]
    fn what_may_go_on_where_it_is_cut_off_is_named_and_not_placed_anew() {
        let mut cluster = cluster();
        let mut kept = spec(64);
        kept.placement.on_partition = OnPartition::Keep;
        for (name, generations) in [("kept", vec![kept.clone()]), ("either", vec![kept, spec(64)])] {
            for (number, spec) in generations.into_iter().enumerate() {
                cluster.deploy(name, ["a", "b"][number], spec);
                if number == 0 {
                    cluster.ok(place(name, 2, 1));
                }
            }
        }
        let recovery = plan(&cluster.state, NodeId(1), NOW).unwrap();
        let named: Vec<_> =
            recovery.kept.iter().map(|(vm, node)| (vm.name().to_string(), node.to_string())).collect();
        let on = |name: &str| (name.to_owned(), "n2".to_owned());
        assert_eq!(named, [on("either"), on("kept")]);
        assert_eq!(recovery.placed, 2);
        cluster.ok(recovery.command());
        for name in ["either", "kept"] {
            assert_eq!(cluster.vm(name).run.host(), Some(NodeId(2)), "{name} may run there yet");
        }
    }

    #[test]
    fn an_incarnation_is_higher_than_the_last_whatever_the_clock_says() {
        assert_eq!(next_incarnation(Incarnation(7), UnixMillis(0)), Incarnation(8));
    }

    #[test]
    fn a_recovery_ends_all_that_was_placed_and_cuts_the_others_off() {
        use crate::apply::Rejection;
        use crate::state::{PeerStanding, Role, Token};
        use blixard_types::{CertificateSerial, Sha256Hash};
        let mut cluster = cluster();
        for node in [1, 2] {
            cluster.ok(register(node, &[Role::Server, Role::Host]));
        }
        cluster.state.registry.highest_serial = CertificateSerial(2);
        for (id, serial) in [(1, 1), (2, 2)] {
            let node = cluster.state.nodes.get_mut(&NodeId(id)).unwrap();
            node.certificates.push_back(CertificateSerial(serial));
        }
        let (roles, expires) = ([Role::Host].into(), UnixMillis(u64::MAX));
        let token = Token { roles, expires, used: None };
        cluster.state.registry.tokens.insert(Sha256Hash([7; 32]), token);
        let recovery = plan(&cluster.state, NodeId(1), NOW).unwrap();
        cluster.ok(recovery.command());
        assert!(cluster.state.registry.tokens.is_empty(), "no token gets them another certificate");
        assert!(
            cluster.state.nodes.values().all(|node| node.session.is_none()),
            "every daemon says hello again"
        );
        let standing = |node, serial| cluster.state.peer_standing(NodeId(node), CertificateSerial(serial));
        assert_eq!(standing(1, 1), PeerStanding::Member);
        assert_eq!(standing(2, 2), PeerStanding::Replaced);
        assert!(!cluster.state.nodes[&NodeId(2)].roles.contains(&Role::Server));
        assert!(cluster.state.nodes[&NodeId(1)].roles.contains(&Role::Server));
        assert!(cluster.state.vms.values().all(|vm| vm.run.host().is_none()));
        let epoch = cluster.vm("web").last_epoch.next().0;
        cluster.ok(session(1, 2, facts(4096)));
        assert_eq!(cluster.apply(place("web", 1, epoch)), Err(Rejection::Quarantine));
        assert_eq!(cluster.state.fencing.quarantine_ms(), 37_000, "with times that would have it at 7.5 s");
    }

    #[test]
    fn a_recovery_of_a_node_that_is_no_member_is_refused() {
        let mut cluster = cluster();
        let incarnation = Incarnation(9);
        let survivor = Some(NodeId(9));
        let command = Command::Fence(FenceCommand::BeginIncarnation { incarnation, survivor });
        let before = cluster.state.vms.clone();
        assert!(cluster.apply(command).is_err());
        assert_eq!(cluster.state.vms, before);
    }
}
