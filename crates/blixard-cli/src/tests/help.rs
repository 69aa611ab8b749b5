//! What the program says of itself.

use super::blixard;
use crate::flake::Nix;

async fn says(words: &str) -> String {
    blixard("/nonexistent/socket".as_ref(), &Nix::in_path(), words).await.to_string()
}

#[tokio::test]
async fn help_lists_commands_and_exit_codes() {
    insta::assert_snapshot!(says("--help").await, @"
    Deploys microVMs that are outputs of a Nix flake, and looks after them

    Usage: blixard [OPTIONS] <COMMAND>

    Commands:
      deploy       Evaluate a flake, build its microVMs, and run them
      vm           Look at microVMs; start, stop, restart and delete them
      volume       Look at the disks that hosts keep for microVMs; delete them, or give them up
      node         Look at the machines of the cluster
      cluster      Make this machine a cluster that others can join, and look at its servers
      rebalance    Move microVMs to where they are better placed now, as few as will do
      events       Print what has happened, the oldest first
      watch        Print what happens, as it happens, until interrupted
      gc           Remove from the nodes' stores what no kept generation needs
      status       Show how the cluster is
      completions  Print the script that completes command lines of `blixard` in a shell
      help         Print this message or the help of the given subcommand(s)

    Options:
          --socket <PATH>
              The daemon's Unix socket
              
              [env: BLIXARD_SOCKET]
              [default: /run/blixard/blixardd.sock]

      -o, --output <FORMAT>
              How results are written to standard output

              Possible values:
              - table: For people: aligned columns; may change between versions
              - json:  For scripts: one JSON value with stable keys
              
              [default: table]

      -h, --help
              Print help (see a summary with '-h')

      -V, --version
              Print version

    Exit codes:
      0    done
      1    a fault of blixard or of the daemon
      2    the command line cannot be understood
      3    the daemon cannot be reached, or cannot answer now
      4    not permitted
      5    no such vm or node
      6    refused by the cluster
      7    the flake could not be locked, evaluated or built
      8    a vm did not get where it was sent
      130  interrupted

    Examples:
      blixard deploy            deploy every microVM of the flake in this directory
      blixard vm list           what runs where
      blixard vm logs -f hello  follow a guest's console
    --- exit 0
    ");
}

#[tokio::test]
async fn help_of_a_command_has_examples() {
    insta::assert_snapshot!(says("deploy --help").await, @"
    Evaluate a flake, build its microVMs, and run them.

    Locks the flake as the calling user, hands it to the daemon, and follows the microVMs until each is healthy or has failed. Once the cluster has accepted the deployment it goes on by itself, also when this command is interrupted.

    Usage: blixard deploy [OPTIONS] [FLAKEREF]

    Arguments:
      [FLAKEREF]
              A flake, as Nix writes it, and after `#` the one microVM that is wanted: `REF#NAME`, `REF#microvms.NAME`, or a guest of microvm.nix, `REF#nixosConfigurations.NAME`. Without `#`: all that the flake defines
              
              [default: .]

    Options:
          --socket <PATH>
              The daemon's Unix socket
              
              [env: BLIXARD_SOCKET]
              [default: /run/blixard/blixardd.sock]

          --take-over
              Take over microVMs that another flake has defined

          --dry-run
              Only show what would happen: evaluate, and build and change nothing

      -o, --output <FORMAT>
              How results are written to standard output

              Possible values:
              - table: For people: aligned columns; may change between versions
              - json:  For scripts: one JSON value with stable keys
              
              [default: table]

      -L, --print-build-logs
              Print what the builds print

      -h, --help
              Print help (see a summary with '-h')

    Examples:
      blixard deploy                         every microVM of the flake in this directory
      blixard deploy .#hello                 only the microVM `hello`
      blixard deploy --dry-run               what that would do, without doing it
      blixard deploy github:owner/infra -L   a flake elsewhere, with the logs of its builds
    --- exit 0
    ");
    let vm = ["list", "show", "start", "stop", "restart", "history", "delete", "logs", "console"];
    let vm = vm.map(|verb| format!("vm {verb}"));
    for command in vm.into_iter().chain(["node list", "status"].map(str::to_owned)) {
        let help = says(&format!("{command} --help")).await;
        assert!(help.contains(&format!("Example:\n  blixard {command}")), "{help}");
        assert!(help.ends_with("--- exit 0"), "{help}");
    }
}

#[tokio::test]
async fn the_version_is_a_result() {
    assert_eq!(says("--version").await, format!("blixard {}\n--- exit 0", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn a_noun_alone_is_no_command() {
    assert!(says("vm").await.ends_with("--- exit 2"));
    insta::assert_snapshot!(says("vm lst").await, @"
    --- stderr
    error: unrecognized subcommand 'lst'

      tip: some similar subcommands exist: 'stop', 'list'

    Usage: blixard vm [OPTIONS] <COMMAND>

    For more information, try '--help'.
    --- exit 2
    ");
    insta::assert_snapshot!(says("deploy .#packages.x").await, @"
    --- stderr
    error: invalid value '.#packages.x' for '[FLAKEREF]': `#packages.x` names no microVM: after `#` comes NAME, microvms.NAME or nixosConfigurations.NAME, or nothing for all of them

    For more information, try '--help'.
    --- exit 2
    ");
}
