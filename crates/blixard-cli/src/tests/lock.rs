//! `blixard deploy`: how the flake is locked.

use super::blixard;
use super::daemon::{Daemon, Script};
use super::deploy::{all_well, deploy};
use super::nix::FakeNix;

#[tokio::test]
async fn the_flake_is_locked_by_the_caller_and_handed_over() {
    let daemon = Daemon::start(Script { events: all_well(), ..Script::default() });
    let nix = FakeNix::new();
    let words = "deploy /home/me/infra/sub/vm#hello --take-over";
    assert_eq!(blixard(&daemon.socket(), &nix.nix(), words).await.code, 0);
    insta::assert_snapshot!(nix.asked(), @"
    nix --extra-experimental-features nix-command flakes flake metadata --json --no-write-lock-file /home/me/infra/sub/vm
    ");
    insta::assert_snapshot!(daemon.asked(), @r#"
    upload of /nix/store/f6jk96ama4nm1qmqckjx98kq8k38j8ag-source
    deploy ["hello"] take over true, id of 16 bytes
    FlakeSource {
        id: "git+file:///home/me/infra?dir=sub/vm",
        path: "/nix/store/f6jk96ama4nm1qmqckjx98kq8k38j8ag-source",
        nar_hash: "sha256-yLT71u/TtULkqW31/gaIhBtcZFqG7hfk5pd2eUAjiqg=",
        subdir: "sub/vm",
        rev: Some(
            "bd2177b39202014038211550309ff8ca4c103437",
        ),
        rev_count: Some(
            1,
        ),
        last_modified: Some(
            1795466744,
        ),
        lock: None,
    }
    "#);
}

#[tokio::test]
async fn what_nix_warns_of_is_passed_on() {
    let nix = FakeNix::new();
    nix.complains("metadata", "warning: Git tree '/home/me/infra' is dirty\n");
    let ran = deploy(all_well(), &nix, ".").await;
    assert_eq!(ran.err.matches("is dirty\n").count(), 1, "{ran}");
}

#[tokio::test]
async fn an_incomplete_lock_file_is_worth_a_hint() {
    let nix = FakeNix::new();
    nix.complains(
        "metadata",
        "warning: not writing modified lock file of flake 'path:/x':\n\u{2022} Added\n",
    );
    let ran = deploy(all_well(), &nix, ".").await;
    assert!(ran.err.contains("Added\nhint: `nix flake lock` pins"), "{ran}");
}

#[tokio::test]
async fn a_hash_that_nix_does_not_tell_is_asked_of_the_store_in_whatever_form() {
    // What Nix 2.26.3 says of one plain folder.
    let nix = FakeNix::new();
    let path = "/nix/store/nrnq4cm2zdmg6wsvrfs2gkav182j9adi-source";
    nix.says(
        "metadata",
        &format!(r#"{{"originalUrl":"path:/home/me/plain","path":"{path}","locked":{{}}}}"#),
    );
    nix.says("hash", "sha256:0706805kjyg7n3ihvgf45gx5z16d3h8andb440a4293zclbpby5l\n");
    let daemon = Daemon::start(Script { events: all_well(), ..Script::default() });
    assert_eq!(blixard(&daemon.socket(), &nix.nix(), "deploy").await.code, 0);
    let nar_hash = "sha256-tPh1F2V/JEEUIGQ1qxAczYRf+ivEvQ3jsOd5OQtABhw=";
    assert!(daemon.asked().contains(nar_hash), "{}", daemon.asked());
    nix.says("hash", "none");
    insta::assert_snapshot!(deploy(all_well(), &nix, ".").await, @r#"
    --- stderr
    locking .
    error: Nix gave a hash that is none
    caused by: "none" is not a SHA-256 hash: expected sha256-<base64>, or sha256: with base 32 or base 16
    --- exit 7
    "#);
}

#[tokio::test]
async fn what_nix_says_of_a_failure_is_told_with_a_hint() {
    let nix = FakeNix::new();
    nix.fails(
        "path '/root' does not contain a 'flake.nix', searching up\nerror: could not find a flake.nix file\n",
    );
    insta::assert_snapshot!(deploy(all_well(), &nix, ".").await, @"
    --- stderr
    locking .
    error: `nix flake metadata --json --no-write-lock-file .` failed
      path '/root' does not contain a 'flake.nix', searching up
      could not find a flake.nix file
    hint: is there a flake.nix? In a git repository it must be tracked: `git add flake.nix`
    --- exit 7
    ");
    nix.fails("error: opening Git repository \"/x\": repository path '/x' is not owned by current user\n");
    insta::assert_snapshot!(deploy(all_well(), &nix, "/x").await, @r#"
    --- stderr
    locking /x
    error: `nix flake metadata --json --no-write-lock-file /x` failed
      opening Git repository "/x": repository path '/x' is not owned by current user
    hint: run it as the owner of the flake; a member of the group `blixard` need not be root
    --- exit 7
    "#);
    nix.fails("error: syntax error, unexpected end of file\n");
    insta::assert_snapshot!(deploy(all_well(), &nix, "/x").await, @"
    --- stderr
    locking /x
    error: `nix flake metadata --json --no-write-lock-file /x` failed
      syntax error, unexpected end of file
    --- exit 7
    ");
    nix.says("metadata", "{}");
    insta::assert_snapshot!(deploy(all_well(), &FakeNix::missing(), ".").await, @"
    --- stderr
    locking .
    error: cannot start `nix`
    caused by: No such file or directory (os error 2)
    hint: Nix is needed where `blixard deploy` runs; is it in the PATH?
    --- exit 7
    ");
}

#[tokio::test]
async fn output_of_nix_that_is_not_understood_is_no_panic() {
    let nix = FakeNix::new();
    nix.says("metadata", r#"{"originalUrl":"path:/x","path":"/tmp/x"}"#);
    insta::assert_snapshot!(deploy(all_well(), &nix, ".").await, @"
    --- stderr
    locking .
    error: `nix flake metadata --json` printed something unexpected
    caused by: missing field `locked` at line 1 column 41
    --- exit 7
    ");
    nix.says("metadata", r#"{"originalUrl":"path:/x","path":"/tmp/x","locked":{}}"#);
    insta::assert_snapshot!(deploy(all_well(), &nix, ".").await, @r#"
    --- stderr
    locking .
    error: Nix put the flake where it cannot be
    caused by: "/tmp/x" is not a store path
    caused by: path is outside the configured store directory
    --- exit 7
    "#);
}
