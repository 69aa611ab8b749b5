//! What a request's path asks for.

/// Digits of a path's hash, and of a NAR's, in Nix's base 32.
const HASH_DIGITS: usize = 32;
const NAR_HASH_DIGITS: usize = 52;
const BASE32: &[u8] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ask {
    CacheInfo,
    /// The record of the path with this hash.
    NarInfo(String),
    /// Its NAR, as the record named it.
    Nar {
        hash: String,
        nar_hash: String,
    },
    /// Nothing that is here.
    Other,
}

impl Ask {
    pub(super) fn of(path: &str) -> Self {
        let parsed = match path.strip_prefix('/') {
            Some("nix-cache-info") => Some(Self::CacheInfo),
            Some(name) => narinfo(name).or_else(|| nar(name)),
            None => None,
        };
        parsed.unwrap_or(Self::Other)
    }
}

fn narinfo(name: &str) -> Option<Ask> {
    let hash = name.strip_suffix(".narinfo")?;
    is_base32(hash, HASH_DIGITS).then(|| Ask::NarInfo(hash.to_owned()))
}

fn nar(name: &str) -> Option<Ask> {
    let (hash, nar_hash) = name.strip_prefix("nar/")?.strip_suffix(".nar")?.split_once('-')?;
    let good = is_base32(hash, HASH_DIGITS) && is_base32(nar_hash, NAR_HASH_DIGITS);
    good.then(|| Ask::Nar { hash: hash.to_owned(), nar_hash: nar_hash.to_owned() })
}

fn is_base32(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| BASE32.contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_three_forms_are_something() {
        let hash = "7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm".to_owned();
        let nar_hash = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73".to_owned();
        assert_eq!(Ask::of("/nix-cache-info"), Ask::CacheInfo);
        assert_eq!(Ask::of(&format!("/{hash}.narinfo")), Ask::NarInfo(hash.clone()));
        let nar = Ask::Nar { hash: hash.clone(), nar_hash: nar_hash.clone() };
        assert_eq!(Ask::of(&format!("/nar/{hash}-{nar_hash}.nar")), nar);
        for other in [
            "",
            "/",
            "/nix-cache-info/",
            "/../etc/passwd",
            "/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee.narinfo",
            "/nar/../../x.nar",
            &format!("/{hash}.ls"),
            &format!("/{hash}x.narinfo"),
            &format!("/nar/{hash}.nar"),
            &format!("/nar/{nar_hash}-{hash}.nar"),
        ] {
            assert_eq!(Ask::of(other), Ask::Other, "{other}");
        }
    }
}
