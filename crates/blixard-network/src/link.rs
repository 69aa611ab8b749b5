//! What `ip -json -details link show` prints of an interface.
//!
//! Owns: the mark, which is the interface's alias. Refuses to know: processes.

use blixard_core::ports::networks::NetworkError;
use blixard_types::VmId;
use serde::Deserialize;

/// What the alias of an interface of ours begins with; the vm follows.
const MARK: &str = "blixard:";

/// An interface of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) name: String,
    kind: String,
    vm: Option<VmId>,
}

#[derive(Debug, Deserialize)]
struct Printed {
    ifname: Option<String>,
    ifalias: Option<String>,
    linkinfo: Option<Info>,
}

#[derive(Debug, Deserialize)]
struct Info {
    info_kind: Option<String>,
}

impl Link {
    /// The vm that it was made for.
    pub(crate) fn vm(&self) -> Option<&VmId> {
        self.vm.as_ref()
    }

    pub(crate) fn is_bridge(&self) -> bool {
        self.kind == "bridge"
    }
}

/// The mark of a vm's interfaces.
pub(crate) fn mark(vm: &VmId) -> String {
    format!("{MARK}{vm}")
}

/// Reads what was printed. A host without any interface prints nothing, or empty objects.
pub(crate) fn parse(json: &str) -> Result<Vec<Link>, NetworkError> {
    let json = if json.trim().is_empty() { "[]" } else { json };
    let printed: Vec<Printed> =
        serde_json::from_str(json).map_err(|cause| NetworkError::List { reason: cause.to_string() })?;
    let link = |one: Printed| {
        let vm = one.ifalias.as_deref().and_then(|alias| alias.strip_prefix(MARK)?.parse().ok());
        let kind = one.linkinfo.and_then(|info| info.info_kind).unwrap_or_default();
        Some(Link { name: one.ifname?, kind, vm })
    };
    Ok(printed.into_iter().filter_map(link).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = r#"[
        {"ifindex":1,"ifname":"lo","flags":["LOOPBACK"],"mtu":65536},
        {"ifindex":2,"ifname":"br0","linkinfo":{"info_kind":"bridge","info_data":{"ageing_time":30000}}},
        {"ifindex":3,"ifname":"vm-a","ifalias":"blixard:shop/web","linkinfo":{"info_kind":"tun"}},
        {"ifindex":4,"ifname":"other","ifalias":"blixard:../x","linkinfo":{"info_kind":"tun"}},
        {}
    ]"#;

    #[test]
    fn an_interface_is_ours_by_its_alias_alone() {
        let links = parse(PRINTED).unwrap();
        let seen: Vec<_> = links
            .iter()
            .map(|link| {
                format!("{} {:?} {}", link.name, link.vm().map(ToString::to_string), link.is_bridge())
            })
            .collect();
        assert_eq!(
            seen,
            ["lo None false", "br0 None true", "vm-a Some(\"shop/web\") false", "other None false"]
        );
        assert_eq!(mark(&"shop/web".parse().unwrap()), "blixard:shop/web");
    }

    #[test]
    fn a_host_without_interfaces_has_none_and_nonsense_is_an_error() {
        assert_eq!(parse("").unwrap(), []);
        assert!(parse("nonsense").is_err());
    }
}
