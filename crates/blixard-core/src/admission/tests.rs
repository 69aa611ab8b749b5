//! Names, specs and features, and that all their problems come at once.

use serde_json::{Value, json};

use super::*;
use crate::fixture::{SYSTEM, store_path};

fn evaluated(attribute: &str, spec: Value) -> EvaluatedVm {
    EvaluatedVm {
        output: FlakeOutput::Microvms,
        attribute: attribute.to_owned(),
        drv: store_path("runner.drv"),
        out: store_path("runner"),
        system: SYSTEM.to_owned(),
        spec,
    }
}

/// A sound spec with these keys besides.
fn spec(keys: &Value) -> Value {
    let mut spec = json!({ "schema": 1, "resources": { "vcpus": 1, "memoryMib": 128 } });
    let all = spec.as_object_mut().unwrap();
    all.extend(keys.as_object().unwrap().clone());
    spec
}

/// The problems as text, one a line.
fn problems(evaluated: Vec<EvaluatedVm>) -> String {
    let problems = admit(evaluated).unwrap_err();
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn refused(attribute: &str, keys: &Value) -> String {
    problems(vec![evaluated(attribute, spec(keys))])
}

#[test]
fn a_sound_vm_is_admitted_as_it_was_evaluated() {
    let given = evaluated("web-1", spec(&json!({ "tenant": "shop" })));
    let admitted = admit(vec![given.clone()]).unwrap();
    let [vm] = admitted.as_slice() else { panic!("{admitted:?}") };
    assert_eq!(vm.vm.to_string(), "shop/web-1");
    assert_eq!(vm.spec, Spec::from_json(&given.spec).unwrap());
    assert_eq!((&vm.drv, &vm.out, &vm.system), (&given.drv, &given.out, &given.system));
    assert_eq!(admit(vec![]), Ok(vec![]));
}

#[test]
fn an_attribute_that_could_lead_out_of_a_path_or_a_unit_name_is_no_name() {
    let long = "a".repeat(300);
    let longest = "a".repeat(63);
    for name in [
        "",
        "a/b",
        "/",
        "..",
        ".",
        "a..b",
        "../../etc",
        "a%2fb",
        "%n",
        "a b",
        " a",
        "a\n",
        "a\0b",
        "Web",
        "WEB",
        "a_b",
        "a.b",
        "-a",
        "a-",
        "-",
        "ä",
        "wéb",
        "网",
        "\u{202e}a",
        "a\u{301}",
        "$(reboot)",
        "a;b",
        &long,
    ] {
        let problems = admit(vec![evaluated(name, spec(&json!({})))]).unwrap_err();
        let [AdmissionError { attribute, problem: AdmissionProblem::Name(_), .. }] = problems.as_slice()
        else {
            panic!("{name:?}: {problems:?}")
        };
        assert_eq!(attribute, name);
    }
    for name in ["a", "0", "web-1", "a--b", &longest] {
        assert!(admit(vec![evaluated(name, spec(&json!({})))]).is_ok(), "{name:?}");
    }
}

#[test]
fn a_name_and_a_tenant_that_are_too_long_together_are_refused() {
    let dashed = format!("a{}b", "-".repeat(61));
    let said = refused(&dashed, &json!({ "tenant": dashed }));
    assert!(said.contains("too long together"), "{said}");
}

#[test]
fn each_problem_names_the_attribute_and_the_key() {
    let words = [
        refused("Web", &json!({})),
        refused("web", &json!({ "memory": 1 })),
        refused("web", &json!({ "resources": { "vcpus": 0, "memoryMib": 128 } })),
        refused("web", &json!({ "tenant": "../etc" })),
        problems(vec![evaluated("web", Value::Null)]),
        problems(vec![evaluated("web", json!({ "schema": 2, "new": true }))]),
        problems(vec![evaluated("web", json!("text"))]),
    ];
    insta::assert_snapshot!(words.join("\n"), @r#"
    microvms.Web: the vm name "Web" must be lower-case letters, digits and `-`, beginning and ending with a letter or digit
    microvms.web: blixard.memory: unknown field `memory`, expected one of `schema`, `tenant`, `kind`, `resources`, `hypervisor`, `kvm`, `notify`, `canShutdown`, `stopTimeoutMs`, `health`, `restart`, `placement`, `update`, `account`, `interfaces`, `volumes`, `shares`, `vsockCid`, `devices`, `credentials`, `labels`
    microvms.web: blixard.resources.vcpus: 0 is out of range, allowed is 1 to 1024
    microvms.web: blixard.tenant: the tenant name "../etc" must be lower-case letters, digits and `-`, beginning and ending with a letter or digit
    microvms.web: the derivation has no `blixard` attribute: it is not a microVM for Blixard
    microvms.web: blixard.schema: schema 2 is not supported, this version reads schema 1
    microvms.web: blixard: expected an attribute set, got a string
    "#);
}

#[test]
fn what_this_version_does_not_do_is_refused_by_name() {
    let tap = |kind| json!({ "interfaces": [{ "kind": kind, "id": "vm-a", "mac": "02:00:00:00:00:01" }] });
    let volume = json!({ "volumes": [{ "name": "data", "image": "data.img", "sizeMib": 1 }] });
    let share =
        |source, protocol| json!({ "shares": [{ "tag": "s", "source": source, "protocol": protocol }] });
    let constraint = json!({ "placement": { "constraints": [{ "label": "zone", "operator": "exists" }] } });
    let words: Vec<_> = [
        tap("macvtap"),
        share("/nix/store", "virtiofs"),
        share("/srv", "9p"),
        json!({ "devices": ["0000:01:00.0"] }),
    ]
    .iter()
    .map(|keys| refused("web", keys))
    .collect();
    insta::assert_snapshot!(words.join("\n"), @"
    microvms.web: blixard.interfaces: macvtap interfaces are not supported by this version
    microvms.web: blixard.shares: shares other than /nix/store by 9p are not supported by this version
    microvms.web: blixard.shares: shares other than /nix/store by 9p are not supported by this version
    microvms.web: blixard.devices: host devices are not supported by this version
    ");
    let near = json!({ "placement": { "affinity": { "app": "db" }, "antiAffinity": { "app": "web" } } });
    let packed = json!({ "placement": { "strategy": "binpack", "priority": 2 } });
    for done in [
        tap("user"),
        tap("tap"),
        json!({ "vsockCid": 3 }),
        share("/nix/store", "9p"),
        volume,
        constraint,
        near,
        packed,
    ] {
        assert!(admit(vec![evaluated("web", spec(&done))]).is_ok(), "{done}");
    }
}

#[test]
fn two_vms_of_a_flake_that_claim_the_same_are_told_before_anything_is_built() {
    let tap = |mac| spec(&json!({ "interfaces": [{ "kind": "tap", "id": "vm-a", "mac": mac }] }));
    let mut plain = evaluated("web", tap("02:00:00:00:00:02"));
    plain.output = FlakeOutput::Configurations;
    let vms = vec![evaluated("db", tap("02:00:00:00:00:01")), plain];
    insta::assert_snapshot!(problems(vms), @"nixosConfigurations.web: the interface vm-a is claimed by microvms.db already");
}

#[test]
fn all_problems_of_all_vms_are_found_at_once() {
    let said = problems(vec![
        evaluated("good", spec(&json!({}))),
        evaluated("Bad", Value::Null),
        evaluated("worse", spec(&json!({ "kind": "task", "devices": ["0000:01:00.0"] }))),
        evaluated("A B", spec(&json!({ "kvm": "maybe" }))),
        evaluated("Big", spec(&json!({ "devices": ["0000:01:00.0"] }))),
    ]);
    insta::assert_snapshot!(said, @r#"
    microvms.Bad: the vm name "Bad" must be lower-case letters, digits and `-`, beginning and ending with a letter or digit
    microvms.Bad: the derivation has no `blixard` attribute: it is not a microVM for Blixard
    microvms.worse: blixard.devices: host devices are not supported by this version
    microvms."A B": the vm name "A B" must be lower-case letters, digits and `-`, beginning and ending with a letter or digit
    microvms."A B": blixard.kvm: unknown variant `maybe`, expected one of `required`, `preferred`, `unused`
    microvms.Big: the vm name "Big" must be lower-case letters, digits and `-`, beginning and ending with a letter or digit
    microvms.Big: blixard.devices: host devices are not supported by this version
    "#);
}

#[test]
fn one_unsound_vm_keeps_all_from_being_admitted() {
    let vms = vec![evaluated("good", spec(&json!({}))), evaluated("Bad", spec(&json!({})))];
    assert_eq!(admit(vms).unwrap_err().len(), 1);
}

#[test]
fn the_same_vm_twice_is_refused() {
    let vms = vec![evaluated("web", spec(&json!({}))), evaluated("web", spec(&json!({})))];
    insta::assert_snapshot!(problems(vms), @"microvms.web: microvms.web is the vm default/web already");
    let other = spec(&json!({ "tenant": "shop" }));
    assert!(admit(vec![evaluated("web", spec(&json!({}))), evaluated("web", other)]).is_ok());
}
