//! systemd behind the ports of core: run units, confined programs and the holder of the lease over D-Bus,
//! consoles from the journal.
//!
//! Owns: the connection to the system bus, the settings of a transient unit, the meaning of a
//! unit's properties, one `journalctl` child per open log. Refuses to know: which vm should run,
//! leases, generations beyond the number in a unit's environment. No type of D-Bus leaves it.

mod asked;
mod bus;
mod cgroup;
mod confined;
mod credentials;
mod directory;
mod error;
mod holder;
mod journal;
mod logind;
mod manager;
mod observed;
mod settings;
mod shutdown;
mod start;
mod stop;
mod unit_path;

pub use confined::{ConfinementOptions, SystemdConfinement};
pub use holder::SystemdHolder;
pub use journal::Journalctl;
pub use logind::Logind;
pub use manager::Systemd;
