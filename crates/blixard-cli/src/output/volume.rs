//! What `blixard volume …` shows.

use std::io::{self, Write};

use blixard_proto::v1::{self, ForgetVolumesResponse, VolumeState};
use serde::Serialize;

use super::one_line;
use super::table::Table;

/// `volume list`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Volumes {
    pub(crate) volumes: Vec<Volume>,
    /// The state that this was read from.
    pub(crate) revision: u64,
}

/// A local volume.
#[expect(clippy::struct_field_names, reason = "the keys of the JSON are the words of the commands")]
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Volume {
    pub(crate) volume: String,
    /// The host that has it.
    pub(crate) node: String,
    /// `promised`, `made` or `deleting`.
    pub(crate) state: &'static str,
    pub(crate) size_mib: u64,
    /// Relative to the directory of the microVM on that host.
    pub(crate) image: String,
    /// Whether its microVM's spec names it.
    pub(crate) wanted: bool,
    /// Whether its microVM is on its host with it.
    pub(crate) in_use: bool,
    pub(crate) host_lost: bool,
}

impl From<v1::Volume> for Volume {
    fn from(volume: v1::Volume) -> Self {
        let state = match volume.state() {
            VolumeState::Promised => "promised",
            VolumeState::Made => "made",
            VolumeState::Deleting => "deleting",
            VolumeState::Unspecified => "unknown",
        };
        Self {
            volume: volume.volume,
            node: volume.node,
            state,
            size_mib: volume.size_mib,
            image: volume.image,
            wanted: volume.wanted,
            in_use: volume.in_use,
            host_lost: volume.host_lost,
        }
    }
}

/// `volume delete`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Deletion {
    /// As it was before.
    #[serde(flatten)]
    pub(crate) volume: Volume,
    pub(crate) gone: bool,
    pub(crate) dry_run: bool,
}

/// `volume forget`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Forgotten {
    forgotten: Vec<ForgottenVolume>,
    dry_run: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ForgottenVolume {
    volume: String,
    /// The host that still has it, should it come back.
    node: String,
}

impl Forgotten {
    pub(crate) fn of(answer: ForgetVolumesResponse, dry_run: bool) -> Self {
        let one = |one: v1::ForgottenVolume| ForgottenVolume { volume: one.volume, node: one.node };
        Self { forgotten: answer.volumes.into_iter().map(one).collect(), dry_run }
    }
}

pub(crate) fn volumes(out: &mut dyn Write, volumes: &[Volume]) -> io::Result<()> {
    let mut table = Table::new(["VOLUME", "NODE", "SIZE", "STATE", "USE", "IMAGE"]);
    for volume in volumes {
        let used = match (volume.in_use, volume.wanted) {
            (true, _) => "in use",
            (false, true) => "waited for",
            (false, false) => "unused",
        };
        let lost = if volume.host_lost { " (lost)" } else { "" };
        table.row([
            volume.volume.clone(),
            format!("{}{lost}", volume.node),
            format!("{} MiB", volume.size_mib),
            volume.state.to_owned(),
            used.to_owned(),
            one_line(&volume.image),
        ]);
    }
    table.write(out)
}

pub(crate) fn deletion(out: &mut dyn Write, deletion: &Deletion) -> io::Result<()> {
    let Deletion { volume: Volume { volume, node, size_mib, .. }, gone, dry_run } = deletion;
    match (dry_run, gone) {
        (true, _) => {
            writeln!(out, "{volume}: would be removed from {node}, with all that is in its {size_mib} MiB")
        }
        (false, true) => writeln!(out, "{volume}: deleted"),
        (false, false) => writeln!(out, "{volume}: deleting"),
    }
}

pub(crate) fn forgotten(out: &mut dyn Write, forgotten: &Forgotten) -> io::Result<()> {
    for ForgottenVolume { volume, node } in &forgotten.forgotten {
        if forgotten.dry_run {
            writeln!(out, "{volume}: would be given up; what {node} has of it would stay there, unused")?;
        } else {
            writeln!(out, "{volume}: given up; what {node} has of it stays there, unused")?;
        }
    }
    Ok(())
}
