//! Connections by TLS (`ssl:`, `pssl:`), configured as Open vSwitch's programs are
//! (ovs-vswitchd(8), "Public Key Infrastructure Options").
//!
//! Each side proves itself by a certificate that an authority known to the other has signed. Names
//! are not compared: whoever holds a certificate of that authority is a peer, as in Open vSwitch.
//! Files are read again when they change, so that certificates can be renewed under a running
//! program; a connection that is up keeps what it began with.

mod options;
mod verifier;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use self::options::{Stamp, certificates, explain, provider, stamps, versions};
pub use self::options::{TlsError, TlsOptions};
use self::verifier::PeerVerifier;

/// Longest time a peer may take for its part of the handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What `--ca-cert` says to believe any peer.
const ANY_PEER: &str = "none";

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
        options.check()?;
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
            format!("Protocol error: SSL handshake failed: {}", reason(&e)),
        )),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("SSL handshake not finished after {HANDSHAKE_TIMEOUT:?}"),
        )),
    }
}

/// Why a handshake failed, in our words where they say more.
fn reason(e: &io::Error) -> String {
    let inner = e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    inner.map_or_else(|| e.to_string(), explain)
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

/// Reads the files.
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
        why: format!(
            "certificate and private key {key_file} cannot be used: {}",
            explain(&e)
        ),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_written_as_they_are_read() {
        for n in [1, 2, 3, 47, 48, 49, 500] {
            let der = CertificateDer::from((0..n).map(|i| i as u8).collect::<Vec<_>>());
            let read = CertificateDer::from_pem_slice(pem(&der).as_bytes()).unwrap();
            assert_eq!(read, der);
        }
    }
}
