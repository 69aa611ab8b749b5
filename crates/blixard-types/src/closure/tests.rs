use std::fmt::Write as _;

use super::*;

fn path(letter: char, name: &str) -> StorePath {
    format!("/nix/store/{}-{name}", letter.to_string().repeat(32)).parse().unwrap()
}

fn record(path: &StorePath, references: &[&StorePath]) -> PathRecord {
    PathRecord {
        path: path.clone(),
        nar_hash: Sha256Hash::of(path.as_str().as_bytes()),
        nar_size: 1000,
        references: references.iter().map(|&reference| reference.clone()).collect(),
    }
}

fn golden() -> (StorePath, Vec<PathRecord>) {
    let (root, lib, base) = (path('b', "runner"), path('a', "lib"), path('c', "base"));
    let records = vec![record(&root, &[&lib, &root]), record(&base, &[]), record(&lib, &[&base])];
    (root, records)
}

#[test]
fn the_digest_of_the_golden_closure_never_changes() {
    let (root, records) = golden();
    let reference = Manifest::new(root, records).unwrap().closure_ref().unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&reference).unwrap(), @r#"
    {
      "root": "/nix/store/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb-runner",
      "narHash": "sha256-rmSm92iuCZS12vlq/XIbcBYkHVnX5Iu850Us4sOObBo=",
      "closureDigest": "sha256-yIUs3lUL5jABOhy1fgz+rtWW1Rg8U4wK/io+/e/XujE=",
      "pathCount": 3,
      "narSize": 3000
    }
    "#);
}

#[test]
fn the_digest_is_the_hash_of_the_written_format() {
    // The same bytes put together by hand, so that the format is pinned and not only the code.
    let (root, records) = golden();
    let mut bytes = b"blixard-closure-v1\0".to_vec();
    let number = |bytes: &mut Vec<u8>, n: u64| bytes.extend(n.to_le_bytes());
    number(&mut bytes, 3);
    for (letter, name, references) in
        [('a', "lib", vec!["c-base"]), ('b', "runner", vec!["a-lib", "b-runner"]), ('c', "base", vec![])]
    {
        let basename = format!("{}-{name}", letter.to_string().repeat(32));
        number(&mut bytes, basename.len() as u64);
        bytes.extend(basename.as_bytes());
        bytes.extend(Sha256Hash::of(format!("/nix/store/{basename}").as_bytes()).0);
        number(&mut bytes, 1000);
        number(&mut bytes, references.len() as u64);
        for reference in references {
            let (letter, name) = reference.split_once('-').unwrap();
            let mut basename = letter.repeat(32);
            write!(basename, "-{name}").unwrap();
            number(&mut bytes, basename.len() as u64);
            bytes.extend(basename.as_bytes());
        }
    }
    assert_eq!(Manifest::new(root, records).unwrap().digest(), Sha256Hash::of(&bytes));
}

#[test]
fn the_order_of_the_records_does_not_matter_and_every_field_does() {
    let (root, records) = golden();
    let digest = |records: Vec<PathRecord>| Manifest::new(root.clone(), records).unwrap().digest();
    let original = digest(records.clone());
    assert_eq!(digest(records.iter().rev().cloned().collect()), original);

    let mut other = records.clone();
    other[0].nar_size += 1;
    assert_ne!(digest(other), original);
    let mut other = records.clone();
    other[1].nar_hash.0[31] ^= 1;
    assert_ne!(digest(other), original);
    let mut other = records;
    other[0].references.insert(path('c', "base"));
    assert_ne!(digest(other), original);
}

#[test]
fn records_that_are_not_exactly_the_closure_are_refused() {
    let (root, records) = golden();
    let refuse = |records: Vec<PathRecord>| Manifest::new(root.clone(), records).unwrap_err();

    let mut twice = records.clone();
    twice.push(records[1].clone());
    assert!(matches!(refuse(twice), ManifestError::Duplicate { .. }));
    let mut dangling = records.clone();
    dangling.remove(1);
    assert!(matches!(refuse(dangling), ManifestError::Dangling { .. }));
    let mut extra = records.clone();
    extra.push(record(&path('d', "extra"), &[]));
    assert!(matches!(refuse(extra), ManifestError::Unreachable { .. }));
    let mut huge = records.clone();
    huge[1].nar_size = u64::MAX;
    assert!(matches!(refuse(huge), ManifestError::SizeOverflow));
    assert!(matches!(refuse(vec![]), ManifestError::NoRoot { .. }));
}

#[test]
fn a_reference_stays_small_with_the_longest_store_path() {
    let root = path('a', &"n".repeat(211));
    let reference = Manifest::new(root.clone(), vec![record(&root, &[])]).unwrap().closure_ref().unwrap();
    assert!(serde_json::to_vec(&reference).unwrap().len() < 600);
}
