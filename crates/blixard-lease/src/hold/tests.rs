//! A holder in this process: what it takes, what it says, what it does when the time is over.

use super::*;

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Holds with these orders already on their way.
    fn hold(&self, orders: &[Until]) -> Result<Lapsed, HoldError> {
        let (socket, status, fenced) = (self.path("socket"), self.path("status"), self.path("fenced"));
        fs::create_dir(&fenced).unwrap();
        fs::write(fenced.join("cgroup.kill"), "").unwrap();
        let orders = orders.to_vec();
        let sender = {
            let socket = socket.clone();
            std::thread::spawn(move || {
                for order in orders {
                    while tell(&socket, order).is_err() {
                        std::thread::yield_now();
                    }
                }
            })
        };
        let lapsed = hold(&Paths { socket: &socket, status: &status, fenced: &fenced });
        sender.join().unwrap();
        lapsed
    }
}

#[test]
fn everything_is_killed_at_the_deadline_and_not_before() {
    let place = Place::new();
    let deadline = now_ms() + 300;
    place.hold(&[Until::At(1), Until::At(deadline)]).unwrap();
    assert!(now_ms() >= deadline);
    assert_eq!(fs::read_to_string(place.path("fenced/cgroup.kill")).unwrap(), "1");
    let status: HolderStatus = fs::read_to_string(place.path("status")).unwrap().parse().unwrap();
    assert_eq!(status.until, Until::At(deadline));
}

#[test]
fn an_order_that_is_late_shortens_nothing() {
    let place = Place::new();
    let now = now_ms();
    place.hold(&[Until::At(now + 400), Until::At(now + 100)]).unwrap();
    assert!(now_ms() >= now + 400);
}

#[test]
fn a_lease_without_an_end_gets_one() {
    let place = Place::new();
    let now = now_ms();
    place.hold(&[Until::Endless, Until::At(now + 200)]).unwrap();
    assert!(now_ms() >= now + 200);
}

#[test]
fn a_holder_that_can_tell_nobody_any_more_holds_until_the_deadline() {
    let place = Place::new();
    let (socket, status) = (place.path("socket"), place.path("status"));
    let full = std::thread::spawn(move || {
        while tell(&socket, Until::Endless).is_err() || !status.exists() {
            std::thread::yield_now();
        }
        // As on a file system without a page left.
        fs::create_dir(status.with_extension("new")).unwrap();
        for order in [Until::At(now_ms() + 200), Until::At(now_ms() + 400)] {
            tell(&socket, order).unwrap();
        }
        now_ms() + 390
    });
    place.hold(&[]).unwrap();
    assert!(now_ms() >= full.join().unwrap());
    assert_eq!(fs::read_to_string(place.path("fenced/cgroup.kill")).unwrap(), "1");
    let status: HolderStatus = fs::read_to_string(place.path("status")).unwrap().parse().unwrap();
    assert_eq!(status.until, Until::Endless, "the old word stays");
}
