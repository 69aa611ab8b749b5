//! Commands into the log: encoded, stamped with the time, and their outcome decoded.

use std::sync::Arc;
use std::time::Duration;

use blixard_core::apply::Rejection;
use blixard_core::command::{COMMAND_MAX_BYTES, Command, Envelope, Outcome};
use blixard_core::ports::consensus::{ProposeError, SharedConsensus};
use blixard_core::ports::{Clock, Entropy};
use blixard_core::principal::Principal;
use blixard_proto::{ConvertError, OutcomeError, decode_outcome, encode_envelope};
use blixard_types::RequestId;

/// Proposes commands.
#[derive(Clone)]
pub struct Proposer {
    consensus: SharedConsensus,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    by: Option<Principal>,
}

/// Why a command has not changed the state, as far as is known.
#[derive(Debug, thiserror::Error)]
pub enum ProposeFailure {
    /// An invariant forbids it.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// It did not get through the log.
    #[error(transparent)]
    Log(#[from] ProposeError),
    /// It cannot be encoded.
    #[error(transparent)]
    Encode(#[from] ConvertError),
    /// Its outcome cannot be decoded.
    #[error(transparent)]
    Decode(#[from] OutcomeError),
}

/// What the log is given, unless it is too large for that.
pub(crate) fn encode(envelope: &Envelope) -> Result<Vec<u8>, ProposeFailure> {
    let bytes = encode_envelope(envelope)?;
    if bytes.len() > COMMAND_MAX_BYTES {
        return Err(ProposeError::TooLarge { size: bytes.len(), limit: COMMAND_MAX_BYTES }.into());
    }
    Ok(bytes)
}

impl ProposeFailure {
    /// Whether it may be in the log all the same, or come there.
    pub(crate) fn may_be_applied(&self) -> bool {
        match self {
            Self::Rejected(_) | Self::Encode(_) => false,
            Self::Decode(_) => true,
            Self::Log(error) => {
                !matches!(error, ProposeError::TooLarge { .. } | ProposeError::Refused { .. })
            }
        }
    }
}

/// Pause before what there was no room for is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(200);

impl Proposer {
    pub(crate) fn new(consensus: SharedConsensus, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { consensus, clock, entropy, by: None }
    }

    /// The same in the name of who asks.
    #[must_use]
    pub(crate) fn by(self, by: Option<Principal>) -> Self {
        Self { by, ..self }
    }

    /// A request id for a command that no client asked for.
    #[must_use]
    pub fn fresh_request(&self) -> RequestId {
        RequestId(self.entropy.id())
    }

    /// Proposes a command and waits until it is applied here.
    ///
    /// # Errors
    /// When it is rejected, or when the log does not take it.
    pub async fn propose(&self, request: RequestId, command: Command) -> Result<Outcome, ProposeFailure> {
        let envelope = Envelope { request, at: self.clock.wall(), by: self.by, command };
        let applied = self.consensus.propose(encode(&envelope)?).await?;
        Ok(decode_outcome(&applied.outcome)??)
    }

    /// The same, again and again while there is no room for another call.
    ///
    /// # Errors
    /// As above, except that there is no room.
    pub(crate) async fn propose_when_there_is_room(
        &self,
        request: RequestId,
        command: Command,
    ) -> Result<Outcome, ProposeFailure> {
        loop {
            match self.propose(request, command.clone()).await {
                Err(ProposeFailure::Rejected(Rejection::TooManyCalls)) => {
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                done => return done,
            }
        }
    }
}
