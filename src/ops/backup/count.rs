//! What a tree holds, counted when parts of it were taken over without being walked: from the parent's numbers and what
//! differs.

use crate::base::Monitor;
use crate::ops::OpError;
use crate::ops::diff::{Change, ChangeKind, diff};
use crate::ops::list::list;
use crate::repo::Totals;
use crate::tree::{Node, Stored};

/// Totals of nothing, to be counted up.
pub const NOTHING: Totals =
    Totals { files: 0, dirs: 0, bytes: 0, bytes_new: 0, bytes_stored: 0, problems: 0, with_xattrs: Some(0) };

/// Adds an entry to `totals`, whose bytes are known otherwise.
pub fn count_entry(totals: &mut Totals, node: &Node) {
    *if node.is_dir() { &mut totals.dirs } else { &mut totals.files } += 1;
    if let Some(count) = totals.with_xattrs.as_mut().filter(|_| !node.meta.xattrs.is_empty()) {
        *count += 1;
    }
}

/// Sets in `totals` what is known by looking at each entry of the tree of `root`, itself included: files, directories
/// and entries with extended attributes.
pub fn count_entries(
    totals: &mut Totals,
    stored: &Stored,
    parent: Option<(&Totals, &Node)>,
    root: &Node,
    monitor: &dyn Monitor,
) -> Result<(), OpError> {
    let (mut gone, mut come) = (NOTHING, NOTHING);
    let before = match parent {
        Some((totals, base)) => {
            let mut each = |change: Change| {
                match change.kind {
                    ChangeKind::Added(node) => count_entry(&mut come, &node),
                    ChangeKind::Removed(node) => count_entry(&mut gone, &node),
                    ChangeKind::Changed { from, to, .. } => {
                        count_entry(&mut gone, &from);
                        count_entry(&mut come, &to);
                    }
                }
                Ok(())
            };
            diff(stored, base, root, &mut each, monitor)?;
            *totals
        }
        None => {
            count_entry(&mut come, root);
            let mut each = |_: &[u8], node: &Node| {
                count_entry(&mut come, node);
                Ok(())
            };
            list(stored, root, b"", true, &mut each, monitor)?;
            NOTHING
        }
    };
    // The parent's numbers may lie, as all that is read may.
    let sum = |before: u64, come: u64, gone: u64| before.saturating_add(come).saturating_sub(gone);
    totals.files = sum(before.files, come.files, gone.files);
    totals.dirs = sum(before.dirs, come.dirs, gone.dirs);
    totals.with_xattrs = match (before.with_xattrs, come.with_xattrs, gone.with_xattrs) {
        (Some(before), Some(come), Some(gone)) => Some(sum(before, come, gone)),
        _ => None,
    };
    Ok(())
}
