//! The contract of the port, kept by the real `ip` in a network namespace of its own.

#[cfg(test)]
mod real_ip {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};

    use blixard_network::IpNetworks;
    use blixard_testkit::fake::networks::contract::{self, Ground};

    /// A network namespace, for as long as a process of it runs.
    struct Namespace {
        holder: Child,
        ip: PathBuf,
    }

    impl Drop for Namespace {
        fn drop(&mut self) {
            let _ = self.holder.kill();
            let _ = self.holder.wait();
        }
    }

    #[allow(clippy::disallowed_methods, reason = "the test makes the ground that the adapter stands on")]
    impl Namespace {
        /// `None` where this machine cannot have one, with the reason printed.
        fn new(folder: &Path) -> Option<Self> {
            let skip = |why: &str| {
                eprintln!("skipped: {why}");
                None
            };
            if !rustix::process::geteuid().is_root() || !Path::new("/dev/net/tun").exists() {
                return skip("taps need root and /dev/net/tun");
            }
            // It says a line when it is in its namespace.
            let mut unshare = Command::new("unshare");
            unshare.args(["--net", "sh", "-c", "echo; exec sleep 600"]).stdout(Stdio::piped());
            let Ok(mut holder) = unshare.spawn() else { return skip("there is no unshare") };
            let mut line = String::new();
            let said = holder.stdout.take().map(|out| {
                std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap_or_default()
            });
            if said != Some(1) {
                return skip("there is no network namespace to be had");
            }
            let ip = folder.join("ip");
            let script = format!("#!/bin/sh\nexec nsenter --target {} --net ip \"$@\"\n", holder.id());
            std::fs::write(&ip, script).unwrap();
            std::fs::set_permissions(&ip, std::fs::Permissions::from_mode(0o755)).unwrap();
            Some(Self { holder, ip })
        }

        fn ip(&self, words: &str) -> String {
            let output = Command::new(&self.ip).args(words.split(' ')).output().unwrap();
            assert!(output.status.success(), "ip {words}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        }
    }

    #[tokio::test]
    async fn real_taps_are_made_marked_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let Some(namespace) = Namespace::new(folder.path()) else { return };
        namespace.ip("link add br-test type bridge");
        namespace.ip("tuntap add dev other mode tap");
        // What a daemon leaves that died between making a tap and marking it.
        namespace.ip("tuntap add dev blixard-new mode tap");
        let networks = IpNetworks::new(&namespace.ip);
        let ground = Ground { bridge: "br-test".to_owned(), foreign: "other".to_owned() };
        contract::keeps(&networks, &ground).await.unwrap();
        let left = namespace.ip("-oneline link show");
        assert_eq!(left.lines().count(), 3, "lo, br-test and other: {left}");
    }

    #[tokio::test]
    async fn a_tap_is_what_its_runner_expects() {
        use blixard_core::ports::networks::{Networks as _, Tap};
        use blixard_types::spec::Account;
        let folder = tempfile::tempdir().unwrap();
        let Some(namespace) = Namespace::new(folder.path()) else { return };
        namespace.ip("link add br-test type bridge");
        let account = Account { user: "nobody".to_owned(), group: "nogroup".to_owned() };
        let tap = Tap {
            id: "vm-multi".to_owned(),
            account: Some(account),
            multi_queue: true,
            bridge: Some("br-test".to_owned()),
        };
        IpNetworks::new(&namespace.ip).prepare("web".parse().unwrap(), vec![tap]).await.unwrap();
        let shown = namespace.ip("-details link show dev vm-multi");
        for words in
            ["master br-test", "multi_queue", "vnet_hdr", "user nobody", "alias blixard:default/web", "UP"]
        {
            assert!(shown.contains(words), "no {words}: {shown}");
        }
    }

    #[tokio::test]
    async fn what_others_have_made_since_the_last_look_goes_too() {
        use blixard_core::ports::networks::Networks as _;
        let folder = tempfile::tempdir().unwrap();
        let Some(namespace) = Namespace::new(folder.path()) else { return };
        let vm: blixard_types::VmId = "web".parse().unwrap();
        let networks = IpNetworks::new(&namespace.ip);
        assert!(networks.vms().await.unwrap().is_empty());
        namespace.ip("tuntap add dev stray mode tap");
        namespace.ip("link set dev stray alias blixard:default/web");
        networks.prepare(vm.clone(), Vec::new()).await.unwrap();
        assert!(
            namespace.ip("-oneline link show").contains("stray"),
            "a start without interfaces looks for none"
        );
        networks.remove(vm).await.unwrap();
        assert!(!namespace.ip("-oneline link show").contains("stray"));
    }

    #[tokio::test]
    async fn without_the_program_only_taps_cannot_be_had() {
        use blixard_core::ports::networks::{Networks as _, Tap};
        let networks = IpNetworks::new("/nowhere/ip");
        let vm: blixard_types::VmId = "web".parse().unwrap();
        networks.prepare(vm.clone(), Vec::new()).await.unwrap();
        networks.remove(vm.clone()).await.unwrap();
        assert!(networks.vms().await.unwrap().is_empty());
        let tap = Tap { id: "vm-a".to_owned(), account: None, multi_queue: false, bridge: None };
        let error = networks.prepare(vm, vec![tap]).await.unwrap_err().to_string();
        assert!(error.starts_with("cannot make the interface vm-a: cannot start /nowhere/ip: "), "{error}");
    }
}
