use proptest::prelude::*;

use super::frame::{put, read};
use super::*;

#[test]
fn every_order_reads_back() {
    let orders = [
        Order::Closure(b"root digest"),
        Order::Record(b"record"),
        Order::Check,
        Order::Begin(70_000),
        Order::Piece(Piece::Directory { name: b"" }),
        Order::Piece(Piece::Up),
        Order::Piece(Piece::File { name: b"a", executable: true, size: u64::MAX }),
        Order::Piece(Piece::Data(b"bytes")),
        Order::Piece(Piece::Symlink { name: b"n", target: b"target" }),
        Order::End,
        Order::Abort,
        Order::Register,
    ];
    let mut bytes = Vec::new();
    for order in orders {
        put(&mut bytes, 7, order);
    }
    let (mut input, mut buffer) = (&bytes[..], Vec::new());
    for order in orders {
        assert_eq!(read(&mut input, &mut buffer).unwrap(), Some((7, order)));
    }
    assert_eq!(read(&mut input, &mut buffer).unwrap(), None);
}

#[test]
fn what_is_no_frame_is_refused() {
    for bytes in [&b"x\0\0\0\0\0"[..], b"b\0\x01\0\0\0z", b"f\0\x01\0\0\0\x01", b"l\0\x05\0\0\0\xff\0\0\0a"] {
        assert!(read(&mut &bytes[..], &mut Vec::new()).is_err(), "{bytes:?}");
    }
    assert!(read(&mut &b"D\0\xff\xff\xff\xff"[..], &mut Vec::new()).is_err(), "4 GiB");
    assert!(read(&mut &b"D\0\x02\0\0\0a"[..], &mut Vec::new()).is_err(), "cut");
    assert!(read(&mut &b"D\0"[..], &mut Vec::new()).is_err(), "cut in the header");
}

#[test]
fn every_answer_is_one_line_and_reads_back() {
    let answers = [
        Answer::Missing { free: 12, paths: vec![0, 5, 9] },
        Answer::Missing { free: 12, paths: vec![] },
        Answer::Landed { lane: 3, path: 9 },
        Answer::Refused { lane: 3, path: 9, reason: "other bytes than it says".to_owned() },
        Answer::Registered,
        Answer::Failed { reason: "no space".to_owned() },
    ];
    for answer in answers {
        assert_eq!(Answer::parse(&answer.to_string()), Some(answer));
    }
    let two = Answer::Failed { reason: "a\nlanded 1 2".to_owned() };
    assert!(!two.to_string().contains('\n'));
    for line in ["", "landed", "landed 1", "landed 300 1", "missing", "missing x", "registered 1", "other"] {
        assert_eq!(Answer::parse(line), None, "{line:?}");
    }
}

proptest! {
    #[test]
    fn reading_noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut buffer = Vec::new();
        let mut input = &bytes[..];
        while let Ok(Some(_)) = read(&mut input, &mut buffer) {}
        let _ = Answer::parse(&String::from_utf8_lossy(&bytes));
    }
}
