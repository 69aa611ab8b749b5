//! Reports, with a log that has no room for them, or that refuses them. Time is paused.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Mutex;

use blixard_core::command::Outcome;
use blixard_core::ports::consensus::{Applied, Consensus, ProposeError, Standing};
use blixard_core::ports::{BootMillis, BoxFuture, BoxStream, Clock, Entropy, RawMillis, UnixMillis};
use blixard_core::state::{NodeFacts, Terms, VmReport};
use blixard_proto::{decode_envelope, encode_outcome};
use blixard_types::{DaemonId, Epoch, LogPosition, NodeId, RequestId};
use futures_util::stream;

use super::*;

/// Answers from a script, and keeps the ids of the calls.
struct Log {
    outcomes: Mutex<VecDeque<Result<Outcome, Rejection>>>,
    asked: Mutex<Vec<RequestId>>,
}

impl Consensus for Log {
    fn propose(&self, command: Vec<u8>) -> BoxFuture<'_, Result<Applied, ProposeError>> {
        self.asked.lock().unwrap().push(decode_envelope(&command).unwrap().request);
        let outcome = self.outcomes.lock().unwrap().pop_front();
        let position = LogPosition { term: 1, index: 1 };
        let applied = outcome.map(|outcome| Applied { outcome: encode_outcome(&outcome).unwrap(), position });
        Box::pin(std::future::ready(applied.ok_or(ProposeError::NoQuorum)))
    }

    fn linearize(&self) -> BoxFuture<'_, Result<LogPosition, LinearizeError>> {
        Box::pin(std::future::ready(Err(LinearizeError::NoQuorum)))
    }

    fn linearize_by_lease(&self) -> BoxFuture<'_, Result<LogPosition, LinearizeError>> {
        self.linearize()
    }

    fn standing(&self) -> Standing {
        Standing::default()
    }

    fn standings(&self) -> BoxStream<'static, Standing> {
        Box::pin(stream::pending())
    }
}

/// A clock that stands.
struct Still;

/// Numbers that are never the same.
#[derive(Default)]
struct Counter(Mutex<u8>);

impl Clock for Still {
    fn wall(&self) -> UnixMillis {
        UnixMillis(1)
    }

    fn boot(&self) -> BootMillis {
        BootMillis(1)
    }

    fn raw(&self) -> RawMillis {
        RawMillis(1)
    }
}

impl Entropy for Counter {
    fn id(&self) -> [u8; 16] {
        let mut next = self.0.lock().unwrap();
        *next += 1;
        [*next - 1; 16]
    }
}

fn facts() -> NodeFacts {
    NodeFacts {
        cpus: 1,
        memory_mib: 1024,
        system: "x86_64-linux".to_owned(),
        kvm: false,
        kernel: String::new(),
        version: String::new(),
        disk_mib: None,
        hypervisors: BTreeSet::new(),
        nix_version: String::new(),
        terms: Terms::default(),
        shared: BTreeMap::new(),
    }
}

/// What a host is answered to a report, and with which ids the log was asked.
async fn reported(
    outcomes: Vec<Result<Outcome, Rejection>>,
) -> (Result<ReportAnswer, tonic::Code>, Vec<RequestId>) {
    let log = Arc::new(Log { outcomes: Mutex::new(outcomes.into()), asked: Mutex::default() });
    let proposer = Proposer::new(log.clone(), Arc::new(Still), Arc::new(Counter::default()));
    let (node, daemon) = (NodeId(1), DaemonId([7; 16]));
    let facts = facts();
    let hello = Hello { node, daemon, boot: "boot".to_owned(), facts };
    let report =
        HostReport { sequence: 5, vm: "web".parse().unwrap(), epoch: Epoch(3), report: VmReport::Stopped };
    let answer = propose_report(&proposer, &hello, report).await.map_err(|status| status.code());
    let asked = log.asked.lock().unwrap().clone();
    (answer, asked)
}

#[tokio::test(start_paused = true)]
async fn a_report_that_finds_no_room_is_made_again_as_the_same_call_until_there_is() {
    let full = || Err(Rejection::TooManyCalls);

    let (answer, asked) = reported(vec![full(), full(), full(), Ok(Outcome::Unchanged)]).await;

    assert_eq!(answer, Ok(ReportAnswer { sequence: 5, refusal: String::new() }));
    assert_eq!(asked, [RequestId([0; 16]); 4]);
}

#[tokio::test(start_paused = true)]
async fn a_report_that_an_invariant_forbids_is_answered_with_that_and_not_made_again() {
    let stale = Rejection::StaleSession { node: NodeId(1) };

    let (answer, asked) = reported(vec![Err(Rejection::TooManyCalls), Err(stale.clone())]).await;

    assert_eq!(answer, Ok(ReportAnswer { sequence: 5, refusal: stale.to_string() }));
    assert_eq!(asked.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_report_that_the_log_does_not_take_ends_the_stream_so_that_the_host_makes_it_elsewhere() {
    let (answer, asked) = reported(Vec::new()).await;

    assert_eq!((answer, asked.len()), (Err(tonic::Code::Unavailable), 1));
}
