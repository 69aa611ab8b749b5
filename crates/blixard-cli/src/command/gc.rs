//! `blixard gc`.

use blixard_proto::v1::store_service_client::StoreServiceClient;
use blixard_proto::v1::{CollectGarbageRequest, CollectGarbageResponse};
use serde::Serialize;

use super::{Session, request_id, waiting_call};
use crate::args::GcArgs;
use crate::error::Failure;
use crate::output::{Format, json};

/// A collection of a large store reads all of it.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(30);

/// What went, or would go.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Collected {
    node: String,
    dry_run: bool,
    forgotten: Vec<Forgotten>,
    paths: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Forgotten {
    vm: String,
    generation: u64,
    root: String,
    nar_size: u64,
}

pub(super) async fn run(session: &mut Session<'_>, args: &GcArgs) -> Result<(), Failure> {
    let mut client = StoreServiceClient::new(session.channel.clone());
    let request = CollectGarbageRequest {
        request_id: request_id()?.to_vec().into(),
        dry_run: args.dry_run,
        keep: args.keep,
    };
    let answer = client.collect_garbage(waiting_call(request, PATIENCE)).await?.into_inner();
    let collected = collected(answer, args.dry_run);
    match session.format {
        Format::Json => json::write(session.out, &collected),
        Format::Table => Ok(write(session.out, &collected)?),
    }
}

fn collected(answer: CollectGarbageResponse, dry_run: bool) -> Collected {
    let CollectGarbageResponse { node, forgotten, paths, bytes } = answer;
    let forgotten = forgotten.into_iter().map(|one| Forgotten {
        vm: one.vm,
        generation: one.generation,
        root: one.root,
        nar_size: one.nar_size,
    });
    Collected { node, dry_run, forgotten: forgotten.collect(), paths, bytes }
}

fn write(out: &mut dyn std::io::Write, collected: &Collected) -> std::io::Result<()> {
    let Collected { node, dry_run, forgotten, paths, bytes } = collected;
    let (forgets, removes) = if *dry_run { ("would forget", "would remove") } else { ("forgot", "removed") };
    for Forgotten { vm, generation, nar_size, .. } in forgotten {
        writeln!(out, "{forgets} generation {generation} of {vm}, a closure of {}", size(*nar_size))?;
    }
    let noun = if *paths == 1 { "path" } else { "paths" };
    writeln!(out, "{removes} {paths} {noun}, {}, from the store of {node}", size(*bytes))
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
    use super::*;

    #[test]
    fn what_went_is_said_with_sizes() {
        let one = Forgotten { vm: "shop/web".into(), generation: 3, root: String::new(), nar_size: 5 << 20 };
        let collected =
            Collected { node: "a".into(), dry_run: true, forgotten: vec![one], paths: 7, bytes: 3 << 29 };
        let mut out = Vec::new();
        write(&mut out, &collected).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "would forget generation 3 of shop/web, a closure of 5 MiB\n\
             would remove 7 paths, 1.5 GiB, from the store of a\n"
        );
        assert_eq!(size(1), "1 KiB");
    }
}
