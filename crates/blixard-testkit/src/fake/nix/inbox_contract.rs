//! What every inbox promises: a source is taken whole and as it was offered, or nothing of it is.

use anyhow::{Context as _, Result, ensure};
use blixard_core::ports::nix::NixStore;
use blixard_core::ports::sources::{ContentSource, SourceInbox, TakeError};
use blixard_types::{Sha256Hash, StorePath};

/// The NAR of one file with this content, as Nix writes it.
#[must_use]
pub fn nar_of_file(content: &[u8]) -> Vec<u8> {
    let mut nar = Vec::new();
    let words: [&[u8]; 7] = [b"nix-archive-1", b"(", b"type", b"regular", b"contents", content, b")"];
    for word in words {
        nar.extend_from_slice(&(word.len() as u64).to_le_bytes());
        nar.extend_from_slice(word);
        nar.resize(nar.len().next_multiple_of(8), 0);
    }
    nar
}

/// A source of this NAR.
pub fn source_of(nar: &[u8]) -> Result<ContentSource> {
    let hash = Sha256Hash::of(nar);
    Ok(ContentSource::new(StorePath::of_source(hash)?, hash)?)
}

/// Checks all promises. `salt` makes the sources of one run new to the store; more than `bytes_max` bytes are
/// refused.
pub async fn source_inbox_contract<T: SourceInbox + NixStore>(
    nix: &T,
    salt: &str,
    bytes_max: usize,
) -> Result<()> {
    let nar = nar_of_file(format!("a source of {salt}").as_bytes());
    let source = source_of(&nar)?;
    let absent =
        || async { Ok::<_, anyhow::Error>(!nix.missing(vec![source.path().clone()]).await?.is_empty()) };

    let mut dropped = nix.take(source.clone()).await?;
    dropped.piece(&nar).await?;
    drop(dropped);
    ensure!(absent().await?, "a source that was dropped before its end is there");

    let short = send(nix, &source, &[nar.get(..nar.len() - 8).unwrap_or_default()]).await;
    ensure!(matches!(short, Err(TakeError::WrongHash { .. })), "a source without its end: {short:?}");
    let other = send(nix, &source, &[&nar_of_file(b"another")]).await;
    ensure!(matches!(other, Err(TakeError::WrongHash { .. })), "another source: {other:?}");
    ensure!(absent().await?, "a source with a wrong hash is there");

    let large = send(nix, &source, &vec![[0_u8; 1024].as_slice(); bytes_max / 1024 + 1]).await;
    ensure!(matches!(large, Err(TakeError::TooLarge { .. })), "a source that is too large: {large:?}");

    for again in ["first", "again"] {
        let pieces: Vec<&[u8]> = nar.chunks(7).collect();
        send(nix, &source, &pieces).await.with_context(|| format!("a good one, {again}"))?;
        let hash = nix.nar_hash(source.path().clone()).await?;
        ensure!(hash == Some(source.nar_hash()), "{again}: the store has {hash:?}");
    }
    Ok(())
}

async fn send<T: SourceInbox>(inbox: &T, source: &ContentSource, pieces: &[&[u8]]) -> Result<(), TakeError> {
    let mut incoming = inbox.take(source.clone()).await?;
    for piece in pieces {
        incoming.piece(piece).await?;
    }
    incoming.finish().await
}
