//! Who is let in: whoever shows the token, as a bearer or as the password that netrc holds.

use data_encoding::BASE64;

/// What callers must show.
pub(super) struct Token(String);

impl Token {
    pub(super) fn new(token: String) -> Self {
        Self(token)
    }

    /// Whether this `Authorization` shows it.
    pub(super) fn admits(&self, shown: Option<&[u8]>) -> bool {
        let Some((scheme, rest)) = shown.and_then(split) else { return false };
        match scheme.to_ascii_lowercase().as_slice() {
            b"bearer" => self.is(rest),
            b"basic" => BASE64.decode(rest).is_ok_and(|pair| {
                let password = pair.splitn(2, |byte| *byte == b':').nth(1);
                password.is_some_and(|password| self.is(password))
            }),
            _ => false,
        }
    }

    /// Takes as long whichever byte is the first that differs.
    fn is(&self, shown: &[u8]) -> bool {
        let token = self.0.as_bytes();
        let differing = token.iter().zip(shown).fold(0, |differing, (a, b)| differing | (a ^ b));
        token.len() == shown.len() && differing == 0
    }
}

fn split(shown: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = shown.iter().position(|byte| *byte == b' ')?;
    let (scheme, rest) = shown.split_at_checked(space)?;
    Some((scheme, rest.trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_admits_as_bearer_and_as_password_and_nothing_else_does() {
        let token = Token::new("secret".to_owned());
        let basic = |pair: &str| format!("Basic {}", BASE64.encode(pair.as_bytes()));
        for good in
            ["Bearer secret".to_owned(), "bearer  secret".to_owned(), basic("any:secret"), basic(":secret")]
        {
            assert!(token.admits(Some(good.as_bytes())), "{good}");
        }
        for bad in ["", "secret", "Bearer", "Bearer secre", "Bearer secrets", "Digest secret", "Basic !"] {
            assert!(!token.admits(Some(bad.as_bytes())), "{bad}");
        }
        for bad in [basic("secret"), basic("secret:"), basic("secret:any")] {
            assert!(!token.admits(Some(bad.as_bytes())), "{bad}");
        }
        assert!(!token.admits(None));
    }
}
