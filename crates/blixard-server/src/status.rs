//! Domain errors as gRPC statuses: one exhaustive match for each, with a hint where a person can do
//! something. Chains are rendered here, once.

use std::error::Error as _;
use std::fmt::Write as _;

use blixard_core::apply::{MembershipRejection, Rejection, VolumeRejection};
use blixard_core::ports::consensus::{LinearizeError, ProposeError};
use blixard_core::ports::nix::{BuildError, ClosureError, EvaluateError, NixCommandError, RootError};
use blixard_core::ports::sources::TakeError;
use blixard_proto::hint::with_hint;
use blixard_proto::position::with_position;
use blixard_types::chain;
use tonic::Status;

use crate::proposer::ProposeFailure;

pub(crate) fn rejection(rejection: &Rejection) -> Status {
    let text = rejection.to_string();
    match rejection {
        Rejection::UnknownVm { .. } => {
            with_hint(Status::not_found(text), "`blixard vm list` shows the vms there are")
        }
        Rejection::UnknownNode { .. } => Status::not_found(text),
        Rejection::NotInitialised => Status::unavailable(text),
        Rejection::TooManyCalls => with_hint(Status::resource_exhausted(text), "try again in a minute"),
        Rejection::NoRoom { .. } => Status::resource_exhausted(text),
        Rejection::EmptyDeployment | Rejection::NamedTwice { .. } | Rejection::SpecEncoding { .. } => {
            Status::invalid_argument(text)
        }
        Rejection::NameTaken { .. } | Rejection::AlreadyInitialised => Status::already_exists(text),
        Rejection::BeingDeleted { .. } => {
            with_hint(Status::failed_precondition(text), "wait until `blixard vm list` no longer shows it")
        }
        Rejection::IsStopped { .. } => {
            with_hint(Status::failed_precondition(text), "`blixard vm start` starts it")
        }
        Rejection::Membership(rejection) => membership(rejection),
        Rejection::Volume(rejection) => volume(rejection),
        Rejection::StaleSession { .. }
        | Rejection::Overtaken { .. }
        | Rejection::OtherEpoch { .. }
        | Rejection::StillPlaced { .. }
        | Rejection::NotWanted { .. }
        | Rejection::NotPlaced { .. }
        | Rejection::NotLeaving { .. }
        | Rejection::NoPreemption
        | Rejection::NoHigherPriority { .. }
        | Rejection::TooManyMoves { .. }
        | Rejection::NotAHost { .. }
        | Rejection::Unfit { .. }
        | Rejection::OtherLeadership { .. }
        | Rejection::NoDeadline { .. }
        | Rejection::DeclaredLost { .. }
        | Rejection::HostLost { .. }
        | Rejection::Cordoned { .. }
        | Rejection::BesideUnfenced { .. }
        | Rejection::OtherIncarnation { .. } => Status::failed_precondition(text),
        Rejection::Quarantine | Rejection::StillSettling => {
            with_hint(Status::unavailable(text), "try again in a minute")
        }
        Rejection::LeaseTimes { .. } => Status::invalid_argument(text),
        Rejection::Claimed { .. } => {
            let hint = "give one of them another; a vm that is gone from its flake keeps its own until `blixard vm delete`";
            with_hint(Status::failed_precondition(text), hint)
        }
        Rejection::NotSigned | Rejection::NotABuilder { .. } | Rejection::BadSignature { .. } => {
            let hint = "deploy through a node with the role builder; its journal says why it could not sign";
            with_hint(Status::permission_denied(text), hint)
        }
        Rejection::OtherSource { .. } => {
            with_hint(Status::failed_precondition(text), "`blixard deploy --take-over` takes it over")
        }
    }
}

fn membership(rejection: &MembershipRejection) -> Status {
    let text = rejection.to_string();
    let precondition = |hint| with_hint(Status::failed_precondition(rejection.to_string()), hint);
    match rejection {
        MembershipRejection::NoAuthority => precondition("`blixard cluster init` makes one"),
        MembershipRejection::TokenWithoutRoles | MembershipRejection::TokenLifetime { .. } => {
            Status::invalid_argument(text)
        }
        MembershipRejection::TooManyTokens => {
            with_hint(Status::resource_exhausted(text), "wait until some have run out")
        }
        MembershipRejection::UnknownToken
        | MembershipRejection::TokenExpired
        | MembershipRejection::TokenUsed => with_hint(
            Status::permission_denied(text),
            "`blixard cluster token create` on a server makes another",
        ),
        MembershipRejection::TokenRoles { .. } => precondition(
            "create a token with `--role` for each, or set `node.roles` in the machine's blixardd.toml",
        ),
        MembershipRejection::ServerWithoutAddress => {
            precondition("set `cluster.advertise` in the machine's blixardd.toml")
        }
        MembershipRejection::LastServer { .. } => precondition("let another server join before it goes"),
        MembershipRejection::HostsVms { .. } => precondition("`blixard node drain` moves them away"),
        MembershipRejection::HasVolumes { .. } => precondition(
            "`blixard volume list` shows them; `volume delete` removes one, `volume forget` gives it up",
        ),
        MembershipRejection::OtherAuthority
        | MembershipRejection::TokenKnown
        | MembershipRejection::Leaving { .. }
        | MembershipRejection::NotLeaving { .. } => Status::failed_precondition(text),
    }
}

fn volume(rejection: &VolumeRejection) -> Status {
    let text = rejection.to_string();
    let precondition = |hint| with_hint(Status::failed_precondition(rejection.to_string()), hint);
    match rejection {
        VolumeRejection::Unknown { .. } => {
            with_hint(Status::not_found(text), "`blixard volume list` shows the volumes there are")
        }
        VolumeRejection::None { .. } => Status::not_found(text),
        VolumeRejection::InUse { .. } => precondition("`blixard vm stop` its vm first"),
        VolumeRejection::Shrinks { .. } => precondition(
            "give it at least the size that it has; to begin with a smaller one, stop its vm and `blixard volume delete` it, with all that is in it",
        ),
        VolumeRejection::OtherImage { .. } => {
            precondition("keep its `image`, or give the new one another name")
        }
        VolumeRejection::IsLocal { .. } | VolumeRejection::ImageTaken { .. } => precondition(
            "give the new one another name and image, or stop the vm and `blixard volume delete` the old one, with all that is in it",
        ),
        VolumeRejection::Apart { .. } => precondition(
            "a vm is on one host: stop it and `blixard volume delete` one of them, with all that is in it",
        ),
        VolumeRejection::Elsewhere { .. }
        | VolumeRejection::Going { .. }
        | VolumeRejection::NotShared { .. } => Status::failed_precondition(text),
        VolumeRejection::MayBeWritten { .. } => precondition(
            "wait until it is back, or say `blixard volume forget` with the vm's name once it is off",
        ),
    }
}

pub(crate) fn propose(failure: &ProposeFailure) -> Status {
    match failure {
        ProposeFailure::Rejected(rejected) => rejection(rejected),
        ProposeFailure::Log(error) => log(error),
        ProposeFailure::Encode(_) | ProposeFailure::Decode(_) => Status::internal(chain(failure)),
    }
}

fn log(error: &ProposeError) -> Status {
    let text = error.to_string();
    match error {
        ProposeError::NotLeader { .. } => Status::unavailable(text),
        ProposeError::TooLarge { .. } => {
            with_hint(Status::resource_exhausted(text), "deploy the flake in parts: `blixard deploy .#name`")
        }
        ProposeError::OutcomeUnknown => {
            with_hint(Status::aborted(text), "look at `blixard vm list`; the same call again is safe")
        }
        ProposeError::NoQuorum => with_hint(Status::unavailable(text), QUORUM_HINT),
        ProposeError::Refused { .. } => Status::invalid_argument(text),
        ProposeError::Stopped { .. } => with_hint(Status::unavailable(text), DAEMON_HINT),
    }
}

const QUORUM_HINT: &str = "this server is cut off, or too many are down: `blixard cluster status`; `--stale` shows what is known here";

/// A status of another server, as one line.
pub(crate) fn first_line(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut cause = status.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            let _ = write!(text, ": {said}");
        }
        cause = error.source();
    }
    text.lines().next().unwrap_or_default().to_owned()
}

const DAEMON_HINT: &str = "`journalctl -u blixardd` says what happened";

pub(crate) fn linearize(error: &LinearizeError) -> Status {
    let text = error.to_string();
    match error {
        LinearizeError::NotLeader { .. } => Status::unavailable(text),
        LinearizeError::NoQuorum => with_hint(Status::unavailable(text), QUORUM_HINT),
        LinearizeError::Stopped { .. } => with_hint(Status::unavailable(text), DAEMON_HINT),
    }
}

pub(crate) fn evaluate(error: &EvaluateError) -> Status {
    let text = chain(error);
    match error {
        EvaluateError::NoMicrovms => {
            let hint = "a flake for Blixard has outputs `microvms.<name>`; the README shows a first one";
            with_hint(Status::invalid_argument(text), hint)
        }
        EvaluateError::NoSuchVm { .. } => {
            with_hint(Status::invalid_argument(text), "`nix flake show` lists the outputs there are")
        }
        EvaluateError::Failed { position, .. } => {
            let hint =
                "`nix eval .#microvms.NAME.drvPath --show-trace` in the flake shows how it came to that";
            let status = with_hint(Status::invalid_argument(text), hint);
            match position {
                Some(at) => with_position(status, at),
                None => status,
            }
        }
        EvaluateError::TimeLimit { .. } => with_hint(
            Status::resource_exhausted(text),
            "does the flake loop? if it needs longer, raise `evaluation.time_limit_s` in the builder's blixardd.toml",
        ),
        EvaluateError::MemoryLimit { .. } => with_hint(
            Status::resource_exhausted(text),
            "if the flake needs more, raise `evaluation.memory_max_mib` in the builder's blixardd.toml",
        ),
        EvaluateError::OutputLimit { .. } => with_hint(
            Status::resource_exhausted(text),
            "if its vms need more words, raise `evaluation.output_max_mib` in the builder's blixardd.toml",
        ),
        EvaluateError::Fetch { .. } => with_hint(
            Status::aborted(text),
            "the builder fetches them: it must reach them, with `access-tokens` or `netrc-file` in its nix.conf if they are private",
        ),
        EvaluateError::FetchTimeLimit { .. } => with_hint(
            Status::resource_exhausted(text),
            "if they take longer, raise `sources.fetch_time_limit_s` in the builder's blixardd.toml",
        ),
        EvaluateError::Malformed { .. } => Status::invalid_argument(text),
        EvaluateError::Command(error) => nix_command(error),
    }
}

pub(crate) fn nix_command(error: &NixCommandError) -> Status {
    let text = chain(error);
    match error {
        NixCommandError::Start { .. } => {
            with_hint(Status::unavailable(text), "is Nix installed on the builder, and in the daemon's PATH?")
        }
        NixCommandError::Limit { .. } => Status::resource_exhausted(text),
        NixCommandError::Confinement { .. } => with_hint(
            Status::unavailable(text),
            "it is a unit of systemd, started over D-Bus: `systemctl status dbus nix-daemon.socket` on the builder may tell more",
        ),
        NixCommandError::Io { .. } | NixCommandError::Failed { .. } | NixCommandError::Unexpected { .. } => {
            with_hint(
                Status::unavailable(text),
                "`nix-store --version` and `systemctl status nix-daemon` may tell more",
            )
        }
    }
}

pub(crate) fn take(error: &TakeError) -> Status {
    let text = chain(error);
    match error {
        TakeError::TooLarge { .. } => with_hint(
            Status::resource_exhausted(text),
            "is everything in it needed? a git repository leaves out what it ignores; or raise `sources.upload_max_mib` in the builder's blixardd.toml",
        ),
        TakeError::WrongHash { .. } => {
            with_hint(Status::aborted(text), "did it change meanwhile? run it again")
        }
        TakeError::Spool { .. } => Status::unavailable(text),
        TakeError::Command(error) => nix_command(error),
    }
}

pub(crate) fn build(error: &BuildError) -> Status {
    match error {
        BuildError::Failed { drv, log_tail, .. } => {
            let mut text = error.to_string();
            for line in log_tail {
                let _ = write!(text, "\n  > {line}");
            }
            with_hint(Status::aborted(text), &format!("the whole log: `nix log {drv}`"))
        }
        BuildError::TimeLimit { .. } => with_hint(
            Status::resource_exhausted(chain(error)),
            "if it needs longer, raise `builder.timeout_s` or `builder.max_silent_s` in the builder's blixardd.toml",
        ),
        BuildError::OutputLimit { .. } => with_hint(
            Status::resource_exhausted(chain(error)),
            "if the logs are as they should be, raise `builder.log_max_mib` in the builder's blixardd.toml",
        ),
        BuildError::Command(error) => nix_command(error),
    }
}

pub(crate) fn closure(error: &ClosureError) -> Status {
    match error {
        ClosureError::NotValid { .. } | ClosureError::Manifest { .. } => Status::internal(chain(error)),
        ClosureError::Command(error) => nix_command(error),
    }
}

pub(crate) fn root(error: &RootError) -> Status {
    Status::unavailable(chain(error))
}
