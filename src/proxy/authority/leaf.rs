//! Leaves and the TLS settings made of them: signed on first use, kept, and made anew at half of
//! their life.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::RwLock;
use rcgen::KeyPair;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};

use super::CaError;
use super::certificates::{BACKDATED, LEAF_LIFE, leaf_params};
use super::signer::Signer;

/// So many hosts are kept at once.
const MOST_KEPT: usize = 1000;

/// A certificate for one host, and the settings that show it.
#[derive(Debug)]
pub struct Leaf {
    chain: Vec<CertificateDer<'static>>,
    made: SystemTime,
    renew_at: SystemTime,
    with_h2: Arc<ServerConfig>,
    without_h2: Arc<ServerConfig>,
}

impl Leaf {
    /// What is sent to the client: the leaf, then what signed it, up to but without the root.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// When it is made anew: at half of its life.
    pub fn renew_at(&self) -> SystemTime {
        self.renew_at
    }

    pub(super) fn config(&self, alpn_h2: bool) -> Arc<ServerConfig> {
        Arc::clone(if alpn_h2 {
            &self.with_h2
        } else {
            &self.without_h2
        })
    }

    /// A clock that was set back makes a leaf from the future as useless as an old one.
    fn is_fresh(&self, now: SystemTime) -> bool {
        self.made - BACKDATED <= now && now < self.renew_at
    }
}

/// The leaves in use, with the one key that all of them share in this process.
pub(super) struct Leaves {
    key: KeyPair,
    signing: Arc<dyn SigningKey>,
    provider: Arc<CryptoProvider>,
    /// One for all: a client that comes back is spared the signature, on whichever host.
    tickets: Arc<dyn ProducesTickets>,
    kept: RwLock<HashMap<String, Arc<Leaf>>>,
}

impl Leaves {
    pub(super) fn new() -> Result<Leaves, CaError> {
        let key = KeyPair::generate()?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Leaves {
            signing: aws_lc_rs::sign::any_supported_type(&der)?,
            key,
            // Named here, never the process's default: another part may not change our ciphers.
            provider: Arc::new(aws_lc_rs::default_provider()),
            tickets: aws_lc_rs::Ticketer::new()?,
            kept: RwLock::new(HashMap::new()),
        })
    }

    pub(super) fn provider(&self) -> &CryptoProvider {
        &self.provider
    }

    /// The leaf kept for `host`, unless it is due to be made anew.
    pub(super) fn get(&self, host: &str, now: SystemTime) -> Option<Arc<Leaf>> {
        let kept = self.kept.read();
        kept.get(host).filter(|leaf| leaf.is_fresh(now)).cloned()
    }

    /// Keeps `leaf`, in place of the oldest where there are too many.
    pub(super) fn keep(&self, host: String, leaf: Arc<Leaf>) -> Arc<Leaf> {
        let mut kept = self.kept.write();
        if kept.len() >= MOST_KEPT && !kept.contains_key(&host) {
            let oldest = kept.iter().min_by_key(|(_, leaf)| leaf.made);
            if let Some(host) = oldest.map(|(host, _)| host.clone()) {
                kept.remove(&host);
            }
        }
        kept.insert(host, Arc::clone(&leaf));
        leaf
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.kept.read().len()
    }

    /// Signs a leaf for `host`, which the caller has checked to be one of `signer`'s.
    pub(super) fn mint(
        &self,
        signer: &Signer,
        host: &str,
        now: SystemTime,
    ) -> Result<Leaf, CaError> {
        let ends = (now + LEAF_LIFE).min(signer.not_after());
        let begins = now - BACKDATED;
        let params = leaf_params(host, begins, ends, self.provider.secure_random)?;
        let cert = params.signed_by(&self.key, signer.issuer())?;
        let mut chain = vec![cert.der().clone()];
        chain.extend_from_slice(signer.chain());
        let left = ends.duration_since(now).unwrap_or_default();
        Ok(Leaf {
            with_h2: self.config(&chain, &[b"h2", b"http/1.1"])?,
            without_h2: self.config(&chain, &[b"http/1.1"])?,
            chain,
            made: now,
            renew_at: now + left / 2,
        })
    }

    fn config(
        &self,
        chain: &[CertificateDer<'static>],
        alpn: &[&[u8]],
    ) -> Result<Arc<ServerConfig>, CaError> {
        let shown = CertifiedKey::new(chain.to_vec(), Arc::clone(&self.signing));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config.ticketer = Arc::clone(&self.tickets);
        // Tickets are kept by the client: nothing here grows with the number of sessions.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    }
}
