//! From JSON to a checked spec: one error that names the key, the value and the rule.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;

use serde_json::Value;

use super::{
    Account, Check, ConstraintOperator, FileSystem, InterfaceKind, SPEC_SCHEMA, Spec, VmKind, Volume,
    VolumeKind,
};

/// Why a spec is refused: the key and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct SpecError {
    /// Dotted path of the key, `health.checks[0].address`; `spec` for the whole.
    pub key: String,
    /// What is wrong.
    pub problem: SpecProblem,
}

/// What is wrong with a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecProblem {
    /// The schema number is another.
    #[error("schema {found} is not supported, this version reads schema {SPEC_SCHEMA}")]
    Schema {
        /// The number, or what stands in its place.
        found: String,
    },
    /// Wrong type, missing or unknown key; in serde's words.
    #[error("{0}")]
    Shape(String),
    /// A number outside its limits.
    #[error("{value} is out of range, allowed is {low} to {high}")]
    Range {
        /// The number.
        value: u64,
        /// The smallest allowed.
        low: u64,
        /// The largest allowed.
        high: u64,
    },
    /// A value that breaks a rule.
    #[error("{value:?} is not allowed: {rule}")]
    Rule {
        /// The value.
        value: String,
        /// What it should be.
        rule: &'static str,
    },
    /// The same thing twice.
    #[error("{value:?} is there twice")]
    Duplicate {
        /// The value.
        value: String,
    },
}

impl Spec {
    /// Reads a spec and checks every limit.
    ///
    /// # Errors
    /// The first problem, with the key it is at. The schema number is looked at first, so that a spec
    /// of a later schema is called that and not a spec with unknown keys.
    pub fn from_json(json: &Value) -> Result<Self, SpecError> {
        check_schema(json)?;
        let spec: Self = serde_path_to_error::deserialize(json).map_err(|error| {
            let key = error.path().to_string();
            let key = if key == "." { "spec".to_owned() } else { key };
            SpecError { key, problem: SpecProblem::Shape(error.into_inner().to_string()) }
        })?;
        spec.validate()?;
        Ok(spec)
    }

    /// Checks every limit that the types do not express.
    ///
    /// # Errors
    /// The first problem, with the key it is at.
    pub fn validate(&self) -> Result<(), SpecError> {
        self.check_numbers()?;
        self.check_health()?;
        self.check_account()?;
        self.check_interfaces()?;
        self.check_volumes()?;
        self.check_credentials()?;
        self.check_labels()
    }

    fn check_numbers(&self) -> Result<(), SpecError> {
        const HOUR: u64 = 3_600_000;
        const DAY: u64 = 24 * HOUR;
        range("resources.vcpus", u64::from(self.resources.vcpus), 1..=1024)?;
        range("resources.memoryMib", self.resources.memory_mib, 16..=16 << 20)?;
        range("resources.overheadMib", self.resources.overhead_mib, 0..=64 << 10)?;
        range("stopTimeoutMs", self.stop_timeout_ms, 0..=HOUR)?;
        range("health.activeForMs", self.health.active_for_ms, 0..=HOUR)?;
        range("health.deadlineMs", self.health.deadline_ms, 1000..=DAY)?;
        range("restart.delayMs", self.restart.delay_ms, 1000..=HOUR)?;
        range("restart.burst", u64::from(self.restart.burst), 1..=1000)?;
        range("restart.withinMs", self.restart.within_ms, 1000..=DAY)?;
        range("vsockCid", u64::from(self.vsock_cid.unwrap_or(3)), 3..=u64::from(u32::MAX - 1))
    }

    fn check_health(&self) -> Result<(), SpecError> {
        if self.kind == VmKind::Task && !self.health.checks.is_empty() {
            let rule = "a task ends when it is done, so nothing can be asked of it";
            return rule_broken("health.checks".to_owned(), &"task", rule);
        }
        for (at, check) in self.health.checks.iter().enumerate() {
            let (Check::Tcp { address } | Check::Http { address, .. }) = check;
            if address.parse::<std::net::SocketAddr>().is_err() {
                let rule = "expected address:port, as in 10.0.0.2:80 or [fd00::2]:80";
                return rule_broken(format!("health.checks[{at}].address"), address, rule);
            }
            if let Check::Http { path, .. } = check
                && (!path.starts_with('/') || path.bytes().any(|byte| !byte.is_ascii_graphic()))
            {
                let rule = "expected a path that begins with `/` and has no spaces or control characters";
                return rule_broken(format!("health.checks[{at}].path"), path, rule);
            }
        }
        Ok(())
    }

    fn check_account(&self) -> Result<(), SpecError> {
        let Some(Account { user, group }) = &self.account else { return Ok(()) };
        for (key, name) in [("account.user", user), ("account.group", group)] {
            if !Account::is_name(name) {
                let rule = "an account's name has lower-case letters, digits, `_` or `-`, at most 31";
                return rule_broken(key.to_owned(), name, rule);
            }
        }
        Ok(())
    }

    fn check_interfaces(&self) -> Result<(), SpecError> {
        let (mut seen, mut macs) = (BTreeSet::new(), BTreeSet::new());
        for (at, interface) in self.interfaces.iter().enumerate() {
            let id = &interface.id;
            if !is_interface_name(id) {
                return rule_broken(format!("interfaces[{at}].id"), id, INTERFACE_RULE);
            }
            if !is_mac(&interface.mac) {
                let rule = "expected a unicast address as in 02:00:00:00:00:01";
                return rule_broken(format!("interfaces[{at}].mac"), &interface.mac, rule);
            }
            if interface.kind != InterfaceKind::User && !seen.insert(id) {
                return duplicate(format!("interfaces[{at}].id"), id);
            }
            if !macs.insert(interface.mac.to_ascii_lowercase()) {
                return duplicate(format!("interfaces[{at}].mac"), &interface.mac);
            }
            if let Some(bridge) = &interface.bridge
                && !is_interface_name(bridge)
            {
                return rule_broken(format!("interfaces[{at}].bridge"), bridge, INTERFACE_RULE);
            }
        }
        Ok(())
    }

    fn check_volumes(&self) -> Result<(), SpecError> {
        let mut seen = BTreeSet::new();
        for (at, volume) in self.volumes.iter().enumerate() {
            range(&format!("volumes[{at}].sizeMib"), volume.size_mib, 1..=1 << 30)?;
            check_image(at, volume)?;
            if volume.name.parse::<crate::VolumeName>().is_err() {
                let rule = "expected lower-case letters, digits and `-`";
                return rule_broken(format!("volumes[{at}].name"), &volume.name, rule);
            }
            if !seen.insert(&volume.name) {
                return duplicate(format!("volumes[{at}].name"), &volume.name);
            }
            let above = |other: &Volume| below(&other.image, &volume.image);
            if let Some(other) = self.volumes.iter().take(at).find(|other| above(other)) {
                return duplicate(format!("volumes[{at}].image"), &other.image);
            }
            if let Some(label) = &volume.label {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
                let longest = volume.fs_type.map_or(0, FileSystem::label_max);
                if !(1..=longest).contains(&label.len())
                    || !label.bytes().all(plain)
                    || label.starts_with('-')
                {
                    let rule = "a label is one of a `fsType`: 1 to 16 letters, digits, `-` or `_` (vfat 11, xfs 12), and no `-` first";
                    return rule_broken(format!("volumes[{at}].label"), label, rule);
                }
            }
        }
        Ok(())
    }

    fn check_labels(&self) -> Result<(), SpecError> {
        for (at, constraint) in self.placement.constraints.iter().enumerate() {
            use ConstraintOperator::{Absent, Exists, In, NotIn};
            let fits = match constraint.operator {
                In | NotIn => !constraint.values.is_empty(),
                Exists | Absent => constraint.values.is_empty(),
            };
            if !fits {
                let rule = "`in` and `not-in` take at least one value, `exists` and `absent` none";
                let key = format!("placement.constraints[{at}].values");
                return rule_broken(key, &constraint.values.join(" "), rule);
            }
        }
        Ok(())
    }

    fn check_credentials(&self) -> Result<(), SpecError> {
        for (name, source) in &self.credentials {
            if !is_file_name(name) {
                let rule = "a credential's name has letters, digits, `-`, `_` or `.`";
                return rule_broken("credentials".to_owned(), name, rule);
            }
            // What a sealed one is called on its host.
            let sealed = source.to_ascii_lowercase().ends_with(".cred");
            if sealed || source.len() > 1024 || !source.split('/').all(is_file_name) {
                let rule = "expected a file below the host's directory of the tenant's credentials, as in `web/key`: \
                            no absolute path, no `..`, and no `.cred` at its end";
                return rule_broken(format!("credentials.{name}"), source, rule);
            }
        }
        Ok(())
    }
}

fn is_file_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=255).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('.')
}

/// A shared volume may be anywhere on the hosts that have it; the others are the vm's own.
fn check_image(at: usize, volume: &Volume) -> Result<(), SpecError> {
    let inside = |image: &str| {
        !image.is_empty()
            && !image.split('/').any(|part| {
                // `.name.new` is how an image is called while it is made.
                let half_made =
                    part.strip_prefix('.').is_some_and(|rest| rest.strip_suffix(".new").is_some());
                matches!(part, "" | "." | "..")
                    || half_made
                    || part.len() > 200
                    || part.chars().any(char::is_control)
            })
    };
    let anywhere = volume.kind == VolumeKind::Shared;
    let image = volume.image.strip_prefix('/').filter(|_| anywhere).unwrap_or(&volume.image);
    if inside(image) && volume.image.len() <= 1024 {
        return Ok(());
    }
    let rule = if anywhere {
        "expected an absolute path, or one below the vm's state directory"
    } else {
        "expected a path below the vm's state directory"
    };
    rule_broken(format!("volumes[{at}].image"), &volume.image, rule)
}

/// Whether two paths are one, or one is a folder of the other.
fn below(one: &str, other: &str) -> bool {
    let within = |folder: &str, path: &str| {
        path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    within(one, other) || within(other, one)
}

fn check_schema(json: &Value) -> Result<(), SpecError> {
    let Some(object) = json.as_object() else {
        let problem = SpecProblem::Shape(format!("expected an attribute set, got {}", kind_of(json)));
        return Err(SpecError { key: "spec".to_owned(), problem });
    };
    match object.get("schema") {
        Some(schema) if schema.as_u64() != Some(u64::from(SPEC_SCHEMA)) => Err(SpecError {
            key: "schema".to_owned(),
            problem: SpecProblem::Schema { found: schema.to_string() },
        }),
        _ => Ok(()),
    }
}

fn kind_of(json: &Value) -> &'static str {
    match json {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an attribute set",
    }
}

const INTERFACE_RULE: &str = "an interface name has 1 to 15 letters, digits, `-`, `_` or `.`";

fn is_interface_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=15).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with(['-', '.'])
}

fn is_mac(text: &str) -> bool {
    let mut parts = text.split(':');
    let all_bytes = parts.clone().all(|part| part.len() == 2 && u8::from_str_radix(part, 16).is_ok());
    let unicast =
        parts.next().and_then(|first| u8::from_str_radix(first, 16).ok()).is_some_and(|byte| byte & 1 == 0);
    all_bytes && unicast && text.len() == 17 && !text.contains('+')
}

fn range(key: &str, value: u64, allowed: RangeInclusive<u64>) -> Result<(), SpecError> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let (low, high) = allowed.into_inner();
    Err(SpecError { key: key.to_owned(), problem: SpecProblem::Range { value, low, high } })
}

fn rule_broken(key: String, value: &dyn Display, rule: &'static str) -> Result<(), SpecError> {
    Err(SpecError { key, problem: SpecProblem::Rule { value: value.to_string(), rule } })
}

fn duplicate(key: String, value: &dyn Display) -> Result<(), SpecError> {
    Err(SpecError { key, problem: SpecProblem::Duplicate { value: value.to_string() } })
}
