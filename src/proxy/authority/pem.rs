//! Certificates as PEM text, which is what clients' trust files hold.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;

/// RFC 7468 wants lines of 64 characters; OpenSSL refuses longer ones.
const LINE: usize = 64;

/// One block a certificate, in the order given.
pub(crate) fn encode(certs: &[CertificateDer<'_>]) -> String {
    let mut text = String::new();
    for cert in certs {
        let encoded = STANDARD.encode(cert);
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let mut rest = encoded.as_str();
        while !rest.is_empty() {
            let (line, more) = rest.split_at(rest.len().min(LINE));
            text.push_str(line);
            text.push('\n');
            rest = more;
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustls::pki_types::pem::PemObject;

    proptest! {
        #[test]
        fn what_is_encoded_reads_back_the_same(bytes in proptest::collection::vec(any::<u8>(), 1..300)) {
            let certs = [CertificateDer::from(bytes.clone()), CertificateDer::from(bytes)];
            let text = encode(&certs);
            let read: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes()).map(Result::unwrap).collect();
            prop_assert_eq!(&read[..], &certs[..]);
            prop_assert!(text.lines().all(|line| line.len() <= LINE));
        }
    }
}
