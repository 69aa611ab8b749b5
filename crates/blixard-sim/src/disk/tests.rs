//! What both kinds of files promise, and what this disk forgets.

use std::io::Read as _;
use std::path::Path;

use blixard_raft::{Files, RealFiles};

use super::*;

fn new_disk() -> Disk {
    let disk = Disk::default();
    disk.power_on();
    disk
}

fn contents(files: &dyn Files, path: &Path) -> io::Result<Vec<u8>> {
    let mut found = Vec::new();
    files.open(path)?.read_to_end(&mut found)?;
    Ok(found)
}

fn written(files: &dyn Files, path: &Path, bytes: &[u8]) {
    let mut file = files.create(path).unwrap();
    file.write_all(bytes).unwrap();
    file.sync().unwrap();
}

/// What checkpoints rely on, of the operating system's files and of these.
fn keeps_the_contract(files: &dyn Files, root: &Path) {
    let directory = root.join("a/b");
    assert_eq!(files.list(&directory).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(files.create(&directory.join("x")).err().unwrap().kind(), io::ErrorKind::NotFound);
    files.make_directory(&directory).unwrap();
    files.make_directory(&directory).unwrap();
    let (one, two) = (directory.join("one"), directory.join("two"));
    assert_eq!(files.size(&one).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(files.remove(&one).unwrap_err().kind(), io::ErrorKind::NotFound);

    written(files, &one, b"first");
    written(files, &two, b"second");
    assert_eq!(files.size(&one).unwrap(), 5);
    let mut held = files.open(&two).unwrap();
    files.rename(&one, &two).unwrap();
    files.sync_directory(&directory).unwrap();

    assert_eq!(files.list(&directory).unwrap(), std::slice::from_ref(&two));
    assert_eq!(contents(files, &two).unwrap(), b"first");
    let mut replaced = Vec::new();
    held.read_to_end(&mut replaced).unwrap();
    assert_eq!(replaced, b"second");
    written(files, &two, b"3");
    assert_eq!(contents(files, &two).unwrap(), b"3");
    files.remove(&two).unwrap();
    assert_eq!(files.list(&directory).unwrap(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn real_files_keep_the_contract() {
    let root = tempfile::tempdir().unwrap();
    keeps_the_contract(&RealFiles, root.path());
}

#[test]
fn files_in_memory_keep_the_contract() {
    keeps_the_contract(new_disk().files().as_ref(), Path::new("/"));
}

#[test]
fn a_crash_takes_contents_and_names_that_were_not_synced() {
    let disk = new_disk();
    let files = disk.files();
    let root = Path::new("/d");
    files.make_directory(root).unwrap();
    written(files.as_ref(), &root.join("kept"), b"kept");
    files.create(&root.join("empty")).unwrap().write_all(b"lost").unwrap();
    files.sync_directory(root).unwrap();
    written(files.as_ref(), &root.join("nameless"), b"x");
    files.rename(&root.join("kept"), &root.join("renamed")).unwrap();

    disk.power_off(Keep::Nothing);
    assert!(files.list(root).is_err(), "a handle outlives the power");
    disk.power_on();

    let files = disk.files();
    assert_eq!(files.list(root).unwrap(), [root.join("empty"), root.join("kept")]);
    assert_eq!(contents(files.as_ref(), &root.join("kept")).unwrap(), b"kept");
    assert_eq!(contents(files.as_ref(), &root.join("empty")).unwrap(), b"");
}

#[test]
fn a_crash_takes_writes_of_the_log_that_were_not_synced() {
    let disk = new_disk();
    let log = disk.log();
    log.set_size(4096).unwrap();
    log.write(0, &[1; 1024]).unwrap();
    log.sync().unwrap();
    log.write(0, &[2; 1024]).unwrap();

    disk.power_off(Keep::Nothing);
    disk.power_on();

    let mut found = [0; 1024];
    disk.log().read(0, &mut found).unwrap();
    assert_eq!(found, [1; 1024]);
    log.read(0, &mut found).unwrap_err();
}

#[test]
fn a_torn_write_is_old_in_one_sector_and_new_in_another() {
    let torn = (0..64).any(|number| {
        let disk = new_disk();
        let log = disk.log();
        log.set_size(4096).unwrap();
        log.write(0, &[7; 4096]).unwrap();
        disk.power_off(Keep::Torn(number));
        disk.power_on();
        let mut found = [0; 4096];
        disk.log().read(0, &mut found).unwrap();
        found.contains(&0) && found.contains(&7)
    });
    assert!(torn);
}

#[test]
fn trouble_is_what_it_says() {
    let disk = new_disk();
    let log = disk.log();
    log.set_size(10).unwrap();
    log.sync().unwrap();
    disk.trouble(Trouble::Full);
    assert_eq!(log.write(0, b"x").unwrap_err().kind(), io::ErrorKind::StorageFull);
    disk.trouble(Trouble::None);
    log.write(0, b"x").unwrap();
    disk.trouble(Trouble::SyncsFail(Keep::Nothing));
    log.sync().unwrap_err();
    let mut found = [9];
    log.read(0, &mut found).unwrap();
    assert_eq!(found, [0], "what a failed sync did not write is gone");
    disk.trouble(Trouble::Lies);
    log.write(0, b"x").unwrap();
    log.sync().unwrap();
    log.write(0, b"y").unwrap();
    log.sync().unwrap();
    disk.power_off_after(0, Keep::Nothing);
    log.write(0, b"z").unwrap_err();
    assert!(!disk.is_on());
    disk.power_on();
    disk.log().read(0, &mut found).unwrap();
    assert_eq!(found, *b"x", "the last sync was a lie");
}
