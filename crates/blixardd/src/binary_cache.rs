//! The binary cache, as it is configured.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use blixard_closure::{Cache, CacheOptions, FileSigner};
use blixard_core::ports::nix::NixStore;

use crate::compose::RunError;
use crate::config::Config;

/// The file with the public key, below the data directory: what clients put into `trusted-public-keys`.
const PUBLIC_KEY: &str = "cache-key.pub";

/// The cache, if it is to be there.
pub(crate) fn cache(
    config: &Config,
    node: &str,
    store: Arc<dyn NixStore>,
    signer: Arc<FileSigner>,
) -> Result<Option<Cache>, RunError> {
    let Some(listen) = config.cache.listen else { return Ok(None) };
    let key_name = config.cache.key_name.clone().unwrap_or_else(|| format!("blixard-{node}"));
    let token = config.cache.token_file.as_deref().map(token).transpose()?;
    let cache = Cache::new(store, signer, CacheOptions { listen, key_name, token });
    let file = config.storage.data_dir.join(PUBLIC_KEY);
    fs::write(&file, format!("{}\n", cache.public_key())).map_err(RunError::Kernel)?;
    tracing::info!(%listen, key = cache.public_key(), "serving a binary cache");
    Ok(Some(cache))
}

fn token(file: &Path) -> Result<String, RunError> {
    let failed = |cause: io::Error| RunError::CacheToken { file: file.to_owned(), cause };
    let token = fs::read_to_string(file).map_err(failed)?.trim().to_owned();
    if token.is_empty() {
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, "it is empty")));
    }
    Ok(token)
}
