//! A watch over the cgroups of vms on all hosts of a world, on one clock.
//!
//! Owns: when the kernel said that a vm's unit has a process, and when that it has none. Refuses to know: what
//! any daemon says of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crate::host::Host;

/// How often the kernel is asked: how exact the times are.
const EVERY: Duration = Duration::from_millis(2);

/// A time in which a vm had processes on a host, since the watch began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) host: String,
    pub(super) vm: String,
    /// When it was first seen; before that it was not there.
    pub(super) from: Duration,
    /// When it was first seen gone; none while it is there.
    pub(super) to: Option<Duration>,
}

impl Span {
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let ends = |span: &Self| span.to.unwrap_or(Duration::MAX);
        self.from < ends(other) && other.from < ends(self)
    }
}

/// A running watch; it ends when it is dropped.
pub(super) struct Watch {
    begun: Instant,
    /// The wall clock's word when it began.
    wall: Duration,
    spans: Arc<Mutex<Vec<Span>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches these hosts' vms and, as if each were one, these taps of theirs: whether a process has them.
    pub(super) fn over(hosts: &[Host], taps: &[&str]) -> anyhow::Result<Self> {
        let places = hosts.iter().map(|host| Place::of(host, taps)).collect::<anyhow::Result<Vec<_>>>()?;
        let (begun, wall, over, spans) = (now(), unix_now(), Arc::default(), Arc::default());
        let (end, seen) = (Arc::clone(&over), Arc::clone(&spans));
        let thread = std::thread::spawn(move || look(begun, &places, &end, &seen));
        Ok(Self { begun, wall, spans, over, thread: Some(thread) })
    }

    /// Since the watch began.
    pub(super) fn now(&self) -> Duration {
        now().duration_since(self.begun)
    }

    /// What the wall clock said at an instant of the watch, since 1970.
    pub(super) fn wall(&self, at: Duration) -> Duration {
        self.wall + at
    }

    /// Which instant of the watch the machine's boot clock calls this.
    pub(super) fn at_boot_time(&self, boot: Duration) -> Duration {
        let shown = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let shown = Duration::try_from(shown).unwrap_or_default();
        (self.now() + boot).saturating_sub(shown)
    }

    /// All that was seen, oldest first.
    pub(super) fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say that matters by now.
            let _ = thread.join();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "test hosts live in real time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the journals of test hosts are in real time")]
fn unix_now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// Where the kernel says what a host executes.
struct Place {
    host: String,
    slice: PathBuf,
    /// Names of taps, and the files that say whether they have a carrier: whether a process holds them.
    taps: Vec<(String, PathBuf)>,
}

impl Place {
    fn of(host: &Host, taps: &[&str]) -> anyhow::Result<Self> {
        let carrier =
            |tap: &&str| Ok(((*tap).to_owned(), host.see(&format!("/sys/class/net/{tap}/carrier"))?));
        Ok(Self {
            host: host.name().to_owned(),
            slice: host.group("blixard.slice/blixard-default.slice"),
            taps: taps.iter().map(carrier).collect::<anyhow::Result<Vec<_>>>()?,
        })
    }

    /// The vms whose run units have processes, and the taps that are held.
    fn populated(&self) -> Vec<String> {
        let held = |path: &Path| std::fs::read_to_string(path).is_ok_and(|carrier| carrier.trim() == "1");
        let taps = self.taps.iter().filter(|(_, path)| held(path)).map(|(tap, _)| tap.clone());
        populated(&self.slice).into_iter().chain(taps).collect()
    }
}

fn look(begun: Instant, places: &[Place], over: &AtomicBool, spans: &Mutex<Vec<Span>>) {
    // For each vm on each host the place of the span that goes on.
    let mut running: BTreeMap<(String, String), usize> = BTreeMap::new();
    while !over.load(Ordering::Relaxed) {
        for place in places {
            let (host, populated) = (&place.host, place.populated());
            let at = now().duration_since(begun);
            let mut spans = spans.lock().unwrap_or_else(PoisonError::into_inner);
            running.retain(|(of, vm), &mut index| {
                let goes_on = of != host || populated.contains(vm);
                if let Some(span) = spans.get_mut(index).filter(|_| !goes_on) {
                    span.to = Some(at);
                }
                goes_on
            });
            for vm in populated {
                running.entry((host.clone(), vm.clone())).or_insert_with(|| {
                    spans.push(Span { host: host.clone(), vm, from: at, to: None });
                    spans.len() - 1
                });
            }
        }
        std::thread::sleep(EVERY);
    }
}

/// The vms of a slice whose run units have processes.
fn populated(slice: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(slice).into_iter().flatten().flatten();
    let named = entries.filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().replace(r"\x2d", "-");
        let vm = name.strip_prefix("blixard-vm-default-")?.strip_suffix("-run.service")?.to_owned();
        let events = std::fs::read_to_string(entry.path().join("cgroup.events")).ok()?;
        events.lines().any(|line| line == "populated 1").then_some(vm)
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: u64, to: Option<u64>) -> Span {
        let (host, vm) = ("n1".to_owned(), "web".to_owned());
        Span { host, vm, from: Duration::from_millis(from), to: to.map(Duration::from_millis) }
    }

    #[test]
    fn spans_overlap_unless_one_ends_before_the_other_begins() {
        assert!(span(0, Some(10)).overlaps(&span(9, None)) && span(0, None).overlaps(&span(5, Some(6))));
        assert!(!span(0, Some(10)).overlaps(&span(10, None)) && !span(10, None).overlaps(&span(0, Some(10))));
    }
}
