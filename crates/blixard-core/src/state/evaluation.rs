//! What flakes gave when they were evaluated, so that the same source is not evaluated again.
//!
//! Owns: what an evaluation depends on (its key), and how much is kept. Refuses to know: how a flake is
//! evaluated. A pure evaluation is a function of its key, so an entry is never wrong; it is only
//! forgotten. What it names may have left a store since: whoever uses it looks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use blixard_types::{Sha256Hash, StorePath};
use serde::{Deserialize, Serialize};

use crate::ports::nix::{LockedSource, Selection};

/// Evaluations kept, the oldest forgotten first. A cluster deploys the newest state of a few dozen
/// flakes and selections over and over; older ones are not asked for again.
pub const EVALUATIONS_KEPT: usize = 64;

/// Bytes kept of all of them, specs included: every server holds them in memory and writes them with
/// each checkpoint. A vm takes about 1.5 KB, so this is room for 2,800 of them.
pub const EVALUATIONS_MAX_BYTES: usize = 4 << 20;

/// What a key begins with, so that no other hash is ever taken for one.
const KEY_DOMAIN: &[u8] = b"blixard-evaluation-v1\0";

/// What a vm takes beside its texts and its spec: the spec's digest and the collections' overhead.
const VM_OVERHEAD: usize = 128;

/// Everything an evaluation depends on, as one hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EvaluationKey(pub Sha256Hash);

impl EvaluationKey {
    /// The key of evaluating this of that, by an evaluator of this fingerprint.
    ///
    /// The lock file is part of the source, and the source is known by its hash; one that is used instead is
    /// known by its path, which is made of its content. Whatever else a flake
    /// can read of itself is in the key too: its path, its folder, its revision, its dates.
    #[must_use]
    pub fn of(source: &LockedSource, selection: &Selection, evaluator: Sha256Hash) -> Self {
        let mut text = KEY_DOMAIN.to_vec();
        text.extend(evaluator.0);
        text.extend(source.nar_hash.0);
        put(&mut text, source.path.as_str());
        put(&mut text, &source.subdir);
        put_option(&mut text, source.rev.as_deref());
        for number in [source.rev_count, source.last_modified] {
            put_option(&mut text, number.map(|number| number.to_string()).as_deref());
        }
        if let Some(lock) = &source.lock {
            put(&mut text, "lock");
            put(&mut text, lock.as_str());
        }
        let (kind, names) = match selection {
            Selection::All => (0, &[][..]),
            Selection::Named(names) => (1, names.as_slice()),
            Selection::Configurations(names) => (2, names.as_slice()),
        };
        text.push(kind);
        // The evaluator gives each once and sorted, however they are named.
        let names: BTreeSet<&String> = names.iter().collect();
        for name in names {
            put(&mut text, name);
        }
        Self(Sha256Hash::of(&text))
    }
}

fn put(text: &mut Vec<u8>, part: &str) {
    text.extend((part.len() as u64).to_le_bytes());
    text.extend(part.as_bytes());
}

fn put_option(text: &mut Vec<u8>, part: Option<&str>) {
    text.push(u8::from(part.is_some()));
    put(text, part.unwrap_or_default());
}

/// What one evaluation gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Evaluation {
    /// Its vms, in the evaluator's order.
    pub vms: Vec<RememberedVm>,
    /// What it counts against [`EVALUATIONS_MAX_BYTES`].
    pub bytes: usize,
}

/// A vm as an evaluation gave it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RememberedVm {
    /// The attribute under `microvms`.
    pub attribute: String,
    /// The runner's derivation.
    pub drv: StorePath,
    /// The runner.
    pub out: StorePath,
    /// The platform, `x86_64-linux`.
    pub system: String,
    /// The digest of its spec, a key of the state's specs.
    pub spec: Sha256Hash,
}

impl RememberedVm {
    /// What it counts against [`EVALUATIONS_MAX_BYTES`], with a spec of this length.
    pub(crate) fn bytes(&self, spec: usize) -> usize {
        let texts = [self.attribute.as_str(), self.drv.as_str(), self.out.as_str(), &self.system];
        texts.iter().map(|text| text.len()).sum::<usize>() + spec + VM_OVERHEAD
    }
}

/// The newest evaluations.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationCache {
    /// Oldest first.
    order: VecDeque<EvaluationKey>,
    entries: BTreeMap<EvaluationKey, Evaluation>,
}

impl EvaluationCache {
    /// What evaluating this gave, if it is remembered.
    pub fn get(&self, key: EvaluationKey) -> Option<&Evaluation> {
        self.entries.get(&key)
    }

    /// The digests of all specs it refers to.
    pub(crate) fn specs(&self) -> impl Iterator<Item = Sha256Hash> {
        self.entries.values().flat_map(|entry| entry.vms.iter().map(|vm| vm.spec))
    }

    /// Remembers an evaluation as the newest, and forgets the oldest ones that are too many or too much,
    /// itself if need be. Gives whether anything has changed.
    pub(crate) fn remember(&mut self, key: EvaluationKey, evaluation: Evaluation) -> bool {
        if self.entries.get(&key) == Some(&evaluation) && self.order.back() == Some(&key) {
            return false;
        }
        self.order.retain(|other| *other != key);
        self.order.push_back(key);
        self.entries.insert(key, evaluation);
        while self.order.len() > EVALUATIONS_KEPT || self.bytes() > EVALUATIONS_MAX_BYTES {
            let Some(oldest) = self.order.pop_front() else { break };
            self.entries.remove(&oldest);
        }
        true
    }

    fn bytes(&self) -> usize {
        self.entries.values().map(|entry| entry.bytes).sum()
    }
}

#[cfg(test)]
mod tests;
