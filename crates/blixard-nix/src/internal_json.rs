//! Understands what `nix --log-format internal-json` prints on standard error.
//!
//! Owns: the meaning of its lines, turned into progress, errors and the ends of build logs. Refuses to
//! know: which command prints them. Lines of a later Nix, and what is no such line, do no harm.
//!
//! Codes: `ActivityType` and `ResultType` in Nix's `src/libutil/logging.hh`.

mod logs;
mod record;
mod text;

use std::collections::{BTreeMap, VecDeque};

use blixard_core::ports::nix::{NixProgress, SourcePosition};
use blixard_types::StorePath;

use crate::command::Line;
use logs::LogTails;
use record::Record;
pub(crate) use text::clean;

/// `actBuilds`: stands for all builds together.
const ACTIVITY_BUILDS: u64 = 104;
/// `actBuild`: one build; its first field is the derivation.
const ACTIVITY_BUILD: u64 = 105;
/// `resBuildLogLine`: a line of a build's log.
const RESULT_BUILD_LOG_LINE: u64 = 101;
/// `resProgress`: done, expected, running, failed.
const RESULT_PROGRESS: u64 = 105;
/// `resPostBuildLogLine`: a line of what the post-build hook says.
const RESULT_POST_BUILD_LOG_LINE: u64 = 107;
/// `lvlError`.
const LEVEL_ERROR: u64 = 0;
/// `lvlWarn`.
const LEVEL_WARN: u64 = 1;

/// Errors kept of one command; with `--keep-going` each failed build gives one.
const FAULTS_MAX: usize = 64;
/// Other lines kept, the last ones.
const STRAYS_MAX: usize = 25;
/// Activities followed at once. A build may print activities of its own.
const ACTIVITIES_MAX: usize = 10_000;

/// An error that Nix reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// What it said, without colours and trace.
    pub(crate) message: String,
    /// The derivation that it speaks of, if any.
    pub(crate) drv: Option<StorePath>,
    /// The positions in files that it names, the innermost last.
    pub(crate) positions: Vec<SourcePosition>,
}

/// Reads the lines of one command, in their order.
#[derive(Debug, Default)]
pub(crate) struct Interpreter {
    activities: BTreeMap<u64, Activity>,
    told: Option<(u64, u64)>,
    faults: Vec<Fault>,
    strays: VecDeque<String>,
    logs: LogTails,
}

#[derive(Debug)]
enum Activity {
    Builds,
    Build { drv: String },
}

impl Interpreter {
    /// Takes a line; gives what it says of the progress.
    pub(crate) fn line(&mut self, line: Line<'_>) -> Option<NixProgress> {
        let (Line::Whole(bytes) | Line::Cut(bytes)) = line;
        let text = String::from_utf8_lossy(bytes);
        if let Some(json) = text.strip_prefix("@nix ") {
            self.record(serde_json::from_str(json).ok()?)
        } else {
            self.stray(&text);
            None
        }
    }

    /// What went wrong, in the order in which Nix said it.
    pub(crate) fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// The last lines of a derivation's log.
    pub(crate) fn log_tail(&self, drv: &StorePath) -> Vec<String> {
        self.logs.tail(drv.as_str())
    }

    /// The best words there are for a command that failed.
    pub(crate) fn last_words(&self) -> String {
        match self.faults.last() {
            Some(fault) => fault.message.clone(),
            None => Vec::from(self.strays.clone()).join("\n"),
        }
    }

    fn record(&mut self, record: Record) -> Option<NixProgress> {
        match record {
            Record::Start { id, kind, fields } => self.start(id, kind, &fields),
            Record::Stop { id } => {
                self.stop(id);
                None
            }
            Record::Result { id, kind, fields } => self.result(id, kind, &fields),
            Record::Msg(message) => self.message(&message),
            Record::Other => None,
        }
    }

    fn start(&mut self, id: u64, kind: u64, fields: &[serde_json::Value]) -> Option<NixProgress> {
        if self.activities.len() >= ACTIVITIES_MAX {
            return None;
        }
        match kind {
            ACTIVITY_BUILDS => {
                self.activities.insert(id, Activity::Builds);
                None
            }
            ACTIVITY_BUILD => {
                let drv = clean(fields.first()?.as_str()?);
                self.activities.insert(id, Activity::Build { drv: drv.clone() });
                Some(NixProgress::BuildStarted { drv })
            }
            _ => None,
        }
    }

    fn stop(&mut self, id: u64) {
        if let Some(Activity::Build { drv }) = self.activities.remove(&id)
            && !self.has_failed(&drv)
        {
            self.logs.ended(drv);
        }
    }

    fn has_failed(&self, drv: &str) -> bool {
        let is_it = |failed: &StorePath| failed.as_str() == drv;
        self.faults.iter().any(|fault| fault.drv.as_ref().is_some_and(is_it))
    }

    fn result(&mut self, id: u64, kind: u64, fields: &[serde_json::Value]) -> Option<NixProgress> {
        match (kind, self.activities.get(&id)) {
            (RESULT_PROGRESS, Some(Activity::Builds)) => {
                let now = (fields.first()?.as_u64()?, fields.get(1)?.as_u64()?);
                let (done, expected) = now;
                (self.told.replace(now) != Some(now)).then_some(NixProgress::Builds { done, expected })
            }
            (RESULT_BUILD_LOG_LINE | RESULT_POST_BUILD_LOG_LINE, activity) => {
                let line = clean(fields.first()?.as_str()?);
                let drv = match activity {
                    Some(Activity::Build { drv }) => {
                        self.logs.line(drv, &line);
                        derivation_name(drv)
                    }
                    _ => String::new(),
                };
                Some(NixProgress::BuildLog { drv, line })
            }
            _ => None,
        }
    }

    fn message(&mut self, message: &record::Message) -> Option<NixProgress> {
        let text = clean(&message.msg);
        if message.level == LEVEL_ERROR && (message.raw_msg.is_some() || text.starts_with("error:")) {
            self.fault(fault(message, &text));
            return None;
        }
        if message.level > LEVEL_WARN {
            return None;
        }
        // `flake.cc`: said when the lock in memory is not the one in the file.
        let unlocked = text.contains("not writing modified lock file of flake");
        Some(if unlocked { NixProgress::Unlocked { text } } else { NixProgress::Message { text } })
    }

    fn fault(&mut self, fault: Fault) {
        if self.faults.len() < FAULTS_MAX {
            if let Some(drv) = &fault.drv {
                self.logs.pin(drv.as_str());
            }
            self.faults.push(fault);
        }
    }

    fn stray(&mut self, line: &str) {
        let line = clean(line);
        if line.trim().is_empty() {
            return;
        }
        if self.strays.len() >= STRAYS_MAX {
            self.strays.pop_front();
        }
        self.strays.push_back(line);
    }
}

fn fault(message: &record::Message, text: &str) -> Fault {
    let words =
        message.raw_msg.as_deref().map_or_else(|| text.trim_start_matches("error:").to_owned(), clean);
    let mut positions = text::positions(text);
    positions.extend(text::position_of(message));
    Fault { message: words.trim().to_owned(), drv: text::first_derivation(&words), positions }
}

/// `/nix/store/<hash>-web.drv` → `web`.
fn derivation_name(drv: &str) -> String {
    let basename = drv.rsplit('/').next().unwrap_or(drv);
    let name = basename.split_once('-').map_or(basename, |(_, name)| name);
    name.strip_suffix(".drv").unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests;
