//! The binary cache, as it is configured.
//!
//! No guest needs it: whatever is wrong with it is said, and tried again, and never ends the daemon.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use blixard_closure::{Cache, CacheOptions};
use blixard_core::ports::nix::NixStore;
use blixard_core::ports::signer::Signer;
use blixard_types::chain;
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::config::{self, Config};

/// The file with the public key, below the data directory: what clients put into `trusted-public-keys`.
const PUBLIC_KEY: &str = "cache-key.pub";
/// How soon it is tried again: a person who has mended something need not wait long, nor tell us.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Why there is no cache now.
#[derive(Debug, thiserror::Error)]
enum CacheError {
    /// The token.
    #[error("cannot use the token in {} (`cache.token_file`)", .file.display())]
    Token {
        /// Its file.
        file: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The public key, for people.
    #[error("cannot write {}", .file.display())]
    PublicKey {
        /// Its file.
        file: PathBuf,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The address.
    #[error("cannot listen on {listen} (`cache.listen`)")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// Why.
        #[source]
        cause: io::Error,
    },
}

/// What a cache is made of.
pub(crate) struct BinaryCache {
    listen: SocketAddr,
    config: config::Cache,
    key_name: String,
    public_key: PathBuf,
    store: Arc<dyn NixStore>,
    signer: Arc<dyn Signer>,
    try_again: Duration,
}

impl BinaryCache {
    /// The cache, if it is to be there.
    pub(crate) fn of(
        config: &Config,
        node: &str,
        store: Arc<dyn NixStore>,
        signer: Arc<dyn Signer>,
    ) -> Option<Self> {
        let listen = config.cache.listen?;
        let key_name = config.cache.key_name.clone().unwrap_or_else(|| format!("blixard-{node}"));
        let public_key = config.storage.data_dir.join(PUBLIC_KEY);
        let (config, try_again) = (config.cache.clone(), TRY_AGAIN);
        Some(Self { listen, config, key_name, public_key, store, signer, try_again })
    }

    /// Serves it, as soon as that can be; never ends.
    pub(crate) async fn serve(self) {
        let mut said = String::new();
        loop {
            match self.open().await {
                Ok((cache, listener)) => {
                    tracing::info!(listen = %self.listen, key = cache.public_key(), "serving a binary cache");
                    return cache.serve(listener).await;
                }
                Err(error) => {
                    let error = chain(&error);
                    if error != said {
                        tracing::warn!(error, "there is no binary cache, trying again");
                        said = error;
                    }
                }
            }
            sleep(self.try_again).await;
        }
    }

    async fn open(&self) -> Result<(Cache, TcpListener), CacheError> {
        let token = self.config.token_file.as_deref().map(token).transpose()?;
        let options = CacheOptions { key_name: self.key_name.clone(), token };
        let cache = Cache::new(Arc::clone(&self.store), Arc::clone(&self.signer), options);
        let file = &self.public_key;
        let unwritten = |cause| CacheError::PublicKey { file: file.clone(), cause };
        fs::write(file, format!("{}\n", cache.public_key())).map_err(unwritten)?;
        let listen = self.listen;
        let listener = TcpListener::bind(listen).await;
        Ok((cache, listener.map_err(|cause| CacheError::Listen { listen, cause })?))
    }
}

fn token(file: &Path) -> Result<String, CacheError> {
    let failed = |cause: io::Error| CacheError::Token { file: file.to_owned(), cause };
    let token = fs::read_to_string(file).map_err(failed)?.trim().to_owned();
    if token.is_empty() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, "it is empty")));
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use blixard_closure::FileSigner;
    use blixard_testkit::fake::nix::FakeNix;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::select;

    use super::*;
    use crate::system::KernelEntropy;

    /// The first line of what a caller is answered there, once somebody listens.
    async fn answer(listen: SocketAddr) -> String {
        let mut stream = loop {
            match TcpStream::connect(listen).await {
                Ok(stream) => break stream,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let ask = "GET /nix-cache-info HTTP/1.1\r\nHost: n1\r\nConnection: close\r\n\r\n";
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.lines().next().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn a_cache_whose_address_is_taken_or_whose_token_is_missing_is_served_once_that_is_mended() {
        let folder = tempfile::tempdir().unwrap();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = taken.local_addr().unwrap();
        let token_file = folder.path().join("token");
        let mut config = Config::default();
        config.storage.data_dir = folder.path().to_owned();
        config.cache.listen = Some(listen);
        config.cache.token_file = Some(token_file.clone());
        let signer = Arc::new(FileSigner::open(folder.path(), &KernelEntropy).unwrap());
        let mut cache = BinaryCache::of(&config, "n1", Arc::new(FakeNix::default()), signer).unwrap();
        cache.try_again = Duration::from_millis(1);
        assert!(matches!(cache.open().await, Err(CacheError::Token { .. })));
        fs::write(&token_file, "open sesame\n").unwrap();
        assert!(matches!(cache.open().await, Err(CacheError::Listen { .. })));
        let mend = async {
            // The other one has been polled before, and waits.
            drop(taken);
            answer(listen).await
        };
        let answered = select! {
            biased;
            () = cache.serve() => panic!("it has ended"),
            answered = mend => answered,
        };
        assert_eq!(answered, "HTTP/1.1 401 Unauthorized");
        let key = fs::read_to_string(folder.path().join(PUBLIC_KEY)).unwrap();
        assert!(key.starts_with("blixard-n1:"), "{key}");
    }
}
