//! Makes closures for tests and benchmarks: real paths, registered, of no use to anybody.
//!
//! A few paths are large and many are small, as in a real closure. The root refers to all others.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File, FileTimes, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use clap::Args;
use nix_archive::nar::{CaseHack, hash_path};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};

const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

#[derive(Debug, Args)]
pub(crate) struct MakeArguments {
    /// Tells closures apart.
    #[arg(long)]
    name: String,
    #[arg(long, default_value_t = 12)]
    paths: u32,
    /// Bytes of all files.
    #[arg(long, default_value_t = 1 << 20)]
    bytes: u64,
    /// Files of each path.
    #[arg(long, default_value_t = 4)]
    files: u32,
    /// A link to the root, as a root of the collector.
    #[arg(long)]
    root: Option<PathBuf>,
}

/// Numbers that look like chance and are the same every time.
struct Noise(u64);

impl Noise {
    fn of(text: &str) -> Self {
        Self(
            text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            }) | 1,
        )
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, count: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(usize::try_from(count).unwrap_or_default() + 8);
        while (bytes.len() as u64) < count {
            bytes.extend(self.next().to_le_bytes());
        }
        bytes.truncate(usize::try_from(count).unwrap_or_default());
        bytes
    }
}

pub(crate) fn run(arguments: &MakeArguments) -> anyhow::Result<()> {
    ensure!(arguments.paths > 0, "a closure has a path at least");
    let mut made = BTreeSet::new();
    let mut records = String::new();
    for number in 1..arguments.paths {
        let path = store_path(&format!("{}-{number}", arguments.name));
        make(&path, arguments, size_of(number, arguments))?;
        record(&mut records, &path, &BTreeSet::new())?;
        made.insert(path);
    }
    let root = store_path(&arguments.name);
    if fs::symlink_metadata(&root).is_err() {
        fs::create_dir(&root)?;
        let listed: Vec<String> = made.iter().map(|path| path.display().to_string()).collect();
        fs::write(root.join("paths"), listed.join("\n"))?;
        store_away(&root)?;
    }
    record(&mut records, &root, &made)?;
    register(&records)?;
    if let Some(link) = &arguments.root {
        fs::create_dir_all(link.parent().context("a root is in a folder")?)?;
        let _ = fs::remove_file(link);
        symlink(&root, link)?;
    }
    println!("{}", root.display());
    Ok(())
}

/// Half of the bytes are in a twentieth of the paths.
fn size_of(number: u32, arguments: &MakeArguments) -> u64 {
    let large = u64::from(arguments.paths / 20).max(1);
    let small = u64::from(arguments.paths).saturating_sub(large + 1).max(1);
    let half = arguments.bytes / 2;
    if u64::from(number) <= large { half / large } else { half / small }
}

fn store_path(name: &str) -> PathBuf {
    let mut noise = Noise::of(name);
    let digits = (0..32).map(|_| {
        let digit = DIGITS.get(usize::try_from(noise.next() >> 32).unwrap_or_default() % DIGITS.len());
        char::from(*digit.unwrap_or(&b'0'))
    });
    PathBuf::from(format!("/nix/store/{}-{name}", digits.collect::<String>()))
}

fn make(path: &Path, arguments: &MakeArguments, size: u64) -> anyhow::Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        return Ok(());
    }
    let mut noise = Noise::of(&path.display().to_string());
    let folder = path.join("lib/näme with spaces");
    fs::create_dir_all(&folder)?;
    fs::create_dir(path.join("empty"))?;
    symlink("lib/näme with spaces/0", path.join("link"))?;
    symlink("/nowhere", path.join("lib/dangling"))?;
    for file in 0..arguments.files {
        let at = folder.join(file.to_string());
        fs::write(&at, noise.bytes(size / u64::from(arguments.files.max(1))))?;
        let mode = if file % 4 == 1 { 0o555 } else { 0o444 };
        fs::set_permissions(&at, Permissions::from_mode(mode))?;
    }
    store_away(path)
}

/// Modes and times as Nix has them.
fn store_away(path: &Path) -> anyhow::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            store_away(&entry?.path())?;
        }
        fs::set_permissions(path, Permissions::from_mode(0o555))?;
    } else if metadata.is_file() && metadata.permissions().mode() & 0o100 == 0 {
        fs::set_permissions(path, Permissions::from_mode(0o444))?;
    }
    if metadata.is_symlink() {
        let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let times = Timestamps { last_access: omit, last_modification: Timespec { tv_sec: 1, tv_nsec: 0 } };
        return Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?);
    }
    let second = FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(1));
    Ok(File::open(path)?.set_times(second)?)
}

fn record(records: &mut String, path: &Path, references: &BTreeSet<PathBuf>) -> anyhow::Result<()> {
    let hashed = hash_path(path, CaseHack::Disabled)?;
    let hash = hashed.sha256.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    });
    let _ = writeln!(records, "{}\n{hash}\n{}\n\n{}", path.display(), hashed.size, references.len());
    for reference in references {
        let _ = writeln!(records, "{}", reference.display());
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "a workbench drives programs")]
fn register(records: &str) -> anyhow::Result<()> {
    let mut child = Command::new("nix-store").arg("--load-db").stdin(Stdio::piped()).spawn()?;
    child.stdin.take().context("no pipe")?.write_all(records.as_bytes())?;
    let status = child.wait()?;
    ensure!(status.success(), "nix-store --load-db: {status}");
    Ok(())
}
