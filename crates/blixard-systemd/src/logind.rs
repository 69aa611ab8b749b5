//! The port [`Wakefulness`] by a lock of logind, which lasts as long as its file is open. See
//! `org.freedesktop.login1(5)`.

use std::sync::Arc;

use blixard_core::ports::BoxFuture;
use blixard_core::ports::wakefulness::{Awake, NotKeptAwake, Wakefulness};

use crate::Systemd;
use crate::bus::Bus;

const WHO: &str = "Blixard";
const WHY: &str = "microVMs run here under a lease, and would run on for a moment after the sleep";

/// logind, over the connection to systemd.
#[derive(Debug)]
pub struct Logind {
    bus: Arc<Bus>,
}

impl Logind {
    /// Shares the connection.
    #[must_use]
    pub fn new(systemd: &Systemd) -> Self {
        Self { bus: systemd.bus() }
    }
}

impl Wakefulness for Logind {
    fn keep(&self) -> BoxFuture<'_, Result<Awake, NotKeptAwake>> {
        Box::pin(async move {
            let refused = |reason: String| NotKeptAwake { reason };
            let link = self.bus.link().map_err(|error| refused(error.to_string()))?;
            let lock = link.inhibit_sleep(WHO, WHY).await.map_err(|error| refused(error.words()))?;
            Ok(Awake::holding(lock))
        })
    }
}
