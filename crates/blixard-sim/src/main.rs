//! `blixard-sim`: runs simulations with one seed after the other, until one fails or time is up.
//!
//! Owns the command line; `cargo xtask sim` starts it.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a tool for the terminal, which takes the time it needs"
)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use blixard_sim::{BrokenRule, Report, Shape, run};
use clap::{Parser, ValueEnum};

#[derive(Parser)]
#[command(name = "cargo xtask sim", about = "Run simulations of a cluster", disable_version_flag = true)]
struct Arguments {
    /// How many seeds, of each shape
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// This seed alone, with all that happened
    #[arg(long, conflicts_with_all = ["seeds", "from", "minutes"])]
    seed: Option<u64>,
    /// Stop after so many minutes
    #[arg(long)]
    minutes: Option<u64>,
    /// This shape alone; without a name, all of them
    #[arg(long)]
    shape: Option<String>,
    /// Break a rule on purpose, and stop when it is noticed
    #[arg(long)]
    broken: Option<Rule>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Rule {
    /// Acknowledge before fsync
    Fsync,
    /// Forget the vote over a restart
    Vote,
    /// A restarted leader goes on in its old term
    Restore,
    /// Forwarding takes each attempt for a call of its own
    Forward,
    /// A watcher goes on one revision too late
    Watch,
    /// A leader grants leases without asking the others
    Grant,
    /// A host is told that a vm is gone before it is
    Stop,
    /// What runs under a lease goes on when that is over
    Lease,
    /// A start does not look whether its epoch is over
    Over,
}

impl Rule {
    fn broken(self) -> BrokenRule {
        match self {
            Self::Fsync => BrokenRule::AcknowledgesBeforeSync,
            Self::Vote => BrokenRule::ForgetsItsVote,
            Self::Restore => BrokenRule::RestoresLeadership,
            Self::Forward => BrokenRule::ForwardsAsNewCalls,
            Self::Watch => BrokenRule::ResumesTooLate,
            Self::Grant => BrokenRule::GrantsUnasked,
            Self::Stop => BrokenRule::StopsTooEarly,
            Self::Lease => BrokenRule::OutlivesItsLease,
            Self::Over => BrokenRule::StartsWhatIsOver,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match shapes(&arguments) {
        Ok(shapes) => simulate(&arguments, &shapes),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn shapes(arguments: &Arguments) -> Result<Vec<Shape>, String> {
    let shapes = match &arguments.shape {
        None => Shape::all(),
        Some(name) => vec![Shape::named(name).ok_or_else(|| {
            let known: Vec<_> = Shape::all().iter().map(|shape| shape.name).collect();
            format!("there is no shape `{name}`; there are {}", known.join(", "))
        })?],
    };
    Ok(match arguments.broken {
        None => shapes,
        Some(rule) => shapes.into_iter().map(|shape| shape.breaking(rule.broken())).collect(),
    })
}

fn simulate(arguments: &Arguments, shapes: &[Shape]) -> ExitCode {
    let begun = Instant::now();
    let limit = arguments.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let seeds = match arguments.seed {
        Some(seed) => seed..seed.saturating_add(1),
        None => arguments.from..arguments.from.saturating_add(arguments.seeds),
    };
    let mut runs = 0_u64;
    for seed in seeds {
        for shape in shapes {
            let report = run(shape, seed);
            runs += 1;
            if arguments.seed.is_some() {
                for event in &report.events {
                    println!("{event}");
                }
            }
            println!("{report}");
            if !report.violations.is_empty() {
                return found(&report, arguments.broken);
            }
        }
        if limit.is_some_and(|limit| begun.elapsed() >= limit) {
            break;
        }
    }
    println!("{runs} runs in {:.0} s: all promises were kept", begun.elapsed().as_secs_f64());
    if arguments.broken.is_some() {
        eprintln!("error: a rule was broken, and nothing was noticed");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

fn found(report: &Report, broken: Option<Rule>) -> ExitCode {
    for violation in &report.violations {
        println!("BROKEN: {violation}");
    }
    match broken {
        None => {
            eprintln!("error: a promise was broken\nrepro: {}", report.repro());
            ExitCode::FAILURE
        }
        Some(rule) => {
            println!("noticed ({rule:?}): seed {}", report.seed);
            ExitCode::SUCCESS
        }
    }
}
