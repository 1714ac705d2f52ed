//! Keys and certificates for tests, here and of the programs that speak with the database.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// An authority, and a key with a certificate of it.
pub struct Pki {
    dir: tempfile::TempDir,
}

impl Pki {
    /// Makes both.
    pub fn new() -> Pki {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let name = |who: &str| {
            let mut name = rcgen::DistinguishedName::new();
            name.push(rcgen::DnType::CommonName, who);
            name
        };
        params.distinguished_name = name("authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        write("ca.pem", params.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let mut leaf = CertificateParams::new(vec!["somebody".into()]).unwrap();
        leaf.distinguished_name = name("somebody");
        write("cert.pem", leaf.signed_by(&key, &issuer).unwrap().pem());
        write("key.pem", key.serialize_pem());
        Pki { dir }
    }

    /// Where `key.pem`, `cert.pem` and `ca.pem` are.
    pub fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// The options of Open vSwitch's programs that name the files.
    pub fn arguments(&self) -> Vec<String> {
        vec![
            format!("--private-key={}", self.path("key.pem")),
            format!("--certificate={}", self.path("cert.pem")),
            format!("--ca-cert={}", self.path("ca.pem")),
        ]
    }
}
