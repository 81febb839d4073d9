//! Tickets: the right of one peer to have one layer.
//!
//! A supernode signs that one peer may take part in one swarm until a time. Peers show the ticket in
//! the extended handshake (`fl_ticket`) and to the tracker; no other node can use it, since it names
//! the peer id.

use std::fmt;

use flotilla_torrents::{HexError, InfoHash, PeerId};
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

/// Precedes what is signed, so that no other signature by the same key is a ticket.
const DOMAIN: &[u8] = b"flotilla ticket 1\0";
/// Swarm (20), peer id (20), expiry (8, big endian).
const TICKET_BYTES: usize = 48;
/// The ticket and its Ed25519 signature (RFC 8032: 64 bytes).
const SIGNED_BYTES: usize = TICKET_BYTES + 64;

/// What a supernode says: this peer may take part in this swarm until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The swarm it admits to.
    pub swarm: InfoHash,
    /// The only peer that may show it.
    pub peer_id: PeerId,
    /// The first second since 1970 at which it no longer holds.
    pub expires: u64,
}

impl Ticket {
    fn to_bytes(self) -> [u8; TICKET_BYTES] {
        let mut bytes = [0; TICKET_BYTES];
        let (swarm, rest) = bytes.split_at_mut(20);
        let (peer_id, expires) = rest.split_at_mut(20);
        swarm.copy_from_slice(self.swarm.as_bytes());
        peer_id.copy_from_slice(self.peer_id.as_bytes());
        expires.copy_from_slice(&self.expires.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; TICKET_BYTES]) -> Option<Self> {
        let (swarm, rest) = bytes.split_first_chunk()?;
        let (peer_id, expires) = rest.split_first_chunk()?;
        Some(Self {
            swarm: InfoHash::from_bytes(*swarm),
            peer_id: PeerId::from_bytes(*peer_id),
            expires: u64::from_be_bytes(expires.try_into().ok()?),
        })
    }
}

/// A ticket that does not admit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// No known supernode signed it.
    #[error("the ticket is not signed by a known supernode")]
    Signature,
    /// It admits to another swarm.
    #[error("the ticket is for swarm {0}")]
    OtherSwarm(InfoHash),
    /// It admits another peer.
    #[error("the ticket is for peer {0}")]
    OtherPeer(PeerId),
    /// It held until then.
    #[error("the ticket expired at {0} (seconds since 1970)")]
    Expired(u64),
}

/// A ticket and its signature, as it is shown. Its content is not checked: that is
/// [`TicketKey::verify`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SignedTicket([u8; SIGNED_BYTES]);

flotilla_torrents::hex_form!(SignedTicket, SIGNED_BYTES, "ticket");

impl SignedTicket {
    /// The request header by which a node shows it to a supernode.
    pub const HEADER: &'static str = "x-flotilla-ticket";

    /// Takes bytes of the right length.
    ///
    /// # Errors
    /// Another length than 112 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HexError> {
        Self::try_from(bytes)
    }
}

// A reader of logs must not be able to show a ticket.
impl fmt::Debug for SignedTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignedTicket(..)")
    }
}

/// A signing key that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketSignerError {
    /// The operating system gives no random bytes.
    #[error("the operating system gives no random bytes")]
    NoRandomness,
    /// The stored key is no Ed25519 key.
    #[error("not an Ed25519 key in PKCS #8 form: {0}")]
    Key(String),
}

/// A supernode's key for tickets.
pub struct TicketSigner(Ed25519KeyPair);

impl TicketSigner {
    /// A new key, and its PKCS #8 form (RFC 8410) to store.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub fn generate() -> Result<(Self, Vec<u8>), TicketSignerError> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| TicketSignerError::NoRandomness)?;
        Ok((Self::from_pkcs8(pkcs8.as_ref())?, pkcs8.as_ref().to_vec()))
    }

    /// The key that was stored.
    ///
    /// # Errors
    /// The bytes are no Ed25519 key with its public half.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, TicketSignerError> {
        Ed25519KeyPair::from_pkcs8(pkcs8)
            .map(Self)
            .map_err(|e| TicketSignerError::Key(e.to_string()))
    }

    /// What others verify with.
    pub fn public_key(&self) -> TicketKey {
        let mut bytes = [0; 32];
        // Ed25519 public keys have 32 bytes (RFC 8032 section 5.1.5).
        bytes.copy_from_slice(self.0.public_key().as_ref());
        TicketKey(bytes)
    }

    /// Signs a ticket.
    pub fn sign(&self, ticket: &Ticket) -> SignedTicket {
        let body = ticket.to_bytes();
        let signature = self.0.sign(&signed_message(&body));
        let mut bytes = [0; SIGNED_BYTES];
        let (head, tail) = bytes.split_at_mut(TICKET_BYTES);
        head.copy_from_slice(&body);
        tail.copy_from_slice(signature.as_ref());
        SignedTicket(bytes)
    }
}

impl fmt::Debug for TicketSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketSigner({})", self.public_key())
    }
}

/// A supernode's public key: 32 bytes (RFC 8032).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketKey([u8; 32]);

flotilla_torrents::public_id!(TicketKey, 32, "ticket key");

impl TicketKey {
    /// Checks that the ticket was signed by this key's owner and admits `peer_id` to `swarm` at
    /// `now_unix`, seconds since 1970.
    ///
    /// # Errors
    /// Why it does not admit.
    pub fn verify(
        &self,
        ticket: &SignedTicket,
        now_unix: u64,
        swarm: InfoHash,
        peer_id: PeerId,
    ) -> Result<Ticket, TicketError> {
        let ticket = self.verify_any_peer(ticket, now_unix, swarm)?;
        if ticket.peer_id != peer_id {
            return Err(TicketError::OtherPeer(ticket.peer_id));
        }
        Ok(ticket)
    }

    /// As [`verify`](Self::verify), for a holder that does not name its peer id.
    ///
    /// # Errors
    /// Why it does not admit.
    pub fn verify_any_peer(
        &self,
        ticket: &SignedTicket,
        now_unix: u64,
        swarm: InfoHash,
    ) -> Result<Ticket, TicketError> {
        let (body, signature) = ticket.0.split_first_chunk().ok_or(TicketError::Signature)?;
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(&signed_message(body), signature)
            .map_err(|_| TicketError::Signature)?;
        let ticket = Ticket::from_bytes(body).ok_or(TicketError::Signature)?;
        if ticket.swarm != swarm {
            return Err(TicketError::OtherSwarm(ticket.swarm));
        }
        if now_unix >= ticket.expires {
            return Err(TicketError::Expired(ticket.expires));
        }
        Ok(ticket)
    }
}

/// The keys of all supernodes of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TicketKeys(pub Vec<TicketKey>);

impl TicketKeys {
    /// As [`TicketKey::verify`], by whichever key signed it.
    ///
    /// # Errors
    /// None of the keys signed it, or it does not admit.
    pub fn verify(
        &self,
        ticket: &SignedTicket,
        now_unix: u64,
        swarm: InfoHash,
        peer_id: PeerId,
    ) -> Result<Ticket, TicketError> {
        self.0
            .iter()
            .map(|key| key.verify(ticket, now_unix, swarm, peer_id))
            .find(|outcome| *outcome != Err(TicketError::Signature))
            .unwrap_or(Err(TicketError::Signature))
    }
}

fn signed_message(body: &[u8; TICKET_BYTES]) -> Vec<u8> {
    [DOMAIN, body].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 8032 section 7.1, test 1, in the PKCS #8 form of RFC 8410 with its public half.
    const SECRET: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

    fn signer() -> TicketSigner {
        let pkcs8 = format!("3053020101300506032b657004220420{SECRET}a123032100{PUBLIC}");
        let pkcs8 = data_encoding::HEXLOWER.decode(pkcs8.as_bytes()).unwrap();
        TicketSigner::from_pkcs8(&pkcs8).unwrap()
    }

    const TICKET: Ticket = Ticket {
        swarm: InfoHash::from_bytes([0x11; 20]),
        peer_id: PeerId::from_bytes(*b"-FL0001-abcdefghijkl"),
        expires: 2_000_000_000,
    };

    fn verify(signed: &SignedTicket, now: u64) -> Result<Ticket, TicketError> {
        signer()
            .public_key()
            .verify(signed, now, TICKET.swarm, TICKET.peer_id)
    }

    #[test]
    fn a_ticket_has_the_signature_that_openssl_makes() {
        assert_eq!(signer().public_key().to_string(), PUBLIC);
        let signed = signer().sign(&TICKET);
        // openssl pkeyutl -sign -rawin: "flotilla ticket 1\0", swarm, peer id, expiry.
        assert_eq!(
            signed.to_string()[2 * TICKET_BYTES..],
            *"699ba39032bc5cda596a404f066a03065d313fc506e920903e56514ee311e8a2\
              ee022417678c31fab01d5bc2e0288066d9d19bca5d1f634d2957d53974cb1101"
        );
        assert_eq!(verify(&signed, TICKET.expires - 1), Ok(TICKET));
    }

    #[test]
    fn a_ticket_admits_one_peer_to_one_swarm_for_a_time() {
        let signed = signer().sign(&TICKET);
        let key = signer().public_key();
        assert_eq!(
            verify(&signed, TICKET.expires),
            Err(TicketError::Expired(TICKET.expires))
        );
        let (swarm, peer_id) = (InfoHash::from_bytes([2; 20]), PeerId::from_bytes([2; 20]));
        let other_swarm = key.verify(&signed, 0, swarm, TICKET.peer_id);
        assert_eq!(other_swarm, Err(TicketError::OtherSwarm(TICKET.swarm)));
        let other_peer = key.verify(&signed, 0, TICKET.swarm, peer_id);
        assert_eq!(other_peer, Err(TicketError::OtherPeer(TICKET.peer_id)));
    }

    #[test]
    fn a_holder_without_peer_id_needs_the_same_swarm_and_time() {
        let signed = signer().sign(&TICKET);
        let key = signer().public_key();
        let check = |now, swarm| key.verify_any_peer(&signed, now, swarm);
        assert_eq!(check(0, TICKET.swarm), Ok(TICKET));
        let expired = check(TICKET.expires, TICKET.swarm);
        assert_eq!(expired, Err(TicketError::Expired(TICKET.expires)));
        let other_swarm = check(0, InfoHash::from_bytes([2; 20]));
        assert_eq!(other_swarm, Err(TicketError::OtherSwarm(TICKET.swarm)));
    }

    #[test]
    fn only_a_known_supernode_may_sign() {
        let (stranger, pkcs8) = TicketSigner::generate().unwrap();
        let again = TicketSigner::from_pkcs8(&pkcs8).unwrap();
        assert_eq!(again.public_key(), stranger.public_key());
        let keys = TicketKeys(vec![stranger.public_key(), signer().public_key()]);
        let check = |keys: &TicketKeys, now| {
            keys.verify(&signer().sign(&TICKET), now, TICKET.swarm, TICKET.peer_id)
        };
        assert_eq!(check(&keys, 0), Ok(TICKET));
        assert_eq!(
            check(&keys, u64::MAX),
            Err(TicketError::Expired(TICKET.expires))
        );
        assert_eq!(
            check(&TicketKeys(vec![stranger.public_key()]), 0),
            Err(TicketError::Signature)
        );
        assert_eq!(
            check(&TicketKeys::default(), 0),
            Err(TicketError::Signature)
        );
        assert!(TicketSigner::from_pkcs8(b"").is_err());
    }

    #[test]
    fn the_debug_forms_hide_ticket_and_secret_key() {
        assert_eq!(format!("{:?}", signer().sign(&TICKET)), "SignedTicket(..)");
        assert_eq!(format!("{:?}", signer()), format!("TicketSigner({PUBLIC})"));
    }

    proptest! {
        #[test]
        fn any_change_voids_the_signature(at in 0..SIGNED_BYTES, change in 1_u8..) {
            let mut bytes = *signer().sign(&TICKET).as_bytes();
            bytes[at] ^= change;
            let changed = SignedTicket::from_bytes(&bytes).unwrap();
            prop_assert_eq!(verify(&changed, 0), Err(TicketError::Signature));
        }

        #[test]
        fn text_and_json_round_trip(swarm: [u8; 20], peer_id: [u8; 20], expires: u64) {
            let (swarm, peer_id) = (InfoHash::from_bytes(swarm), PeerId::from_bytes(peer_id));
            let signed = signer().sign(&Ticket { swarm, peer_id, expires });
            prop_assert_eq!(signed.to_string().parse(), Ok(signed.clone()));
            let json = serde_json::to_string(&signed).unwrap();
            prop_assert_eq!(serde_json::from_str::<SignedTicket>(&json).unwrap(), signed);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, text: String) {
            let _ = SignedTicket::from_bytes(&bytes);
            let _ = text.parse::<SignedTicket>();
        }
    }
}
