//! How many files and directories a tree holds, when parts of it were taken over without being walked: from the
//! parent's numbers and what differs.

use crate::base::Monitor;
use crate::ops::OpError;
use crate::ops::diff::{ChangeKind, diff};
use crate::ops::list::list;
use crate::repo::Totals;
use crate::tree::{Node, Stored};

/// Files and directories of the tree of `root`, itself included.
pub fn files_and_dirs(
    stored: &Stored,
    parent: Option<(&Totals, &Node)>,
    root: &Node,
    monitor: &dyn Monitor,
) -> Result<(u64, u64), OpError> {
    let (mut files, mut dirs) = (0i128, 0i128);
    let mut add = |node: &Node, sign: i128| *if node.is_dir() { &mut dirs } else { &mut files } += sign;
    match parent {
        Some((totals, base)) => {
            diff(
                stored,
                base,
                root,
                &mut |change| {
                    match change.kind {
                        ChangeKind::Added(node) => add(&node, 1),
                        ChangeKind::Removed(node) => add(&node, -1),
                        ChangeKind::Changed { from, to, .. } => {
                            add(&from, -1);
                            add(&to, 1);
                        }
                    }
                    Ok(())
                },
                monitor,
            )?;
            files += i128::from(totals.files);
            dirs += i128::from(totals.dirs);
        }
        None => {
            add(root, 1);
            let mut each = |_: &[u8], node: &Node| {
                add(node, 1);
                Ok(())
            };
            list(stored, root, b"", true, &mut each, monitor)?;
        }
    }
    // The parent's numbers may lie, as all that is read may.
    Ok((u64::try_from(files).unwrap_or(0), u64::try_from(dirs).unwrap_or(0)))
}
