//! Places in snapshots as addresses: names are bytes, and all but plain letters and digits of them are percent-encoded.
//! Knows nothing of what is there.

use axum::http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

/// What stays as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A path in a snapshot of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub profile: String,
    /// An id in full, as it was asked for.
    pub snapshot: String,
    /// From the root down.
    pub names: Vec<Vec<u8>>,
}

pub fn encoded(bytes: &[u8]) -> String {
    percent_encode(bytes, ENCODED).to_string()
}

impl Place {
    /// Of an address `/WORD/PROFILE/SNAPSHOT/NAME/NAME`. Slashes too many do no harm, and nothing has a meaning of its
    /// own: `..` is a name that no directory has.
    pub fn parse(uri: &Uri) -> Option<Self> {
        let mut parts = uri.path().split('/').skip(2);
        let text = |part: &str| percent_decode_str(part).decode_utf8().ok().map(std::borrow::Cow::into_owned);
        let (profile, snapshot) = (text(parts.next()?)?, text(parts.next()?)?);
        let names = parts.filter(|part| !part.is_empty()).map(|part| percent_decode_str(part).collect()).collect();
        Some(Self { profile, snapshot, names })
    }

    pub fn path(&self) -> Vec<u8> {
        self.names.join(&b'/')
    }

    /// The address of the directory `depth` levels below the root, or of the whole place.
    pub fn above(&self, word: &str, depth: usize) -> String {
        let mut address = format!("/{word}/{}/{}", encoded(self.profile.as_bytes()), encoded(self.snapshot.as_bytes()));
        for name in self.names.iter().take(depth) {
            address.push('/');
            address.push_str(&encoded(name));
        }
        address
    }

    pub fn address(&self, word: &str) -> String {
        self.above(word, self.names.len())
    }

    /// The address of an entry.
    pub fn below(&self, word: &str, name: &[u8]) -> String {
        format!("{}/{}", self.address(word), encoded(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_survives_the_way_through_an_address() {
        let names = vec![b"a b".to_vec(), b"\xff\xfe%2f<>\"'&?#".to_vec(), "\u{e9}\n".into(), b"..".to_vec()];
        let place = Place { profile: "w/eb".into(), snapshot: "ab12".into(), names };
        let uri = place.address("browse").parse().unwrap();
        assert_eq!(Place::parse(&uri), Some(place.clone()));
        assert_eq!(place.above("file", 1), "/file/w%2Feb/ab12/a%20b");
    }

    #[test]
    fn what_names_no_snapshot_is_no_place() {
        assert_eq!(Place::parse(&Uri::from_static("/browse/web")), None);
        assert_eq!(Place::parse(&Uri::from_static("/browse/%ff/ab")), None);
    }
}
