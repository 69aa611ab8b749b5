//! The holder of a machine's lease, as its agent speaks to it.

use std::time::Duration;

use blixard_core::ports::BoxFuture;
use blixard_core::ports::holder::{HolderError, LeaseHolder};
use blixard_types::holder::{LeaseName, Until};

use super::Ground;

/// Pause before a holder whose predecessor still kills is looked for again.
const AGAIN: Duration = Duration::from_millis(5);

/// Whichever holder this machine has: the next one begins once the one before has killed what it was to.
pub(crate) struct Holder(pub(crate) Ground);

impl LeaseHolder for Holder {
    fn hold(&self, until: Until) -> BoxFuture<'_, Result<LeaseName, HolderError>> {
        Box::pin(async move {
            tokio::time::sleep(self.0.0.dice.millis(0, 5)).await;
            while self.0.state().is_killing() {
                tokio::time::sleep(AGAIN).await;
            }
            let holder = self.0.state().holder.clone();
            holder.hold(until).await
        })
    }
}
