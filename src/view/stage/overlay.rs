//! The overlay itself: what the journal says over what the base says.

use super::StageHome;

/// A stage, opened: all of its file operations.
pub struct Stage {
    home: StageHome,
}

impl Stage {
    pub fn home(&self) -> &StageHome {
        &self.home
    }
}
