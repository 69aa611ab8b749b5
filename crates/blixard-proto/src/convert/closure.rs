//! Manifests of closures, in parts; references are places among the sorted paths.

use std::collections::BTreeSet;

use blixard_types::{ClosureRef, Manifest, PathRecord, StorePath};

use super::{ConvertError, closure_from as reference_from, closure_to, hash, hash_bytes};
use crate::v1;

/// Records in one message: far below what a message may have.
const RECORDS_PER_PART: usize = 1000;
/// References of all records together, at most: 64 MiB here.
const REFERENCES_MAX: usize = 4 << 20;
const STORE: &str = "/nix/store/";

/// A closure's reference.
///
/// # Errors
/// When a field is missing or wrong.
pub fn closure_from(closure: Option<v1::ClosureRef>) -> Result<ClosureRef, ConvertError> {
    reference_from(closure)
}

/// The message that asks for a manifest.
#[must_use]
pub fn manifest_request(closure: &ClosureRef) -> v1::ManifestRequest {
    v1::ManifestRequest { closure: Some(closure_to(closure)) }
}

/// The message that opens a stream of NARs.
#[must_use]
pub fn fetch_closure(closure: &ClosureRef) -> v1::FetchRequest {
    let request = v1::fetch_request::Request::Closure(closure_to(closure));
    v1::FetchRequest { request: Some(request) }
}

/// A manifest as messages.
#[must_use]
pub fn manifest_parts(manifest: &Manifest) -> Vec<v1::ManifestPart> {
    let records = manifest.records();
    let place = |path: &StorePath| {
        let place = records.binary_search_by(|record| record.path.cmp(path)).ok();
        place.and_then(|place| u32::try_from(place).ok())
    };
    let record = |record: &PathRecord| v1::PathRecord {
        basename: record.path.basename().to_owned(),
        nar_hash: hash_bytes(record.nar_hash),
        nar_size: record.nar_size,
        references: record.references.iter().filter_map(place).collect(),
    };
    let part = |chunk: &[PathRecord]| v1::ManifestPart { records: chunk.iter().map(record).collect() };
    records.chunks(RECORDS_PER_PART).map(part).collect()
}

/// Puts the parts of a manifest together. No more is kept than the closure's reference allows.
#[derive(Debug)]
pub struct ManifestReader<'a> {
    closure: &'a ClosureRef,
    records: Vec<v1::PathRecord>,
    references: usize,
}

impl<'a> ManifestReader<'a> {
    /// Of this closure.
    #[must_use]
    pub fn new(closure: &'a ClosureRef) -> Self {
        Self { closure, records: Vec::new(), references: 0 }
    }

    /// Takes the next part.
    ///
    /// # Errors
    /// When there is more than can be.
    pub fn push(&mut self, part: v1::ManifestPart) -> Result<(), ConvertError> {
        self.references += part.records.iter().map(|record| record.references.len()).sum::<usize>();
        self.records.extend(part.records);
        let expected = self.closure.path_count;
        if self.records.len() as u64 > expected || self.references > REFERENCES_MAX {
            return Err(ConvertError::of("records", &format!("more than the {expected} paths there are")));
        }
        Ok(())
    }

    /// The manifest, if it is the one that the reference pins.
    ///
    /// # Errors
    /// When it is another.
    pub fn finish(self) -> Result<Manifest, ConvertError> {
        let paths: Vec<StorePath> = self.records.iter().map(path).collect::<Result<_, _>>()?;
        let records = self.records.iter().zip(&paths).map(|(record, path)| convert(record, path, &paths));
        let records = records.collect::<Result<_, _>>()?;
        let manifest = Manifest::new(self.closure.root.clone(), records)
            .map_err(|error| ConvertError::of("records", &error))?;
        let found = manifest.closure_ref().map_err(|error| ConvertError::of("records", &error))?;
        if found != *self.closure {
            let problem =
                format!("their digest is {}, not {}", found.closure_digest, self.closure.closure_digest);
            return Err(ConvertError::of("records", &problem));
        }
        Ok(manifest)
    }
}

fn path(record: &v1::PathRecord) -> Result<StorePath, ConvertError> {
    super::store_path("basename", &format!("{STORE}{}", record.basename))
}

fn convert(
    record: &v1::PathRecord,
    path: &StorePath,
    paths: &[StorePath],
) -> Result<PathRecord, ConvertError> {
    let reference = |place: &u32| {
        let place = usize::try_from(*place).unwrap_or(usize::MAX);
        paths.get(place).cloned().ok_or_else(|| ConvertError::of("references", "no such place"))
    };
    let references = record.references.iter().map(reference).collect::<Result<BTreeSet<_>, _>>()?;
    let nar_hash = hash("nar_hash", &record.nar_hash)?;
    Ok(PathRecord { path: path.clone(), nar_hash, nar_size: record.nar_size, references })
}

#[cfg(test)]
mod tests {
    use blixard_types::Sha256Hash;

    use super::*;

    fn store_path(name: &str) -> StorePath {
        format!("/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-{name}").parse().unwrap()
    }

    fn manifest() -> Manifest {
        let record = |name: &str, references: &[&str]| PathRecord {
            path: store_path(name),
            nar_hash: Sha256Hash::of(name.as_bytes()),
            nar_size: 7,
            references: references.iter().map(|name| store_path(name)).collect(),
        };
        let chain = (0..2500).map(|n| record(&format!("p{n:04}"), &[&format!("p{:04}", n + 1)]));
        let end = record("p2500", &["p2500"]);
        Manifest::new(store_path("p0000"), chain.chain([end]).collect()).unwrap()
    }

    fn read(closure: &ClosureRef, parts: Vec<v1::ManifestPart>) -> Result<Manifest, ConvertError> {
        let mut reader = ManifestReader::new(closure);
        parts.into_iter().try_for_each(|part| reader.push(part))?;
        reader.finish()
    }

    #[test]
    fn a_manifest_comes_back_from_its_parts() {
        let manifest = manifest();
        let closure = manifest.closure_ref().unwrap();
        assert_eq!(read(&closure, manifest_parts(&manifest)), Ok(manifest));
    }

    #[test]
    fn any_other_manifest_is_refused() {
        let manifest = manifest();
        let closure = manifest.closure_ref().unwrap();
        let changes: [fn(&mut Vec<v1::PathRecord>); 8] = [
            |records| records[3].nar_size += 1,
            |records| records[3].nar_hash = vec![0; 32].into(),
            |records| records[3].nar_hash = vec![0; 31].into(),
            |records| records[3].references = vec![],
            |records| records[3].references = vec![9999],
            |records| records[3].basename = "../../etc/passwd".to_owned(),
            |records| drop(records.pop()),
            |records| {
                let mut more = records[3].clone();
                more.basename.push('x');
                records.push(more);
            },
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let mut parts = manifest_parts(&manifest);
            change(&mut parts[2].records);
            assert!(read(&closure, parts).is_err(), "change {at}");
        }
    }
}
