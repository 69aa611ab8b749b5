//! What is litter, and how long what may be in the log stays. Time is paused.

use blixard_core::ports::BoxStream;
use blixard_core::ports::consensus::{Applied, LinearizeError, ProposeError, Standing};
use blixard_core::roots::{build_root, generation_root, upload_root};
use blixard_types::{GenerationNumber, LogPosition};
use futures_util::future::BoxFuture;
use futures_util::stream;
use tokio::time::Instant;

use super::*;

#[test]
fn roots_go_with_what_needed_them_and_those_of_hosts_are_left_alone() {
    let vm: VmId = "default/web".parse().unwrap();
    let (kept, flying, over) = (DeploymentId([1; 16]), DeploymentId([2; 16]), DeploymentId([3; 16]));
    let builds = BuildsInFlight::default();
    let build = builds.begin(flying);
    let upload = builds.begin_upload(UploadId([4; 16]));
    let needed = BTreeSet::from([(kept, vm.clone())]);
    let source = "/nix/store/f6jk96ama4nm1qmqckjx98kq8k38j8ag-source".parse().unwrap();
    let names = [
        build_root(kept, &vm),
        build_root(flying, &vm),
        build_root(over, &vm),
        upload_root(UploadId([4; 16]), &source),
        upload_root(UploadId([5; 16]), &source),
        generation_root(&vm, GenerationNumber(1)),
    ];
    let litter = || {
        let work = builds.work().clone();
        names.iter().map(|name| is_litter(name, &needed, &work)).collect::<Vec<_>>()
    };
    assert_eq!(litter(), [false, false, true, false, true, false]);
    drop((build, upload));
    assert_eq!(litter(), [false, true, true, true, true, false]);
}

/// A majority answers from then on.
struct CutOffUntil(Instant);

impl Consensus for CutOffUntil {
    fn propose(&self, _: Vec<u8>) -> BoxFuture<'_, Result<Applied, ProposeError>> {
        Box::pin(std::future::ready(Err(ProposeError::NoQuorum)))
    }

    fn linearize(&self) -> BoxFuture<'_, Result<LogPosition, LinearizeError>> {
        let answers = Instant::now() >= self.0;
        let position = LogPosition { term: 2, index: 7 };
        Box::pin(std::future::ready(if answers { Ok(position) } else { Err(LinearizeError::NoQuorum) }))
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

#[tokio::test(start_paused = true)]
async fn the_roots_of_what_may_be_in_the_log_stay_until_no_repetition_of_it_can_come() {
    let builds = BuildsInFlight::default();
    let (began, away) = (Instant::now(), Duration::from_mins(10));
    builds.begin(DeploymentId([1; 16])).linger(Arc::new(CutOffUntil(began + away)));
    builds.0.ended.notified().await;
    assert!(began.elapsed() >= away + REPEATED_WITHIN, "{:?}", began.elapsed());
    assert!(builds.work().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_begun_is_seen_to_its_end_when_nobody_waits_for_it() {
    let builds = BuildsInFlight::default();
    let guard = builds.begin(DeploymentId([1; 16]));
    let (go_on, told) = oneshot::channel::<()>();
    drop(builds.see_through(async move {
        let _ = told.await;
        drop(guard);
    }));
    assert!(!builds.work().is_empty());
    go_on.send(()).unwrap();
    builds.0.ended.notified().await;
    assert!(builds.work().is_empty());
    assert_eq!(builds.see_through(async { 7 }).await, Ok(7));
}
