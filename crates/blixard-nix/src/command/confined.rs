//! Runs a Nix command where it can do no harm.
//!
//! Owns: what a Nix client needs to find its way in confinement: the daemon's socket, a home of its own,
//! a bound for its garbage-collected heap. Refuses to know: how confinement is made.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;

use blixard_core::ports::confined::{
    ConfinedError, ConfinedProgram, Confinement, LimitReached, Limits, Network, ProgramEnd,
};
use blixard_core::ports::nix::NixCommandError;

use super::{Finished, Line, LineSplitter, NixCommand};

/// Where nix-daemon listens.
const DAEMON_SOCKET_FOLDER: &str = "/nix/var/nix/daemon-socket";

/// A confined Nix client: with what it runs, and how much it may take.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(crate) confinement: Arc<dyn Confinement>,
    pub(crate) purpose: &'static str,
    pub(crate) network: Network,
    pub(crate) limits: Limits,
}

impl NixCommand {
    /// As [`NixCommand::run`], in confinement.
    ///
    /// # Errors
    /// When it cannot be started or read, or reaches a limit; its exit status is not looked at.
    pub(crate) async fn run_confined(
        &self,
        cell: &Cell,
        mut on_line: impl FnMut(Line<'_>) + Send,
    ) -> Result<Finished, NixCommandError> {
        let mut splitter = LineSplitter::default();
        let mut heap_is_full = false;
        let mut watch = |line: Line<'_>| {
            heap_is_full |= says_heap_is_full(line);
            on_line(line);
        };
        tracing::debug!(command = self.label, "starting in confinement");
        let mut take = |bytes: &[u8]| splitter.push(bytes, &mut watch);
        let ended = cell.confinement.run(self.confined_program(cell)?, &mut take).await;
        splitter.finish(&mut watch);
        let output = ended.map_err(|error| self.confined_error(error))?;
        let status = match output.end {
            ProgramEnd::Exited(0) => ExitStatus::default(),
            // Whatever became of it: an allocation had failed before.
            _ if heap_is_full => return Err(self.limit(LimitReached::Memory(cell.limits.memory_max))),
            // As wait(2) gives it.
            ProgramEnd::Exited(code) => ExitStatus::from_raw(code << 8),
            ProgramEnd::Killed(signal) => ExitStatus::from_raw(signal),
        };
        tracing::debug!(command = self.label, %status, "ended");
        Ok(Finished { status, stdout: output.stdout })
    }

    fn confined_program(&self, cell: &Cell) -> Result<ConfinedProgram, NixCommandError> {
        let program = absolute(&self.program).ok_or_else(|| NixCommandError::Start {
            program: self.program_name(),
            cause: std::io::ErrorKind::NotFound.into(),
        })?;
        let mut argv = vec![program.to_string_lossy().into_owned()];
        argv.extend(self.arguments.iter().cloned());
        Ok(ConfinedProgram {
            purpose: cell.purpose,
            argv,
            environment: environment(&cell.limits),
            groups: daemon_group(Path::new(DAEMON_SOCKET_FOLDER)).into_iter().collect(),
            network: cell.network,
            limits: cell.limits,
        })
    }

    fn confined_error(&self, error: ConfinedError) -> NixCommandError {
        match error {
            ConfinedError::Limit(limit) => self.limit(limit),
            ConfinedError::Start { reason } | ConfinedError::Lost { reason } => {
                NixCommandError::Confinement { command: self.label.clone(), reason }
            }
        }
    }

    pub(crate) fn limit(&self, limit: LimitReached) -> NixCommandError {
        NixCommandError::Limit { command: self.label.clone(), limit }
    }
}

/// Nix refuses a home that belongs to another, and makes one that is not there.
fn environment(limits: &Limits) -> BTreeMap<String, String> {
    // Below the limit on all memory, so that Nix can say what has happened.
    let heap_max = limits.memory_max / 8 * 7;
    let mut environment = BTreeMap::from(
        [
            ("NIX_REMOTE", "daemon".to_owned()),
            ("HOME", "/tmp/home".to_owned()),
            ("XDG_CACHE_HOME", "/tmp/cache".to_owned()),
            ("GC_MAXIMUM_HEAP_SIZE", heap_max.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    if let Ok(path) = std::env::var("PATH") {
        environment.insert("PATH".to_owned(), path);
    }
    environment
}

/// The group that one must be in to reach nix-daemon, where not everybody may (as on Debian).
fn daemon_group(folder: &Path) -> Option<u32> {
    let metadata = std::fs::metadata(folder).ok()?;
    let for_others = metadata.mode() & 0o001 != 0;
    let for_group = metadata.mode() & 0o010 != 0;
    (!for_others && for_group && metadata.gid() != 0).then_some(metadata.gid())
}

/// What Nix or the collector of its heap says when an allocation fails.
fn says_heap_is_full(line: Line<'_>) -> bool {
    let (Line::Whole(bytes) | Line::Cut(bytes)) = line;
    let text = String::from_utf8_lossy(bytes);
    text.starts_with("GC Warning: Out of Memory!")
        || text.starts_with("GC Warning: Failed to expand heap")
        || text.ends_with("error:\\u001b[0m out of memory\"}")
        || text.contains("std::bad_alloc")
}

/// The program's file, looked for in the daemon's PATH if it has no slash.
fn absolute(program: &Path) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return std::path::absolute(program).ok();
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_nixs_own_words_for_a_failed_allocation_count() {
        let full = |text: &str| says_heap_is_full(Line::Whole(text.as_bytes()));
        assert!(full("GC Warning: Out of Memory! Heap size: 512 MiB. Returning NULL!"));
        assert!(full(r#"@nix {"action":"msg","level":0,"msg":"\u001b[31;1merror:\u001b[0m out of memory"}"#));
        // A flake that prints such words is no allocation that fails.
        assert!(!full(r#"@nix {"action":"msg","level":0,"msg":"trace: GC Warning: Out of Memory!"}"#));
        assert!(!full(r#"@nix {"action":"msg","level":0,"msg":"error: we are out of memory"}"#));
    }

    #[test]
    fn the_group_of_the_daemons_socket_is_needed_only_where_others_may_not_enter() {
        let folder = tempfile::tempdir().unwrap();
        let group = |mode: u32| {
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            daemon_group(folder.path())
        };
        assert_eq!(group(0o755), None);
        assert_eq!(group(0o700), None);
        let own = folder.path().metadata().unwrap().gid();
        assert_eq!(group(0o770), Some(own).filter(|&group| group != 0));
        assert_eq!(daemon_group(Path::new("/nowhere")), None);
    }

    #[test]
    fn a_program_is_looked_for_in_the_path_and_only_there() {
        assert!(absolute(Path::new("sh")).is_some_and(|file| file.is_absolute()));
        assert_eq!(absolute(Path::new("no-such-program-anywhere")), None);
        assert_eq!(absolute(Path::new("/nowhere/nix")), Some("/nowhere/nix".into()));
    }
}
