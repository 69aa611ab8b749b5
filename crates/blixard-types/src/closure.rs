//! Closures by content: the manifest that lists one, and the reference that pins it.
//!
//! Only the reference goes through the log; a manifest can come from anyone, because its digest is in
//! the reference.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{Sha256Hash, StorePath};

/// What a digest begins with, so that no other hash is ever taken for one.
const DIGEST_DOMAIN: &[u8] = b"blixard-closure-v1\0";

/// Pins a root's whole closure by content. Under 600 bytes however large the closure is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClosureRef {
    /// The path that needs the others: a runner.
    pub root: StorePath,
    /// SHA-256 of the root's NAR.
    pub nar_hash: Sha256Hash,
    /// [`Manifest::digest`] of the whole closure.
    pub closure_digest: Sha256Hash,
    /// Paths in the closure, the root included.
    pub path_count: u64,
    /// Bytes of all its NARs.
    pub nar_size: u64,
}

/// One path of a closure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PathRecord {
    /// The path.
    pub path: StorePath,
    /// SHA-256 of its NAR.
    pub nar_hash: Sha256Hash,
    /// Bytes of its NAR.
    pub nar_size: u64,
    /// The paths it refers to, itself possibly among them.
    pub references: BTreeSet<StorePath>,
}

/// All paths of one closure, sorted, complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    root: StorePath,
    records: Vec<PathRecord>,
}

/// Why records are not the closure of a root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// The same path twice.
    #[error("{path} is listed twice")]
    Duplicate {
        /// The path.
        path: StorePath,
    },
    /// A path refers to one that is not listed.
    #[error("{path} refers to {missing}, which is not listed")]
    Dangling {
        /// The path that refers.
        path: StorePath,
        /// The path that is not there.
        missing: StorePath,
    },
    /// The root is not listed.
    #[error("the root {root} is not listed")]
    NoRoot {
        /// The root.
        root: StorePath,
    },
    /// A path that the root does not need.
    #[error("{path} is not needed by the root")]
    Unreachable {
        /// The path.
        path: StorePath,
    },
    /// The sizes add up to more than can be.
    #[error("the NAR sizes add up to more than 2^64 bytes")]
    SizeOverflow,
}

impl Manifest {
    /// Checks that the records are exactly the closure of `root`, and sorts them.
    ///
    /// # Errors
    /// When a path is missing, listed twice, or not part of the closure.
    pub fn new(root: StorePath, mut records: Vec<PathRecord>) -> Result<Self, ManifestError> {
        records.sort_by(|a, b| a.path.cmp(&b.path));
        if let Some(twice) = records.windows(2).find_map(|pair| match pair {
            [a, b] if a.path == b.path => Some(a.path.clone()),
            _ => None,
        }) {
            return Err(ManifestError::Duplicate { path: twice });
        }
        let manifest = Self { root, records };
        manifest.check_reachability()?;
        manifest.total_size().ok_or(ManifestError::SizeOverflow)?;
        Ok(manifest)
    }

    fn find(&self, path: &StorePath) -> Option<&PathRecord> {
        let at = self.records.binary_search_by(|record| record.path.cmp(path)).ok()?;
        self.records.get(at)
    }

    fn check_reachability(&self) -> Result<(), ManifestError> {
        let root = self.find(&self.root).ok_or_else(|| ManifestError::NoRoot { root: self.root.clone() })?;
        let mut reached = BTreeSet::from([&root.path]);
        let mut open = vec![root];
        while let Some(record) = open.pop() {
            for reference in &record.references {
                let next = self.find(reference).ok_or_else(|| ManifestError::Dangling {
                    path: record.path.clone(),
                    missing: reference.clone(),
                })?;
                if reached.insert(&next.path) {
                    open.push(next);
                }
            }
        }
        match self.records.iter().find(|record| !reached.contains(&record.path)) {
            Some(record) => Err(ManifestError::Unreachable { path: record.path.clone() }),
            None => Ok(()),
        }
    }

    fn total_size(&self) -> Option<u64> {
        self.records.iter().try_fold(0_u64, |sum, record| sum.checked_add(record.nar_size))
    }

    /// The records, sorted by path.
    pub fn records(&self) -> &[PathRecord] {
        &self.records
    }

    /// SHA-256 over `"blixard-closure-v1\0"`, the number of records, and each record sorted by
    /// basename: length and bytes of the basename, NAR hash, NAR size, number of references, and each
    /// reference's length and basename, sorted. Numbers are u64, little-endian.
    #[must_use]
    pub fn digest(&self) -> Sha256Hash {
        let mut hasher = Sha256::new();
        hasher.update(DIGEST_DOMAIN);
        put_len(&mut hasher, self.records.len());
        for record in &self.records {
            put_text(&mut hasher, record.path.basename());
            hasher.update(record.nar_hash.0);
            hasher.update(record.nar_size.to_le_bytes());
            put_len(&mut hasher, record.references.len());
            for reference in &record.references {
                put_text(&mut hasher, reference.basename());
            }
        }
        Sha256Hash(hasher.finalize().into())
    }

    /// The reference that pins this closure.
    ///
    /// # Errors
    /// Never for a manifest made by [`Manifest::new`], which has checked both conditions.
    pub fn closure_ref(&self) -> Result<ClosureRef, ManifestError> {
        let root = self.find(&self.root).ok_or_else(|| ManifestError::NoRoot { root: self.root.clone() })?;
        Ok(ClosureRef {
            root: self.root.clone(),
            nar_hash: root.nar_hash,
            closure_digest: self.digest(),
            path_count: self.records.len() as u64,
            nar_size: self.total_size().ok_or(ManifestError::SizeOverflow)?,
        })
    }
}

fn put_len(hasher: &mut Sha256, length: usize) {
    hasher.update((length as u64).to_le_bytes());
}

fn put_text(hasher: &mut Sha256, text: &str) {
    put_len(hasher, text.len());
    hasher.update(text.as_bytes());
}

#[cfg(test)]
mod tests;
