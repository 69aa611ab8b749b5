//! A deployment that is only foreseen: evaluated and admitted, and nothing else.
//!
//! Owns: the order of these steps. Refuses to know: what a deployment would do; core foresees that.

use std::collections::BTreeSet;

use blixard_core::preview::preview;
use blixard_proto::v1::deploy_event::{Event, Finished};
use blixard_types::VmId;
use tonic::Status;

use super::prepare::{admitted, builder};
use super::recall::Recalled;
use super::{DeployOrder, Events, send, tell};
use crate::{Server, status};

pub(super) async fn run(server: &Server, order: DeployOrder, events: &Events) -> Result<(), Status> {
    let (Recalled { vms, missing }, _) = admitted(server, builder(server)?, &order, events).await?;
    let unbuilt = vms.iter().filter(|vm| missing.contains(&vm.out)).map(|vm| vm.vm.clone());
    let builds: BTreeSet<VmId> = unbuilt.collect();
    server.linearize().await?;
    let now = server.clock.wall();
    let planned = server.replica.read(|state| {
        let seen = preview(state, &order.id, order.take_over, vms, now)?;
        Ok(blixard_proto::planned(state, &seen, &builds))
    });
    send(events, planned.map_err(|rejection| status::rejection(&rejection))?).await;
    tell(events, Event::Finished(Finished { good: true })).await;
    Ok(())
}
