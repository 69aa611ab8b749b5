use super::*;

#[test]
fn a_vm_without_a_tenant_is_in_the_default_one() {
    let id: VmId = "web".parse().unwrap();
    assert_eq!(id.to_string(), "default/web");
    assert_eq!("default/web".parse::<VmId>().unwrap(), id);
}

#[test]
fn names_that_a_shell_a_path_or_systemd_would_read_are_refused() {
    let long = "a".repeat(64);
    let huge = "a".repeat(300);
    let bad = [
        "",
        "/",
        "..",
        ".",
        "a/b/c",
        "/a",
        "a/",
        "../a",
        "a%b",
        "%n",
        "$HOME",
        "a b",
        "a\nb",
        "a\0b",
        "-a",
        "a-",
        "A",
        "ü",
        "日本",
        "a_b",
        "a.b",
        "a@b",
        "a\\x2db",
        long.as_str(),
        huge.as_str(),
    ];
    for text in bad {
        assert!(text.parse::<VmId>().is_err(), "{text:?} was accepted");
    }
}

#[test]
fn a_refusal_says_what_and_why() {
    let say = |text: &str| text.parse::<VmId>().unwrap_err().to_string();
    insta::assert_snapshot!(say("Web"), @r#"the vm name "Web" must be lower-case letters, digits and `-`, beginning and ending with a letter or digit"#);
    insta::assert_snapshot!(say(""), @"the vm name is empty");
    insta::assert_snapshot!(say("/web"), @"the tenant name is empty");
    insta::assert_snapshot!(say("a/b/c"), @r#""a/b/c" is not a vm: expected `name` or `tenant/name`"#);
    insta::assert_snapshot!(say(&"a".repeat(64)), @"the vm name has 64 bytes, at most 63 are allowed");
}

#[test]
fn a_vm_whose_unit_name_would_be_too_long_is_refused() {
    let dashes = format!("a{}b", "-".repeat(60));
    let error = format!("{dashes}/web").parse::<VmId>().unwrap_err();
    assert!(matches!(error, NameError::UnitTooLong { .. }), "{error}");
    let long = "a".repeat(63);
    assert!(format!("{long}/{long}").parse::<VmId>().is_ok());
}

#[test]
fn a_volume_is_named_in_its_vm() {
    let id: VolumeId = "db:data".parse().unwrap();
    assert_eq!(id.to_string(), "default/db:data");
    assert_eq!("default/db:data".parse::<VolumeId>().unwrap(), id);
    assert_eq!(serde_json::from_str::<VolumeId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
    for bad in ["", "db", ":data", "db:", "db:..", "db:a/b", "db:a:b", "shop/db/data"] {
        assert!(bad.parse::<VolumeId>().is_err(), "{bad:?}");
    }
}
