//! `blixard cluster …`, `blixard node remove`, `blixard events`, `blixard watch`, as people type them.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Let other machines join this one: make the cluster's certificate authority, and listen for them.
    ///
    /// Needs `cluster.listen` in the daemon's configuration. MicroVMs that run here are not touched. Run again,
    /// it changes nothing.
    #[command(after_help = "Example:\n  blixard cluster init")]
    Init,
    /// Make the tokens with which machines join.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Whether microVMs are stopped for others of higher priority that find no host.
    ///
    /// Off unless somebody turns it on. Then a microVM whose spec says `placement.preempts` has those of lower
    /// priority stopped that are in its way; they run elsewhere, or wait for room.
    #[command(after_help = "Example:\n  blixard cluster preemption on")]
    Preemption {
        /// What holds from now on.
        #[arg(value_enum, value_name = "on|off")]
        to: Switch,
    },
    /// Show every server: who leads, who votes, how far each is, what it keeps on its disk.
    #[command(after_help = "Example:\n  blixard cluster status -o json")]
    Status {
        /// Compare the servers' states by their digests, too.
        #[arg(long)]
        digest: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token with which one machine can join, once, and print it.
    ///
    /// The token carries the addresses of the servers and the fingerprint of the cluster's authority. On the
    /// machine that is to join: `blixardd --join TOKEN`, or a file named by `cluster.join_file`.
    #[command(after_help = "Example:\n  blixard cluster token create --ttl 10m --role server")]
    Create {
        /// How long it can be used: 90s, 10m, 2h, 1d.
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
        ttl: Duration,
        /// What the machine may be, at most; everything if absent. May be given several times.
        #[arg(long = "role", value_name = "ROLE", value_enum)]
        roles: Vec<RoleArg>,
    },
}

/// Whether something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Switch {
    On,
    Off,
}

/// A role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RoleArg {
    Server,
    Host,
    Builder,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The node, by name or number.
    #[arg(value_name = "NODE")]
    pub(crate) node: String,
    /// Only order it; do not wait until it is gone.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NodeArg {
    /// The node, by name or number.
    #[arg(value_name = "NODE")]
    pub(crate) node: String,
}

#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    pub(crate) node: NodeArg,
    /// After this time all that are left are stopped, whether they have a place elsewhere or not: 90s, 10m, 2h, 1d.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) deadline: Option<Duration>,
    /// How many may be on their way at a time.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_parallel: u32,
    /// Only order it; do not wait until the machine is empty.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LostArgs {
    #[command(flatten)]
    pub(crate) node: NodeArg,
    /// The machine is off, and stays off until its microVMs have been placed elsewhere.
    #[arg(long, required = true)]
    pub(crate) confirm: bool,
    /// Also if it answers, so that its microVMs are killed, or if no other machine takes them.
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RebalanceArgs {
    /// Only say what would move, and why.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How many may be on their way at a time.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_parallel: u32,
    /// Only order it; do not wait until all are healthy where they go.
    #[arg(long)]
    pub(crate) no_wait: bool,
    /// End the one that is under way instead; what is on its way goes on.
    #[arg(long, conflicts_with_all = ["dry_run", "max_parallel", "no_wait"])]
    pub(crate) stop: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Only what came after this revision. Without it, everything that is still known.
    #[arg(long, value_name = "REVISION")]
    pub(crate) since: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Begin after this revision instead of now.
    #[arg(long, value_name = "REVISION")]
    pub(crate) since: Option<u64>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a number with s, m, h or d, as in 10m".to_owned();
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let number: u64 = text.strip_suffix(unit).and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
    let seconds = match unit {
        's' => Some(number),
        'm' => number.checked_mul(60),
        'h' => number.checked_mul(3600),
        'd' => number.checked_mul(86_400),
        _ => None,
    };
    seconds.filter(|&seconds| seconds > 0).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_with_a_unit() {
        for (text, seconds) in [("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86_400)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "10", "m", "-1m", "1.5h", "0s", "1w", "99999999999999999d", "1 m"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
