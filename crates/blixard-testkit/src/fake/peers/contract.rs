//! What every [`PeerTransport`](blixard_core::ports::peer::PeerTransport) must do, whoever carries the
//! bytes: each check makes an endpoint, has it made reachable, and talks to it.
//!
//! A check waits for what must come and never sleeps; [`PATIENCE`] only bounds a failure.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use blixard_core::ports::peer::{
    Arriving, Outgoing, PeerAddress, PeerCall, PeerEndpoint, PeerError, PeerRefusal, SharedPeerEndpoint,
    SharedPeerTransport,
};
use blixard_core::ports::{BoxFuture, BoxStream};
use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::{mpsc, oneshot};

/// How long an answer may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The size of a piece of a snapshot in these checks.
const PIECE_BYTES: usize = 256 * 1024;
/// How many pieces may be on their way to a peer that takes none.
const PIECES_ON_THE_WAY: usize = 64;

/// Makes endpoints reachable.
pub trait Ground: Sync {
    /// Makes this endpoint reachable, in place of one before it; returns how.
    fn plug(&self, endpoint: SharedPeerEndpoint)
    -> BoxFuture<'_, Result<(SharedPeerTransport, PeerAddress)>>;
    /// A peer where nobody listens.
    fn nowhere(&self) -> PeerAddress;
}

/// All of it.
///
/// # Errors
/// The first promise that is not kept.
pub async fn check(ground: &impl Ground) -> Result<()> {
    bounded("calls", calls_are_answered(ground)).await?;
    bounded("refusals", refusals_are_told(ground)).await?;
    bounded("order", a_stream_keeps_order_and_is_pipelined(ground)).await?;
    bounded("hang-up", a_dropped_stream_ends_at_the_peer(ground)).await?;
    bounded("refused stream", a_refused_stream_ends_with_the_reason(ground)).await?;
    bounded("snapshot", a_snapshot_arrives_whole(ground)).await?;
    bounded("back pressure", a_snapshot_waits_for_its_taker(ground)).await?;
    bounded("given up", a_snapshot_that_is_given_up_is_no_whole_one(ground)).await
}

async fn bounded(what: &str, check: impl Future<Output = Result<()>>) -> Result<()> {
    let done = tokio::time::timeout(PATIENCE, check).await;
    done.with_context(|| format!("{what}: nothing came"))?.with_context(|| what.to_owned())
}

type Appended = mpsc::UnboundedSender<Option<Bytes>>;

/// An endpoint for one check.
#[derive(Default)]
struct Scripted {
    /// Answers to appended messages are held back until so many have come.
    answers_after: usize,
    /// Refuses everything.
    refuses: bool,
    /// Told of each appended message, and of the end; goes with the stream.
    appended: std::sync::Mutex<Option<Appended>>,
    /// Waited for before the second piece of a snapshot is taken.
    gate: std::sync::Mutex<Option<oneshot::Receiver<()>>>,
    /// Told how a snapshot ended.
    ended: std::sync::Mutex<Option<oneshot::Sender<bool>>>,
}

fn no() -> PeerRefusal {
    PeerRefusal::BadMessage { reason: "because".to_owned() }
}

impl PeerEndpoint for Scripted {
    fn append(&self, messages: Arriving) -> BoxStream<'static, Result<Bytes, PeerRefusal>> {
        if self.refuses {
            return stream::iter([Ok(Bytes::from_static(b"one")), Err(no())]).boxed();
        }
        let appended = self.appended.lock().ok().and_then(|mut appended| appended.take());
        let after = self.answers_after;
        let start = (messages.fuse(), Vec::new(), appended);
        stream::unfold(start, move |(mut messages, mut held, appended)| async move {
            while held.len() < after {
                match messages.next().await {
                    Some(Ok(message)) => held.push(message),
                    _ => break,
                }
            }
            let next = if held.is_empty() {
                messages.next().await.and_then(Result::ok)
            } else {
                Some(held.remove(0))
            };
            if let Some(appended) = &appended {
                drop(appended.send(next.clone()));
            }
            Some((Ok(next?), (messages, held, appended)))
        })
        .boxed()
    }

    fn answer(&self, call: PeerCall, message: Bytes) -> BoxFuture<'static, Result<Bytes, PeerRefusal>> {
        let answer =
            if self.refuses { Err(no()) } else { Ok([&[call as u8], message.as_ref()].concat().into()) };
        std::future::ready(answer).boxed()
    }

    fn take_snapshot(&self, mut pieces: Arriving) -> BoxFuture<'static, Result<Bytes, PeerRefusal>> {
        let gate = self.gate.lock().ok().and_then(|mut gate| gate.take());
        let ended = self.ended.lock().ok().and_then(|mut ended| ended.take());
        let refuses = self.refuses;
        async move {
            if refuses {
                return Err(no());
            }
            let mut length = pieces.next().await.map_or(0, |piece| piece.map_or(0, |piece| piece.len()));
            if let Some(gate) = gate {
                drop(gate.await);
            }
            let mut whole = true;
            while let Some(piece) = pieces.next().await {
                match piece {
                    Ok(piece) => length += piece.len(),
                    Err(_) => whole = false,
                }
            }
            if let Some(ended) = ended {
                ended.send(whole).ok();
            }
            Ok(length.to_string().into())
        }
        .boxed()
    }
}

/// Gives everything back.
#[derive(Debug, Clone, Copy)]
pub struct Echo;

impl PeerEndpoint for Echo {
    fn append(&self, messages: Arriving) -> BoxStream<'static, Result<Bytes, PeerRefusal>> {
        messages.map(|message| message.map_err(PeerRefusal::from)).boxed()
    }

    fn answer(&self, _: PeerCall, message: Bytes) -> BoxFuture<'static, Result<Bytes, PeerRefusal>> {
        std::future::ready(Ok(message)).boxed()
    }

    fn take_snapshot(&self, pieces: Arriving) -> BoxFuture<'static, Result<Bytes, PeerRefusal>> {
        pieces.for_each(|_| std::future::ready(())).map(|()| Ok(Bytes::new())).boxed()
    }
}

async fn calls_are_answered(ground: &impl Ground) -> Result<()> {
    let (transport, peer) = ground.plug(Arc::new(Scripted::default())).await?;
    for call in PeerCall::ALL {
        for message in [Bytes::new(), Bytes::from_static(b"message"), Bytes::from(vec![7; 2 << 20])] {
            let expected = [&[call as u8], message.as_ref()].concat();
            let answer = transport.call(&peer, call, message).await?;
            ensure!(answer == expected, "{call:?}: the answer has {} bytes", answer.len());
        }
    }
    let failed = transport.call(&ground.nowhere(), PeerCall::Vote, Bytes::new()).await;
    ensure!(matches!(failed, Err(PeerError::Unreachable { .. })), "nobody listens: {failed:?}");
    Ok(())
}

async fn refusals_are_told(ground: &impl Ground) -> Result<()> {
    let (transport, peer) = ground.plug(Arc::new(Scripted { refuses: true, ..Scripted::default() })).await?;
    let call = transport.call(&peer, PeerCall::Vote, Bytes::new()).await;
    ensure_refused(call.map(drop))?;
    let pieces = stream::iter([Bytes::from_static(b"head")]).boxed();
    ensure_refused(transport.send_snapshot(&peer, pieces).await.map(drop))
}

fn ensure_refused(result: Result<(), PeerError>) -> Result<()> {
    match result {
        Err(PeerError::Refused { reason, .. }) if reason.contains("because") => Ok(()),
        other => anyhow::bail!("not refused: {other:?}"),
    }
}

/// Numbers as messages.
fn numbered(count: u32) -> Outgoing {
    stream::iter((0..count).map(|number| Bytes::copy_from_slice(&number.to_be_bytes()))).boxed()
}

async fn a_stream_keeps_order_and_is_pipelined(ground: &impl Ground) -> Result<()> {
    // Nothing is answered before the hundredth came: one at a time would hang here.
    let (transport, peer) =
        ground.plug(Arc::new(Scripted { answers_after: 100, ..Scripted::default() })).await?;
    let answers = transport.append(&peer, numbered(2_000)).await?;
    let answers: Vec<_> = answers.collect().await;
    let mut expected = 0_u32;
    for answer in answers {
        ensure!(answer? == expected.to_be_bytes().as_slice(), "out of order at {expected}");
        expected += 1;
    }
    ensure!(expected == 2_000, "only {expected} answers");
    Ok(())
}

async fn a_dropped_stream_ends_at_the_peer(ground: &impl Ground) -> Result<()> {
    let (appended, mut seen) = mpsc::unbounded_channel();
    let (transport, peer) = ground
        .plug(Arc::new(Scripted { appended: std::sync::Mutex::new(Some(appended)), ..Scripted::default() }))
        .await?;
    let (held, messages) = mpsc::unbounded_channel();
    let messages = stream::unfold(messages, |mut messages: mpsc::UnboundedReceiver<Bytes>| async move {
        messages.recv().await.map(|message| (message, messages))
    });
    held.send(Bytes::from_static(b"one"))?;
    let mut answers = transport.append(&peer, messages.boxed()).await?;
    ensure!(answers.next().await.context("no answer")?? == "one");
    ensure!(seen.recv().await.flatten().is_some_and(|message| message == "one"));
    // The stream is idle: its sender neither sends nor ends when the answers go, but lets go of both.
    drop(answers);
    drop(held);
    ensure!(seen.recv().await.flatten().is_none(), "the peer got more");
    Ok(())
}

async fn a_refused_stream_ends_with_the_reason(ground: &impl Ground) -> Result<()> {
    let (transport, peer) = ground.plug(Arc::new(Scripted { refuses: true, ..Scripted::default() })).await?;
    let mut answers = transport.append(&peer, numbered(10).chain(stream::pending()).boxed()).await?;
    ensure!(answers.next().await.context("no answer")?? == "one");
    ensure_refused(answers.next().await.context("no error")?.map(drop))?;
    ensure!(answers.next().await.is_none(), "more after the error");
    Ok(())
}

/// A snapshot of so many pieces, and how many of them were taken from it.
fn snapshot(pieces: usize) -> (Outgoing, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let pieces = stream::iter(0..pieces).map(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Bytes::from(vec![5; PIECE_BYTES])
    });
    (pieces.boxed(), taken)
}

async fn a_snapshot_arrives_whole(ground: &impl Ground) -> Result<()> {
    let (transport, peer) = ground.plug(Arc::new(Scripted::default())).await?;
    let (pieces, _) = snapshot(100);
    let answer = transport.send_snapshot(&peer, pieces).await?;
    ensure!(answer == (100 * PIECE_BYTES).to_string(), "{answer:?}");
    Ok(())
}

async fn a_snapshot_waits_for_its_taker(ground: &impl Ground) -> Result<()> {
    let (open, gate) = oneshot::channel();
    let gate = std::sync::Mutex::new(Some(gate));
    let (transport, peer) = ground.plug(Arc::new(Scripted { gate, ..Scripted::default() })).await?;
    let (pieces, taken) = snapshot(400);
    let mut sent = transport.send_snapshot(&peer, pieces);
    // Until nothing moves any more: a call on the same way comes back many times.
    for _ in 0..200 {
        ensure!((&mut sent).now_or_never().is_none(), "answered too early");
        transport.call(&peer, PeerCall::Heartbeat, Bytes::new()).await?;
    }
    let early = taken.load(Ordering::Relaxed);
    ensure!(early <= PIECES_ON_THE_WAY, "{early} pieces were sent to a peer that takes none");
    open.send(()).ok();
    ensure!(sent.await? == (400 * PIECE_BYTES).to_string());
    Ok(())
}

async fn a_snapshot_that_is_given_up_is_no_whole_one(ground: &impl Ground) -> Result<()> {
    let (end, ended) = oneshot::channel();
    let scripted = Scripted { ended: std::sync::Mutex::new(Some(end)), ..Scripted::default() };
    let (transport, peer) = ground.plug(Arc::new(scripted)).await?;
    let (pieces, _) = snapshot(2);
    let mut sent = transport.send_snapshot(&peer, pieces.chain(stream::pending()).boxed());
    for _ in 0..20 {
        ensure!((&mut sent).now_or_never().is_none(), "answered too early");
        transport.call(&peer, PeerCall::Heartbeat, Bytes::new()).await?;
    }
    drop(sent);
    // Told of an error, or not told at all because the taker was dropped with it.
    ensure!(ended.await != Ok(true), "half a snapshot was taken for a whole one");
    Ok(())
}
