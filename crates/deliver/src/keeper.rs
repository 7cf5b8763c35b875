//! The access token of a sink: fetched when needed, kept until it ends or is refused.

use std::time::Duration;

use leadpulse_registry::{Secret, TokenError};

use crate::fate::Later;
use crate::ports::Tokens;

/// Time before the end of a token at which it is replaced.
const MARGIN: Duration = Duration::from_secs(30);

/// A token with its end, on the monotonic clock.
struct HeldToken {
    token: Secret,
    until: Duration,
}

/// The keeper of a sink's token.
pub(crate) struct TokenKeeper {
    endpoint: Box<dyn Tokens>,
    held: Option<HeldToken>,
}

impl TokenKeeper {
    pub(crate) fn new(endpoint: Box<dyn Tokens>) -> Self {
        Self {
            endpoint,
            held: None,
        }
    }

    /// The token; a new one where none is held or the held one ends soon. `now` is the monotonic
    /// clock.
    ///
    /// # Errors
    /// The endpoint's words. A refusal may pass too: somebody mends the registration.
    pub(crate) fn token(&mut self, now: Duration) -> Result<&Secret, Later> {
        if self.held.as_ref().is_some_and(|held| held.until <= now) {
            self.held = None;
        }
        let held = match self.held.take() {
            Some(held) => held,
            None => {
                let fetched = self.endpoint.fetch().map_err(|error| match error {
                    TokenError::Refused(reason) | TokenError::NoAnswer(reason) => {
                        Later::because(reason)
                    }
                })?;
                HeldToken {
                    // A token that ends within the margin is used once all the same.
                    until: now + fetched.lifetime.saturating_sub(MARGIN),
                    token: fetched.token,
                }
            }
        };
        Ok(&self.held.insert(held).token)
    }

    /// Forgets the token after a 401. False if there was none: a new one would not help.
    pub(crate) fn forget(&mut self) -> bool {
        self.held.take().is_some()
    }
}
