//! The node's key: in a file that root alone can read, made when it is first needed.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use blixard_core::ports::Entropy;
use blixard_core::ports::signer::Signer;
use blixard_core::signature::NodeKey;
use ed25519_dalek::{Signer as _, SigningKey};

/// The file, below the data directory.
const FILE: &str = "signing-key";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The file cannot be read or written.
    #[error("cannot use the node's key {}", .file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// It holds something else.
    #[error("{} is no key: it must hold 32 bytes", .0.display())]
    NoKey(PathBuf),
}

/// Signs by the key in a file.
pub struct FileSigner(SigningKey);

impl FileSigner {
    /// Reads the key, or makes one.
    ///
    /// # Errors
    /// When the file cannot be read or written, or is no key. A key is never replaced.
    pub fn open(data_dir: &Path, entropy: &dyn Entropy) -> Result<Self, SignerError> {
        let file = data_dir.join(FILE);
        let failed = |cause| SignerError::File { file: file.clone(), cause };
        let bytes = match fs::read(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(data_dir, &file, entropy).map_err(failed)?
            }
            read => read.map_err(failed)?,
        };
        let secret: [u8; 32] = bytes.try_into().map_err(|_| SignerError::NoKey(file.clone()))?;
        Ok(Self(SigningKey::from_bytes(&secret)))
    }
}

/// Durable before it is used: what is signed must be verifiable by the key of tomorrow.
fn make(data_dir: &Path, file: &Path, entropy: &dyn Entropy) -> io::Result<Vec<u8>> {
    let secret = [entropy.id(), entropy.id()].concat();
    let unfinished = data_dir.join(".new-signing-key");
    let mut out = File::options().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    out.write_all(&secret)?;
    out.sync_all()?;
    fs::rename(&unfinished, file)?;
    File::open(data_dir)?.sync_all()?;
    Ok(secret)
}

impl Signer for FileSigner {
    fn key(&self) -> NodeKey {
        NodeKey(self.0.verifying_key().to_bytes())
    }

    fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.0.sign(bytes).to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use blixard_core::signature::{BuilderSignature, verify};
    use blixard_types::NodeId;

    use super::*;

    struct Same;

    impl Entropy for Same {
        fn id(&self) -> [u8; 16] {
            [7; 16]
        }
    }

    #[test]
    fn a_key_is_made_once_for_root_alone_and_signs() {
        let folder = tempfile::tempdir().unwrap();
        let first = FileSigner::open(folder.path(), &Same).unwrap();
        let again = FileSigner::open(folder.path(), &Same).unwrap();
        assert_eq!(first.key(), again.key());
        assert_eq!(fs::metadata(folder.path().join(FILE)).unwrap().mode() & 0o777, 0o600);
        let signature = BuilderSignature { node: NodeId(1), signature: first.sign(b"statement") };
        assert!(verify(again.key(), b"statement", &signature) && !verify(again.key(), b"other", &signature));
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "short").unwrap();
        assert!(matches!(FileSigner::open(folder.path(), &Same), Err(SignerError::NoKey(_))));
        assert_eq!(fs::read(folder.path().join(FILE)).unwrap(), b"short");
    }
}
