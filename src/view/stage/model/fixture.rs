//! Stages in temporary directories, and commits without a repository.

use std::sync::Arc;

use crate::base::ChunkId;
use crate::repo::{ChunkSource, MemoryChunks};
use crate::tree::{Body, ContentWriter, DirBuilder, Entry, Node, Source, Stored};
use crate::view::stage::{Keeper, Ledger, NewStage, Stage, StageHome, StagePlace, StageSource, find};

/// A state directory with one stage.
pub struct Place {
    state: tempfile::TempDir,
    base: Option<(Arc<Stored>, Node)>,
}

impl Place {
    pub fn new() -> Self {
        Self { state: tempfile::tempdir().unwrap(), base: None }
    }

    pub fn over(stored: Arc<Stored>, root: Node) -> Self {
        Self { state: tempfile::tempdir().unwrap(), base: Some((stored, root)) }
    }

    /// A place for another stage over the same base.
    pub fn again(self) -> Self {
        Self { state: tempfile::tempdir().unwrap(), base: self.base }
    }

    pub fn stage(&self) -> Arc<Stage> {
        let home = StageHome::create(self.state.path(), NewStage::of_nothing(Keeper::Journal)).unwrap();
        Stage::open(home, self.base.clone()).unwrap()
    }

    /// The stage again, after its last owner was dropped.
    pub fn resume(&self) -> Arc<Stage> {
        let dir = std::fs::read_dir(self.state.path().join("stages")).unwrap().next().unwrap().unwrap();
        let name = dir.file_name();
        // The sweeper may hold it a moment longer.
        for _ in 0..100 {
            let info = find(self.state.path(), name.to_str().unwrap()).unwrap();
            if let Ok(home) = StageHome::open(&info) {
                return Stage::open(home, self.base.clone()).unwrap();
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("the stage stays locked");
    }
}

/// Commits a stage into chunks: its root.
pub fn store(stage: &Arc<Stage>, chunks: &Arc<MemoryChunks>, remember: bool) -> Node {
    let (root, _) = store_counting(stage, chunks, remember);
    root
}

/// The same, with the number of files that were read.
pub fn store_counting(stage: &Arc<Stage>, chunks: &Arc<MemoryChunks>, remember: bool) -> (Node, usize) {
    let frozen = stage.freeze();
    std::thread::sleep(std::time::Duration::from_millis(5));
    let has = |id: &ChunkId| chunks.chunk(id).is_ok();
    stage.begin().unwrap();
    let mut read = 0;
    let root = {
        let source = frozen.source(remember, &has).unwrap();
        let root = source.root().unwrap();
        store_entry(&source, chunks, root, &mut read)
    };
    stage.finish(None).unwrap();
    (root, read)
}

fn store_entry(
    source: &StageSource<'_>,
    chunks: &Arc<MemoryChunks>,
    entry: Entry<StagePlace>,
    read: &mut usize,
) -> Node {
    if entry.known {
        return entry.node;
    }
    let body = match &entry.node.body {
        Body::File(_) => {
            *read += 1;
            let mut writer = ContentWriter::new(&**chunks);
            let mut data = source.open(&entry).unwrap();
            let size = entry.node.meta.size;
            let content = writer.store(&mut *data, size, &entry.node.name, &mut |_| Ok(())).unwrap();
            assert_eq!(content.length(), size);
            source.stored(&entry, &content).unwrap();
            Body::File(content)
        }
        Body::Dir(_) => {
            let mut builder = DirBuilder::new(&**chunks);
            for child in source.list(&entry).unwrap() {
                let child = store_entry(source, chunks, child.unwrap(), read);
                builder.push(&child).unwrap();
            }
            Body::Dir(builder.finish().unwrap())
        }
        other => other.clone(),
    };
    Node { body, ..entry.node }
}
