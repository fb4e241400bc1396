//! The token of those who may ask for what does something. Knows nothing of what that is.

use axum::http::{HeaderMap, StatusCode, header};

use super::answer::Refused;

/// A shorter one is guessed too soon.
const SHORTEST: usize = 16;

/// Kept as its hash: hashes compare in constant time, whatever the length of what is offered.
pub struct Token(blake3::Hash);

impl Token {
    /// The first line of a text.
    ///
    /// # Errors
    /// One line: it is too short, or not such as fits into a header.
    pub fn parse(text: &str) -> Result<Self, String> {
        let line = text.lines().next().unwrap_or_default().trim();
        if line.len() < SHORTEST {
            return Err(format!("the token has {} characters, {SHORTEST} are the least", line.len()));
        }
        if !line.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a token has letters, digits and signs of ASCII, and no blanks".to_owned());
        }
        Ok(Self(blake3::hash(line.as_bytes())))
    }

    pub fn is(&self, offered: &[u8]) -> bool {
        self.0 == blake3::hash(offered)
    }
}

/// Whether who sent these headers may ask for what does something.
pub fn allow(token: Option<&Token>, headers: &HeaderMap) -> Result<(), Refused> {
    let Some(token) = token else {
        let what = "not without a token: the server was started without --token-file";
        return Err(Refused::new(StatusCode::FORBIDDEN, what));
    };
    let offered = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, offered) = value.as_bytes().split_at_checked("Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then_some(offered)
    });
    match offered {
        Some(offered) if token.is(offered) => Ok(()),
        Some(_) => Err(Refused::new(StatusCode::UNAUTHORIZED, "not the token")),
        None => Err(Refused::new(StatusCode::UNAUTHORIZED, "no token: `Authorization: Bearer TOKEN`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_itself_is_taken() {
        let token = Token::parse("0123456789abcdef\nmore\n").unwrap();
        let status = |value: &'static str| {
            let headers = [(header::AUTHORIZATION, value.parse().unwrap())].into_iter().collect();
            allow(Some(&token), &headers).err().map(|refused| refused.status)
        };
        assert_eq!(status("Bearer 0123456789abcdef"), None);
        assert_eq!(status("bearer 0123456789abcdef"), None);
        let unauthorized = Some(StatusCode::UNAUTHORIZED);
        for bad in
            ["Bearer 0123456789abcde", "Bearer 0123456789abcdef0", "Bearer ", "Bearer", "", "Basic 0123456789abcdef"]
        {
            assert_eq!(status(bad), unauthorized, "{bad}");
        }
        assert_eq!(allow(Some(&token), &HeaderMap::new()).err().map(|refused| refused.status), unauthorized);
        assert_eq!(allow(None, &HeaderMap::new()).err().map(|refused| refused.status), Some(StatusCode::FORBIDDEN));
    }

    #[test]
    fn a_token_that_is_easily_guessed_or_fits_into_no_header_is_refused() {
        for bad in ["", "\n0123456789abcdef", "0123456789abcde", "0123456789 abcdef", "0123456789abcdeföö"] {
            assert!(Token::parse(bad).is_err(), "{bad:?}");
        }
    }
}
