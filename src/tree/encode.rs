//! A node as bytes, and the pieces of a file. snapfold-format(5), "Nodes", has the byte tables. Reading is bounded and
//! refuses whatever writing would not produce, so that equal nodes have equal bytes.

use crate::base::{ChunkId, Timestamp};
use crate::codec::wire::{Malformed, Put, Take};
use crate::repo::MAX_CHUNK;

use super::{Body, Content, DirRef, Meta, Node, Piece, Stamp, Xattr};

/// The longest name of an entry.
const NAME_MOST: usize = 255;
/// The longest target of a symlink.
const TARGET_MOST: usize = 4095;
/// The longest name of a user or group.
pub(super) const OWNER_MOST: usize = 255;
/// The most that the extended attributes of one node take, names and values.
pub(super) const XATTRS_MOST: usize = 8 << 20;
/// The most pieces that a node lists itself.
pub(super) const INLINE_MOST: usize = 64;
/// The deepest nesting of lists of pieces; each level multiplies by 64 at least.
pub(super) const LEVEL_MOST: u8 = 8;
/// The longest file: what Linux can seek to.
pub(super) const FILE_MOST: u64 = i64::MAX as u64;

const KIND: u8 = 0x07;
const FILE: u8 = 0;
const DIR: u8 = 1;
const SYMLINK: u8 = 2;
const BLOCK_DEVICE: u8 = 3;
const CHAR_DEVICE: u8 = 4;
const FIFO: u8 = 5;
const SOCKET: u8 = 6;
const HAS_LINK: u8 = 0x08;
const HAS_STAMP: u8 = 0x10;
const HAS_XATTRS: u8 = 0x20;

/// Appends a node. What `check_node` refuses must not be encoded: it would not read back.
pub fn encode_node(node: &Node, out: &mut Vec<u8>) {
    let meta = &node.meta;
    let kind = match node.body {
        Body::File(_) => FILE,
        Body::Dir(_) => DIR,
        Body::Symlink(_) => SYMLINK,
        Body::BlockDevice(_) => BLOCK_DEVICE,
        Body::CharDevice(_) => CHAR_DEVICE,
        Body::Fifo => FIFO,
        Body::Socket => SOCKET,
    };
    out.put_bytes(&node.name);
    out.put_u8(
        kind | if meta.link.is_some() { HAS_LINK } else { 0 }
            | if meta.stamp.is_some() { HAS_STAMP } else { 0 }
            | if meta.xattrs.is_empty() { 0 } else { HAS_XATTRS },
    );
    out.put_u16(meta.mode as u16);
    out.put_varint(meta.uid.into());
    out.put_varint(meta.gid.into());
    out.put_bytes(&meta.user);
    out.put_bytes(&meta.group);
    out.put_signed(meta.mtime.secs);
    out.put_u32(meta.mtime.nanos);
    out.put_varint(meta.nlink.into());
    out.put_varint(meta.size);
    out.put_varint(meta.blocks);
    if let Some(link) = meta.link {
        out.put_varint(link);
    }
    if let Some(stamp) = meta.stamp {
        // Mostly near mtime, so mostly a short number.
        out.put_signed(stamp.ctime.secs.wrapping_sub(meta.mtime.secs));
        out.put_u32(stamp.ctime.nanos);
        out.put_varint(stamp.inode);
    }
    if !meta.xattrs.is_empty() {
        out.put_varint(meta.xattrs.len() as u64);
        for xattr in &meta.xattrs {
            out.put_bytes(&xattr.name);
            out.put_bytes(&xattr.value);
        }
    }
    match &node.body {
        Body::File(content) => encode_pieces(content.level, &content.pieces, out),
        Body::Dir(dir) => {
            out.put_raw(&dir.id.0);
            out.put_varint(dir.entries);
            out.put_varint(dir.nodes);
            out.put_varint(dir.bytes);
        }
        Body::Symlink(target) => out.put_bytes(target),
        Body::BlockDevice(device) | Body::CharDevice(device) => out.put_varint(*device),
        Body::Fifo | Body::Socket => {}
    }
}

/// Takes a node.
///
/// # Errors
/// Bytes that are not a node.
pub fn decode_node(take: &mut Take<'_>) -> Result<Node, Malformed> {
    let name = take.bytes(NAME_MOST)?.to_vec();
    let flags = take.u8()?;
    if flags & !(KIND | HAS_LINK | HAS_STAMP | HAS_XATTRS) != 0 {
        return Err(Malformed("node with unknown flags"));
    }
    let mut meta = Meta {
        mode: take.u16()?.into(),
        uid: take.varint_u32()?,
        gid: take.varint_u32()?,
        user: take.bytes(OWNER_MOST)?.to_vec(),
        group: take.bytes(OWNER_MOST)?.to_vec(),
        mtime: Timestamp { secs: take.signed()?, nanos: take.u32()? },
        nlink: take.varint_u32()?,
        size: take.varint()?,
        blocks: take.varint()?,
        ..Meta::default()
    };
    if flags & HAS_LINK != 0 {
        meta.link = Some(take.varint()?);
    }
    if flags & HAS_STAMP != 0 {
        let secs = meta.mtime.secs.wrapping_add(take.signed()?);
        meta.stamp = Some(Stamp { ctime: Timestamp { secs, nanos: take.u32()? }, inode: take.varint()? });
    }
    if flags & HAS_XATTRS != 0 {
        meta.xattrs = decode_xattrs(take)?;
    }
    let body = match flags & KIND {
        FILE => {
            let level = take.u8()?;
            Body::File(Content { level, pieces: decode_pieces(level, take)? })
        }
        DIR => Body::Dir(DirRef {
            id: ChunkId(take.array()?),
            entries: take.varint()?,
            nodes: take.varint()?,
            bytes: take.varint()?,
        }),
        SYMLINK => Body::Symlink(take.bytes(TARGET_MOST)?.to_vec()),
        BLOCK_DEVICE => Body::BlockDevice(take.varint()?),
        CHAR_DEVICE => Body::CharDevice(take.varint()?),
        FIFO => Body::Fifo,
        SOCKET => Body::Socket,
        _ => return Err(Malformed("node of an unknown kind")),
    };
    let node = Node { name, meta, body };
    check_node(&node).map_err(Malformed)?;
    Ok(node)
}

fn decode_xattrs(take: &mut Take<'_>) -> Result<Vec<Xattr>, Malformed> {
    let count = take.count(3)?;
    if count == 0 {
        return Err(Malformed("empty list of extended attributes"));
    }
    let mut xattrs = Vec::with_capacity(count.min(64));
    for _ in 0..count {
        let name = take.bytes(NAME_MOST)?.to_vec();
        xattrs.push(Xattr { name, value: take.bytes(XATTRS_MOST)?.to_vec() });
    }
    Ok(xattrs)
}

/// Appends a list of pieces, as in a node or as a chunk of its own.
pub(super) fn encode_pieces(level: u8, pieces: &[Piece], out: &mut Vec<u8>) {
    out.put_u8(level);
    out.put_varint(pieces.len() as u64);
    for piece in pieces {
        out.put_varint(piece.len << 1 | u64::from(piece.sparse));
        if let Some(id) = piece.id {
            out.put_raw(&id.0);
        }
    }
}

/// Takes a list of pieces after its level.
pub(super) fn decode_pieces(level: u8, take: &mut Take<'_>) -> Result<Vec<Piece>, Malformed> {
    if level > LEVEL_MOST {
        return Err(Malformed("pieces nested too deep"));
    }
    // A hole takes one byte, so room is set aside with care.
    let count = take.count(1)?;
    let mut pieces = Vec::with_capacity(count.min(4096));
    for _ in 0..count {
        let value = take.varint()?;
        let (len, sparse) = (value >> 1, value & 1 != 0);
        let id = if level == 0 && sparse { None } else { Some(ChunkId(take.array()?)) };
        pieces.push(Piece { len, id, sparse });
    }
    check_pieces(level, &pieces).map_err(Malformed)?;
    Ok(pieces)
}

fn check_pieces(level: u8, pieces: &[Piece]) -> Result<(), &'static str> {
    let mut length = 0u64;
    for piece in pieces {
        if piece.len == 0 {
            return Err("piece of no length");
        }
        if level == 0 && piece.id.is_none() != piece.sparse || level > 0 && piece.id.is_none() {
            return Err("hole where there cannot be one");
        }
        if level == 0 && piece.id.is_some() && piece.len > MAX_CHUNK as u64 {
            return Err("piece longer than any chunk");
        }
        length = length.checked_add(piece.len).filter(|sum| *sum <= FILE_MOST).ok_or("file longer than possible")?;
    }
    if level > 0 && pieces.is_empty() { Err("empty list of lists") } else { Ok(()) }
}

/// Whether a node can be stored: its names, sizes and order are within the format's bounds. The name may be empty.
///
/// # Errors
/// What is wrong with it.
pub fn check_node(node: &Node) -> Result<(), &'static str> {
    let meta = &node.meta;
    let name = &node.name[..];
    if name.len() > NAME_MOST || name.iter().any(|byte| matches!(byte, 0 | b'/')) || name == b"." || name == b".." {
        return Err("not a name");
    }
    if meta.mode > 0o7777 {
        return Err("mode beyond the permission bits");
    }
    if meta.user.len() > OWNER_MOST || meta.group.len() > OWNER_MOST {
        return Err("name of an owner too long");
    }
    let nanos = meta.stamp.map_or(0, |stamp| stamp.ctime.nanos).max(meta.mtime.nanos);
    if nanos >= 1_000_000_000 {
        return Err("nanoseconds beyond a second");
    }
    let mut room = XATTRS_MOST;
    for (i, xattr) in meta.xattrs.iter().enumerate() {
        if xattr.name.is_empty() || xattr.name.len() > NAME_MOST || xattr.name.contains(&0) {
            return Err("not a name of an extended attribute");
        }
        if i > 0 && meta.xattrs[i - 1].name >= xattr.name {
            return Err("extended attributes out of order");
        }
        let size = xattr.name.len() + xattr.value.len();
        room = room.checked_sub(size).ok_or("extended attributes of more than 8 MiB")?;
    }
    match &node.body {
        Body::File(content) => {
            check_pieces(content.level, &content.pieces)?;
            if content.level > LEVEL_MOST || content.pieces.len() > INLINE_MOST {
                return Err("too many pieces in a node");
            }
            if content.length() != meta.size {
                return Err("size is not the length of the content");
            }
        }
        Body::Dir(dir) => {
            if meta.link.is_some() {
                return Err("directory with a link id");
            }
            if dir.nodes < dir.entries || dir.entries == 0 && (dir.nodes, dir.bytes) != (0, 0) {
                return Err("directory with impossible counts");
            }
        }
        Body::Symlink(target) => {
            if target.is_empty() || target.len() > TARGET_MOST || target.contains(&0) {
                return Err("not a target of a symlink");
            }
        }
        Body::BlockDevice(_) | Body::CharDevice(_) | Body::Fifo | Body::Socket => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::samples::{any_node, file};
    use proptest::prelude::*;

    fn encoded(node: &Node) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_node(node, &mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn a_node_reads_back(node in any_node()) {
            prop_assert_eq!(check_node(&node), Ok(()));
            let bytes = encoded(&node);
            let mut take = Take::new(&bytes);
            prop_assert_eq!(decode_node(&mut take).unwrap(), node);
            prop_assert!(take.end().is_ok());
        }

        #[test]
        fn a_truncated_node_is_refused(node in any_node(), part in 0.0..1.0f64) {
            let bytes = encoded(&node);
            let short = &bytes[..(bytes.len() as f64 * part) as usize];
            prop_assert!(decode_node(&mut Take::new(short)).is_err());
        }

        #[test]
        fn what_is_read_is_what_would_be_written(node in any_node(), flips: Vec<(prop::sample::Index, u8)>) {
            let mut bytes = encoded(&node);
            for (at, flip) in flips {
                let at = at.index(bytes.len());
                bytes[at] ^= flip;
            }
            let mut take = Take::new(&bytes);
            if let Ok(node) = decode_node(&mut take) {
                let read = bytes.len() - take.remaining();
                prop_assert_eq!(encoded(&node), &bytes[..read]);
            }
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            if let Ok(node) = decode_node(&mut Take::new(&bytes)) {
                prop_assert_eq!(check_node(&node), Ok(()));
            }
            if let Some((level, rest)) = bytes.split_first() {
                let _ = decode_pieces(*level, &mut Take::new(rest)).map(|pieces| pieces.len());
            }
        }
    }

    #[test]
    fn what_breaks_the_bounds_is_refused_both_ways() {
        let broken: [fn(&mut Node); 15] = [
            |node| node.name = b"a/b".to_vec(),
            |node| node.name = b"..".to_vec(),
            |node| node.name = b"a\0".to_vec(),
            |node| node.name = vec![b'n'; 256],
            |node| node.meta.mode = 0o10000,
            |node| node.meta.user = vec![b'u'; 256],
            |node| node.meta.mtime.nanos = 1_000_000_000,
            |node| node.meta.size = 1,
            |node| node.body = Body::Symlink(vec![b't'; 4096]),
            |node| node.body = Body::Symlink(Vec::new()),
            |node| {
                let xattr = Xattr { name: b"user.a".to_vec(), value: Vec::new() };
                node.meta.xattrs = vec![xattr.clone(), xattr];
            },
            |node| node.meta.xattrs = vec![Xattr { name: b"user.a".to_vec(), value: vec![0; XATTRS_MOST] }],
            |node| {
                node.meta.link = Some(1);
                node.body = Body::Dir(DirRef::UNKNOWN);
            },
            |node| node.body = Body::Dir(DirRef { entries: 2, nodes: 1, ..DirRef::UNKNOWN }),
            |node| {
                node.meta.size = 65;
                node.body = Body::File(Content { level: 0, pieces: vec![Piece::hole(1); 65] });
            },
        ];
        for (i, breaks) in broken.iter().enumerate() {
            let mut node = file("name");
            assert_eq!(check_node(&node), Ok(()));
            breaks(&mut node);
            assert!(check_node(&node).is_err(), "{i}");
            assert!(decode_node(&mut Take::new(&encoded(&node))).is_err(), "{i}");
        }
    }

    #[test]
    fn a_small_file_takes_about_a_hundred_bytes() {
        let mut node = file("some_file_name.c");
        node.meta.size = 12_345;
        node.meta.user = b"root".to_vec();
        node.meta.group = b"root".to_vec();
        node.meta.stamp = Some(Stamp { ctime: node.meta.mtime, inode: 1_234_567 });
        node.body = Body::File(Content { level: 0, pieces: vec![Piece::data(12_345, ChunkId([7; 32]))] });
        assert!(encoded(&node).len() < 100, "{}", encoded(&node).len());
    }
}
