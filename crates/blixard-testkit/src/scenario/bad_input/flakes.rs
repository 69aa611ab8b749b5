//! What a flake may say wrongly.

use anyhow::Context as _;

use super::{Expected, refused};
use crate::host::Host;

/// A flake that is refused.
struct Case {
    name: &'static str,
    /// The flake's outputs, in the scope of [`HEAD`].
    outputs: &'static str,
    expected: Expected<'static>,
}

/// Names that cases use: `run` is a script that makes a good runner, `vm` makes a microVM of a script and
/// a spec, `spec` adds to a good one.
const HEAD: &str = r#"let
  run = ''
    mkdir -p $out/bin
    printf '#!/bin/sh\nexec /usr/bin/sleep infinity\n' > $out/bin/microvm-run
    chmod 755 $out/bin/microvm-run
  '';
  spec = more: { schema = 1; resources = { vcpus = 1; memoryMib = 16; overheadMib = 16; }; } // more;
  raw = script: blixard: derivation {
    name = "microvm-bad";
    system = "x86_64-linux";
    builder = "/bin/sh";
    args = [ "-euc" "export PATH=/usr/bin:/bin\n${script}" ];
  } // { inherit blixard; };
  vm = script: more: raw script (spec more);
in
"#;

const SCHEMA_HINT: &str = "spec-v1.schema.json";
const FIRST_HINT: &str = "microvms.<name>";
const TRACE_HINT: &str = "--show-trace";
const RUNNER_HINT: &str = "a runner is a derivation";

const fn case(
    name: &'static str,
    outputs: &'static str,
    says: &'static [&'static str],
    hint: &'static str,
) -> Case {
    Case { name, outputs, expected: Expected { code: 7, says, hint } }
}

const CASES: &[Case] = &[
    case("no output", "{ }", &["the flake has no output `microvms`"], FIRST_HINT),
    case("no vms", "{ microvms = { }; }", &["the flake's `microvms` is empty"], FIRST_HINT),
    case("microvms is a list", "{ microvms = [ ]; }", &["microvms", "list"], TRACE_HINT),
    case(
        "a syntax error",
        "{ microvms = { ; }; }",
        &["syntax error", "flakes/a-syntax-error/flake.nix:16:16"],
        "",
    ),
    case(
        "an evaluation that throws",
        "{ microvms.web = throw \"thrown on purpose\"; }",
        &["microvms.web: thrown on purpose", "\n  at /root/flakes/an-evaluation-that-throws/flake.nix:16:"],
        TRACE_HINT,
    ),
    case(
        "an undefined variable",
        "{ microvms.web = vmm run { }; }",
        &["undefined variable 'vmm'", "an-undefined-variable/flake.nix:16:"],
        "",
    ),
    case("no derivation", "{ microvms.web = 1; }", &["microvms.web"], ""),
    case(
        "no spec",
        "{ microvms.web = removeAttrs (vm run { }) [ \"blixard\" ]; }",
        &["microvms.web: the derivation has no `blixard` attribute"],
        SCHEMA_HINT,
    ),
    case(
        "a failing build",
        "{ microvms.web = vm \"echo first; echo failed on purpose >&2; exit 3\" { }; }",
        &["building /nix/store/", "exit code 3", "\n  > first\n  > failed on purpose\n"],
        "nix log /nix/store/",
    ),
    case(
        "a build without output",
        "{ microvms.web = vm \"exit 0\" { }; }",
        &["building /nix/store/", "failed to produce output path"],
        "nix log",
    ),
    case(
        "no runner",
        "{ microvms.web = vm \"mkdir $out\" { }; }",
        &["vm default/web: ", "/bin/microvm-run is not there"],
        RUNNER_HINT,
    ),
    case(
        "a runner that is a folder",
        "{ microvms.web = vm \"mkdir -p $out/bin/microvm-run\" { }; }",
        &["bin/microvm-run", "is no file"],
        RUNNER_HINT,
    ),
    case(
        "a runner that is a plain file",
        "{ microvms.web = vm \"mkdir -p $out/bin; echo > $out/bin/microvm-run\" { }; }",
        &["bin/microvm-run", "is not executable"],
        RUNNER_HINT,
    ),
    case(
        "a runner that leads out of the store",
        "{ microvms.web = vm \"mkdir -p $out/bin; ln -s /usr/bin/sleep $out/bin/microvm-run\" { }; }",
        &["bin/microvm-run", "leads out of the store"],
        RUNNER_HINT,
    ),
    case(
        "a runner that leads nowhere",
        "{ microvms.web = vm \"mkdir -p $out/bin; ln -s nothing $out/bin/microvm-run\" { }; }",
        &["bin/microvm-run is not there"],
        RUNNER_HINT,
    ),
    case(
        "bad specs",
        r#"{ microvms = {
          a-missing = raw run { schema = 1; };
          b-schema = raw run { resources = { vcpus = 1; memoryMib = 16; }; };
          c-extra = vm run { memory = 1; };
          d-negative = vm run { resources = { vcpus = -1; memoryMib = 16; }; };
          e-huge = vm run { resources = { vcpus = 1; memoryMib = 9223372036854775807; }; };
          f-fraction = vm run { resources = { vcpus = 1.5; memoryMib = 16; }; };
          g-text = raw run "schema = 1";
          h-list = raw run [ 1 ];
          i-tap = vm run { interfaces = let tap = { kind = "tap"; id = "vm-a"; mac = "02:00:00:00:00:01"; }; in [ tap tap ]; };
          j-number = raw run 1;
          k-true = raw run true;
          l-future = vm run { schema = 2; };
          m-task = vm run { kind = "task"; health.checks = [ { kind = "tcp"; address = "10.0.0.2:80"; } ]; };
        }; }"#,
        &[
            "microvms.a-missing: blixard: missing field `resources`",
            "microvms.b-schema: blixard: missing field `schema`",
            "microvms.c-extra: blixard.memory: unknown field `memory`",
            "microvms.d-negative: blixard.resources.vcpus: invalid value: integer `-1`",
            "microvms.e-huge: blixard.resources.memoryMib: 9223372036854775807 is out of range, allowed is 16 to",
            "microvms.f-fraction: blixard.resources.vcpus: invalid type: floating point `1.5`",
            "microvms.g-text: blixard: expected an attribute set, got a string",
            "microvms.h-list: blixard: expected an attribute set, got a list",
            "microvms.i-tap: blixard.interfaces[1].id: \"vm-a\" is there twice",
            "microvms.j-number: blixard: expected an attribute set, got a number",
            "microvms.k-true: blixard: expected an attribute set, got a boolean",
            "microvms.l-future: blixard.schema: schema 2 is not supported",
            "microvms.m-task: blixard.health.checks: \"task\" is not allowed",
        ],
        SCHEMA_HINT,
    ),
    case(
        "a spec that is a function",
        "{ microvms.web = raw run (x: x); }",
        &["microvms.web", "function"],
        TRACE_HINT,
    ),
    case(
        "a spec that throws",
        "{ microvms.web = raw run (throw \"thrown in the spec\"); }",
        &["microvms.web: thrown in the spec", "flake.nix:16:"],
        TRACE_HINT,
    ),
    case(
        "bad names",
        r#"{ microvms = builtins.listToAttrs (map (name: { inherit name; value = vm run { }; }) [
          "a/b" ".." "." "../../etc" "a%b" "$HOME" "a b" "a\nb" "-a" "a-" "ü" "日本" "A" "" "outPath" "a\"b" "\\x2d"
          (builtins.concatStringsSep "" (builtins.genList (_: "x") 300))
        ]); }"#,
        &[
            "microvms.\"a/b\": the vm name \"a/b\" must be lower-case letters, digits and `-`",
            "microvms.\"..\": ",
            "microvms.\"../../etc\": ",
            "microvms.\"a%b\": ",
            "microvms.\"\\$HOME\": ",
            "microvms.\"a b\": ",
            "microvms.\"a\\nb\": ",
            "microvms.\"-a\": ",
            "microvms.\"ü\": ",
            "microvms.A: ",
            "microvms.outPath: ",
            "microvms.\"\": the vm name is empty",
            "the vm name has 300 bytes, at most 63 are allowed",
        ],
        SCHEMA_HINT,
    ),
    case(
        "bad tenants",
        r#"{ microvms = builtins.listToAttrs (builtins.genList (n: let
            tenants = [ "a/b" ".." "a%n" "$HOME" "a b" "a\nb" "-a" "ü" "" (builtins.concatStringsSep "" (builtins.genList (_: "x") 300)) 1 null ];
          in { name = "vm-${toString n}"; value = vm run { tenant = builtins.elemAt tenants n; }; }) 12); }"#,
        &[
            "microvms.vm-0: blixard.tenant: the tenant name \"a/b\" must be",
            "microvms.vm-1: blixard.tenant: ",
            "microvms.vm-5: blixard.tenant: the tenant name \"a\\nb\" must be",
            "microvms.vm-8: blixard.tenant: the tenant name is empty",
            "microvms.vm-9: blixard.tenant: the tenant name has 300 bytes, at most 63 are allowed",
            "microvms.vm-10: blixard.tenant: ",
            "microvms.vm-11: blixard.tenant: ",
        ],
        SCHEMA_HINT,
    ),
    case(
        "two vms claiming one tap",
        r#"{ microvms = let tapped = mac: vm run { interfaces = [ { kind = "tap"; id = "vm-a"; inherit mac; } ]; }; in {
          a = tapped "02:00:00:00:00:01";
          b = tapped "02:00:00:00:00:02";
        }; }"#,
        &["microvms.b: the interface vm-a is claimed by microvms.a already"],
        SCHEMA_HINT,
    ),
    case(
        "one bad among good",
        "{ microvms.good = vm run { }; microvms.bad = vm run { schema = 9; }; }",
        &["microvms.bad: blixard.schema: "],
        SCHEMA_HINT,
    ),
    case(
        "another platform",
        "{ microvms.web = vm run { } // { system = 1; }; }",
        &["microvms.web", "system"],
        "",
    ),
    case(
        "a path that is not its own",
        "{ microvms.web = vm run { } // { outPath = \"/nix/store\"; }; }",
        &["microvms.web", "outPath"],
        "",
    ),
];

/// Tries every flake.
pub(super) fn each(host: &Host, case: &mut dyn FnMut(&str, anyhow::Result<()>)) {
    for Case { name, outputs, expected } in CASES {
        case(name, deployed(host, name, outputs, expected));
    }
}

fn deployed(host: &Host, name: &str, outputs: &str, expected: &Expected<'_>) -> anyhow::Result<()> {
    let folder = format!("/root/flakes/{}", name.replace(' ', "-"));
    let flake = format!("{{ outputs = {{ self }}: {HEAD}{outputs}; }}\n");
    host.write(&format!("{folder}/flake.nix"), flake, 0o644).context("cannot write the flake")?;
    refused(host, &["deploy", &folder], expected)
}
