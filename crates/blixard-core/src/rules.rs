//! By which rules `apply` makes a state of a log, and which of them this program knows.
//!
//! Rules are numbered. Those that hold stand in the state, and every entry is applied by them, whichever program reads
//! it: so all servers have the same state, also while they are upgraded one by one, and a log that is read again
//! gives what it gave. The next ones hold from the entry on by which the last server says that it knows them.
//!
//! ```text
//! InitCluster ──▶ rules of the founder ── every server knows newer ones (KnowRules) ──▶ the oldest of what they know
//! ```

use blixard_types::NodeId;
use serde::{Deserialize, Serialize};

use crate::state::ClusterState;

/// Rules, by their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Rules(pub u32);

/// What this program applies entries by.
///
/// `newest` grows by one with every change of what `apply` makes of an entry that could be in a log already; the change
/// asks [`ClusterState::rules`] whether it holds. `oldest` grows when branches of old rules are removed.
pub const RULES: KnownRules = KnownRules { oldest: Rules(1), newest: Rules(1) };

/// The rules that a program knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownRules {
    /// The oldest.
    pub oldest: Rules,
    /// The newest.
    pub newest: Rules,
}

/// Why a program cannot go on with a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnknownRules {
    /// Newer programs have moved on.
    #[error(
        "the cluster goes by rules {active}, which are newer than what this program knows ({newest}): upgrade \
         this server to what the others run"
    )]
    Newer {
        /// What holds.
        active: Rules,
        /// What is known.
        newest: Rules,
    },
    /// The cluster has missed a version.
    #[error(
        "the cluster goes by rules {active}, which this program has forgotten (it knows {oldest} and later): run \
         a version between the two on every server first"
    )]
    Forgotten {
        /// What holds.
        active: Rules,
        /// What is known.
        oldest: Rules,
    },
}

impl Rules {
    /// Those of logs of before rules had numbers. No program promises to make of such a log what another one did.
    pub const UNNUMBERED: Self = Self(0);

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    pub(crate) fn are_unnumbered(&self) -> bool {
        *self == Self::UNNUMBERED
    }
}

impl std::fmt::Display for Rules {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(out)
    }
}

impl KnownRules {
    /// Whether a program with these makes of an entry what every other one makes of it by those rules.
    #[must_use]
    pub fn contain(self, rules: Rules) -> bool {
        (self.oldest..=self.newest).contains(&rules)
    }

    /// Whether a program with these can go on where those hold.
    ///
    /// # Errors
    /// When it would make something else of the next entry than the other servers do.
    pub fn check(self, active: Rules) -> Result<(), UnknownRules> {
        let Self { oldest, newest } = self;
        match active {
            _ if active > newest => Err(UnknownRules::Newer { active, newest }),
            _ if active < oldest && active != Rules::UNNUMBERED => {
                Err(UnknownRules::Forgotten { active, oldest })
            }
            _ => Ok(()),
        }
    }
}

impl ClusterState {
    /// Whether a server has said that these are the newest rules it knows.
    #[must_use]
    pub fn knows_rules(&self, server: NodeId, rules: Rules) -> bool {
        self.nodes.get(&server).is_some_and(|node| node.rules == rules)
    }
}
