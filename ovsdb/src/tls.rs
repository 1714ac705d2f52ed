//! Connections by TLS (`ssl:`, `pssl:`), configured as Open vSwitch's programs are
//! (ovs-vswitchd(8), "Public Key Infrastructure Options").
//!
//! Each side proves itself by a certificate that an authority known to the other has signed. Names
//! are not compared: whoever holds a certificate of that authority is a peer, as in Open vSwitch.
//! Files are read again when they change, so that certificates can be renewed under a running
//! program; a connection that is up keeps what it began with.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{self, CryptoProvider};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    self, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// Longest time a peer may take for its part of the handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What `--ca-cert` says to believe any peer.
const ANY_PEER: &str = "none";

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
        TlsError::Rustls(e.to_string())
    }
}

/// A file as it was when read: when it was written and how long it was.
type Stamp = Option<(SystemTime, u64)>;

/// Keys and certificates in use, shared by all connections of a program.
#[derive(Clone, Default)]
pub struct Tls(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    options: TlsOptions,
    stamps: Vec<Stamp>,
    configured: Option<Configured>,
}

#[derive(Clone)]
struct Configured {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    /// Where to write the peer's authority, while there is none.
    bootstrap: Option<PathBuf>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.lock().options.fmt(f)
    }
}

impl Tls {
    /// TLS with these options. The files are read when the first connection needs them.
    ///
    /// # Errors
    /// Protocols or ciphers that there are none of.
    pub fn new(options: TlsOptions) -> Result<Tls, TlsError> {
        let tls = Tls::default();
        tls.set(options)?;
        Ok(tls)
    }

    /// Uses other options from the next connection on.
    ///
    /// # Errors
    /// Protocols or ciphers that there are none of; the old options stay then.
    pub fn set(&self, options: TlsOptions) -> Result<(), TlsError> {
        provider(&options)?;
        versions(&options)?;
        let mut state = self.lock();
        if state.options != options {
            state.options = options;
            state.configured = None;
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The configuration made of the files as they are now.
    fn configured(&self) -> Result<Configured, TlsError> {
        let mut state = self.lock();
        let stamps = stamps(&state.options);
        if state.stamps == stamps
            && let Some(c) = &state.configured
        {
            return Ok(c.clone());
        }
        let made = configure(&state.options)?;
        state.stamps = stamps;
        state.configured = Some(made.clone());
        Ok(made)
    }

    /// Plays the server's part of a handshake.
    ///
    /// # Errors
    /// Nothing configured (`ENOPROTOOPT`), or a handshake that fails or takes longer than
    /// [`HANDSHAKE_TIMEOUT`].
    pub async fn accept<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let c = self.configured().map_err(not_configured)?;
        let stream = within(TlsAcceptor::from(c.server).accept(stream)).await?;
        finish(stream.into(), c.bootstrap)
    }

    /// Plays the client's part of a handshake.
    ///
    /// # Errors
    /// As [`Tls::accept`]. Where an authority was believed for the first time
    /// (`--bootstrap-ca-cert`) the error is of kind `ConnectionReset`, once: connect again, and it
    /// is held to it.
    pub async fn connect<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let c = self.configured().map_err(not_configured)?;
        // The name is never compared, nor sent: an address sends none.
        let name = ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
        let stream = within(TlsConnector::from(c.client).connect(name, stream)).await?;
        finish(stream.into(), c.bootstrap)
    }
}

/// As Open vSwitch: "Protocol not available".
fn not_configured(e: TlsError) -> io::Error {
    tracing::error!("{e}");
    match e {
        TlsError::Missing(_) => rustix::io::Errno::NOPROTOOPT.into(),
        e => io::Error::new(io::ErrorKind::InvalidInput, e),
    }
}

async fn within<T>(handshake: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(e)) => Err(io::Error::new(
            e.kind(),
            format!("Protocol error: SSL handshake failed: {e}"),
        )),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("SSL handshake not finished after {HANDSHAKE_TIMEOUT:?}"),
        )),
    }
}

/// Writes down the authority of a peer that was believed for want of one.
fn finish<S>(stream: TlsStream<S>, bootstrap: Option<PathBuf>) -> io::Result<TlsStream<S>> {
    let Some(path) = bootstrap else {
        return Ok(stream);
    };
    let peer = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let refuse = |why: &str| io::Error::other(format!("could not bootstrap CA cert: {why}"));
    let [leaf, .., authority] = peer else {
        return Err(refuse(
            "the peer sent no CA certificate behind its own; let it use --peer-ca-cert",
        ));
    };
    let mut roots = RootCertStore::empty();
    roots
        .add(authority.clone())
        .map_err(|e| refuse(&e.to_string()))?;
    let provider = crypto::ring::default_provider();
    ParsedCertificate::try_from(leaf)
        .and_then(|cert| {
            verify_server_cert_signed_by_trust_anchor(
                &cert,
                &roots,
                &peer[1..],
                UnixTime::now(),
                provider.signature_verification_algorithms.all,
            )
        })
        .map_err(|e| {
            refuse(&format!(
                "the last certificate the peer sent is not its CA: {e}"
            ))
        })?;
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(&path)
        .and_then(|mut f| f.write_all(pem(authority).as_bytes()));
    match written {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            Err(refuse(&format!("creating {} failed: {e}", path.display())))
        }
        _ => {
            tracing::info!("successfully bootstrapped CA cert to {}", path.display());
            Err(io::Error::new(
                io::ErrorKind::ConnectionReset,
                "CA certificate bootstrapped, connect again",
            ))
        }
    }
}

/// A certificate in PEM (RFC 7468).
fn pem(cert: &CertificateDer<'_>) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    // 48 bytes are one line of 64 characters.
    for line in cert.chunks(48) {
        for three in line.chunks(3) {
            let bits =
                three.iter().fold(0, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - three.len()));
            for i in 0..4 {
                text.push(if i <= three.len() {
                    char::from(ALPHABET[(bits >> (18 - 6 * i)) as usize & 63])
                } else {
                    '='
                });
            }
        }
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}

fn stamps(options: &TlsOptions) -> Vec<Stamp> {
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

fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
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

fn configure(options: &TlsOptions) -> Result<Configured, TlsError> {
    let key_file = options
        .private_key
        .as_deref()
        .ok_or(TlsError::Missing("Private key"))?;
    let cert_file = options
        .certificate
        .as_deref()
        .ok_or(TlsError::Missing("Certificate"))?;
    let ca_file = options
        .ca_cert
        .as_deref()
        .ok_or(TlsError::Missing("CA certificate"))?;
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(|e| TlsError::File {
        file: key_file.to_owned(),
        why: format!("reading the private key failed: {e}"),
    })?;
    let mut chain = certificates(cert_file)?;
    if let Some(file) = &options.peer_ca_cert {
        chain.extend(certificates(file)?);
    }
    let bootstrap = (options.bootstrap && !Path::new(ca_file).exists()).then(|| ca_file.into());
    let provider = Arc::new(provider(options)?);
    let verifier = if bootstrap.is_some() || ca_file == ANY_PEER {
        PeerVerifier::any(provider.clone())
    } else {
        PeerVerifier::signed_by(&certificates(ca_file)?, provider.clone())?
    };
    let verifier = Arc::new(verifier);
    let versions = versions(options)?;
    let mismatch = |e: rustls::Error| TlsError::File {
        file: cert_file.to_owned(),
        why: format!("certificate and private key {key_file} cannot be used: {e}"),
    };
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)?
        .with_client_cert_verifier(verifier.clone())
        .with_single_cert(chain.clone(), key.clone_key())
        .map_err(mismatch)?;
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain, key)
        .map_err(mismatch)?;
    Ok(Configured {
        server: Arc::new(server),
        client: Arc::new(client),
        bootstrap,
    })
}

/// The protocol versions that `--ssl-protocols` allows.
fn versions(options: &TlsOptions) -> Result<Vec<&'static SupportedProtocolVersion>, TlsError> {
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
fn provider(options: &TlsOptions) -> Result<CryptoProvider, TlsError> {
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

/// Checks that a peer's certificate comes from one of the authorities, whatever names it bears.
#[derive(Debug)]
struct PeerVerifier {
    /// `None`: any certificate will do.
    authorities: Option<(RootCertStore, Arc<dyn ClientCertVerifier>)>,
    provider: Arc<CryptoProvider>,
}

impl PeerVerifier {
    fn any(provider: Arc<CryptoProvider>) -> Self {
        Self {
            authorities: None,
            provider,
        }
    }

    fn signed_by(
        authorities: &[CertificateDer<'_>],
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for cert in authorities {
            roots.add(cert.clone().into_owned())?;
        }
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), provider.clone())
                .build()
                .map_err(|e| TlsError::Rustls(e.to_string()))?;
        Ok(Self {
            authorities: Some((roots, clients)),
            provider,
        })
    }

    fn signature12(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn signature13(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some((roots, _)) = &self.authorities {
            verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(end_entity)?,
                roots,
                intermediates,
                now,
                self.provider.signature_verification_algorithms.all,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        match &self.authorities {
            Some((_, clients)) => clients.root_hint_subjects(),
            None => &[],
        }
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match &self.authorities {
            Some((_, clients)) => clients.verify_client_cert(end_entity, intermediates, now),
            None => Ok(ClientCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature12(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.signature13(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
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
            Tls::new(options("TLSv1.1", "HIGH")).unwrap_err(),
            TlsError::NoProtocol("TLSv1.1".into())
        );
        assert_eq!(
            Tls::new(options("SSLv2", "HIGH")).unwrap_err(),
            TlsError::Protocol("SSLv2".into())
        );
        assert_eq!(
            Tls::new(options("TLSv1.2", "RC4-MD5")).unwrap_err(),
            TlsError::NoCipher("RC4-MD5".into())
        );
    }

    #[test]
    fn certificates_are_written_as_they_are_read() {
        for n in [1, 2, 3, 47, 48, 49, 500] {
            let der = CertificateDer::from((0..n).map(|i| i as u8).collect::<Vec<_>>());
            let read = CertificateDer::from_pem_slice(pem(&der).as_bytes()).unwrap();
            assert_eq!(read, der);
        }
    }
}
