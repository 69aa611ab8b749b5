//! Completions and the manual; without a daemon.

use super::blixard;
use crate::flake::Nix;

async fn ran(words: &str) -> super::Ran {
    blixard("/nonexistent/socket".as_ref(), &Nix::in_path(), words).await
}

#[tokio::test]
async fn every_shell_gets_a_script_that_knows_the_commands() {
    for (shell, begins) in
        [("bash", "_blixard() {"), ("zsh", "#compdef blixard"), ("fish", "# Print an optspec")]
    {
        let ran = ran(&format!("completions {shell}")).await;
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{ran}");
        assert!(ran.out.starts_with(begins), "{shell}: {}", ran.out.lines().next().unwrap());
        for word in ["deploy", "take-over", "completions", "logs"] {
            assert!(ran.out.contains(word), "{shell} does not know {word}");
        }
    }
    assert_eq!(ran("completions tcsh").await.code, 2);
}

#[tokio::test]
async fn every_command_has_a_page_of_the_manual() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("share/man1");
    let made = ran(&format!("man {}", pages.display())).await;
    assert_eq!((made.code, made.out.as_str(), made.err.as_str()), (0, "", ""), "{made}");
    let names =
        std::fs::read_dir(&pages).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    for name in
        ["blixard.1", "blixard-deploy.1", "blixard-vm.1", "blixard-vm-logs.1", "blixard-completions.1"]
    {
        assert!(names.iter().any(|page| page == name), "{name} is not in {names:?}");
    }
    let page = std::fs::read_to_string(pages.join("blixard.1")).unwrap();
    assert!(page.contains("Exit codes") && page.contains("blixard\\-vm(1)"), "{page}");
}

#[tokio::test]
async fn a_manual_that_cannot_be_written_names_the_folder() {
    insta::assert_snapshot!(ran("man /proc/nowhere").await, @"
    --- stderr
    error: cannot write the manual to /proc/nowhere
    caused by: No such file or directory (os error 2)
    hint: is the folder yours to write to, and is there room?
    --- exit 1
    ");
}
