//! The secrets of a unit: which file of each is there, and how systemd is told of it.
//!
//! Owns: what may be the file of a secret. Refuses to know: its content, which systemd alone reads, when the unit
//! starts, into memory that only the unit's account sees (systemd.exec(5), "Credentials").

use std::io::ErrorKind;

use blixard_core::ports::units::{Credential, SEALED, UnitError};
use blixard_core::unit::CREDENTIALS_DIR;

use crate::settings::Setting;

/// Where systemd has the credentials of units, a folder each.
const STORE: &str = "/run/credentials";
/// The most that systemd takes.
const SIZE_MAX: u64 = 1 << 20;
/// `MS_REC`: what `BindReadOnlyPaths=` says if it is not told `norbind`.
const MS_REC: u64 = 16384;

/// A secret that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    name: String,
    file: String,
    form: Form,
}

/// How its file has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Sealed,
}

/// Looks for the files of all these; the sealed one counts where both are there.
pub(crate) async fn find(credentials: &[Credential]) -> Result<Vec<Found>, UnitError> {
    let mut found = Vec::new();
    for credential in credentials {
        found.push(find_one(credential).await?);
    }
    Ok(found)
}

async fn find_one(Credential { name, file }: &Credential) -> Result<Found, UnitError> {
    for (file, form) in [(format!("{file}{SEALED}"), Form::Sealed), (file.clone(), Form::Plain)] {
        let unfit =
            |problem: String| UnitError::Credential { name: name.clone(), file: file.clone(), problem };
        match tokio::fs::metadata(&file).await {
            Ok(about) if !about.is_file() => return Err(unfit("is no file".to_owned())),
            Ok(about) if form == Form::Plain && about.len() > SIZE_MAX => {
                return Err(unfit("is larger than 1 MiB, the most that systemd takes".to_owned()));
            }
            Ok(_) => return Ok(Found { name: name.clone(), file, form }),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => return Err(unfit(error.to_string())),
        }
    }
    Err(UnitError::NoCredential { name: name.clone(), file: file.clone() })
}

/// What systemd is told: to load them, and to show them where every runner looks.
pub(crate) fn settings(unit: &str, found: &[Found]) -> Vec<Setting> {
    if found.is_empty() {
        return Vec::new();
    }
    let of = |form: Form| {
        let chosen = found.iter().filter(|one| one.form == form);
        chosen.map(|one| (one.name.clone(), one.file.clone())).collect::<Vec<(String, String)>>()
    };
    let shown = (format!("{STORE}/{unit}"), CREDENTIALS_DIR.to_owned(), false, MS_REC);
    vec![
        ("LoadCredential", of(Form::Plain).into()),
        ("LoadCredentialEncrypted", of(Form::Sealed).into()),
        ("BindReadOnlyPaths", vec![shown].into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(folder: &std::path::Path) -> Credential {
        Credential { name: "key".to_owned(), file: folder.join("web/key").display().to_string() }
    }

    async fn said(credential: &Credential) -> String {
        find(std::slice::from_ref(credential)).await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_secret_that_is_missing_or_unfit_is_named_with_its_file_and_the_cure() {
        let folder = tempfile::tempdir().unwrap();
        let (key, at) = (credential(folder.path()), folder.path().display().to_string());
        let absent = said(&key).await;
        std::fs::create_dir_all(folder.path().join("web/key")).unwrap();
        let directory = said(&key).await;
        std::fs::remove_dir(folder.path().join("web/key")).unwrap();
        std::fs::File::create(&key.file).unwrap().set_len(SIZE_MAX + 1).unwrap();
        let words = [absent, directory, said(&key).await].join("\n").replace(&at, "DIR");
        insta::assert_snapshot!(words, @"
        this host has no credential key: put it into DIR/web/key, or sealed into DIR/web/key.cred by `systemd-creds encrypt --name=key`
        the credential key cannot be handed over: DIR/web/key is no file
        the credential key cannot be handed over: DIR/web/key is larger than 1 MiB, the most that systemd takes
        ");
    }

    #[tokio::test]
    async fn what_is_sealed_is_told_apart_by_its_file_and_counts_before_what_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let key = credential(folder.path());
        std::fs::create_dir_all(folder.path().join("web")).unwrap();
        std::fs::write(&key.file, "plain").unwrap();
        let told = |found: &[Found]| {
            let all = settings("blixard-vm-a-web-run.service", found);
            let lines: Vec<String> = all.iter().map(|(name, value)| format!("{name} = {value}")).collect();
            lines.join("\n").replace(&folder.path().display().to_string(), "DIR")
        };
        let plain = told(&find(std::slice::from_ref(&key)).await.unwrap());
        std::fs::write(format!("{}.cred", key.file), "sealed").unwrap();
        let sealed = told(&find(std::slice::from_ref(&key)).await.unwrap());
        insta::assert_snapshot!([plain, sealed, told(&[])].join("\n\n"), @r#"
        LoadCredential = [("key", "DIR/web/key")]
        LoadCredentialEncrypted = @a(ss) []
        BindReadOnlyPaths = [("/run/credentials/blixard-vm-a-web-run.service", "/run/blixard-credentials", false, uint64 16384)]

        LoadCredential = @a(ss) []
        LoadCredentialEncrypted = [("key", "DIR/web/key.cred")]
        BindReadOnlyPaths = [("/run/credentials/blixard-vm-a-web-run.service", "/run/blixard-credentials", false, uint64 16384)]
        "#);
    }
}
