//! Small files of the data directory: JSON, for root alone, whole or not there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads one, if it is there. The caller says which version of it this program knows, and where it says its own.
pub(crate) fn read<T: DeserializeOwned>(
    path: &Path,
    version: u32,
    of: impl Fn(&T) -> u32,
) -> io::Result<Option<T>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(cause),
    };
    let file: T = serde_json::from_str(&text)?;
    match of(&file) {
        found if found == version => Ok(Some(file)),
        found => Err(io::Error::other(format!("version {found} is unknown"))),
    }
}

/// Writes one. Who sees it sees all of it, also after a crash.
pub(crate) fn write(path: &Path, content: &impl Serialize) -> io::Result<()> {
    let new = path.with_extension("json.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec_pretty(content)?)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
