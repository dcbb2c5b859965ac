//! What the certificates say: the templates of root, intermediate and leaf, and reading them back.
//!
//! The extensions are what OpenSSL's strict mode asks for (the default in Python 3.13): an
//! authority key identifier on everything that is signed by another, subject key identifier and
//! critical basic constraints and key usage on CAs.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, PublicKeyData, SanType, SerialNumber,
};
use rustls::crypto::SecureRandom;
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;
use x509_parser::extensions::{GeneralName, GeneralSubtree as ReadSubtree};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::CaError;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Root and intermediate live two years.
pub(super) const CA_LIFE: Duration = Duration::from_secs(730 * 24 * 60 * 60);
/// A leaf lives a day.
pub(super) const LEAF_LIFE: Duration = DAY;
/// Certificates begin an hour ago, for clients whose clock is behind ours.
pub(super) const BACKDATED: Duration = Duration::from_secs(60 * 60);

/// A CA as it was just made. The root's key is gone: nothing else can ever be signed with it.
pub(super) struct NewCa {
    pub(super) root_pem: String,
    pub(super) intermediate_pem: String,
    pub(super) intermediate_key_pem: String,
}

/// Makes a root and an intermediate that can speak for `hosts` alone.
///
/// # Errors
/// [`CaError::Signing`] when a key or signature cannot be made.
pub(super) fn make_ca(
    hosts: &BTreeSet<String>,
    now: SystemTime,
    random: &dyn SecureRandom,
) -> Result<NewCa, CaError> {
    // Two CAs of one name would be mistaken for one another in a client's store.
    let name = format!("pixtoll local CA {}", hex(&random_bytes::<4>(random)?));
    let root_key = KeyPair::generate()?;
    let root = ca_params(&name, 1, hosts, now, random)?;
    let root_pem = root.self_signed(&root_key)?.pem();

    let key = KeyPair::generate()?;
    let mut below = ca_params(&format!("{name}, issuer"), 0, hosts, now, random)?;
    below.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    below.use_authority_key_identifier_extension = true;
    let intermediate = below.signed_by(&key, &Issuer::from_params(&root, &root_key))?;
    Ok(NewCa {
        root_pem,
        intermediate_pem: intermediate.pem(),
        intermediate_key_pem: key.serialize_pem(),
    })
}

fn ca_params(
    name: &str,
    below: u8,
    hosts: &BTreeSet<String>,
    now: SystemTime,
    random: &dyn SecureRandom,
) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: hosts.iter().cloned().map(GeneralSubtree::DnsName).collect(),
        excluded_subtrees: vec![
            GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])),
            GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])),
        ],
    });
    params.not_before = OffsetDateTime::from(now - BACKDATED);
    params.not_after = OffsetDateTime::from(now + CA_LIFE);
    params.serial_number = Some(serial(random)?);
    Ok(params)
}

/// The template of a leaf for `host`: no subject, and therefore a critical alternative name.
///
/// # Errors
/// [`CaError::Signing`] when the name cannot be encoded or no random number is to be had.
pub(super) fn leaf_params(
    host: &str,
    not_before: SystemTime,
    not_after: SystemTime,
    random: &dyn SecureRandom,
) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::DnsName(host.to_owned().try_into()?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = OffsetDateTime::from(not_before);
    params.not_after = OffsetDateTime::from(not_after);
    params.serial_number = Some(serial(random)?);
    Ok(params)
}

/// 128 random bits.
fn serial(random: &dyn SecureRandom) -> Result<SerialNumber, CaError> {
    Ok(SerialNumber::from_slice(&random_bytes::<16>(random)?))
}

fn random_bytes<const N: usize>(random: &dyn SecureRandom) -> Result<[u8; N], CaError> {
    let mut bytes = [0; N];
    random
        .fill(&mut bytes)
        .map_err(|_| CaError::Signing(rcgen::Error::RingUnspecified))?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The names that a CA certificate lets its leaves carry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scope {
    /// Empty: any name that is not excluded.
    permitted: Vec<String>,
    excluded: Vec<String>,
}

impl Scope {
    /// Whether the constraint lets a leaf carry `host`, as RFC 5280 (4.2.1.10) has it: a name
    /// covers itself and everything below it.
    pub(super) fn allows(&self, host: &str) -> bool {
        let any = |names: &[String]| names.iter().any(|name| covers(name, host));
        (self.permitted.is_empty() || any(&self.permitted)) && !any(&self.excluded)
    }

    /// Whether `host` itself, and not only a name above it, is permitted.
    pub(super) fn names(&self, host: &str) -> bool {
        self.permitted.iter().any(|name| name == host)
    }

    pub(super) fn hosts(&self) -> &[String] {
        &self.permitted
    }
}

fn covers(constraint: &str, host: &str) -> bool {
    let above = constraint.trim_start_matches('.');
    above.is_empty()
        || (host == above && !constraint.starts_with('.'))
        || host
            .strip_suffix(above)
            .is_some_and(|rest| rest.ends_with('.'))
}

/// What we need to know of a CA certificate.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
    pub(super) scope: Scope,
    /// Whether it is meant to sign other certificates.
    pub(super) may_sign: bool,
    pub(super) subject: Vec<u8>,
    pub(super) issuer: Vec<u8>,
    public_key: Vec<u8>,
}

impl Facts {
    /// Reads them; `None` when it is not an X.509 certificate.
    pub(super) fn read(der: &CertificateDer<'_>) -> Option<Facts> {
        let (_, cert) = X509Certificate::from_der(der).ok()?;
        let is_ca = cert
            .basic_constraints()
            .ok()?
            .is_some_and(|basic| basic.value.ca);
        let usage = cert.key_usage().ok()?;
        Some(Facts {
            not_before: seconds(cert.validity().not_before.timestamp()),
            not_after: seconds(cert.validity().not_after.timestamp()),
            scope: scope(&cert)?,
            may_sign: is_ca && usage.is_none_or(|usage| usage.value.key_cert_sign()),
            subject: cert.subject().as_raw().to_vec(),
            issuer: cert.issuer().as_raw().to_vec(),
            public_key: cert.public_key().raw.to_vec(),
        })
    }

    pub(super) fn belongs_to(&self, key: &KeyPair) -> bool {
        self.public_key == key.subject_public_key_info()
    }

    pub(super) fn is_valid_at(&self, now: SystemTime) -> bool {
        self.not_before <= now && now < self.not_after
    }
}

fn seconds(since_epoch: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(since_epoch).unwrap_or(0))
}

fn scope(cert: &X509Certificate<'_>) -> Option<Scope> {
    let Some(constraints) = cert.name_constraints().ok()? else {
        return Some(Scope::default());
    };
    let names = |trees: &Option<Vec<ReadSubtree<'_>>>| -> Vec<String> {
        let dns = |tree: &ReadSubtree<'_>| match tree.base {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        };
        trees.iter().flatten().filter_map(dns).collect()
    };
    Some(Scope {
        permitted: names(&constraints.value.permitted_subtrees),
        excluded: names(&constraints.value.excluded_subtrees),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constraint_covers_itself_and_what_is_below_it() {
        for (constraint, host, covered) in [
            ("openai.com", "openai.com", true),
            ("openai.com", "api.openai.com", true),
            ("openai.com", "notopenai.com", false),
            (".openai.com", "api.openai.com", true),
            (".openai.com", "openai.com", false),
            ("api.openai.com", "openai.com", false),
            ("", "anything.example", true),
        ] {
            assert_eq!(covers(constraint, host), covered, "{constraint} {host}");
        }
    }

    #[test]
    fn an_excluded_name_wins_over_a_permitted_one() {
        let scope = Scope {
            permitted: vec!["lan".to_owned()],
            excluded: vec!["bank.lan".to_owned()],
        };
        assert!(scope.allows("studio.lan"));
        assert!(!scope.allows("bank.lan"));
        assert!(!scope.allows("openai.com"));
        assert!(Scope::default().allows("openai.com"));
    }
}
