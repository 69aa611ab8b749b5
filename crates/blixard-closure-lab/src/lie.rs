//! A peer that cannot be trusted: it serves the truth with one lie in it.

use std::pin::Pin;

use blixard_closure::ClosureServer;
use blixard_proto::v1::closure_service_server::ClosureService;
use blixard_proto::v1::{FetchRequest, ManifestPart, ManifestRequest, NarPart, PathRecord};
use clap::ValueEnum;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use tonic::{Request, Response, Status, Streaming};

/// What is sent instead of the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lie {
    /// A NAR with one bit changed in a file.
    Flip,
    /// A NAR that ends early.
    Truncate,
    /// A NAR that has more bytes than it should.
    Longer,
    /// A manifest with one path more.
    ExtraPath,
    /// A manifest with another hash.
    WrongHash,
    /// A manifest with a path that leads out of the store.
    PathOutside,
    /// A NAR that makes a link and then a folder of the same name, to write through it.
    ThroughLink,
    /// A NAR whose file has more bytes than there are.
    HugeLength,
    /// A NAR whose name has more bytes than there are.
    HugeName,
    /// A NAR with a file called `..`.
    DotDot,
    /// A NAR with a file whose name has a slash.
    Slash,
    /// A NAR with a file whose name has a NUL.
    Nul,
    /// The NAR of another path.
    OtherPath,
    /// A path that was not asked for.
    Unasked,
}

pub(crate) struct Liar {
    pub(crate) honest: ClosureServer,
    pub(crate) lie: Lie,
}

type Parts<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ClosureService for Liar {
    type ManifestStream = Parts<ManifestPart>;
    type FetchStream = Parts<NarPart>;

    async fn manifest(
        &self,
        request: Request<ManifestRequest>,
    ) -> Result<Response<Self::ManifestStream>, Status> {
        let parts = self.honest.manifest(request).await?.into_inner();
        let mut parts: Vec<ManifestPart> = parts.try_collect().await?;
        if let Some(first) = parts.first_mut() {
            change_manifest(self.lie, &mut first.records);
        }
        Ok(Response::new(Box::pin(futures_util::stream::iter(parts).map(Ok))))
    }

    async fn fetch(
        &self,
        request: Request<Streaming<FetchRequest>>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        let lie = self.lie;
        let parts = self.honest.fetch(request).await?.into_inner();
        let mut told = Telling { lie, replaced: None };
        let parts = parts.flat_map(move |part| {
            futures_util::stream::iter(match part {
                Ok(part) => told.tell(part).into_iter().map(Ok).collect::<Vec<_>>(),
                Err(status) => vec![Err(status)],
            })
        });
        Ok(Response::new(Box::pin(parts)))
    }
}

fn change_manifest(lie: Lie, records: &mut Vec<PathRecord>) {
    let Some(first) = records.first_mut() else { return };
    match lie {
        Lie::ExtraPath => {
            let mut extra = first.clone();
            extra.basename.push_str("-extra");
            records.push(extra);
        }
        Lie::WrongHash => first.nar_hash = vec![7; 32].into(),
        Lie::PathOutside => "../../etc/cron.d/x".clone_into(&mut first.basename),
        _ => {}
    }
}

struct Telling {
    lie: Lie,
    /// The path whose NAR is replaced; the first that comes.
    replaced: Option<u32>,
}

impl Telling {
    fn tell(&mut self, part: NarPart) -> Vec<NarPart> {
        let path = part.path;
        let begins = self.replaced.is_none();
        let replaced = *self.replaced.get_or_insert(path);
        let whole = |data: Vec<u8>| vec![NarPart { path, data: data.into(), last: true }];
        if path != replaced {
            return vec![part];
        }
        match self.lie {
            Lie::Flip if begins => {
                let mut data = part.data.to_vec();
                let middle = data.len() / 2;
                if let Some(byte) = data.get_mut(middle) {
                    *byte ^= 1;
                }
                vec![NarPart { data: data.into(), ..part }]
            }
            Lie::Truncate if begins => whole(part.data.slice(..part.data.len() / 2).to_vec()),
            Lie::Longer if part.last => {
                let more = NarPart { path, data: vec![0; 64].into(), last: true };
                vec![NarPart { last: false, ..part }, more]
            }
            Lie::OtherPath if begins => whole(nar(&[&["regular", "contents", "another"]])),
            Lie::Unasked if begins => vec![NarPart { path: path.wrapping_add(1_000_000), ..part }],
            Lie::ThroughLink if begins => whole(folder(&[
                ("a", &[Token::Text("symlink"), Token::Text("target"), Token::Text("/etc")]),
                ("a", &[Token::Text("directory")]),
            ])),
            Lie::HugeLength if begins => whole(folder(&[(
                "a",
                &[Token::Text("regular"), Token::Text("contents"), Token::Length(u64::MAX - 7)],
            )])),
            Lie::HugeName if begins => {
                let mut data = start();
                data.extend(texts(&["directory", "entry", "(", "name"]));
                data.extend((1_u64 << 62).to_le_bytes());
                whole(data)
            }
            Lie::DotDot if begins => whole(file_called("..")),
            Lie::Slash if begins => whole(file_called("../../../etc/evil")),
            Lie::Nul if begins => whole(file_called("a\0b")),
            Lie::Flip | Lie::Longer | Lie::ExtraPath | Lie::WrongHash | Lie::PathOutside => vec![part],
            // The rest of the one that was replaced.
            _ => Vec::new(),
        }
    }
}

enum Token {
    Text(&'static str),
    /// A length that no text follows.
    Length(u64),
}

fn file_called(name: &'static str) -> Vec<u8> {
    folder(&[(name, &[Token::Text("regular"), Token::Text("contents"), Token::Text("x")])])
}

fn start() -> Vec<u8> {
    texts(&["nix-archive-1", "(", "type"])
}

fn nar(nodes: &[&[&str]]) -> Vec<u8> {
    let mut out = start();
    for node in nodes {
        out.extend(texts(node));
    }
    out.extend(texts(&[")"]));
    out
}

fn folder(entries: &[(&str, &[Token])]) -> Vec<u8> {
    let mut out = start();
    out.extend(texts(&["directory"]));
    for (name, node) in entries {
        out.extend(texts(&["entry", "(", "name", name, "node", "(", "type"]));
        for token in *node {
            match token {
                Token::Text(word) => out.extend(texts(&[word])),
                Token::Length(length) => out.extend(length.to_le_bytes()),
            }
        }
        out.extend(texts(&[")", ")"]));
    }
    out.extend(texts(&[")"]));
    out
}

fn texts(words: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for word in words {
        out.extend((word.len() as u64).to_le_bytes());
        out.extend(word.as_bytes());
        out.resize(out.len().next_multiple_of(8), 0);
    }
    out
}
