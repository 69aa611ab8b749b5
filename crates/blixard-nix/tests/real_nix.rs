//! The adapter against a real Nix: the contract that the fake passes too, and what only Nix can show.
//!
//! Needs `nix` and `nix-store`, a store that may be written, and builders that find `/bin/sh` and
//! `mkdir` (no sandbox, or one with them). Where there is no Nix, each test says that it was skipped.

#[cfg(test)]
mod real_nix {
    pub(crate) mod fixture;

    mod contract;
    mod failures;
    mod hostile;
    mod roots;
    mod uploads;
}
