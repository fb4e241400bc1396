//! What index segments list and the repository has not, or has not whole. It does not count as there: who backs up the
//! same data again stores it again, so that what was lost heals as far as its source is still there.

use std::collections::BTreeSet;

use super::index::{LeftOut, LeftOutSet, LocalIndex};
use super::{Indexed, RepoError, Repository};
use crate::base::PackId;

/// Finds packs that are gone, takes up what checks found damaged, and leaves both out from now on, beside what is
/// condemned. Gives the packs that are gone.
pub fn look(index: &LocalIndex, repository: &Repository) -> Result<BTreeSet<PackId>, RepoError> {
    let condemned = index.condemned();
    let lost: BTreeSet<_> = index.lost(repository)?.difference(&condemned).copied().collect();
    let mut set = index.kept_damaged()?;
    set.extend(lost.union(&condemned).map(|pack| LeftOut { pack: *pack, block: None }));
    index.leave_out(repository, set)?;
    Ok(lost)
}

/// As `look`, and tells of it.
pub fn look_and_tell(index: &LocalIndex, repository: &Repository) -> Result<(), RepoError> {
    let lost = look(index, repository)?;
    if let Some(first) = lost.first() {
        let others = match lost.len() - 1 {
            0 => "is".to_owned(),
            others => format!("and {others} more are"),
        };
        log::warn!("pack {first} {others} gone or cut short; `snapfold check` says what that costs");
    }
    Ok(())
}

/// Packs that are listed, and gone or known to be damaged.
pub fn packs(index: &LocalIndex) -> BTreeSet<PackId> {
    let condemned = index.condemned();
    index.left_out().iter().map(|left| left.pack).filter(|pack| !condemned.contains(pack)).collect()
}

impl Indexed {
    /// Finds packs that are gone since, and takes up what checks of this machine found damaged, and what is condemned:
    /// the index is loaded again for each other set.
    pub fn look_for_lost(&self) -> Result<(), RepoError> {
        let marks = self.marks(&mut |_, error| log::debug!("{error}"))?;
        self.index().condemn(marks.into_iter().flat_map(|found| found.mark.packs).collect());
        look(self.index(), self).map(|_| ())
    }

    /// Whether anything that is listed is known to be lost. Then what a parent had need not be there.
    pub fn has_lost(&self) -> bool {
        !packs(self.index()).is_empty()
    }

    /// Packs that are listed, and known to be gone or damaged.
    pub fn lost_packs(&self) -> BTreeSet<PackId> {
        packs(self.index())
    }

    /// Remembers for this machine what is damaged. Of packs for which `looked_at` holds, exactly what is in `found`.
    pub fn note_damaged(&self, found: &LeftOutSet, looked_at: &dyn Fn(&PackId) -> bool) -> Result<(), RepoError> {
        let before = self.index().kept_damaged()?;
        let mut damaged: LeftOutSet = before.iter().filter(|entry| !looked_at(&entry.pack)).copied().collect();
        damaged.extend(found);
        if damaged == before { Ok(()) } else { self.index().keep_damaged(&damaged) }
    }
}
