//! From when to when a certificate is valid, read from its DER. Pure.
//!
//! Reads nothing else of it: whether a certificate is sound is for those to say who verify it.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// From when to when a certificate is valid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Validity {
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
}

impl Validity {
    /// That of a certificate; none if the bytes are no certificate.
    pub(super) fn of(certificate: &[u8]) -> Option<Self> {
        let mut certificate = Reader(certificate).expect(SEQUENCE)?;
        let mut signed = certificate.expect(SEQUENCE)?;
        if signed.0.first() == Some(&VERSION) {
            signed.expect(VERSION)?;
        }
        let _serial_number = signed.expect(INTEGER)?;
        let _signature_algorithm = signed.expect(SEQUENCE)?;
        let _issuer = signed.expect(SEQUENCE)?;
        let mut validity = signed.expect(SEQUENCE)?;
        Some(Self { from: validity.time()?, to: validity.time()? })
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The content of the next value.
    fn next(&mut self) -> Option<(u8, Reader<'a>)> {
        let (&[tag, length], rest) = self.0.split_first_chunk::<2>()?;
        let (length, rest) = if length < 0x80 {
            (usize::from(length), rest)
        } else {
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            if bytes.is_empty() || bytes.len() > 4 {
                return None;
            }
            (bytes.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)), rest)
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, Reader(content)))
    }

    fn expect(&mut self, tag: u8) -> Option<Reader<'a>> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    fn time(&mut self) -> Option<Timestamp> {
        let (tag, Reader(text)) = self.next()?;
        let text = std::str::from_utf8(text).ok()?;
        let text = match tag {
            // Two digits for the year: 1950 to 2049.
            UTC_TIME if text.get(..2)? < "50" => format!("20{text}"),
            UTC_TIME => format!("19{text}"),
            GENERALIZED_TIME => text.to_owned(),
            _ => return None,
        };
        let time = DateTime::strptime("%Y%m%d%H%M%SZ", &text).ok()?;
        TimeZone::UTC.to_timestamp(time).ok()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
    use time::OffsetDateTime;

    use super::*;

    fn certificate(from: i64, to: i64) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["web.example".to_owned()]).unwrap();
        params.not_before = OffsetDateTime::from_unix_timestamp(from).unwrap();
        params.not_after = OffsetDateTime::from_unix_timestamp(to).unwrap();
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn times_are_read_in_both_forms() {
        // 2026-01-02 03:04:05, and 2050-06-07 08:09:10, which needs four digits for the year.
        let (from, to) = (1_767_323_045, 2_538_288_550);
        let validity = Validity::of(&certificate(from, to)).unwrap();
        assert_eq!((validity.from.as_second(), validity.to.as_second()), (from, to));
    }

    #[test]
    fn bytes_that_are_no_certificate_have_no_validity() {
        let certificate = certificate(0, 1);
        assert!(Validity::of(&certificate).is_some());
        for length in 0..certificate.len() {
            assert_eq!(Validity::of(&certificate[..length]), None);
        }
        assert_eq!(Validity::of(&[0x30, 0xff, 1, 2]), None);
        assert_eq!(Validity::of(&[0x30, 0x88, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
