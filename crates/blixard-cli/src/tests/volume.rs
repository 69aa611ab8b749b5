//! `blixard volume …`.

use blixard_proto::v1::{ForgottenVolume, Volume, VolumeState};

use super::daemon::{Daemon, Script};

fn data() -> Volume {
    Volume {
        volume: "shop/db:data".to_owned(),
        node: "a".to_owned(),
        state: VolumeState::Made.into(),
        size_mib: 4096,
        image: "data.img".to_owned(),
        wanted: true,
        in_use: true,
        host_lost: false,
    }
}

fn old() -> Volume {
    Volume {
        volume: "default/old:scratch".to_owned(),
        node: "b".to_owned(),
        state: VolumeState::Deleting.into(),
        size_mib: 1,
        image: "disks/\u{1b}[1mx.img".to_owned(),
        host_lost: true,
        ..Volume::default()
    }
}

fn daemon(gone: bool) -> Daemon {
    let forgotten = ForgottenVolume { volume: "shop/db:data".to_owned(), node: "a".to_owned() };
    Daemon::start(Script {
        volumes: vec![old(), data()],
        forgotten: vec![forgotten],
        gone,
        ..Script::default()
    })
}

#[tokio::test]
async fn volumes_are_listed_with_their_hosts_and_whether_somebody_uses_them() {
    let daemon = daemon(false);
    insta::assert_snapshot!(daemon.blixard("volume list").await, @"
    VOLUME                NODE       SIZE       STATE      USE      IMAGE
    default/old:scratch   b (lost)   1 MiB      deleting   unused   disks/x.img
    shop/db:data          a          4096 MiB   made       in use   data.img
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.blixard("volume list --tenant shop -o json").await, @r#"
    {
      "volumes": [
        {
          "volume": "shop/db:data",
          "node": "a",
          "state": "made",
          "sizeMib": 4096,
          "image": "data.img",
          "wanted": true,
          "inUse": true,
          "hostLost": false
        }
      ],
      "revision": 42
    }
    --- exit 0
    "#);
    let nothing = Daemon::start(Script::default());
    insta::assert_snapshot!(nothing.blixard("volume list").await, @"
    --- stderr
    no volumes
    --- exit 0
    ");
}

#[tokio::test]
async fn a_volume_is_deleted_once_its_host_has_said_so() {
    let gone = daemon(true);
    insta::assert_snapshot!(gone.blixard("volume delete shop/db:data").await, @"
    shop/db:data: deleted
    --- exit 0
    ");
    insta::assert_snapshot!(gone.blixard("volume delete shop/db:data --dry-run").await, @"
    shop/db:data: would be removed from a, with all that is in its 4096 MiB
    --- exit 0
    ");
    insta::assert_snapshot!(gone.blixard("volume delete shop/db:data -o json").await, @r#"
    {
      "volume": "shop/db:data",
      "node": "a",
      "state": "made",
      "sizeMib": 4096,
      "image": "data.img",
      "wanted": true,
      "inUse": true,
      "hostLost": false,
      "gone": true,
      "dryRun": false
    }
    --- exit 0
    "#);
    insta::assert_snapshot!(gone.asked(), @"
    delete shop/db:data wait 30000 ms, dry run false, id of 16 bytes
    delete shop/db:data wait 0 ms, dry run true, id of 16 bytes
    delete shop/db:data wait 30000 ms, dry run false, id of 16 bytes
    ");
    let stays = daemon(false);
    insta::assert_snapshot!(stays.blixard("volume delete shop/db:data --no-wait").await, @"
    shop/db:data: deleting
    --- exit 0
    ");
    insta::assert_snapshot!(stays.blixard("volume delete shop/db:data").await, @"
    --- stderr
    error: volume shop/db:data is still to be removed by a
    hint: it goes on by itself; `blixard volume list` shows when it is gone
    --- exit 8
    ");
    insta::assert_snapshot!(stays.blixard("volume delete old:scratch").await, @"
    --- stderr
    error: volume default/old:scratch is still to be removed by b, which is lost
    hint: it is removed when that host is back; `blixard volume forget default/old:scratch` does not wait for that
    --- exit 8
    ");
    insta::assert_snapshot!(stays.blixard("volume delete nobody:data").await, @"
    --- stderr
    error: there is no volume default/nobody:data
    --- exit 5
    ");
    insta::assert_snapshot!(stays.blixard("volume delete shop/db").await, @r#"
    --- stderr
    error: invalid value 'shop/db' for '<VOLUME>': "shop/db" is not a volume: expected `vm:volume` or `tenant/vm:volume`

    For more information, try '--help'.
    --- exit 2
    "#);
}

#[tokio::test]
async fn what_is_given_up_is_named_with_the_host_that_has_it() {
    let daemon = daemon(false);
    insta::assert_snapshot!(daemon.blixard("volume forget shop/db --dry-run").await, @"
    shop/db:data: would be given up; what a has of it would stay there, unused
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.blixard("volume forget shop/db:data").await, @"
    shop/db:data: given up; what a has of it stays there, unused
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.blixard("volume forget shop/db -o json").await, @r#"
    {
      "forgotten": [
        {
          "volume": "shop/db:data",
          "node": "a"
        }
      ],
      "dryRun": false
    }
    --- exit 0
    "#);
    insta::assert_snapshot!(daemon.blixard("volume forget shop/db:../x").await, @r#"
    --- stderr
    error: invalid value 'shop/db:../x' for '<VM[:VOLUME]>': the volume name "../x" must be lower-case letters, digits and `-`, beginning and ending with a letter or digit

    For more information, try '--help'.
    --- exit 2
    "#);
    insta::assert_snapshot!(daemon.asked(), @r#"
    forget shop/db "", dry run true, id of 16 bytes
    forget shop/db "data", dry run false, id of 16 bytes
    forget shop/db "", dry run false, id of 16 bytes
    "#);
}
