//! The gRPC contract, and the one place where its messages become the words of `blixard-types` and
//! `blixard-core`, and back.
//!
//! Owns: generated code, conversions, the encoding of commands and outcomes. Refuses to know: who sends
//! what to whom, and when. Whatever comes from outside is checked here once; past this crate there are
//! only valid names, paths and specs.

mod convert;
pub mod hint;
pub mod position;
pub mod principal;

/// Generated from `proto/blixard/v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "generated code; the documentation is in the .proto files"
)]
pub mod v1 {
    tonic::include_proto!("blixard.v1");
}

pub use blixard_core::ports::nix::SourcePosition;
pub use convert::ConvertError;
pub use convert::closure::{ManifestReader, closure_from, fetch_closure, manifest_parts, manifest_request};
pub use convert::cluster::{node_state, node_view, role_name};
pub use convert::command::{ENVELOPE_VERSION, decode_envelope, encode_envelope};
pub use convert::deploy::{accepted, locked_source, offered_source, planned, stage_reached};
pub use convert::directory::{directory_from, directory_to};
pub use convert::event::event_view;
pub use convert::fence::admission_from;
pub use convert::host::{Hello, HostReport, SESSION_TAKEN};
pub use convert::host::{decode_grant, decode_heartbeat, decode_host_report, encode_grant, encode_heartbeat};
pub use convert::host::{decode_hello, encode_hello, encode_host_report};
pub use convert::membership::roles_to;
pub use convert::outcome::{OutcomeError, decode_outcome, encode_outcome};
pub use convert::placement::{preemption, rebalance_view};
pub use convert::vm::{desired, explanation_view, vm_view};
pub use convert::volume::volume_view;
pub use convert::{node_address, node_name, random_id, roles_from as roles, vm_id, volume_id};
