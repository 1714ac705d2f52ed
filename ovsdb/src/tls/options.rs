//! What the options of TLS say: which files, which protocols and which ciphers.

use std::collections::BTreeSet;
use std::time::SystemTime;

use tokio_rustls::rustls::crypto::{self, CryptoProvider};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{self, SupportedProtocolVersion};

/// The options of ovs-vswitchd(8) about keys and certificates: names of PEM files, and what is
/// spoken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// `--private-key`: our key.
    pub private_key: Option<String>,
    /// `--certificate`: our certificate, those that lead to its authority behind it.
    pub certificate: Option<String>,
    /// `--ca-cert` or `--bootstrap-ca-cert`: the authorities whose certificates peers must hold;
    /// `none` to believe any peer.
    pub ca_cert: Option<String>,
    /// `--bootstrap-ca-cert`: where the file of [`TlsOptions::ca_cert`] is missing, believe the
    /// first peer and write its authority there.
    pub bootstrap: bool,
    /// `--peer-ca-cert`: more certificates to send, for a peer that bootstraps.
    pub peer_ca_cert: Option<String>,
    /// `--ssl-protocols`: which versions, separated by commas or blanks.
    pub protocols: Option<String>,
    /// `--ssl-ciphers`: which cipher suites of TLS 1.2, as OpenSSL names them, separated by colons.
    pub ciphers: Option<String>,
}

impl TlsOptions {
    /// Takes one of the options by its long name; false if it is none of them.
    pub fn accept(&mut self, name: &str, value: &str) -> bool {
        let place = match name {
            "private-key" => &mut self.private_key,
            "certificate" => &mut self.certificate,
            "ca-cert" | "bootstrap-ca-cert" => {
                self.bootstrap = name == "bootstrap-ca-cert";
                &mut self.ca_cert
            }
            "peer-ca-cert" => &mut self.peer_ca_cert,
            "ssl-protocols" => &mut self.protocols,
            "ssl-ciphers" => &mut self.ciphers,
            _ => return false,
        };
        *place = Some(value.to_owned());
        true
    }

    /// # Errors
    /// Protocols or ciphers that there are none of.
    pub(super) fn check(&self) -> Result<(), TlsError> {
        provider(self)?;
        versions(self)?;
        Ok(())
    }

    /// The same with every text replaced by what `f` makes of it; `None` leaves it out.
    pub fn map(&self, mut f: impl FnMut(&str) -> Option<String>) -> TlsOptions {
        let mut one = |text: &Option<String>| text.as_deref().and_then(&mut f);
        TlsOptions {
            private_key: one(&self.private_key),
            certificate: one(&self.certificate),
            ca_cert: one(&self.ca_cert),
            bootstrap: self.bootstrap,
            peer_ca_cert: one(&self.peer_ca_cert),
            protocols: one(&self.protocols),
            ciphers: one(&self.ciphers),
        }
    }
}

/// Why TLS cannot be spoken as configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// An option that both ends need is not given.
    #[error("{0} must be configured to use SSL")]
    Missing(&'static str),
    /// A file that cannot be used.
    #[error("{file}: {why}")]
    File {
        /// The file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// A value of `--ssl-protocols`.
    #[error("{0}: SSL protocol not recognized; this program speaks TLSv1.2 and TLSv1.3")]
    Protocol(String),
    /// Only protocols that are too old.
    #[error("{0}: none of these SSL protocols is supported; TLSv1.2 and TLSv1.3 are")]
    NoProtocol(String),
    /// A value of `--ssl-ciphers`.
    #[error("{0}: no cipher match; the suites are {list}", list = suite_names().join(":"))]
    NoCipher(String),
    /// Something rustls finds fault with.
    #[error("{0}")]
    Rustls(String),
}

impl From<rustls::Error> for TlsError {
    fn from(e: rustls::Error) -> Self {
        TlsError::Rustls(explain(&e))
    }
}

/// What rustls says, and what would be right where that does not show it.
pub(super) fn explain(e: &rustls::Error) -> String {
    let text = e.to_string();
    // The error inside is of a crate under rustls; its name is all that is to be had of it.
    if text.contains("UnsupportedCertVersion") {
        return "the certificate is X.509 v1 or v2, it must be X.509 v3".into();
    }
    text
}

/// A file as it was when read: when it was written and how long it was.
pub(super) type Stamp = Option<(SystemTime, u64)>;

/// The files that the options name, as they are now.
pub(super) fn stamps(options: &TlsOptions) -> Vec<Stamp> {
    [
        &options.private_key,
        &options.certificate,
        &options.ca_cert,
        &options.peer_ca_cert,
    ]
    .into_iter()
    .map(|file| {
        let meta = std::fs::metadata(file.as_deref()?).ok()?;
        Some((meta.modified().ok()?, meta.len()))
    })
    .collect()
}

/// The certificates in a file, at least one.
pub(super) fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fail = |why: String| TlsError::File {
        file: file.to_owned(),
        why,
    };
    let certs: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|e| fail(format!("reading certificates failed: {e}")))?;
    match certs.is_empty() {
        true => Err(fail("there is no certificate in PEM format in it".into())),
        false => Ok(certs),
    }
}

/// The protocol versions that `--ssl-protocols` allows.
pub(super) fn versions(
    options: &TlsOptions,
) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
    let Some(text) = &options.protocols else {
        return Ok(vec![&TLS13, &TLS12]);
    };
    let mut wanted = BTreeSet::new();
    for word in text.split([' ', ',', '\t']).filter(|w| !w.is_empty()) {
        match word {
            "TLSv1.3" => _ = wanted.insert(3),
            "TLSv1.2" => _ = wanted.insert(2),
            // Known, and not spoken any more (RFC 8996).
            "TLSv1" | "TLSv1.1" => {}
            other => return Err(TlsError::Protocol(other.to_owned())),
        }
    }
    if wanted.is_empty() {
        return Err(TlsError::NoProtocol(text.clone()));
    }
    let version = |v: i32| if v == 3 { &TLS13 } else { &TLS12 };
    Ok(wanted.into_iter().rev().map(version).collect())
}

/// OpenSSL's names of the suites of TLS 1.2 that there are.
const SUITES: &[(&str, rustls::CipherSuite)] = {
    use rustls::CipherSuite as S;
    &[
        (
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            S::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        ),
        (
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            S::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        ),
        (
            "ECDHE-ECDSA-CHACHA20-POLY1305",
            S::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        ),
        (
            "ECDHE-RSA-AES256-GCM-SHA384",
            S::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        ),
        (
            "ECDHE-RSA-AES128-GCM-SHA256",
            S::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ),
        (
            "ECDHE-RSA-CHACHA20-POLY1305",
            S::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ),
    ]
};

fn suite_names() -> Vec<&'static str> {
    SUITES.iter().map(|(name, _)| *name).collect()
}

/// The algorithms that `--ssl-ciphers` allows. As with OpenSSL it is about TLS 1.2 only: the
/// suites of TLS 1.3 are always there.
pub(super) fn provider(options: &TlsOptions) -> Result<CryptoProvider, TlsError> {
    let mut provider = crypto::ring::default_provider();
    let Some(text) = &options.ciphers else {
        return Ok(provider);
    };
    let words: Vec<&str> = text
        .split([':', ',', ' '])
        .filter(|w| !w.is_empty())
        .collect();
    // Every suite there is counts as HIGH; what is commonly excluded is not there anyway.
    let all = words
        .iter()
        .any(|w| matches!(*w, "HIGH" | "DEFAULT" | "ALL"));
    let allowed: Vec<_> = SUITES
        .iter()
        .filter(|(name, _)| {
            let excluded = words.iter().any(|w| {
                w.strip_prefix(['!', '-'])
                    .is_some_and(|part| name.split('-').any(|p| p == part) || part == *name)
            });
            (all || words.contains(name)) && !excluded
        })
        .map(|(_, suite)| *suite)
        .collect();
    if allowed.is_empty() {
        return Err(TlsError::NoCipher(text.clone()));
    }
    provider
        .cipher_suites
        .retain(|s| s.tls13().is_some() || allowed.contains(&s.suite()));
    Ok(provider)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(protocols: &str, ciphers: &str) -> TlsOptions {
        TlsOptions {
            protocols: Some(protocols.into()),
            ciphers: Some(ciphers.into()),
            ..TlsOptions::default()
        }
    }

    #[test]
    fn protocols_and_ciphers_are_chosen_or_refused() {
        let old = options("TLSv1,TLSv1.1,TLSv1.2", "HIGH:!aNULL:!MD5");
        assert_eq!(versions(&old).unwrap(), [&TLS12]);
        assert_eq!(provider(&old).unwrap().cipher_suites.len(), 9);
        let one = options("TLSv1.3 TLSv1.2", "ECDHE-RSA-AES256-GCM-SHA384");
        assert_eq!(versions(&one).unwrap(), [&TLS13, &TLS12]);
        assert_eq!(provider(&one).unwrap().cipher_suites.len(), 3 + 1);
        let no_ecdsa = options("TLSv1.2", "HIGH:!ECDSA");
        assert_eq!(provider(&no_ecdsa).unwrap().cipher_suites.len(), 3 + 3);
        assert_eq!(
            options("TLSv1.1", "HIGH").check().unwrap_err(),
            TlsError::NoProtocol("TLSv1.1".into())
        );
        assert_eq!(
            options("SSLv2", "HIGH").check().unwrap_err(),
            TlsError::Protocol("SSLv2".into())
        );
        assert_eq!(
            options("TLSv1.2", "RC4-MD5").check().unwrap_err(),
            TlsError::NoCipher("RC4-MD5".into())
        );
    }
}
