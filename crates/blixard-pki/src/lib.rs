//! Who may speak in the cluster: its certificate authority, the nodes' certificates, join tokens, and TLS
//! made of them.
//!
//! Owns: keys and certificates, how they are kept in files, what a certificate must say, and the TLS
//! settings of both sides. Refuses to know: who is a member; a [`PeerGate`] is asked at every handshake.
//! Decides nothing else, and opens no connection itself.
//!
//! ```text
//! Authority ── issues ──▶ certificate of a node ── with its NodeKey ──▶ Credentials ──▶ MutualTls
//! JoinToken ── names the authority by its fingerprint ──▶ joining_client: trusts that one alone
//! ```

mod authority;
mod credentials;
mod files;
mod name;
mod peer;
mod tls;
mod token;

#[cfg(test)]
mod tests;

pub use authority::{Authority, AuthorityError, IssueError, Root, RootError, Subject};
pub use credentials::{Credentials, CredentialsError, NodeKey, SigningRequest};
pub use files::{FileError, KeyFiles};
pub use name::node_dns_name;
pub use peer::{PeerCertificateError, PeerIdentity};
pub use tls::{
    HandshakeError, JoiningError, MutualTls, PeerGate, PeerRefusal, TlsSetupError, joining_client,
};
pub use token::{JoinToken, JoinTokenError, TokenSecret};
