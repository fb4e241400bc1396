//! What a restore does about one entry that is no directory: look, compare, and (when it is not a mere preview) write.
//! Runs in several threads.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, FileType, Mode as Bits, OFlags, Stat, fstat, linkat, mknodat, open, openat, readlinkat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

use super::attributes::{Attributes, Handle, is_hopeless};
use super::data::{Data, DataError, Wrote};
use super::job::{Group, Job, Link};
use super::target::{file_type, look, make_usable, open_above, proc_path, remove_all, remove_empty};
use super::{Action, RestoreRequest};
use crate::base::Problem;
use crate::ops::OpError;
use crate::tree::{Body, Content, Node, TreeError};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Look only, for a preview.
    Preview,
    Run,
    /// Look only; whatever is not as it should be is a problem.
    Verify,
}

/// What became of a job.
pub enum Report {
    Done { action: Action, path: Vec<u8>, node: Arc<Node>, written: u64 },
    Problem(Problem),
    Fatal(OpError),
}

/// What all threads of a restore share.
pub struct Shared<'a> {
    pub mode: Mode,
    pub request: &'a RestoreRequest,
    pub attributes: Attributes,
    /// The target; `None` where it does not exist, which only a preview meets.
    pub root: Option<Arc<OwnedFd>>,
}

/// Why an entry was not dealt with.
#[derive(Debug)]
enum Failure {
    Data(DataError),
    Other(String),
}

impl<E: Into<DataError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Data(error.into())
    }
}

/// What was done, how many bytes it took, what file it is, and what is still wrong with it.
struct Done {
    action: Action,
    written: u64,
    file: Option<(u64, u64)>,
    wrong: Option<String>,
}

impl Done {
    fn just(action: Action) -> Self {
        Self { action, written: 0, file: None, wrong: None }
    }
}

/// One thread's part.
pub struct Worker<'a> {
    pub shared: &'a Shared<'a>,
    pub data: Data<'a>,
}

impl Worker<'_> {
    /// Deals with one entry and tells what became of it.
    pub fn work(&mut self, job: &Job, report: &mut dyn FnMut(Report)) {
        let result = match &job.link {
            Some(Link::Other(group)) => match group.wait() {
                Some(first) => self.link(job, group, first),
                None => self.entry(job),
            },
            _ => self.entry(job),
        };
        if let Some(Link::First(group)) = &job.link {
            group.set(result.as_ref().ok().and_then(|done| done.file));
        }
        let problem = |message| Report::Problem(Problem { path: job.path.clone(), message });
        match result {
            Ok(Done { action, written, wrong, .. }) => {
                if let Some(wrong) = wrong {
                    report(problem(wrong));
                } else if self.shared.mode == Mode::Verify && action != Action::Keep {
                    report(problem(describe(action).to_owned()));
                }
                report(Report::Done { action, path: job.path.clone(), node: job.node.clone(), written });
            }
            Err(Failure::Other(message)) => report(problem(message)),
            Err(Failure::Data(DataError::Target(source))) => {
                if is_hopeless(&source) {
                    report(Report::Fatal(OpError::Target { path: job.path.clone(), source }));
                } else {
                    report(problem(source.to_string()));
                }
            }
            Err(Failure::Data(DataError::Tree(error))) => {
                let error = OpError::from(error);
                report(if error.is_damage() { problem(error.to_string()) } else { Report::Fatal(error) });
            }
        }
    }

    fn entry(&mut self, job: &Job) -> Result<Done, Failure> {
        let dir = job.fd.clone();
        if let (Mode::Run, true, Body::File(content)) = (self.shared.mode, job.dir.is_bare(), &job.node.body) {
            match self.create_file(&dir, job, content) {
                // Somebody else has put it there.
                Err(Failure::Data(DataError::Target(error))) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => return other,
            }
        }
        let there = look(&dir, &job.node.name)?;
        let done = match (&job.node.body, there) {
            (_, None) => {
                if self.shared.mode == Mode::Run {
                    self.create(&dir, job)?
                } else {
                    Done::just(Action::Create)
                }
            }
            (Body::File(content), Some(stat)) if file_type(&stat) == FileType::RegularFile => {
                self.existing_file(&dir, job, content, &stat)?
            }
            (_, Some(stat)) if is_same_special(&dir, &job.node, &stat)? => self.existing_special(&dir, job, &stat)?,
            (_, Some(stat)) => self.replace(&dir, job, &stat)?,
        };
        Ok(done)
    }

    fn existing_file(&mut self, dir: &OwnedFd, job: &Job, content: &Content, stat: &Stat) -> Result<Done, Failure> {
        let meta = &job.node.meta;
        let has_other_names = stat.st_nlink > 1;
        if has_other_names && meta.link.is_none() {
            return self.replace(dir, job, stat);
        }
        let trusted = self.shared.request.trust_times
            && stat.st_size as u64 == content.length()
            && (stat.st_mtime, stat.st_mtime_nsec as u32) == (meta.mtime.secs, meta.mtime.nanos);
        let run = self.shared.mode == Mode::Run;
        let file = open_seen(dir, &job.node.name, stat, run)?;
        let identity = Some((stat.st_dev, stat.st_ino));
        if !run || has_other_names {
            let equal = trusted || self.data.is_equal(&file, content)?;
            let deviation = self.shared.attributes.deviation(Handle::Open(&file), &job.node)?;
            if equal && !deviation.any() {
                return Ok(Done { file: identity, ..Done::just(Action::Keep) });
            }
            // Its other names may lie outside of the target: it is not written to.
            if has_other_names {
                return self.replace(dir, job, stat);
            }
            let verify = self.shared.mode == Mode::Verify;
            let wrong = (verify && equal).then(|| format!("differs: {}", deviation.describe()));
            let action = if equal { Action::Attributes } else { Action::Update };
            return Ok(Done { action, written: if equal { 0 } else { meta.size }, file: identity, wrong });
        }
        let wrote = match if trusted { Ok(Wrote::default()) } else { self.update(&file, content) } {
            // A program that is running: it keeps the old file, and the name gets a new one.
            Err(DataError::Target(error)) if error.raw_os_error() == Some(libc::ETXTBSY) => {
                return self.replace(dir, job, stat);
            }
            other => other?,
        };
        let deviation = self.finish(Handle::Open(&file), job, wrote.damage.is_none());
        let action = match (wrote.changed, &deviation) {
            (true, _) => Action::Update,
            (false, Ok(false)) => Action::Keep,
            (false, _) => Action::Attributes,
        };
        Ok(Done { action, written: wrote.bytes, file: identity, wrong: wrong_with(&wrote, deviation.err()) })
    }

    fn update(&mut self, file: &OwnedFd, content: &Content) -> Result<Wrote, DataError> {
        self.data.update(file, content, &mut || {
            let flags = OFlags::RDWR | OFlags::CLOEXEC;
            match open(proc_path(file), flags, Bits::empty()) {
                Err(Errno::ACCESS) => {
                    make_usable(file, 0o600)?;
                    Ok(open(proc_path(file), flags, Bits::empty())?)
                }
                other => Ok(other?),
            }
        })
    }

    fn existing_special(&mut self, dir: &OwnedFd, job: &Job, stat: &Stat) -> Result<Done, Failure> {
        let handle = Handle::Named(dir, &job.node.name);
        let deviation = self.shared.attributes.deviation(handle, &job.node)?;
        let file = Some((stat.st_dev, stat.st_ino));
        let strange = stat.st_nlink > 1 && (job.node.meta.link.is_none() || deviation.any());
        if strange {
            return self.replace(dir, job, stat);
        }
        if !deviation.any() {
            return Ok(Done { file, ..Done::just(Action::Keep) });
        }
        let wrong = match self.shared.mode {
            Mode::Run => self.finish(handle, job, true).err(),
            Mode::Preview => None,
            Mode::Verify => Some(format!("differs: {}", deviation.describe())),
        };
        Ok(Done { file, wrong, ..Done::just(Action::Attributes) })
    }

    /// Removes what is in the way and makes a new file.
    fn replace(&mut self, dir: &OwnedFd, job: &Job, stat: &Stat) -> Result<Done, Failure> {
        if self.shared.mode != Mode::Run {
            return Ok(Done { written: job.node.meta.size, ..Done::just(Action::Replace) });
        }
        self.clear(dir, &job.node.name, stat)?;
        Ok(Done { action: Action::Replace, ..self.create(dir, job)? })
    }

    fn clear(&self, dir: &OwnedFd, name: &[u8], stat: &Stat) -> Result<(), Failure> {
        clear(dir, name, stat, self.shared.request.delete).map_err(|error| match error {
            Some(error) => error.into(),
            None => Failure::Other(IN_THE_WAY.to_owned()),
        })
    }

    fn create(&mut self, dir: &OwnedFd, job: &Job) -> Result<Done, Failure> {
        let (name, node) = (&job.node.name[..], &job.node);
        let special = |kind, device| mknodat(dir, name, kind, Bits::RUSR | Bits::WUSR, device);
        match &node.body {
            Body::File(content) => return self.create_file(dir, job, content),
            Body::Symlink(to) => symlinkat(&to[..], dir, name)?,
            Body::Fifo => special(FileType::Fifo, 0)?,
            Body::Socket => special(FileType::Socket, 0)?,
            Body::BlockDevice(device) => special(FileType::BlockDevice, *device)?,
            Body::CharDevice(device) => special(FileType::CharacterDevice, *device)?,
            Body::Dir(_) => return Err(Failure::Other("a directory among files".to_owned())),
        }
        let handle = Handle::Named(dir, name);
        let stat = handle.stat()?;
        let wrong = self.finish(handle, job, true).err();
        Ok(Done { file: Some((stat.st_dev, stat.st_ino)), wrong, ..Done::just(Action::Create) })
    }

    fn create_file(&mut self, dir: &OwnedFd, job: &Job, content: &Content) -> Result<Done, Failure> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let bare = job.dir.is_bare();
        let file = openat(dir, &job.node.name[..], flags, first_mode(&job.node, bare))?;
        let stat = fstat(&file)?;
        let wrote = self.data.write(&file, content)?;
        let whole = wrote.damage.is_none();
        let set = self.shared.attributes.apply_to_new(&file, &stat, bare, &job.node, whole);
        let wrong = wrong_with(&wrote, set.err());
        Ok(Done { action: Action::Create, written: wrote.bytes, file: Some((stat.st_dev, stat.st_ino)), wrong })
    }

    /// Sets the attributes; tells whether that changed anything, or what is wrong.
    fn finish(&self, handle: Handle<'_>, job: &Job, whole: bool) -> Result<bool, String> {
        // A file that is not whole does not get its time: nobody should take it for what it was.
        self.shared.attributes.apply(handle, &job.node, whole).map(super::attributes::Deviation::any)
    }

    /// Gives a file that was restored another name.
    fn link(&mut self, job: &Job, group: &Group, first: (u64, u64)) -> Result<Done, Failure> {
        let dir = job.fd.clone();
        let name = &job.node.name[..];
        let there = look(&dir, name)?;
        let is_first = |stat: &Stat| (stat.st_dev, stat.st_ino) == first;
        if there.as_ref().is_some_and(is_first) {
            return Ok(Done::just(Action::Keep));
        }
        let action = if there.is_some() { Action::Replace } else { Action::Create };
        let Some(root) = self.shared.root.as_ref().filter(|_| self.shared.mode == Mode::Run) else {
            return Ok(Done::just(action));
        };
        if let Some(stat) = &there {
            self.clear(&dir, name, stat)?;
        }
        let (above, first_name) = open_above(root, &group.path)?;
        match linkat(&above, first_name, &dir, name, AtFlags::empty()) {
            Ok(()) => {}
            // Another filesystem mounted in the target, or too many names: then it is a file of its own.
            Err(error @ (Errno::XDEV | Errno::MLINK | Errno::PERM | Errno::NOTSUP)) => {
                let copy = self.create(&dir, job)?;
                return Ok(Done { action, wrong: Some(format!("cannot be linked, copied instead: {error}")), ..copy });
            }
            Err(error) => return Err(error.into()),
        }
        if look(&dir, name)?.as_ref().is_some_and(is_first) {
            Ok(Done::just(action))
        } else {
            unlinkat(&dir, name, AtFlags::empty())?;
            Err(Failure::Other("another file took the place of its first name".to_owned()))
        }
    }
}

/// The permissions that a file is made with. Where nobody else can get at it meanwhile, they are those it is to have,
/// unless a new owner would take some away, or they would forbid setting its attributes.
fn first_mode(node: &Node, bare: bool) -> Bits {
    let owners = Bits::RUSR | Bits::WUSR;
    let mode = Bits::from_raw_mode(node.meta.mode);
    let lasting = node.meta.mode & 0o7000 == 0 && (mode.contains(owners) || node.meta.xattrs.is_empty());
    if bare && lasting { mode } else { owners }
}

pub const IN_THE_WAY: &str = "a directory that is not empty is in its place";

/// Removes what is in the way; a directory that is not empty only where deleting was asked for: else `Err(None)`.
pub fn clear(dir: &OwnedFd, name: &[u8], stat: &Stat, delete: bool) -> Result<(), Option<io::Error>> {
    if file_type(stat) != FileType::Directory {
        unlinkat(dir, name, AtFlags::empty()).map_err(|error| Some(error.into()))
    } else if delete {
        remove_all(dir, name).map_err(Some)
    } else if remove_empty(dir, name).map_err(Some)? {
        Ok(())
    } else {
        Err(None)
    }
}

/// How a message calls what verifying found.
pub fn describe(action: Action) -> &'static str {
    match action {
        Action::Create => "is missing",
        Action::Update => "differs: data",
        Action::Attributes => "differs: attributes",
        Action::Replace => "is another kind of file, or has other names",
        Action::Delete => "should not be there",
        Action::Keep => "is as it should be",
    }
}

fn wrong_with(wrote: &Wrote, attributes: Option<String>) -> Option<String> {
    match &wrote.damage {
        Some((offset, error)) => Some(format!("incomplete from byte {offset}: {}", text(error))),
        None => attributes,
    }
}

fn text(error: &TreeError) -> String {
    error.to_string()
}

/// Opens a regular file that was seen, and nothing else that may have taken its name.
fn open_seen(dir: &OwnedFd, name: &[u8], seen: &Stat, may_change: bool) -> io::Result<OwnedFd> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(dir, name, flags | OFlags::RDONLY, Bits::empty()) {
        Err(Errno::ACCESS) if may_change => {
            let path = openat(dir, name, flags | OFlags::PATH, Bits::empty())?;
            if file_type(&fstat(&path)?) != FileType::RegularFile {
                return Err(io::Error::other("changed while it was restored"));
            }
            make_usable(&path, 0o600)?;
            open(proc_path(&path), OFlags::RDONLY | OFlags::CLOEXEC, Bits::empty())?
        }
        other => other?,
    };
    let stat = fstat(&file)?;
    let same = (stat.st_dev, stat.st_ino, stat.st_nlink) == (seen.st_dev, seen.st_ino, seen.st_nlink);
    if same && file_type(&stat) == FileType::RegularFile {
        Ok(file)
    } else {
        Err(io::Error::other("changed while it was restored"))
    }
}

/// Whether what is there is what the node says, but for its attributes. Not for files and directories.
fn is_same_special(dir: &OwnedFd, node: &Node, stat: &Stat) -> io::Result<bool> {
    Ok(match (&node.body, file_type(stat)) {
        (Body::Symlink(to), FileType::Symlink) => readlinkat(dir, &node.name[..], Vec::new())?.as_bytes() == &to[..],
        (Body::BlockDevice(device), FileType::BlockDevice) => stat.st_rdev == *device,
        (Body::CharDevice(device), FileType::CharacterDevice) => stat.st_rdev == *device,
        (Body::Fifo, FileType::Fifo) | (Body::Socket, FileType::Socket) => true,
        _ => false,
    })
}
