//! CA certificates in PEM, checked as far as that is possible without TLS.
//!
//! The launcher checks a CA file with this type before it creates anything, and the sidecar reads
//! what the launcher wrote. Whether a certificate can be a trust anchor is decided by the TLS library,
//! in the sidecar.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The certificates of one PEM text, at least one. Comments, private keys and everything else in the
/// text are dropped; `Display` and JSON are the certificates in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct CaPem(Vec<CertificateDer<'static>>);

/// Why a text is not a CA. Never quotes the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CaError {
    /// The text has no section between the markers of a certificate.
    #[error("no certificate found")]
    NoCertificate,
    /// A marker is broken or missing, or the text between two is not base64.
    #[error("invalid PEM")]
    Pem,
    /// The bytes of a section are not a certificate.
    #[error("certificate {0} is not a valid X.509 certificate")]
    Certificate(
        /// Counted from 1.
        usize,
    ),
}

impl CaPem {
    /// Reads the certificates of a PEM text.
    ///
    /// # Errors
    /// [`CaError`] for the first fault.
    pub fn parse(pem: &[u8]) -> Result<Self, CaError> {
        let mut certificates = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|_| CaError::Pem)?;
            if !has_certificate_outline(&certificate) {
                return Err(CaError::Certificate(certificates.len() + 1));
            }
            certificates.push(certificate);
        }
        if certificates.is_empty() { Err(CaError::NoCertificate) } else { Ok(Self(certificates)) }
    }

    /// The certificates in DER, in the order of the text.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }
}

/// Whether bytes are laid out as a certificate (RFC 5280, section 4.1) up to its public key. Stops what
/// is not a certificate at all, as a private key between the wrong markers; it is laxer than any TLS
/// library.
fn has_certificate_outline(der: &[u8]) -> bool {
    const SEQUENCE: u8 = 0x30;
    const BIT_STRING: u8 = 0x03;
    const INTEGER: u8 = 0x02;
    const VERSION: u8 = 0xa0;
    let outline = || {
        let (certificate, behind) = element(der, SEQUENCE)?;
        let (fields, signature) = element(certificate, SEQUENCE)?;
        let (_algorithm, signature) = element(signature, SEQUENCE)?;
        let (_bits, end) = element(signature, BIT_STRING)?;
        // Only certificates of version 1 have no version.
        let mut fields = element(fields, VERSION).map_or(fields, |(_, rest)| rest);
        // Serial number; algorithm, issuer, validity, subject, public key.
        for tag in [INTEGER, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE, SEQUENCE] {
            fields = element(fields, tag)?.1;
        }
        Some(behind.is_empty() && end.is_empty())
    };
    outline().unwrap_or(false)
}

/// The content of the first DER element, which has this tag, and the bytes behind it.
fn element(der: &[u8], expected: u8) -> Option<(&[u8], &[u8])> {
    let [tag, first, rest @ ..] = der else { return None };
    let (length, rest) = match first {
        ..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    (*tag == expected).then(|| rest.split_at_checked(length)).flatten()
}

impl fmt::Display for CaPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for certificate in &self.0 {
            f.write_str("-----BEGIN CERTIFICATE-----\n")?;
            // 48 bytes are the 64 characters of RFC 7468, section 2.
            for line in certificate.chunks(48) {
                writeln!(f, "{}", BASE64_STANDARD.encode(line))?;
            }
            f.write_str("-----END CERTIFICATE-----\n")?;
        }
        Ok(())
    }
}

impl fmt::Debug for CaPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaPem({} certificates)", self.0.len())
    }
}

impl Serialize for CaPem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CaPem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = CaPem;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a PEM text")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<CaPem, E> {
                CaPem::parse(text.as_bytes()).map_err(|error| E::custom(format!("invalid CA: {error}")))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An outline only: the values are too short to mean anything.
    const OUTLINE: [u8; 24] = [
        0x30, 0x16, 0x30, 0x0f, 0x02, 0x01, 1, 0x30, 0, 0x30, 0, 0x30, 0, 0x30, 0, 0x30, 0x02, 5, 0, 0x30, 0,
        0x03, 0x01, 0,
    ];

    fn pem(der: &[u8]) -> String {
        CaPem(vec![der.to_vec().into()]).to_string()
    }

    #[test]
    fn certificates_are_found_among_other_text_and_printed_alone() {
        let key = "-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n";
        let text = format!("subject: CN=x\n{}{key}\n{}", pem(&OUTLINE), pem(&OUTLINE));
        let ca = CaPem::parse(text.as_bytes()).unwrap();
        assert_eq!(ca.certificates().len(), 2);
        assert_eq!(ca.to_string(), pem(&OUTLINE).repeat(2));
        assert_eq!(format!("{ca:?}"), "CaPem(2 certificates)");
        let json = serde_json::to_string(&ca).unwrap();
        assert_eq!(serde_json::from_str::<CaPem>(&json).unwrap(), ca);
    }

    #[test]
    fn what_is_not_a_certificate_is_refused() {
        let (begin, end) = ("-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n");
        let mut longer = OUTLINE.to_vec();
        longer.push(0);
        for (text, expected) in [
            (String::new(), CaError::NoCertificate),
            ("MIIB".into(), CaError::NoCertificate),
            (pem(&OUTLINE).replace("CERTIFICATE", "PRIVATE KEY"), CaError::NoCertificate),
            (format!("{begin}!!\n{end}"), CaError::Pem),
            (format!("{begin}MIIB\n"), CaError::Pem),
            (format!("{begin}{end}"), CaError::Certificate(1)),
            (pem(b"nonsense"), CaError::Certificate(1)),
            (pem(&OUTLINE[..23]), CaError::Certificate(1)),
            (pem(&longer), CaError::Certificate(1)),
            (pem(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), CaError::Certificate(1)),
            (pem(&[0x30, 0x80, 0, 0]), CaError::Certificate(1)),
            (format!("{}{}", pem(&OUTLINE), pem(b"x")), CaError::Certificate(2)),
        ] {
            assert_eq!(CaPem::parse(text.as_bytes()), Err(expected), "{text}");
        }
    }
}
