//! The CA held against OpenSSL's strict mode, webpki, real handshakes, and people who start it
//! twice at once or leave its key open.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::time::Duration;

use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::certificates::{CA_LIFE, LEAF_LIFE, leaf_params};
use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn hosts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn two() -> Vec<String> {
    hosts(&["api.openai.com", "api.stability.ai"])
}

/// A CA directory below a temporary one, so that pixtoll makes it itself.
fn place() -> (TempDir, PathBuf) {
    let home = TempDir::new().unwrap();
    let dir = home.path().join("state").join("ca");
    (home, dir)
}

fn openssl(args: &[&str]) -> Output {
    Command::new("openssl")
        .args(args)
        .output()
        .expect("the openssl command")
}

fn verify(
    home: &Path,
    root: &Path,
    untrusted: &[CertificateDer<'_>],
    cert: &CertificateDer<'_>,
    extra: &[&str],
) -> (bool, String) {
    let below = home.join("untrusted.pem");
    let file = home.join("cert.pem");
    std::fs::write(&below, pem::encode(untrusted)).unwrap();
    std::fs::write(&file, pem::encode(std::slice::from_ref(cert))).unwrap();
    let mut args = vec!["verify", "-x509_strict", "-CAfile", root.to_str().unwrap()];
    if !untrusted.is_empty() {
        args.extend(["-untrusted", below.to_str().unwrap()]);
    }
    args.extend(extra);
    args.push(file.to_str().unwrap());
    let out = openssl(&args);
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    (out.status.success(), said)
}

fn text_of(cert: &CertificateDer<'_>, home: &Path) -> String {
    let file = home.join("shown.pem");
    std::fs::write(&file, pem::encode(std::slice::from_ref(cert))).unwrap();
    let out = openssl(&["x509", "-noout", "-text", "-in", file.to_str().unwrap()]);
    String::from_utf8(out.stdout).unwrap()
}

fn roots(pem: &str) -> RootCertStore {
    let mut store = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        store.add(cert.unwrap()).unwrap();
    }
    store
}

fn webpki(pem: &str, chain: &[CertificateDer<'_>], host: &str) -> Result<(), rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(pem)), provider)
        .build()
        .unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    verifier
        .verify_server_cert(&chain[0], &chain[1..], &name, &[], UnixTime::now())
        .map(|_| ())
}

#[test]
fn root_intermediate_and_leaf_pass_openssl_strictly() {
    let (home, dir) = place();
    let authority = Authority::open(&dir, &two(), None).unwrap();
    let root_path = authority.ca_pem_path();
    assert_eq!(root_path, dir.join("ca.pem"));
    let root = CertificateDer::from_pem_file(&root_path).unwrap();
    let leaf = authority
        .mint_at("api.openai.com", SystemTime::now())
        .unwrap();
    let [end, intermediate] = leaf.chain() else {
        panic!("leaf and intermediate, not {}", leaf.chain().len());
    };
    for (below, cert, extra) in [
        (&[][..], &root, &[][..]),
        (&[][..], intermediate, &[][..]),
        (
            std::slice::from_ref(intermediate),
            end,
            &[
                "-purpose",
                "sslserver",
                "-verify_hostname",
                "api.openai.com",
            ][..],
        ),
    ] {
        let (ok, said) = verify(home.path(), &root_path, below, cert, extra);
        assert!(ok, "{said}");
    }
    webpki(&authority.ca_pem(), leaf.chain(), "api.openai.com").unwrap();
}

#[test]
fn certificates_carry_what_strict_clients_ask_for() {
    let (home, dir) = place();
    let authority = Authority::open(&dir, &two(), None).unwrap();
    let root = CertificateDer::from_pem_file(authority.ca_pem_path()).unwrap();
    let leaf = authority
        .mint_at("api.openai.com", SystemTime::now())
        .unwrap();
    let root = text_of(&root, home.path());
    let intermediate = text_of(&leaf.chain()[1], home.path());
    let leaf = text_of(&leaf.chain()[0], home.path());
    for (text, path_length) in [(&root, "pathlen:1"), (&intermediate, "pathlen:0")] {
        for part in [
            "X509v3 Basic Constraints: critical",
            path_length,
            "X509v3 Key Usage: critical",
            "Certificate Sign, CRL Sign",
            "X509v3 Name Constraints: critical",
            "DNS:api.openai.com",
            "DNS:api.stability.ai",
            "IP:0.0.0.0/0.0.0.0",
            "IP:0:0:0:0:0:0:0:0/0:0:0:0:0:0:0:0",
            "Subject Key Identifier",
            "prime256v1",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }
    for part in ["Authority Key Identifier", "TLS Web Server Authentication"] {
        assert!(
            intermediate.contains(part),
            "{part} is missing in {intermediate}"
        );
        assert!(leaf.contains(part), "{part} is missing in {leaf}");
    }
    for part in [
        "X509v3 Subject Alternative Name: critical",
        "CA:FALSE",
        "Digital Signature",
    ] {
        assert!(leaf.contains(part), "{part} is missing in {leaf}");
    }
    assert!(
        leaf.lines()
            .any(|line| line.trim_end().ends_with("Subject:")),
        "the subject is empty: {leaf}"
    );
}

#[test]
fn the_stolen_intermediate_cannot_speak_for_another_host() {
    let (home, dir) = place();
    let authority = Authority::open(&dir, &two(), None).unwrap();
    let pem = std::fs::read_to_string(dir.join("intermediate.pem")).unwrap();
    let stolen =
        KeyPair::from_pem(&std::fs::read_to_string(dir.join("intermediate.key")).unwrap()).unwrap();
    let thief = Issuer::from_ca_cert_pem(&pem, stolen).unwrap();
    let intermediate = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let now = SystemTime::now();
    let sign = |name: &str, change: &dyn Fn(&mut CertificateParams)| {
        let random = authority.provider().secure_random;
        let mut params = leaf_params(name, now - HOUR, now + HOUR, random).unwrap();
        change(&mut params);
        let cert = params
            .signed_by(&KeyPair::generate().unwrap(), &thief)
            .unwrap();
        vec![cert.der().clone(), intermediate.clone()]
    };
    let keep = |_: &mut CertificateParams| {};
    let address = |params: &mut CertificateParams| {
        params.subject_alt_names = vec![SanType::IpAddress([10, 0, 0, 7].into())];
    };
    let both = |params: &mut CertificateParams| {
        params.subject_alt_names.push(SanType::DnsName(
            "bank.example".to_owned().try_into().unwrap(),
        ));
    };
    for (chain, host, accepted) in [
        (sign("api.openai.com", &keep), "api.openai.com", true),
        (sign("bank.example", &keep), "bank.example", false),
        (sign("openai.com", &keep), "openai.com", false),
        (sign("api.openai.com", &both), "bank.example", false),
        (sign("x", &address), "10.0.0.7", false),
    ] {
        let (ok, said) = verify(
            home.path(),
            &authority.ca_pem_path(),
            &chain[1..],
            &chain[0],
            &[],
        );
        assert_eq!(ok, accepted, "{host}: {said}");
        if !accepted {
            assert!(said.contains("subtree violation"), "{host}: {said}");
        }
        let verdict = webpki(&authority.ca_pem(), &chain, host);
        assert_eq!(verdict.is_ok(), accepted, "{host}: {verdict:?}");
    }
}

#[test]
fn the_root_key_is_nowhere_and_the_directory_is_closed() {
    let (_home, dir) = place();
    Authority::open(&dir, &two(), None).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["ca.pem", "intermediate.key", "intermediate.pem", "lock"]
    );
    let keys: usize = names
        .iter()
        .map(|name| {
            std::fs::read_to_string(dir.join(name))
                .unwrap()
                .matches("PRIVATE KEY-----\n")
                .count()
        })
        .sum();
    assert_eq!(keys, 2, "one key: its first and its last line");
    let root = CertificateDer::from_pem_file(dir.join("ca.pem")).unwrap();
    let key =
        KeyPair::from_pem(&std::fs::read_to_string(dir.join("intermediate.key")).unwrap()).unwrap();
    assert!(!certificates::Facts::read(&root).unwrap().belongs_to(&key));
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Set for the copies of this test program that a test starts: the directory to open.
const COPY_DIR: &str = "PIXTOLL_TEST_CA_DIR";

/// Starts this very test again as a process of its own, below `sh -c script`.
fn copy_of(test: &str, script: &str, dir: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            &format!("{}::{test}", module_path!().split_once("::").unwrap().1),
        ])
        .env(COPY_DIR, dir);
    command
}

#[test]
fn modes_do_not_depend_on_the_umask() {
    if let Some(dir) = std::env::var_os(COPY_DIR) {
        Authority::open(Path::new(&dir), &two(), None).unwrap();
        return;
    }
    for umask in ["000", "077"] {
        let (_home, dir) = place();
        let script = format!("umask {umask}; exec \"$0\" \"$@\"");
        let out = copy_of("modes_do_not_depend_on_the_umask", &script, &dir)
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stdout)
        );
        assert_eq!(mode(&dir), 0o700);
        for (name, wanted) in [
            ("intermediate.key", 0o600),
            ("lock", 0o600),
            ("ca.pem", 0o644),
            ("intermediate.pem", 0o644),
        ] {
            assert_eq!(mode(&dir.join(name)), wanted, "{name} under umask {umask}");
        }
    }
}

#[test]
fn processes_that_start_at_once_share_one_ca() {
    if let Some(dir) = std::env::var_os(COPY_DIR) {
        Authority::open(Path::new(&dir), &two(), None).unwrap();
        return;
    }
    let (_home, dir) = place();
    let test = "processes_that_start_at_once_share_one_ca";
    let running: Vec<_> = (0..4)
        .map(|_| {
            copy_of(test, "exec \"$0\" \"$@\" >&2", &dir)
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let here: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| Authority::open(&dir, &two(), None).unwrap()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    for mut process in running {
        assert!(process.wait().unwrap().success());
    }
    let root = std::fs::read_to_string(dir.join("ca.pem")).unwrap();
    for authority in &here {
        assert_eq!(authority.ca_pem(), root);
    }
    assert!(!dir.join("ca-2.pem").exists());
    assert!(
        here.iter()
            .map(|authority| authority.new_cas().len())
            .sum::<usize>()
            <= 1
    );
}

#[test]
fn a_second_start_finds_the_first_ones_ca() {
    let (_home, dir) = place();
    let first = Authority::open(&dir, &two(), None).unwrap();
    let second = Authority::open(&dir, &hosts(&["API.OpenAI.com."]), None).unwrap();
    assert_eq!(first.ca_pem(), second.ca_pem());
    assert_eq!(first.new_cas().len(), 1);
    assert!(!first.new_cas()[0].beside_another);
    assert!(second.new_cas().is_empty());
}

#[test]
fn files_open_to_others_are_refused_with_the_cure() {
    for (name, loose) in [
        ("intermediate.key", 0o640),
        ("intermediate.key", 0o604),
        ("", 0o750),
        ("", 0o701),
    ] {
        let (_home, dir) = place();
        Authority::open(&dir, &two(), None).unwrap();
        std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(loose)).unwrap();
        let said = Authority::open(&dir, &two(), None).unwrap_err().to_string();
        assert!(
            said.contains(&format!("(mode {loose:o})")) && said.contains("pixtoll ca renew"),
            "{said}"
        );
        Authority::renew(&dir, &two()).expect("the cure that it names");
        Authority::open(&dir, &two(), None).expect("closed now");
    }
}

#[test]
fn a_planted_link_is_neither_followed_nor_read() {
    let (home, dir) = place();
    let elsewhere = home.path().join("elsewhere");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink(&elsewhere, dir.join("intermediate.key")).unwrap();
    Authority::open(&dir, &two(), None).unwrap();
    assert!(!elsewhere.exists(), "the key was written through a link");

    std::fs::rename(dir.join("intermediate.key"), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, dir.join("intermediate.key")).unwrap();
    Authority::open(&dir, &two(), None).unwrap_err();
    std::fs::remove_file(dir.join("intermediate.key")).unwrap();
    std::fs::hard_link(&elsewhere, dir.join("intermediate.key")).unwrap();
    let said = Authority::open(&dir, &two(), None).unwrap_err().to_string();
    assert!(said.contains("link"), "{said}");
}

#[test]
fn an_empty_directory_of_ours_is_closed_and_used() {
    let home = TempDir::new().unwrap();
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    Authority::open(home.path(), &two(), None).unwrap();
    assert_eq!(mode(home.path()), 0o700);
}

#[test]
fn what_a_crash_left_behind_is_made_anew() {
    let (_home, dir) = place();
    Authority::open(&dir, &two(), None).unwrap();
    // The root is written last: without it, the rest is the remains of a start that was killed.
    std::fs::remove_file(dir.join("ca.pem")).unwrap();
    std::fs::write(dir.join(".ca.pem.new"), "half").unwrap();
    let authority = Authority::open(&dir, &two(), None).unwrap();
    let leaf = authority
        .mint_at("api.openai.com", SystemTime::now())
        .unwrap();
    webpki(&authority.ca_pem(), leaf.chain(), "api.openai.com").unwrap();
}

#[test]
fn a_damaged_ca_is_named_with_its_cure() {
    let other = KeyPair::generate().unwrap().serialize_pem();
    for (name, text) in [
        ("ca.pem", "rubbish"),
        ("intermediate.pem", ""),
        ("intermediate.key", "rubbish"),
        ("intermediate.key", other.as_str()),
    ] {
        let (_home, dir) = place();
        Authority::open(&dir, &two(), None).unwrap();
        std::fs::write(dir.join(name), text).unwrap();
        let said = Authority::open(&dir, &two(), None).unwrap_err().to_string();
        assert!(
            said.contains(name) && said.contains("pixtoll ca renew"),
            "{said}"
        );
        Authority::renew(&dir, &two()).unwrap();
    }
}

#[test]
fn hosts_added_later_get_a_further_ca_beside_the_first() {
    let (home, dir) = place();
    let first = Authority::open(&dir, &two(), None).unwrap();
    let all = hosts(&["api.openai.com", "api.stability.ai", "sd.studio.lan"]);
    let later = Authority::open(&dir, &all, None).unwrap();
    let [made] = &later.new_cas()[..] else {
        panic!("one CA was made: {:?}", later.new_cas());
    };
    assert_eq!(made.hosts, ["sd.studio.lan"]);
    assert!(made.beside_another);
    assert_eq!(made.path, dir.join("ca-2.pem"));
    assert!(later.ca_pem().starts_with(&first.ca_pem()));
    assert_eq!(
        std::fs::read_to_string(later.ca_pem_path()).unwrap(),
        later.ca_pem()
    );
    for host in &all {
        let leaf = later.mint_at(host, SystemTime::now()).unwrap();
        webpki(&later.ca_pem(), leaf.chain(), host).unwrap();
        let (ok, said) = verify(
            home.path(),
            &later.ca_pem_path(),
            &leaf.chain()[1..],
            &leaf.chain()[0],
            &[],
        );
        assert!(ok, "{host}: {said}");
    }
    let third = Authority::open(&dir, &all, None).unwrap();
    assert!(third.new_cas().is_empty());
    assert_eq!(third.ca_pem(), later.ca_pem());
}

#[test]
fn hosts_of_a_reload_are_covered_while_running() {
    let (_home, dir) = place();
    let authority = Authority::open(&dir, &two(), None).unwrap();
    authority.server_config("sd.studio.lan", false).unwrap_err();
    assert_eq!(
        authority.cover(&hosts(&["sd.studio.lan"])).unwrap().len(),
        1
    );
    authority.server_config("sd.studio.lan", false).unwrap();
    authority.server_config("api.openai.com", false).unwrap();
    assert!(authority.cover(&two()).unwrap().is_empty());
    assert_eq!(authority.new_cas().len(), 2);
}

#[test]
fn a_ca_that_runs_out_gets_a_successor_and_is_used_to_the_end() {
    let (_home, dir) = place();
    let start = SystemTime::now();
    let first = Authority::open_at(&dir, &two(), None, start).unwrap();
    let before = Authority::open_at(&dir, &two(), None, start + CA_LIFE - 31 * DAY).unwrap();
    assert!(before.new_cas().is_empty());

    let late = start + CA_LIFE - 20 * DAY;
    let both = Authority::open_at(&dir, &two(), None, late).unwrap();
    assert_eq!(both.new_cas().len(), 1);
    assert!(both.ca_pem().starts_with(&first.ca_pem()));
    let intermediate = |authority: &Authority, now| {
        authority.mint_at("api.openai.com", now).unwrap().chain()[1].clone()
    };
    assert_eq!(intermediate(&both, late), intermediate(&first, start));

    let after = start + CA_LIFE + DAY;
    assert_ne!(intermediate(&both, after), intermediate(&first, start));
    assert!(matches!(
        first.mint_at("api.openai.com", after),
        Err(CaError::Expired { .. })
    ));
    let alone = Authority::open_at(&dir, &two(), None, after).unwrap();
    assert!(alone.new_cas().is_empty());
    assert!(
        !alone.ca_pem().contains(&first.ca_pem()),
        "what has run out is not trusted any more"
    );
}

#[test]
fn only_named_hosts_are_signed() {
    let (_home, dir) = place();
    let authority = Authority::open(&dir, &hosts(&["api.openai.com", "10.0.0.7"]), None).unwrap();
    for host in [
        "openai.com",
        "x.api.openai.com",
        "evil.example",
        "10.0.0.7",
        "*.openai.com",
        "api.openai.com\0",
        "",
        "::1",
    ] {
        authority.server_config(host, true).unwrap_err();
    }
    for n in 0..2000 {
        authority
            .server_config(&format!("h{n}.example"), true)
            .unwrap_err();
    }
    assert_eq!(authority.leaves.count(), 0);
    authority.server_config("API.openai.com.", true).unwrap();
    assert_eq!(authority.leaves.count(), 1);
    // What an earlier configuration covered is not signed for this one.
    let narrower = Authority::open(&dir, &hosts(&["api.stability.ai"]), None).unwrap();
    assert!(matches!(
        narrower.server_config("api.openai.com", true),
        Err(CaError::NotCovered { .. })
    ));
}

#[test]
fn no_host_means_no_ca_rather_than_one_without_bounds() {
    let (_home, dir) = place();
    let authority = Authority::open(&dir, &[], None).unwrap();
    assert_eq!(authority.ca_pem(), "");
    assert!(!dir.join("ca.pem").exists());
}

#[test]
fn a_leaf_is_kept_and_made_anew_at_half_of_its_life() {
    let (home, dir) = place();
    let start = SystemTime::now();
    let authority = Authority::open_at(&dir, &two(), None, start).unwrap();
    let at = |now| {
        authority
            .server_config_at("api.openai.com", true, now)
            .unwrap()
    };
    let first = at(start);
    assert!(Arc::ptr_eq(&first, &at(start + LEAF_LIFE / 2 - HOUR / 60)));
    assert!(Arc::ptr_eq(
        &first,
        &authority
            .server_config_at("API.OPENAI.COM", true, start)
            .unwrap()
    ));
    let second = at(start + LEAF_LIFE / 2);
    assert!(!Arc::ptr_eq(&first, &second));
    assert!(!Arc::ptr_eq(&second, &at(start)), "the clock was set back");

    let leaf = authority.mint_at("api.openai.com", start).unwrap();
    assert_eq!(leaf.renew_at(), start + LEAF_LIFE / 2);
    let facts = certificates::Facts::read(&leaf.chain()[0]).unwrap();
    let whole_hour = facts.not_after.duration_since(facts.not_before).unwrap();
    assert_eq!(whole_hour, LEAF_LIFE + HOUR);
    let again = authority.mint_at("api.openai.com", start).unwrap();
    let serial = |leaf: &Leaf| {
        let text = text_of(&leaf.chain()[0], home.path());
        let at = text
            .lines()
            .position(|line| line.contains("Serial Number"))
            .unwrap();
        text.lines().nth(at + 1).unwrap().trim().to_owned()
    };
    assert_ne!(serial(&leaf), serial(&again));
    assert!(serial(&leaf).len() >= 12 * 3 - 1, "{}", serial(&leaf));
}

#[test]
fn a_leaf_does_not_outlive_what_signed_it() {
    let (_home, dir) = place();
    let start = SystemTime::now();
    let authority = Authority::open_at(&dir, &two(), None, start).unwrap();
    let late = start + CA_LIFE - 4 * HOUR;
    let leaf = authority.mint_at("api.openai.com", late).unwrap();
    let [end, above] = [0, 1].map(|n| certificates::Facts::read(&leaf.chain()[n]).unwrap());
    assert_eq!(end.not_after, above.not_after);
    assert!(leaf.renew_at() <= late + 2 * HOUR);
}

#[test]
fn no_more_than_a_thousand_leaves_are_kept() {
    let (_home, dir) = place();
    let names: Vec<String> = (0..1010).map(|n| format!("h{n}.example")).collect();
    let authority = Authority::open(&dir, &names, None).unwrap();
    let start = SystemTime::now();
    for (n, name) in (0..).zip(&names) {
        authority
            .server_config_at(name, true, start + Duration::from_secs(n))
            .unwrap();
    }
    assert_eq!(authority.leaves.count(), 1000);
    let now = start + Duration::from_secs(2000);
    assert!(
        authority.leaves.get("h0.example", now).is_none(),
        "the oldest went"
    );
    assert!(authority.leaves.get("h1009.example", now).is_some());
}

struct Shaken {
    alpn: Option<Vec<u8>>,
    resumed: bool,
}

/// A handshake over a real socket pair, with a byte each way after it.
async fn shake(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    host: &str,
) -> Result<Shaken, io::Error> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let serve = async {
        let mut tls = tokio_rustls::TlsAcceptor::from(server).accept(near).await?;
        let mut byte = [0];
        tls.read_exact(&mut byte).await?;
        tls.write_all(&byte).await?;
        tls.shutdown().await
    };
    let ask = async {
        let mut tls = tokio_rustls::TlsConnector::from(client)
            .connect(name, far)
            .await?;
        tls.write_all(b"?").await?;
        let mut answer = Vec::new();
        tls.read_to_end(&mut answer).await?;
        assert_eq!(answer, b"?");
        let (_, connection) = tls.get_ref();
        Ok(Shaken {
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            resumed: connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        })
    };
    let (served, asked) = tokio::join!(serve, ask);
    asked.and_then(|shaken| served.map(|()| shaken))
}

fn client(
    pem: &str,
    versions: &[&'static rustls::SupportedProtocolVersion],
    alpn: &[&[u8]],
) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots(pem))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

#[tokio::test]
async fn a_client_that_trusts_the_root_shakes_hands_and_resumes() {
    let (_home, dir) = place();
    let authority = Authority::open(&dir, &two(), None).unwrap();
    let host = "api.openai.com";
    let both: &[&[u8]] = &[b"h2", b"http/1.1"];
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for (h2_here, offered, agreed) in [
            (true, both, Some(&b"h2"[..])),
            (false, both, Some(&b"http/1.1"[..])),
            (true, &both[..0], None),
        ] {
            let client = client(&authority.ca_pem(), &[version], offered);
            let server = || authority.server_config(host, h2_here).unwrap();
            let first = shake(server(), Arc::clone(&client), host).await.unwrap();
            assert_eq!(first.alpn.as_deref(), agreed);
            assert!(!first.resumed);
            let second = shake(server(), client, host).await.unwrap();
            assert!(second.resumed, "{version:?}");
        }
    }
}

#[tokio::test]
async fn a_client_without_the_root_or_for_another_host_refuses() {
    let (home, dir) = place();
    let authority = Authority::open(&dir, &two(), None).unwrap();
    let stranger = Authority::open(&home.path().join("other"), &two(), None).unwrap();
    let server = || authority.server_config("api.openai.com", true).unwrap();
    let versions = &[&rustls::version::TLS13];
    let distrusting = client(&stranger.ca_pem(), versions, &[]);
    assert!(
        shake(server(), distrusting, "api.openai.com")
            .await
            .is_err()
    );
    let trusting = client(&authority.ca_pem(), versions, &[]);
    assert!(shake(server(), trusting, "api.stability.ai").await.is_err());
}

/// A CA as companies hand them out, made by openssl: its key in each of the usual forms.
fn company_ca(home: &Path, form: &str) -> OwnCa {
    let [cert, key] = ["corp.pem", "corp.key"].map(|name| home.join(name));
    let [cert_arg, key_arg] = [&cert, &key].map(|path| path.to_str().unwrap());
    let make: &[&str] = match form {
        "rsa pkcs8" => &[
            "genpkey",
            "-quiet",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:2048",
            "-out",
            key_arg,
        ],
        "rsa pkcs1" => &["genrsa", "-traditional", "-out", key_arg, "2048"],
        "ec pkcs8" => &[
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-384",
            "-out",
            key_arg,
        ],
        _ => &["ecparam", "-name", "prime256v1", "-genkey", "-out", key_arg],
    };
    let out = openssl(make);
    assert!(
        out.status.success(),
        "{form}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let out = openssl(&[
        "req",
        "-x509",
        "-new",
        "-key",
        key_arg,
        "-out",
        cert_arg,
        "-days",
        "30",
        "-subj",
        "/CN=Corp",
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-addext",
        "keyUsage=critical,keyCertSign",
    ]);
    assert!(
        out.status.success(),
        "{form}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    OwnCa { cert, key }
}

#[tokio::test]
async fn the_users_own_ca_signs_in_every_usual_form() {
    for form in [
        "rsa pkcs8",
        "rsa pkcs1",
        "ec pkcs8",
        "ec sec1 with parameters",
    ] {
        let (home, dir) = place();
        let own = company_ca(home.path(), form);
        let authority = Authority::open(&dir, &two(), Some(own.clone())).unwrap();
        assert_eq!(authority.ca_pem_path(), own.cert);
        assert!(authority.warnings().is_empty() && authority.new_cas().is_empty());
        assert!(
            !dir.join("ca.pem").exists(),
            "none of ours is made beside it"
        );
        let leaf = authority
            .mint_at("api.openai.com", SystemTime::now())
            .unwrap();
        let (ok, said) = verify(
            home.path(),
            &own.cert,
            &leaf.chain()[1..],
            &leaf.chain()[0],
            &[],
        );
        assert!(ok, "{form}: {said}");
        let trusting = client(&authority.ca_pem(), &[&rustls::version::TLS13], &[b"h2"]);
        let server = authority.server_config("api.openai.com", true).unwrap();
        shake(server, trusting, "api.openai.com").await.unwrap();
        assert!(matches!(
            authority.server_config("evil.example", true),
            Err(CaError::NotCovered { .. })
        ));
    }
}

#[test]
fn an_own_ca_open_to_others_is_warned_of_and_used() {
    let (home, dir) = place();
    let own = company_ca(home.path(), "ec pkcs8");
    std::fs::set_permissions(&own.key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let authority = Authority::open(&dir, &two(), Some(own)).unwrap();
    assert!(
        authority.warnings()[0].contains("chmod 600"),
        "{:?}",
        authority.warnings()
    );
    authority.server_config("api.openai.com", true).unwrap();
}

#[test]
fn an_own_chain_is_sent_without_its_root() {
    let (home, dir) = place();
    // Our own intermediate and root stand in for a company's.
    let source = home.path().join("source");
    Authority::open(&source, &two(), None).unwrap();
    let chain = home.path().join("chain.pem");
    let text = ["ca.pem", "intermediate.pem"]
        .map(|name| std::fs::read_to_string(source.join(name)).unwrap());
    std::fs::write(&chain, text.concat()).unwrap();
    let own = OwnCa {
        cert: chain,
        key: source.join("intermediate.key"),
    };
    let all = hosts(&["api.openai.com", "bank.example"]);
    let authority = Authority::open(&dir, &all, Some(own)).unwrap();
    let leaf = authority
        .mint_at("api.openai.com", SystemTime::now())
        .unwrap();
    assert_eq!(leaf.chain().len(), 2);
    webpki(&authority.ca_pem(), leaf.chain(), "api.openai.com").unwrap();
    // Its constraint would make every client refuse: said here, where there is a remedy.
    assert!(matches!(
        authority.mint_at("bank.example", SystemTime::now()),
        Err(CaError::NotCovered { .. })
    ));
}

#[test]
fn an_own_ca_that_cannot_sign_is_refused_with_the_reason() {
    let (home, dir) = place();
    let own = company_ca(home.path(), "ec pkcs8");
    let write = |name: &str, text: &str| {
        let path = home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let other = KeyPair::generate().unwrap();
    let plain = CertificateParams::default()
        .self_signed(&other)
        .unwrap()
        .pem();
    let other_key = write("other.key", &other.serialize_pem());
    let plain = write("plain.pem", &plain);
    let rubbish = write("rubbish.pem", "rubbish");
    let locked = write(
        "locked.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    for (cert, key, why) in [
        (&own.cert, &other_key, "no certificate for the key"),
        (&plain, &other_key, "not one of a CA"),
        (&rubbish, &own.key, "no certificate for the key"),
        (&own.cert, &rubbish, "no private key"),
        (&own.cert, &locked, "encrypted"),
        (&home.path().join("absent"), &own.key, "absent"),
    ] {
        let own = OwnCa {
            cert: cert.clone(),
            key: key.clone(),
        };
        let said = Authority::open(&dir, &two(), Some(own))
            .unwrap_err()
            .to_string();
        assert!(said.contains(why), "{why}: {said}");
    }
    let late = SystemTime::now() + 60 * DAY;
    let said = Authority::open_at(&dir, &two(), Some(own), late)
        .unwrap_err()
        .to_string();
    assert!(said.contains("run out"), "{said}");
}
