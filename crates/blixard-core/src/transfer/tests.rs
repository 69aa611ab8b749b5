use proptest::prelude::*;

use super::*;

const A: PeerIndex = PeerIndex(0);
const B: PeerIndex = PeerIndex(1);

fn broken() -> PeerFault {
    PeerFault::Broken("reset".to_owned())
}

#[test]
fn the_largest_path_is_asked_for_first_and_each_of_one_peer_only() {
    let mut transfer = Transfer::new([(0, 10), (1, 30), (2, 20)], 2);
    assert_eq!(transfer.ask(A), Ask::Path(1));
    assert_eq!(transfer.ask(B), Ask::Path(2));
    assert_eq!(transfer.ask(B), Ask::Path(0));
    assert_eq!(transfer.ask(A), Ask::Nothing);
}

#[test]
fn no_more_is_asked_ahead_than_the_window_but_one_path_always_is() {
    let mut transfer = Transfer::new([(0, WINDOW_BYTES * 3), (1, WINDOW_BYTES), (2, 1)], 1);
    assert_eq!(transfer.ask(A), Ask::Path(0));
    assert_eq!(transfer.ask(A), Ask::Full);
    transfer.landed(A, 0);
    assert_eq!(transfer.ask(A), Ask::Path(1));
    assert_eq!(transfer.ask(A), Ask::Full);
    let mut many = Transfer::new((0..1000).map(|path| (path, 0)), 1);
    let asked = std::iter::from_fn(|| match many.ask(A) {
        Ask::Path(path) => Some(path),
        _ => None,
    });
    assert_eq!(asked.count(), WINDOW_PATHS);
}

#[test]
fn a_closure_that_one_could_bring_is_shared_by_all_peers_until_one_is_dropped() {
    let mut transfer = Transfer::new((0..12).map(|path| (path, 1 << 18)), 2);
    let ask_all = |transfer: &mut Transfer, peer| {
        std::iter::from_fn(|| matches!(transfer.ask(peer), Ask::Path(_)).then_some(())).count()
    };
    assert_eq!(ask_all(&mut transfer, B), 6);
    assert_eq!(ask_all(&mut transfer, A), 6);
    transfer.parted(A, PeerFault::Lied("another hash".to_owned()));
    assert_eq!(ask_all(&mut transfer, B), 6);
}

#[test]
fn what_was_asked_of_a_peer_that_parts_is_asked_of_another() {
    let mut transfer = Transfer::new([(0, 10), (1, 30)], 2);
    assert_eq!((transfer.ask(A), transfer.ask(B)), (Ask::Path(1), Ask::Path(0)));
    assert_eq!(transfer.ask(B), Ask::Nothing);
    assert_eq!(transfer.parted(A, broken()), Parting::Again { after_ms: 500 });
    transfer.landed(B, 0);
    assert_eq!(transfer.ask(B), Ask::Path(1));
    transfer.landed(B, 1);
    assert_eq!(transfer.ask(A), Ask::Done);
    assert_eq!(transfer.progress(), Progress { paths: (2, 2), bytes: (40, 40) });
}

#[test]
fn a_peer_that_lies_is_never_asked_again() {
    let mut transfer = Transfer::new([(0, 10)], 2);
    transfer.ask(A);
    let lie = PeerFault::Lied("another hash".to_owned());
    assert_eq!(transfer.parted(A, lie.clone()), Parting::Dropped);
    assert_eq!(transfer.ask(A), Ask::Nothing);
    assert_eq!(transfer.hopeless(), None);
    transfer.ask(B);
    transfer.parted(B, lie.clone());
    assert_eq!(transfer.hopeless(), Some(vec![(A, lie.clone()), (B, lie)]));
}

#[test]
fn a_peer_that_breaks_without_delivering_is_dropped_and_one_that_delivers_is_not() {
    let mut transfer = Transfer::new((0..20).map(|path| (path, 1)), 1);
    for _ in 0..10 {
        let Ask::Path(path) = transfer.ask(A) else { panic!("nothing to ask for") };
        transfer.landed(A, path);
        transfer.ask(A);
        assert_ne!(transfer.parted(A, broken()), Parting::Dropped);
    }
    for _ in 1..TRIES - 1 {
        assert_ne!(transfer.parted(A, broken()), Parting::Dropped);
    }
    assert_eq!(transfer.parted(A, broken()), Parting::Dropped);
    assert!(transfer.hopeless().is_some());
}

#[test]
fn a_path_lands_once_and_is_then_asked_of_nobody_whoever_brought_it() {
    let mut transfer = Transfer::new([(0, 10), (1, 5)], 2);
    transfer.ask(A);
    transfer.parted(A, broken());
    assert_eq!(transfer.ask(B), Ask::Path(0));
    // The first peer's bytes were on their way when it broke.
    transfer.landed(A, 0);
    transfer.landed(B, 0);
    transfer.landed(B, 7);
    assert_eq!(transfer.progress(), Progress { paths: (1, 2), bytes: (10, 15) });
    transfer.landed(A, 1);
    assert_eq!((transfer.ask(A), transfer.ask(B)), (Ask::Done, Ask::Done));
}

#[test]
fn nothing_missing_is_done_and_fits_anywhere() {
    let mut transfer = Transfer::new([], 0);
    assert_eq!(transfer.ask(A), Ask::Done);
    assert_eq!(transfer.hopeless(), None);
    assert_eq!(check_room(0, 0, 0), Ok(()));
}

#[test]
fn what_does_not_fit_is_refused_with_the_numbers() {
    assert_eq!(check_room(2, 100 << 20, 200 << 20), Ok(()));
    let refused = check_room(2, 100 << 20, 164 << 20).unwrap_err();
    assert_eq!((refused.paths, refused.missing, refused.free), (2, 100 << 20, 164 << 20));
    assert!(refused.to_string().contains("100 MiB are missing, which takes 165 MiB"), "{refused}");
    assert!(check_room(u64::MAX, u64::MAX, u64::MAX - 1).is_err());
}

#[test]
fn only_what_a_root_keeps_is_served() {
    let path = |name: &str| crate::fixture::store_path(name);
    let roots = [(RootName("vms/default/web/1".to_owned()), path("a"))];
    assert!(may_serve(&roots, &path("a")) && !may_serve(&roots, &path("b")));
}

#[test]
fn a_pace_lets_as_much_through_as_it_says_and_saves_nothing_up() {
    let mut pace = Pace::new(1_000_000);
    let mut now = 5_000;
    for _ in 0..100 {
        now += pace.take(50_000, BootMillis(now));
    }
    assert!((5_000 + 4_900..=5_000 + 5_100).contains(&now), "{now}");
    assert_eq!(pace.take(1_000_000, BootMillis(now + 60_000)), 0, "the pause is over");
    assert_eq!(pace.take(1, BootMillis(now + 60_000)), 1000, "a long silence allows no burst");
}

proptest! {
    /// Whatever peers do, a path is asked of one peer at a time, and as long as one peer neither lies
    /// nor breaks for ever everything lands.
    #[test]
    fn everything_lands_if_one_peer_is_good(
        sizes in proptest::collection::vec(0..3 * WINDOW_BYTES, 1..40),
        script in proptest::collection::vec((0..3_usize, 0..4_u8), 0..200),
    ) {
        let count = sizes.len() as u64;
        let mut transfer = Transfer::new((0..).zip(sizes), 4);
        let good = PeerIndex(3);
        let mut asked: BTreeMap<PathIndex, PeerIndex> = BTreeMap::new();
        for (peer, what) in script {
            let peer = PeerIndex(peer);
            match what {
                0 | 1 => if let Ask::Path(path) = transfer.ask(peer) {
                    prop_assert_eq!(asked.insert(path, peer), None);
                },
                2 => if let Some((&path, _)) = asked.iter().find(|(_, of)| **of == peer) {
                    transfer.landed(peer, path);
                },
                _ => {
                    transfer.parted(peer, broken());
                    let progress = transfer.progress().paths.0;
                    asked.retain(|_, of| *of != peer);
                    prop_assert!(progress <= count);
                }
            }
        }
        for peer in 0..3 {
            transfer.parted(PeerIndex(peer), PeerFault::Lied(String::new()));
        }
        prop_assert_eq!(transfer.hopeless(), None);
        while let Ask::Path(path) = transfer.ask(good) {
            transfer.landed(good, path);
        }
        prop_assert!(transfer.is_done());
        prop_assert_eq!(transfer.progress().paths, (count, count));
    }
}
