//! `blixard-lease`: the fence of a host.
//!
//! Owns: the deadline of the host's lease, and that everything that may stop is killed when it comes. A
//! process of its own, without a runtime and without memory that can be swapped out: whatever happens to
//! the daemon, to PID 1 or to the network, it keeps its word. Refuses to know: vms, the cluster, why a
//! lease is renewed or not.
//!
//! ```text
//! blixard-lease hold         waits for the first order, then holds the lease (blixard-lease.service)
//! blixard-lease fence        kills everything at once (blixard-fence.service)
//! blixard-lease run U M E P A…
//!                            executes P, what starts every vm, if epoch E is not over by the file M, and
//!                            U holds now: `lease=NAME`, `kept` (needs none), `alone` (there was none yet)
//! blixard-lease check        whether the lease of the environment is held now
//! blixard-lease tell ORDER   gives the holder an order, as the daemon does
//! ```

mod fence;
mod guard;
mod hold;
mod notify;

use std::path::Path;
use std::process::ExitCode;

use blixard_types::holder::{ENV_LEASE, FENCED_CGROUP, HOLDER_SOCKET, HOLDER_STATUS, LeaseName, Until};

/// What systemd reads as "try again later" (sysexits.h, EX_TEMPFAIL).
const NOT_HELD: u8 = 75;
/// A call that makes no sense (EX_USAGE).
const USAGE: u8 = 64;

const HELP: &str = "blixard-lease hold | fence | run UNDER MARK EPOCH PROGRAM [ARGUMENT…] | check | tell until MS|for MS|endless";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["hold"] => {
            let paths = hold::Paths {
                socket: Path::new(HOLDER_SOCKET),
                status: Path::new(HOLDER_STATUS),
                fenced: Path::new(FENCED_CGROUP),
            };
            // It comes back only when it could not begin, or when the lease is over.
            match hold::hold(&paths) {
                Ok(hold::Lapsed) => ExitCode::FAILURE,
                Err(error) => complain(&error, ExitCode::FAILURE),
            }
        }
        ["fence"] => match fence::kill_all(Path::new(FENCED_CGROUP)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => complain(&error, ExitCode::FAILURE),
        },
        ["run", under, mark, epoch, program, rest @ ..] => {
            let (under, epoch) = match (under.parse(), epoch.parse()) {
                (Ok(under), Ok(epoch)) => (under, epoch),
                (Err(error), _) => return complain(&error, ExitCode::from(USAGE)),
                (_, Err(error)) => return complain(&error, ExitCode::from(USAGE)),
            };
            let start = guard::Start { under, mark: Path::new(mark), epoch };
            let Err(error) = guard::run(Path::new(HOLDER_STATUS), &start, program, rest);
            complain(&error, ExitCode::from(NOT_HELD))
        }
        ["check"] => {
            let lease = LeaseName(std::env::var(ENV_LEASE).unwrap_or_default());
            match guard::check(Path::new(HOLDER_STATUS), &lease) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => complain(&error, ExitCode::from(NOT_HELD)),
            }
        }
        ["tell", "for", ms] => match ms.parse::<u64>() {
            Ok(ms) => tell(Until::At(hold::now_ms().saturating_add(ms))),
            Err(error) => complain(&error, ExitCode::from(USAGE)),
        },
        ["tell", order @ ..] => match order.join(" ").parse() {
            Ok(order) => tell(order),
            Err(error) => complain(&error, ExitCode::from(USAGE)),
        },
        _ => complain(&HELP, ExitCode::from(USAGE)),
    }
}

fn tell(order: Until) -> ExitCode {
    match hold::tell(Path::new(HOLDER_SOCKET), order) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error, ExitCode::FAILURE),
    }
}

#[expect(clippy::print_stderr, reason = "standard error is the journal of the unit")]
fn complain(what: &dyn std::fmt::Display, code: ExitCode) -> ExitCode {
    eprintln!("blixard-lease: {what}");
    code
}
