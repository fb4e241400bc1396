//! What index segments list and what must not be relied on: packs that are gone, blocks that were found damaged. Knows
//! nothing of how they were found.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use crate::base::{PackId, files};

/// A pack, or one of its blocks, that does not count. Whole packs sort before their blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOut {
    pub pack: PackId,
    /// Counted from 0; `None` for all of the pack.
    pub block: Option<u32>,
}

/// All of it; bounded by the number of packs and of damaged blocks.
pub type LeftOutSet = BTreeSet<LeftOut>;

/// Whether the set has this block, or its whole pack.
pub fn has_block(set: &LeftOutSet, pack: PackId, block: u32) -> bool {
    set.contains(&LeftOut { pack, block: None }) || set.contains(&LeftOut { pack, block: Some(block) })
}

const WHOLE: &str = "whole";

/// What `save` wrote; nothing where there is no such file, and lines that mean nothing are passed over: it is found
/// again by the next check.
pub fn load(path: &Path) -> io::Result<LeftOutSet> {
    let text = match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(LeftOutSet::new()),
        other => String::from_utf8_lossy(&other?).into_owned(),
    };
    let entry = |line: &str| {
        let (pack, block) = line.split_once(' ')?;
        let block = if block == WHOLE { None } else { Some(block.parse().ok()?) };
        Some(LeftOut { pack: pack.parse().ok()?, block })
    };
    Ok(text.lines().filter_map(entry).collect())
}

/// Keeps the set in a file of one line each: pack, and number of the block or `whole`.
pub fn save(path: &Path, set: &LeftOutSet) -> io::Result<()> {
    let mut text = String::new();
    for LeftOut { pack, block } in set {
        let block = block.map_or(WHOLE.to_owned(), |block| block.to_string());
        text.push_str(&format!("{pack} {block}\n"));
    }
    files::replace(path, text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_what_means_nothing_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("damaged");
        assert!(load(&path).unwrap().is_empty());
        let (one, two) = (PackId([1; 32]), PackId([2; 32]));
        let set = LeftOutSet::from([LeftOut { pack: one, block: None }, LeftOut { pack: two, block: Some(7) }]);
        save(&path, &set).unwrap();
        assert_eq!(load(&path).unwrap(), set);
        assert!(has_block(&set, one, 3) && has_block(&set, two, 7) && !has_block(&set, two, 3));
        let mut text = fs::read(&path).unwrap();
        text.extend_from_slice(b"\xff\nnothing\n01 whole\n");
        fs::write(&path, text).unwrap();
        assert_eq!(load(&path).unwrap(), set);
    }
}
