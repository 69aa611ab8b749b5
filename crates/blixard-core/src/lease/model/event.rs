//! What happens, and what is sent.

use std::rc::Rc;

use blixard_types::{DaemonId, Epoch, NodeId, VmId};

use super::raft::RaftMessage;
use crate::assignment::AssignmentSet;
use crate::command::Envelope;
use crate::grant::{Grant, Heartbeat, Term};
use crate::ports::BootMillis;
use crate::state::Authority;

#[derive(Debug, Clone)]
pub(super) enum Event {
    /// A message arrives at a machine.
    Deliver { to: usize, message: Message },
    /// Something the daemon with this serial does next.
    Daemon { node: usize, daemon: u64, step: Step },
    /// Something the service manager does.
    Systemd { node: usize, boot: u64, order: Order },
    /// The holder's deadline may have come.
    Lapse { node: usize, boot: u64, era: u64 },
    /// A process is gone.
    Death { node: usize, boot: u64, vm: VmId, serial: u64 },
    /// A machine executes again after a suspend.
    Resume,
    /// A machine stands still for a moment.
    Suspend { node: usize },
    /// A machine boots.
    Boot { node: usize },
    /// A daemon is started.
    StartDaemon { node: usize, boot: u64 },
    /// A partition ends.
    Reconnect { from: usize, to: usize },
    /// Something goes wrong, or somebody wants something.
    Fault,
}

#[derive(Debug, Clone)]
pub(super) enum Message {
    Raft {
        lineage: u64,
        from: usize,
        message: RaftMessage,
    },
    Heartbeat(Rc<Heartbeat>),
    Grant {
        from: usize,
        daemon: DaemonId,
        grant: Rc<Grant>,
    },
    Propose(Rc<Envelope>),
    Pushed(Rc<AssignmentSet>),
    /// A daemon's session belongs to another one for good: it has to end.
    Replaced {
        daemon: DaemonId,
    },
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    RaftTick,
    ElectionTimeout {
        armed: u64,
    },
    LeaderTick,
    HeartbeatTimer,
    AgentTimer,
    /// The heartbeat is written, and goes out now.
    SendHeartbeat(Rc<Heartbeat>),
    /// A quorum round for a heartbeat is over; this is under whose leadership it was received.
    Assemble {
        heartbeat: Rc<Heartbeat>,
        received: BootMillis,
        authority: Authority,
    },
    SendGrant {
        node: NodeId,
        daemon: DaemonId,
        grant: Rc<Grant>,
    },
    Propose(Rc<Envelope>),
    /// The holder is told its deadline.
    Feed {
        term: Term,
        lease_ms: u64,
    },
    /// An order to the service manager goes out.
    Order(Order),
    /// An order is known to be carried out.
    Done {
        vm: VmId,
        order: Outcome,
    },
}

#[derive(Debug, Clone)]
pub(super) enum Outcome {
    Started(Epoch),
    NotStarted,
    Gone(Epoch),
}

#[derive(Debug, Clone)]
pub(super) enum Order {
    Start { vm: VmId, epoch: Epoch, era: Option<u64>, daemon: u64 },
    Stop { vm: VmId, epoch: Epoch, daemon: u64 },
}
