//! `blixardd recover`: one server goes on without the others, which are lost for ever.
//!
//! Owns: that the person who decides is told what it means, and that nothing is changed before. For a server whose
//! cluster has no majority any more, and for one whose data directory was put back from a copy. Refuses
//! to run beside the daemon, which has the log open.

use std::io::Write as _;
use std::process::ExitCode;

use blixard_core::command::Envelope;
use blixard_core::ports::{Clock as _, Entropy as _};
use blixard_core::recovery::{self, CannotRecover, Recovery};
use blixard_proto::{ConvertError, encode_envelope};
use blixard_raft::{AloneError, RaftNode, RaftOptions};
use blixard_server::Replica;
use blixard_types::RequestId;
use clap::Args;

use crate::config::Config;
use crate::fail;
use crate::identity::{FIRST_NODE, IdentityError, NodeFile};
use crate::system::{KernelEntropy, SystemClock};

/// The exit code of a question that was not answered with yes, as the command line has it.
const EXIT_UNCONFIRMED: u8 = 2;

/// What is to be done.
#[derive(Debug, Args)]
pub(crate) struct RecoverArguments {
    /// Do it. Without this it is only said what it would mean.
    #[arg(long)]
    confirm: bool,
}

/// Why a server cannot go on alone.
#[derive(Debug, thiserror::Error)]
enum RecoverError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("this server cannot go on alone; stop blixardd first if it runs")]
    Log(#[from] AloneError),
    #[error(transparent)]
    State(#[from] CannotRecover),
    #[error("the command cannot be encoded")]
    Encode(#[from] ConvertError),
}

/// Says what it means, and does it if that was confirmed.
pub(crate) fn main(config: &Config, arguments: &RecoverArguments) -> ExitCode {
    match recover(config, arguments) {
        Ok(told) => {
            let mut out = std::io::stdout().lock();
            let _ = write!(out, "{told}");
            let last = if arguments.confirm {
                "Done: start blixardd."
            } else {
                "Nothing was changed. With --confirm this server goes on alone."
            };
            let _ = writeln!(out, "{last}");
            if arguments.confirm { ExitCode::SUCCESS } else { ExitCode::from(EXIT_UNCONFIRMED) }
        }
        Err(error) => fail(&error, 1),
    }
}

fn recover(config: &Config, arguments: &RecoverArguments) -> Result<Recovery, RecoverError> {
    let data_dir = &config.storage.data_dir;
    let node = NodeFile::read(data_dir)?.map_or(FIRST_NODE, |member| member.node);
    let replica = Replica::default();
    let now = SystemClock.wall();
    let mut planned = None;
    RaftNode::stand_alone(&RaftOptions::new(node, data_dir), &replica, || {
        let decided = replica.read(|state| recovery::plan(state, node, now)).map_err(RecoverError::from);
        let decided = decided.and_then(|recovery| {
            let (request, command) = (RequestId(KernelEntropy.id()), recovery.command());
            let entry = encode_envelope(&Envelope { request, at: now, by: None, command })?;
            Ok((recovery, entry))
        });
        let (recovery, entry) = match decided {
            Ok((recovery, entry)) => (Ok(recovery), arguments.confirm.then_some(entry)),
            Err(error) => (Err(error), None),
        };
        planned = Some(recovery);
        entry
    })?;
    planned.unwrap_or_else(|| Err(CannotRecover::NoMember(node).into()))
}
