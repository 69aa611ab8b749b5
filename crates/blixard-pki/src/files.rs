//! Keys and certificates on disk: `pki/` below the data directory, mode 0700, each file 0600 and whole.
//!
//! ```text
//! ca.crt    the authority's certificate             every node
//! ca.key    its key                                 servers only
//! node.pem  this node's key and its certificate     one file, so that renewing replaces both at once
//! next.key  a key that waits for its certificate    while joining or renewing
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::authority::{Authority, AuthorityError, Root};
use crate::credentials::{Credentials, CredentialsError, NodeKey};

const ROOT: &str = "ca.crt";
const AUTHORITY_KEY: &str = "ca.key";
const NODE: &str = "node.pem";
const NEXT_KEY: &str = "next.key";

/// The folder of keys and certificates.
#[derive(Debug, Clone)]
pub struct KeyFiles(PathBuf);

/// Why a key or certificate cannot be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The disk.
    #[error("cannot {step} {}", .path.display())]
    Step {
        /// What was done.
        step: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The file holds no certificate.
    #[error("{} holds no certificate", .0.display())]
    NoCertificate(PathBuf),
    /// A key or a certificate of this node.
    #[error("{} cannot be used", .path.display())]
    Credentials {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: CredentialsError,
    },
    /// The authority.
    #[error("{} cannot be used", .path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: AuthorityError,
    },
}

impl KeyFiles {
    /// The folder below a data directory. It is made when something is written.
    #[must_use]
    pub fn below(data_dir: &Path) -> Self {
        Self(data_dir.join("pki"))
    }

    /// The authority's certificate, if it is there.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn root(&self) -> Result<Option<Root>, FileError> {
        let Some(text) = self.read(ROOT)? else { return Ok(None) };
        let der = certificate(&text).ok_or_else(|| FileError::NoCertificate(self.path(ROOT)))?;
        let authority = |cause| FileError::Authority { path: self.path(ROOT), cause };
        Root::new(der).map(Some).map_err(|error| authority(error.into()))
    }

    /// The authority, if its key is here.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn authority(&self) -> Result<Option<Authority>, FileError> {
        let (Some(root), Some(key)) = (self.root()?, self.read(AUTHORITY_KEY)?) else { return Ok(None) };
        let authority = Authority::load(root, &key);
        authority.map(Some).map_err(|cause| FileError::Authority { path: self.path(AUTHORITY_KEY), cause })
    }

    /// This node's key and certificate, if they are there.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn credentials(&self) -> Result<Option<Credentials>, FileError> {
        let (Some(root), Some(text)) = (self.root()?, self.read(NODE)?) else { return Ok(None) };
        let der = certificate(&text).ok_or_else(|| FileError::NoCertificate(self.path(NODE)))?;
        let credentials = NodeKey::from_pem(&text).and_then(|key| Credentials::new(&key, &der, &root));
        credentials.map(Some).map_err(|cause| FileError::Credentials { path: self.path(NODE), cause })
    }

    /// The key that waits for its certificate; made and kept where there is none, so that asking again
    /// after an interruption asks for the same key.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn next_key(&self) -> Result<NodeKey, FileError> {
        let failed = |cause| FileError::Credentials { path: self.path(NEXT_KEY), cause };
        if let Some(text) = self.read(NEXT_KEY)? {
            return NodeKey::from_pem(&text).map_err(failed);
        }
        let key = NodeKey::generate().map_err(failed)?;
        self.write(NEXT_KEY, &key.0.serialize_pem())?;
        Ok(key)
    }

    /// Keeps the authority's certificate.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_root(&self, root: &Root) -> Result<(), FileError> {
        self.write(ROOT, &pem("CERTIFICATE", root.der()))
    }

    /// Keeps the authority. The key first: with both, it is there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_authority(&self, authority: &Authority) -> Result<(), FileError> {
        self.write(AUTHORITY_KEY, &authority.key_pem())?;
        self.keep_root(authority.root())
    }

    /// Keeps this node's key with its certificate (DER).
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_credentials(&self, key: &NodeKey, certificate: &[u8]) -> Result<(), FileError> {
        self.write(NODE, &(key.0.serialize_pem() + &pem("CERTIFICATE", certificate)))
    }

    /// Forgets the key that waited for its certificate, once that is kept.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn forget_next_key(&self) -> Result<(), FileError> {
        match fs::remove_file(self.path(NEXT_KEY)) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                Err(FileError::Step { step: "remove", path: self.path(NEXT_KEY), cause })
            }
            _ => Ok(()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn read(&self, name: &str) -> Result<Option<String>, FileError> {
        let path = self.path(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(FileError::Step { step: "read", path, cause }),
        }
    }

    /// Whole or not at all, also over a crash: a file beside it, synced, renamed, and the folder synced.
    fn write(&self, name: &str, text: &str) -> Result<(), FileError> {
        let path = self.path(name);
        let step = |step| {
            let path = path.clone();
            move |cause| FileError::Step { step, path, cause }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0).map_err(step("make the folder of"))?;
        let new = self.path(&format!("{name}.new"));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&new).map_err(step("write"))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(step("write"))?;
        fs::rename(&new, &path).map_err(step("put in place"))?;
        File::open(&self.0).and_then(|folder| folder.sync_all()).map_err(step("sync the folder of"))
    }
}

fn certificate(pem: &str) -> Option<Vec<u8>> {
    CertificateDer::from_pem_slice(pem.as_bytes()).ok().map(|der| der.to_vec())
}

/// RFC 7468: 64 letters a line.
fn pem(label: &str, der: &[u8]) -> String {
    let body = data_encoding::BASE64.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}
