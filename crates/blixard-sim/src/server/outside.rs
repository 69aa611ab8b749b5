//! What a simulated server finds outside of itself: time, random numbers, a disk with room, no consoles.

use blixard_core::ports::{BootMillis, Clock, Entropy, RawMillis, UnixMillis};
use blixard_proto::v1::console_service_client::ConsoleServiceClient;
use blixard_server::{ConsoleAccess, Disk};
use blixard_types::NodeId;
use futures_util::future::BoxFuture;
use tonic::Status;
use tonic::transport::Channel;

use crate::dice::Dice;

/// When simulated time begins.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// Clocks are the simulation's, and numbers follow from its seed.
#[derive(Debug)]
pub(super) struct Outside {
    pub(super) dice: Dice,
}

fn elapsed() -> u64 {
    u64::try_from(turmoil::sim_elapsed().unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

impl Clock for Outside {
    fn wall(&self) -> UnixMillis {
        UnixMillis(EPOCH_MS + elapsed())
    }

    fn boot(&self) -> BootMillis {
        BootMillis(elapsed())
    }

    fn raw(&self) -> RawMillis {
        RawMillis(elapsed())
    }
}

impl Entropy for Outside {
    fn id(&self) -> [u8; 16] {
        (u128::from(self.dice.number()) << 64 | u128::from(self.dice.number())).to_be_bytes()
    }
}

impl Disk for Outside {
    fn free_bytes(&self) -> u64 {
        1 << 30
    }
}

/// Nobody has a console.
pub(super) struct NoConsoles;

impl ConsoleAccess for NoConsoles {
    fn of(&self, _: NodeId) -> BoxFuture<'_, Result<ConsoleServiceClient<Channel>, Status>> {
        Box::pin(std::future::ready(Err(Status::unavailable("there are no consoles"))))
    }
}
