//! The operator's own certificates: a CA, and a serving certificate signed by it. What is stored, what to do next, and doing it.
//! Reads no clock and does no I/O; keys are random.
//!
//! A CA is never replaced in one go: first API servers are told to trust the next one as well, then the serving certificate is signed by
//! it, and last the previous one is forgotten. At every moment every replica has a certificate that every API server trusts.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::ByteString;
use pem::Pem;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    sign::CertifiedKey,
};
use time::OffsetDateTime;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::validity::Validity;

/// Certificates are valid a little before they are made: clocks differ.
const BACKDATED: Duration = Duration::from_mins(10);

const CA: (&str, &str) = ("ca.crt", "ca.key");
const LEAF: (&str, &str) = ("tls.crt", "tls.key");
const NEXT_CA: (&str, &str) = ("next-ca.crt", "next-ca.key");
const PREVIOUS_CA: &str = "previous-ca.crt";

const CERTIFICATE: &str = "CERTIFICATE";

/// How long certificates live, and how long the steps of a change of CA are apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lifetimes {
    /// How long a serving certificate is valid. It is renewed after two thirds.
    pub leaf: Duration,
    /// How long a CA is valid. It is renewed after two thirds.
    pub ca: Duration,
    /// How long after the next CA has been made known to API servers nothing is signed by it.
    pub publication: Duration,
    /// How long after the change the previous CA is still trusted: a replica may not have seen the new certificate yet.
    pub overlap: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            leaf: Duration::from_hours(90 * 24),
            ca: Duration::from_hours(2 * 365 * 24),
            publication: Duration::from_mins(5),
            overlap: Duration::from_hours(24),
        }
    }
}

/// A certificate and its private key.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct KeyedCertificate {
    /// DER.
    certificate: Vec<u8>,
    /// PKCS #8, DER.
    key: Vec<u8>,
    validity: Validity,
}

/// The certificates, as they are stored.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct Stored {
    ca: KeyedCertificate,
    leaf: KeyedCertificate,
    /// The CA that will sign, once API servers know it.
    next_ca: Option<KeyedCertificate>,
    /// The CA that has signed before, DER.
    previous_ca: Option<Vec<u8>>,
}

/// Why stored certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnusableError {
    /// A part is missing or is no certificate or key. Own certificates are made anew; files are left as they are and tried again.
    #[error("{0} is missing or cannot be read")]
    Unreadable(&'static str),
    /// The key is not that of the certificate, or of a kind that is not known. As above.
    #[error("tls.crt and tls.key cannot be used together: {0}")]
    Mismatch(rustls::Error),
}

/// What to do next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Make a CA and a serving certificate: there are none, or they cannot be used any more.
    Create,
    /// Make a serving certificate, signed by the CA.
    RenewLeaf,
    /// Make the next CA, so that it is made known.
    AddNextCa,
    /// Sign the serving certificate by the next CA, which then is the CA.
    Switch,
    /// Forget the previous CA.
    DropPreviousCa,
    /// Nothing before then, if nobody touches what is stored.
    Wait(Timestamp),
}

/// What there is to do now. `published` says since when API servers have been told to trust what is stored, as a whole.
pub(super) fn next(now: Timestamp, stored: Option<&Stored>, published: Option<Timestamp>, names: &[String], lifetimes: &Lifetimes) -> Step {
    let Some(stored) = stored else { return Step::Create };
    let Stored { ca, leaf, next_ca, previous_ca } = stored;
    if !ca.is_valid_at(now) || ca.keys().is_none() {
        return Step::Create;
    }
    if !stored.leaf_serves(now, names) || leaf.is_due(now) {
        return Step::RenewLeaf;
    }
    let mut wait = leaf.due();
    if let Some(next_ca) = next_ca {
        if !next_ca.is_valid_at(now) || next_ca.keys().is_none() {
            return Step::AddNextCa;
        }
        // Not told yet: whoever tells them asks again then.
        let switch = published.map_or(now + lifetimes.publication, |published| published + lifetimes.publication);
        if published.is_some() && now >= switch {
            return Step::Switch;
        }
        wait = wait.min(switch);
    } else if previous_ca.is_some() {
        let dropped = leaf.made() + lifetimes.overlap;
        if now >= dropped {
            return Step::DropPreviousCa;
        }
        wait = wait.min(dropped);
    } else if ca.is_due(now) {
        return Step::AddNextCa;
    } else {
        wait = wait.min(ca.due());
    }
    Step::Wait(wait)
}

/// What is stored after the step; none if there is nothing to do.
pub(super) fn take(step: Step, now: Timestamp, stored: Option<Stored>, names: &[String], lifetimes: &Lifetimes) -> Option<Stored> {
    let created = || {
        let ca = new_ca(now, lifetimes);
        let leaf = new_leaf(now, &ca, names, lifetimes);
        Stored { ca, leaf, next_ca: None, previous_ca: None }
    };
    let after = match (step, stored) {
        (Step::Wait(_), _) => return None,
        (Step::Create, _) | (_, None) => created(),
        (Step::RenewLeaf, Some(stored)) => Stored { leaf: new_leaf(now, &stored.ca, names, lifetimes), ..stored },
        (Step::AddNextCa, Some(stored)) => Stored { next_ca: Some(new_ca(now, lifetimes)), ..stored },
        (Step::Switch, Some(stored)) => match stored.next_ca {
            Some(ca) => {
                let leaf = new_leaf(now, &ca, names, lifetimes);
                Stored { leaf, ca, next_ca: None, previous_ca: Some(stored.ca.certificate) }
            }
            None => stored,
        },
        (Step::DropPreviousCa, Some(stored)) => Stored { previous_ca: None, ..stored },
    };
    Some(after)
}

impl Stored {
    /// Reads what a Secret holds.
    pub(super) fn from_data(data: &BTreeMap<String, ByteString>) -> Result<Self, UnusableError> {
        let pair = |(certificate, key)| Self::pair(data, certificate, key);
        let has = |key: &str| data.contains_key(key);
        Ok(Self {
            ca: pair(CA)?,
            leaf: pair(LEAF)?,
            next_ca: if has(NEXT_CA.0) { Some(pair(NEXT_CA)?) } else { None },
            previous_ca: if has(PREVIOUS_CA) { Some(der(data, PREVIOUS_CA)?) } else { None },
        })
    }

    fn pair(data: &BTreeMap<String, ByteString>, certificate: &'static str, key: &'static str) -> Result<KeyedCertificate, UnusableError> {
        let key = der(data, key)?;
        let name = certificate;
        let certificate = der(data, name)?;
        let validity = Validity::of(&certificate).ok_or(UnusableError::Unreadable(name))?;
        Ok(KeyedCertificate { certificate, key, validity })
    }

    /// What a Secret holds of it.
    pub(super) fn to_data(&self) -> BTreeMap<String, ByteString> {
        let Self { ca, leaf, next_ca, previous_ca } = self;
        let pairs = [(CA, Some(ca)), (LEAF, Some(leaf)), (NEXT_CA, next_ca.as_ref())];
        let mut data: BTreeMap<_, _> = pairs
            .into_iter()
            .filter_map(|(names, pair)| Some((names, pair?)))
            .flat_map(|((certificate, key), pair)| {
                [(certificate, to_pem(CERTIFICATE, &pair.certificate)), (key, to_pem("PRIVATE KEY", &pair.key))]
            })
            .map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes())))
            .collect();
        if let Some(previous) = previous_ca {
            data.insert(PREVIOUS_CA.to_owned(), ByteString(to_pem(CERTIFICATE, previous).into_bytes()));
        }
        data
    }

    /// The CAs that API servers must trust, as PEM.
    pub(super) fn bundle(&self) -> Vec<u8> {
        let Self { ca, leaf: _, next_ca, previous_ca } = self;
        let others = next_ca.iter().map(|next| &next.certificate).chain(previous_ca);
        [&ca.certificate].into_iter().chain(others).map(|certificate| to_pem(CERTIFICATE, certificate)).collect::<String>().into_bytes()
    }

    /// Whether a client that trusts the CA takes the serving certificate for all names.
    fn leaf_serves(&self, now: Timestamp, names: &[String]) -> bool {
        let serves = || {
            let authority = CertificateDer::from(&*self.ca.certificate);
            let anchor = anchor_from_trusted_cert(&authority).ok()?;
            let certificate = CertificateDer::from(&*self.leaf.certificate);
            let leaf = EndEntityCert::try_from(&certificate).ok()?;
            let time = UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().try_into().ok()?));
            let algorithms = ring::default_provider().signature_verification_algorithms.all;
            leaf.verify_for_usage(algorithms, &[anchor], &[], time, KeyUsage::server_auth(), None, None).ok()?;
            names.iter().all(|name| is_valid_for(&leaf, name)).then_some(())
        };
        serves().is_some() && certified(vec![self.leaf.certificate.clone()], &self.leaf.key).is_ok()
    }

    /// The serving certificate, for TLS.
    pub(super) fn certified_key(&self) -> Result<Arc<CertifiedKey>, UnusableError> {
        certified(vec![self.leaf.certificate.clone()], &self.leaf.key)
    }
}

fn is_valid_for(leaf: &EndEntityCert<'_>, name: &str) -> bool {
    ServerName::try_from(name).is_ok_and(|name| leaf.verify_is_valid_for_subject_name(&name).is_ok())
}

impl KeyedCertificate {
    fn is_valid_at(&self, now: Timestamp) -> bool {
        self.validity.from <= now && now < self.validity.to
    }

    fn made(&self) -> Timestamp {
        self.validity.from + BACKDATED
    }

    /// When two thirds of its life are over.
    fn due(&self) -> Timestamp {
        let life = self.validity.to.duration_since(self.made());
        self.made() + life * 2 / 3
    }

    fn is_due(&self, now: Timestamp) -> bool {
        now >= self.due()
    }

    fn keys(&self) -> Option<KeyPair> {
        KeyPair::try_from(&*self.key).ok()
    }
}

/// A chain, leaf first, and the key of the leaf, for TLS.
pub(super) fn certified(chain: Vec<Vec<u8>>, key: &[u8]) -> Result<Arc<CertifiedKey>, UnusableError> {
    let key = PrivateKeyDer::try_from(key.to_vec()).map_err(|_| UnusableError::Unreadable(LEAF.1))?;
    let chain = chain.into_iter().map(CertificateDer::from).collect();
    let certified = CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(UnusableError::Mismatch)?;
    Ok(Arc::new(certified))
}

/// The chain and key of files in PEM.
pub(super) fn certified_from_pem(chain: &[u8], key: &[u8]) -> Result<Arc<CertifiedKey>, UnusableError> {
    let all = |bytes, name| pem::parse_many(bytes).map_err(|_| UnusableError::Unreadable(name));
    let chain: Vec<_> = all(chain, LEAF.0)?.into_iter().filter(|part| part.tag() == CERTIFICATE).map(Pem::into_contents).collect();
    let key = all(key, LEAF.1)?.into_iter().find(|part| part.tag().ends_with("PRIVATE KEY")).ok_or(UnusableError::Unreadable(LEAF.1))?;
    if chain.is_empty() {
        return Err(UnusableError::Unreadable(LEAF.0));
    }
    certified(chain, key.contents())
}

fn new_ca(now: Timestamp, lifetimes: &Lifetimes) -> KeyedCertificate {
    let keys = new_keys();
    let certificate = ca_params(now, lifetimes).self_signed(&keys).expect("what is signed has nothing that cannot be written");
    keyed(certificate.der().to_vec(), &keys)
}

fn new_leaf(now: Timestamp, ca: &KeyedCertificate, names: &[String], lifetimes: &Lifetimes) -> KeyedCertificate {
    let keys = new_keys();
    let mut params = CertificateParams::new(names).expect("names have been checked when they were read");
    params.distinguished_name = common_name("podpolicy webhook");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = date(now - BACKDATED);
    params.not_after = date((now + lifetimes.leaf).min(ca.validity.to));
    let authority = ca.keys().expect("a CA without a usable key is replaced first");
    let issuer = Issuer::new(ca_params(now, lifetimes), authority);
    let certificate = params.signed_by(&keys, &issuer).expect("what is signed has nothing that cannot be written");
    keyed(certificate.der().to_vec(), &keys)
}

/// All CAs have the same name: their keys tell them apart.
fn ca_params(now: Timestamp, lifetimes: &Lifetimes) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("podpolicy webhook CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date(now - BACKDATED);
    params.not_after = date(now + lifetimes.ca);
    params
}

fn keyed(certificate: Vec<u8>, keys: &KeyPair) -> KeyedCertificate {
    let validity = Validity::of(&certificate).expect("a certificate that was just made is one");
    KeyedCertificate { certificate, key: keys.serialize_der(), validity }
}

fn new_keys() -> KeyPair {
    KeyPair::generate().expect("the system has randomness")
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn date(time: Timestamp) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(time.as_second()).expect("certificates are made in this age")
}

fn der(data: &BTreeMap<String, ByteString>, name: &'static str) -> Result<Vec<u8>, UnusableError> {
    let text = data.get(name).ok_or(UnusableError::Unreadable(name))?;
    pem::parse(&text.0).map(Pem::into_contents).map_err(|_| UnusableError::Unreadable(name))
}

fn to_pem(tag: &str, der: &[u8]) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&Pem::new(tag, der), config)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const LIFETIMES: Lifetimes =
        Lifetimes { leaf: Duration::from_hours(30), ca: Duration::from_hours(300), publication: HOUR, overlap: Duration::from_hours(3) };

    fn names() -> Vec<String> {
        vec!["podpolicy-webhook.podpolicy-system.svc".to_owned(), "127.0.0.1".to_owned()]
    }

    fn start() -> Timestamp {
        "2026-03-01T00:00:00Z".parse().unwrap()
    }

    fn at(hours: u64) -> Timestamp {
        start() + Duration::from_hours(hours)
    }

    fn created() -> Stored {
        take(Step::Create, start(), None, &names(), &LIFETIMES).unwrap()
    }

    fn decide(now: Timestamp, stored: &Stored, published: Option<Timestamp>) -> Step {
        next(now, Some(stored), published, &names(), &LIFETIMES)
    }

    #[test]
    fn certificates_that_are_missing_are_made() {
        assert_eq!(next(start(), None, None, &names(), &LIFETIMES), Step::Create);
        assert_eq!(decide(start(), &created(), None), Step::Wait(at(20)));
    }

    #[test]
    fn leaf_is_renewed_after_two_thirds_of_its_life_by_the_same_ca() {
        let stored = created();
        assert_eq!(decide(at(20) - Duration::from_secs(1), &stored, None), Step::Wait(at(20)));
        assert_eq!(decide(at(20), &stored, None), Step::RenewLeaf);
        let renewed = take(Step::RenewLeaf, at(20), Some(stored.clone()), &names(), &LIFETIMES).unwrap();
        assert!(renewed.ca == stored.ca && renewed.leaf != stored.leaf);
        assert_eq!(renewed.bundle(), stored.bundle());
        assert_eq!(decide(at(20), &renewed, None), Step::Wait(at(40)));
    }

    #[test]
    fn leaf_that_does_not_serve_is_renewed() {
        let stored = created();
        let others = vec!["elsewhere.example".to_owned()];
        assert_eq!(next(start(), Some(&stored), None, &others, &LIFETIMES), Step::RenewLeaf);
        let renewed = take(Step::RenewLeaf, start(), Some(stored.clone()), &others, &LIFETIMES).unwrap();
        assert_eq!(next(start(), Some(&renewed), None, &others, &LIFETIMES), Step::Wait(at(20)));
        let foreign = Stored { leaf: created().leaf, ..stored.clone() };
        assert_eq!(decide(start(), &foreign, None), Step::RenewLeaf, "signed by another CA");
        let mixed = Stored { leaf: KeyedCertificate { key: created().leaf.key, ..stored.leaf.clone() }, ..stored };
        assert_eq!(decide(start(), &mixed, None), Step::RenewLeaf, "the key of another certificate");
    }

    #[test]
    fn ca_is_changed_in_three_steps_that_overlap() {
        let old = take(Step::RenewLeaf, at(199), Some(created()), &names(), &LIFETIMES).unwrap();
        assert_eq!(decide(at(199), &old, None), Step::Wait(at(200)));
        assert_eq!(decide(at(200), &old, None), Step::AddNextCa);

        let both = take(Step::AddNextCa, at(200), Some(old.clone()), &names(), &LIFETIMES).unwrap();
        assert!(both.leaf == old.leaf, "nothing is signed by a CA that nobody knows");
        assert!(both.bundle().starts_with(&old.bundle()) && both.bundle().len() > old.bundle().len());
        assert_eq!(decide(at(205), &both, None), Step::Wait(at(206)), "not told yet");
        assert_eq!(decide(at(205), &both, Some(at(205))), Step::Wait(at(206)), "told just now");
        assert_eq!(decide(at(206), &both, Some(at(205))), Step::Switch);

        let switched = take(Step::Switch, at(206), Some(both.clone()), &names(), &LIFETIMES).unwrap();
        assert!(Some(&switched.ca) == both.next_ca.as_ref() && switched.leaf != both.leaf);
        assert!(switched.leaf_serves(at(206), &names()));
        let text = String::from_utf8(switched.bundle()).unwrap();
        assert!(text.contains(std::str::from_utf8(&old.bundle()).unwrap()), "a replica may still have the old certificate");
        assert_eq!(decide(at(208), &switched, None), Step::Wait(at(209)));
        assert_eq!(decide(at(209), &switched, None), Step::DropPreviousCa);

        let dropped = take(Step::DropPreviousCa, at(209), Some(switched.clone()), &names(), &LIFETIMES).unwrap();
        assert!(dropped.leaf == switched.leaf && dropped.bundle() == to_pem(CERTIFICATE, &switched.ca.certificate).into_bytes());
        assert_eq!(decide(at(209), &dropped, None), Step::Wait(at(226)));
    }

    #[test]
    fn leaf_is_renewed_also_in_the_middle_of_a_change_of_ca() {
        let both = take(Step::AddNextCa, start(), Some(created()), &names(), &LIFETIMES).unwrap();
        assert_eq!(decide(at(20), &both, None), Step::RenewLeaf);
        let renewed = take(Step::RenewLeaf, at(20), Some(both.clone()), &names(), &LIFETIMES).unwrap();
        assert!(renewed.next_ca == both.next_ca && renewed.leaf_serves(at(20), &names()));
    }

    #[test]
    fn leaf_never_outlives_its_ca() {
        let renewed = take(Step::RenewLeaf, at(290), Some(created()), &names(), &LIFETIMES).unwrap();
        assert_eq!(renewed.leaf.validity.to, at(300));
    }

    #[test]
    fn ca_that_has_expired_is_made_anew() {
        assert_eq!(decide(at(300), &created(), None), Step::Create);
        assert_eq!(decide(start() - HOUR, &created(), None), Step::Create, "not valid yet");
    }

    #[test]
    fn what_is_stored_is_read_as_it_was() {
        let both = take(Step::AddNextCa, start(), Some(created()), &names(), &LIFETIMES).unwrap();
        let switched = take(Step::Switch, start(), Some(both.clone()), &names(), &LIFETIMES).unwrap();
        for stored in [created(), both, switched] {
            assert!(Stored::from_data(&stored.to_data()).unwrap() == stored);
            assert!(stored.certified_key().is_ok());
        }
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        let both = take(Step::AddNextCa, start(), Some(created()), &names(), &LIFETIMES).unwrap();
        for name in ["ca.crt", "ca.key", "tls.crt", "tls.key", "next-ca.key"] {
            let mut data = both.to_data();
            data.remove(name);
            let missing = Stored::from_data(&data).map(drop).unwrap_err().to_string();
            assert_eq!(missing, format!("{name} is missing or cannot be read"));
            data.insert(name.to_owned(), ByteString(b"nonsense".to_vec()));
            assert!(Stored::from_data(&data).is_err());
        }
    }

    #[test]
    fn files_may_hold_a_chain_and_must_fit_together() {
        let (one, other) = (created().to_data(), created().to_data());
        let chain = [&*one["tls.crt"].0, &*one["ca.crt"].0].concat();
        assert_eq!(certified_from_pem(&chain, &one["tls.key"].0).unwrap().cert.len(), 2);
        for (chain, key) in [(&*chain, &*other["tls.key"].0), (b"", &*one["tls.key"].0), (&*chain, b""), (&*chain, &*chain)] {
            assert!(certified_from_pem(chain, key).is_err());
        }
    }
}
