//! The port [`UnitManager`] by calls to systemd.
//!
//! Owns: the handle that others hold, and observation. Refuses to know: the connection's troubles,
//! which come up as `Unreachable`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use blixard_core::ports::units::{
    Asked, GracefulStop, ObservedUnit, TransientUnit, UnitChange, UnitError, UnitManager,
};
use blixard_core::ports::{BoxFuture, BoxStream};
use blixard_types::VmId;
use blixard_types::unit::RunUnitName;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::sync::broadcast::error::RecvError;

use crate::bus::Bus;
use crate::error::CallError;
use crate::{asked, shutdown, start, stop};

const OBSERVE: &str = "observe";

/// What observation asks for: the run units of vms.
const RUN_UNITS: &str = "blixard-vm-*-run.service";

/// Units that are read at once: enough to keep PID 1 busy.
const READS_AT_ONCE: usize = 8;

/// systemd, over the system bus.
#[derive(Debug)]
pub struct Systemd {
    bus: Arc<Bus>,
    /// Units of others that have been spoken of: they are met at each observation.
    strangers: Mutex<BTreeSet<String>>,
}

impl Systemd {
    /// Connects to systemd over the system bus. A connection that is lost later is made again in
    /// the background; until then operations fail with [`UnitError::Unreachable`].
    pub async fn connect() -> Result<Self, UnitError> {
        let bus = Bus::connect().await.map_err(|error| error.during("connect to", "the system bus"))?;
        Ok(Self { bus: Arc::new(bus), strangers: Mutex::default() })
    }

    /// The connection, for who shares it.
    pub(crate) fn bus(&self) -> Arc<Bus> {
        Arc::clone(&self.bus)
    }

    /// As [`UnitManager::shutdown`], by a child of this process: for when the machine goes down, and systemd
    /// starts no unit any more.
    pub async fn shutdown_without_unit(&self, order: &GracefulStop) -> Result<Asked, UnitError> {
        asked::shutdown(&self.bus.link()?, order).await
    }

    fn is_new(&self, stranger: &str) -> bool {
        // A set that a panic has left behind is whole.
        self.strangers.lock().unwrap_or_else(PoisonError::into_inner).insert(stranger.to_owned())
    }

    async fn observe_units(&self) -> Result<Vec<ObservedUnit>, UnitError> {
        let link = self.bus.link()?;
        let during = |error: CallError| error.during(OBSERVE, RUN_UNITS);
        let units = link.units(RUN_UNITS).await.map_err(during)?;
        let vms = units.into_iter().filter_map(|(name, path)| {
            let vm = RunUnitName::vm(&name);
            if vm.is_none() && self.is_new(&name) {
                tracing::warn!(unit = name, "a unit is named like a vm's but is no vm's");
            }
            Some((vm?, path))
        });
        stream::iter(vms)
            .map(|(vm, path)| {
                let link = &link;
                async move { Ok(link.properties(&path).await?.map(|unit| unit.observed(vm))) }
            })
            .buffered(READS_AT_ONCE)
            .try_filter_map(|unit| async move { Ok(unit) })
            .try_collect()
            .await
            .map_err(during)
    }
}

impl Systemd {
    async fn look_at(&self, vms: BTreeSet<VmId>) -> Result<Vec<ObservedUnit>, UnitError> {
        let link = self.bus.link()?;
        let one = |vm: VmId| {
            let link = &link;
            async move {
                // By its name: to read from the path of one that is not there loads it, and to let it go
                // again is a change, which would be looked at, for ever.
                Ok(link.unit(RunUnitName::of(&vm).as_str()).await?.map(|unit| unit.observed(vm)))
            }
        };
        stream::iter(vms)
            .map(one)
            .buffered(READS_AT_ONCE)
            .try_filter_map(|unit| async move { Ok(unit) })
            .try_collect()
            .await
            .map_err(|error: CallError| error.during(OBSERVE, RUN_UNITS))
    }
}

impl UnitManager for Systemd {
    fn start(&self, unit: TransientUnit) -> BoxFuture<'_, Result<(), UnitError>> {
        Box::pin(async move { start::start(&self.bus, &unit).await })
    }

    fn stop(&self, unit: RunUnitName) -> BoxFuture<'_, Result<(), UnitError>> {
        Box::pin(async move { stop::stop_run(&self.bus.link()?, &unit).await })
    }

    fn shutdown(&self, order: GracefulStop) -> BoxFuture<'_, Result<Asked, UnitError>> {
        Box::pin(async move { shutdown::shutdown(&self.bus.link()?, &order).await })
    }

    fn observe(&self) -> BoxFuture<'_, Result<Vec<ObservedUnit>, UnitError>> {
        Box::pin(self.observe_units())
    }

    fn look(&self, vms: BTreeSet<VmId>) -> BoxFuture<'_, Result<Vec<ObservedUnit>, UnitError>> {
        Box::pin(self.look_at(vms))
    }

    fn changes(&self) -> BoxStream<'static, UnitChange> {
        let changes = self.bus.changes();
        Box::pin(stream::unfold(changes, |mut changes| async move {
            match changes.recv().await {
                Ok(change) => Some((change, changes)),
                Err(RecvError::Lagged(_)) => Some((UnitChange::Any, changes)),
                Err(RecvError::Closed) => None,
            }
        }))
    }
}
