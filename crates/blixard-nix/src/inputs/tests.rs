use std::os::unix::fs::symlink;

use serde_json::json;

use super::*;

const HASH: &str = "sha256-yLT71u/TtULkqW31/gaIhBtcZFqG7hfk5pd2eUAjiqg=";
const ITS_PATH: &str = "/nix/store/f6jk96ama4nm1qmqckjx98kq8k38j8ag-source";

#[test]
fn inputs_are_found_by_their_hashes_each_once_and_without_those_of_the_own_tree() {
    let lock = json!({
        "version": 7,
        "root": "root",
        "nodes": {
            "root": { "inputs": { "lib": "lib", "twin": "twin", "sub": "sub", "odd": "odd" } },
            "lib": { "locked": { "type": "github", "narHash": HASH } },
            "twin": { "locked": { "type": "tarball", "narHash": HASH } },
            "sub": { "locked": { "type": "path", "path": "./sub", "narHash": HASH }, "parent": [] },
            "odd": { "locked": { "narHash": "sha512-x" } },
        },
    });
    assert_eq!(locked_inputs(&lock), [ITS_PATH.parse().unwrap()]);
    for other in [json!(null), json!([]), json!({ "nodes": 3 }), json!({ "nodes": { "a": [] } })] {
        assert_eq!(locked_inputs(&other), [], "{other}");
    }
}

fn read(tree: &Path, subdir: &str) -> io::Result<Vec<u8>> {
    read_below(tree, &Path::new(subdir).join("flake.lock"))
}

#[test]
fn a_lock_file_is_read_from_the_flakes_folder_and_through_no_link() {
    let tree = tempfile::tempdir().unwrap();
    let here = tree.path();
    std::fs::create_dir_all(here.join("a/b")).unwrap();
    std::fs::write(here.join("a/b/flake.lock"), "{}").unwrap();
    assert_eq!(read(here, "a/b").unwrap(), b"{}");
    assert!(read(here, "").is_err());

    let secret = tempfile::tempdir().unwrap();
    std::fs::write(secret.path().join("flake.lock"), "secret").unwrap();
    symlink(secret.path(), here.join("out")).unwrap();
    symlink(secret.path().join("flake.lock"), here.join("flake.lock")).unwrap();
    symlink("a", here.join("alias")).unwrap();
    for subdir in ["out", "", "alias/b", "../"] {
        assert!(read(here, subdir).is_err(), "{subdir:?}");
    }
}
