use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use blixard_types::Sha256Hash;
use nix_archive::nar::hash_path;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::pieces::{Chunk, NarStream, Piece, PiecesError, read_pieces};
use super::plant::{Plant, PlantError};
use super::*;

/// A tree as a test thinks of it.
#[derive(Debug, Clone)]
enum Tree {
    File { contents: Vec<u8>, executable: bool },
    Link(Vec<u8>),
    Folder(BTreeMap<Vec<u8>, Tree>),
}

/// The NAR of a tree, from the format's definition (Dolstra's thesis, figure 5.2) and nothing else.
fn reference(tree: &Tree) -> Vec<u8> {
    fn text(out: &mut Vec<u8>, bytes: &[u8]) {
        out.extend((bytes.len() as u64).to_le_bytes());
        out.extend(bytes);
        out.resize(out.len().next_multiple_of(8), 0);
    }
    fn node(out: &mut Vec<u8>, tree: &Tree) {
        text(out, b"(");
        text(out, b"type");
        match tree {
            Tree::File { contents, executable } => {
                text(out, b"regular");
                if *executable {
                    text(out, b"executable");
                    text(out, b"");
                }
                text(out, b"contents");
                text(out, contents);
            }
            Tree::Link(target) => {
                text(out, b"symlink");
                text(out, b"target");
                text(out, target);
            }
            Tree::Folder(children) => {
                text(out, b"directory");
                for (name, child) in children {
                    text(out, b"entry");
                    text(out, b"(");
                    text(out, b"name");
                    text(out, name);
                    text(out, b"node");
                    node(out, child);
                    text(out, b")");
                }
            }
        }
        text(out, b")");
    }
    let mut out = Vec::new();
    text(&mut out, b"nix-archive-1");
    node(&mut out, tree);
    out
}

fn make(tree: &Tree, at: &Path) {
    match tree {
        Tree::File { contents, executable } => {
            fs::write(at, contents).unwrap();
            fs::set_permissions(at, Permissions::from_mode(if *executable { 0o755 } else { 0o644 })).unwrap();
        }
        Tree::Link(target) => symlink(std::ffi::OsStr::from_bytes(target), at).unwrap(),
        Tree::Folder(children) => {
            fs::create_dir(at).unwrap();
            for (name, child) in children {
                make(child, &at.join(std::ffi::OsStr::from_bytes(name)));
            }
        }
    }
}

fn trees() -> impl Strategy<Value = Tree> {
    let name = proptest::collection::vec(prop_oneof![1..=b'.' - 1, b'0'..=255_u8], 1..40);
    let bytes = proptest::collection::vec(any::<u8>(), 0..300);
    let leaf = prop_oneof![
        (bytes, any::<bool>()).prop_map(|(contents, executable)| Tree::File { contents, executable }),
        proptest::collection::vec(1..=255_u8, 1..80).prop_map(Tree::Link),
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        proptest::collection::btree_map(name.clone(), inner, 0..6).prop_map(Tree::Folder)
    })
}

fn packed(path: &Path) -> Vec<u8> {
    let mut nar = Vec::new();
    let mut ended = false;
    pack(path, |chunk, last| {
        assert!(!ended && chunk.len() <= CHUNK);
        nar.extend_from_slice(&chunk);
        ended = last;
        Ok(())
    })
    .unwrap();
    assert!(ended);
    nar
}

/// A stream that brings these bytes in chunks of this size.
fn stream(nar: &[u8], chunk: usize, ends: bool) -> NarStream {
    let (sender, receiver) = mpsc::channel(nar.len() / chunk + 2);
    for part in nar.chunks(chunk) {
        sender.try_send(Chunk { path: 0, data: Bytes::copy_from_slice(part), last: false }).unwrap();
    }
    if ends {
        sender.try_send(Chunk { path: 0, data: Bytes::new(), last: true }).unwrap();
    }
    let mut stream = NarStream::new(receiver);
    assert_eq!(stream.next_nar(), Some(0));
    stream
}

fn open(folder: &Path) -> OwnedFd {
    rustix::process::umask(rustix::fs::Mode::empty());
    File::open(folder).unwrap().into()
}

fn plant(folder: &Path, nar: &[u8], chunk: usize) -> Result<(Sha256Hash, u64), String> {
    let store = open(folder);
    let mut plant = Plant::new(&store, "tree", nar.len() as u64);
    let mut refused = None;
    let read = read_pieces(&mut stream(nar, chunk, true), |piece| {
        plant.take(piece).map_err(|error| {
            refused = Some(error.to_string());
            io::ErrorKind::InvalidData.into()
        })
    });
    match (read, refused) {
        (_, Some(refused)) => Err(refused),
        (Err(error), None) => Err(error.to_string()),
        (Ok(()), None) => plant.finish().map_err(|error| error.to_string()),
    }
}

fn check_stored(path: &Path) {
    let metadata = fs::symlink_metadata(path).unwrap();
    assert_eq!(metadata.mtime(), 1, "{}", path.display());
    if metadata.is_symlink() {
        return;
    }
    assert!([0o444, 0o555].contains(&(metadata.mode() & 0o7777)), "{:o}", metadata.mode());
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            check_stored(&entry.unwrap().path());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_tree_has_the_nar_of_the_definition_and_comes_back_with_its_hash(
        tree in trees(),
        chunk in 1..5000_usize,
    ) {
        let folder = tempfile::tempdir().unwrap();
        make(&tree, &folder.path().join("before"));
        let nar = packed(&folder.path().join("before"));
        prop_assert_eq!(&nar, &reference(&tree));
        let (hash, size) = plant(folder.path(), &nar, chunk).unwrap();
        prop_assert_eq!(hash, Sha256Hash(Sha256::digest(&nar).into()));
        prop_assert_eq!(size, nar.len() as u64);
        let after = folder.path().join("tree");
        prop_assert_eq!(packed(&after), nar);
        check_stored(&after);
    }

    #[test]
    fn a_nar_with_a_byte_changed_or_cut_never_has_its_hash(
        tree in trees(),
        at in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
    ) {
        let nar = reference(&tree);
        let good = Sha256Hash(Sha256::digest(&nar).into());
        let mut changed = nar.clone();
        changed[at.index(nar.len())] ^= flip;
        let folder = tempfile::tempdir().unwrap();
        prop_assert_ne!(plant(folder.path(), &changed, 999).ok().map(|(hash, _)| hash), Some(good));
        let folder = tempfile::tempdir().unwrap();
        prop_assert!(plant(folder.path(), &nar[..at.index(nar.len())], 999).is_err());
        let only_below: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        prop_assert!(only_below.is_empty() || only_below == ["tree"]);
    }
}

#[test]
fn a_file_larger_than_a_chunk_streams_through() {
    let folder = tempfile::tempdir().unwrap();
    let contents: Vec<u8> = (0..251).cycle().take(3 * CHUNK + 5).collect();
    fs::write(folder.path().join("before"), contents).unwrap();
    let nar = packed(&folder.path().join("before"));
    let expected = hash_path(&folder.path().join("before"), CaseHack::Disabled).unwrap();
    let (hash, size) = plant(folder.path(), &nar, 100_000).unwrap();
    assert_eq!((hash.0, size), (expected.sha256, expected.size));
}

#[test]
fn two_nars_follow_each_other_on_one_stream_and_a_lost_connection_is_told_from_a_bad_nar() {
    let nar = reference(&Tree::Link(b"x".to_vec()));
    let (sender, receiver) = mpsc::channel(8);
    for _ in 0..2 {
        sender.try_send(Chunk { path: 0, data: nar.clone().into(), last: true }).unwrap();
    }
    sender.try_send(Chunk { path: 0, data: Bytes::copy_from_slice(&nar[..20]), last: false }).unwrap();
    drop(sender);
    let mut stream = NarStream::new(receiver);
    for _ in 0..2 {
        assert_eq!(stream.next_nar(), Some(0));
        read_pieces(&mut stream, |_| Ok(())).unwrap();
    }
    assert_eq!(stream.next_nar(), Some(0));
    assert!(matches!(read_pieces(&mut stream, |_| Ok(())), Err(PiecesError::Interrupted)));
    assert_eq!(stream.next_nar(), None);
    let mut truncated = self::stream(&nar[..20], 7, true);
    assert!(matches!(read_pieces(&mut truncated, |_| Ok(())), Err(PiecesError::Malformed(_))));
}

/// The pieces a hostile daemon half could send: none may reach outside of the tree.
#[test]
fn pieces_that_are_no_tree_are_refused_by_what_makes_it() {
    let dir = |name| Piece::Directory { name };
    let file = |name, size| Piece::File { name, executable: false, size };
    let link = |name, target| Piece::Symlink { name, target };
    let long = [b'x'; 256];
    let cases: [(&[Piece<'_>], &str); 19] = [
        (&[dir(b""), file(b"..", 0)], "no name"),
        (&[dir(b""), file(b".", 0)], "no name"),
        (&[dir(b""), file(b"", 0)], "no name"),
        (&[dir(b""), file(b"a/b", 0)], "no name"),
        (&[dir(b""), file(b"../etc", 0)], "no name"),
        (&[dir(b""), file(b"/etc/passwd", 0)], "no name"),
        (&[dir(b""), dir(b"a\0b")], "no name"),
        (&[dir(b""), link(&long, b"x")], "no name"),
        (&[dir(b""), link(b"b", b"x"), link(b"a", b"x")], "sorted"),
        (&[dir(b""), link(b"a", b"/etc"), dir(b"a")], "sorted"),
        (&[dir(b""), link(b"a", b"/etc"), Piece::Up, file(b"", 0)], "two roots"),
        (&[file(b"x", 0)], "root has a name"),
        (&[file(b"", 3), Piece::Data(b"four")], "more data"),
        (&[file(b"", 3), Piece::Up], "ends early"),
        (&[Piece::Up], "never began"),
        (&[Piece::Data(b"x")], "of no file"),
        (&[file(b"", u64::MAX)], "bytes is in a NAR of"),
        (&[link(b"", b"a\0b")], "leads to"),
        (&[link(b"", b"")], "leads to"),
    ];
    for (pieces, reason) in cases {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let mut plant = Plant::new(&store, "tree", 10_000);
        let taken = pieces.iter().try_for_each(|piece| plant.take(*piece));
        let Err(PlantError::Bad(said)) = taken else { panic!("{pieces:?}: {taken:?}") };
        assert!(said.contains(reason), "{pieces:?}: {said}");
    }
}

#[test]
fn a_tree_may_not_be_larger_than_its_record_says_nor_end_in_the_middle_nor_be_bottomless() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut large = Plant::new(&store, "large", 600);
    let fill = (0..100_u8).try_for_each(|at| match at {
        0 => large.take(Piece::Directory { name: b"" }),
        at => large.take(Piece::Symlink { name: &[at], target: b"x" }).or_else(|error| match at {
            b'.' | b'/' => Ok(()),
            _ => Err(error),
        }),
    });
    assert!(fill.unwrap_err().to_string().contains("more than 600"));
    let mut open_ended = Plant::new(&store, "open", 600);
    open_ended.take(Piece::Directory { name: b"" }).unwrap();
    assert!(open_ended.finish().is_err());
    let mut deep = Plant::new(&store, "deep", 1 << 20);
    deep.take(Piece::Directory { name: b"" }).unwrap();
    let down = (0..100).try_for_each(|_| deep.take(Piece::Directory { name: b"d" }));
    assert!(down.unwrap_err().to_string().contains("deep"));
}

#[test]
fn nothing_is_written_through_a_link_or_over_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), folder.path().join("tree")).unwrap();
    let store = open(folder.path());
    for piece in [
        Piece::Directory { name: b"" },
        Piece::File { name: b"", executable: true, size: 0 },
        Piece::Symlink { name: b"", target: b"x" },
    ] {
        let taken = Plant::new(&store, "tree", 1000).take(piece);
        assert!(matches!(taken, Err(PlantError::Write(_))), "{taken:?}");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}
