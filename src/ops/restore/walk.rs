//! The walk of a restore: goes through the stored tree, makes or enters the directories of the target, and hands
//! everything else to the workers. Directories get their attributes when all that is in them is done.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};
use rustix::fs::{FileType, Mode as Bits, mkdirat};

use super::attributes::Handle;
use super::job::{Group, Job, Link};
use super::target::{Dir, file_type, look, open_dir, prepare};
use super::work::{Mode, Report, Shared, clear, describe};
use super::{Action, RestoreSummary, Step};
use crate::base::{Monitor, Problem};
use crate::ops::OpError;
use crate::tree::{DirRef, Listing, Node, Start, Stored};

/// Directories nearer to the place being worked at than this keep their descriptors.
const OPEN_MOST: usize = 64;

/// A thread takes so many entries, or so many bytes of data, at a time: about what is in one block. Else all threads
/// would want the same block at the same time, and wait for the one that decodes it.
const BATCH_JOBS: usize = 24;
const BATCH_BYTES: u64 = 512 << 10;

/// Where a directory of the snapshot is in the target.
pub(super) enum Place {
    Open(Arc<Dir>),
    /// It does not exist, and this is only a preview.
    Missing,
    /// It is made once something in it is wanted.
    Pending,
}

struct Frame<'a> {
    listing: Listing<'a>,
    node: Arc<Node>,
    /// The length of its path, and of that of the directory it is in.
    length: usize,
    above: usize,
    place: Place,
    /// Whether it was asked for with all that is in it.
    included: bool,
}

pub struct Walker<'a, 'e> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) stored: &'a Stored,
    pub(super) monitor: &'a dyn Monitor,
    pub(super) each: &'e mut dyn FnMut(&Step<'_>) -> Result<(), OpError>,
    pub(super) jobs: Sender<Vec<Job>>,
    pub(super) reports: Receiver<Report>,
    /// What the next thread that has nothing to do gets, and how many bytes of data that is.
    batch: (Vec<Job>, u64),
    stack: Vec<Frame<'a>>,
    pub(super) path: Vec<u8>,
    /// Files of which not all names were met yet.
    links: HashMap<u64, (Arc<Group>, u32)>,
    pub summary: RestoreSummary,
}

/// An error of the target that concerns one path, unless it means that nothing can be written any more.
pub(super) enum Trouble {
    Io(io::Error),
    InTheWay,
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<rustix::io::Errno> for Trouble {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}

impl<'a, 'e> Walker<'a, 'e> {
    pub fn new(
        shared: &'a Shared<'a>,
        stored: &'a Stored,
        monitor: &'a dyn Monitor,
        each: &'e mut dyn FnMut(&Step<'_>) -> Result<(), OpError>,
        jobs: Sender<Vec<Job>>,
        reports: Receiver<Report>,
    ) -> Self {
        let (batch, stack, path, links, summary) = Default::default();
        Self { shared, stored, monitor, each, jobs, reports, batch, stack, path, links, summary }
    }

    /// Walks everything and hands out jobs; the reports on the last of them are still to come.
    pub fn run(&mut self, root: &Arc<Node>) -> Result<(), OpError> {
        let target = self.shared.root.clone();
        let open = |node: Arc<Node>, selected: bool| match &target {
            None => Ok(Place::Missing),
            Some(fd) => fd
                .try_clone()
                .and_then(|fd| {
                    let mode = rustix::fs::fstat(&fd)?.st_mode & 0o7777;
                    if self.shared.mode == Mode::Run {
                        prepare(&fd)?;
                    }
                    Dir::new(node, Vec::new(), None, fd, mode, selected)
                })
                .map(|dir| Place::Open(Arc::new(dir)))
                .map_err(|source| OpError::Target { path: Vec::new(), source }),
        };
        let Some(dir) = root.dir() else {
            self.path = root.name.clone();
            let place = open(root.clone(), false)?;
            return self.hand_out(&place, root.clone());
        };
        let included = self.shared.request.include.is_empty();
        let place = open(root.clone(), included)?;
        if included {
            let action = self.look_at(&place, root).map_err(|source| OpError::Target { path: Vec::new(), source })?;
            self.step(action, Some(root))?;
        }
        self.tidy(&place, dir, included)?;
        self.push(root.clone(), dir, 0, place, included);
        loop {
            self.monitor.check()?;
            self.take_reports()?;
            let Some(frame) = self.stack.last_mut() else { return Ok(()) };
            match frame.listing.next() {
                None => self.leave()?,
                Some(Ok(placed)) => self.meet(placed.node)?,
                Some(Err(error)) => {
                    let error = OpError::from(error);
                    if !error.is_damage() {
                        return Err(error);
                    }
                    self.problem(error.to_string());
                }
            }
        }
    }

    fn push(&mut self, node: Arc<Node>, dir: &DirRef, above: usize, place: Place, included: bool) {
        let listing = self.stored.entries(dir, Start::Beginning);
        self.stack.push(Frame { listing, node, length: self.path.len(), above, place, included });
        self.park();
    }

    /// Closes what is far up: deep trees need no more descriptors than others.
    fn park(&self) {
        if let Some(at) = self.stack.len().checked_sub(OPEN_MOST)
            && let Some(Frame { place: Place::Open(dir), .. }) = self.stack.get(at)
            && at + 1 < self.stack.len()
        {
            dir.park();
        }
    }

    fn leave(&mut self) -> Result<(), OpError> {
        let Some(frame) = self.stack.pop() else { return Ok(()) };
        if let Place::Open(dir) = frame.place {
            if let Some(parent) = &dir.parent {
                let path = || parent.path.clone();
                parent.unpark(&dir).map_err(|source| OpError::Target { path: path(), source })?;
            }
            let (shared, mut wrong) = (self.shared, Vec::new());
            finish(shared, dir, &mut |problem| wrong.push(problem));
            wrong.into_iter().for_each(|problem| self.tell(problem));
        }
        self.path.truncate(frame.above);
        Ok(())
    }

    fn meet(&mut self, node: Arc<Node>) -> Result<(), OpError> {
        let above = self.path.len();
        if above > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(&node.name);
        let request = self.shared.request;
        let depth = self.stack.len();
        if !request.exclude.matches(&self.path, node.is_dir()) {
            let inherited = self.stack.last().is_some_and(|frame| frame.included);
            let included = inherited || request.include.matches(&self.path, node.is_dir());
            if let Some(dir) = node.dir() {
                let dir = *dir;
                self.enter(node, &dir, above, included)?;
            } else if included {
                self.monitor.current(&self.path);
                if self.materialize()? {
                    let place = self.stack.pop();
                    // The frame is put back at once: what is handed out needs the rest of `self`.
                    if let Some(frame) = place {
                        let handed = self.hand_out(&frame.place, node);
                        self.stack.push(frame);
                        handed?;
                    }
                }
            }
        }
        if self.stack.len() == depth {
            self.path.truncate(above);
        }
        Ok(())
    }

    /// Goes into a directory, which is made if it is wanted and missing.
    fn enter(&mut self, node: Arc<Node>, dir: &DirRef, above: usize, included: bool) -> Result<(), OpError> {
        let place = if included {
            if !self.materialize()? {
                return Ok(());
            }
            match self.make(self.stack.len(), &node) {
                Ok((action, place)) => {
                    self.step(action, Some(&node))?;
                    place
                }
                Err(trouble) => return self.trouble(trouble),
            }
        } else {
            // What exists is entered, because there may be something to delete in it; the rest waits.
            match self.stack.last().map(|frame| &frame.place) {
                Some(Place::Open(parent)) => match self.open_existing(parent, &node, false) {
                    Ok(Some(dir)) => Place::Open(Arc::new(dir)),
                    Ok(None) => Place::Pending,
                    Err(error) => return self.trouble(error.into()),
                },
                _ => Place::Pending,
            }
        };
        self.tidy(&place, dir, included)?;
        self.push(node, dir, above, place, included);
        Ok(())
    }

    /// Makes the directories on the way to something that is wanted; `false` if that fails for a reason told already.
    fn materialize(&mut self) -> Result<bool, OpError> {
        for at in 0..self.stack.len() {
            match &self.stack[at].place {
                Place::Open(dir) => dir.select(),
                Place::Missing => {}
                Place::Pending => {
                    let node = self.stack[at].node.clone();
                    match self.make(at, &node) {
                        Ok((action, place)) => {
                            self.stack[at].place = place;
                            let length = self.stack[at].length;
                            let path = self.path[..length].to_vec();
                            self.step_at(action, &path, Some(&node))?;
                        }
                        Err(trouble) => {
                            self.trouble(trouble)?;
                            return Ok(false);
                        }
                    }
                }
            }
        }
        Ok(true)
    }

    /// Makes the directory that is to be the `at`th of the stack, or opens it where it exists.
    fn make(&self, at: usize, node: &Arc<Node>) -> Result<(Action, Place), Trouble> {
        let Some(Frame { place: Place::Open(parent), .. }) = at.checked_sub(1).and_then(|at| self.stack.get(at)) else {
            return Ok((Action::Create, Place::Missing));
        };
        if let Some(dir) = self.open_existing(parent, node, true)? {
            let place = Place::Open(Arc::new(dir));
            return Ok((self.look_at(&place, node)?, place));
        }
        let fd = parent.fd()?;
        let there = look(&fd, &node.name)?;
        let action = if there.is_some() { Action::Replace } else { Action::Create };
        if self.shared.mode != Mode::Run {
            return Ok((action, Place::Missing));
        }
        if let Some(stat) = there {
            clear(&fd, &node.name, &stat, true).map_err(|error| error.map_or(Trouble::InTheWay, Trouble::Io))?;
        }
        mkdirat(&fd, &node.name[..], Bits::RWXU)?;
        let new = open_dir(&fd, &node.name, true)?;
        let dir = Dir::made(node.clone(), path_below(parent, node), parent.clone(), new)?;
        Ok((action, Place::Open(Arc::new(dir))))
    }

    fn open_existing(&self, parent: &Arc<Dir>, node: &Arc<Node>, selected: bool) -> io::Result<Option<Dir>> {
        let fd = parent.fd()?;
        let Some(stat) = look(&fd, &node.name)?.filter(|stat| file_type(stat) == FileType::Directory) else {
            return Ok(None);
        };
        let fd = open_dir(&fd, &node.name, self.shared.mode == Mode::Run)?;
        let (path, mode) = (path_below(parent, node), stat.st_mode & 0o7777);
        Dir::new(node.clone(), path, Some(parent.clone()), fd, mode, selected).map(Some)
    }

    /// Compares the attributes of a directory.
    fn look_at(&self, place: &Place, node: &Node) -> io::Result<Action> {
        let Place::Open(dir) = place else { return Ok(Action::Create) };
        let mut deviation = self.shared.attributes.deviation(Handle::Open(&*dir.fd()?), node)?;
        deviation.mode = dir.mode() != node.meta.mode;
        Ok(if deviation.any() { Action::Attributes } else { Action::Keep })
    }

    /// Hands an entry that is no directory to the workers.
    fn hand_out(&mut self, place: &Place, node: Arc<Node>) -> Result<(), OpError> {
        let Place::Open(dir) = place else {
            self.count_met(&node);
            if self.shared.mode == Mode::Verify {
                self.problem(describe(Action::Create).to_owned());
            }
            return self.step(Action::Create, Some(&node));
        };
        let link = self.link(&node);
        let fd = dir.fd().map_err(|source| OpError::Target { path: dir.path.clone(), source })?;
        let job = Job { dir: dir.clone(), fd, path: self.path.clone(), node, link };
        let (batch, bytes) = &mut self.batch;
        *bytes = bytes.saturating_add(job.node.meta.size);
        batch.push(job);
        if batch.len() >= BATCH_JOBS || *bytes >= BATCH_BYTES { self.hand_over() } else { Ok(()) }
    }

    /// Gives the workers what was gathered for them. They live as long as this walk does.
    pub(super) fn hand_over(&mut self) -> Result<(), OpError> {
        let (batch, _) = std::mem::take(&mut self.batch);
        self.jobs
            .send(batch)
            .map_err(|_| OpError::System { what: "worker threads", source: io::Error::other("they ended early") })
    }

    fn link(&mut self, node: &Node) -> Option<Link> {
        let link = node.meta.link?;
        if let Some((group, left)) = self.links.get_mut(&link) {
            let group = group.clone();
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.links.remove(&link);
            }
            return Some(Link::Other(group));
        }
        let group = Arc::new(Group::new(self.path.clone()));
        if node.meta.nlink > 1 {
            self.links.insert(link, (group.clone(), node.meta.nlink - 1));
        }
        Some(Link::First(group))
    }
}

fn path_below(parent: &Dir, node: &Node) -> Vec<u8> {
    let mut path = parent.path.clone();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(&node.name);
    path
}

/// Drops a reference to a directory; if it was the last, everything in the directory is done, and it gets its
/// attributes. So do the directories above it, as far as this was the last thing in them.
pub fn finish(shared: &Shared<'_>, dir: Arc<Dir>, problem: &mut dyn FnMut(Problem)) {
    let mut next = Some(dir);
    while let Some(mut dir) = next.take().and_then(Arc::into_inner) {
        next = dir.parent.take();
        if shared.mode != Mode::Run || !dir.is_selected() {
            continue;
        }
        let applied = match dir.fd() {
            Ok(fd) => shared.attributes.apply(Handle::Open(&fd), &dir.node, true).map(|_| ()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(message) = applied {
            problem(Problem { path: dir.path.clone(), message });
        }
    }
}
