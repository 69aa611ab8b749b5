//! The layers: dependencies point down only.
//!
//! ```text
//! apps ──▶ services ──▶ adapters ──▶ core ──▶ types        tooling may look at all, nobody ships it
//! ```
//!
//! Beside the direction: adapters know no adapter but `blixard-proto`, services do not know each other,
//! and core and types have no crate that brings a clock, a runtime, a network or a disk.

use super::Finding;
use super::manifest::Manifest;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Layer {
    Types,
    Core,
    Adapter,
    Service,
    App,
    Tooling,
}

/// Where each crate is. A crate that is not here is a finding: it has to be somewhere.
const LAYERS: &[(&str, Layer)] = &[
    ("blixard-types", Layer::Types),
    ("blixard-core", Layer::Core),
    ("blixard-raft", Layer::Adapter),
    ("blixard-network", Layer::Adapter),
    ("blixard-nix", Layer::Adapter),
    ("blixard-closure", Layer::Adapter),
    ("blixard-systemd", Layer::Adapter),
    ("blixard-volume", Layer::Adapter),
    ("blixard-proto", Layer::Adapter),
    ("blixard-pki", Layer::Adapter),
    ("blixard-peer", Layer::Adapter),
    ("blixard-server", Layer::Service),
    ("blixard-host", Layer::Service),
    ("blixardd", Layer::App),
    ("blixard-cli", Layer::App),
    ("blixard-lease", Layer::App),
    ("blixard-testkit", Layer::Tooling),
    ("blixard-bench", Layer::Tooling),
    ("blixard-sim", Layer::Tooling),
    ("blixard-closure-lab", Layer::Tooling),
    ("xtask", Layer::Tooling),
];

/// The one adapter that adapters may know: the generated code and its conversions.
const SHARED_ADAPTER: &str = "blixard-proto";

/// What core and types may not have.
const IMPURE: [&str; 5] = ["tokio", "rand", "tonic", "zbus", "openraft"];

fn layer_of(name: &str) -> Option<Layer> {
    LAYERS.iter().find(|(known, _)| *known == name).map(|(_, layer)| *layer)
}

/// Checks the edges between these crates.
pub(super) fn check(manifests: &[Manifest]) -> Vec<Finding> {
    manifests.iter().flat_map(check_one).collect()
}

fn check_one(manifest: &Manifest) -> Vec<Finding> {
    let finding = |reason: String| Finding { file: manifest.file.clone(), rule: "layers", reason };
    let name = &manifest.name;
    let Some(layer) = layer_of(name) else {
        return vec![finding(format!(
            "{name} is in no layer; add it to the table in xtask's tidy/layers.rs"
        ))];
    };
    let ours = |need: &String| Some((need.clone(), layer_of(need)?));
    let edges = manifest.needs.iter().filter_map(ours).filter_map(|(need, below)| {
        let why = broken_edge(layer, &need, below)?;
        Some(finding(format!("{name} ({layer:?}) depends on {need} ({below:?}): {why}")))
    });
    let impure = manifest.needs.iter().filter(|need| layer <= Layer::Core && IMPURE.contains(&need.as_str()));
    let impure = impure.map(|need| {
        finding(format!(
            "{name} ({layer:?}) depends on {need}: what decides is pure, so that it can be replayed"
        ))
    });
    edges.chain(impure).collect()
}

/// Why a crate of layer `from` may not depend on `need`, which is in layer `to`.
fn broken_edge(from: Layer, need: &str, to: Layer) -> Option<&'static str> {
    match (from, to) {
        (Layer::Tooling, _) => None,
        (_, Layer::Tooling) => Some("tooling is part of no shipped binary; make it a dev-dependency"),
        _ if from > to => None,
        (Layer::Adapter, Layer::Adapter) if need == SHARED_ADAPTER => None,
        (Layer::Adapter, Layer::Adapter) => Some("an adapter knows one outside thing, and no other adapter"),
        (Layer::Service, Layer::Service) => Some("services do not know each other; both speak blixard-proto"),
        (Layer::App, Layer::App) => Some("an app is composed of lower layers, not of other apps"),
        _ => Some("dependencies point down only"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(name: &str, needs: &[&str]) -> Vec<String> {
        let manifest = Manifest {
            file: format!("crates/{name}/Cargo.toml"),
            name: name.to_owned(),
            needs: needs.iter().map(|need| (*need).to_owned()).collect(),
            ..Manifest::default()
        };
        check(&[manifest]).into_iter().map(|finding| finding.reason).collect()
    }

    #[test]
    fn an_upward_edge_fails_and_names_both_crates_and_layers() {
        assert_eq!(
            reasons("blixard-core", &["blixard-types", "blixard-raft"]),
            ["blixard-core (Core) depends on blixard-raft (Adapter): dependencies point down only"]
        );
        assert_eq!(
            reasons("blixard-nix", &["blixard-host"]),
            ["blixard-nix (Adapter) depends on blixard-host (Service): dependencies point down only"]
        );
    }

    #[test]
    fn edges_that_point_down_are_as_they_should_be() {
        assert!(reasons("blixard-core", &["blixard-types", "serde"]).is_empty());
        assert!(reasons("blixard-raft", &["blixard-core", "tokio", "openraft"]).is_empty());
        assert!(reasons("blixardd", &["blixard-server", "blixard-host", "blixard-raft"]).is_empty());
        assert!(reasons("xtask", &["blixard-testkit", "blixardd"]).is_empty());
    }

    #[test]
    fn an_adapter_knows_no_other_adapter_but_the_proto() {
        assert!(reasons("blixard-raft", &["blixard-proto"]).is_empty());
        assert_eq!(reasons("blixard-raft", &["blixard-nix"]).len(), 1);
    }

    #[test]
    fn services_and_apps_do_not_know_their_like() {
        assert_eq!(reasons("blixard-server", &["blixard-host"]).len(), 1);
        assert_eq!(reasons("blixardd", &["blixard-cli"]).len(), 1);
    }

    #[test]
    fn tooling_is_shipped_by_nobody() {
        for shipped in ["blixard-types", "blixard-server", "blixardd"] {
            assert_eq!(reasons(shipped, &["blixard-testkit"]).len(), 1, "{shipped}");
        }
    }

    #[test]
    fn what_decides_has_no_clock_runtime_network_or_disk() {
        for crate_name in ["blixard-core", "blixard-types"] {
            assert_eq!(reasons(crate_name, &["tokio", "rand"]).len(), 2, "{crate_name}");
        }
    }

    #[test]
    fn a_crate_outside_the_table_is_found() {
        assert_eq!(reasons("blixard-new", &[]).len(), 1);
    }
}
