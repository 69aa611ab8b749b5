//! The holder of a host's lease: a process of its own, which keeps its word whatever becomes of the daemon.

use blixard_types::holder::{LeaseName, Until};

use super::BoxFuture;

/// Why no lease is held, as far as is known.
#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    /// This machine has no holder.
    #[error("{unit} is not installed on this host")]
    NotInstalled {
        /// Its unit.
        unit: &'static str,
    },
    /// It could not be started.
    #[error("cannot start {unit}: {reason}")]
    Start {
        /// Its unit.
        unit: &'static str,
        /// Why not.
        reason: String,
    },
    /// It could not be told.
    #[error("cannot tell the holder of the lease")]
    Tell {
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
    /// It was told, and has not said that it has heard.
    #[error("the holder of the lease does not say that it holds until {until}")]
    Unheard {
        /// What it was told.
        until: Until,
    },
}

/// The holder, as the host agent speaks to it.
pub trait LeaseHolder: Send + Sync + 'static {
    /// Tells the holder until when what may stop may run, and starts one if there is none. Gives the
    /// lease that it then holds: another one if it has lapsed since.
    fn hold(&self, until: Until) -> BoxFuture<'_, Result<LeaseName, HolderError>>;
}
