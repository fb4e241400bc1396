//! Tests of the whole overlay against a simple model in memory.

pub(super) mod fixture {
    use std::sync::Arc;

    use crate::base::RepositoryId;
    use crate::tree::{Node, Stored};
    use crate::view::stage::{NewStage, Stage, StageHome, find};

    /// A state directory with one stage.
    pub struct Place {
        state: tempfile::TempDir,
        base: Option<(Arc<Stored>, Node)>,
    }

    impl Place {
        pub fn new() -> Self {
            Self { state: tempfile::tempdir().unwrap(), base: None }
        }

        #[allow(dead_code)]
        pub fn over(stored: Arc<Stored>, root: Node) -> Self {
            Self { state: tempfile::tempdir().unwrap(), base: Some((stored, root)) }
        }

        pub fn stage(&self) -> Arc<Stage> {
            let new = NewStage {
                repository: RepositoryId([1; 32]),
                place: String::new(),
                base: None,
                host: Vec::new(),
                user: Vec::new(),
                paths: Vec::new(),
                tags: Vec::new(),
            };
            let home = StageHome::create(self.state.path(), new).unwrap();
            Stage::open(home, self.base.clone()).unwrap()
        }

        /// The stage again, after its last owner was dropped.
        pub fn resume(&self) -> Arc<Stage> {
            let dir = std::fs::read_dir(self.state.path().join("stages")).unwrap().next().unwrap().unwrap();
            let info = find(self.state.path(), dir.file_name().to_str().unwrap()).unwrap();
            Stage::open(StageHome::open(&info).unwrap(), self.base.clone()).unwrap()
        }
    }
}
