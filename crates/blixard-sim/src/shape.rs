//! What goes wrong in a run, how often, and for how long.
//!
//! A shape is plain data; with a seed it is a run.

use std::time::Duration;

/// A kind of run.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Its name, as `cargo xtask sim --shape` takes it.
    pub name: &'static str,
    /// Nodes, numbered from 1.
    pub nodes: u64,
    /// How many of them, the first, vote at the beginning.
    pub voters: u64,
    /// How many of them, the last, join while things go wrong; as many others are then removed.
    pub spare: u64,
    /// Entries between checkpoints.
    pub checkpoint_every: u64,
    /// For how long things go wrong.
    pub chaos: Duration,
    /// The time between two of them, in milliseconds.
    pub pause: (u64, u64),
    /// What goes wrong, and how often beside the others.
    pub faults: &'static [(Fault, u64)],
    /// What runs on the nodes.
    pub program: Program,
    /// A rule that is broken on purpose.
    pub broken: Option<BrokenRule>,
}

/// What runs on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Consensus of registers.
    Registers,
    /// The code of a server, and machines that watch what happens.
    Servers,
    /// The same with the leader's duties, host agents, and people who deploy.
    Cluster,
}

impl Program {
    /// Whether nodes run the code of a server.
    pub(crate) fn serves(self) -> bool {
        self != Self::Registers
    }

    /// Whether nodes run vms.
    pub(crate) fn hosts(self) -> bool {
        self == Self::Cluster
    }
}

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// One node is cut off from all others.
    CutOff,
    /// The nodes fall into two groups.
    Split,
    /// What one says does not reach another.
    OneWay,
    /// Messages from one to another take long.
    Slow,
    /// Messages from one to another get lost.
    Lossy,
    /// All links are whole again.
    Heal,
    /// A node crashes; its disk forgets what was not synced, or part of it.
    Crash,
    /// All nodes crash at one moment.
    CrashAll,
    /// The power of a node goes in the midst of writing.
    PowerCut,
    /// Syncs of a node's disk fail.
    SyncsFail,
    /// A node's disk is full.
    Full,
    /// The leadership is handed over.
    HandOver,
    /// Other members are wanted.
    Members,
    /// The daemon of a node is killed; the machine goes on.
    Daemon,
    /// The hypervisor of a vm exits.
    Exit,
    /// So much is written that servers forget what happened before.
    Storm,
}

/// A rule that is broken on purpose, to see that it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokenRule {
    /// The last batch of writes is acknowledged before it is synced.
    AcknowledgesBeforeSync,
    /// A restarted node does not know whom it voted for.
    ForgetsItsVote,
    /// A restarted leader goes on in its old term.
    RestoresLeadership,
    /// A call that is proposed again is taken for another one.
    ForwardsAsNewCalls,
    /// A watcher goes on one revision too late.
    ResumesTooLate,
    /// A leader grants leases without asking the others whether it still leads.
    GrantsUnasked,
    /// A host is told that a vm is gone before it is.
    StopsTooEarly,
    /// What runs under a lease goes on when that is over.
    OutlivesItsLease,
    /// A start does not look whether its epoch is over.
    StartsWhatIsOver,
}

impl Shape {
    /// Whether openraft's own default is kept, which this program does not.
    pub(crate) fn restores_leadership(&self) -> bool {
        self.broken == Some(BrokenRule::RestoresLeadership)
    }

    /// The same with a rule broken.
    #[must_use]
    pub fn breaking(self, rule: BrokenRule) -> Self {
        Self { broken: Some(rule), ..self }
    }

    /// The shape of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|shape| shape.name == name)
    }

    /// Every one.
    pub fn all() -> Vec<Self> {
        vec![
            Self::partitions(),
            Self::crashes(),
            Self::all_killed(),
            Self::disks(),
            Self::members(),
            Self::servers(),
            Self::cluster(),
            Self::renewal(),
            Self::fencing(),
        ]
    }

    fn of_three(name: &'static str, faults: &'static [(Fault, u64)]) -> Self {
        Self {
            name,
            nodes: 3,
            voters: 3,
            spare: 0,
            checkpoint_every: 60,
            chaos: Duration::from_secs(6),
            pause: (80, 600),
            faults,
            program: Program::Registers,
            broken: None,
        }
    }

    /// The network is bad; nodes stay up.
    pub fn partitions() -> Self {
        let faults = &[
            (Fault::CutOff, 3),
            (Fault::Split, 2),
            (Fault::OneWay, 4),
            (Fault::Slow, 3),
            (Fault::Lossy, 3),
            (Fault::Heal, 5),
            (Fault::HandOver, 2),
        ];
        Self { nodes: 5, voters: 5, ..Self::of_three("partitions", faults) }
    }

    /// Nodes crash one by one, and the network is bad.
    pub fn crashes() -> Self {
        let faults = &[
            (Fault::Crash, 6),
            (Fault::PowerCut, 4),
            (Fault::CutOff, 2),
            (Fault::OneWay, 2),
            (Fault::Slow, 1),
            (Fault::Lossy, 1),
            (Fault::Heal, 4),
            (Fault::HandOver, 1),
        ];
        Self::of_three("crashes", faults)
    }

    /// All nodes crash at once, again and again.
    pub fn all_killed() -> Self {
        let faults = &[(Fault::CrashAll, 5), (Fault::Crash, 1), (Fault::Slow, 2), (Fault::Heal, 2)];
        Self { pause: (200, 900), ..Self::of_three("all-killed", faults) }
    }

    /// Disks fail, fill up and lose power.
    pub fn disks() -> Self {
        let faults = &[
            (Fault::SyncsFail, 3),
            (Fault::Full, 3),
            (Fault::PowerCut, 5),
            (Fault::Crash, 2),
            (Fault::CutOff, 1),
            (Fault::Heal, 2),
        ];
        Self { checkpoint_every: 25, ..Self::of_three("disks", faults) }
    }

    /// Servers crash, are cut off and lose their disks' last writes, under clients of each and watchers.
    pub fn servers() -> Self {
        let faults = &[
            (Fault::Crash, 4),
            (Fault::PowerCut, 2),
            (Fault::SyncsFail, 1),
            (Fault::Full, 1),
            (Fault::CutOff, 3),
            (Fault::OneWay, 3),
            (Fault::Slow, 2),
            (Fault::Lossy, 2),
            (Fault::Heal, 6),
            (Fault::HandOver, 2),
            (Fault::Storm, 1),
        ];
        Self { program: Program::Servers, ..Self::of_three("servers", faults) }
    }

    /// Machines, daemons and hypervisors die, and the network is bad, while people deploy, move and stop vms.
    pub fn cluster() -> Self {
        let faults = &[
            (Fault::Crash, 4),
            (Fault::Daemon, 4),
            (Fault::Exit, 2),
            (Fault::PowerCut, 1),
            (Fault::SyncsFail, 1),
            (Fault::Full, 1),
            (Fault::CutOff, 3),
            (Fault::OneWay, 3),
            (Fault::Slow, 2),
            (Fault::Lossy, 2),
            (Fault::Heal, 7),
            (Fault::HandOver, 2),
        ];
        let (chaos, pause) = (Duration::from_secs(18), (100, 1800));
        Self { program: Program::Cluster, chaos, pause, ..Self::of_three("cluster", faults) }
    }

    /// The same while one server joins, and another one is removed.
    pub fn renewal() -> Self {
        Self { name: "renewal", nodes: 4, spare: 1, ..Self::cluster() }
    }

    /// Hosts, and the leader among them, are cut off for longer than they are waited for.
    pub fn fencing() -> Self {
        let faults = &[
            (Fault::CutOff, 6),
            (Fault::OneWay, 2),
            (Fault::Daemon, 2),
            (Fault::Crash, 1),
            (Fault::HandOver, 1),
            (Fault::Heal, 3),
        ];
        let (chaos, pause) = (Duration::from_secs(20), (500, 5000));
        Self { name: "fencing", chaos, pause, faults, ..Self::cluster() }
    }

    /// Members come and go, in a bad network and with crashes.
    pub fn members() -> Self {
        let faults = &[
            (Fault::Members, 6),
            (Fault::HandOver, 2),
            (Fault::Crash, 2),
            (Fault::CutOff, 2),
            (Fault::OneWay, 1),
            (Fault::Heal, 5),
        ];
        Self { nodes: 5, checkpoint_every: 30, ..Self::of_three("members", faults) }
    }
}
