use std::fs;
use std::os::unix::fs::symlink;

use blixard_core::ports::nix::RootName;
use blixard_types::StorePath;

use super::RootsFolder;

const ONE: &str = "/nix/store/m3k2prd15qqhazcwmjg9gwk0cq3lyj42-one";
const TWO: &str = "/nix/store/s50cxk2llpib3wlxn8i5c7y85k9zbr4x-two";

struct Trial {
    temporary: tempfile::TempDir,
    roots: RootsFolder,
}

impl Trial {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let roots = RootsFolder::new(temporary.path().join("gcroots/blixard"));
        Self { temporary, roots }
    }

    fn folder(&self) -> std::path::PathBuf {
        self.temporary.path().join("gcroots/blixard")
    }

    async fn add(&self, name: &str, path: &str) -> Result<(), String> {
        let path: StorePath = path.parse().unwrap();
        let added = self.roots.add(vec![(RootName(name.to_owned()), path)]).await;
        added.map_err(|error| error.cause.kind().to_string())
    }

    async fn remove(&self, name: &str) -> Result<(), String> {
        let removed = self.roots.remove(RootName(name.to_owned())).await;
        removed.map_err(|error| error.cause.kind().to_string())
    }

    async fn list(&self) -> Vec<String> {
        let roots = self.roots.list().await.unwrap();
        roots.into_iter().map(|(name, path)| format!("{} {}", name.0, path.basename())).collect()
    }
}

#[tokio::test]
async fn the_folder_is_made_with_the_first_root_and_kept_without_any() {
    let trial = Trial::new();
    assert!(trial.list().await.is_empty());
    trial.remove("acme/web/1").await.unwrap();
    trial.add("acme/web/1", ONE).await.unwrap();
    assert_eq!(trial.list().await, ["acme/web/1 m3k2prd15qqhazcwmjg9gwk0cq3lyj42-one"]);
    trial.remove("acme/web/1").await.unwrap();
    assert!(fs::read_dir(trial.folder()).unwrap().next().is_none());
}

#[tokio::test]
async fn a_folder_goes_with_its_last_root_and_not_before() {
    let trial = Trial::new();
    trial.add("acme/web/1", ONE).await.unwrap();
    trial.add("acme/web/2", TWO).await.unwrap();
    trial.remove("acme/web/1").await.unwrap();
    assert_eq!(trial.list().await, ["acme/web/2 s50cxk2llpib3wlxn8i5c7y85k9zbr4x-two"]);
    trial.remove("acme/web/2").await.unwrap();
    assert!(!trial.folder().join("acme").exists());
}

#[tokio::test]
async fn what_a_crash_left_is_not_listed_and_goes_with_its_root() {
    let trial = Trial::new();
    trial.add("web/1", ONE).await.unwrap();
    symlink(TWO, trial.folder().join("web/.new-1")).unwrap();
    assert_eq!(trial.list().await, ["web/1 m3k2prd15qqhazcwmjg9gwk0cq3lyj42-one"]);
    trial.add("web/1", TWO).await.unwrap();
    assert!(!trial.folder().join("web/.new-1").is_symlink());
    symlink(ONE, trial.folder().join("web/.new-1")).unwrap();
    trial.remove("web/1").await.unwrap();
    assert!(!trial.folder().join("web").exists());
}

#[tokio::test]
async fn a_root_is_never_taken_for_a_folder() {
    let trial = Trial::new();
    let elsewhere = trial.temporary.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::create_dir_all(trial.folder()).unwrap();
    symlink(&elsewhere, trial.folder().join("web")).unwrap();
    assert_eq!(trial.add("web/1", ONE).await.unwrap_err(), "not a directory");
    symlink(ONE, elsewhere.join("1")).unwrap();
    trial.remove("web/1").await.unwrap();
    assert!(elsewhere.join("1").is_symlink(), "removed through a link");
}

#[tokio::test]
async fn a_folder_of_roots_is_no_root() {
    let trial = Trial::new();
    trial.add("web/1", ONE).await.unwrap();
    trial.add("web", TWO).await.unwrap_err();
    assert!(!trial.folder().join(".new-web").is_symlink());
    trial.remove("web").await.unwrap();
    assert_eq!(trial.list().await, ["web/1 m3k2prd15qqhazcwmjg9gwk0cq3lyj42-one"]);
}

#[tokio::test]
async fn files_of_others_are_neither_listed_nor_touched() {
    let trial = Trial::new();
    trial.add("web/1", ONE).await.unwrap();
    let strange = trial.folder().join("web/strange");
    symlink("/etc/hostname", &strange).unwrap();
    fs::write(trial.folder().join("note"), "x").unwrap();
    assert_eq!(trial.list().await, ["web/1 m3k2prd15qqhazcwmjg9gwk0cq3lyj42-one"]);
    trial.remove("web/1").await.unwrap();
    assert!(strange.is_symlink());
}

#[tokio::test]
async fn adding_and_removing_side_by_side_never_fails() {
    let trial = Trial::new();
    let mut changes = tokio::task::JoinSet::new();
    for n in 0..200 {
        let roots = trial.roots.clone();
        changes.spawn(async move {
            let name = RootName(format!("acme/web/{}", n % 4));
            let path: StorePath = ONE.parse().unwrap();
            match n % 2 {
                0 => roots.add(vec![(name, path)]).await,
                _ => roots.remove(name).await,
            }
        });
    }
    for changed in changes.join_all().await {
        changed.unwrap();
    }
}
