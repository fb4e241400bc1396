//! Who has shown the token in a browser: a cookie stands for it, for some hours, which no script can read and no other
//! site can have sent. Knows nothing of what it lets see.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};

const NAME: &str = "snapfold";
/// How long one lasts.
const LASTS: Duration = Duration::from_secs(12 * 3600);
/// So many there are at a time; of more, the oldest end.
const MOST: usize = 64;

/// The sessions there are, as hashes of what their cookies say, the oldest first.
#[derive(Default)]
pub struct Sessions(Mutex<Vec<(blake3::Hash, Instant)>>);

impl Sessions {
    /// Begins one, and returns its cookie.
    ///
    /// # Errors
    /// A system without random numbers.
    pub fn begin(&self) -> Result<String, String> {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| error.to_string())?;
        let secret = blake3::Hash::from_bytes(secret).to_hex();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.push((blake3::hash(secret.as_bytes()), Instant::now()));
        let many = known.len().saturating_sub(MOST);
        known.drain(..many);
        Ok(format!("{NAME}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}", LASTS.as_secs()))
    }

    /// Whether who sent these headers has one.
    pub fn is_in(&self, headers: &HeaderMap) -> bool {
        let Some(offered) = offered(headers) else { return false };
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().any(|(hash, begun)| *hash == offered && begun.elapsed() < LASTS)
    }

    /// Ends it, and returns a cookie that takes the place of its own.
    pub fn end(&self, headers: &HeaderMap) -> String {
        if let Some(offered) = offered(headers) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|(hash, _)| *hash != offered);
        }
        format!("{NAME}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0")
    }
}

fn offered(headers: &HeaderMap) -> Option<blake3::Hash> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == NAME).map(|(_, value)| blake3::hash(value.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(cookie: &str) -> HeaderMap {
        [(header::COOKIE, format!("other=1; {cookie}").parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn a_session_is_known_by_its_cookie_until_it_ends() {
        let sessions = Sessions::default();
        let cookie = sessions.begin().unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"));
        let cookie = cookie.split(';').next().unwrap();
        assert!(sessions.is_in(&with(cookie)));
        assert!(!sessions.is_in(&with("snapfold=")) && !sessions.is_in(&HeaderMap::new()));
        assert!(!sessions.is_in(&with(&cookie[..cookie.len() - 1])));
        sessions.end(&with(cookie));
        assert!(!sessions.is_in(&with(cookie)));
    }

    #[test]
    fn there_are_no_more_than_so_many() {
        let sessions = Sessions::default();
        let cookies: Vec<String> = (0..=MOST).map(|_| sessions.begin().unwrap()).collect();
        let is_in = |cookie: &str| sessions.is_in(&with(cookie.split(';').next().unwrap()));
        assert_eq!((is_in(&cookies[0]), is_in(&cookies[1]), is_in(&cookies[MOST])), (false, true, true));
    }
}
