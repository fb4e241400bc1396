//! Nodes for tests: made up, of every kind.

use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::encode::{FILE_MOST, INLINE_MOST};
use super::{Body, Content, DirBuilder, DirRef, Meta, Node, Piece, Stamp, Stored, Xattr};
use crate::base::{ChunkId, Timestamp};
use crate::repo::{ChunkSink, MAX_CHUNK, MemoryChunks};

/// A regular file that holds nothing.
pub fn file(name: impl AsRef<[u8]>) -> Node {
    let meta = Meta { mode: 0o644, mtime: Timestamp::new(1_700_000_000, 123_456_789), nlink: 1, ..Meta::default() };
    Node { name: name.as_ref().to_vec(), meta, body: Body::File(Content::default()) }
}

/// A directory of stored entries.
pub fn dir(name: impl AsRef<[u8]>, dir: DirRef) -> Node {
    Node { body: Body::Dir(dir), ..file(name) }
}

/// Stores a directory of these entries.
pub fn build<'n>(sink: &dyn ChunkSink, nodes: impl IntoIterator<Item = &'n Node>) -> DirRef {
    let mut builder = DirBuilder::new(sink);
    nodes.into_iter().for_each(|node| builder.push(node).unwrap());
    builder.finish().unwrap()
}

pub fn stored(chunks: &Arc<MemoryChunks>) -> Stored {
    Stored::new(chunks.clone(), Stored::PAGE_BUDGET)
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    (any::<i64>(), 0..1_000_000_000u32).prop_map(|(secs, nanos)| Timestamp::new(secs, nanos))
}

pub fn any_name() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![1..=46u8, 48..=255u8], 1..=255).prop_filter("not a name", |name| name != b"." && name != b"..")
}

fn any_xattrs() -> impl Strategy<Value = Vec<Xattr>> {
    btree_map(vec(1..=255u8, 1..=255), vec(any::<u8>(), 0..300), 0..4)
        .prop_map(|map| map.into_iter().map(|(name, value)| Xattr { name, value }).collect())
}

fn any_meta() -> impl Strategy<Value = Meta> {
    let owner = || vec(any::<u8>(), 0..20);
    let stamp = (any_time(), any::<u64>()).prop_map(|(ctime, inode)| Stamp { ctime, inode });
    let first = (
        0..=0o7777u32,
        any::<u32>(),
        any::<u32>(),
        owner(),
        owner(),
        any_time(),
        any::<u32>(),
        any::<u64>(),
        any::<u64>(),
    );
    (first, any_xattrs(), option::of(any::<u64>()), option::of(stamp)).prop_map(|(first, xattrs, link, stamp)| {
        let (mode, uid, gid, user, group, mtime, nlink, size, blocks) = first;
        Meta { mode, uid, gid, user, group, mtime, nlink, size, blocks, xattrs, link, stamp }
    })
}

fn any_content() -> impl Strategy<Value = Content> {
    let id = || any::<[u8; 32]>().prop_map(ChunkId);
    let most = FILE_MOST / INLINE_MOST as u64;
    let hole = (1..=most).prop_map(Piece::hole);
    let data = (1..=MAX_CHUNK as u64, id()).prop_map(|(len, id)| Piece::data(len, id));
    let list = (1..=most, id(), any::<bool>()).prop_map(|(len, id, sparse)| Piece { len, id: Some(id), sparse });
    prop_oneof![
        vec(prop_oneof![hole, data], 0..=INLINE_MOST).prop_map(|pieces| Content { level: 0, pieces }),
        (1..=8u8, vec(list, 1..=INLINE_MOST)).prop_map(|(level, pieces)| Content { level, pieces }),
    ]
}

fn any_body() -> impl Strategy<Value = Body> {
    let dir =
        (any::<[u8; 32]>(), 1..=u64::MAX >> 1, any::<u64>(), any::<u64>()).prop_map(|(id, entries, more, bytes)| {
            DirRef { id: ChunkId(id), entries, nodes: entries + (more >> 1), bytes }
        });
    prop_oneof![
        any_content().prop_map(Body::File),
        dir.prop_map(Body::Dir),
        vec(1..=255u8, 1..=4095).prop_map(Body::Symlink),
        any::<u64>().prop_map(Body::BlockDevice),
        any::<u64>().prop_map(Body::CharDevice),
        Just(Body::Fifo),
        Just(Body::Socket),
    ]
}

/// Any node that can be stored.
pub fn any_node() -> impl Strategy<Value = Node> {
    (any_name(), any_meta(), any_body()).prop_map(|(name, mut meta, body)| {
        match &body {
            Body::File(content) => meta.size = content.length(),
            Body::Dir(_) => meta.link = None,
            _ => {}
        }
        Node { name, meta, body }
    })
}
