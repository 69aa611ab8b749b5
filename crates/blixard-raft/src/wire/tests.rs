//! Messages survive the wire, and what is not a message is refused.

use blixard_types::NodeId;

use super::*;
use crate::types::{Membership, Peer};

const ROUTE: Route = Route { from: 1, to: 2 };

fn append() -> AppendEntriesRequest<TypeConfig> {
    let nodes = [(1, Peer { name: "one".to_owned(), address: "10.0.0.1:1".to_owned() })];
    let membership =
        Membership::new(vec![[1].into()], nodes.into_iter().collect::<std::collections::BTreeMap<_, _>>());
    let payloads = [
        EntryPayload::Blank,
        EntryPayload::Normal(Cmd(Bytes::from_static(b"command"))),
        EntryPayload::Normal(Cmd(Bytes::new())),
        EntryPayload::Membership(membership.unwrap()),
    ];
    let entries = (8..).zip(payloads).map(|(index, payload)| Entry { log_id: log_id(3, index), payload });
    AppendEntriesRequest {
        vote: Vote::new_committed(3, 1),
        prev_log_id: Some(log_id(2, 7)),
        entries: entries.collect(),
        leader_commit: None,
    }
}

/// Sends a message both ways.
fn sent<M: Message>(message: &M) -> (M, M) {
    let request = read_request(2, request(ROUTE, message).unwrap()).unwrap();
    (request, read_answer(answer(message).unwrap()).unwrap())
}

#[test]
fn every_message_arrives_as_it_was_sent() {
    let (request, again) = sent(&append());
    assert_eq!(format!("{request:?}"), format!("{:?}", append()));
    assert_eq!(request.entries, again.entries);

    for vote in [Vote::new(4, 2), Vote::new_committed(5, 3)] {
        assert_eq!(sent(&vote), (vote, vote));
        let mut request = VoteRequest::new(vote, Some(log_id(1, 1)));
        request.leadership_transfer = true;
        assert_eq!(sent(&request).0, request);
        let response = VoteResponse::new(vote, None, true);
        assert_eq!(sent(&response).0, response);
        let transfer = TransferLeaderRequest::new(vote, 3, Some(log_id(4, 4)));
        assert_eq!(sent(&transfer).0, transfer);
        let answers: [StreamAppendResult<TypeConfig>; 4] = [
            Ok(None),
            Ok(Some(log_id(1, 2))),
            Err(StreamAppendError::Conflict(log_id(1, 1))),
            Err(StreamAppendError::HigherVote(vote)),
        ];
        for answer in answers {
            assert_eq!(sent(&answer).0, answer);
        }
        let transferred: [TransferLeaderResponse<TypeConfig>; 3] = [
            Ok(()),
            Err(TransferLeaderError::VoteChanged { expected: vote, actual: Vote::new(7, 7) }),
            Err(TransferLeaderError::LogNotFlushed { expected: Some(log_id(1, 1)), actual: None }),
        ];
        for response in transferred {
            assert_eq!(sent(&response).0, response);
        }
    }
}

#[test]
fn a_message_for_another_node_is_refused() {
    let bytes = request(ROUTE, &append()).unwrap();
    let refused = read_request::<AppendEntriesRequest<TypeConfig>>(3, bytes).unwrap_err();
    assert_eq!(refused, PeerRefusal::NotThisNode { this: NodeId(3), meant: NodeId(2) });
}

#[test]
fn a_message_of_another_version_is_refused() {
    let mut bytes = request(ROUTE, &append()).unwrap().to_vec();
    bytes[0] = 2;
    let refused = read_request::<AppendEntriesRequest<TypeConfig>>(2, bytes.into()).unwrap_err();
    let reason = "it has version 2, this program reads 1".to_owned();
    assert_eq!(refused, PeerRefusal::BadMessage { reason });
}

#[test]
fn a_message_that_is_cut_short_anywhere_is_refused() {
    let whole = request(ROUTE, &append()).unwrap();
    for length in 0..whole.len() {
        let cut = whole.slice(..length);
        let refused = read_request::<AppendEntriesRequest<TypeConfig>>(2, cut);
        assert!(matches!(refused, Err(PeerRefusal::BadMessage { .. })), "{length}: {refused:?}");
    }
    let mut longer = whole.to_vec();
    longer.push(0);
    assert!(read_request::<AppendEntriesRequest<TypeConfig>>(2, longer.into()).is_err());
}

#[test]
fn a_count_that_is_claimed_reserves_no_memory() {
    let mut bytes = request(ROUTE, &AppendEntriesRequest { entries: vec![], ..append() }).unwrap().to_vec();
    let count = bytes.len() - 4;
    bytes[count..].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(read_request::<AppendEntriesRequest<TypeConfig>>(2, bytes.into()).is_err());
}

#[test]
fn entries_that_do_not_follow_what_is_said_to_be_before_them_are_refused() {
    for (before, first) in [(Some(7), 9), (Some(7), 7), (None, 1), (Some(u64::MAX), 0), (Some(7), u64::MAX)] {
        let mut entries = append().entries;
        entries[0].log_id.index = first;
        let message =
            AppendEntriesRequest { prev_log_id: before.map(|index| log_id(2, index)), entries, ..append() };
        let bytes = request(ROUTE, &message).unwrap();
        let refused = read_request::<AppendEntriesRequest<TypeConfig>>(2, bytes).unwrap_err();
        let PeerRefusal::BadMessage { reason } = refused else { panic!("{refused:?}") };
        assert!(reason.contains("does not follow"), "{reason}");
    }
    // The last index there is has none after it.
    let message = AppendEntriesRequest { prev_log_id: Some(log_id(2, u64::MAX - 1)), ..append() };
    let mut entries = message.entries.clone();
    entries[0].log_id.index = u64::MAX;
    let bytes = request(ROUTE, &AppendEntriesRequest { entries, ..message }).unwrap();
    assert!(read_request::<AppendEntriesRequest<TypeConfig>>(2, bytes).is_err());
}
