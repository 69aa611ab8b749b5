//! Nix programs that answer from a script.

use std::fs::{Permissions, write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::flake::Nix;

/// `nix flake metadata --json` of Nix 2.26.3 for a clean git tree.
pub(crate) const METADATA: &str = r#"{"fingerprint":"2cd39c78c8977224538581501253e6bff8cf7fc11697cbc7c49df59e56d3d82d","lastModified":1795466744,"locked":{"__final":true,"dir":"sub/vm","lastModified":1795466744,"narHash":"sha256-yLT71u/TtULkqW31/gaIhBtcZFqG7hfk5pd2eUAjiqg=","ref":"refs/heads/main","rev":"bd2177b39202014038211550309ff8ca4c103437","revCount":1,"type":"git","url":"file:///home/me/infra"},"locks":{"nodes":{"root":{}},"root":"root","version":7},"original":{"dir":"sub/vm","type":"git","url":"file:///home/me/infra"},"originalUrl":"git+file:///home/me/infra?dir=sub/vm","path":"/nix/store/f6jk96ama4nm1qmqckjx98kq8k38j8ag-source","resolved":{"dir":"sub/vm","type":"git","url":"file:///home/me/infra"},"resolvedUrl":"git+file:///home/me/infra?dir=sub/vm","revCount":1,"revision":"bd2177b39202014038211550309ff8ca4c103437","url":"git+file:///home/me/infra?dir=sub/vm&ref=refs/heads/main&rev=bd2177b39202014038211550309ff8ca4c103437"}"#;

/// A text in place of a NAR.
pub(super) const NAR: &str = "nix-archive-1";

/// `nix-store --query --hash` of the same.
const HASH: &str = "sha256-yLT71u/TtULkqW31/gaIhBtcZFqG7hfk5pd2eUAjiqg=";

/// A folder with the programs.
pub(super) struct FakeNix {
    folder: TempDir,
}

impl FakeNix {
    /// Programs that lock a flake.
    pub(super) fn new() -> Self {
        let nix = Self { folder: tempfile::tempdir().unwrap() };
        nix.says("metadata", METADATA);
        nix.says("hash", HASH);
        nix.says("dump-path", NAR);
        nix.program("nix", r#"echo "nix $*" >> "$here/asked"; cat "$here/$4.err" >&2; cat "$here/$4"; exec test ! -e "$here/$4.breaks""#);
        nix.program("nix-store", r#"echo "nix-store $*" >> "$here/asked"; cat "$here/hash""#);
        nix
    }

    /// No program at all.
    pub(super) fn missing() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// What `metadata`, `dump-path`, `--json` (of `nix eval`) or `hash` prints.
    pub(super) fn says(&self, what: &str, text: &str) {
        write(self.path(what), text).unwrap();
        self.complains(what, "");
    }

    /// What one of them prints on standard error.
    pub(super) fn complains(&self, what: &str, text: &str) {
        write(self.path(&format!("{what}.err")), text).unwrap();
    }

    /// One of them prints this error and fails.
    pub(super) fn breaks(&self, what: &str, text: &str) {
        self.says(what, "");
        self.complains(what, text);
        write(self.path(&format!("{what}.breaks")), "").unwrap();
    }

    /// `nix` fails with these words.
    pub(super) fn fails(&self, text: &str) {
        self.complains("metadata", text);
        self.program("nix", r#"cat "$here/metadata.err" >&2; exit 1"#);
    }

    fn program(&self, name: &str, script: &str) {
        let here = self.folder.path().display();
        write(self.path(name), format!("#!/bin/sh\nhere={here}\n{script}\n")).unwrap();
        std::fs::set_permissions(self.path(name), Permissions::from_mode(0o755)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        let folder: &Path = self.folder.path();
        folder.join(name)
    }

    pub(super) fn nix(&self) -> Nix {
        Nix::in_folder(self.folder.path().to_owned())
    }

    /// Every call so far, a line each.
    pub(super) fn asked(&self) -> String {
        std::fs::read_to_string(self.path("asked")).unwrap_or_default()
    }
}
