//! Real handshakes over a pipe: who gets in, and who does not.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use blixard_core::ports::UnixMillis;
use blixard_types::{CertificateSerial, ClusterId, NodeId, Sha256Hash};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use super::*;

const CLUSTER: ClusterId = ClusterId([7; 16]);
const DAY_MS: u64 = 24 * 3600 * 1000;

/// rustls looks at the machine's clock.
#[expect(clippy::disallowed_methods, reason = "rustls checks dates against it")]
fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    UnixMillis(u64::try_from(since.as_millis()).unwrap())
}

/// Lets all in but these.
#[derive(Debug, Default)]
struct Gate(Mutex<BTreeSet<CertificateSerial>>);

impl PeerGate for Gate {
    fn admits(&self, peer: &PeerIdentity) -> Result<(), PeerRefusal> {
        let revoked = self.0.lock().unwrap().contains(&peer.serial);
        if revoked { Err(PeerRefusal::Removed(peer.node)) } else { Ok(()) }
    }

    /// Nodes up to 9 are known.
    fn counts(&self, peer: &PeerIdentity) -> bool {
        self.admits(peer).is_ok() && peer.node.0 <= 9
    }
}

fn subject(node: u64, cluster: ClusterId) -> Subject {
    Subject { node: NodeId(node), cluster, serial: CertificateSerial(node + 200) }
}

fn credentials(authority: &Authority, subject: Subject, at: UnixMillis) -> Credentials {
    let key = NodeKey::generate().unwrap();
    let certificate = authority.issue(&key.signing_request().unwrap(), subject, at).unwrap();
    Credentials::new(&key, &certificate, authority.root()).unwrap()
}

fn node(authority: &Authority, id: u64) -> MutualTls {
    with_gate(authority, id, Arc::default())
}

fn with_gate(authority: &Authority, id: u64, gate: Arc<Gate>) -> MutualTls {
    let credentials = credentials(authority, subject(id, CLUSTER), now());
    MutualTls::new(authority.root(), &credentials, gate).unwrap()
}

/// A handshake and a word each way; what each side makes of it.
async fn meet(client: &MutualTls, server: &MutualTls, expected: u64) -> Result<Option<PeerIdentity>, String> {
    let (near, far) = duplex(64 << 10);
    let answer = async {
        let (mut stream, peer) = server.accept(far).await.map_err(|error| text(&error))?;
        let mut word = [0; 4];
        stream.read_exact(&mut word).await.map_err(|error| error.to_string())?;
        stream.write_all(&word).await.map_err(|error| error.to_string())?;
        Ok(peer)
    };
    let ask = async {
        let mut stream = client.connect(near, NodeId(expected)).await.map_err(|error| text(&error))?;
        stream.write_all(b"word").await.map_err(|error| error.to_string())?;
        stream.read_exact(&mut [0; 4]).await.map_err(|error| error.to_string())?;
        Ok::<_, String>(())
    };
    let (asked, answered) = tokio::join!(ask, answer);
    asked.map_err(|error| format!("client: {error}"))?;
    answered.map_err(|error: String| format!("server: {error}"))
}

fn text(error: &HandshakeError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn two_nodes_of_a_cluster_know_each_other() {
    let authority = Authority::create(CLUSTER, now()).unwrap();
    let (one, two) = (node(&authority, 1), node(&authority, 2));
    let peer = meet(&one, &two, 2).await.unwrap().unwrap();
    assert_eq!((peer.node, peer.cluster, peer.serial), (NodeId(1), CLUSTER, CertificateSerial(201)));
    let left = peer.not_after.since(now());
    assert!((364 * DAY_MS..=365 * DAY_MS).contains(&left), "{left}");
}

#[tokio::test]
async fn another_node_at_the_address_is_not_spoken_to() {
    let authority = Authority::create(CLUSTER, now()).unwrap();
    let error = meet(&node(&authority, 1), &node(&authority, 2), 3).await.unwrap_err();
    assert!(error.starts_with("client:") && error.contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn another_authority_is_refused_by_both_sides_even_for_the_same_cluster() {
    let [ours, theirs] = [(), ()].map(|()| Authority::create(CLUSTER, now()).unwrap());
    let error = meet(&node(&ours, 1), &node(&theirs, 2), 2).await.unwrap_err();
    assert!(error.contains("UnknownIssuer") || error.contains("BadSignature"), "{error}");
    let (near, far) = duplex(64 << 10);
    let trusting = node(&ours, 1);
    let (accepted, ()) = tokio::join!(trusting.accept(far), async {
        // The other side's own checks would stop it first; a liar has none.
        joining_with(&theirs, &ours, near).await;
    });
    assert!(accepted.is_err(), "a certificate of another authority was accepted");
}

/// A client that trusts `trusted` and shows a certificate of `liar`.
async fn joining_with(liar: &Authority, trusted: &Authority, stream: tokio::io::DuplexStream) {
    let shown = credentials(liar, subject(1, CLUSTER), now());
    let tls = MutualTls::new(trusted.root(), &shown, Arc::new(Gate::default())).unwrap();
    let _ = tls.connect(stream, NodeId(1)).await;
}

#[tokio::test]
async fn a_removed_node_is_refused_by_both_sides_and_told_why() {
    let authority = Authority::create(CLUSTER, now()).unwrap();
    let gate = Arc::new(Gate::default());
    let (one, two) = (node(&authority, 1), with_gate(&authority, 2, Arc::clone(&gate)));
    meet(&one, &two, 2).await.unwrap();
    // Also when they have met before: no session is resumed past the gate.
    gate.0.lock().unwrap().insert(CertificateSerial(201));
    let error = meet(&one, &two, 2).await.unwrap_err();
    assert!(error.contains("CertificateRevoked"), "{error}");
    let error = meet(&two, &one, 1).await.unwrap_err();
    assert!(error.starts_with("client:") && error.contains("Revoked"), "{error}");
}

#[tokio::test]
async fn a_certificate_that_has_run_out_or_is_of_another_cluster_is_refused() {
    let authority = Authority::create(CLUSTER, now()).unwrap();
    let two = node(&authority, 2);
    let old = UnixMillis(now().0 - 366 * DAY_MS);
    // Of a node that is not known to be a member.
    let expired = credentials(&authority, subject(10, CLUSTER), old);
    let foreign = credentials(&authority, subject(1, ClusterId([8; 16])), now());
    for wrong in [expired, foreign] {
        let (near, far) = duplex(64 << 10);
        let shower = node(&authority, 1);
        shower.replace(&wrong);
        let (accepted, _) = tokio::join!(two.accept(far), shower.connect(near, NodeId(2)));
        assert!(accepted.is_err(), "{wrong:?} was accepted");
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_from_the_next_handshake_on() {
    let authority = Authority::create(CLUSTER, now()).unwrap();
    let (one, two) = (node(&authority, 1), node(&authority, 2));
    let renewed = Subject { serial: CertificateSerial(u64::MAX), ..subject(1, CLUSTER) };
    one.replace(&credentials(&authority, renewed, now()));
    assert_eq!(meet(&one, &two, 2).await.unwrap().unwrap().serial, CertificateSerial(u64::MAX));
}

#[tokio::test]
async fn a_stranger_comes_without_a_certificate_and_trusts_the_fingerprint_alone() {
    let authority = Authority::create(CLUSTER, now()).unwrap();
    let server = node(&authority, 2);
    for (fingerprint, welcome) in [(authority.root().fingerprint(), true), (Sha256Hash::of(b"no"), false)] {
        let (near, far) = duplex(64 << 10);
        let (accepted, joined) = tokio::join!(server.accept(far), joining_client(fingerprint, near));
        assert_eq!(joined.is_ok(), welcome);
        if welcome {
            assert_eq!(accepted.unwrap().1, None);
        }
    }
}

#[test]
fn a_request_that_does_not_prove_its_key_gets_no_certificate() {
    let authority = Authority::create(CLUSTER, now()).unwrap();
    let SigningRequest(mut bytes) = NodeKey::generate().unwrap().signing_request().unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    for bytes in [bytes, Vec::new(), b"garbage".to_vec()] {
        let refused = authority.issue(&SigningRequest(bytes), subject(1, CLUSTER), now());
        assert!(matches!(refused, Err(IssueError::Request(_))), "{refused:?}");
    }
}

#[test]
fn a_certificate_is_of_one_key() {
    let authority = Authority::create(CLUSTER, now()).unwrap();
    let request = NodeKey::generate().unwrap().signing_request().unwrap();
    let certificate = authority.issue(&request, subject(1, CLUSTER), now()).unwrap();
    let other = Credentials::new(&NodeKey::generate().unwrap(), &certificate, authority.root());
    assert!(matches!(other, Err(CredentialsError::Mismatch(_))));
    // The authority's own certificate names no node.
    let own = Credentials::new(&NodeKey::generate().unwrap(), authority.root().der(), authority.root());
    assert!(matches!(own, Err(CredentialsError::Certificate(PeerCertificateError::Name))));
}

#[test]
fn files_are_for_root_alone_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let files = KeyFiles::below(folder.path());
    assert!(files.root().unwrap().is_none() && files.authority().unwrap().is_none());
    assert!(files.credentials().unwrap().is_none());
    let authority = Authority::create(CLUSTER, now()).unwrap();
    files.keep_authority(&authority).unwrap();
    let again = files.authority().unwrap().unwrap();
    assert_eq!(again.root(), authority.root());

    let key = files.next_key().unwrap();
    let request = key.signing_request().unwrap();
    // An interrupted join asks for the same key.
    assert_eq!(files.next_key().unwrap().0.serialize_der(), key.0.serialize_der());
    let certificate = again.issue(&request, subject(3, CLUSTER), now()).unwrap();
    files.keep_credentials(&key, &certificate).unwrap();
    assert_eq!(files.next_key().unwrap().0.serialize_der(), key.0.serialize_der());
    files.forget_next_key().unwrap();
    assert_eq!(files.credentials().unwrap().unwrap().identity().node, NodeId(3));
    assert_ne!(files.next_key().unwrap().0.serialize_der(), key.0.serialize_der());

    let pki = folder.path().join("pki");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&pki), 0o700);
    for entry in std::fs::read_dir(&pki).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
    std::fs::write(pki.join("node.pem"), "nothing").unwrap();
    assert!(matches!(files.credentials(), Err(FileError::NoCertificate(_))));
}

#[test]
fn a_key_of_another_authority_is_found_out() {
    let [one, two] = [(), ()].map(|()| Authority::create(CLUSTER, now()).unwrap());
    let mixed = Authority::load(one.root().clone(), &two.key_pem());
    assert!(matches!(mixed, Err(AuthorityError::Mismatch)), "{mixed:?}");
}

#[test]
fn a_token_reads_back_what_it_shows_and_hides_its_secret() {
    let token = JoinToken {
        secret: TokenSecret([9; 32]),
        fingerprint: Sha256Hash::of(b"authority"),
        addresses: vec!["n1.example.org:7440".parse().unwrap(), "[fd00::1]:7440".parse().unwrap()],
    };
    let shown = token.to_string();
    assert_eq!(format!(" {shown}\n").parse::<JoinToken>().unwrap(), token);
    assert!(!format!("{token:?}").contains(", 9, "));
    let mut table = String::new();
    let (begin, _) = shown.rsplit_once('.').unwrap();
    for wrong in ["", "blixard2.a.b.c", "blixard1.a", "blixard1.a.b.n1:1", &shown.replace("n1", "n 1"), begin]
    {
        table += &format!("{}\n", wrong.parse::<JoinToken>().unwrap_err());
    }
    insta::assert_snapshot!(table, @r"
    this is no join token: one begins with `blixard1.` (`blixard cluster token create` prints one)
    this is no join token: one begins with `blixard1.` (`blixard cluster token create` prints one)
    the join token is incomplete: expected blixard1.SECRET.FINGERPRINT.ADDRESS
    the secret in the join token is damaged
    an address in the join token cannot be used
    an address in the join token cannot be used
    ");
}

#[test]
fn a_name_is_of_one_node() {
    let name = node_dns_name(NodeId(12), CLUSTER);
    assert_eq!(crate::name::parse_node_dns_name(&name), Some((NodeId(12), CLUSTER)));
    for wrong in ["node-012", "node-+12", "node-", "nod-12"] {
        let name = name.replace("node-12", wrong);
        assert_eq!(crate::name::parse_node_dns_name(&name), None, "{name}");
    }
}

#[tokio::test]
async fn a_certificate_whose_time_is_over_is_taken_from_a_node_that_is_known_to_be_a_member_and_from_nobody_else()
 {
    let long_ago = UnixMillis(now().0 - 400 * DAY_MS);
    let authority = Authority::create(CLUSTER, long_ago).unwrap();
    let old = |authority: &Authority, id: u64, gate: Arc<Gate>| {
        let credentials = credentials(authority, subject(id, CLUSTER), long_ago);
        MutualTls::new(authority.root(), &credentials, gate).unwrap()
    };
    let (one, two) = (old(&authority, 1, Arc::default()), old(&authority, 2, Arc::default()));
    // The whole cluster was away.
    let peer = meet(&one, &two, 2).await.unwrap().unwrap();
    assert!(peer.not_after < now());
    // Who is not known, and who was removed, by either side.
    let unknown = old(&authority, 10, Arc::default());
    let error = meet(&unknown, &two, 2).await.unwrap_err();
    assert!(error.contains("xpired"), "{error}");
    let error = meet(&two, &unknown, 10).await.unwrap_err();
    assert!(error.starts_with("client:") && error.contains("xpired"), "{error}");
    let knowing = Arc::new(Gate(Mutex::new([CertificateSerial(201)].into())));
    assert!(meet(&one, &old(&authority, 2, knowing), 2).await.is_err(), "it was removed");
    // The date is all that is forgiven.
    let other = Authority::create(CLUSTER, long_ago).unwrap();
    assert!(meet(&old(&other, 1, Arc::default()), &two, 2).await.is_err(), "another authority");
    assert!(meet(&one, &two, 3).await.is_err(), "another node");
}
