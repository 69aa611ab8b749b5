//! Places for connections of those who have proven nothing yet.
//!
//! Owns: how many there are, all together and for one address. Refuses to know: what they do there.
//!
//! A room that is full does not turn away who comes: the connection that has been there longest goes. Who means well
//! is done in a moment; who only holds a place is the first to lose it, and cannot keep others out.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// How many places there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// All together.
    pub(super) all: usize,
    /// For one address.
    pub(super) each: usize,
}

/// A room of places.
#[derive(Debug)]
pub(super) struct Room {
    size: Size,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    /// By when they came. Who is told has lost its place: the sender goes.
    places: BTreeMap<u64, (IpAddr, oneshot::Sender<()>)>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    taken: Arc<Mutex<Taken>>,
    lost: oneshot::Receiver<()>,
}

/// Whether somebody had to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crowd {
    /// There was room.
    Room,
    /// Somebody from this address, who had been there longest.
    Full(IpAddr),
}

impl Room {
    pub(super) fn new(size: Size) -> Self {
        Self { size, taken: Arc::default() }
    }

    /// Gives a place to a connection from there.
    pub(super) fn enter(&self, from: IpAddr) -> (Place, Crowd) {
        let from = neighbourhood(from);
        let mut taken = lock(&self.taken);
        let crowd = match taken.oldest(from, self.size) {
            Some(oldest) => taken.places.remove(&oldest).map_or(Crowd::Room, |(from, _)| Crowd::Full(from)),
            None => Crowd::Room,
        };
        let number = taken.next;
        taken.next += 1;
        let (stays, lost) = oneshot::channel();
        taken.places.insert(number, (from, stays));
        drop(taken);
        (Place { number, taken: Arc::clone(&self.taken), lost }, crowd)
    }
}

impl Taken {
    /// Who has to go when one more comes from there.
    fn oldest(&self, from: IpAddr, size: Size) -> Option<u64> {
        let mut of_it =
            self.places.iter().filter(|(_, (address, _))| *address == from).map(|(&number, _)| number);
        let first = of_it.next();
        if first.is_some() && 1 + of_it.count() >= size.each {
            return first;
        }
        let full = self.places.len() >= size.all;
        self.places.first_key_value().filter(|_| full).map(|(&number, _)| number)
    }
}

impl Place {
    /// Waits until the place is lost to another.
    pub(super) async fn lost(&mut self) {
        let _ = (&mut self.lost).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.taken).places.remove(&self.number);
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    // Nothing in here panics half way through a change.
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An IPv6 network counts as one address: whoever has one has 2^64.
fn neighbourhood(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn is_lost(place: &mut Place) -> bool {
        place.lost().now_or_never().is_some()
    }

    #[test]
    fn who_has_been_there_longest_goes_first_of_the_same_address() {
        let room = Room::new(Size { all: 4, each: 2 });
        let (mut other, _) = room.enter(ip("10.0.0.1"));
        let (mut first, _) = room.enter(ip("10.0.0.2"));
        let (mut second, crowd) = room.enter(ip("::ffff:10.0.0.2"));
        assert_eq!(crowd, Crowd::Room);
        let (mut third, crowd) = room.enter(ip("10.0.0.2"));
        assert_eq!(crowd, Crowd::Full(ip("10.0.0.2")));
        assert!(is_lost(&mut first) && !is_lost(&mut second) && !is_lost(&mut third) && !is_lost(&mut other));
    }

    #[test]
    fn a_room_that_many_addresses_have_filled_takes_the_next_and_loses_the_oldest() {
        let room = Room::new(Size { all: 3, each: 2 });
        let mut places: Vec<Place> =
            ["10.0.0.1", "10.0.0.2", "fd00::1"].into_iter().map(|from| room.enter(ip(from)).0).collect();
        let (mut next, crowd) = room.enter(ip("10.0.0.9"));
        assert_eq!(crowd, Crowd::Full(ip("10.0.0.1")));
        assert!(is_lost(&mut places[0]) && !is_lost(&mut places[1]) && !is_lost(&mut next));
    }

    #[test]
    fn a_place_that_is_left_is_free_again_and_one_network_is_one_address() {
        let room = Room::new(Size { all: 8, each: 1 });
        let (place, _) = room.enter(ip("fd00::1"));
        drop(place);
        let (mut place, crowd) = room.enter(ip("fd00::2"));
        assert_eq!(crowd, Crowd::Room);
        let (_next, crowd) = room.enter(ip("fd00::3"));
        assert_eq!(crowd, Crowd::Full(ip("fd00::")));
        assert!(is_lost(&mut place));
    }
}
