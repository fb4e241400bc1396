//! Where a bucket is, as people write it. Knows nothing of how it is reached.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;

/// A bucket of an S3 service, and the prefix of all object keys in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Place {
    /// Scheme, host and port; `None` for the region's endpoint at AWS.
    pub endpoint: Option<String>,
    pub bucket: String,
    /// Without slashes at its ends; may be empty.
    pub prefix: String,
}

impl FromStr for S3Place {
    type Err = String;

    /// Reads what follows `s3:`, which is `http://HOST[:PORT]/BUCKET[/PREFIX]`, the same with `https`, or
    /// `BUCKET[/PREFIX]`. What is wrong is told without repeating the text, which may hold a password.
    fn from_str(text: &str) -> Result<Self, String> {
        let (endpoint, path) = if text.contains("://") {
            let url = Url::parse(text).map_err(|e| format!("not a URL: {e}"))?;
            if !matches!(url.scheme(), "http" | "https") {
                return Err(format!("http or https is wanted, not {}", url.scheme()));
            }
            if !url.username().is_empty() || url.password().is_some() {
                return Err("credentials do not belong into the location, but into AWS_ACCESS_KEY_ID and \
                            AWS_SECRET_ACCESS_KEY"
                    .to_owned());
            }
            if url.query().is_some() || url.fragment().is_some() {
                return Err("a location has no `?` and no `#`".to_owned());
            }
            (Some(url.origin().ascii_serialization()), text.splitn(4, '/').nth(3).unwrap_or_default())
        } else {
            (None, text)
        };
        let path = path.trim_matches('/');
        let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
        if bucket.is_empty() {
            return Err("a bucket is wanted, as in s3:http://HOST:PORT/BUCKET or s3:BUCKET".to_owned());
        }
        if !bucket.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
            return Err("a bucket's name has letters, digits, and - . _ only".to_owned());
        }
        let odd = |part: &str| part.is_empty() || matches!(part, "." | "..") || part.chars().any(char::is_control);
        if !prefix.is_empty() && prefix.split('/').any(odd) {
            return Err("the prefix has an empty part, a dot, or a control character".to_owned());
        }
        // Keys of objects may have 1024 bytes; the longest below the prefix has 74.
        if prefix.len() > 900 {
            return Err("the prefix is too long".to_owned());
        }
        Ok(Self { endpoint, bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl fmt::Display for S3Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("s3:")?;
        if let Some(endpoint) = &self.endpoint {
            write!(f, "{endpoint}/")?;
        }
        f.write_str(&self.bucket)?;
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_names_endpoint_bucket_and_prefix() {
        let parse = |text: &str| text.parse::<S3Place>().map(|place| (place.to_string(), place.prefix));
        let good = |text: &str, shown: &str, prefix: &str| {
            assert_eq!(parse(text), Ok((shown.to_owned(), prefix.to_owned())), "{text}");
        };
        good("http://127.0.0.1:9000/b/", "s3:http://127.0.0.1:9000/b", "");
        good("https://EXAMPLE.org/b/host one/x", "s3:https://example.org/b/host one/x", "host one/x");
        good("bucket.name/x/", "s3:bucket.name/x", "x");
        for place in ["s3:b/x/y", "s3:http://[::1]:1/b"] {
            assert_eq!(place[3..].parse::<S3Place>().unwrap().to_string(), place);
        }
    }

    #[test]
    fn what_is_no_location_is_refused_in_one_line_without_secrets() {
        let long = format!("b/{}", "x".repeat(901));
        for text in [
            "",
            "/",
            "http://",
            "http://host",
            "http://host/",
            "ftp://host/b",
            "http://AK:hidden@host/b",
            "host:1/b",
            "http://host/b?key=hidden",
            "b/../c",
            "b//c",
            "b/a\nb",
            "bu cket",
            &long,
        ] {
            let error = text.parse::<S3Place>().unwrap_err();
            assert!(!error.contains("hidden") && !error.contains('\n'), "{text:?}: {error}");
        }
    }
}
