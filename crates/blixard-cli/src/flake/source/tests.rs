use super::*;

fn check(url: &str, id: &str) {
    assert_eq!(source_id(url), id, "{url}");
    assert_eq!(source_id(id), id, "the id of an id is the id");
}

#[test]
fn what_changes_from_commit_to_commit_is_not_in_the_id() {
    let infra = "git+file:///home/me/infra";
    check(infra, infra);
    check("git+file:///home/me/infra?ref=main&rev=87f3c0946320001972b321b84dd61d731e4a972d", infra);
    check("git+file:///home/me/infra?lastModified=1&narHash=sha256-a%2Bb%3D&revCount=7", infra);
    check("git+file:///home/me/infra?shallow=1", infra);
    check("path:/home/me/infra?lastModified=1795466744&narHash=sha256-tPh1%3D", "path:/home/me/infra");
}

#[test]
fn a_branch_or_revision_in_the_path_is_not_in_the_id() {
    check("github:owner/repo", "github:owner/repo");
    check("github:owner/repo/main", "github:owner/repo");
    check("github:owner/repo/feature/x?host=git.example.org", "github:owner/repo?host=git.example.org");
    check("gitlab:group%2Fsub/repo/v1", "gitlab:group%2Fsub/repo");
    check("sourcehut:~owner/repo/main", "sourcehut:~owner/repo");
}

#[test]
fn one_place_has_one_id() {
    check("git+file:///home/me/infra/", "git+file:///home/me/infra");
    // Nix 2.26 makes this of `git+file:./infra`.
    check("git+file:/home/me/infra", "git+file:///home/me/infra");
    check("path:/home/me/infra/", "path:/home/me/infra");
    check("git+file:///home/me/infra?submodules=1&dir=a", "git+file:///home/me/infra?dir=a&submodules=1");
    check("git+file:///home/me/infra?dir=", "git+file:///home/me/infra");
    check("path:/", "path:/");
}

#[test]
fn a_folder_in_a_flake_is_another_flake() {
    check("git+file:///home/me/infra?dir=sub/vm", "git+file:///home/me/infra?dir=sub/vm");
    check("path:/home/me/sp%20ace?dir=vms", "path:/home/me/sp%20ace?dir=vms");
}

#[test]
fn no_secret_is_in_the_id() {
    check("git+https://token@example.org/infra", "git+https://example.org/infra");
    check("git+https://me:token@example.org/infra.git?ref=main", "git+https://example.org/infra.git");
    check("https://me:p%40ss@example.org/infra.tar.gz", "https://example.org/infra.tar.gz");
    check("git+ssh://git@example.org/infra", "git+ssh://git@example.org/infra");
    check("git+ssh://git:secret@example.org/infra", "git+ssh://git@example.org/infra");
    check("git+https://example.org/people/me@home", "git+https://example.org/people/me@home");
}

fn source(json: &str) -> FlakeSource {
    let metadata: Metadata = serde_json::from_str(json).unwrap();
    metadata.into_source(Sha256Hash([0; 32]))
}

#[test]
fn a_clean_git_tree_has_a_revision() {
    insta::assert_debug_snapshot!(source(crate::tests::nix::METADATA), @r#"
    FlakeSource {
        id: "git+file:///home/me/infra?dir=sub/vm",
        path: "/nix/store/f6jk96ama4nm1qmqckjx98kq8k38j8ag-source",
        nar_hash: "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
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

#[test]
fn a_tree_with_uncommitted_changes_has_none() {
    // Nix 2.26.3.
    let json = r#"{"dirtyRevision":"bd2177b39202014038211550309ff8ca4c103437-dirty","lastModified":1795466744,"locked":{"__final":true,"dirtyRev":"bd2177b39202014038211550309ff8ca4c103437-dirty","dirtyShortRev":"bd2177b-dirty","lastModified":1795466744,"narHash":"sha256-0W0kVNfdrNpuajouHgsDCI5M7OYBCmsBOpWmCaByo9Q=","type":"git","url":"file:///home/me/infra"},"original":{"type":"git","url":"file:///home/me/infra"},"originalUrl":"git+file:///home/me/infra","path":"/nix/store/8kh492isbm55xzz9c1rxmcff46zqvavc-source","resolved":{"type":"git","url":"file:///home/me/infra"},"resolvedUrl":"git+file:///home/me/infra","url":"git+file:///home/me/infra"}"#;
    insta::assert_debug_snapshot!(source(json), @r#"
    FlakeSource {
        id: "git+file:///home/me/infra",
        path: "/nix/store/8kh492isbm55xzz9c1rxmcff46zqvavc-source",
        nar_hash: "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        subdir: "",
        rev: None,
        rev_count: None,
        last_modified: Some(
            1795466744,
        ),
        lock: None,
    }
    "#);
}

#[test]
fn a_plain_folder_has_a_time_only() {
    // Nix 2.26.3.
    let json = r#"{"lastModified":1795466744,"locked":{"__final":true,"lastModified":1795466744,"narHash":"sha256-tPh1F2V/JEEUIGQ1qxAczYRf+ivEvQ3jsOd5OQtABhw=","path":"/home/me/plain","type":"path"},"original":{"path":"/home/me/plain","type":"path"},"originalUrl":"path:/home/me/plain","path":"/nix/store/nrnq4cm2zdmg6wsvrfs2gkav182j9adi-source","resolved":{"path":"/home/me/plain","type":"path"},"resolvedUrl":"path:/home/me/plain","url":"path:/home/me/plain?lastModified=1795466744&narHash=sha256-tPh1F2V/JEEUIGQ1qxAczYRf%2BivEvQ3jsOd5OQtABhw%3D"}"#;
    insta::assert_debug_snapshot!(source(json), @r#"
    FlakeSource {
        id: "path:/home/me/plain",
        path: "/nix/store/nrnq4cm2zdmg6wsvrfs2gkav182j9adi-source",
        nar_hash: "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        subdir: "",
        rev: None,
        rev_count: None,
        last_modified: Some(
            1795466744,
        ),
        lock: None,
    }
    "#);
}

#[test]
fn a_registry_name_is_looked_up() {
    let json = r#"{"originalUrl":"flake:infra","resolvedUrl":"github:owner/infra","path":"/nix/store/x","locked":{"lastModified":1}}"#;
    assert_eq!(source(json).id, "github:owner/infra");
}
