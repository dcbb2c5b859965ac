//! The local certificate authority: what lets an app talk TLS to a provider through us.
//!
//! A CA that an app trusts could speak for any site if its key were stolen. This one cannot: root
//! and intermediate are constrained by name to the providers' hosts, the root's key is thrown away
//! as soon as it has signed, and leaves live a day with a key that never leaves memory. Since a
//! constraint cannot be widened later, hosts that are added later get a further CA beside the
//! first.

mod certificates;
mod files;
mod host;
mod leaf;
pub(crate) mod pem;
mod signer;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;

use leaf::Leaves;
use signer::Signer;

pub use leaf::Leaf;

/// Why no CA or no certificate is to be had.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    #[error("no certificate can be made for `{host}`: {why}")]
    Host { host: String, why: &'static str },
    #[error(
        "`{host}` is not among the hosts that the CA may speak for: add it to a provider's `hosts` in the configuration"
    )]
    NotCovered { host: String },
    #[error(
        "the CA that speaks for `{host}` has run out or is not valid yet: check the clock, then make a new one with `pixtoll ca renew`"
    )]
    Expired { host: String },
    #[error(
        "{path} is open to others (mode {mode:o}): whoever read it can pose as your providers. \
         Make a new CA with `pixtoll ca renew`, or, if nobody else uses this machine, run: chmod {wanted:o} {path}",
        path = path.display()
    )]
    Loose {
        path: PathBuf,
        mode: u32,
        wanted: u32,
    },
    #[error(
        "{path} belongs to another user: run pixtoll as that user, or give it a state directory of its own",
        path = path.display()
    )]
    Owner { path: PathBuf },
    #[error("could not {doing} {path}: {source}", path = path.display())]
    Io {
        path: PathBuf,
        doing: &'static str,
        source: io::Error,
    },
    #[error("the CA in {path} cannot be used: {why}. Make a new one with `pixtoll ca renew`", path = path.display())]
    Broken { path: PathBuf, why: String },
    #[error("your own CA in {path} cannot be used: {why}", path = path.display())]
    Own { path: PathBuf, why: String },
    #[error("a certificate could not be signed: {0}")]
    Signing(#[from] rcgen::Error),
    #[error("TLS could not be set up: {0}")]
    Tls(#[from] rustls::Error),
}

impl CaError {
    fn broken(path: &Path, why: impl Into<String>) -> CaError {
        CaError::Broken {
            path: path.to_owned(),
            why: why.into(),
        }
    }
}

/// A CA that the user brings (`ca: {cert, key}`): PEM files. The certificate file may hold the
/// chain above the signing certificate too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnCa {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// A CA that this process has just made, and that no client can know yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCa {
    /// The root certificate to trust.
    pub path: PathBuf,
    /// The hosts it can speak for, in order.
    pub hosts: Vec<String>,
    /// Whether it stands beside an earlier one: an installed trust does not cover it, and
    /// `pixtoll ca install` is due.
    pub beside_another: bool,
}

/// What of an authority changes when hosts are added.
#[derive(Debug, Default)]
struct State {
    /// Every host a leaf may be asked for.
    hosts: BTreeSet<String>,
    signers: Vec<Arc<Signer>>,
    made: Vec<NewCa>,
}

/// Signs leaves for the providers' hosts and keeps the TLS settings made of them.
pub struct Authority {
    dir: PathBuf,
    /// Set when the user brought a CA: the path of its certificate.
    own: Option<PathBuf>,
    state: RwLock<State>,
    leaves: Leaves,
    warnings: Vec<String>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Authority")
            .field("dir", &self.dir)
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Reads the CA in `dir`, makes it where there is none yet, and makes a further one for those
    /// of `hosts` that the present ones do not cover. Addresses among `hosts` are passed over.
    /// With `own`, the user's CA signs and none is made. Blocks on the disk and on the lock.
    ///
    /// # Errors
    /// [`CaError`] when the directory or a key in it is open to others, when a file is damaged or
    /// a host is no host name.
    pub fn open(dir: &Path, hosts: &[String], own: Option<OwnCa>) -> Result<Authority, CaError> {
        Authority::open_at(dir, hosts, own, SystemTime::now())
    }

    /// [`Authority::open`] at another time than now.
    ///
    /// # Errors
    /// As [`Authority::open`].
    pub fn open_at(
        dir: &Path,
        hosts: &[String],
        own: Option<OwnCa>,
        now: SystemTime,
    ) -> Result<Authority, CaError> {
        let mut state = State::default();
        let mut warnings = Vec::new();
        let mut own_path = None;
        if let Some(own) = &own {
            state.signers = vec![Arc::new(signer::read_own(own, now)?)];
            warnings.extend(own_key_warning(&own.key));
            let path = std::path::absolute(&own.cert).unwrap_or_else(|_| own.cert.clone());
            own_path = Some(path);
        }
        let authority = Authority {
            dir: std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned()),
            own: own_path,
            state: RwLock::new(state),
            leaves: Leaves::new()?,
            warnings,
        };
        authority.cover_at(hosts, now)?;
        Ok(authority)
    }

    /// Throws away the CAs in `dir` and makes one new one for `hosts`. A process that runs keeps
    /// the old one until it is started again; clients must be given the new one.
    ///
    /// # Errors
    /// As [`Authority::open`].
    pub fn renew(dir: &Path, hosts: &[String]) -> Result<Authority, CaError> {
        signer::discard(dir)?;
        Authority::open(dir, hosts, None)
    }

    /// Adds `hosts` (a reloaded configuration), and tells which CAs had to be made for it.
    /// Blocks on the disk and on the lock.
    ///
    /// # Errors
    /// As [`Authority::open`].
    pub fn cover(&self, hosts: &[String]) -> Result<Vec<NewCa>, CaError> {
        self.cover_at(hosts, SystemTime::now())
    }

    fn cover_at(&self, hosts: &[String], now: SystemTime) -> Result<Vec<NewCa>, CaError> {
        let mut wanted = self.state.read().hosts.clone();
        for name in hosts.iter().filter(|name| !host::is_address(name)) {
            wanted.insert(host::normalise(name)?);
        }
        if self.own.is_some() {
            self.state.write().hosts = wanted;
            return Ok(Vec::new());
        }
        let (signers, made) = signer::read_and_make(&self.dir, &wanted, now, self.provider())?;
        let mut state = self.state.write();
        state.hosts = wanted;
        state.signers = signers.into_iter().map(Arc::new).collect();
        state.made.extend(made.iter().cloned());
        Ok(made)
    }

    /// The TLS settings for a client that asked for `host`, with HTTP/2 on offer if `alpn_h2`.
    /// A lookup and a reference count, but for the first time and once in twelve hours.
    ///
    /// # Errors
    /// [`CaError::Host`], [`CaError::NotCovered`] or [`CaError::Expired`] when no leaf can be had.
    pub fn server_config(&self, host: &str, alpn_h2: bool) -> Result<Arc<ServerConfig>, CaError> {
        self.server_config_at(host, alpn_h2, SystemTime::now())
    }

    fn server_config_at(
        &self,
        host: &str,
        alpn_h2: bool,
        now: SystemTime,
    ) -> Result<Arc<ServerConfig>, CaError> {
        if let Some(leaf) = self.leaves.get(host, now) {
            return Ok(leaf.config(alpn_h2));
        }
        let name = host::normalise(host)?;
        let leaf = match self.leaves.get(&name, now) {
            Some(leaf) => leaf,
            None => self.leaves.keep(name, Arc::new(self.mint_at(host, now)?)),
        };
        Ok(leaf.config(alpn_h2))
    }

    /// Signs a new leaf for `host`, as of `now`, without keeping it.
    ///
    /// # Errors
    /// As [`Authority::server_config`].
    pub fn mint_at(&self, host: &str, now: SystemTime) -> Result<Leaf, CaError> {
        let name = host::normalise(host)?;
        let signer = self.signer_for(&name, now)?;
        self.leaves.mint(&signer, &name, now)
    }

    fn signer_for(&self, name: &str, now: SystemTime) -> Result<Arc<Signer>, CaError> {
        let state = self.state.read();
        let covering = || {
            let known = state.hosts.contains(name);
            state
                .signers
                .iter()
                .filter(move |signer| known && signer.covers(name))
        };
        let host = || name.to_owned();
        if covering().next().is_none() {
            return Err(CaError::NotCovered { host: host() });
        }
        // The oldest that lasts: it is the one that clients have had the time to get.
        covering()
            .filter(|signer| signer.is_valid_at(now))
            .min_by_key(|signer| (!signer.outlives_a_leaf(now), signer.not_after()))
            .cloned()
            .ok_or_else(|| CaError::Expired { host: host() })
    }

    /// What clients must trust: the root certificates of all CAs, PEM.
    pub fn ca_pem(&self) -> String {
        let state = self.state.read();
        state.signers.iter().map(|signer| signer.trust()).collect()
    }

    /// A file with [`Authority::ca_pem`] in it.
    pub fn ca_pem_path(&self) -> PathBuf {
        if let Some(own) = &self.own {
            return own.clone();
        }
        match self.state.read().signers.as_slice() {
            [only] => only.path().to_owned(),
            _ => self.dir.join(signer::ALL_ROOTS),
        }
    }

    /// The CAs that this process made: what clients trusted before does not cover these.
    pub fn new_cas(&self) -> Vec<NewCa> {
        self.state.read().made.clone()
    }

    /// What a person should know about the CA, in full sentences.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    fn provider(&self) -> &CryptoProvider {
        self.leaves.provider()
    }
}

fn own_key_warning(key: &Path) -> Option<String> {
    files::is_loose(key).then(|| {
        format!(
            "your CA's key {path} is open to others: whoever reads it can pose as any site your CA may \
             speak for. Close it with: chmod 600 {path}",
            path = key.display()
        )
    })
}
