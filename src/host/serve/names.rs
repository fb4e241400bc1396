//! The names that the server goes by. A page of somebody else's, whose name was made to lead here (DNS rebinding), may
//! have a browser ask, but only by that name: such requests are refused. Knows nothing of what is asked.

use std::net::IpAddr;

use axum::http::{HeaderMap, StatusCode, Uri, Version, header};

use super::answer::Refused;

/// Names besides addresses: those of the loopback, and what was configured.
pub struct Names(Vec<String>);

impl Names {
    pub fn new(configured: Vec<String>) -> Self {
        Self(configured.into_iter().map(|name| name.to_lowercase()).collect())
    }

    /// Whether a request was meant for this server.
    ///
    /// # Errors
    /// 400 without a name, 421 for one that is not its own.
    pub fn check(&self, version: Version, uri: &Uri, headers: &HeaderMap) -> Result<(), Refused> {
        let mut named = headers.get_all(header::HOST).iter();
        let name = match (uri.authority(), named.next(), named.next()) {
            (Some(authority), _, None) => authority.as_str().as_bytes(),
            (None, Some(host), None) => host.as_bytes(),
            // No browser asks so.
            (None, None, None) if version < Version::HTTP_11 => return Ok(()),
            _ => return Err(Refused::new(StatusCode::BAD_REQUEST, "not one Host header")),
        };
        match str::from_utf8(name) {
            Ok(name) if self.is_own(name) => Ok(()),
            _ => {
                let what = "not a name of this server; --allow-host NAME gives it one more";
                Err(Refused::new(StatusCode::MISDIRECTED_REQUEST, what))
            }
        }
    }

    /// An address is nobody else's name.
    fn is_own(&self, host: &str) -> bool {
        let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if let Some((address, rest)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            let port = rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
            return port && address.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6());
        }
        let name = match host.rsplit_once(':') {
            Some((name, port)) if is_port(port) => name,
            Some(_) => return false,
            None => host,
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_lowercase();
        let is_loopback = name == "localhost" || name.ends_with(".localhost");
        is_loopback || name.parse::<std::net::Ipv4Addr>().is_ok() || self.0.contains(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_goes_by_addresses_names_of_the_loopback_and_what_it_was_given() {
        let names = Names::new(vec!["Backup.example.org".into()]);
        for own in [
            "localhost",
            "LOCALHOST:9674",
            "localhost.",
            "a.localhost:1",
            "127.0.0.1",
            "192.0.2.1:80",
            "[::1]:9674",
            "[2001:db8::1]",
            "backup.EXAMPLE.org:443",
        ] {
            assert!(names.is_own(own), "{own}");
        }
        for other in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:9674",
            "notlocalhost",
            "a.backup.example.org",
            "",
            ":80",
            "localhost:80:80",
            "localhost@evil.example",
            "[::1].evil.example",
            "[evil]",
        ] {
            assert!(!names.is_own(other), "{other}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        let names = Names::new(Vec::new());
        let check = |version, uri: &'static str, hosts: &[&'static str]| {
            let headers = hosts.iter().map(|host| (header::HOST, host.parse().unwrap())).collect();
            names.check(version, &Uri::from_static(uri), &headers).err().map(|refused| refused.status.as_u16())
        };
        assert_eq!(check(Version::HTTP_11, "/", &["localhost"]), None);
        assert_eq!(check(Version::HTTP_11, "/", &[]), Some(400));
        assert_eq!(check(Version::HTTP_10, "/", &[]), None);
        assert_eq!(check(Version::HTTP_10, "/", &["evil.example"]), Some(421));
        assert_eq!(check(Version::HTTP_11, "/", &["localhost", "evil.example"]), Some(400));
        assert_eq!(check(Version::HTTP_11, "http://evil.example/", &["localhost"]), Some(421));
    }
}
