//! What every [`Volumes`] promises, checked on the real one and on the fake.

use anyhow::ensure;
use blixard_core::ports::volumes::{ImageOrigin, VolumeError, VolumeImage, Volumes};
use blixard_core::state::Made;
use blixard_types::{Epoch, VmId};

/// What is in a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    /// Its first words.
    pub text: String,
    /// How large it is.
    pub size_mib: u64,
}

/// The directories of vms, as their guests see them.
pub trait Ground {
    /// A file of a vm.
    fn read(&self, vm: &VmId, path: &str) -> Option<Content>;
    /// Writes into it, and makes it if it is not there.
    fn write(&self, vm: &VmId, path: &str, text: &str);
    /// Takes it away.
    fn lose(&self, vm: &VmId, path: &str);
}

/// An image of the volume `data`.
#[must_use]
pub fn local(size_mib: u64, life: u64, made: Made) -> VolumeImage {
    image("data", size_mib, ImageOrigin::Local { life: Epoch(life), made })
}

fn image(name: &str, size_mib: u64, origin: ImageOrigin) -> VolumeImage {
    // Names of the contract are names.
    #[expect(clippy::expect_used, reason = "a constant of this file")]
    let volume = name.parse().expect("a name");
    let image = format!("disks/{name}.img");
    VolumeImage { name: volume, image, size_mib, origin, fs_type: None, label: None }
}

fn ephemeral(life: u64) -> VolumeImage {
    image("scratch", 1, ImageOrigin::Ephemeral { life: Epoch(life) })
}

const DATA: &str = "disks/data.img";
const SCRATCH: &str = "disks/scratch.img";

/// Checks all of it.
///
/// # Errors
/// The first promise that is not kept.
pub async fn keeps(volumes: &dyn Volumes, ground: &dyn Ground) -> anyhow::Result<()> {
    local_ones_stay_and_grow(volumes, ground, &"shop/db".parse()?).await?;
    lives_are_not_mixed_up(volumes, ground, &"lives".parse()?).await?;
    ephemeral_ones_are_of_a_placement(volumes, ground, &"build".parse()?).await?;
    removal_is_of_one_life(volumes, ground, &"gone".parse()?).await
}

async fn local_ones_stay_and_grow(
    volumes: &dyn Volumes,
    ground: &dyn Ground,
    vm: &VmId,
) -> anyhow::Result<()> {
    let prepare = |wanted: VolumeImage| volumes.prepare(vm.clone(), None, vec![wanted]);
    prepare(local(2, 1, Made::Promised)).await?;
    ensure!(ground.read(vm, DATA) == Some(Content { text: String::new(), size_mib: 2 }), "it is not made");
    ground.write(vm, DATA, "precious");
    let holds = |size_mib| ground.read(vm, DATA) == Some(Content { text: "precious".to_owned(), size_mib });
    for (size_mib, has, made) in
        [(2, 2, Made::Promised), (2, 2, Made::Made), (5, 5, Made::Made), (3, 5, Made::Made)]
    {
        prepare(local(size_mib, 1, made)).await?;
        ensure!(holds(has), "{size_mib} MiB of {made:?}: {:?}", ground.read(vm, DATA));
    }
    volumes.end(vm.clone()).await?;
    ensure!(holds(5), "the end of a placement takes what is local");
    // What was promised may be made again; what was made may not.
    ground.lose(vm, DATA);
    let missing = prepare(local(5, 1, Made::Made)).await;
    ensure!(matches!(missing, Err(VolumeError::Missing { .. })), "an empty one takes its place: {missing:?}");
    ensure!(ground.read(vm, DATA).is_none(), "a failure has made one");
    prepare(local(5, 1, Made::Promised)).await?;
    ensure!(ground.read(vm, DATA).is_some(), "what was only promised is not made again");
    Ok(())
}

async fn lives_are_not_mixed_up(volumes: &dyn Volumes, ground: &dyn Ground, vm: &VmId) -> anyhow::Result<()> {
    let prepare = |wanted: VolumeImage| volumes.prepare(vm.clone(), None, vec![wanted]);
    ground.write(vm, DATA, "somebody's");
    for made in [Made::Promised, Made::Made] {
        let foreign = prepare(local(1, 1, made)).await;
        ensure!(
            matches!(foreign, Err(VolumeError::Foreign { .. })),
            "it takes what is not ours: {foreign:?}"
        );
    }
    ensure!(ground.read(vm, DATA).is_some_and(|file| file.text == "somebody's"), "it was touched");
    ground.lose(vm, DATA);
    prepare(local(1, 1, Made::Promised)).await?;
    ground.write(vm, DATA, "first");
    prepare(local(1, 4, Made::Promised)).await?;
    ensure!(ground.read(vm, DATA).is_some_and(|file| file.text.is_empty()), "a leftover is taken for it");
    let aside = ground.read(vm, "disks/data.img.life-1");
    ensure!(aside.is_some_and(|file| file.text == "first"), "what was given up is not kept");
    let other = prepare(local(1, 1, Made::Made)).await;
    ensure!(matches!(other, Err(VolumeError::Missing { .. })), "it takes one of another life: {other:?}");
    Ok(())
}

async fn ephemeral_ones_are_of_a_placement(
    volumes: &dyn Volumes,
    ground: &dyn Ground,
    vm: &VmId,
) -> anyhow::Result<()> {
    let prepare = |life| volumes.prepare(vm.clone(), None, vec![ephemeral(life)]);
    prepare(1).await?;
    ground.write(vm, SCRATCH, "first");
    prepare(1).await?;
    ensure!(
        ground.read(vm, SCRATCH).is_some_and(|file| file.text == "first"),
        "it is not kept in its placement"
    );
    prepare(2).await?;
    ensure!(ground.read(vm, SCRATCH).is_some_and(|file| file.text.is_empty()), "it is not made anew");
    volumes.end(vm.clone()).await?;
    volumes.end(vm.clone()).await?;
    ensure!(ground.read(vm, SCRATCH).is_none(), "it outlives its placement");
    Ok(())
}

async fn removal_is_of_one_life(volumes: &dyn Volumes, ground: &dyn Ground, vm: &VmId) -> anyhow::Result<()> {
    let data = local(1, 3, Made::Promised);
    volumes.prepare(vm.clone(), None, vec![data.clone()]).await?;
    let delete = |life| volumes.delete(vm.clone(), data.name.clone(), Epoch(life));
    delete(2).await?;
    ensure!(ground.read(vm, DATA).is_some(), "one of another life is removed");
    delete(3).await?;
    delete(3).await?;
    ensure!(ground.read(vm, DATA).is_none(), "it stays");
    volumes.prepare(vm.clone(), None, vec![local(1, 5, Made::Promised)]).await?;
    ensure!(ground.read(vm, DATA).is_some(), "it is not made after that");
    // A vm whose directory is gone begins anew.
    ground.lose(vm, DATA);
    volumes.forget(vm.clone()).await?;
    volumes.forget(vm.clone()).await?;
    volumes.prepare(vm.clone(), None, vec![local(1, 6, Made::Promised)]).await?;
    Ok(())
}
