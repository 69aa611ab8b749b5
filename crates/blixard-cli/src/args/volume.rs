//! `blixard volume …`.

use std::str::FromStr;

use blixard_types::{NameError, TenantName, VmId, VolumeId, VolumeName};
use clap::{Args, Subcommand};

use super::StaleArg;

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// List the volumes that hosts keep, also those of microVMs that are gone.
    #[command(after_help = "Example:\n  blixard volume list --tenant shop")]
    List {
        /// Only those of this tenant.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<TenantName>,
        #[command(flatten)]
        stale: StaleArg,
    },
    /// Remove a volume with all that is in it, and wait until its host has done so.
    ///
    /// Refused as long as its microVM should run with it. The microVM may then be placed anywhere, with a new volume.
    #[command(after_help = "Example:\n  blixard volume delete shop/db:data --dry-run")]
    Delete(DeleteVolumeArgs),
    /// Give up a microVM's volumes without removing them, so that it may run elsewhere with new ones.
    ///
    /// For a host that is lost for good. What is still on it is kept there, should it come back, and never used for
    /// that microVM again. Of a shared volume this says that the lost host cannot write to it any more.
    #[command(
        after_help = "Examples:\n  blixard volume forget shop/db --dry-run\n  blixard volume forget shop/db:data"
    )]
    Forget(ForgetVolumesArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DeleteVolumeArgs {
    /// The volume: `vm:volume` or `tenant/vm:volume`.
    #[arg(value_name = "VOLUME")]
    pub(crate) volume: VolumeId,
    /// Only show what would go.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Only order it; do not wait until it is gone.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ForgetVolumesArgs {
    /// The microVM, or one volume of it: `vm`, `tenant/vm` or `vm:volume`.
    #[arg(value_name = "VM[:VOLUME]")]
    pub(crate) target: VolumesOf,
    /// Only show what would be given up.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// A vm's volumes, or one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VolumesOf {
    pub(crate) vm: VmId,
    pub(crate) name: Option<VolumeName>,
}

impl FromStr for VolumesOf {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains(':') {
            let VolumeId { vm, name } = text.parse()?;
            return Ok(Self { vm, name: Some(name) });
        }
        Ok(Self { vm: text.parse()?, name: None })
    }
}
