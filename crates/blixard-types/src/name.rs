//! Names that people choose: tenants, vms, nodes.
//!
//! A name is a lower-case DNS label, because it becomes a host name, part of a unit name and of paths;
//! so nothing that a shell, systemd or a file system treats specially can be in it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::unit::{RunUnitName, UNIT_NAME_MAX};

/// Longest name in bytes: a DNS label (RFC 1035 §2.3.4).
pub const NAME_MAX: usize = 63;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("the {what} is empty")]
    Empty {
        /// What the text should have named.
        what: &'static str,
    },
    /// More than [`NAME_MAX`] bytes.
    #[error("the {what} has {length} bytes, at most {NAME_MAX} are allowed")]
    TooLong {
        /// What the text should have named.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
    },
    /// A character outside `a-z`, `0-9` and `-`, or a `-` at either end.
    #[error(
        "the {what} {text:?} must be lower-case letters, digits and `-`, beginning and ending with a \
         letter or digit"
    )]
    Character {
        /// What the text should have named.
        what: &'static str,
        /// The text.
        text: String,
    },
    /// Both parts are fine, but the unit name made of them is not.
    #[error(
        "the names {tenant}/{name} are too long together: each `-` takes four bytes of a unit name, \
         which may have {UNIT_NAME_MAX}"
    )]
    UnitTooLong {
        /// The tenant.
        tenant: String,
        /// The vm's name in it.
        name: String,
    },
    /// More than one `/`.
    #[error("{text:?} is not a vm: expected `name` or `tenant/name`")]
    Shape {
        /// The text.
        text: String,
    },
    /// No `:`.
    #[error("{text:?} is not a volume: expected `vm:volume` or `tenant/vm:volume`")]
    VolumeShape {
        /// The text.
        text: String,
    },
}

fn check(what: &'static str, text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { what });
    }
    if text.len() > NAME_MAX {
        return Err(NameError::TooLong { what, length: text.len() });
    }
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !text.bytes().all(allowed) || text.starts_with('-') || text.ends_with('-') {
        return Err(NameError::Character { what, text: text.to_owned() });
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, schemars::JsonSchema)]
        #[serde(transparent)]
        pub struct $name(
            #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
            String,
        );

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                check($what, text)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                String::deserialize(input)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// A namespace of vms, with quotas.
    TenantName,
    "tenant name"
);
name!(
    /// A vm within its tenant.
    VmName,
    "vm name"
);
name!(
    /// A machine in the cluster.
    NodeName,
    "node name"
);

impl NodeName {
    /// Whether it reads as a number, which other nodes have: no node should come with such a name. Clusters of before
    /// may have some.
    pub fn is_number(&self) -> bool {
        self.0.bytes().all(|byte| byte.is_ascii_digit())
    }
}

name!(
    /// A volume within its vm.
    VolumeName,
    "volume name"
);

/// The tenant of a vm that names none.
pub const DEFAULT_TENANT: &str = "default";

impl Default for TenantName {
    fn default() -> Self {
        Self(DEFAULT_TENANT.to_owned())
    }
}

/// A vm of the cluster: `tenant/name`, or `name` in the default tenant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VmId {
    tenant: TenantName,
    name: VmName,
}

impl VmId {
    /// Joins a tenant and a name.
    ///
    /// # Errors
    /// When the unit names made of them would be longer than systemd allows.
    pub fn new(tenant: TenantName, name: VmName) -> Result<Self, NameError> {
        let id = Self { tenant, name };
        if RunUnitName::of(&id).as_str().len() > UNIT_NAME_MAX {
            let (tenant, name) = (id.tenant.to_string(), id.name.to_string());
            return Err(NameError::UnitTooLong { tenant, name });
        }
        Ok(id)
    }

    /// The tenant.
    pub fn tenant(&self) -> &TenantName {
        &self.tenant
    }

    /// The name within the tenant.
    pub fn name(&self) -> &VmName {
        &self.name
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.tenant, self.name)
    }
}

impl FromStr for VmId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (tenant, name) = match text.split_once('/') {
            None => (TenantName::default(), text),
            Some((_, name)) if name.contains('/') => {
                return Err(NameError::Shape { text: text.to_owned() });
            }
            Some((tenant, name)) => (tenant.parse()?, name),
        };
        Self::new(tenant, name.parse()?)
    }
}

impl Serialize for VmId {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VmId {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A volume of a vm: `vm:volume`, with the vm as in [`VmId`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeId {
    /// The vm.
    pub vm: VmId,
    /// The volume's name in it.
    pub name: VolumeName,
}

impl fmt::Display for VolumeId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.vm, self.name)
    }
}

impl FromStr for VolumeId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let parts = text.split_once(':');
        let (vm, name) = parts.ok_or_else(|| NameError::VolumeShape { text: text.to_owned() })?;
        Ok(Self { vm: vm.parse()?, name: name.parse()? })
    }
}

impl Serialize for VolumeId {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VolumeId {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
