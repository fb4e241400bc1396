//! Small files beside one that is read, so that they can be told before they are asked for. Knows nothing of who is
//! told.

use super::number::Number;
use super::{Browse, Object};
use crate::repo::{Chunk, Class};
use crate::tree::{Body, Content, Node, Piece, Start};
use crate::view::FsError;

/// What a look around ended at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Around {
    /// Files given.
    pub files: u64,
    /// The first small file that follows and was not given.
    pub next: Option<u64>,
}

impl Browse {
    /// The directory that a stored file is in, by a number of no other meaning. `None` for files with several names.
    pub fn directory_of(&self, ino: u64) -> Option<u64> {
        let Some(Number::Node { .. }) = Number::decode(ino) else { return None };
        match self.object(ino) {
            Ok(Object::Node(file)) if matches!(file.node.body, Body::File(_)) => {
                Some(Number::Node { slot: file.shown.slot, rank: file.parent }.encode())
            }
            _ => None,
        }
    }

    /// Gives the small files that follow `ino` in its directory, whole, as long as their data is decoded already and
    /// `bytes` are not used up; then has the next `ahead` bytes of them decoded meanwhile.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn following(
        &self,
        ino: u64,
        mut bytes: u64,
        mut ahead: u64,
        give: &mut dyn FnMut(u64, &[u8]),
    ) -> Result<Around, FsError> {
        let mut around = Around::default();
        let Object::Node(located) = self.object(ino)? else { return Ok(around) };
        let trees = &self.trees;
        let dir = trees.locate(&located.shown, located.parent)?;
        let Some(body) = dir.node.dir() else { return Ok(around) };
        let mut wanted = Vec::new();
        for item in trees.stored.entries(body, Start::After(&located.node.name)) {
            let placed = item.map_err(|error| trees.failed(&dir.shown, dir.rank, error))?;
            let Some((length, content)) = small_file(&placed.node) else { continue };
            if around.next.is_none() {
                let number = trees.number(&trees.below(&dir, placed.clone())?);
                // A name of the file that is being read: the kernel waits for its data already.
                if number == ino {
                    continue;
                }
                match (length <= bytes).then(|| self.at_hand(content)).flatten() {
                    Some(chunks) => {
                        match &chunks[..] {
                            [whole] => give(number, whole),
                            parts => give(number, &parts.iter().map(|part| &part[..]).collect::<Vec<_>>().concat()),
                        }
                        around.files += 1;
                        bytes -= length;
                        continue;
                    }
                    None => around.next = Some(number),
                }
            }
            if length > ahead {
                break;
            }
            ahead -= length;
            wanted.extend(content.pieces.iter().filter_map(|piece| piece.id));
        }
        if !wanted.is_empty() {
            trees.stored.chunks().chunks_hint(&wanted);
        }
        Ok(around)
    }

    /// The chunks of a file without holes, if all of them are decoded.
    fn at_hand(&self, content: &Content) -> Option<Vec<Chunk>> {
        let source = self.trees.stored.chunks();
        let chunk = |piece: &Piece| {
            let chunk = source.cached(piece.id.as_ref()?).ok().flatten()?;
            (chunk.len() as u64 == piece.len).then_some(chunk)
        };
        (content.level == 0).then(|| content.pieces.iter().map(chunk).collect())?
    }
}

fn small_file(node: &Node) -> Option<(u64, &Content)> {
    match &node.body {
        Body::File(content) => {
            let length = content.length();
            (length > 0 && length < Class::LARGE_FROM).then_some((length, content))
        }
        _ => None,
    }
}
