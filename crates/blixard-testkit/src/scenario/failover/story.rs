//! What the daemons said while a host was away, on the watch's clock: where the time of a failover goes.

use std::time::Duration;

use super::Trio;
use crate::host::Host;

/// The words of daemons that a failover consists of, and what each of them means.
const STEPS: [(&str, &str); 5] = [
    ("this server grants leases", "leads, and counts silence"),
    ("the stream to the server is lost", "has lost its leader"),
    ("the server does not answer", "has lost its leader"),
    ("done duty=", "is in the log:"),
    ("placed vm=", "is in the log:"),
];

impl Trio {
    /// Prints what the hosts that are up did from this instant of the watch on.
    pub(super) fn tell(&self, scenario: &str, from: Duration) -> anyhow::Result<()> {
        let since = self.watch.wall(from);
        let mut steps = Vec::new();
        for host in self.hosts.iter().filter(|host| host.is_up()) {
            steps.extend(steps_of(host, since)?);
        }
        steps.sort_by_key(|(at, _)| *at);
        for (at, words) in steps {
            println!("     {scenario}: {:+.2} s {words}", at.as_secs_f64());
        }
        Ok(())
    }
}

/// The steps that a host's daemon has spoken of, with their distance from an instant of the wall clock.
fn steps_of(host: &Host, since: Duration) -> anyhow::Result<Vec<(Duration, String)>> {
    let from = format!("--since=@{:.6}", since.as_secs_f64());
    let said = host.run_ok(&["journalctl", "--no-pager", "--output=short-unix", "--unit=blixardd", &from])?;
    Ok(said.lines().filter_map(|line| step(host.name(), line, since)).collect())
}

fn step(host: &str, line: &str, since: Duration) -> Option<(Duration, String)> {
    let (at, said) = line.split_once(' ')?;
    let at = Duration::try_from_secs_f64(at.parse().ok()?).ok()?.checked_sub(since)?;
    let (words, means) = STEPS.iter().find(|(words, _)| said.contains(words))?;
    let details = said.split_once(words).map(|(_, rest)| format!("{words}{rest}")).unwrap_or_default();
    Some((at, format!("{host} {means} {details}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_told_with_its_distance_and_what_is_no_step_is_not() {
        let line = "1000.500000 n2 blixardd[7]:  INFO done duty=NodeLost { node: NodeId(1) }";
        let (at, words) = step("n2", line, Duration::from_secs(1000)).unwrap();
        assert_eq!(at, Duration::from_millis(500));
        assert_eq!(words, "n2 is in the log: done duty=NodeLost { node: NodeId(1) }");
        assert_eq!(step("n2", "1000.5 n2 blixardd[7]: a host attends", Duration::from_secs(1000)), None);
        assert_eq!(step("n2", line, Duration::from_secs(1001)), None);
    }
}
