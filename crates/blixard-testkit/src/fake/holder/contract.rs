//! What every [`LeaseHolder`] promises, checked on the real one and on the fake. No lease is held before.

use std::time::Duration;

use anyhow::ensure;
use blixard_core::ports::Clock;
use blixard_core::ports::holder::LeaseHolder;
use blixard_types::holder::Until;

/// How long the leases of the contract last, in milliseconds: long beside what an order takes.
const LASTS_MS: u64 = 2000;

/// What may pass besides, on a machine that does much else, in milliseconds.
const SLACK_MS: u64 = 500;

/// Checks all of it; leaves a lease without an end.
///
/// # Errors
/// The first promise that is not kept.
pub async fn keeps(holder: &dyn LeaseHolder, clock: &dyn Clock) -> anyhow::Result<()> {
    let at = |ms: u64| Until::At(clock.boot().0 + ms);
    let refused = holder.hold(Until::At(clock.boot().0.saturating_sub(1))).await;
    ensure!(refused.is_err(), "an order whose time is over has begun a lease: {refused:?}");

    let first = holder.hold(at(LASTS_MS)).await?;
    let again = holder.hold(at(LASTS_MS)).await?;
    ensure!(again == first, "a lease that is renewed is another one: {first} and {again}");

    // An order that is late says less than what is known, and shortens nothing.
    let earlier = holder.hold(at(LASTS_MS / 4)).await?;
    ensure!(earlier == first, "an earlier order has ended the lease {first}");
    pass(LASTS_MS / 2).await;
    let kept = holder.hold(at(LASTS_MS)).await?;
    ensure!(kept == first, "an earlier order has shortened the lease {first}");

    pass(LASTS_MS + SLACK_MS).await;
    let second = holder.hold(at(LASTS_MS)).await?;
    ensure!(second != first, "the lease {first} has lapsed and is held again");

    let endless = holder.hold(Until::Endless).await?;
    ensure!(endless == second, "a lease that gets no end is another one");
    pass(LASTS_MS + SLACK_MS).await;
    let still = holder.hold(Until::Endless).await?;
    ensure!(still == second, "a lease without an end has ended");

    // It gets one again when another host comes.
    let ends = holder.hold(at(LASTS_MS)).await?;
    ensure!(ends == second, "a lease that gets an end is another one");
    pass(LASTS_MS + SLACK_MS).await;
    let third = holder.hold(Until::Endless).await?;
    ensure!(third != second, "the lease {second} has lapsed and is held again");
    Ok(())
}

/// Lets real time pass for the real holder; the fake's is paused.
async fn pass(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
