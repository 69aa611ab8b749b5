//! The one place that starts a Nix process: as a child, or in confinement.
//!
//! Owns: the process, its three streams, and the bounds on what is kept of them. Refuses to know:
//! what the output means. A process ends with the future that runs it.

mod confined;
mod lines;

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use blixard_core::ports::nix::NixCommandError;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;

pub(crate) use confined::Cell;
pub(crate) use lines::{Line, LineSplitter};

/// The most that is read from a process's standard output. A closure of 100,000 paths takes 30 MB.
pub(crate) const STDOUT_MAX: usize = 64 * 1024 * 1024;

/// Where Nix's daemon listens, unless Nix was built for another state directory.
const DAEMON_SOCKET: &str = "/nix/var/nix/daemon-socket/socket";

/// Bytes asked of a pipe at once: what a pipe holds by default.
const CHUNK: usize = 64 * 1024;

/// One call of `nix` or `nix-store`.
#[derive(Debug)]
pub(crate) struct NixCommand {
    program: PathBuf,
    arguments: Vec<String>,
    label: String,
    stdout_max: usize,
    by_daemon: bool,
}

/// How a process ended, and what it printed on standard output.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
}

impl NixCommand {
    /// `verb` is what errors call the command: the program's name and this.
    pub(crate) fn new(program: &Path, verb: &str) -> Self {
        let name =
            program.file_name().map_or_else(|| program.to_string_lossy(), |name| name.to_string_lossy());
        let label = format!("{name} {verb}");
        Self {
            program: program.to_owned(),
            arguments: Vec::new(),
            label,
            stdout_max: STDOUT_MAX,
            by_daemon: false,
        }
    }

    pub(crate) fn args<T: AsRef<str>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Has Nix's own daemon do it, if one listens. Who collects sees the roots that lie in this process's view of the
    /// file system, and removes as stale those that lead out of it; a confined service sees nobody's home.
    pub(crate) fn by_daemon(mut self) -> Self {
        self.by_daemon = UnixStream::connect(DAEMON_SOCKET).is_ok();
        self
    }

    /// Reads no more than this from standard output.
    #[cfg(test)]
    pub(crate) fn stdout_max(mut self, bytes: usize) -> Self {
        self.stdout_max = bytes;
        self
    }

    /// Runs the process to its end, handing on each line of standard error as it comes.
    ///
    /// # Errors
    /// When it cannot be started or read, or prints too much; its exit status is not looked at.
    pub(crate) async fn run(
        &self,
        mut on_line: impl FnMut(Line<'_>) + Send,
    ) -> Result<Finished, NixCommandError> {
        tracing::debug!(command = self.label, "starting");
        let mut child = self.start()?;
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        let (stdout, ()) =
            tokio::try_join!(self.read_output(stdout), self.read_lines(stderr, &mut on_line),)?;
        let status = child.wait().await.map_err(|cause| self.io(cause))?;
        tracing::debug!(command = self.label, %status, "ended");
        Ok(Finished { status, stdout })
    }

    #[allow(clippy::disallowed_methods, reason = "this is the adapter's one wrapper around processes")]
    fn start(&self) -> Result<Child, NixCommandError> {
        let mut command = tokio::process::Command::new(&self.program);
        if self.by_daemon {
            command.env("NIX_REMOTE", "daemon");
        }
        command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|cause| NixCommandError::Start { program: self.program_name(), cause })
    }

    async fn read_output(&self, stream: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>, NixCommandError> {
        let Some(mut stream) = stream else {
            return Ok(Vec::new());
        };
        let mut output = Vec::new();
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = stream.read(&mut chunk).await.map_err(|cause| self.io(cause))?;
            let Some(read) = chunk.get(..count).filter(|read| !read.is_empty()) else {
                return Ok(output);
            };
            if output.len() + read.len() > self.stdout_max {
                return Err(self.unexpected(format!("more than {} bytes", self.stdout_max)));
            }
            output.extend_from_slice(read);
        }
    }

    async fn read_lines(
        &self,
        stream: Option<impl AsyncRead + Unpin>,
        on_line: &mut (impl FnMut(Line<'_>) + Send),
    ) -> Result<(), NixCommandError> {
        let Some(mut stream) = stream else {
            return Ok(());
        };
        let mut splitter = LineSplitter::default();
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = stream.read(&mut chunk).await.map_err(|cause| self.io(cause))?;
            let Some(read) = chunk.get(..count).filter(|read| !read.is_empty()) else {
                splitter.finish(on_line);
                return Ok(());
            };
            splitter.push(read, on_line);
        }
    }

    fn program_name(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }

    fn io(&self, cause: std::io::Error) -> NixCommandError {
        NixCommandError::Io { program: self.program_name(), cause }
    }

    pub(crate) fn unexpected(&self, reason: String) -> NixCommandError {
        NixCommandError::Unexpected { command: self.label.clone(), reason }
    }

    pub(crate) fn failed(&self, message: String) -> NixCommandError {
        NixCommandError::Failed { command: self.label.clone(), message }
    }
}

#[cfg(test)]
mod tests;
