//! The adapter against a real systemd: the contract of the ports, and what a contract cannot ask for.
//!
//! Runs as root on a machine that may be thrown away, with systemd as process 1 and a system bus,
//! when `BLIXARD_REAL_SYSTEMD=1` says so: it starts units, reloads and re-executes systemd and kills
//! the bus. Everywhere else each test says that it was skipped.

mod confined;
mod holder;
mod journal;
mod machine;
mod trouble;
mod units;
mod wake;
