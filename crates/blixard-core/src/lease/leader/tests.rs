//! What a leader answers and when it gives a host up, rule by rule.

use blixard_types::{Epoch, Incarnation, NodeId, Revision};

use super::*;
use crate::apply::Rejection;
use crate::command::Command;
use crate::fixture::facts;
use crate::fixture::{Cluster, daemon, place, register, session, spec, vm};
use crate::lease::LeaseTimes;
use crate::state::{Role, Run, Unplaced};

const W: u64 = 7500;

impl LeaderLeases {
    /// The rule of the grace at an election, broken: every host was silent since long before.
    pub(crate) fn skip_grace(&mut self, state: &ClusterState) {
        self.from = BootMillis(0);
        self.watched = state.nodes.keys().map(|&node| (node, BootMillis(0))).collect();
    }
}

fn authority(term: u64) -> Authority {
    Authority { incarnation: Incarnation(1), term }
}

fn heartbeat(node: u64) -> Heartbeat {
    Heartbeat {
        node: NodeId(node),
        boot: "boot".to_owned(),
        daemon: daemon(node, 1),
        n: 1,
        running: Vec::new(),
        holds: None,
        fenced_by: None,
    }
}

fn fence(command: FenceCommand) -> Command {
    Command::Fence(command)
}

fn lost(node: u64) -> FenceCommand {
    FenceCommand::NodeLost { node: NodeId(node), authority: authority(1) }
}

fn armed(node: u64, held: u64) -> Command {
    let (node, daemon, held) = (NodeId(node), daemon(node, 1), Revision(held));
    fence(FenceCommand::FenceArmed { node, daemon, held })
}

/// Two hosts that both hold leases, and `web` on the first.
fn two_hosts() -> Cluster {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000)]);
    cluster.ok(armed(1, 1000));
    cluster.deploy("web", "a", spec(100));
    cluster.ok(place("web", 1, 1));
    cluster
}

/// Ticks as a leader does, and gives the last tick's duties.
fn tick_until(leases: &mut LeaderLeases, cluster: &Cluster, from: u64, until: u64) -> Vec<Duty> {
    let mut duties = Vec::new();
    for now in (from..=until).step_by(250) {
        duties = leases.tick(&cluster.state, BootMillis(now));
    }
    duties
}

#[test]
fn a_host_is_given_up_once_it_was_silent_for_longer_than_w_and_not_before() {
    let cluster = two_hosts();
    let mut leases = LeaderLeases::begin(authority(1), BootMillis(0));
    let state = &cluster.state;
    assert_eq!(leases.grant(state, &heartbeat(1), BootMillis(1000), authority(1)), Ok(Some(6000)));
    assert_eq!(leases.grant(state, &heartbeat(2), BootMillis(9000), authority(1)), Ok(Some(6000)));
    assert_eq!(tick_until(&mut leases, &cluster, 0, 1000 + W), []);
    assert_eq!(leases.tick(state, BootMillis(1001 + W)), [lost(1)]);
    assert_eq!(leases.tick(state, BootMillis(1251 + W)), [], "it is proposed once");
}

#[test]
fn a_new_leader_counts_silence_anew() {
    let cluster = two_hosts();
    let mut leases = LeaderLeases::begin(authority(1), BootMillis(50_000));
    assert_eq!(tick_until(&mut leases, &cluster, 50_000, 50_000 + W), []);
    assert_eq!(leases.tick(&cluster.state, BootMillis(50_001 + W)), [lost(1), lost(2)]);
}

#[test]
fn a_leader_that_has_stalled_counts_silence_anew() {
    let cluster = two_hosts();
    let mut leases = LeaderLeases::begin(authority(1), BootMillis(0));
    tick_until(&mut leases, &cluster, 0, 1000);
    assert_eq!(tick_until(&mut leases, &cluster, 21_000, 21_000 + W), []);
    assert_eq!(leases.tick(&cluster.state, BootMillis(21_001 + W)).len(), 2);
}

#[test]
fn a_host_that_is_being_given_up_is_granted_nothing_until_the_outcome_is_known() {
    let cluster = two_hosts();
    let mut leases = LeaderLeases::begin(authority(1), BootMillis(0));
    assert_eq!(tick_until(&mut leases, &cluster, 0, W + 250).len(), 2);
    let ask = |leases: &mut LeaderLeases| {
        leases.grant(&cluster.state, &heartbeat(1), BootMillis(8000), authority(1))
    };
    assert_eq!(ask(&mut leases), Err(Withheld::GivingUp { node: NodeId(1) }));
    leases.given_up(NodeId(1));
    assert_eq!(ask(&mut leases), Ok(Some(6000)));
}

#[test]
fn a_lost_host_is_granted_nothing_before_the_log_says_that_it_is_back() {
    let mut cluster = two_hosts();
    cluster.ok(fence(lost(1)));
    assert_eq!(cluster.vm("web").run, Run::Unplaced { why: Unplaced::Lost { node: NodeId(1) } });
    let mut leases = LeaderLeases::begin(authority(1), BootMillis(0));
    let ask = |leases: &mut LeaderLeases, cluster: &Cluster| {
        leases.grant(&cluster.state, &heartbeat(1), BootMillis(1), authority(1))
    };
    assert_eq!(ask(&mut leases, &cluster), Err(Withheld::Lost { node: NodeId(1) }));
    let back = leases.heard(&cluster.state, &heartbeat(1)).unwrap();
    cluster.ok(fence(back));
    assert_eq!(ask(&mut leases, &cluster), Ok(Some(6000)));
}

#[test]
fn only_the_daemon_whose_session_is_open_is_granted_anything() {
    let mut cluster = two_hosts();
    cluster.ok(session(1, 2, facts(1000)));
    let mut leases = LeaderLeases::begin(authority(1), BootMillis(0));
    let asked = leases.grant(&cluster.state, &heartbeat(1), BootMillis(1), authority(1));
    assert_eq!(asked, Err(Withheld::StaleSession { node: NodeId(1) }));
    let other = leases.grant(&cluster.state, &heartbeat(2), BootMillis(1), authority(2));
    assert_eq!(other, Err(Withheld::Deposed { term: 2 }));
}

#[test]
fn one_host_has_no_deadline_and_is_never_given_up() {
    let cluster = Cluster::with_hosts(&[(1, 1000)]);
    let mut leases = LeaderLeases::begin(authority(1), BootMillis(0));
    assert_eq!(leases.grant(&cluster.state, &heartbeat(1), BootMillis(1), authority(1)), Ok(None));
    assert_eq!(tick_until(&mut leases, &cluster, 0, 100_000), []);
}

#[test]
fn nothing_is_placed_on_a_second_host_before_the_first_holds_its_lease() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000)]);
    cluster.deploy("web", "a", spec(100));
    cluster.deploy("db", "a", spec(100));
    cluster.ok(place("web", 1, 1));
    cluster.ok(register(2, &[Role::Host]));
    cluster.ok(session(2, 1, facts(1000)));
    let refused = cluster.apply(place("db", 2, 1)).unwrap_err();
    assert_eq!(refused, Rejection::BesideUnfenced { node: NodeId(2), other: NodeId(1) });
    // Its silence says nothing yet.
    let mut leases = LeaderLeases::begin(authority(1), BootMillis(0));
    assert_eq!(tick_until(&mut leases, &cluster, 0, 20_000), [], "the second one holds nothing else");
    let early = FenceCommand::NodeLost { node: NodeId(1), authority: authority(1) };
    assert_eq!(cluster.apply(fence(early)), Err(Rejection::NoDeadline { node: NodeId(1) }));
    // A lease of a grant from before does not count, one from since does.
    let since = cluster.state.fencing.since.unwrap().0;
    assert!(cluster.apply(armed(1, since - 1)).is_err());
    let mut beat = heartbeat(1);
    beat.fenced_by = Some(Revision(since));
    let duty = leases.heard(&cluster.state, &beat).unwrap();
    cluster.ok(fence(duty));
    cluster.ok(place("db", 2, 1));
}

#[test]
fn a_decision_of_another_term_or_incarnation_is_refused() {
    let mut cluster = two_hosts();
    for (incarnation, term) in [(1, 2), (2, 1)] {
        let authority = Authority { incarnation: Incarnation(incarnation), term };
        let lost = FenceCommand::NodeLost { node: NodeId(1), authority };
        assert_eq!(cluster.apply(fence(lost)), Err(Rejection::OtherLeadership { term }));
    }
}

#[test]
fn a_host_that_was_declared_lost_is_waited_for_although_it_is_granted_nothing() {
    let mut cluster = two_hosts();
    let mut kept = spec(100);
    kept.placement.on_partition = blixard_types::spec::OnPartition::Keep;
    cluster.deploy("kept", "a", kept);
    cluster.ok(place("kept", 1, 1));
    cluster.ok(fence(FenceCommand::DeclareLost { node: NodeId(1) }));
    assert_eq!(cluster.vm("kept").run, Run::Unplaced { why: Unplaced::Lost { node: NodeId(1) } });
    assert_eq!(cluster.vm("web").run.host(), Some(NodeId(1)), "what stops is waited for");
    let mut leases = LeaderLeases::begin(authority(1), BootMillis(0));
    let asked = leases.grant(&cluster.state, &heartbeat(1), BootMillis(1), authority(1));
    assert_eq!(asked, Err(Withheld::DeclaredLost { node: NodeId(1) }));
    assert!(tick_until(&mut leases, &cluster, 0, W + 250).contains(&lost(1)));
}

#[test]
fn a_generation_that_is_kept_is_not_moved_even_if_a_later_one_would_be() {
    let mut cluster = two_hosts();
    let mut kept = spec(100);
    kept.placement.on_partition = blixard_types::spec::OnPartition::Keep;
    cluster.deploy("web", "a", kept);
    cluster.deploy("web", "b", spec(100));
    cluster.ok(fence(lost(1)));
    assert_eq!(cluster.vm("web").run.host(), Some(NodeId(1)), "the kept generation may still run");
}

#[test]
fn a_person_s_word_ends_at_once_only_what_no_generation_of_the_epoch_stops() {
    let mut kept = spec(100);
    kept.placement.on_partition = blixard_types::spec::OnPartition::Keep;
    for (first, second) in [(kept.clone(), spec(100)), (spec(100), kept.clone())] {
        let mut cluster = two_hosts();
        cluster.deploy("both", "a", first);
        cluster.ok(place("both", 1, 1));
        cluster.deploy("both", "b", second);
        cluster.ok(fence(FenceCommand::DeclareLost { node: NodeId(1) }));
        assert_eq!(cluster.vm("both").run.host(), Some(NodeId(1)), "its lease may last yet");
        cluster.ok(fence(lost(1)));
        assert_eq!(cluster.vm("both").run, Run::Unplaced { why: Unplaced::Lost { node: NodeId(1) } });
    }
}

#[test]
fn the_longest_lease_counts_until_none_of_it_can_be_left() {
    let mut cluster = two_hosts();
    let times = LeaseTimes { silence_ms: 2800, ..crate::lease::Profile::Fast.times() };
    cluster.ok(fence(FenceCommand::SetLeaseTimes { times }));
    let again = FenceCommand::SetLeaseTimes { times: LeaseTimes::default() };
    assert_eq!(cluster.apply(fence(again)), Err(Rejection::StillSettling));
    let mut leases = LeaderLeases::begin(authority(1), BootMillis(0));
    assert_eq!(tick_until(&mut leases, &cluster, 0, W), [], "as long as it was before");
    let duties = leases.tick(&cluster.state, BootMillis(W + 250));
    let since = cluster.state.fencing.settling_since;
    let settle = FenceCommand::SettleLeases { authority: authority(1), since };
    assert_eq!(duties, [settle.clone(), lost(1), lost(2)]);
    cluster.ok(fence(settle));
    assert_eq!(cluster.state.fencing.silence_ms(), 2800);
    let unsafe_times = LeaseTimes { silence_ms: 2000, ..times };
    assert!(matches!(
        cluster.apply(fence(FenceCommand::SetLeaseTimes { times: unsafe_times })),
        Err(Rejection::LeaseTimes { .. })
    ));
}

#[test]
fn a_change_of_times_right_after_another_is_waited_for_anew() {
    let mut cluster = two_hosts();
    let set = |times| fence(FenceCommand::SetLeaseTimes { times });
    cluster.ok(set(crate::lease::Profile::Fast.times()));
    let mut leases = LeaderLeases::begin(authority(1), BootMillis(0));
    assert_eq!(tick_until(&mut leases, &cluster, 0, W), []);
    let since = cluster.state.fencing.settling_since;
    let settle = fence(FenceCommand::SettleLeases { authority: authority(1), since });
    cluster.ok(settle.clone());
    // No tick comes in between, and what was decided about the one before comes late.
    cluster.ok(set(LeaseTimes::default()));
    assert_eq!(tick_until(&mut leases, &cluster, W, W), [], "nothing has settled yet");
    assert_eq!(cluster.apply(settle), Ok(crate::command::Outcome::Unchanged));
    assert!(cluster.state.fencing.settling.is_some());
}

#[test]
fn times_that_are_set_before_there_were_two_hosts_count_at_once() {
    let times = crate::lease::Profile::Fast.times();
    let set = || fence(FenceCommand::SetLeaseTimes { times });
    let mut cluster = Cluster::with_hosts(&[(1, 1000)]);
    cluster.ok(set());
    assert_eq!((cluster.state.fencing.settling, cluster.state.fencing.silence_ms()), (None, 2800));
    cluster.ok(register(2, &[Role::Host]));
    cluster.ok(session(2, 1, facts(1000)));
    // A leader of such a cluster gives a host up after its own times, not after those of nobody's lease.
    let since = cluster.state.fencing.since.unwrap().0;
    cluster.ok(armed(1, since));
    let mut leases = LeaderLeases::begin(authority(1), BootMillis(0));
    assert_eq!(tick_until(&mut leases, &cluster, 0, 2750), []);
    assert_eq!(tick_until(&mut leases, &cluster, 3000, 3000), [lost(1), lost(2)]);
}

#[test]
fn a_lease_that_the_last_host_holds_from_before_the_others_left_is_waited_for() {
    let mut cluster = two_hosts();
    cluster.ok(register(2, &[Role::Server]));
    assert_eq!(cluster.state.fencing.since, None, "one host is left");
    cluster.ok(fence(FenceCommand::SetLeaseTimes { times: crate::lease::Profile::Fast.times() }));
    assert_eq!(cluster.state.fencing.silence_ms(), W);
}

fn incarnation(number: u64) -> Command {
    fence(FenceCommand::BeginIncarnation { incarnation: Incarnation(number), survivor: None })
}

#[test]
fn a_restored_cluster_waits_for_leases_that_its_backup_knows_nothing_of() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000)]);
    cluster.ok(incarnation(2));
    cluster.ok(fence(FenceCommand::SetLeaseTimes { times: crate::lease::Profile::Fast.times() }));
    assert_eq!(cluster.state.fencing.silence_ms(), W);
}

#[test]
fn a_quarantine_is_as_long_as_the_longest_times_that_there_ever_were() {
    let mut cluster = two_hosts();
    let long = crate::lease::LeaseTimes { silence_ms: 90_000, ..crate::lease::LeaseTimes::default() };
    for times in [long, crate::lease::Profile::Fast.times()] {
        cluster.ok(fence(FenceCommand::SetLeaseTimes { times }));
        let since = cluster.state.fencing.settling_since;
        cluster.ok(fence(FenceCommand::SettleLeases { authority: authority(1), since }));
    }
    assert_eq!(cluster.state.fencing.silence_ms(), 2800);
    assert_eq!(cluster.state.fencing.quarantine_ms(), 90_000);
}

#[test]
fn a_new_incarnation_places_nothing_before_what_was_granted_has_ended_and_never_reuses_an_epoch() {
    let mut cluster = two_hosts();
    cluster.ok(incarnation(2));
    assert_eq!(cluster.vm("web").run.host(), None);
    let epoch = cluster.vm("web").last_epoch.next();
    assert!(epoch > Epoch(1 << 24));
    cluster.ok(session(2, 2, facts(1000)));
    let again = || Command::Place { vm: vm("web"), node: NodeId(2), epoch };
    assert_eq!(cluster.apply(again()), Err(Rejection::Quarantine));
    let authority = Authority { incarnation: Incarnation(2), term: 1 };
    let mut leases = LeaderLeases::begin(authority, BootMillis(0));
    assert_eq!(tick_until(&mut leases, &cluster, 0, W), []);
    let duties = leases.tick(&cluster.state, BootMillis(W + 250));
    assert!(duties.contains(&FenceCommand::EndQuarantine { authority }));
    cluster.ok(fence(FenceCommand::EndQuarantine { authority }));
    cluster.ok(again());
    let over = incarnation(1);
    assert_eq!(cluster.apply(over), Err(Rejection::OtherIncarnation { incarnation: Incarnation(1) }));
}

#[test]
fn a_server_whose_clock_is_off_grants_nothing_and_gives_nobody_up() {
    let cluster = two_hosts();
    let mut leases = LeaderLeases::begin(authority(1), BootMillis(0));
    leases.set_trust(Trust::Off);
    let asked = leases.grant(&cluster.state, &heartbeat(1), BootMillis(1), authority(1));
    assert_eq!(asked, Err(Withheld::ClockOff));
    assert_eq!(tick_until(&mut leases, &cluster, 0, 3 * W), []);
}
