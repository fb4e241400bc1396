//! What a commit stored a spool file's data as, for the next commit of the same stage. It counts while the spool file
//! is as it was, once the commit that wrote it has finished, and if the repository still has it.

use crate::codec::wire::{Put, Take};
use crate::tree::{Body, Content, Meta, Node, decode_node, encode_node};
use crate::view::FsError;

use super::journal::{self, Batch, CONTENT};
use super::source::StageSource;

pub(super) struct Memo;

/// What tells that a spool file was written to: length, modification and change time, and the file itself.
fn stamp(source: &StageSource<'_>, ino: u64) -> Result<Vec<u8>, FsError> {
    let stat = source.stage.spool.stat(ino)?;
    let mut out = Vec::with_capacity(40);
    out.put_varint(stat.st_size as u64);
    for (secs, nanos) in [(stat.st_mtime, stat.st_mtime_nsec), (stat.st_ctime, stat.st_ctime_nsec)] {
        out.put_signed(secs);
        out.put_varint(nanos);
    }
    out.put_varint(stat.st_ino);
    Ok(out)
}

impl Memo {
    pub fn keep(source: &StageSource<'_>, ino: u64, content: &Content) -> Result<(), FsError> {
        let meta = Meta { size: content.length(), ..Meta::default() };
        let node = Node { name: b"content".to_vec(), meta, body: Body::File(content.clone()) };
        let mut bytes = Vec::new();
        bytes.put_varint(source.sequence);
        bytes.put_bytes(&stamp(source, ino)?);
        encode_node(&node, &mut bytes);
        let mut batch = Batch::default();
        batch.put(journal::key(CONTENT, ino), bytes);
        source.stage.journal.write(batch)
    }

    pub fn recall(source: &StageSource<'_>, ino: u64) -> Result<Option<Content>, FsError> {
        let journal = &source.stage.journal;
        let Some(bytes) = journal.get(journal::key(CONTENT, ino))? else { return Ok(None) };
        let mut take = Take::new(bytes.as_ref());
        let parse = |take: &mut Take<'_>| Ok((take.varint()?, take.bytes(100)?.to_vec(), decode_node(take)?));
        let (sequence, then, node) =
            parse(&mut take).map_err(|error| journal.damaged(&format!("content of inode {ino}"), error))?;
        if sequence >= source.sequence || then != stamp(source, ino)? {
            return Ok(None);
        }
        match node.body {
            Body::File(content) if content.pieces.iter().filter_map(|p| p.id.as_ref()).all(source.has) => {
                Ok(Some(content))
            }
            _ => Ok(None),
        }
    }
}
