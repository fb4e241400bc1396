//! The part of a check that looks at parity: whether each object has some, and what it can mend of those that are
//! damaged or gone; and mending them, where that is wanted.

use std::collections::HashSet;
use std::time::Duration;

use super::{Check, Finding};
use crate::base::{PackId, SnapshotId, parallel};
use crate::ops::OpError;
use crate::repo::parity::beside;
use crate::repo::{Indexed, RepoError, Rot};
use crate::store::{Kind, ObjectName, StoreError};

/// How often and how long it is waited for parity of an object that another process has just put.
const LOOKS: u32 = 3;
const WAIT: Duration = Duration::from_millis(700);
/// Objects that are looked at between two looks at whether to stop.
const ROUND: usize = 512;

/// What parity does about something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cure {
    /// It can mend it.
    Can,
    /// It cannot, and why.
    Cannot(String),
    /// It was mended.
    Mended,
    /// It could have been, and why it was not.
    Failed(String),
}

impl Cure {
    /// Of what was found; mends it if that is wanted.
    ///
    /// # Errors
    /// Failures of the store that have nothing to do with the object.
    pub(super) fn of(repo: &Indexed, rot: &Rot, mend: bool) -> Result<Self, RepoError> {
        match &rot.cure {
            Err(why) => Ok(Self::Cannot(why.clone())),
            Ok(_) if !mend => Ok(Self::Can),
            Ok(_) => match repo.mend(rot) {
                Ok(()) => Ok(Self::Mended),
                // A store in which nothing can be replaced has to be mended by who made it so.
                Err(RepoError::Store(error @ (StoreError::Denied { .. } | StoreError::Io { .. }))) => {
                    Ok(Self::Failed(error.to_string()))
                }
                Err(error) => Err(error),
            },
        }
    }
}

impl Check<'_> {
    /// Tells of an object that is damaged or gone, and what parity does about it.
    pub(super) fn rotten(&mut self, object: ObjectName, what: String) -> Result<(), OpError> {
        if !self.told.insert(object.to_string()) {
            return Ok(());
        }
        let snapshot = match object.kind {
            Kind::Snapshot => object.name.parse::<SnapshotId>().ok(),
            _ => None,
        };
        let mut finding = Finding { snapshot, ..Finding::of_object(object.clone(), what) };
        if self.repo.parity().is_some()
            && let Some(rot) = self.repo.look_for_rot(&object)?
        {
            finding.cure = Some(Cure::of(self.repo, &rot, self.mend)?);
        }
        self.find(finding);
        Ok(())
    }

    /// Tells of objects that could be read by their parity alone.
    pub(super) fn cured(&mut self) -> Result<(), OpError> {
        for (object, what) in self.repo.take_cured() {
            // Packs are looked at whole, where they are.
            if object.kind != Kind::Pack {
                self.rotten(object, what)?;
            }
        }
        Ok(())
    }

    /// Compares what there is with the parity that there is, and with `read` reads the parity of all but packs. Brings
    /// back what is gone, if that is wanted.
    pub(super) fn parity(&mut self, read: bool) -> Result<(), OpError> {
        if self.repo.parity().is_none() {
            return Ok(());
        }
        if let Some(rot) = self.repo.look_for_rot(&ObjectName::config())? {
            self.rotten(rot.object, rot.what)?;
        }
        let kinds = [Kind::Config, Kind::Key, Kind::Pack, Kind::Segment, Kind::Snapshot];
        let objects: Vec<ObjectName> =
            kinds.iter().map(|kind| self.names(*kind)).collect::<Result<Vec<_>, _>>()?.concat();
        let there: HashSet<ObjectName> = self.names(Kind::Parity)?.into_iter().collect();
        let needed: HashSet<ObjectName> = objects.iter().map(beside).collect();
        let mut back = false;
        for parity in there.difference(&needed) {
            self.monitor.check()?;
            let Some(object) = self.repo.only_parity(parity)? else { continue };
            // Stored since they were listed.
            if object.kind != Kind::Config && matches!(self.repo.store().stat(&object), Err(StoreError::Absent { .. }))
            {
                self.rotten(object, "gone".to_owned())?;
                back |= self.mend;
            }
        }
        if back {
            self.repo.refresh()?;
        }
        self.bare = objects.iter().filter(|object| !there.contains(&beside(object))).cloned().collect();
        if read {
            let short = |object: &&ObjectName| object.kind != Kind::Pack && there.contains(&beside(object));
            let short: Vec<&ObjectName> = objects.iter().filter(short).collect();
            for round in short.chunks(ROUND) {
                self.monitor.check()?;
                let found = parallel::map(round, parallel::REQUESTS, |object| self.repo.look_at_parity(object));
                for (object, found) in round.iter().zip(found) {
                    if let Some(what) = found? {
                        self.rotten_parity(object, &what)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Tells of objects that have no parity. Last, so that others had time to put it.
    pub(super) fn bare(&mut self) -> Result<(), OpError> {
        let mut bare = std::mem::take(&mut self.bare);
        for look in 0..LOOKS {
            if look > 0 && !bare.is_empty() {
                std::thread::sleep(WAIT);
            }
            let mut left = Vec::new();
            for object in bare {
                self.monitor.check()?;
                let absent = |name: &ObjectName| match self.repo.store().stat(name) {
                    Err(StoreError::Absent { .. }) => Ok(true),
                    other => other.map(|_| false),
                };
                if absent(&beside(&object)).map_err(RepoError::from)? && !absent(&object).map_err(RepoError::from)? {
                    left.push(object);
                }
            }
            bare = left;
        }
        bare.iter().try_for_each(|object| self.rotten_parity(object, "gone"))
    }

    /// Tells of parity that is damaged or gone, and makes it anew if that is wanted.
    pub(super) fn rotten_parity(&mut self, object: &ObjectName, what: &str) -> Result<(), OpError> {
        let parity = beside(object);
        if !self.told.insert(parity.to_string()) {
            return Ok(());
        }
        let mut finding = Finding::of_object(parity, format!("{what}: it is of {object}"));
        if let Some(percent) = self.repo.parity().filter(|_| self.mend) {
            finding.cure = Some(match self.repo.renew_parity(object, percent)? {
                true => Cure::Mended,
                false => Cure::Failed("what it is of is damaged".to_owned()),
            });
        }
        self.find(finding);
        Ok(())
    }

    fn names(&self, kind: Kind) -> Result<Vec<ObjectName>, RepoError> {
        let mut names = Vec::new();
        self.repo.store().list(kind, &mut |info| names.push(info.name))?;
        Ok(names)
    }

    /// Packs that have each other's bytes: all of them are kept as parity before any is put in its place, so that none
    /// is lost by a stop in between. Gives those that are whole now.
    pub(super) fn unmix(&mut self, mixed: &[(PackId, Rot)]) -> Result<HashSet<PackId>, OpError> {
        let mut whole = HashSet::new();
        if !self.mend {
            return Ok(whole);
        }
        let wanted: HashSet<&str> = mixed.iter().map(|(_, rot)| rot.object.name.as_str()).collect();
        for (_, rot) in mixed.iter().filter(|(_, rot)| wanted.contains(rot.found.as_str())) {
            self.monitor.check()?;
            self.repo.keep_as_parity(&rot.object, &ObjectName::new(Kind::Pack, &rot.found))?;
        }
        for (id, rot) in mixed {
            self.monitor.check()?;
            let Some(rot) = self.repo.look_for_rot(&rot.object)? else { continue };
            if rot.cure.is_ok() {
                let cure = Cure::of(self.repo, &rot, true)?;
                if cure == Cure::Mended {
                    whole.insert(*id);
                }
                self.told.insert(rot.object.to_string());
                self.find(Finding { cure: Some(cure), ..Finding::of_object(rot.object, rot.what) });
            }
        }
        Ok(whole)
    }
}
