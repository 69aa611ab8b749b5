//! `blixard gc`.

use blixard_proto::v1::store_service_client::StoreServiceClient;
use blixard_proto::v1::{CollectGarbageRequest, CollectGarbageResponse};
use serde::Serialize;

use super::{Session, request_id, waiting_call};
use crate::args::GcArgs;
use crate::error::{ErrorKind, Failure};
use crate::output::table::Table;
use crate::output::{Format, json, one_line};

/// A collection of a large store reads all of it.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(30);

/// What went, or would go.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Collected {
    dry_run: bool,
    forgotten: Vec<Forgotten>,
    /// In all stores.
    paths: u64,
    bytes: u64,
    stores: Vec<Store>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Forgotten {
    vm: String,
    generation: u64,
    root: String,
    nar_size: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Store {
    node: String,
    paths: u64,
    bytes: u64,
    /// Roots of forgotten generations that are still there.
    roots_left: u64,
    /// Why it was not collected; null if it was.
    failed: Option<String>,
}

pub(super) async fn run(session: &mut Session<'_>, args: &GcArgs) -> Result<(), Failure> {
    let mut client = StoreServiceClient::new(session.channel.clone());
    let request = CollectGarbageRequest {
        request_id: request_id()?.to_vec().into(),
        dry_run: args.dry_run,
        keep: args.keep,
        node: args.node.clone().unwrap_or_default(),
    };
    let answer = client.collect_garbage(waiting_call(request, PATIENCE)).await?.into_inner();
    let collected = collected(answer, args.dry_run);
    match session.format {
        Format::Json => json::write(session.out, &collected)?,
        Format::Table => write(session.out, &collected)?,
    }
    failure(&collected).map_or(Ok(()), Err)
}

fn collected(answer: CollectGarbageResponse, dry_run: bool) -> Collected {
    let CollectGarbageResponse { node: _, forgotten, paths, bytes, stores } = answer;
    let forgotten = forgotten.into_iter().map(|one| Forgotten {
        vm: one.vm,
        generation: one.generation,
        root: one.root,
        nar_size: one.nar_size,
    });
    let stores = stores.into_iter().map(|store| Store {
        node: store.node,
        paths: store.paths,
        bytes: store.bytes,
        roots_left: store.roots_left,
        failed: Some(store.failed).filter(|reason| !reason.is_empty()),
    });
    Collected { dry_run, forgotten: forgotten.collect(), paths, bytes, stores: stores.collect() }
}

fn write(out: &mut dyn std::io::Write, collected: &Collected) -> std::io::Result<()> {
    let Collected { dry_run, forgotten, paths, bytes, stores } = collected;
    let (forgets, removes) = if *dry_run { ("would forget", "WOULD REMOVE") } else { ("forgot", "REMOVED") };
    for Forgotten { vm, generation, nar_size, .. } in forgotten {
        writeln!(out, "{forgets} generation {generation} of {vm}, a closure of {}", size(*nar_size))?;
    }
    let mut table = Table::new(["NODE", removes, "SIZE", "NOTE"]);
    for store in stores {
        table.row(match &store.failed {
            Some(reason) => [store.node.clone(), "-".to_owned(), "-".to_owned(), one_line(reason)],
            None => [store.node.clone(), count(store.paths), size(store.bytes), note(store)],
        });
    }
    if stores.len() > 1 {
        table.row(["all".to_owned(), count(*paths), size(*bytes), String::new()]);
    }
    table.write(out)
}

fn count(paths: u64) -> String {
    if paths == 1 { "1 path".to_owned() } else { format!("{paths} paths") }
}

fn note(store: &Store) -> String {
    match store.roots_left {
        0 => String::new(),
        1 => "the root of 1 forgotten generation is still there".to_owned(),
        left => format!("the roots of {left} forgotten generations are still there"),
    }
}

/// A store that was not collected, or not wholly.
fn failure(collected: &Collected) -> Option<Failure> {
    let failed: Vec<_> = collected.stores.iter().filter(|store| store.failed.is_some()).collect();
    if let [first, others @ ..] = failed.as_slice() {
        let names = others.iter().fold(first.node.clone(), |names, store| names + ", " + &store.node);
        let done = if collected.dry_run { "it is not known what would go from" } else { "not collected:" };
        let error = std::io::Error::other(format!("{done} {names}"));
        return Some(
            Failure::new(ErrorKind::Unreachable, error).hint("`blixard gc --node NAME` does one node"),
        );
    }
    let left = collected.stores.iter().find(|store| store.roots_left > 0)?;
    let error = std::io::Error::other(format!("what was forgotten is still kept on {}", left.node));
    let hint = format!("`blixard gc --node {}` collects it once its daemon has let go", left.node);
    Some(Failure::new(ErrorKind::NotThere, error).hint(hint))
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes.div_ceil(1 << 10)),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes.div_ceil(1 << 20)),
        _ => format!("{}.{} GiB", bytes >> 30, ((bytes & ((1 << 30) - 1)) * 10) >> 30),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn store(node: &str, paths: u64, bytes: u64) -> Store {
        Store { node: node.to_owned(), paths, bytes, roots_left: 0, failed: None }
    }

    fn shown(collected: &Collected) -> String {
        let mut out = Vec::new();
        write(&mut out, collected).unwrap();
        if let Some(failure) = failure(collected) {
            writeln!(out, "exit {}", failure.kind.exit_code()).unwrap();
            failure.render(&mut out).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_went_is_said_by_node_with_sizes_and_who_did_not_answer() {
        let one = Forgotten { vm: "shop/web".into(), generation: 3, root: String::new(), nar_size: 5 << 20 };
        let gone = Store { failed: Some("node 3 cannot\nbe reached".to_owned()), ..store("c", 0, 0) };
        let stores = vec![store("a", 7, 3 << 29), store("b", 1, 1), gone];
        let mut collected =
            Collected { dry_run: true, forgotten: vec![one], paths: 8, bytes: (3 << 29) + 1, stores };
        insta::assert_snapshot!(shown(&collected), @"
        would forget generation 3 of shop/web, a closure of 5 MiB
        NODE   WOULD REMOVE   SIZE      NOTE
        a      7 paths        1.5 GiB
        b      1 path         1 KiB
        c      -              -         node 3 cannot be reached
        all    8 paths        1.5 GiB
        exit 3
        error: it is not known what would go from c
        hint: `blixard gc --node NAME` does one node
        ");
        collected.dry_run = false;
        collected.stores.truncate(1);
        collected.stores[0].roots_left = 2;
        insta::assert_snapshot!(shown(&collected), @"
        forgot generation 3 of shop/web, a closure of 5 MiB
        NODE   REMOVED   SIZE      NOTE
        a      7 paths   1.5 GiB   the roots of 2 forgotten generations are still there
        exit 8
        error: what was forgotten is still kept on a
        hint: `blixard gc --node a` collects it once its daemon has let go
        ");
        collected.stores[0].roots_left = 0;
        collected.forgotten.clear();
        insta::assert_snapshot!(shown(&collected), @"
        NODE   REMOVED   SIZE      NOTE
        a      7 paths   1.5 GiB
        ");
    }
}
