//! What the properties of a loaded run unit say about its vm.
//!
//! Owns: the meaning of systemd's states. Pure. Refuses to know: how properties are fetched.
//!
//! ```text
//! ActiveState                            UnitState
//! activating (auto-restart too)          Activating
//! inactive, failed with a job            Activating
//! active, reloading, refreshing          Active
//! active, but exited                     Completed with status 0, else Ended { Result }
//! deactivating                           Deactivating
//! inactive, failed                       Ended { Result }
//! ```

use std::collections::{BTreeMap, HashMap};

use blixard_core::ports::units::{ObservedUnit, UnitState};
use blixard_core::unit::{ENV_EPOCH, ENV_GENERATION, ENV_PREFIX};
use blixard_types::{Epoch, GenerationNumber, VmId};
use zbus::zvariant::{OwnedObjectPath, OwnedValue};

const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
/// waitid(2): it has ended by itself.
const CLD_EXITED: i32 = 1;
const LOAD_STATE: &str = "LoadState";

/// The properties of one unit.
#[derive(Debug)]
pub(crate) struct UnitProperties(HashMap<&'static str, OwnedValue>);

impl UnitProperties {
    /// Those that are read, each with its interface.
    /// Whether it is loaded is read before the others and after them: it may come or go in between.
    pub(crate) const READ: [(&'static str, &'static str); 13] = [
        (UNIT, LOAD_STATE),
        (UNIT, "ActiveState"),
        (UNIT, "SubState"),
        (UNIT, "Job"),
        (SERVICE, "Result"),
        (SERVICE, "ExecMainCode"),
        (SERVICE, "ExecMainStatus"),
        (SERVICE, "Environment"),
        (SERVICE, "NRestarts"),
        (SERVICE, "MainPID"),
        (SERVICE, "ControlGroup"),
        (SERVICE, "TimeoutStopUSec"),
        (UNIT, LOAD_STATE),
    ];

    /// What was read of a unit; `None` if it was not there all the while. systemd answers for any name at all,
    /// with `not-found`.
    pub(crate) fn new(read: Vec<(&'static str, OwnedValue)>) -> Option<Self> {
        let is = |value: &OwnedValue, text| <&str>::try_from(value).is_ok_and(|is| is == text);
        let loaded = read.iter().all(|(name, value)| *name != LOAD_STATE || is(value, "loaded"));
        loaded.then(|| Self(read.into_iter().collect()))
    }

    /// The unit as core knows it.
    pub(crate) fn observed(&self, vm: VmId) -> ObservedUnit {
        ObservedUnit {
            vm,
            epoch: self.variable(ENV_EPOCH).map(Epoch),
            generation: self.variable(ENV_GENERATION).map(GenerationNumber),
            state: self.state(),
            restarts: self.get("NRestarts").unwrap_or(0),
            main_pid: self.main_pid(),
            environment: self.environment(),
        }
    }

    /// The process id of its main process, if it has one.
    pub(crate) fn main_pid(&self) -> Option<u32> {
        self.get("MainPID").filter(|&pid: &u32| pid != 0)
    }

    /// The variables that are ours.
    fn environment(&self) -> BTreeMap<String, String> {
        let all: Vec<String> = self.get("Environment").unwrap_or_default();
        let ours = all.iter().filter(|entry| entry.starts_with(ENV_PREFIX));
        ours.filter_map(|entry| entry.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// What the unit does.
    pub(crate) fn state(&self) -> UnitState {
        let active = self.text("ActiveState").unwrap_or_default();
        match active.as_str() {
            "active" if self.text("SubState").as_deref() == Some("exited") => self.completed(),
            "active" | "reloading" | "refreshing" => UnitState::Active,
            "activating" => UnitState::Activating,
            "deactivating" => UnitState::Deactivating,
            _ if self.has_job() || self.restarts_next() => UnitState::Activating,
            _ => UnitState::Ended { result: self.text("Result").unwrap_or_default() },
        }
    }

    /// How the program of a unit has ended that systemd keeps in mind. systemd takes some signals for a good end, too.
    fn completed(&self) -> UnitState {
        let (code, status) = (self.get::<i32>("ExecMainCode"), self.get::<i32>("ExecMainStatus"));
        match (code, status) {
            (Some(CLD_EXITED), Some(0)) => UnitState::Completed,
            (Some(CLD_EXITED), _) => UnitState::Ended { result: "exit-code".to_owned() },
            _ => UnitState::Ended { result: "signal".to_owned() },
        }
    }

    /// Its cgroup below the root of the hierarchy; `None` if it has none.
    pub(crate) fn control_group(&self) -> Option<String> {
        self.text("ControlGroup").filter(|group| !group.is_empty())
    }

    /// How long its stop may take, in microseconds.
    pub(crate) fn stop_timeout_us(&self) -> Option<u64> {
        self.get("TimeoutStopUSec")
    }

    fn has_job(&self) -> bool {
        self.get::<(u32, OwnedObjectPath)>("Job").is_some_and(|(id, _)| id != 0)
    }

    /// systemd is between an exit and the pause before the next start.
    fn restarts_next(&self) -> bool {
        self.text("SubState").is_some_and(|state| state.ends_with("-before-auto-restart"))
    }

    fn variable(&self, name: &str) -> Option<u64> {
        self.environment().get(name)?.parse().ok()
    }

    fn text(&self, name: &str) -> Option<String> {
        self.get(name)
    }

    fn get<T: TryFrom<OwnedValue>>(&self, name: &str) -> Option<T> {
        T::try_from(self.0.get(name)?.try_clone().ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use zbus::zvariant::Value;

    use super::*;

    fn properties(pairs: &[(&'static str, Value<'_>)]) -> UnitProperties {
        let owned = |(name, value): &(&'static str, Value<'_>)| (*name, value.try_to_owned().unwrap());
        UnitProperties::new(pairs.iter().map(owned).collect()).unwrap()
    }

    fn state(active: &str, sub: &str, job: u32) -> UnitState {
        let path = zbus::zvariant::ObjectPath::try_from("/").unwrap();
        properties(&[
            ("ActiveState", active.into()),
            ("SubState", sub.into()),
            ("Result", "exit-code".into()),
            ("Job", (job, path).into()),
        ])
        .state()
    }

    #[test]
    fn the_states_of_systemd_are_these_states_of_a_run_unit() {
        let ended = UnitState::Ended { result: "exit-code".to_owned() };
        assert_eq!(state("active", "running", 0), UnitState::Active);
        assert_eq!(state("activating", "start", 7), UnitState::Activating);
        assert_eq!(state("activating", "auto-restart", 0), UnitState::Activating);
        assert_eq!(state("deactivating", "stop-sigterm", 7), UnitState::Deactivating);
        assert_eq!(state("failed", "failed", 0), ended);
        assert_eq!(state("inactive", "dead", 0), ended);
    }

    #[test]
    fn a_unit_whose_start_waits_for_another_job_is_not_ended() {
        assert_eq!(state("inactive", "dead", 7), UnitState::Activating);
    }

    #[test]
    fn a_unit_that_failed_and_starts_again_is_not_ended() {
        assert_eq!(state("failed", "failed-before-auto-restart", 0), UnitState::Activating);
    }

    #[test]
    fn what_runs_once_is_completed_only_by_its_own_exit_with_status_0() {
        let ended = |code: i32, status: i32| {
            let exited = [("ActiveState", "active".into()), ("SubState", "exited".into())];
            let how = [("ExecMainCode", code.into()), ("ExecMainStatus", status.into())];
            properties(&[exited, how].concat()).state()
        };
        assert_eq!(ended(1, 0), UnitState::Completed);
        assert_eq!(ended(1, 3), UnitState::Ended { result: "exit-code".to_owned() });
        assert_eq!(ended(2, 15), UnitState::Ended { result: "signal".to_owned() });
    }

    #[test]
    fn epoch_and_generation_come_from_the_environment() {
        let environment = vec!["BLIXARD_EPOCHS=9", "BLIXARD_EPOCH=3", "BLIXARD_GENERATION=7", "PATH=/bin"];
        let unit = properties(&[
            ("ActiveState", "active".into()),
            ("Environment", environment.into()),
            ("NRestarts", 2_u32.into()),
            ("MainPID", 41_u32.into()),
        ]);
        let vm: VmId = "web".parse().unwrap();
        assert_eq!(
            unit.observed(vm.clone()),
            ObservedUnit {
                vm,
                epoch: Some(Epoch(3)),
                generation: Some(GenerationNumber(7)),
                state: UnitState::Active,
                restarts: 2,
                main_pid: Some(41),
                environment: [("BLIXARD_EPOCHS", "9"), ("BLIXARD_EPOCH", "3"), ("BLIXARD_GENERATION", "7")]
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into(),
            }
        );
    }

    #[test]
    fn an_environment_that_cannot_be_read_leaves_them_unknown() {
        let environment = vec!["BLIXARD_EPOCH=three"];
        let unit = properties(&[("Environment", environment.into()), ("MainPID", 0_u32.into())]);
        let seen = unit.observed("web".parse().unwrap());
        assert_eq!((seen.epoch, seen.generation, seen.main_pid), (None, None, None));
    }
}
