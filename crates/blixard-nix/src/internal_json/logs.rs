//! Keeps the ends of build logs, for the one that fails.
//!
//! Owns: how much is kept. Refuses to know: which build fails; Nix says so before or after its end.

use std::collections::{BTreeMap, VecDeque};

/// Lines kept of each log.
const TAIL_LINES: usize = 25;
/// Characters kept of each line.
const LINE_CHARACTERS: usize = 4096;
/// Logs kept of builds that have ended: more than run at once on a machine.
const ENDED_MAX: usize = 256;

/// The ends of the logs of the running and the newest ended builds, by derivation.
#[derive(Debug, Default)]
pub(super) struct LogTails {
    tails: BTreeMap<String, VecDeque<String>>,
    ended: VecDeque<String>,
}

impl LogTails {
    pub(super) fn line(&mut self, drv: &str, line: &str) {
        let tail = self.tails.entry(drv.to_owned()).or_default();
        if tail.len() >= TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(line.chars().take(LINE_CHARACTERS).collect());
    }

    pub(super) fn ended(&mut self, drv: String) {
        self.ended.push_back(drv);
        if self.ended.len() > ENDED_MAX
            && let Some(oldest) = self.ended.pop_front()
        {
            self.tails.remove(&oldest);
        }
    }

    /// Keeps the log of a build that failed, however many end after it.
    pub(super) fn pin(&mut self, drv: &str) {
        self.ended.retain(|ended| ended != drv);
    }

    pub(super) fn tail(&self, drv: &str) -> Vec<String> {
        self.tails.get(drv).map(|tail| tail.iter().cloned().collect()).unwrap_or_default()
    }
}
