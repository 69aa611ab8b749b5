//! A path's record as Nix reads it, signed.

use blixard_core::ports::signer::Signer;
use blixard_types::{PathRecord, StorePath};
use data_encoding::BASE64;
use nix_derivation::{NixHash, StoreDir};
use nix_narinfo::{Compression, NarInfo, NixSignature};

pub(crate) fn public_key(name: &str, signer: &dyn Signer) -> String {
    format!("{name}:{}", BASE64.encode(&signer.key().0))
}

/// The NAR's hash in base 32, as it is in the NAR's address.
pub(crate) fn nar_hash_text(record: &PathRecord) -> String {
    let text = NixHash::Sha256(record.nar_hash.0).to_nix_nixbase32_string();
    text.strip_prefix("sha256:").unwrap_or(&text).to_owned()
}

/// The record, with a signature of its fingerprint.
pub(crate) fn write(record: &PathRecord, key_name: &str, signer: &dyn Signer) -> Result<Vec<u8>, String> {
    let unsigned = build(record, None)?;
    let fingerprint = unsigned.fingerprint(&StoreDir::default());
    let signature = NixSignature::from_bytes(key_name, &signer.sign(fingerprint.as_bytes()))
        .map_err(|error| error.to_string())?;
    Ok(build(record, Some(signature))?.to_canonical_bytes())
}

fn build(record: &PathRecord, signature: Option<NixSignature>) -> Result<NarInfo, String> {
    let hash = record.path.basename().split('-').next().unwrap_or_default();
    let url = format!("nar/{hash}-{}.nar", nar_hash_text(record));
    let references = record.references.iter().map(convert).collect::<Result<Vec<_>, _>>()?;
    NarInfo::builder(convert(&record.path)?, url, NixHash::Sha256(record.nar_hash.0), record.nar_size)
        .compression(Compression::None)
        .references(references)
        .signatures(signature)
        .build()
        .map_err(|error| error.to_string())
}

fn convert(path: &StorePath) -> Result<nix_derivation::StorePath, String> {
    nix_derivation::StorePath::from_absolute_path(path.as_str().as_bytes()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use blixard_core::signature::NodeKey;
    use blixard_types::Sha256Hash;
    use ed25519_dalek::{Signer as _, SigningKey};
    use nix_narinfo::TrustedPublicKey;

    use super::*;

    struct Key(SigningKey);

    impl Signer for Key {
        fn key(&self) -> NodeKey {
            NodeKey(self.0.verifying_key().to_bytes())
        }

        fn sign(&self, bytes: &[u8]) -> [u8; 64] {
            self.0.sign(bytes).to_bytes()
        }
    }

    #[test]
    fn a_record_reads_back_and_only_its_own_key_has_signed_it() {
        let path: StorePath = "/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-a".parse().unwrap();
        let record = PathRecord {
            path: path.clone(),
            nar_hash: Sha256Hash::of(b""),
            nar_size: 7,
            references: [path].into(),
        };
        let signer = Key(SigningKey::from_bytes(&[3; 32]));
        let text = write(&record, "n1-blixard", &signer).unwrap();
        let store = StoreDir::default();
        let read = NarInfo::parse_in(&store, &text).unwrap();
        assert_eq!((read.nar_size(), read.compression()), (7, &Compression::None));
        assert_eq!(
            read.url(),
            "nar/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73.nar"
        );
        let trusted = |text: &str| TrustedPublicKey::parse(text).unwrap();
        assert!(read.has_valid_signature(&store, &[trusted(&public_key("n1-blixard", &signer))]));
        let other = Key(SigningKey::from_bytes(&[4; 32]));
        assert!(!read.has_valid_signature(&store, &[trusted(&public_key("n1-blixard", &other))]));
    }
}
