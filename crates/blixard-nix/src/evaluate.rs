//! Evaluates the vms of a flake.
//!
//! Owns: the one process for all of them, and who is to blame when it fails. Refuses to know: what a
//! spec says.

mod expression;
mod outcome;
mod printed;

use std::path::Path;

use blixard_core::ports::confined::LimitReached;
use blixard_core::ports::nix::{
    EvaluateError, EvaluatedVm, FlakeOutput, LockedSource, NixCommandError, NixProgress, ProgressSink,
    Selection,
};
use blixard_types::Sha256Hash;

use crate::batches::batches;
use crate::command::{Cell, NixCommand};
use crate::internal_json::Interpreter;
use crate::outputs;
use crate::reference::{flake_reference, lock_arguments};
use expression::{Wanted, describing, naming};
use outcome::{Culprit, NOTHING_SAID};

/// How many failing vms are told of in one go. What many have in common is seen in a few.
const CULPRITS_MAX: usize = 5;

/// What a result depends on beside the source: settings that make it pure. A flake may ask for settings;
/// as root they would be ours.
const SETTINGS: [&str; 9] = [
    "--option",
    "allow-import-from-derivation",
    "false",
    "--option",
    "accept-flake-config",
    "false",
    "--option",
    "pure-eval",
    "true",
];

/// A hash of what this module asks Nix, whatever the source. Nix's own version is no part of it: a pure
/// evaluation that another version gives otherwise is as good as it was.
pub(crate) fn fingerprint() -> Sha256Hash {
    let settings = SETTINGS.join("\n");
    Sha256Hash::of(format!("{settings}\n{}", describing(None)).as_bytes())
}

/// Evaluates the selected vms of one source.
#[derive(Debug)]
pub(crate) struct Evaluation<'a> {
    nix: &'a Path,
    cell: &'a Cell,
    source: &'a LockedSource,
    reference: String,
}

/// Whether Nix is asked for the frames between an error and its cause, which cost time and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trace {
    Short,
    Full,
}

/// Why a process gave no value.
#[derive(Debug)]
enum Failure {
    /// The flake is at fault.
    Flake(Interpreter),
    /// Something else is.
    Command(NixCommandError),
}

impl<'a> Evaluation<'a> {
    pub(crate) fn new(nix: &'a Path, cell: &'a Cell, source: &'a LockedSource) -> Self {
        // A fragment of one dot is all outputs.
        let reference = format!("{}#.", flake_reference(source));
        Self { nix, cell, source, reference }
    }

    /// The vms, sorted by attribute. The limit on time is one for all that this takes.
    pub(crate) async fn run(
        &self,
        selection: Selection,
        progress: &ProgressSink,
    ) -> Result<Vec<EvaluatedVm>, EvaluateError> {
        let time_ms = self.cell.limits.time_ms;
        let limit = std::time::Duration::from_millis(time_ms);
        match tokio::time::timeout(limit, self.vms(selection, progress)).await {
            Ok(result) => result,
            Err(_) => Err(EvaluateError::TimeLimit { seconds: time_ms / 1000 }),
        }
    }

    async fn vms(
        &self,
        selection: Selection,
        progress: &ProgressSink,
    ) -> Result<Vec<EvaluatedVm>, EvaluateError> {
        let mut vms = match selection {
            Selection::All => self.together(None, progress).await?,
            Selection::Named(names) => self.wanted(None, names, progress).await?,
            Selection::Configurations(names) => {
                self.wanted(Some(FlakeOutput::Configurations), names, progress).await?
            }
        };
        vms.sort_by(|a, b| a.attribute.cmp(&b.attribute));
        for vm in &vms {
            outputs::check_made_by(vm).await?;
        }
        Ok(vms)
    }

    async fn wanted(
        &self,
        output: Option<FlakeOutput>,
        mut names: Vec<String>,
        progress: &ProgressSink,
    ) -> Result<Vec<EvaluatedVm>, EvaluateError> {
        names.sort_unstable();
        names.dedup();
        // No argument and no Nix string can hold a NUL, so no attribute is called that.
        if let Some(attribute) = names.iter().find(|name| name.contains('\0')).cloned() {
            let output = output.unwrap_or(FlakeOutput::Microvms);
            return Err(EvaluateError::NoSuchVm { output, attribute });
        }
        let wanted: Vec<Wanted> = names.into_iter().map(|name| Wanted { output, name }).collect();
        let texts: Vec<String> = wanted.iter().map(Wanted::nix).collect();
        let mut vms = Vec::new();
        let mut rest = wanted.as_slice();
        for batch in batches(&texts, String::as_str) {
            let (these, others) = rest.split_at(batch.len());
            vms.extend(self.together(Some(these), progress).await?);
            rest = others;
        }
        Ok(vms)
    }

    /// Evaluates all (`None`) or these vms in one process.
    async fn together(
        &self,
        wanted: Option<&[Wanted]>,
        progress: &ProgressSink,
    ) -> Result<Vec<EvaluatedVm>, EvaluateError> {
        match self.print(&describing(wanted), Trace::Short, progress).await {
            Ok(json) => printed::vms(&json),
            Err(Failure::Command(error)) => Err(command_error(error)),
            Err(Failure::Flake(said)) => Err(self.blame(wanted, &said).await),
        }
    }

    /// After a failure of all vms together, evaluates each by itself to tell which ones fail and why.
    async fn blame(&self, wanted: Option<&[Wanted]>, said: &Interpreter) -> EvaluateError {
        let wanted = match wanted {
            Some(wanted) => wanted.to_vec(),
            None => match self.list().await {
                Ok(wanted) => wanted,
                Err(error) => return error,
            },
        };
        let mut culprits = Vec::new();
        for one in &wanted {
            match self.alone(one).await {
                Ok(culprit) => culprits.extend(culprit),
                Err(error) => return error,
            }
            if culprits.len() >= CULPRITS_MAX {
                break;
            }
        }
        if culprits.is_empty() {
            // Each succeeds by itself; what Nix said of all of them is all there is to say.
            culprits.extend(Culprit::new(None, said, self.source));
        }
        outcome::failed(culprits, said)
    }

    /// Why a vm cannot be evaluated; `None` if it can.
    async fn alone(&self, wanted: &Wanted) -> Result<Option<Culprit>, EvaluateError> {
        let apply = describing(Some(std::slice::from_ref(wanted)));
        match self.print(&apply, Trace::Full, &silent()).await {
            Ok(_) => Ok(None),
            Err(Failure::Command(error)) => Err(command_error(error)),
            Err(Failure::Flake(said)) => {
                let culprit = Culprit::new(Some(wanted.attribute()), &said, self.source);
                match culprit {
                    Some(culprit) => Ok(Some(culprit)),
                    None => self.alone_without_trace(wanted).await.map(Some),
                }
            }
        }
    }

    /// Why a vm cannot be evaluated whose error with all its frames is too long to be read: a stack that
    /// overflows has ten thousand.
    async fn alone_without_trace(&self, wanted: &Wanted) -> Result<Culprit, EvaluateError> {
        let apply = describing(Some(std::slice::from_ref(wanted)));
        let attribute = wanted.attribute();
        match self.print(&apply, Trace::Short, &silent()).await {
            Err(Failure::Flake(said)) => Ok(Culprit::new(Some(attribute.clone()), &said, self.source)
                .unwrap_or_else(|| Culprit::unexplained(attribute))),
            // What it says without its frames has no word of the flake: its name is all that is known.
            Err(Failure::Command(NixCommandError::Failed { .. })) | Ok(_) => {
                Ok(Culprit::unexplained(attribute))
            }
            Err(Failure::Command(error)) => Err(command_error(error)),
        }
    }

    /// The flake's vms; that fails when the flake itself cannot be read.
    async fn list(&self) -> Result<Vec<Wanted>, EvaluateError> {
        match self.print(&naming(), Trace::Full, &silent()).await {
            Ok(json) => printed::names(&json),
            Err(Failure::Command(error)) => Err(command_error(error)),
            Err(Failure::Flake(said)) => {
                let culprit = Culprit::new(None, &said, self.source);
                Err(outcome::failed(culprit.into_iter().collect(), &said))
            }
        }
    }

    /// Runs the process; gives its JSON.
    async fn print(&self, apply: &str, trace: Trace, progress: &ProgressSink) -> Result<Vec<u8>, Failure> {
        let command = self.command(apply, trace);
        let mut said = Interpreter::default();
        let finished = command
            .run_confined(self.cell, |line| {
                if let Some(told) = said.line(line) {
                    progress(told);
                }
            })
            .await
            .map_err(Failure::Command)?;
        if finished.status.success() {
            return Ok(finished.stdout);
        }
        // Code 1 and 102 are Nix's own. Without a word of explanation, or killed, it is not the flake's fault.
        if finished.status.code().is_none() || (said.faults().is_empty() && trace == Trace::Short) {
            let words = said.last_words();
            let words = if words.is_empty() { NOTHING_SAID } else { &words };
            return Err(Failure::Command(command.failed(format!("{}: {words}", finished.status))));
        }
        Err(Failure::Flake(said))
    }

    fn command(&self, apply: &str, trace: Trace) -> NixCommand {
        let command = NixCommand::new(self.nix, "eval")
            .args(["eval", "--json", &self.reference, "--apply", apply])
            .args(["--extra-experimental-features", "nix-command flakes"])
            .args(["--log-format", "internal-json"])
            .args(["--no-write-lock-file", "--no-eval-cache"])
            .args(lock_arguments(self.source))
            .args(SETTINGS)
            // There is no network where it runs.
            .args(["--offline"]);
        match trace {
            Trace::Short => command,
            Trace::Full => command.args(["--show-trace"]),
        }
    }
}

/// A limit that was reached is the flake's fault.
fn command_error(error: NixCommandError) -> EvaluateError {
    match error {
        NixCommandError::Limit { limit: LimitReached::Time(limit), .. } => {
            EvaluateError::TimeLimit { seconds: limit / 1000 }
        }
        NixCommandError::Limit { limit: LimitReached::Memory(limit), .. } => {
            EvaluateError::MemoryLimit { mib: limit >> 20 }
        }
        NixCommandError::Limit { limit: LimitReached::Output(limit), .. } => {
            EvaluateError::OutputLimit { mib: limit >> 20 }
        }
        other => EvaluateError::Command(other),
    }
}

fn silent() -> ProgressSink {
    std::sync::Arc::new(|_: NixProgress| ())
}

#[cfg(test)]
mod tests;
