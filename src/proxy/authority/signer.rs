//! The CAs that can sign: read from the directory, made where hosts are not covered, or brought by
//! the user.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{Issuer, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::certificates::{self, Facts, LEAF_LIFE};
use super::files::Locked;
use super::{CaError, NewCa, OwnCa, pem};

/// All roots in one file, for clients, where there is more than one CA.
pub(super) const ALL_ROOTS: &str = "ca-all.pem";

/// A CA with less than this left gets its successor, so that clients have time to learn of it.
const SUCCESSION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A CA of either kind, ready to sign leaves.
pub(super) struct Signer {
    issuer: Issuer<'static, KeyPair>,
    facts: Facts,
    /// Whether it signs for the very hosts it names only, as the CAs that we make do.
    exact: bool,
    /// What is sent below a leaf.
    chain: Vec<CertificateDer<'static>>,
    /// What clients must trust, PEM.
    trust: String,
    path: PathBuf,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Signer")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Signer {
    pub(super) fn covers(&self, host: &str) -> bool {
        if self.exact {
            self.facts.scope.names(host)
        } else {
            self.facts.scope.allows(host)
        }
    }

    pub(super) fn is_valid_at(&self, now: SystemTime) -> bool {
        self.facts.is_valid_at(now)
    }

    pub(super) fn outlives_a_leaf(&self, now: SystemTime) -> bool {
        now + LEAF_LIFE <= self.facts.not_after
    }

    pub(super) fn not_after(&self) -> SystemTime {
        self.facts.not_after
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(super) fn trust(&self) -> &str {
        &self.trust
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// The files of one CA. The root is written last: where it is, the others are.
struct Names {
    root: String,
    intermediate: String,
    key: String,
}

impl Names {
    /// The first CA is `ca.pem`, the next `ca-2.pem`.
    fn of(number: u32) -> Names {
        let suffix = match number {
            1 => String::new(),
            n => format!("-{n}"),
        };
        Names {
            root: format!("ca{suffix}.pem"),
            intermediate: format!("intermediate{suffix}.pem"),
            key: format!("intermediate{suffix}.key"),
        }
    }
}

/// The number of the CA whose root is in the file `name`.
fn number_of(name: &str) -> Option<u32> {
    let middle = name.strip_prefix("ca")?.strip_suffix(".pem")?;
    if middle.is_empty() {
        return Some(1);
    }
    let number = middle.strip_prefix('-')?.parse().ok()?;
    (number >= 2 && Names::of(number).root == name).then_some(number)
}

/// Reads the CAs in `dir` and makes one more for those of `hosts` that none covers for a while
/// yet. One process at a time: the second finds what the first has made.
pub(super) fn read_and_make(
    dir: &Path,
    hosts: &BTreeSet<String>,
    now: SystemTime,
    provider: &CryptoProvider,
) -> Result<(Vec<Signer>, Vec<NewCa>), CaError> {
    let locked = Locked::open(dir)?;
    let numbers = numbers(&locked)?;
    let mut signers = Vec::new();
    for number in &numbers {
        let signer = read(&locked, *number)?;
        if now < signer.not_after() {
            signers.push(signer);
        }
    }
    let bare = bare_hosts(hosts, &signers, now);
    let mut made = Vec::new();
    if !bare.is_empty() {
        let number = (1..)
            .find(|number| !numbers.contains(number))
            .unwrap_or(u32::MAX);
        write(&locked, number, &bare, now, provider)?;
        let signer = read(&locked, number)?;
        made.push(NewCa {
            path: signer.path.clone(),
            hosts: signer.facts.scope.hosts().to_vec(),
            beside_another: !signers.is_empty(),
        });
        signers.push(signer);
    }
    write_all_roots(&locked, &signers)?;
    Ok((signers, made))
}

/// Removes every CA in `dir`, keys first. Works on a directory that is too open for use, since
/// this is its cure, and closes it.
pub(super) fn discard(dir: &Path) -> Result<(), CaError> {
    close(dir)?;
    let locked = Locked::open(dir)?;
    for name in locked.names()?.iter().filter(|name| is_of_a_ca(name)) {
        locked.remove(name)?;
    }
    Ok(())
}

fn is_of_a_ca(name: &str) -> bool {
    let stem = name.strip_suffix(".key").or(name.strip_suffix(".pem"));
    stem.is_some_and(|stem| stem.starts_with("ca") || stem.starts_with("intermediate"))
}

fn close(dir: &Path) -> Result<(), CaError> {
    use std::os::unix::fs::PermissionsExt;
    match std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(CaError::Io {
            path: dir.to_owned(),
            doing: "close to others",
            source,
        }),
        _ => Ok(()),
    }
}

fn numbers(locked: &Locked) -> Result<BTreeSet<u32>, CaError> {
    let names = locked.names()?;
    Ok(names.iter().filter_map(|name| number_of(name)).collect())
}

fn bare_hosts(hosts: &BTreeSet<String>, signers: &[Signer], now: SystemTime) -> BTreeSet<String> {
    let lasting = |signer: &&Signer| now + SUCCESSION < signer.not_after();
    let covered = |host: &str| {
        signers
            .iter()
            .filter(lasting)
            .any(|signer| signer.covers(host))
    };
    hosts
        .iter()
        .filter(|host| !covered(host))
        .cloned()
        .collect()
}

fn write(
    locked: &Locked,
    number: u32,
    hosts: &BTreeSet<String>,
    now: SystemTime,
    provider: &CryptoProvider,
) -> Result<(), CaError> {
    let made = certificates::make_ca(hosts, now, provider.secure_random)?;
    let names = Names::of(number);
    locked.write_secret(&names.key, &made.intermediate_key_pem)?;
    locked.write_public(&names.intermediate, &made.intermediate_pem)?;
    locked.write_public(&names.root, &made.root_pem)
}

fn read(locked: &Locked, number: u32) -> Result<Signer, CaError> {
    let names = Names::of(number);
    let key_text = locked.read_secret(&names.key)?;
    let (root, root_facts) = read_certificate(locked, &names.root)?;
    let (intermediate, mut facts) = read_certificate(locked, &names.intermediate)?;
    let key_path = locked.path(&names.key);
    let key = read_key(&key_text).map_err(|why| CaError::broken(&key_path, why))?;
    if !facts.belongs_to(&key) {
        return Err(CaError::broken(
            &key_path,
            "it is not the key of its certificate",
        ));
    }
    let path = locked.path(&names.root);
    if facts.issuer != root_facts.subject {
        return Err(CaError::broken(&path, "it did not sign its intermediate"));
    }
    facts.not_after = facts.not_after.min(root_facts.not_after);
    Ok(Signer {
        issuer: Issuer::from_ca_cert_der(&intermediate, key)?,
        facts,
        exact: true,
        chain: vec![intermediate],
        trust: pem::encode(&[root]),
        path,
    })
}

fn read_certificate(
    locked: &Locked,
    name: &str,
) -> Result<(CertificateDer<'static>, Facts), CaError> {
    let text = locked.read_public(name)?;
    let der = CertificateDer::from_pem_slice(text.as_bytes()).ok();
    let facts = der.as_ref().and_then(Facts::read);
    der.zip(facts)
        .ok_or_else(|| CaError::broken(&locked.path(name), "it holds no certificate"))
}

fn write_all_roots(locked: &Locked, signers: &[Signer]) -> Result<(), CaError> {
    if signers.len() < 2 {
        return Ok(());
    }
    let all: String = signers.iter().map(Signer::trust).collect();
    match locked.read_public(ALL_ROOTS) {
        Ok(present) if present == all => Ok(()),
        _ => locked.write_public(ALL_ROOTS, &all),
    }
}

/// Reads the CA that the user brought.
///
/// # Errors
/// [`CaError::Own`] with what is wrong and what to do.
pub(super) fn read_own(own: &OwnCa, now: SystemTime) -> Result<Signer, CaError> {
    let fault = |path: &Path, why: String| CaError::Own {
        path: path.to_owned(),
        why,
    };
    let text = |path: &Path| {
        std::fs::read_to_string(path).map_err(|source| CaError::Io {
            path: path.to_owned(),
            doing: "read your CA from",
            source,
        })
    };
    let key = read_key(&text(&own.key)?).map_err(|why| fault(&own.key, why))?;
    let certs: Vec<_> = CertificateDer::pem_slice_iter(text(&own.cert)?.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| fault(&own.cert, format!("it is not PEM ({error})")))?;
    let (signing, facts) = certs
        .iter()
        .filter_map(|der| Some((der, Facts::read(der)?)))
        .find(|(_, facts)| facts.belongs_to(&key))
        .ok_or_else(|| {
            fault(
                &own.cert,
                format!(
                    "it holds no certificate for the key in {}",
                    own.key.display()
                ),
            )
        })?;
    if !facts.may_sign {
        let why =
            "its certificate is not one of a CA (basicConstraints CA:TRUE, keyUsage keyCertSign)";
        return Err(fault(&own.cert, why.to_owned()));
    }
    if !facts.is_valid_at(now) {
        let why = "its certificate has run out or is not valid yet";
        return Err(fault(&own.cert, why.to_owned()));
    }
    Ok(Signer {
        issuer: Issuer::from_ca_cert_der(signing, key)
            .map_err(|error| fault(&own.cert, error.to_string()))?,
        chain: below_the_root(signing, &certs),
        facts,
        exact: false,
        trust: pem::encode(&certs),
        path: own.cert.clone(),
    })
}

/// The signing certificate first, then the others, without roots: clients have these.
fn below_the_root(
    signing: &CertificateDer<'static>,
    all: &[CertificateDer<'static>],
) -> Vec<CertificateDer<'static>> {
    let is_root = |der: &CertificateDer<'_>| {
        Facts::read(der).is_some_and(|facts| facts.subject == facts.issuer)
    };
    std::iter::once(signing)
        .chain(all.iter().filter(|der| *der != signing))
        .filter(|der| !is_root(der))
        .cloned()
        .collect()
}

fn read_key(text: &str) -> Result<KeyPair, String> {
    if text.contains("ENCRYPTED") {
        return Err(
            "the key is encrypted: decrypt it with `openssl pkey -in KEY -out PLAIN`, mode 0600"
                .to_owned(),
        );
    }
    let der = PrivateKeyDer::from_pem_slice(text.as_bytes())
        .map_err(|_| "it holds no private key in PEM".to_owned())?;
    KeyPair::try_from(&der)
        .map_err(|_| "its key is none of RSA, P-256, P-384, P-521 and Ed25519".to_owned())
}
