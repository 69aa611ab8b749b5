//! `blixard deploy`: how sources come to the builder.

use tonic::Status;

use super::daemon::{Daemon, Script};
use super::deploy::all_well;
use super::nix::{FakeNix, METADATA};
use super::{Ran, blixard};

const OWN: &str = "/nix/store/f6jk96ama4nm1qmqckjx98kq8k38j8ag-source";
const LOCAL: &str = "/nix/store/nrnq4cm2zdmg6wsvrfs2gkav182j9adi-source";

/// A flake with a local input, one that is elsewhere, and one in its own tree.
fn with_inputs() -> FakeNix {
    let nix = FakeNix::new();
    let nodes = r#""nodes":{"lib":{"locked":{"__final":true,"dir":"nix","lastModified":1,"narHash":"sha256-tPh1F2V/JEEUIGQ1qxAczYRf+ivEvQ3jsOd5OQtABhw=","path":"/home/me/$lib","type":"path"}},"far":{"locked":{"narHash":"sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=","type":"github"}},"sub":{"locked":{"narHash":"sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=","path":"./sub","type":"path"},"parent":[]},"#;
    nix.says("metadata", &METADATA.replace(r#""nodes":{"#, nodes));
    nix.says("--json", &format!(r#"["{LOCAL}"]"#));
    nix
}

async fn deploy(script: Script, nix: &FakeNix) -> (Ran, String) {
    let daemon = Daemon::start(Script { events: all_well(), ..script });
    let ran = blixard(&daemon.socket(), &nix.nix(), "deploy").await;
    (ran, daemon.asked())
}

#[tokio::test]
async fn what_the_builder_has_is_offered_and_not_sent() {
    let nix = with_inputs();
    let (ran, asked) = deploy(Script::default(), &nix).await;
    assert_eq!(ran.code, 0, "{ran}");
    assert_eq!(asked.lines().next(), Some(format!("upload of {OWN} {LOCAL}").as_str()));
    assert!(!asked.contains("took") && !ran.err.contains("uploading"), "{asked} {ran}");
    assert_eq!(nix.asked().lines().count(), 1, "{}", nix.asked());
}

#[tokio::test]
async fn what_the_builder_lacks_is_sent_whole_and_in_its_order() {
    let nix = with_inputs();
    let wanted = vec![LOCAL.to_owned(), OWN.to_owned()];
    let (ran, asked) = deploy(Script { wanted, ..Script::default() }, &nix).await;
    assert_eq!(ran.code, 0, "{ran}");
    let took: Vec<_> = asked.lines().filter(|line| line.starts_with("took")).collect();
    assert_eq!(took, [format!("took {LOCAL} of 13 bytes"), format!("took {OWN} of 13 bytes")]);
    assert!(ran.err.contains(&format!("uploading {OWN}\n")), "{ran}");
    insta::assert_snapshot!(nix.asked(), @r#"
    nix --extra-experimental-features nix-command flakes flake metadata --json --no-write-lock-file .
    nix --extra-experimental-features nix-command flakes eval --json --expr builtins.map (tree: builtins.unsafeDiscardStringContext (builtins.fetchTree tree).outPath) (builtins.fromJSON "[{\"lastModified\":1,\"narHash\":\"sha256-tPh1F2V/JEEUIGQ1qxAczYRf+ivEvQ3jsOd5OQtABhw=\",\"path\":\"/home/me/\$lib\",\"type\":\"path\"}]")
    nix --extra-experimental-features nix-command flakes store dump-path /nix/store/nrnq4cm2zdmg6wsvrfs2gkav182j9adi-source
    nix --extra-experimental-features nix-command flakes store dump-path /nix/store/f6jk96ama4nm1qmqckjx98kq8k38j8ag-source
    "#);
}

#[tokio::test]
async fn a_source_that_is_refused_ends_the_deployment_with_the_builders_words() {
    let refused = Some(Status::resource_exhausted("the source has more than 1 MiB"));
    let script = Script { wanted: vec![OWN.to_owned()], refused, ..Script::default() };
    let (ran, asked) = deploy(script, &FakeNix::new()).await;
    insta::assert_snapshot!(ran, @"
    --- stderr
    locking .
    uploading /nix/store/f6jk96ama4nm1qmqckjx98kq8k38j8ag-source
    error: the source has more than 1 MiB
    --- exit 6
    ");
    assert!(!asked.contains("deploy"), "{asked}");
}

#[tokio::test]
async fn a_source_that_nix_cannot_print_ends_the_deployment() {
    let nix = FakeNix::new();
    nix.breaks("dump-path", "error: path is not valid");
    let script = Script { wanted: vec![OWN.to_owned()], ..Script::default() };
    let (ran, asked) = deploy(script, &nix).await;
    insta::assert_snapshot!(ran, @"
    --- stderr
    locking .
    uploading /nix/store/f6jk96ama4nm1qmqckjx98kq8k38j8ag-source
    error: `nix store dump-path /nix/store/f6jk96ama4nm1qmqckjx98kq8k38j8ag-source` failed
      path is not valid
    --- exit 7
    ");
    assert!(!asked.contains("deploy"), "{asked}");
}

#[tokio::test]
async fn a_local_input_that_is_not_what_was_locked_is_not_sent() {
    let nix = with_inputs();
    nix.says("--json", &format!(r#"["{OWN}"]"#));
    let (ran, _) = deploy(Script { wanted: vec![LOCAL.to_owned()], ..Script::default() }, &nix).await;
    insta::assert_snapshot!(ran, @"
    --- stderr
    locking .
    error: Nix has put a local input of the flake at /nix/store/f6jk96ama4nm1qmqckjx98kq8k38j8ag-source, not /nix/store/nrnq4cm2zdmg6wsvrfs2gkav182j9adi-source
    hint: `nix flake update` locks its inputs anew
    --- exit 7
    ");
}
