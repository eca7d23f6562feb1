//! A certificate authority for tests, and server certificates, good and faulty.
//!
//! Nothing here is trusted by anyone who was not handed [`Ca::pem`].

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// A certificate authority with a key of its own.
pub struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A server's certificate (with what it chains through) and its private key.
#[derive(Clone)]
pub struct ServerCert {
    /// The server's certificate, then the intermediates that the server presents.
    pub cert_pem: String,
    /// The private key, PKCS#8.
    pub key_pem: String,
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It ended in 2001.
    Expired,
    /// It begins in 4000.
    NotYetValid,
    /// It is for `wrong.test` and for nothing else.
    WrongHost,
    /// It names its hosts as common name only, without a subject alternative name.
    CommonNameOnly,
    /// It is signed by its own key.
    SelfSigned,
    /// It is signed by an authority that is not trusted.
    UnknownRoot,
    /// It may be used by clients only.
    NoServerAuth,
    /// It chains through an intermediate that the server does not present.
    MissingIntermediate,
    /// It names the DNS names, but none of the addresses.
    AddressNotNamed,
}

impl Fault {
    /// Every fault.
    pub const ALL: [Self; 9] = [
        Self::Expired,
        Self::NotYetValid,
        Self::WrongHost,
        Self::CommonNameOnly,
        Self::SelfSigned,
        Self::UnknownRoot,
        Self::NoServerAuth,
        Self::MissingIntermediate,
        Self::AddressNotNamed,
    ];
}

impl Ca {
    /// A new authority with a new key.
    #[expect(clippy::new_without_default, reason = "each authority is another one")]
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        Self { issuer: CertifiedIssuer::self_signed(authority("testbed root"), key).unwrap() }
    }

    /// The authority's certificate, as `--ca-file` and the bundle's `ca` take it.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A good certificate for these DNS names and addresses.
    pub fn server(&self, names: &[&str]) -> ServerCert {
        self.sign(&server(names))
    }

    /// A certificate for these names with one thing wrong.
    pub fn faulty(&self, names: &[&str], fault: Fault) -> ServerCert {
        let mut params = server(names);
        match fault {
            Fault::Expired => {
                params.not_before = date_time_ymd(2000, 1, 1);
                params.not_after = date_time_ymd(2001, 1, 1);
            }
            Fault::NotYetValid => params.not_before = date_time_ymd(4000, 1, 1),
            Fault::WrongHost => params = server(&["wrong.test"]),
            Fault::CommonNameOnly => {
                params.subject_alt_names.clear();
                params.distinguished_name = named(names[0]);
            }
            Fault::SelfSigned => {
                let key = KeyPair::generate().unwrap();
                let cert = params.self_signed(&key).unwrap();
                return ServerCert { cert_pem: cert.pem(), key_pem: key.serialize_pem() };
            }
            Fault::UnknownRoot => return Self::new().server(names),
            Fault::NoServerAuth => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
            Fault::MissingIntermediate => {
                let key = KeyPair::generate().unwrap();
                let middle = authority("testbed intermediate");
                let middle = CertifiedIssuer::signed_by(middle, key, &self.issuer).unwrap();
                return sign(&params, &middle);
            }
            Fault::AddressNotNamed => {
                let named: Vec<&str> =
                    names.iter().copied().filter(|n| n.parse::<std::net::IpAddr>().is_err()).collect();
                params = server(if named.is_empty() { &["named.test"] } else { &named });
            }
        }
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> ServerCert {
        sign(params, &self.issuer)
    }
}

fn sign(params: &CertificateParams, issuer: &CertifiedIssuer<'_, KeyPair>) -> ServerCert {
    let key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&key, issuer).unwrap();
    ServerCert { cert_pem: cert.pem(), key_pem: key.serialize_pem() }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn server(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = named("testbed server");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ca(..)")
    }
}

impl std::fmt::Debug for ServerCert {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerCert(..)")
    }
}
