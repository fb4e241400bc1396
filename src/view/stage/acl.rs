//! POSIX access control lists as Linux keeps them in extended attributes, and how they and permission bits follow each
//! other. Knows nothing of inodes.

/// The list that governs access.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
/// The list that new entries of a directory inherit.
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acl(Vec<Entry>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: u16,
    perm: u16,
    id: u32,
}

impl Acl {
    /// `None` for bytes that are no valid list.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first_chunk::<4>()?;
        let (entries, rest) = rest.as_chunks::<8>();
        if u32::from_le_bytes(*version) != VERSION || !rest.is_empty() {
            return None;
        }
        let entries = entries.iter().map(|[a, b, c, d, id @ ..]| Entry {
            tag: u16::from_le_bytes([*a, *b]),
            perm: u16::from_le_bytes([*c, *d]),
            id: u32::from_le_bytes(*id),
        });
        let acl = Self(entries.collect());
        acl.is_valid().then_some(acl)
    }

    fn is_valid(&self) -> bool {
        let count = |tag| self.0.iter().filter(|entry| entry.tag == tag).count();
        let known =
            |entry: &Entry| matches!(entry.tag, USER_OBJ | USER | GROUP_OBJ | GROUP | MASK | OTHER) && entry.perm <= 7;
        let needs_mask = count(USER) + count(GROUP) > 0;
        self.0.iter().all(known)
            && [USER_OBJ, GROUP_OBJ, OTHER].iter().all(|tag| count(*tag) == 1)
            && count(MASK) <= 1
            && (!needs_mask || count(MASK) == 1)
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        for entry in &self.0 {
            bytes.extend_from_slice(&entry.tag.to_le_bytes());
            bytes.extend_from_slice(&entry.perm.to_le_bytes());
            bytes.extend_from_slice(&entry.id.to_le_bytes());
        }
        bytes
    }

    /// The permission bits that the list amounts to, and whether they say all that it says.
    pub fn mode(&self) -> (u32, bool) {
        let perm = |tag| self.0.iter().find(|entry| entry.tag == tag).map(|entry| u32::from(entry.perm));
        let group = perm(MASK).or(perm(GROUP_OBJ)).unwrap_or(0);
        let mode = perm(USER_OBJ).unwrap_or(0) << 6 | group << 3 | perm(OTHER).unwrap_or(0);
        (mode, self.0.len() == 3)
    }

    /// Has the list follow a change of the permission bits.
    pub fn set_mode(&mut self, mode: u32) {
        let group = if self.0.iter().any(|entry| entry.tag == MASK) { MASK } else { GROUP_OBJ };
        for entry in &mut self.0 {
            match entry.tag {
                USER_OBJ => entry.perm = (mode >> 6 & 7) as u16,
                OTHER => entry.perm = (mode & 7) as u16,
                tag if tag == group => entry.perm = (mode >> 3 & 7) as u16,
                _ => {}
            }
        }
    }

    /// What a new entry gets from its directory's default list: the mode it ends up with, and its own access list
    /// where bits cannot say it.
    pub fn inherit(&self, mode: u32) -> (u32, Option<Self>) {
        let mut own = self.clone();
        let (allowed, _) = own.mode();
        let bits = mode & allowed & 0o777;
        own.set_mode(bits);
        let (_, plain) = own.mode();
        (mode & !0o777 | bits, (!plain).then_some(own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(entries: &[(u16, u16, u32)]) -> Acl {
        Acl(entries.iter().map(|&(tag, perm, id)| Entry { tag, perm, id }).collect())
    }

    #[test]
    fn a_list_reads_back_and_an_invalid_one_is_refused() {
        let list = acl(&[(USER_OBJ, 7, u32::MAX), (USER, 5, 12), (GROUP_OBJ, 5, 0), (MASK, 4, 0), (OTHER, 0, 0)]);
        assert_eq!(Acl::parse(&list.encode()), Some(list.clone()));
        assert_eq!(list.mode(), (0o740, false));
        assert!(Acl::parse(&list.encode()[..11]).is_none());
        assert!(Acl::parse(b"").is_none());
        let maskless = acl(&[(USER_OBJ, 7, 0), (USER, 5, 12), (GROUP_OBJ, 5, 0), (OTHER, 0, 0)]);
        assert!(Acl::parse(&maskless.encode()).is_none());
    }

    #[test]
    fn the_mask_follows_the_group_bits() {
        let mut list = acl(&[(USER_OBJ, 7, 0), (GROUP_OBJ, 5, 0), (GROUP, 7, 9), (MASK, 7, 0), (OTHER, 4, 0)]);
        list.set_mode(0o640);
        assert_eq!(list.mode(), (0o640, false));
        assert_eq!(list.0[1].perm, 5);
    }

    #[test]
    fn a_new_entry_gets_no_more_than_it_asked_for() {
        let default = acl(&[(USER_OBJ, 7, 0), (USER, 7, 5), (GROUP_OBJ, 5, 0), (MASK, 7, 0), (OTHER, 5, 0)]);
        let (mode, own) = default.inherit(0o2640);
        assert_eq!(mode, 0o2640);
        assert_eq!(own.unwrap().mode(), (0o640, false));
        let plain = acl(&[(USER_OBJ, 7, 0), (GROUP_OBJ, 5, 0), (OTHER, 0, 0)]);
        assert_eq!(plain.inherit(0o666), (0o640, None));
    }
}
