//! The port [`LeaseHolder`] by datagrams to the holder, and by systemd for starting one.
//!
//! Owns: that an order counts only once the holder has said, in its file, that it has heard it. Refuses to
//! know: why a lease is renewed, and what lapses with it.
//!
//! ```text
//! order ─▶ socket there? ─ yes ─▶ its file says so? ─ yes ─▶ held
//!                │ no                    └ not in time ─▶ unheard
//!                └─▶ start the unit, give the order until it is heard
//! ```
//! Orders are absolute instants: one that is given twice, or late, is no longer lease.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use blixard_core::ports::BoxFuture;
use blixard_core::ports::holder::{HolderError, LeaseHolder};
use blixard_types::holder::{HOLDER_SOCKET, HOLDER_STATUS, HolderStatus, LeaseName, Until};
use blixard_types::unit::LEASE_UNIT;

use crate::bus::Bus;
use crate::error::CallError;
use crate::manager::Systemd;

/// How long a holder that runs may take to hear; it runs at a real-time priority.
const HEARS_WITHIN: Duration = Duration::from_millis(500);

/// How long a new one may take; its unit gives up after 3 s.
const BEGINS_WITHIN: Duration = Duration::from_millis(2500);

const LOOK_FIRST: Duration = Duration::from_millis(1);
const LOOK_LONGEST: Duration = Duration::from_millis(20);

/// The holder of this host's lease.
#[derive(Debug, Clone)]
pub struct SystemdHolder {
    bus: Arc<Bus>,
}

impl SystemdHolder {
    /// The holder that this systemd starts.
    #[must_use]
    pub fn new(systemd: &Systemd) -> Self {
        Self { bus: systemd.bus() }
    }

    async fn begin(&self, until: Until) -> Result<LeaseName, HolderError> {
        let failed = |reason: String| HolderError::Start { unit: LEASE_UNIT, reason };
        let link = self.bus.link().map_err(|error| failed(error.to_string()))?;
        // Its job is done only once it has heard an order.
        match link.start(LEASE_UNIT).await {
            Ok(_) => {}
            Err(CallError::NoSuchUnit) => return Err(HolderError::NotInstalled { unit: LEASE_UNIT }),
            Err(error) => return Err(failed(error.words())),
        }
        let heard = async {
            loop {
                if let Told::Sent = tell(Path::new(HOLDER_SOCKET), until)?
                    && let Ok(lease) = heard(Path::new(HOLDER_STATUS), until, LOOK_LONGEST).await
                {
                    return Ok(lease);
                }
                tokio::time::sleep(LOOK_FIRST).await;
            }
        };
        tokio::time::timeout(BEGINS_WITHIN, heard).await.unwrap_or(Err(HolderError::Unheard { until }))
    }
}

impl LeaseHolder for SystemdHolder {
    fn hold(&self, until: Until) -> BoxFuture<'_, Result<LeaseName, HolderError>> {
        Box::pin(async move {
            match tell(Path::new(HOLDER_SOCKET), until)? {
                Told::Sent => heard(Path::new(HOLDER_STATUS), until, HEARS_WITHIN).await,
                Told::Nobody => self.begin(until).await,
            }
        })
    }
}

enum Told {
    Sent,
    /// There is no holder.
    Nobody,
}

/// Never waits: a holder that is stopped does not empty its queue.
fn tell(socket: &Path, until: Until) -> Result<Told, HolderError> {
    let sent = UnixDatagram::unbound().and_then(|from| {
        from.set_nonblocking(true)?;
        from.send_to(until.to_string().as_bytes(), socket)
    });
    match sent {
        Ok(_) => Ok(Told::Sent),
        Err(cause) if matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            Ok(Told::Nobody)
        }
        Err(cause) => Err(HolderError::Tell { cause }),
    }
}

/// Waits until the holder's file says that it holds at least until then.
async fn heard(status: &Path, until: Until, limit: Duration) -> Result<LeaseName, HolderError> {
    let look = async {
        let mut pause = LOOK_FIRST;
        loop {
            let text = tokio::fs::read_to_string(status).await.unwrap_or_default();
            // What is no status is that of no holder.
            if let Ok(HolderStatus { lease, until: held }) = text.parse()
                && covers(held, until)
            {
                return LeaseName(lease);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK_LONGEST);
        }
    };
    tokio::time::timeout(limit, look).await.map_err(|_| HolderError::Unheard { until })
}

/// Whether a holder that holds until then has taken this order.
fn covers(held: Until, order: Until) -> bool {
    match (held, order) {
        (Until::Endless, Until::Endless) => true,
        (Until::At(held), Until::At(order)) => held >= order,
        (Until::At(_), Until::Endless) | (Until::Endless, Until::At(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_counts_once_what_is_held_is_no_other_kind_and_no_shorter() {
        assert!(covers(Until::At(9), Until::At(9)) && covers(Until::At(10), Until::At(9)));
        assert!(!covers(Until::At(8), Until::At(9)));
        assert!(covers(Until::Endless, Until::Endless));
        // A lease that has no end yet is none that has this one.
        assert!(!covers(Until::Endless, Until::At(9)) && !covers(Until::At(9), Until::Endless));
    }

    #[tokio::test]
    async fn an_order_that_no_holder_confirms_is_unheard() {
        let folder = tempfile::tempdir().unwrap();
        let status = folder.path().join("status");
        std::fs::write(&status, "7-1 until 8").unwrap();
        let unheard = heard(&status, Until::At(9), LOOK_LONGEST).await.unwrap_err();
        assert!(matches!(unheard, HolderError::Unheard { until: Until::At(9) }), "{unheard}");
        std::fs::write(&status, "7-1 until 9").unwrap();
        assert_eq!(heard(&status, Until::At(9), HEARS_WITHIN).await.unwrap(), LeaseName("7-1".into()));
    }

    #[test]
    fn a_socket_that_nobody_listens_on_is_told_from_one_whose_holder_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        assert!(matches!(tell(&socket, Until::Endless), Ok(Told::Nobody)));
        let holder = UnixDatagram::bind(&socket).unwrap();
        assert!(matches!(tell(&socket, Until::Endless), Ok(Told::Sent)));
        let full = (0..10_000).find_map(|_| tell(&socket, Until::At(1)).err()).unwrap();
        assert!(matches!(full, HolderError::Tell { .. }), "{full}");
        drop(holder);
        assert!(matches!(tell(&socket, Until::Endless), Ok(Told::Nobody)));
    }
}
