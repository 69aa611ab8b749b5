//! Flakes that try more than they may.

use blixard_core::ports::nix::{NixStore as _, ProgramError, Selection};
use serde_json::json;

use super::fixture::{Trial, silent};

#[tokio::test]
async fn any_name_is_a_name_and_nothing_else() {
    let Some(trial) = Trial::new() else { return };
    let names = [
        "",
        "1",
        "__toString",
        "a b",
        "a.b",
        "outPath",
        "drvPath",
        "x\"; y",
        "${throw \"no\"}",
        "$${a}",
        "\\",
        "\\\"",
        "line\nline",
        "cr\r\nlf",
        "tab\t",
        "''${x}''",
        "ä",
        "null ]",
        "#",
    ];
    let definitions: Vec<String> = names
        .iter()
        .map(|name| format!("{{ name = builtins.fromJSON ''{}''; value = runner \"web\"; }}", in_json(name)))
        .collect();
    let source = trial.flake(&format!("builtins.listToAttrs [ {} ]", definitions.join(" ")));
    let mut expected: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    expected.sort();
    for selection in [Selection::All, Selection::Named(expected.clone())] {
        let vms = trial.evaluate(&source, selection).await.unwrap();
        let found: Vec<String> = vms.into_iter().map(|vm| vm.attribute).collect();
        assert_eq!(found, expected);
    }
}

/// For a Nix string in `''`: JSON of ASCII, without the characters that mean something there.
fn in_json(name: &str) -> String {
    let units: Vec<String> = name.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
    format!("\"{}\"", units.concat())
}

#[tokio::test]
async fn a_name_that_is_not_there_is_told_even_if_it_cannot_be() {
    let Some(trial) = Trial::new() else { return };
    let source = trial.flake(r#"{ web = runner "web"; }"#);
    for name in ["a\0b", "\" ]", "${web}"] {
        let error = trial.evaluate(&source, Selection::Named(vec![name.to_owned()])).await.unwrap_err();
        assert_eq!(error.to_string(), format!("the flake has no output `microvms.{name}`"));
    }
}

#[tokio::test]
async fn a_runner_that_its_derivation_does_not_make_is_refused() {
    let Some(trial) = Trial::new() else { return };
    for claim in ["outPath = (runner \"other\").outPath", "drvPath = (runner \"other\").drvPath"] {
        let source = trial.flake(&format!("{{ web = runner \"web\" // {{ {claim}; }}; }}"));
        let error = trial.evaluate(&source, Selection::All).await.unwrap_err();
        assert!(error.to_string().contains("is not an output of"), "{claim}: {error}");
    }
    let source = trial.flake("{ web = runner \"web\" // { outPath = /etc; }; }");
    trial.evaluate(&source, Selection::All).await.unwrap_err();
}

#[tokio::test]
async fn nothing_is_built_to_evaluate() {
    let Some(trial) = Trial::new() else { return };
    let source = trial.flake(r#"{ web = import (make "code" "echo 5 > $out"); }"#);
    let error = trial.evaluate(&source, Selection::All).await.unwrap_err();
    assert!(error.to_string().contains("allow-import-from-derivation"), "{error}");
}

#[tokio::test]
async fn nothing_outside_of_the_flake_is_read() {
    let Some(trial) = Trial::new() else { return };
    for (impure, seen) in [
        ("builtins.readFile \"/etc/hostname\"", None),
        ("builtins.readFile /etc/hostname", None),
        ("builtins.getEnv \"PATH\"", Some("")),
        ("toString (builtins ? currentTime)", Some("")),
    ] {
        let source = trial.flake(&format!("{{ web = runner \"web\" // {{ blixard = {impure}; }}; }}"));
        let spec = trial.evaluate(&source, Selection::All).await.ok().map(|vms| vms[0].spec.clone());
        assert_eq!(spec, seen.map(|text| json!(text)), "{impure}");
    }
}

#[tokio::test]
async fn a_program_is_an_executable_file_within_the_store() {
    let Some(trial) = Trial::new() else { return };
    let vm = trial
        .one(
            r#"make "links" "
              mkdir -p $out/bin
              ln -s ${runner "other"}/bin/microvm-run $out/bin/inside
              ln -s /bin/sh $out/bin/outside
              ln -s loop $out/bin/loop
              ln -s nowhere $out/bin/dangling
              echo > $out/bin/plain
            ""#,
        )
        .await;
    trial.nix.build(vec![vm.drv], silent()).await.unwrap();
    for (below, found) in [
        ("bin/inside", Ok(())),
        ("bin/outside", Err(ProgramError::Elsewhere)),
        ("bin/loop", Err(ProgramError::Missing)),
        ("bin/dangling", Err(ProgramError::Missing)),
        ("bin/plain", Err(ProgramError::NotExecutable)),
        ("bin", Err(ProgramError::NoFile)),
    ] {
        assert_eq!(trial.nix.check_program(vm.out.clone(), below).await, found, "{below}");
    }
}
