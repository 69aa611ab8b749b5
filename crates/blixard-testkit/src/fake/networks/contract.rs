//! What every [`Networks`] promises, checked on the real one and on the fake.

use anyhow::ensure;
use blixard_core::ports::networks::{NetworkError, Networks, Tap};
use blixard_types::VmId;

/// What the host has before.
#[derive(Debug, Clone)]
pub struct Ground {
    /// A bridge.
    pub bridge: String,
    /// An interface that is not ours.
    pub foreign: String,
}

fn tap(id: &str, bridge: Option<&str>) -> Tap {
    Tap { id: id.to_owned(), account: None, multi_queue: false, bridge: bridge.map(str::to_owned) }
}

/// Checks all of it.
///
/// # Errors
/// The first promise that is not kept.
pub async fn keeps(networks: &dyn Networks, ground: &Ground) -> anyhow::Result<()> {
    let (web, db): (VmId, VmId) = ("web".parse()?, "shop/db".parse()?);
    ensure!(networks.vms().await?.is_empty(), "there is something before anything was made");
    networks.remove(web.clone()).await?;

    let own = vec![tap("bx-web-0", Some(&ground.bridge)), tap("bx-web-1", None)];
    networks.prepare(web.clone(), own.clone()).await?;
    networks.prepare(web.clone(), own).await?;
    ensure!(networks.vms().await? == [web.clone()].into(), "what was made does not tell whose it is");

    refuses(networks, &db, &ground.bridge, &ground.foreign, &web).await?;
    ensure!(networks.vms().await? == [web.clone()].into(), "a refusal has changed something");

    networks.prepare(db.clone(), vec![tap("bx-db-0", None)]).await?;
    // A generation with other taps leaves none of the one before.
    networks.prepare(web.clone(), vec![tap("bx-web-2", None)]).await?;
    networks.prepare(db.clone(), vec![tap("bx-db-0", None), tap("bx-web-0", None)]).await?;

    networks.remove(web.clone()).await?;
    networks.remove(web).await?;
    ensure!(networks.vms().await? == [db.clone()].into(), "a removal has touched another vm");
    networks.remove(db).await?;
    ensure!(networks.vms().await?.is_empty(), "something is left");
    Ok(())
}

async fn refuses(
    networks: &dyn Networks,
    vm: &VmId,
    bridge: &str,
    foreign: &str,
    owner: &VmId,
) -> anyhow::Result<()> {
    let of = |taps: Vec<Tap>| networks.prepare(vm.clone(), taps);
    for id in [foreign, bridge] {
        let refused = of(vec![tap(id, None)]).await;
        let right = matches!(&refused, Err(NetworkError::Foreign { id: named }) if named == id);
        ensure!(right, "{id} is not ours: {refused:?}");
    }
    let taken = of(vec![tap("bx-db-0", None), tap("bx-web-0", None)]).await;
    let right = matches!(&taken, Err(NetworkError::Taken { id, vm }) if id == "bx-web-0" && vm == owner);
    ensure!(right, "a tap of another vm is taken: {taken:?}");
    for none in ["bx-no-bridge", foreign] {
        let refused = of(vec![tap("bx-db-0", Some(none))]).await;
        let right = matches!(&refused, Err(NetworkError::NoBridge { bridge }) if bridge == none);
        ensure!(right, "{none} is no bridge: {refused:?}");
    }
    Ok(())
}
