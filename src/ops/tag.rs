//! Changing the tags of snapshots. Objects never change: a new snapshot takes the old one's place, with another id.

use std::sync::Arc;

use crate::base::{Monitor, SnapshotId};
use crate::repo::{Indexed, Snapshot};

use super::{Listed, OpError, publish, seen};

/// What becomes of tags.
#[derive(Debug, Clone, Default)]
pub struct TagChange {
    /// These instead of all there are.
    pub set: Option<Vec<String>>,
    pub remove: Vec<String>,
    pub add: Vec<String>,
}

impl TagChange {
    /// The tags afterwards: those that stay in their order, then the new ones.
    fn apply(&self, tags: &[String]) -> Vec<String> {
        let mut tags = self.set.clone().unwrap_or_else(|| tags.to_vec());
        tags.retain(|tag| !self.remove.contains(tag));
        let new: Vec<_> = self.add.iter().filter(|tag| !tags.contains(tag)).cloned().collect();
        tags.extend(new);
        tags
    }
}

/// Tags the snapshots, and tells of each that changes its old and its new id. The new one is stored before the old one
/// is deleted: whenever it stops, each is there in one form at least.
///
/// # Errors
/// Failures of the repository, `Interrupted`, and what `each` returns.
pub fn tag(
    repo: &Arc<Indexed>,
    listed: &[Listed],
    change: &TagChange,
    each: &mut dyn FnMut(&SnapshotId, &SnapshotId) -> Result<(), OpError>,
    monitor: &Arc<dyn Monitor>,
) -> Result<(), OpError> {
    let look = repo.look()?;
    for Listed { id, snapshot } in listed {
        let tags = change.apply(&snapshot.tags);
        if tags == snapshot.tags {
            continue;
        }
        monitor.check()?;
        let new = publish(repo, &Snapshot { tags, ..snapshot.clone() }, look.clone(), &[*id], monitor)?;
        repo.forget(id)?;
        seen::forget(repo, &[*id]);
        each(id, &new)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::base::Silent;
    use crate::ops::Catalogue;
    use crate::ops::fixture::{Place, Watch};

    fn change(set: Option<&[&str]>, remove: &[&str], add: &[&str]) -> TagChange {
        let owned = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect();
        TagChange { set: set.map(owned), remove: owned(remove), add: owned(add) }
    }

    #[test]
    fn tags_are_set_removed_and_added_in_this_order() {
        let before = ["b".to_owned(), "a".to_owned()];
        assert_eq!(change(None, &[], &["c", "a"]).apply(&before), ["b", "a", "c"]);
        assert_eq!(change(None, &["b", "x"], &["b"]).apply(&before), ["a", "b"]);
        assert_eq!(change(Some(&["x", "y"]), &["y"], &[]).apply(&before), ["x"]);
        assert!(change(Some(&[]), &[], &[]).apply(&before).is_empty());
    }

    #[test]
    fn a_tagged_snapshot_is_the_same_but_for_its_tags_and_id() {
        let place = Place::new();
        let source = place.dir("source");
        fs::write(source.join("file"), "data").unwrap();
        let made = place.backup(&source, None, &Watch::new());
        let old = place.parent(&made);
        let listed = [Listed { id: old.id, snapshot: old.snapshot.clone() }];
        let monitor: Arc<dyn Monitor> = Arc::new(Silent);
        let mut told = Vec::new();
        let mut each = |old: &SnapshotId, new: &SnapshotId| {
            told.push((*old, *new));
            Ok(())
        };
        tag(&place.repo, &listed, &change(None, &["none"], &[]), &mut each, &monitor).unwrap();
        tag(&place.repo, &listed, &change(None, &[], &["kept"]), &mut each, &monitor).unwrap();
        let there = Catalogue::load(&place.repo, &Silent).unwrap();
        let [now] = there.snapshots() else { panic!("{there:?}") };
        assert_eq!(told, [(old.id, now.id)]);
        assert_eq!(now.snapshot, Snapshot { tags: vec!["kept".to_owned()], ..old.snapshot });
    }
}
