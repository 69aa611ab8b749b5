//! A record of a closure as one line: basename, NAR hash, NAR size, and the basenames it refers to.

use std::collections::BTreeSet;

use blixard_types::{PathRecord, StorePath};

const STORE: &str = "/nix/store/";

pub(crate) fn to_line(record: &PathRecord) -> String {
    let mut line = format!("{} {} {}", record.path.basename(), record.nar_hash, record.nar_size);
    for reference in &record.references {
        line.push(' ');
        line.push_str(reference.basename());
    }
    line
}

/// Reads a line; the path must be one of the store.
pub(crate) fn from_line(line: &str) -> Option<PathRecord> {
    let mut words = line.split(' ');
    let path = path(words.next()?)?;
    let nar_hash = words.next()?.parse().ok()?;
    let nar_size = words.next()?.parse().ok()?;
    let references = words.map(self::path).collect::<Option<BTreeSet<_>>>()?;
    Some(PathRecord { path, nar_hash, nar_size, references })
}

/// The store path of this basename.
pub(crate) fn path(basename: &str) -> Option<StorePath> {
    format!("{STORE}{basename}").parse().ok()
}

#[cfg(test)]
mod tests {
    use blixard_types::Sha256Hash;

    use super::*;

    #[test]
    fn a_record_reads_back_and_no_other_line_is_one() {
        let base = "7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-a";
        let record = PathRecord {
            path: path(base).unwrap(),
            nar_hash: Sha256Hash::of(b"x"),
            nar_size: 9,
            references: [path(base).unwrap(), path("7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-b").unwrap()].into(),
        };
        assert_eq!(from_line(&to_line(&record)), Some(record));
        let hash = Sha256Hash::of(b"x");
        for line in [
            String::new(),
            base.to_owned(),
            format!("{base} {hash}"),
            format!("{base} {hash} -1"),
            format!("{base} {hash} 1 "),
            format!("../{base} {hash} 1"),
            format!("{base}/../../x {hash} 1"),
            format!("{base} sha1 1"),
        ] {
            assert_eq!(from_line(&line), None, "{line:?}");
        }
    }
}
