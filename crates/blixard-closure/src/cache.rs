//! A binary cache in Nix's own HTTP protocol: `nix copy --from`, `nix path-info --store` and substituters
//! of a stock Nix work with it.
//!
//! ```text
//! GET /nix-cache-info     what kind of store this is
//! GET /<hash>.narinfo     a path's record, signed with the node's key
//! GET /nar/<hash>-<nar hash>.nar   its NAR, made as it is sent; ranges; HEAD alike
//! ```
//! Owns: the protocol, and who is let in. Serves what the roots of this node keep, and nothing else: to
//! everybody else there is nothing here. Refuses to know: what is worth keeping.

mod access;
mod ask;
mod body;
mod index;
pub(crate) mod narinfo;
mod range;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use blixard_core::ports::nix::NixStore;
use blixard_core::ports::signer::Signer;
use blixard_types::PathRecord;
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_RANGES, AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue, RANGE,
    WWW_AUTHENTICATE,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::access::Token;
use self::ask::Ask;
use self::index::PathIndex;
use self::range::Part;

/// Connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 256;
/// NARs that are made at once: each takes a thread that may wait for a slow reader.
const NARS_MAX: usize = 32;
/// How long a caller may take for the head of a request.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// Where clients ask first: before cache.nixos.org, which says 40.
const PRIORITY: u32 = 30;

type Answer = Response<BoxBody<Bytes, std::io::Error>>;

/// What a cache is made of.
#[derive(Clone)]
pub struct CacheOptions {
    /// The name of its key, as clients know it.
    pub key_name: String,
    /// What callers must show; nothing if absent.
    pub token: Option<String>,
}

/// A binary cache of this node's store.
#[derive(Clone)]
pub struct Cache(Arc<Inner>);

struct Inner {
    index: PathIndex,
    signer: Arc<dyn Signer>,
    options: CacheOptions,
    token: Option<Token>,
    nars: Arc<Semaphore>,
}

impl Cache {
    /// A cache of what the roots in this store keep.
    #[must_use]
    pub fn new(store: Arc<dyn NixStore>, signer: Arc<dyn Signer>, options: CacheOptions) -> Self {
        let token = options.token.clone().map(Token::new);
        let nars = Arc::new(Semaphore::new(NARS_MAX));
        Self(Arc::new(Inner { index: PathIndex::new(store), signer, options, token, nars }))
    }

    /// Its public key, as `trusted-public-keys` takes it.
    #[must_use]
    pub fn public_key(&self) -> String {
        narinfo::public_key(&self.0.options.key_name, self.0.signer.as_ref())
    }

    /// Serves until it is dropped.
    pub async fn serve(self, listener: TcpListener) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            let permit = Arc::clone(&room).acquire_owned().await;
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let cache = self.clone();
                    connections.spawn(async move {
                        let _room = permit;
                        if let Err(error) = cache.converse(stream).await {
                            tracing::debug!(%peer, %error, "a connection to the binary cache has ended");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the binary cache cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn converse(self, stream: TcpStream) -> Result<(), hyper::Error> {
        let serve = service_fn(move |request| {
            let cache = self.clone();
            async move { Ok::<_, Infallible>(cache.answer(request).await) }
        });
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_LIMIT)
            .serve_connection(TokioIo::new(stream), serve)
            .await
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let head = request.headers();
        let shown = head.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        if self.0.token.as_ref().is_some_and(|token| !token.admits(shown)) {
            let challenge = HeaderValue::from_static("Basic realm=\"blixard\"");
            return with(plain(StatusCode::UNAUTHORIZED, "a token is needed"), WWW_AUTHENTICATE, challenge);
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "this cache is only read");
        }
        let range = head.get(RANGE).and_then(|range| range.to_str().ok()).map(str::to_owned);
        let answer = match Ask::of(request.uri().path()) {
            Ask::CacheInfo => text("text/x-nix-cache-info", cache_info()),
            Ask::NarInfo(hash) => self.narinfo(&hash).await,
            Ask::Nar { hash, nar_hash } => {
                self.nar(&hash, &nar_hash, range.as_deref(), request.method() == Method::HEAD).await
            }
            Ask::Other => not_found(),
        };
        if request.method() == Method::HEAD { without_body(answer) } else { answer }
    }

    async fn narinfo(&self, hash: &str) -> Answer {
        match self.0.index.find(hash).await {
            Ok(Some(record)) => {
                let written = narinfo::write(&record, &self.0.options.key_name, self.0.signer.as_ref());
                written.map_or_else(|reason| failed(&reason), |bytes| text("text/x-nix-narinfo", bytes))
            }
            Ok(None) => not_found(),
            Err(reason) => failed(&reason),
        }
    }

    async fn nar(&self, hash: &str, nar_hash: &str, range: Option<&str>, head_only: bool) -> Answer {
        let record = match self.0.index.find(hash).await {
            Ok(Some(record)) if narinfo::nar_hash_text(&record) == nar_hash => record,
            Ok(_) => return not_found(),
            Err(reason) => return failed(&reason),
        };
        let size = record.nar_size;
        let (part, status) = match range.map(|range| range::parse(range, size)) {
            None | Some(range::Wanted::Whole) => (Part { from: 0, length: size }, StatusCode::OK),
            Some(range::Wanted::Part(part)) => (part, StatusCode::PARTIAL_CONTENT),
            Some(range::Wanted::Nothing) => {
                let none = plain(StatusCode::RANGE_NOT_SATISFIABLE, "no such range");
                return with(none, CONTENT_RANGE, value(&format!("bytes */{size}")));
            }
        };
        let body = if head_only { body::empty() } else { self.packed(record, part).await };
        let mut answer = Response::new(body);
        *answer.status_mut() = status;
        let answer = with(answer, CONTENT_TYPE, HeaderValue::from_static("application/x-nix-nar"));
        let answer = with(answer, CONTENT_LENGTH, HeaderValue::from(part.length));
        let answer = with(answer, ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if status != StatusCode::PARTIAL_CONTENT {
            return answer;
        }
        let last = part.from + part.length - 1;
        with(answer, CONTENT_RANGE, value(&format!("bytes {}-{last}/{size}", part.from)))
    }

    async fn packed(&self, record: PathRecord, part: Part) -> BoxBody<Bytes, std::io::Error> {
        match Arc::clone(&self.0.nars).acquire_owned().await {
            Ok(permit) => body::packed(record, part, permit),
            Err(_) => body::empty(),
        }
    }
}

/// Reads a request's path and a range as they come.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(text: &str) {
    let _ = Ask::of(text);
    let size = text.len() as u64 + 1;
    if let range::Wanted::Part(part) = range::parse(text, size) {
        assert!(part.length > 0 && part.from + part.length <= size, "{text:?} of {size}");
    }
}

fn cache_info() -> Vec<u8> {
    format!("StoreDir: /nix/store\nWantMassQuery: 1\nPriority: {PRIORITY}\n").into_bytes()
}

fn text(kind: &'static str, bytes: Vec<u8>) -> Answer {
    let length = HeaderValue::from(bytes.len());
    let answer = Response::new(body::full(bytes));
    with(with(answer, CONTENT_TYPE, HeaderValue::from_static(kind)), CONTENT_LENGTH, length)
}

fn plain(status: StatusCode, words: &str) -> Answer {
    let mut answer = text("text/plain", words.as_bytes().to_vec());
    *answer.status_mut() = status;
    answer
}

/// What Nix takes for "this cache does not have it".
fn not_found() -> Answer {
    plain(StatusCode::NOT_FOUND, "404")
}

fn failed(reason: &str) -> Answer {
    tracing::warn!(reason, "the binary cache cannot answer");
    plain(StatusCode::SERVICE_UNAVAILABLE, "the store cannot be asked now")
}

fn with(mut answer: Answer, name: hyper::header::HeaderName, value: HeaderValue) -> Answer {
    answer.headers_mut().insert(name, value);
    answer
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn without_body(answer: Answer) -> Answer {
    answer.map(|_| body::empty())
}
