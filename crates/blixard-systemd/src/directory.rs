//! The directory that a vm's runner is started in: made, and given to the account it runs under.
//!
//! Owns: modes and owners. Refuses to know: whose vm it is. Accounts are those of `/etc/passwd` and `/etc/group`.

use std::fs;
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, lchown};
use std::path::Path;

use blixard_core::ports::units::UnitError;
use blixard_types::spec::{Account, number_in};

/// Of the directories above: who may not list them may still pass through.
const PASSAGE: u32 = 0o711;
const PRIVATE: u32 = 0o700;

/// Makes a directory that only this account may enter (root without one), with its parents. What is in it
/// already becomes the account's too.
pub(crate) async fn prepare(path: &str, account: Option<&Account>) -> Result<(), UnitError> {
    let refused = |path: &str, cause| UnitError::Directory { path: path.to_owned(), cause };
    let (path, account) = (path.to_owned(), account.cloned());
    let named = path.clone();
    let done = tokio::task::spawn_blocking(move || {
        let directory = Path::new(&path);
        let owner = match &account {
            Some(account) => ids(account)?,
            None => own_ids().map_err(|cause| refused("/proc/self", cause))?,
        };
        make(directory).and_then(|()| give(directory, owner)).map_err(|cause| refused(&path, cause))?;
        match account.and_then(|_| closed_above(directory)) {
            Some(closed) => {
                let why = "the account of the vm may not pass through it (its mode has no x for others)";
                Err(refused(&closed.display().to_string(), Error::new(ErrorKind::PermissionDenied, why)))
            }
            None => Ok(()),
        }
    });
    done.await.unwrap_or_else(|panic| Err(refused(&named, Error::other(panic))))
}

/// The directory above that a stranger may not pass through.
fn closed_above(path: &Path) -> Option<&Path> {
    let closed = |above: &&Path| fs::metadata(above).is_ok_and(|found| found.mode() & 0o001 == 0);
    path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()).find(closed)
}

/// The daemon's own numbers.
fn own_ids() -> Result<(u32, u32), Error> {
    let own = fs::metadata("/proc/self")?;
    Ok((own.uid(), own.gid()))
}

/// The modes are set once more after each is made: the daemon's umask may take away from them.
fn make(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    let missing: Vec<&Path> = path.ancestors().take_while(|above| !above.is_dir()).collect();
    for directory in missing.into_iter().rev() {
        let mode = if directory == path { PRIVATE } else { PASSAGE };
        match fs::DirBuilder::new().mode(PRIVATE).create(directory) {
            // Another vm of the tenant starts at the same time.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && directory.is_dir() => {}
            made => made?,
        }
        fs::set_permissions(directory, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Gives a directory and all in it away, unless it is the owner's already. Nothing of the vm runs, so
/// nobody changes the tree meanwhile; links are given away, not followed.
fn give(path: &Path, owner: (u32, u32)) -> Result<(), Error> {
    let metadata = fs::symlink_metadata(path)?;
    if (metadata.uid(), metadata.gid()) == owner {
        return Ok(());
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), owner)?;
        }
    }
    lchown(path, Some(owner.0), Some(owner.1))
}

/// The numbers of an account.
pub(crate) fn ids(account: &Account) -> Result<(u32, u32), UnitError> {
    let uid = number("/etc/passwd", &account.user);
    let uid = uid.ok_or_else(|| UnitError::NoAccount { what: "user", name: account.user.clone() })?;
    let gid = number("/etc/group", &account.group);
    let gid = gid.ok_or_else(|| UnitError::NoAccount { what: "group", name: account.group.clone() })?;
    Ok((uid, gid))
}

fn number(file: &str, name: &str) -> Option<u32> {
    number_in(&fs::read_to_string(file).unwrap_or_default(), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_working_directory_is_made_for_its_owner_alone() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("vms/acme/web");
        prepare(path.to_str().unwrap(), None).await.unwrap();
        prepare(path.to_str().unwrap(), None).await.unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
        let above = path.parent().unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(above & 0o7777, 0o711, "who may not list it may pass through");
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().join("below").to_str().unwrap().to_owned();
        let error = prepare(&path, None).await.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot make the directory {path}"));
    }

    #[tokio::test]
    async fn an_account_that_is_not_there_is_named() {
        let base = tempfile::tempdir().unwrap();
        let account = |user: &str, group: &str| Account { user: user.to_owned(), group: group.to_owned() };
        for (account, words) in [
            (account("no-such-user", "root"), "there is no user no-such-user on this host"),
            (account("root", "no-such-group"), "there is no group no-such-group on this host"),
        ] {
            let path = base.path().join("web");
            let error = prepare(path.to_str().unwrap(), Some(&account)).await.unwrap_err();
            assert_eq!(error.to_string(), words);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_directory_above_that_is_closed_to_others_is_found() {
        let base = tempfile::tempdir().unwrap();
        std::fs::set_permissions(base.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let path = base.path().join("state/vms/acme/web");
        make(&path).unwrap();
        assert_eq!(closed_above(&path), None);
        let state = base.path().join("state");
        std::fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(closed_above(&path), Some(state.as_path()));
    }

    #[test]
    fn what_is_in_a_directory_is_given_away_with_it_and_links_are_not_followed() {
        let base = tempfile::tempdir().unwrap();
        if own_ids().unwrap().0 != 0 {
            return;
        }
        let home = base.path().join("home");
        std::fs::create_dir_all(home.join("deep")).unwrap();
        std::fs::write(home.join("deep/disk.img"), "").unwrap();
        std::fs::write(base.path().join("outside"), "").unwrap();
        std::os::unix::fs::symlink("../outside", home.join("link")).unwrap();
        give(&home, (4321, 1234)).unwrap();
        let owner = |path: &Path| {
            let found = fs::symlink_metadata(path).unwrap();
            (found.uid(), found.gid())
        };
        for own in ["", "deep", "deep/disk.img", "link"] {
            assert_eq!(owner(&home.join(own)), (4321, 1234), "{own}");
        }
        assert_eq!(owner(&base.path().join("outside")), own_ids().unwrap());
    }

    #[test]
    fn numbers_are_found_by_the_whole_name() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\nmicrovm-x:x:7:7::/:/bin/sh\nmicrovm:x:995:107::/:/bin/sh\n";
        assert_eq!(number_in(passwd, "microvm"), Some(995));
        assert_eq!(number_in(passwd, "micro"), None);
        assert_eq!(number_in("microvm", "microvm"), None);
    }
}
