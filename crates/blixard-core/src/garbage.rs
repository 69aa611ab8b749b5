//! Which generations may be forgotten, so that what only they need can be collected.
//!
//! Never the one that a vm should run, nor the one that runs, which a reboot of the host would need.

use blixard_types::{GenerationNumber, VmId};

use crate::state::{ClusterState, Vm};

/// The generations beyond the newest `keep` of each vm that nothing needs.
#[must_use]
pub fn forgettable(state: &ClusterState, keep: usize) -> Vec<(VmId, GenerationNumber)> {
    let of = |(id, vm): (&VmId, &Vm)| {
        let old = of_vm(vm, keep).into_iter().map(|generation| (id.clone(), generation));
        old.collect::<Vec<_>>()
    };
    state.vms.iter().flat_map(of).collect()
}

fn of_vm(vm: &Vm, keep: usize) -> Vec<GenerationNumber> {
    let needed =
        |generation: &GenerationNumber| *generation == vm.target || vm.run.generation() == Some(*generation);
    let newest_first = vm.generations.keys().copied().rev();
    newest_first.skip(keep).filter(|generation| !needed(generation)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Outcome};
    use crate::fixture::{Cluster, place, report, running, spec, vm};
    use crate::state::HealthStatus;

    /// Five generations of `web`, of which the third runs and the fifth is wanted.
    fn cluster() -> Cluster {
        let mut cluster = Cluster::with_hosts(&[(1, 1000)]);
        for round in 1..=3 {
            cluster.deploy("web", "a", spec(round));
        }
        cluster.ok(place("web", 1, 1));
        cluster.ok(report(1, "web", 1, running(3, HealthStatus::Healthy)));
        for round in 4..=5 {
            cluster.deploy("web", "a", spec(round));
        }
        cluster
    }

    fn kept(cluster: &Cluster) -> Vec<u64> {
        cluster.vm("web").generations.keys().map(|generation| generation.0).collect()
    }

    #[test]
    fn the_newest_and_what_runs_and_what_should_run_are_kept() {
        let forgotten = |keep| {
            let forgettable = forgettable(&cluster().state, keep).into_iter();
            forgettable.map(|(_, generation)| generation.0).collect::<Vec<_>>()
        };
        assert_eq!(forgotten(5), [0_u64; 0]);
        assert_eq!(forgotten(3), [2, 1]);
        assert_eq!(forgotten(2), [2, 1]);
        assert_eq!(forgotten(1), [4, 2, 1]);
        assert_eq!(forgotten(0), [4, 2, 1]);
    }

    #[test]
    fn forgetting_removes_them_and_their_specs_and_doing_it_again_changes_nothing() {
        let mut cluster = cluster();
        let specs = cluster.state.specs.len();
        cluster.ok(Command::ForgetGenerations { keep: 2 });
        assert_eq!(kept(&cluster), [3, 4, 5]);
        assert_eq!(cluster.state.specs.len(), specs - 2);
        assert_eq!(cluster.ok(Command::ForgetGenerations { keep: 2 }), Outcome::Unchanged);
        assert!(forgettable(&cluster.state, 2).is_empty());
        assert_eq!(
            crate::assignment::assignments_of(&cluster.state, blixard_types::NodeId(1)).retained.len(),
            1
        );
        assert!(cluster.state.vms.contains_key(&vm("web")));
    }
}
