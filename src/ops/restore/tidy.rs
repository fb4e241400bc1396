//! Removing what is in the target and not in the snapshot.

use std::io;

use rustix::fs::FileType;

use super::Action;
use super::target::{Dir, each_name, file_type, look, remove_all};
use super::walk::{Place, Trouble, Walker};
use super::work::Mode;
use crate::ops::OpError;
use crate::tree::DirRef;

impl Walker<'_, '_> {
    /// Removes what is in a directory of the target and not in the snapshot.
    pub(super) fn tidy(&mut self, place: &Place, dir: &DirRef, included: bool) -> Result<(), OpError> {
        let request = self.shared.request;
        let Place::Open(target) = place else { return Ok(()) };
        if !request.delete || self.shared.mode == Mode::Verify {
            return Ok(());
        }
        let (mut extra, mut failed) = (Vec::new(), None);
        let listed = target.fd().and_then(|fd| {
            each_name(&*fd, &mut |name| {
                match self.stored.lookup(dir, name) {
                    Ok(Some(_)) => {}
                    Ok(None) => extra.push(name.to_vec()),
                    Err(error) => {
                        failed = Some(error);
                        return Err(io::Error::other("stopped"));
                    }
                }
                Ok(())
            })
        });
        if let Some(error) = failed {
            // What should be there is not known: nothing is removed.
            let error = OpError::from(error);
            return if error.is_damage() { Ok(()) } else { Err(error) };
        }
        if let Err(error) = listed {
            return self.trouble(error.into());
        }
        let above = self.path.len();
        for name in extra {
            self.monitor.check()?;
            if above > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&name);
            self.remove(target, &name, included)?;
            self.path.truncate(above);
        }
        Ok(())
    }

    fn remove(&mut self, target: &Dir, name: &[u8], included: bool) -> Result<(), OpError> {
        let request = self.shared.request;
        let removed = (|| {
            let fd = target.fd()?;
            let is_dir = look(&fd, name)?.is_some_and(|stat| file_type(&stat) == FileType::Directory);
            let wanted = included || request.include.matches(&self.path, is_dir);
            if !wanted || request.exclude.matches(&self.path, is_dir) {
                return Ok(false);
            }
            if self.shared.mode == Mode::Run {
                remove_all(&*fd, name)?;
            }
            Ok(true)
        })();
        match removed {
            Ok(true) => {
                target.select();
                self.step(Action::Delete, None)
            }
            Ok(false) => Ok(()),
            Err(error) => self.trouble(Trouble::Io(error)),
        }
    }
}
