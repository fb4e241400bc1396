//! From the errors of the floors below to failures: the exit code each means, and what the user may do about it.

use super::failure::{Failure, Kind};
use super::nodes::rooted;
use super::output::shown;
use super::signals;
use crate::base::{Interrupted, ObjectId, SnapshotId};
use crate::mount::MountError;
use crate::mount::overlay::StillError;
use crate::ops::{OpError, SelectError};
use crate::repo::RepoError;
use crate::store::{self, ObjectName, StoreError};
use crate::tree::TreeError;
use crate::view::stage::StageError;

impl From<Interrupted> for Failure {
    fn from(_: Interrupted) -> Self {
        signals::interrupted()
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let failure = Self::new(error.to_string());
        match error {
            StoreError::Full { .. } => failure.hint("nothing is lost: make room and run it again"),
            StoreError::Absent { .. } | StoreError::Short { .. } => {
                failure.hint("the repository is damaged; `snapfold check` says what is affected")
            }
            StoreError::Refused { .. } => failure.hint(
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile of ~/.aws that AWS_PROFILE names, say who \
                 asks, and AWS_REGION where",
            ),
            StoreError::Distrusted { .. } => failure
                .hint("if it should be, --cacert names a file with the certificate of whoever signed the server's own"),
            StoreError::NoPlace { .. } => {
                Self { kind: Kind::NoRepository, ..failure }.hint("make the bucket first; snapfold makes what is in it")
            }
            StoreError::Unavailable { .. } => {
                failure.hint("nothing is lost: run it again when the server answers; --retry says how long to try")
            }
            _ => failure,
        }
    }
}

impl From<RepoError> for Failure {
    fn from(error: RepoError) -> Self {
        let text = error.to_string();
        match error {
            RepoError::Interrupted(interrupted) => interrupted.into(),
            RepoError::Store(error) => error.into(),
            RepoError::NoRepository { .. } => {
                Self::of(Kind::NoRepository, text).hint("`snapfold init` makes a repository of an empty place")
            }
            RepoError::NotVacant { .. } => {
                Self::new(text).hint("`snapfold init` uses a place that is empty or does not exist yet")
            }
            RepoError::Leased { .. } => {
                Self::of(Kind::Leased, text).hint("try again later; a lease that is not renewed ends after ten minutes")
            }
            RepoError::LeaseLost => Self::new(text).hint("nothing is lost: run it again"),
            RepoError::WrongPassword => Self::of(Kind::WrongPassword, text),
            RepoError::NewerKeys { .. } => {
                Self::new(text).hint("keys were rotated: whoever has the new ones can add this password again")
            }
            RepoError::OtherSlots { .. } => {
                Self::new(text).hint("remove it with `snapfold key remove`, rotate, and add its password again")
            }
            RepoError::LastSlot { .. } => Self::new(text).hint("`snapfold key add` adds another first"),
            RepoError::WriteOnly => Self::new(text).hint("another password of the repository is needed for this"),
            RepoError::NewerFormat { .. } | RepoError::UnknownFeature { .. } => {
                Self::new(text).hint("use a newer snapfold; nothing was read or changed")
            }
            RepoError::Damaged { object: ObjectName { kind: store::Kind::Config | store::Kind::Key, .. }, .. } => {
                Self::new(text).hint("nothing opens without it: put a copy of it back, see snapfold-recovery(7)")
            }
            RepoError::Damaged { .. } | RepoError::Missing { .. } => {
                Self::new(text).hint("the repository is damaged; `snapfold check` says what is affected")
            }
            RepoError::LocalIndex { ref path, .. } => {
                let hint = format!("it can be deleted, and is made anew from the repository: {}", path.display());
                Self::new(text).hint(hint)
            }
            _ => Self::new(text),
        }
    }
}

impl From<TreeError> for Failure {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Interrupted(interrupted) => interrupted.into(),
            TreeError::Repo(error) => error.into(),
            TreeError::Damaged { .. } => {
                Self::new(error.to_string()).hint("the repository is damaged; `snapfold check` says what is affected")
            }
            other => Self::new(other.to_string()),
        }
    }
}

impl From<MountError> for Failure {
    fn from(error: MountError) -> Self {
        let failure = Self::new(error.to_string());
        match error {
            MountError::Missing { .. } => failure.hint("make the directory first"),
            MountError::NotEmpty { .. } => failure.hint("use an empty directory: what is in this one would be hidden"),
            MountError::Busy { .. } => failure.hint("`snapfold umount` ends that mount"),
            MountError::NoDevice { .. } => {
                failure.hint("FUSE is needed: load the kernel module fuse, or let the container use /dev/fuse")
            }
            MountError::NoHelper { .. } => {
                failure.hint("without root, fusermount3 is needed: install the package fuse3")
            }
            MountError::NoOverlay => failure.hint("load the kernel module overlay, or leave out --overlay"),
            MountError::NoNamespace { .. } => failure.hint(
                "leave out --overlay, or see whether root can allow it: sysctl user.max_user_namespaces, \
                 kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns",
            ),
            MountError::Upper { .. } => {
                failure.hint("--spool names a directory on another one, such as ext4, xfs or btrfs")
            }
            MountError::Written { .. } => failure.hint(WRITTEN),
            MountError::AllowOther => failure.hint("root may allow it: user_allow_other in /etc/fuse.conf"),
            _ => failure,
        }
    }
}

const WRITTEN: &str = "end the programs that write to it (`fuser -vm MOUNTPOINT` shows who), and try again";

impl From<StillError> for Failure {
    fn from(error: StillError) -> Self {
        let failure = Self::new(error.to_string());
        match error {
            StillError::Written => failure.hint(WRITTEN),
            StillError::Io(_) => failure,
        }
    }
}

impl From<OpError> for Failure {
    fn from(error: OpError) -> Self {
        match error {
            OpError::Interrupted(interrupted) => interrupted.into(),
            OpError::Repo(error) => error.into(),
            OpError::Tree(error) => error.into(),
            OpError::Select(select) => {
                let text = match &select {
                    SelectError::Ambiguous { text, candidates } => {
                        format!("{text:?} is ambiguous: it is the beginning of {} snapshots' ids", candidates.len())
                    }
                    other => other.to_string(),
                };
                Self::new(text).maybe_hint(select_hint(&select))
            }
            OpError::NoPath { snapshot, path } => {
                Self::new(format!("{}: not in snapshot {}", shown(&rooted(&path)), snapshot.short()))
                    .hint(format!("`snapfold ls {}` lists what is there", snapshot.short()))
            }
            OpError::Pruned { .. } => Self::new(error.to_string())
                .hint("no snapshot was made: run it again, and see --grace in snapfold-prune(1)"),
            OpError::Undeletable { .. } => Self::new(error.to_string())
                .hint("nothing that is needed is lost; prune again from where objects may be deleted"),
            OpError::DamagedSnapshot { .. } => {
                Self::new(error.to_string()).hint("`snapfold check` says what else is affected")
            }
            other => Self::new(other.to_string()),
        }
    }
}

impl From<StageError> for Failure {
    fn from(error: StageError) -> Self {
        let text = error.to_string();
        match error {
            StageError::Tree(error) => error.into(),
            StageError::NoStage { .. } | StageError::Ambiguous { .. } => {
                Self::new(text).hint("`snapfold stages` lists what there is; --spool says where else to look")
            }
            StageError::InUse { .. } => {
                Self::new(text).hint("`snapfold umount` ends it as a snapshot, `snapfold discard --force` without one")
            }
            StageError::OtherRepository { .. } => Self::new(text).hint("-r names the repository"),
            _ => Self::new(text),
        }
    }
}

fn select_hint(error: &SelectError) -> Option<String> {
    let list = |words: &str, candidates: &[(SnapshotId, String)]| {
        let few = candidates.iter().take(5).map(|(id, about)| format!("{} ({about})", id.short()));
        let few = few.collect::<Vec<_>>().join(", ");
        let more = if candidates.len() > 5 { ", ..." } else { "" };
        (!candidates.is_empty()).then(|| format!("{words} {few}{more}"))
    };
    match error {
        SelectError::Empty => Some("`snapfold backup PATH` makes the first".to_owned()),
        SelectError::Unreadable { .. } | SelectError::TooFarBack { .. } => {
            Some("`snapfold snapshots` lists what there is".to_owned())
        }
        SelectError::Absent { candidates, .. } => list("the newest are", candidates),
        SelectError::Ambiguous { candidates, .. } => list("it could be", candidates),
        SelectError::NoHost { hosts, .. } => {
            (!hosts.is_empty()).then(|| format!("there are snapshots of {}", hosts.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_scripts_tell_apart_have_their_exit_codes() {
        let code = |error: RepoError| Failure::from(error).kind.code();
        assert_eq!(code(RepoError::NoRepository { place: "/x".into() }), 10);
        assert_eq!(code(RepoError::WrongPassword), 12);
        assert_eq!(code(RepoError::Interrupted(Interrupted)), 130);
        assert_eq!(code(RepoError::NewerFormat { version: 9 }), 1);
        assert_eq!(Failure::from(TreeError::Repo(RepoError::WrongPassword)).kind.code(), 12);
    }
}
