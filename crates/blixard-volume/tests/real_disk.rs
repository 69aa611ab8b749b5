//! Images on a real file system: the contract, and what only files can do.

#[cfg(test)]
mod real_disk {
    use std::fs::{self, File};
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::path::{Path, PathBuf};
    use std::time::Duration;

    use blixard_core::ports::volumes::{ImageOrigin, VolumeError, VolumeImage, Volumes as _};
    use blixard_core::state::Made;
    use blixard_testkit::fake::volumes::contract::{self, Content, Ground};
    use blixard_types::spec::{Account, FileSystem};
    use blixard_types::{Epoch, VmId};
    use blixard_volume::DiskVolumes;
    use rustix::fs::{CWD, FileType, Mode};
    use tokio::task::JoinSet;

    struct Disk(PathBuf);

    impl Disk {
        fn path(&self, vm: &VmId, path: &str) -> PathBuf {
            self.0.join("vms").join(vm.tenant().as_str()).join(vm.name().as_str()).join(path)
        }
    }

    impl Ground for Disk {
        fn read(&self, vm: &VmId, path: &str) -> Option<Content> {
            let path = self.path(vm, path);
            let size_mib = path.metadata().ok()?.len() >> 20;
            let mut text = [0; 64];
            let read = File::open(&path).unwrap().read(&mut text).unwrap();
            let text = String::from_utf8_lossy(&text[..read]).trim_end_matches('\0').to_owned();
            Some(Content { text, size_mib })
        }

        fn write(&self, vm: &VmId, path: &str, text: &str) {
            let path = self.path(vm, path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let file = File::options().write(true).create(true).truncate(false).open(path);
            file.unwrap().write_all(text.as_bytes()).unwrap();
        }

        fn lose(&self, vm: &VmId, path: &str) {
            fs::remove_file(self.path(vm, path)).unwrap();
        }
    }

    fn local(image: &str, made: Made) -> VolumeImage {
        let origin = ImageOrigin::Local { life: Epoch(1), made };
        VolumeImage { image: image.to_owned(), origin, ..contract::local(4, 1, made) }
    }

    struct Scene {
        folder: tempfile::TempDir,
        volumes: DiskVolumes,
        disk: Disk,
        vm: VmId,
    }

    fn scene() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let (volumes, disk) = (DiskVolumes::new(&state), Disk(state));
        Scene { folder, volumes, disk, vm: "db".parse().unwrap() }
    }

    impl Scene {
        async fn prepare(&self, image: VolumeImage) -> Result<(), VolumeError> {
            self.volumes.prepare(self.vm.clone(), None, vec![image]).await
        }
    }

    #[tokio::test]
    async fn the_disk_keeps_the_contract() {
        let scene = scene();
        contract::keeps(&scene.volumes, &scene.disk).await.unwrap();
    }

    #[tokio::test]
    async fn an_image_is_sparse_private_and_leaves_nothing_beside_it() {
        let scene = scene();
        scene.prepare(local("data.img", Made::Promised)).await.unwrap();
        let image = scene.disk.path(&scene.vm, "data.img");
        let found = image.metadata().unwrap();
        assert_eq!((found.len(), found.blocks()), (4 << 20, 0));
        assert_eq!(found.permissions().mode() & 0o7777, 0o600);
        let home = image.parent().unwrap();
        assert_eq!(home.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
        assert_eq!(home.parent().unwrap().metadata().unwrap().permissions().mode() & 0o7777, 0o711);
        assert_eq!(fs::read_dir(home).unwrap().count(), 1);
        let register = scene.disk.0.join("volumes/default/db");
        assert_eq!(register.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
    }

    /// A folder with a `mkfs.ext4` that does this.
    fn mkfs(folder: &Path, script: &str) -> PathBuf {
        let programs = folder.join("programs");
        fs::create_dir_all(&programs).unwrap();
        let program = programs.join("mkfs.ext4");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        programs
    }

    fn with_file_system() -> VolumeImage {
        VolumeImage { fs_type: Some(FileSystem::Ext4), ..local("data.img", Made::Promised) }
    }

    #[tokio::test]
    async fn a_file_system_that_is_not_made_in_time_is_an_error_and_made_again() {
        let scene = scene();
        let limit = Duration::from_millis(50);
        let hangs = mkfs(scene.folder.path(), "exec sleep 1000");
        let volumes = scene.volumes.clone().formatting_by(&hangs, limit);
        let refused = volumes.prepare(scene.vm.clone(), None, vec![with_file_system()]).await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            "cannot make a file system on volume data: mkfs.ext4 has not ended within 50 ms"
        );
        assert!(!scene.disk.path(&scene.vm, "data.img").exists());
        let works = mkfs(scene.folder.path(), "exit 0");
        let volumes = scene.volumes.clone().formatting_by(&works, Duration::from_mins(1));
        volumes.prepare(scene.vm.clone(), None, vec![with_file_system()]).await.unwrap();
        assert!(scene.disk.path(&scene.vm, "data.img").exists());
    }

    #[tokio::test]
    async fn a_file_system_that_takes_its_time_holds_up_no_other_vm() {
        let scene = scene();
        let gate = scene.folder.path().join("gate");
        rustix::fs::mknodat(CWD, &gate, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let waits = mkfs(scene.folder.path(), &format!("read word < {}", gate.display()));
        let volumes = scene.volumes.clone().formatting_by(&waits, Duration::from_mins(5));
        let (slow, vm) = (volumes.clone(), scene.vm.clone());
        let mut first = JoinSet::new();
        first.spawn(async move { slow.prepare(vm, None, vec![with_file_system()]).await });
        // It is being made as soon as somebody reads there.
        let mut word = tokio::task::spawn_blocking(move || File::options().write(true).open(gate).unwrap())
            .await
            .unwrap();
        let other: VmId = "web".parse().unwrap();
        volumes.prepare(other.clone(), None, vec![local("data.img", Made::Promised)]).await.unwrap();
        assert!(first.try_join_next().is_none());
        assert!(scene.disk.path(&other, "data.img").exists());
        word.write_all(b"go\n").unwrap();
        first.join_next().await.unwrap().unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_a_power_cut_has_left_half_made_is_made_again() {
        let scene = scene();
        let wanted = local("data.img", Made::Promised);
        scene.prepare(wanted.clone()).await.unwrap();
        fs::rename(scene.disk.path(&scene.vm, "data.img"), scene.disk.path(&scene.vm, ".data.new")).unwrap();
        fs::write(scene.disk.0.join("volumes/default/db/.data.new"), "{").unwrap();
        scene.prepare(wanted).await.unwrap();
        assert_eq!(scene.disk.path(&scene.vm, "data.img").metadata().unwrap().len(), 4 << 20);
        assert!(!scene.disk.path(&scene.vm, ".data.new").exists());
    }

    #[tokio::test]
    async fn no_link_of_a_guest_leads_out_of_its_directory() {
        let scene = scene();
        let outside = scene.folder.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("data.img"), "secret").unwrap();
        let untouched = |path: &Path| {
            assert_eq!(fs::read_to_string(path).unwrap(), "secret");
            assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        };
        let wanted = local("disks/data.img", Made::Promised);
        scene.prepare(wanted.clone()).await.unwrap();
        let (image, disks) =
            (scene.disk.path(&scene.vm, "disks/data.img"), scene.disk.path(&scene.vm, "disks"));
        // The image is a link, or another name of a file; the folder is a link.
        fs::remove_file(&image).unwrap();
        symlink(outside.join("data.img"), &image).unwrap();
        let refused = scene.prepare(wanted.clone()).await;
        assert!(matches!(refused, Err(VolumeError::NotPlain { .. })), "{refused:?}");
        fs::remove_file(&image).unwrap();
        fs::hard_link(outside.join("data.img"), &image).unwrap();
        let refused = scene.prepare(wanted.clone()).await;
        assert!(matches!(refused, Err(VolumeError::NotPlain { .. })), "{refused:?}");
        fs::remove_file(&image).unwrap();
        fs::remove_dir(&disks).unwrap();
        symlink(&outside, &disks).unwrap();
        let refused = scene.prepare(wanted.clone()).await;
        assert!(matches!(refused, Err(VolumeError::NotPlain { .. })), "{refused:?}");
        let refused = scene.volumes.delete(scene.vm.clone(), wanted.name.clone(), Epoch(1)).await;
        assert!(matches!(refused, Err(VolumeError::NotPlain { .. })), "{refused:?}");
        untouched(&outside.join("data.img"));
        for image in ["../data.img", "/etc/data.img", "a/../../x", "", "a//b"] {
            let refused = scene.prepare(local(image, Made::Promised)).await;
            assert!(
                matches!(refused, Err(VolumeError::NotPlain { .. } | VolumeError::Foreign { .. })),
                "{image}: {refused:?}"
            );
        }
    }

    #[tokio::test]
    async fn an_image_belongs_to_the_account_of_its_vm() {
        let scene = scene();
        let account = |user: &str| Some(Account { user: user.to_owned(), group: "daemon".to_owned() });
        let wanted = || vec![local("disks/data.img", Made::Promised)];
        let nobody = scene.volumes.prepare(scene.vm.clone(), account("no-such-user"), wanted()).await;
        assert!(matches!(nobody, Err(VolumeError::NoAccount { what: "user", .. })), "{nobody:?}");
        if fs::metadata("/proc/self").unwrap().uid() != 0 {
            return;
        }
        scene.volumes.prepare(scene.vm.clone(), account("daemon"), wanted()).await.unwrap();
        for path in ["disks", "disks/data.img"] {
            let found = scene.disk.path(&scene.vm, path).metadata().unwrap();
            assert_eq!((found.uid(), found.gid()), (1, 1), "{path}");
        }
    }

    #[tokio::test]
    async fn a_shared_volume_is_led_to_and_never_made() {
        let scene = scene();
        let media = scene.folder.path().join("media.img");
        let path = media.to_str().unwrap().to_owned();
        let wanted = VolumeImage {
            origin: ImageOrigin::Shared { path: path.clone() },
            ..local("data.img", Made::Promised)
        };
        let refused = scene.prepare(wanted.clone()).await;
        assert!(matches!(refused, Err(VolumeError::NotThere { .. })), "{refused:?}");
        fs::write(&media, "films").unwrap();
        for _ in 0..2 {
            scene.prepare(wanted.clone()).await.unwrap();
            let link = scene.disk.path(&scene.vm, "data.img");
            assert_eq!(fs::read_to_string(&link).unwrap(), "films");
            fs::remove_file(&link).unwrap();
            symlink("/etc/passwd", &link).unwrap();
        }
        scene.prepare(VolumeImage { image: path, ..wanted.clone() }).await.unwrap();
        let refused = scene.prepare(VolumeImage { image: "/etc/passwd".to_owned(), ..wanted }).await;
        assert!(matches!(refused, Err(VolumeError::NotThere { .. })), "{refused:?}");
        scene.volumes.end(scene.vm.clone()).await.unwrap();
        assert_eq!(fs::read_to_string(&media).unwrap(), "films");
    }

    #[tokio::test]
    async fn a_new_image_has_its_file_system_and_one_that_fails_is_not_there() {
        let scene = scene();
        let wanted = |fs_type| VolumeImage {
            fs_type: Some(fs_type),
            label: Some("data".to_owned()),
            size_mib: 8,
            ..local("data.img", Made::Promised)
        };
        let image = scene.disk.path(&scene.vm, "data.img");
        // No machine of ours has it.
        if !Path::new("/usr/sbin/mkfs.xfs").exists() {
            let refused = scene.prepare(wanted(FileSystem::Xfs)).await;
            assert!(matches!(refused, Err(VolumeError::Format { .. })), "{refused:?}");
            assert!(!image.exists());
        }
        if !Path::new("/usr/sbin/mkfs.ext4").exists() && !Path::new("/sbin/mkfs.ext4").exists() {
            return;
        }
        scene.prepare(wanted(FileSystem::Ext4)).await.unwrap();
        let bytes = fs::read(&image).unwrap();
        assert_eq!(bytes.len(), 8 << 20);
        // ext4(5): the magic number of the superblock, and its label.
        assert_eq!(bytes[1024 + 0x38..1024 + 0x3a], [0x53, 0xef]);
        assert_eq!(&bytes[1024 + 0x78..1024 + 0x7c], b"data");
    }
}
