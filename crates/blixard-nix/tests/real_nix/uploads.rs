//! Sources that are sent, by a real Nix.

use std::sync::Arc;

use blixard_core::ports::confined::Confinement;
use blixard_core::ports::nix::NixStore as _;
use blixard_core::ports::sources::{SourceInbox as _, TakeError};
use blixard_nix::{NixCli, NixCliOptions, SourceLimits};
use blixard_testkit::fake::confined::ChildProcesses;
use blixard_testkit::fake::nix::inbox_contract::{nar_of_file, source_inbox_contract, source_of};

use super::fixture::Trial;

const BYTES_MAX: usize = 1 << 20;

fn nix(trial: &Trial) -> NixCli {
    let options = NixCliOptions {
        roots: trial.folder.path().join("roots"),
        uploads: trial.folder.path().join("uploads"),
        sources: SourceLimits { upload_max: BYTES_MAX as u64, fetch_s: 60 },
        ..NixCliOptions::default()
    };
    let confinement: Arc<dyn Confinement> = Arc::new(ChildProcesses);
    NixCli::new(options, &confinement)
}

#[tokio::test]
async fn the_real_inbox_keeps_the_contract_and_leaves_no_file() {
    let Some(trial) = Trial::new() else { return };
    let salt = trial.folder.path().display().to_string();
    source_inbox_contract(&nix(&trial), &salt, BYTES_MAX).await.unwrap();
    let left = std::fs::read_dir(trial.folder.path().join("uploads")).unwrap().count();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn what_an_earlier_daemon_has_left_goes_with_the_first_upload() {
    let Some(trial) = Trial::new() else { return };
    let left = trial.folder.path().join("uploads/7/source.nar");
    std::fs::create_dir_all(left.parent().unwrap()).unwrap();
    std::fs::write(&left, "left").unwrap();
    let source = source_of(&nar_of_file(b"unfinished")).unwrap();
    let incoming = nix(&trial).take(source).await.unwrap();
    assert!(!left.exists());
    drop(incoming);
}

#[tokio::test]
async fn bytes_that_are_no_archive_are_not_registered_whatever_their_hash() {
    let Some(trial) = Trial::new() else { return };
    let nix = nix(&trial);
    let bytes = b"this is no archive at all";
    let source = source_of(bytes).unwrap();
    let mut incoming = nix.take(source.clone()).await.unwrap();
    incoming.piece(bytes).await.unwrap();
    let refused = incoming.finish().await;
    assert!(matches!(refused, Err(TakeError::Command(_))), "{refused:?}");
    assert_eq!(nix.missing(vec![source.path().clone()]).await.unwrap().len(), 1);
}
