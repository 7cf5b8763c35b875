//! Keyed hashes of subjects: HMAC-SHA-256 ([RFC 2104](https://www.rfc-editor.org/rfc/rfc2104)).
//!
//! Keys and addresses of people are guessed easily, so a plain hash of one would name its person.

use std::fmt;

use leadpulse_graph::pieces::PieceKey;
use leadpulse_schema::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Block of SHA-256, bytes.
const BLOCK_BYTES: usize = 64;
/// Shortest secret, bytes.
const SECRET_BYTES: usize = 16;
/// The secret of deployments that name none.
const NO_SECRET: &[u8] = b"leadpulse without a secret";

/// The secret by which erased subjects are recognised and not named.
#[derive(Clone)]
pub struct ErasureKey {
    inner: Sha256,
    outer: Sha256,
    is_secret: bool,
}

/// Refusal of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the secret of erasures has {bytes} bytes, at least {SECRET_BYTES} are needed; make one with `openssl rand -hex 32`"
)]
pub struct ErasureKeyError {
    bytes: usize,
}

impl ErasureKey {
    /// The key of a secret.
    ///
    /// # Errors
    /// A secret below 16 bytes.
    pub fn of(secret: &[u8]) -> Result<Self, ErasureKeyError> {
        match secret.len() {
            bytes if bytes < SECRET_BYTES => Err(ErasureKeyError { bytes }),
            _ => Ok(Self {
                is_secret: true,
                ..Self::padded(secret)
            }),
        }
    }

    /// True if only the owner of the configuration can make the hashes.
    pub fn is_secret(&self) -> bool {
        self.is_secret
    }

    fn padded(secret: &[u8]) -> Self {
        let mut block = [0_u8; BLOCK_BYTES];
        match secret.len() > BLOCK_BYTES {
            true => block[..32].copy_from_slice(&Sha256::digest(secret)),
            false => block[..secret.len()].copy_from_slice(secret),
        }
        let begun = |pad: u8| Sha256::new().chain_update(block.map(|byte| byte ^ pad));
        Self {
            inner: begun(0x36),
            outer: begun(0x5c),
            is_secret: false,
        }
    }

    /// The hash of a text.
    fn hash(&self, text: &[u8]) -> SubjectHash {
        let inner = self.inner.clone().chain_update(text).finalize();
        let outer = self.outer.clone().chain_update(inner).finalize();
        SubjectHash(outer.into())
    }

    /// The hash of an entity, by name of its table and key.
    pub fn of_entity(&self, table: &str, key: &str) -> SubjectHash {
        self.hash(format!("entity\0{table}\0{key}").as_bytes())
    }

    /// The hash of a normalised address.
    pub fn of_address(&self, address: &str) -> SubjectHash {
        self.hash(format!("address\0{address}").as_bytes())
    }

    /// The hash of the id of a request, for proofs that must not show it.
    pub fn of_request(&self, id: &str) -> SubjectHash {
        self.hash(format!("request\0{id}").as_bytes())
    }

    /// A hash that tells keys of two secrets apart.
    pub fn of_itself(&self) -> SubjectHash {
        self.hash(b"key")
    }
}

impl Default for ErasureKey {
    /// The key of deployments without a secret: whoever has the program can make its hashes.
    fn default() -> Self {
        Self::padded(NO_SECRET)
    }
}

impl fmt::Debug for ErasureKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErasureKey").finish_non_exhaustive()
    }
}

/// The keyed hash of an erased entity or address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SubjectHash([u8; 32]);

impl fmt::Display for SubjectHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl PieceKey for SubjectHash {
    fn write(self, out: &mut Vec<u8>) {
        out.extend(self.0);
    }
    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_rfc_4231() {
        let cases: [(&[u8], &[u8], &str); 3] = [
            (
                &[0x0b; 20],
                b"Hi There",
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ];
        for (secret, text, expected) in cases {
            let found = ErasureKey::padded(secret).hash(text);
            assert_eq!(found.to_string(), expected);
        }
    }

    #[test]
    fn entities_addresses_and_secrets_have_hashes_of_their_own() {
        let key = ErasureKey::of(b"a secret of some length").unwrap();
        let other = ErasureKey::of(b"a secret of another length").unwrap();
        let hashes = [
            key.of_entity("contacts", "a"),
            key.of_entity("contact", "sa"),
            key.of_entity("leads", "a"),
            key.of_address("a"),
            key.of_request("a"),
            other.of_entity("contacts", "a"),
            ErasureKey::default().of_entity("contacts", "a"),
        ];
        for (at, hash) in hashes.iter().enumerate() {
            assert!(!hashes[..at].contains(hash), "{at}");
        }
        assert_ne!(key.of_itself(), other.of_itself());
        assert!(key.is_secret() && !ErasureKey::default().is_secret());
        let refused = ErasureKey::of(b"short").unwrap_err().to_string();
        assert!(refused.contains("5 bytes"), "{refused}");
    }
}
