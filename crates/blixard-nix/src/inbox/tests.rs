//! With a program for `nix` that keeps what it is called with.

use std::os::unix::fs::PermissionsExt as _;

use blixard_types::StorePath;

use super::*;

const NAR_BYTES: &[u8] = b"what a source consists of; the inbox does not look into it";

struct Ground {
    folder: tempfile::TempDir,
    inbox: Arc<Inbox>,
    source: ContentSource,
}

fn ground(bytes_max: u64) -> Ground {
    let folder = tempfile::tempdir().unwrap();
    let nix = folder.path().join("nix");
    let calls = folder.path().join("calls");
    let script =
        format!("#!/bin/sh\necho \"$@\" >> {0}\ncat \"${{3#file://}}\"/*.narinfo >> {0}\n", calls.display());
    fs::write(&nix, script).unwrap();
    fs::set_permissions(&nix, fs::Permissions::from_mode(0o755)).unwrap();
    let inbox = Inbox::new(nix, folder.path().join("uploads"), bytes_max);
    let nar_hash = Sha256Hash::of(NAR_BYTES);
    let source = ContentSource::new(StorePath::of_source(nar_hash).unwrap(), nar_hash).unwrap();
    Ground { folder, inbox, source }
}

impl Ground {
    async fn send(&self, pieces: &[&[u8]]) -> Result<(), TakeError> {
        let mut incoming = self.inbox.take(self.source.clone()).await?;
        for piece in pieces {
            incoming.piece(piece).await?;
        }
        incoming.finish().await
    }

    /// How Nix was called, and what it was given.
    fn calls(&self) -> String {
        fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(self.folder.path().join("uploads")).unwrap().next().is_none()
    }
}

#[tokio::test]
async fn a_source_with_another_hash_than_it_was_offered_with_is_never_given_to_nix() {
    let ground = ground(1 << 20);
    let mut other = NAR_BYTES.to_vec();
    other[7] ^= 1;
    for sent in [&other[..], b"", &NAR_BYTES[1..]] {
        let error = ground.send(&[sent]).await.unwrap_err();
        let TakeError::WrongHash { path, wanted, found } = error else { panic!("{error}") };
        assert_eq!((&path, wanted), (ground.source.path(), ground.source.nar_hash()));
        assert_eq!(found, Sha256Hash::of(sent));
        assert!(ground.is_empty(), "something is left of it");
    }
    assert_eq!(ground.calls(), "");
}

#[tokio::test]
async fn a_source_that_is_what_it_says_is_given_to_nix_by_its_content() {
    let ground = ground(1 << 20);
    let (one, two) = NAR_BYTES.split_at(9);
    ground.send(&[one, two]).await.unwrap();
    let calls = ground.calls();
    assert!(calls.starts_with("copy --from file://"), "{calls}");
    assert!(calls.contains(&format!("StorePath: {}\n", ground.source.path())), "{calls}");
    assert!(
        calls.contains(&format!("NarSize: {}\n", NAR_BYTES.len())) && calls.contains("CA: fixed:r:sha256:")
    );
    assert!(ground.is_empty());
}

#[tokio::test]
async fn a_source_that_is_too_large_is_not_taken_further() {
    let ground = ground(16);
    let error = ground.send(&[&NAR_BYTES[..16], &NAR_BYTES[16..17]]).await.unwrap_err();
    assert!(matches!(error, TakeError::TooLarge { .. }), "{error}");
    assert!(ground.calls().is_empty() && ground.is_empty());
}
