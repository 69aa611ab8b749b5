use super::*;

const SLOT: &str = "slot";

fn entries() -> [Entry; 3] {
    let members = [(1, crate::Peer { name: "one".to_owned(), address: "[::1]:1".to_owned() })];
    let membership = Membership::new_with_defaults(vec![[1].into()], []);
    let named =
        Membership::new(vec![[1].into()], std::collections::BTreeMap::from(members)).unwrap_or(membership);
    [
        Entry { log_id: log_id(3, 7), payload: EntryPayload::Blank },
        Entry { log_id: log_id(3, 7), payload: EntryPayload::Normal(Cmd(Bytes::from_static(b"command"))) },
        Entry { log_id: log_id(3, 7), payload: EntryPayload::Membership(named) },
    ]
}

#[test]
fn an_entry_is_read_as_it_was_written() {
    for entry in entries() {
        let record = encode_entry(&entry).unwrap();
        assert_eq!(decode_entry(7, &record).unwrap(), entry);
    }
}

#[test]
fn the_notes_are_read_as_they_were_written() {
    for vote in [Vote::new(4, 2), Vote::new_committed(4, 2)] {
        assert_eq!(decode_vote(SLOT, &encode_vote(SLOT, &vote)).unwrap(), vote);
    }
    assert_eq!(decode_log_id(SLOT, &encode_log_id(SLOT, &log_id(5, 9))).unwrap(), log_id(5, 9));
    assert_eq!(decode_node(SLOT, &encode_node(SLOT, 3)).unwrap(), 3);
}

#[test]
fn every_flipped_bit_is_found() {
    for entry in entries() {
        let record = encode_entry(&entry).unwrap();
        for bit in 0..record.len() * 8 {
            let mut damaged = record.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            decode_entry(7, &damaged).unwrap_err();
        }
    }
}

#[test]
fn every_missing_end_is_found() {
    for entry in entries() {
        let record = encode_entry(&entry).unwrap();
        for length in 0..record.len() {
            decode_entry(7, &record[..length]).unwrap_err();
        }
    }
}

#[test]
fn a_record_in_the_place_of_another_is_found() {
    let [_, entry, _] = entries();
    let record = encode_entry(&entry).unwrap();
    assert!(matches!(decode_entry(8, &record), Err(BadRecord::Checksum)));
    let vote = encode_vote(SLOT, &Vote::new(4, 2));
    assert!(matches!(decode_vote("other", &vote), Err(BadRecord::Checksum)));
    assert!(matches!(decode_node(SLOT, &vote), Err(BadRecord::Kind { found: VOTE })));
}

#[test]
fn a_record_of_another_version_is_named_as_such() {
    let mut record = encode_node(SLOT, 3);
    record[0] = VERSION + 1;
    let refused = decode_node(SLOT, &record).unwrap_err();
    assert_eq!(refused.to_string(), "the record has format version 2, this program reads 1");
}
