//! The words that every layer shares: ids, names, spec, closure references, unit names.
//!
//! Owns: plain data, its validation, and its one textual form. Refuses to know: I/O, async, time,
//! randomness, and what anybody does with the data.

mod address;
mod chain;
mod closure;
mod hash;
pub mod holder;
mod ids;
mod name;
pub mod spec;
mod store_path;
pub mod unit;

pub use address::{AddressError, NodeAddress};
pub use chain::chain;
pub use closure::{ClosureRef, Manifest, ManifestError, PathRecord};
pub use hash::{HashError, Sha256Hash};
pub use ids::{
    CertificateSerial, ClusterId, DaemonId, DeploymentId, Epoch, GenerationNumber, IdError, Incarnation,
};
pub use ids::{LogPosition, NodeId, RequestId, Revision, UploadId};
pub use name::{
    DEFAULT_TENANT, NAME_MAX, NameError, NodeName, TenantName, VmId, VmName, VolumeId, VolumeName,
};
pub use spec::{Spec, SpecError};
pub use store_path::{STORE_DIR, StorePath, StorePathError};
