//! Small files beside one that was read, so that they can be told before they are asked for. Knows nothing of who is
//! told.

use super::number::Number;
use super::{Browse, Object};
use crate::repo::Class;
use crate::tree::{Body, Content, Start};
use crate::view::FsError;

/// What a look around ended at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Around {
    /// Files given.
    pub files: u64,
    /// The first file that follows and was not given.
    pub next: Option<u64>,
}

impl Browse {
    /// Gives the small files that follow `ino` in its directory, whole, until `bytes` are used up: those whose data is
    /// decoded already, and others only with `decode`. Damaged ones are passed over: whoever reads them will see.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn following(
        &self,
        ino: u64,
        mut bytes: u64,
        decode: bool,
        give: &mut dyn FnMut(u64, &[u8]),
    ) -> Result<Around, FsError> {
        let mut around = Around { files: 0, next: None };
        let Some(Number::Node { .. }) = Number::decode(ino) else {
            return Ok(around);
        };
        let Object::Node(located) = self.object(ino)? else {
            return Ok(around);
        };
        let trees = &self.trees;
        let dir = trees.locate(&located.shown, located.parent)?;
        let Some(body) = dir.node.dir() else {
            return Ok(around);
        };
        let mut data = Vec::new();
        for item in trees.stored.entries(body, Start::After(&located.node.name)) {
            let placed = item.map_err(|error| trees.failed(&dir.shown, dir.rank, error))?;
            let Body::File(content) = &placed.node.body else { continue };
            let length = content.length();
            if length == 0 || length >= Class::LARGE_FROM {
                continue;
            }
            let at_hand = decode || self.is_at_hand(content);
            let file = trees.below(&dir, placed.clone())?;
            let number = trees.number(&file);
            if length > bytes || !at_hand {
                around.next = Some(number);
                break;
            }
            bytes -= length;
            data.resize(usize::try_from(length).unwrap_or(0), 0);
            let read = trees.stored.content(content).read_at(0, &mut data);
            if matches!(read, Ok(count) if count == data.len()) {
                give(number, &data);
                around.files += 1;
            }
        }
        Ok(around)
    }

    fn is_at_hand(&self, content: &Content) -> bool {
        let chunks = self.trees.stored.chunks();
        let cached = |id| matches!(chunks.cached(id), Ok(Some(_)));
        content.level == 0 && content.pieces.iter().filter_map(|piece| piece.id.as_ref()).all(cached)
    }
}
