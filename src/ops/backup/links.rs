//! Files with several names: read under the first, taken over for the others.

use std::collections::HashMap;

use crate::tree::{Content, Meta, Stamp};

/// What is remembered of a file that was read.
#[derive(Debug, Clone)]
pub struct Linked {
    pub content: Content,
    pub stamp: Option<Stamp>,
}

/// Files that were read and have names that were not met yet.
#[derive(Default)]
pub struct Links {
    files: HashMap<u64, (Linked, u32)>,
}

/// Beyond so many, files are read once for each name: that costs time, not space, and memory stays bounded.
const MOST: usize = 1 << 16;

impl Links {
    /// The file, if another of its names was read. Forgets it when this was its last name.
    pub fn take(&mut self, meta: &Meta) -> Option<Linked> {
        let link = meta.link?;
        let (linked, left) = self.files.get_mut(&link)?;
        *left -= 1;
        if *left > 0 { Some(linked.clone()) } else { self.files.remove(&link).map(|(linked, _)| linked) }
    }

    /// Remembers a file whose first name was read.
    pub fn remember(&mut self, meta: &Meta, linked: impl FnOnce() -> Linked) {
        if let Some(link) = meta.link
            && meta.nlink > 1
            && self.files.len() < MOST
        {
            self.files.insert(link, (linked(), meta.nlink - 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_remembered_until_its_last_name() {
        let mut links = Links::default();
        let meta = Meta { link: Some(7), nlink: 3, ..Meta::default() };
        assert!(links.take(&meta).is_none());
        links.remember(&meta, || Linked { content: Content::default(), stamp: None });
        assert!(links.take(&meta).is_some() && links.take(&meta).is_some());
        assert!(links.take(&meta).is_none() && links.files.is_empty());
        links.remember(&Meta::default(), || unreachable!());
    }
}
