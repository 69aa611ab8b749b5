//! Asking again, and giving up, with a log that answers from a script. Time is paused.

use std::collections::VecDeque;
use std::sync::Mutex;

use blixard_core::ports::members::Change;
use futures_util::stream;

use super::*;

type Answers = Mutex<VecDeque<Result<Applied, ProposeError>>>;

/// Leads or does not, and answers from a script; what comes after its end never comes.
struct Log {
    leader: Option<NodeId>,
    answers: Answers,
}

impl Log {
    fn new(leader: Option<u64>, answers: Vec<Result<Applied, ProposeError>>) -> Arc<Self> {
        Arc::new(Self { leader: leader.map(NodeId), answers: Mutex::new(answers.into()) })
    }

    fn left(&self) -> usize {
        self.answers.lock().unwrap().len()
    }
}

impl Consensus for Log {
    fn propose(&self, _: Vec<u8>) -> BoxFuture<'_, Result<Applied, ProposeError>> {
        let next = self.answers.lock().unwrap().pop_front();
        Box::pin(async move {
            match next {
                Some(answer) => answer,
                None => std::future::pending().await,
            }
        })
    }

    fn linearize(&self) -> BoxFuture<'_, Result<LogPosition, LinearizeError>> {
        Box::pin(std::future::ready(Err(LinearizeError::NoQuorum)))
    }

    fn linearize_by_lease(&self) -> BoxFuture<'_, Result<LogPosition, LinearizeError>> {
        self.linearize()
    }

    fn standing(&self) -> Standing {
        Standing { node: NodeId(1), leader: self.leader, change: Change::Settled, ..Standing::default() }
    }

    fn standings(&self) -> BoxStream<'static, Standing> {
        Box::pin(stream::pending())
    }
}

/// Nobody is there.
struct Nobody;

impl PeerChannels for Nobody {
    fn channel(&self, _: NodeId) -> BoxFuture<'_, Result<Channel, Status>> {
        Box::pin(std::future::ready(Err(Status::unavailable("nobody"))))
    }
}

async fn propose(log: &Arc<Log>) -> Result<Applied, ProposeError> {
    Forwarding::new(log.clone(), Arc::new(Nobody)).propose(b"command".to_vec()).await
}

#[tokio::test(start_paused = true)]
async fn a_command_is_proposed_again_until_its_outcome_is_known() {
    let lost = || Err(ProposeError::OutcomeUnknown);
    let deposed = || Err(ProposeError::NotLeader { leader: None });
    let applied = Applied { outcome: b"outcome".to_vec(), position: LogPosition { term: 2, index: 7 } };
    let log = Log::new(Some(1), vec![lost(), deposed(), lost(), Ok(applied.clone()), lost()]);
    assert_eq!(propose(&log).await, Ok(applied));
    assert_eq!(log.left(), 1, "and not once more");
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_not_proposed_again() {
    let too_large = ProposeError::TooLarge { size: 2, limit: 1 };
    let log = Log::new(Some(1), vec![Err(too_large.clone()), Err(ProposeError::NoQuorum)]);
    assert_eq!(propose(&log).await, Err(too_large));
    assert_eq!(log.left(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_a_majority_a_write_and_a_read_end_with_one_error() {
    // No leader; a leader that nobody follows and that does not know it yet; a leader out of reach.
    for leader in [None, Some(1), Some(2)] {
        let log = Log::new(leader, Vec::new());
        assert_eq!(propose(&log).await, Err(ProposeError::NoQuorum), "{leader:?}");
        let read = Forwarding::new(log.clone(), Arc::new(Nobody)).linearize().await;
        assert_eq!(read, Err(LinearizeError::NoQuorum), "{leader:?}");
    }
}
