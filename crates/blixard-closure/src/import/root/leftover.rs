//! Whether a tree that is in the store's folder without being registered is the path it is named after.
//!
//! A killed import leaves whole trees; so may a build. They are taken over only if every mode, owner and
//! time is as Nix has them in its store, and the hash is right.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use blixard_types::PathRecord;
use nix_archive::nar::{CaseHack, hash_path};

use crate::nar::DEPTH_MAX;

pub(super) fn is_whole(path: &Path, record: &PathRecord) -> bool {
    let same = || {
        let hashed = hash_path(path, CaseHack::Disabled).ok()?;
        Some((hashed.sha256, hashed.size) == (record.nar_hash.0, record.nar_size))
    };
    is_stored(path, 0).unwrap_or(false) && same().unwrap_or(false)
}

fn is_stored(path: &Path, depth: usize) -> io::Result<bool> {
    let metadata = fs::symlink_metadata(path)?;
    if (metadata.uid(), metadata.gid(), metadata.mtime()) != (0, 0, 1) || depth > DEPTH_MAX {
        return Ok(false);
    }
    let mode = metadata.mode() & 0o7777;
    if metadata.is_symlink() {
        return Ok(true);
    }
    if metadata.is_file() {
        // A second name could be one that somebody may write to.
        return Ok([0o444, 0o555].contains(&mode) && metadata.nlink() == 1);
    }
    if !metadata.is_dir() || mode != 0o555 {
        return Ok(false);
    }
    for entry in fs::read_dir(path)? {
        if !is_stored(&entry?.path(), depth + 1)? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::fs::{File, FileTimes, Permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::{Duration, UNIX_EPOCH};

    use blixard_types::Sha256Hash;

    use super::*;

    fn store(path: &Path, mode: u32, mtime: u64) {
        let file = File::open(path).unwrap();
        file.set_times(FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(mtime))).unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn is_root() -> bool {
        rustix::process::geteuid().is_root()
    }

    #[test]
    fn only_the_very_tree_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("file"), "text").unwrap();
        let hashed = hash_path(&tree, CaseHack::Disabled).unwrap();
        let record = PathRecord {
            path: "/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-a".parse().unwrap(),
            nar_hash: Sha256Hash(hashed.sha256),
            nar_size: hashed.size,
            references: [].into(),
        };
        for (file_mode, mtime, mode, whole) in [
            (0o444, 1, 0o555, true),
            (0o644, 1, 0o555, false),
            (0o4555, 1, 0o555, false),
            (0o444, 2, 0o555, false),
            (0o444, 1, 0o755, false),
        ] {
            store(&tree.join("file"), file_mode, mtime);
            store(&tree, mode, 1);
            let expected = whole && is_root();
            assert_eq!(is_whole(&tree, &record), expected, "{file_mode:o} {mtime} {mode:o}");
        }
        store(&tree.join("file"), 0o444, 1);
        store(&tree, 0o555, 1);
        let other = PathRecord { nar_hash: Sha256Hash::of(b"other"), ..record };
        assert!(!is_whole(&tree, &other));
    }
}
