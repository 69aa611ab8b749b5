//! `[sources]`, `[evaluation]` and `[builder]`: what flakes, their sources and their builds may take.

use blixard_nix::{BuildLimits, EvaluationLimits, SourceLimits};
use serde::Deserialize;

/// Nix needs some to begin with.
const MEMORY_MIN_MIB: u64 = 128;

/// A number of MiB that still is a number of bytes.
const MIB_MAX: u64 = 1 << 40;

/// `[sources]`: what the sources of a flake may take.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Sources {
    /// The size of one that a caller sends.
    pub(crate) upload_max_mib: u64,
    /// Time to fetch the inputs of one flake, in seconds.
    pub(crate) fetch_time_limit_s: u64,
}

/// `[evaluation]`: what one evaluation of a flake may take.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Evaluation {
    /// Time, in seconds.
    pub(crate) time_limit_s: u64,
    /// Memory.
    pub(crate) memory_max_mib: u64,
    /// What it prints: its result, and its messages.
    pub(crate) output_max_mib: u64,
    /// The system user that evaluates and asks for builds; if absent, one for each time.
    pub(crate) user: Option<String>,
}

/// `[builder]`: what builds may take.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Builder {
    /// Time of one derivation, in seconds; 0 for ever.
    pub(crate) timeout_s: u64,
    /// Silence of one derivation, in seconds; 0 for ever.
    pub(crate) max_silent_s: u64,
    /// The logs of one deployment's builds together.
    pub(crate) log_max_mib: u64,
    /// Derivations at once.
    pub(crate) max_jobs: Option<u64>,
    /// Cores that one derivation may use.
    pub(crate) cores: Option<u64>,
}

impl Default for Sources {
    fn default() -> Self {
        Self { upload_max_mib: 4096, fetch_time_limit_s: 900 }
    }
}

impl Default for Evaluation {
    fn default() -> Self {
        Self { time_limit_s: 300, memory_max_mib: 4096, output_max_mib: 16, user: None }
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self { timeout_s: 14_400, max_silent_s: 3_600, log_max_mib: 128, max_jobs: None, cores: None }
    }
}

impl Sources {
    /// As the Nix adapter takes it.
    pub(crate) fn limits(&self) -> SourceLimits {
        SourceLimits { upload_max: self.upload_max_mib << 20, fetch_s: self.fetch_time_limit_s }
    }

    /// What the types do not express.
    pub(super) fn problem(&self) -> Option<(&'static str, String)> {
        let at_least_one = || "must be at least 1".to_owned();
        if self.upload_max_mib == 0 {
            return Some(("sources.upload_max_mib", at_least_one()));
        }
        if self.fetch_time_limit_s == 0 {
            return Some(("sources.fetch_time_limit_s", at_least_one()));
        }
        too_large("sources.upload_max_mib", self.upload_max_mib)
    }
}

impl Evaluation {
    /// As the Nix adapter takes it.
    pub(crate) fn limits(&self) -> EvaluationLimits {
        EvaluationLimits {
            time_s: self.time_limit_s,
            memory_max: self.memory_max_mib << 20,
            output_max: self.output_max_mib << 20,
        }
    }

    /// What the types do not express.
    pub(super) fn problem(&self) -> Option<(&'static str, String)> {
        let at_least = |least: u64| format!("must be at least {least}");
        if self.time_limit_s == 0 {
            return Some(("evaluation.time_limit_s", at_least(1)));
        }
        if self.memory_max_mib < MEMORY_MIN_MIB {
            return Some(("evaluation.memory_max_mib", at_least(MEMORY_MIN_MIB)));
        }
        if self.output_max_mib == 0 {
            return Some(("evaluation.output_max_mib", at_least(1)));
        }
        if self.user.as_deref() == Some("root") {
            let reason = "evaluates what strangers wrote; it must be a user without rights";
            return Some(("evaluation.user", reason.to_owned()));
        }
        let mib = [
            ("evaluation.memory_max_mib", self.memory_max_mib),
            ("evaluation.output_max_mib", self.output_max_mib),
        ];
        mib.into_iter().find_map(|(key, value)| too_large(key, value))
    }
}

impl Builder {
    /// As the Nix adapter takes it.
    pub(crate) fn limits(&self) -> BuildLimits {
        BuildLimits {
            timeout_s: self.timeout_s,
            max_silent_s: self.max_silent_s,
            log_max: self.log_max_mib << 20,
            max_jobs: self.max_jobs,
            cores: self.cores,
        }
    }

    /// What the types do not express.
    pub(super) fn problem(&self) -> Option<(&'static str, String)> {
        if self.log_max_mib == 0 {
            return Some(("builder.log_max_mib", "must be at least 1".to_owned()));
        }
        if self.max_jobs == Some(0) {
            let reason = "with no job nothing is built; leave it out for what nix-daemon is configured to";
            return Some(("builder.max_jobs", reason.to_owned()));
        }
        too_large("builder.log_max_mib", self.log_max_mib)
    }
}

fn too_large(key: &'static str, mib: u64) -> Option<(&'static str, String)> {
    (mib > MIB_MAX).then(|| (key, format!("must be at most {MIB_MAX}")))
}
