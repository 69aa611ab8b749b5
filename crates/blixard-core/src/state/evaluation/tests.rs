use super::*;
use crate::fixture::store_path;

fn source() -> LockedSource {
    LockedSource {
        path: store_path("source"),
        nar_hash: Sha256Hash::of(b"source"),
        rev: None,
        rev_count: None,
        last_modified: Some(12),
        subdir: String::new(),
        lock: None,
    }
}

fn key(source: &LockedSource) -> EvaluationKey {
    EvaluationKey::of(source, &Selection::All, Sha256Hash::of(b"evaluator"))
}

fn named(names: &[&str]) -> EvaluationKey {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    EvaluationKey::of(&source(), &Selection::Named(names), Sha256Hash::of(b"evaluator"))
}

#[test]
fn whatever_a_flake_can_read_of_itself_makes_another_key() {
    let own = source();
    let others = [
        LockedSource { path: store_path("other"), ..own.clone() },
        LockedSource { nar_hash: Sha256Hash::of(b"other"), ..own.clone() },
        LockedSource { rev: Some("12".to_owned()), ..own.clone() },
        LockedSource { rev: Some(String::new()), ..own.clone() },
        LockedSource { rev_count: Some(12), ..own.clone() },
        LockedSource { last_modified: None, ..own.clone() },
        LockedSource { last_modified: Some(13), ..own.clone() },
        LockedSource { subdir: "a".to_owned(), ..own.clone() },
        LockedSource { lock: Some(own.path.clone()), ..own.clone() },
    ];
    let mut keys: Vec<_> = others.iter().chain([&own]).map(key).collect();
    keys.push(EvaluationKey::of(&own, &Selection::All, Sha256Hash::of(b"another evaluator")));
    keys.extend([named(&[]), named(&["a"]), named(&["b"]), named(&["a", "b"]), named(&["ab"])]);
    let distinct: BTreeSet<_> = keys.iter().copied().collect();
    assert_eq!(distinct.len(), keys.len());
}

#[test]
fn the_order_of_names_makes_no_other_key() {
    assert_eq!(named(&["b", "a", "b"]), named(&["a", "b"]));
    assert_eq!(key(&source()), key(&source()));
}

fn entry(number: usize, bytes: usize) -> (EvaluationKey, Evaluation) {
    (EvaluationKey(Sha256Hash::of(&number.to_le_bytes())), Evaluation { vms: Vec::new(), bytes })
}

fn kept(cache: &EvaluationCache, numbers: std::ops::Range<usize>) -> Vec<usize> {
    assert_eq!(cache.order.len(), cache.entries.len());
    numbers.filter(|&number| cache.get(entry(number, 0).0).is_some()).collect()
}

#[test]
fn the_oldest_of_too_many_is_forgotten() {
    let mut cache = EvaluationCache::default();
    for number in 0..EVALUATIONS_KEPT {
        let (key, evaluation) = entry(number, 1);
        assert!(cache.remember(key, evaluation));
    }
    // Deployed again after it was forgotten elsewhere: it is the newest now.
    let (key, evaluation) = entry(0, 1);
    assert!(cache.remember(key, evaluation.clone()));
    assert!(!cache.remember(key, evaluation), "the newest again changes nothing");
    let (key, evaluation) = entry(EVALUATIONS_KEPT, 1);
    cache.remember(key, evaluation);
    let all = 0..EVALUATIONS_KEPT + 1;
    assert_eq!(kept(&cache, all.clone()), all.filter(|&number| number != 1).collect::<Vec<_>>());
}

#[test]
fn what_is_too_much_pushes_out_the_oldest_and_itself_if_alone() {
    let mut cache = EvaluationCache::default();
    let half = EVALUATIONS_MAX_BYTES / 2;
    for (number, bytes) in [(0, half), (1, half), (2, 1)] {
        let (key, evaluation) = entry(number, bytes);
        cache.remember(key, evaluation);
    }
    assert_eq!(kept(&cache, 0..3), [1, 2]);
    let (key, evaluation) = entry(3, EVALUATIONS_MAX_BYTES + 1);
    cache.remember(key, evaluation);
    assert_eq!(kept(&cache, 0..4), Vec::<usize>::new());
}
