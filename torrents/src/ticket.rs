//! Tickets: a supernode's word that one peer may have one layer.
//!
//! Signed with Ed25519, so that a node can check tickets and cannot make them.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{InfoHash, PeerId};

const CONTEXT: &[u8] = b"flotilla ticket 1\0";
/// Swarm, peer id, expiry.
const BODY: usize = 20 + 20 + 8;
const SIGNED: usize = BODY + 64;

/// Who may have what until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The swarm.
    pub swarm: InfoHash,
    /// The peer that may have it.
    pub peer_id: PeerId,
    /// Seconds since 1970 at which the ticket ends.
    pub expires: u64,
}

/// Why a ticket does not admit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// Not a ticket at all.
    #[error("expected a ticket of {SIGNED} bytes")]
    Malformed,
    /// Signed by nobody that is trusted here.
    #[error("ticket signed by an unknown supernode")]
    Signature,
    /// Its time is over.
    #[error("ticket expired")]
    Expired,
    /// It admits somebody else, or to another swarm.
    #[error("ticket for another peer or swarm")]
    OtherHolder,
}

/// Keys could not be made or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ticket key: {0}")]
pub struct TicketKeyError(String);

/// A ticket with its signature.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedTicket([u8; SIGNED]);

impl SignedTicket {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The ticket with these bytes; the signature is not checked.
    ///
    /// # Errors
    /// Another length than a ticket's.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TicketError> {
        bytes.try_into().map(Self).map_err(|_| TicketError::Malformed)
    }

    fn body(&self) -> &[u8] {
        self.0.get(..BODY).unwrap_or_default()
    }

    fn ticket(&self) -> Option<Ticket> {
        let (swarm, rest) = self.0.split_first_chunk::<20>()?;
        let (peer_id, rest) = rest.split_first_chunk::<20>()?;
        let (expires, _) = rest.split_first_chunk::<8>()?;
        Some(Ticket {
            swarm: InfoHash::from_bytes(*swarm),
            peer_id: PeerId::from_bytes(*peer_id),
            expires: u64::from_be_bytes(*expires),
        })
    }
}

impl fmt::Display for SignedTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for SignedTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Who has the bytes has the layer: they stay out of logs.
        write!(f, "SignedTicket({:?})", self.ticket())
    }
}

impl FromStr for SignedTicket {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        if text.len() != SIGNED * 2 {
            return Err(TicketError::Malformed);
        }
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| TicketError::Malformed)?;
        Self::from_bytes(&bytes)
    }
}

impl Serialize for SignedTicket {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SignedTicket {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Makes tickets.
pub struct TicketSigner(Ed25519KeyPair);

impl fmt::Debug for TicketSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketSigner({})", self.public_key())
    }
}

impl TicketSigner {
    /// A new key, and its PKCS #8 form to keep.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn generate() -> Result<(Self, Vec<u8>), TicketKeyError> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| TicketKeyError("no randomness".to_owned()))?;
        Ok((Self::from_pkcs8(pkcs8.as_ref())?, pkcs8.as_ref().to_vec()))
    }

    /// The key kept earlier.
    ///
    /// # Errors
    /// The bytes are no Ed25519 key.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self, TicketKeyError> {
        Ed25519KeyPair::from_pkcs8(bytes).map(Self).map_err(|e| TicketKeyError(e.to_string()))
    }

    /// What others check with.
    pub fn public_key(&self) -> TicketKey {
        TicketKey(self.0.public_key().as_ref().try_into().unwrap_or([0; 32]))
    }

    /// Signs `ticket`.
    pub fn sign(&self, ticket: &Ticket) -> SignedTicket {
        let mut bytes = [0; SIGNED];
        let body = [
            ticket.swarm.as_bytes().as_slice(),
            ticket.peer_id.as_bytes(),
            &ticket.expires.to_be_bytes(),
        ]
        .concat();
        let signature = self.0.sign(&[CONTEXT, &body].concat());
        for (to, from) in bytes.iter_mut().zip(body.iter().chain(signature.as_ref())) {
            *to = *from;
        }
        SignedTicket(bytes)
    }
}

/// Checks the tickets of one supernode.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TicketKey([u8; 32]);

impl TicketKey {
    /// Whether `signed` admits `peer_id` to `swarm` at `now` (seconds since 1970).
    ///
    /// # Errors
    /// Why it does not.
    pub fn verify(
        &self,
        signed: &SignedTicket,
        now: u64,
        swarm: InfoHash,
        peer_id: PeerId,
    ) -> Result<Ticket, TicketError> {
        let signature = signed.0.get(BODY..).unwrap_or_default();
        UnparsedPublicKey::new(&ED25519, self.0)
            .verify(&[CONTEXT, signed.body()].concat(), signature)
            .map_err(|_| TicketError::Signature)?;
        let ticket = signed.ticket().ok_or(TicketError::Malformed)?;
        if ticket.swarm != swarm || ticket.peer_id != peer_id {
            return Err(TicketError::OtherHolder);
        }
        if ticket.expires <= now {
            return Err(TicketError::Expired);
        }
        Ok(ticket)
    }
}

impl fmt::Display for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketKey({self})")
    }
}

impl FromStr for TicketKey {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| TicketError::Malformed)?;
        bytes.try_into().map(Self).map_err(|_| TicketError::Malformed)
    }
}

impl Serialize for TicketKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TicketKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The keys of all supernodes of the cluster.
#[derive(Clone, Debug, Default)]
pub struct TicketKeys(pub Vec<TicketKey>);

impl TicketKeys {
    /// As [`TicketKey::verify`], with any of the keys.
    ///
    /// # Errors
    /// Why no key admits.
    pub fn verify(
        &self,
        signed: &SignedTicket,
        now: u64,
        swarm: InfoHash,
        peer_id: PeerId,
    ) -> Result<Ticket, TicketError> {
        let mut verdict = Err(TicketError::Signature);
        for key in &self.0 {
            match key.verify(signed, now, swarm, peer_id) {
                Err(TicketError::Signature) => {}
                decided => {
                    verdict = decided;
                    break;
                }
            }
        }
        verdict
    }
}
