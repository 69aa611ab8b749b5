//! Where a flake's files lie on this machine, so that a position in it can be jumped to.
//!
//! Owns: from the id of a source to its folder. Refuses to know: whether the file is there.

use std::path::{Path, PathBuf};

use blixard_proto::SourcePosition;

/// The folder of a source with this id, if it is local: the top of its tree, whatever its `dir`.
pub(crate) fn local_tree(source_id: &str) -> Option<PathBuf> {
    let place = source_id.split_once('?').map_or(source_id, |(place, _)| place);
    let path = place.strip_prefix("path:").or_else(|| place.strip_prefix("git+file:"))?;
    let path = decoded(path.strip_prefix("//").unwrap_or(path))?;
    path.starts_with('/').then(|| path.into())
}

/// A position as editors read it: `file:line:column`.
pub(crate) fn position_text(position: &SourcePosition, tree: Option<&Path>) -> String {
    let SourcePosition { file, line, column } = position;
    // What is not in the source has an absolute path already, and joining keeps it.
    let file = tree.map_or_else(|| file.into(), |tree| tree.join(file));
    format!("{}:{line}:{column}", file.display())
}

/// The folder of the tree that a reference leads to, if it is a local path: within a git repository the
/// whole of that.
pub(super) fn tree_of(reference: &str) -> Option<PathBuf> {
    let reference =
        reference.strip_prefix("path:").or(reference.strip_prefix("git+file:")).unwrap_or(reference);
    let path = reference.split_once('?').map_or(reference, |(path, _)| path);
    if !path.starts_with(['/', '.', '~']) {
        return None;
    }
    let folder = Path::new(path.strip_prefix("//").unwrap_or(path)).canonicalize().ok()?;
    let has = |name: &'static str| move |folder: &&Path| folder.join(name).exists();
    let tree = folder.ancestors().find(has(".git")).or_else(|| folder.ancestors().find(has("flake.nix")));
    tree.map(Path::to_owned)
}

/// A text of Nix with positions in the user's tree instead of its copy in the store.
pub(super) fn in_tree(text: &str, tree: &Path) -> String {
    let mut told = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, from)) = rest.split_once("/nix/store/") {
        told.push_str(before);
        let file =
            from.split_once("-source/").map(|(hash, file)| (hash, file.split(':').next().unwrap_or(file)));
        match file {
            Some((hash, file)) if hash.len() == 32 && tree.join(file).exists() => {
                told.push_str(&tree.display().to_string());
                told.push('/');
                rest = from.get("0123456789abcdfghijklmnpqrsvwxyz-source/".len()..).unwrap_or_default();
            }
            _ => {
                told.push_str("/nix/store/");
                rest = from;
            }
        }
    }
    told + rest
}

/// Nix writes what a URL may not hold as `%20` and so on.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_local_source_has_a_folder() {
        for (id, folder) in [
            ("path:/root/infra", Some("/root/infra")),
            ("path:///root/infra", Some("/root/infra")),
            ("git+file:///home/me/infra?dir=sub/vm", Some("/home/me/infra")),
            ("git+file:///home/me/my%20infra", Some("/home/me/my infra")),
            ("path:./here", None),
            ("path:/bad%2", None),
            ("git+https://example.org/infra", None),
            ("github:owner/infra", None),
        ] {
            assert_eq!(local_tree(id), folder.map(PathBuf::from), "{id}");
        }
    }

    #[test]
    fn positions_in_the_copy_of_a_tree_become_positions_in_the_tree() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(tree.join("vms/web")).unwrap();
        std::fs::write(tree.join("flake.nix"), "").unwrap();
        std::fs::write(tree.join("vms/web/ü.nix"), "").unwrap();
        assert_eq!(tree_of(&tree.join("vms").display().to_string()).as_deref(), Some(tree.as_path()));
        assert_eq!(tree_of("github:owner/infra"), None);
        assert_eq!(tree_of(&tree.join("nowhere").display().to_string()), None);
        let copy = "/nix/store/a3aa6fyanw251lsf24kwjdq9gzwjpbh3-source";
        let said =
            format!("error: bad\n at {copy}/vms/web/ü.nix:1:2:\n at {copy}/none.nix:3:4 in /nix/store/x");
        let told = format!(
            "error: bad\n at {}/vms/web/ü.nix:1:2:\n at {copy}/none.nix:3:4 in /nix/store/x",
            tree.display()
        );
        assert_eq!(in_tree(&said, &tree), told);
    }

    #[test]
    fn a_position_is_joined_with_the_folder_unless_it_is_elsewhere() {
        let at = |file: &str| SourcePosition { file: file.to_owned(), line: 3, column: 7 };
        let tree = Path::new("/home/me/infra");
        assert_eq!(position_text(&at("vms/web.nix"), Some(tree)), "/home/me/infra/vms/web.nix:3:7");
        assert_eq!(position_text(&at("/nix/store/x-lib/a.nix"), Some(tree)), "/nix/store/x-lib/a.nix:3:7");
        assert_eq!(position_text(&at("flake.nix"), None), "flake.nix:3:7");
    }
}
