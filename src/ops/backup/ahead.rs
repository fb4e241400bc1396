//! Listing a source in a thread of its own, some way ahead of the backup that takes it up: while one asks the system
//! about files, the other compares and stores. Knows nothing of what becomes of the entries.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::thread::Scope;

use crossbeam_channel::{Receiver, SendError, Sender, bounded};

use crate::tree::{Entries, Entry, Source, TreeError};

/// How many events pass from thread to thread at a time, and how many such batches may wait. Together they bound the
/// memory taken, and for how long what was seen of a file is held to be true.
const BATCH: usize = 64;
const WAITING: usize = 8;

#[expect(clippy::large_enum_variant, reason = "nearly all are entries; boxing would cost an allocation each")]
enum Event<P> {
    /// A directory is opened: the root, or the one that was the last entry. Its entries follow unless it failed.
    Begun(Result<(), TreeError>),
    Entry(Result<Entry<P>, TreeError>),
    /// The directory opened last has no more entries.
    Ended,
}

/// What the thread that lists found, in the order of a walk: whoever takes a directory from it lists that next.
pub struct Ahead<P>(Rc<RefCell<Found<P>>>);

struct Found<P> {
    batches: Receiver<Vec<Event<P>>>,
    batch: VecDeque<Event<P>>,
}

impl<P> Found<P> {
    fn next(&mut self) -> Result<Event<P>, TreeError> {
        if self.batch.is_empty() {
            self.batch = self.batches.recv().map_err(|_| lost())?.into();
        }
        self.batch.pop_front().ok_or_else(lost)
    }
}

/// The thread ends before the walk does only if it panics, which is passed on where it is joined.
fn lost() -> TreeError {
    TreeError::io(Vec::new(), io::Error::other("the thread that lists the source has ended"))
}

impl<P: Clone + Send> Ahead<P> {
    /// Begins to list everything below `root`, where a thread can be had. Directories whose data is stored are listed
    /// only if `all` are to be.
    pub fn start<'scope, S: Source<Place = P>>(
        scope: &'scope Scope<'scope, '_>,
        source: &'scope S,
        root: &Entry<P>,
        all: bool,
    ) -> Option<Self>
    where
        P: 'scope,
    {
        let (out, batches) = bounded(WAITING);
        let root = root.clone();
        let list = move || {
            let mut lister = Lister { source, all, out, batch: Vec::with_capacity(BATCH) };
            // Nobody takes it up any more: the backup has failed or was interrupted.
            if lister.walk(&root).is_err() {
                log::debug!("listing is given up");
            }
        };
        if let Err(error) = std::thread::Builder::new().name("list".to_owned()).spawn_scoped(scope, list) {
            log::debug!("no thread to list ahead: {error}");
            return None;
        }
        Some(Self(Rc::new(RefCell::new(Found { batches, batch: VecDeque::new() }))))
    }

    /// The entries of the directory that was taken last; of the root, first of all.
    ///
    /// # Errors
    /// As `Source::list`.
    pub fn list<'a>(&self) -> Result<Entries<'a, P>, TreeError>
    where
        P: 'a,
    {
        match self.0.borrow_mut().next()? {
            Event::Begun(begun) => begun?,
            Event::Entry(_) | Event::Ended => return Err(lost()),
        }
        Ok(Box::new(Listing { found: Rc::clone(&self.0), ended: false }))
    }
}

struct Listing<P> {
    found: Rc<RefCell<Found<P>>>,
    ended: bool,
}

impl<P> Iterator for Listing<P> {
    type Item = Result<Entry<P>, TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let event = self.found.borrow_mut().next();
        self.ended = !matches!(event, Ok(Event::Entry(_)));
        match event {
            Ok(Event::Entry(entry)) => Some(entry),
            Ok(Event::Ended) => None,
            Ok(Event::Begun(_)) => Some(Err(lost())),
            Err(error) => Some(Err(error)),
        }
    }
}

struct Lister<'a, S: Source> {
    source: &'a S,
    all: bool,
    out: Sender<Vec<Event<S::Place>>>,
    batch: Vec<Event<S::Place>>,
}

type Refused<P> = SendError<Vec<Event<P>>>;

impl<'a, S: Source> Lister<'a, S> {
    /// With a stack of its own: depth costs no call frames.
    fn walk(&mut self, root: &Entry<S::Place>) -> Result<(), Refused<S::Place>> {
        let mut stack = Vec::new();
        self.begin(root, &mut stack)?;
        while let Some(entries) = stack.last_mut() {
            let Some(entry) = entries.next() else {
                stack.pop();
                self.tell(Event::Ended)?;
                continue;
            };
            let below = entry.as_ref().ok().filter(|entry| entry.node.is_dir() && (self.all || !entry.known)).cloned();
            self.tell(Event::Entry(entry))?;
            if let Some(dir) = below {
                self.begin(&dir, &mut stack)?;
            }
        }
        self.out.send(std::mem::take(&mut self.batch))
    }

    fn begin(
        &mut self,
        dir: &Entry<S::Place>,
        stack: &mut Vec<Entries<'a, S::Place>>,
    ) -> Result<(), Refused<S::Place>> {
        let begun = self.source.list(dir).map(|entries| stack.push(entries));
        self.tell(Event::Begun(begun))
    }

    fn tell(&mut self, event: Event<S::Place>) -> Result<(), Refused<S::Place>> {
        self.batch.push(event);
        if self.batch.len() < BATCH {
            return Ok(());
        }
        self.out.send(std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::ops::fixture::disk;
    use crate::tree::{Step, Walk};

    /// What a walk of the source meets, listed directly or ahead, as lines.
    fn met(dir: &Path, ahead: bool) -> Vec<String> {
        let source = disk(&[dir]);
        let root = source.root().unwrap();
        let mut lines = Vec::new();
        if !ahead {
            for step in Walk::new(&source, &root).unwrap() {
                lines.push(match step {
                    Ok(Step::Met(entry)) => String::from_utf8(entry.node.name).unwrap(),
                    Ok(Step::Left) => "left".to_owned(),
                    Err(error) => error.to_string(),
                });
            }
            return lines;
        }
        std::thread::scope(|scope| {
            let ahead = Ahead::start(scope, &source, &root, false).unwrap();
            let mut stack = vec![ahead.list().unwrap()];
            while let Some(entries) = stack.last_mut() {
                match entries.next() {
                    Some(Ok(entry)) => {
                        let is_dir = entry.node.is_dir();
                        lines.push(String::from_utf8(entry.node.name).unwrap());
                        match is_dir.then(|| ahead.list()) {
                            Some(Ok(entries)) => stack.push(entries),
                            Some(Err(error)) => lines.push(error.to_string()),
                            None => {}
                        }
                    }
                    Some(Err(error)) => lines.push(error.to_string()),
                    None => {
                        assert!(entries.next().is_none(), "an end stays one");
                        stack.pop();
                        lines.extend((!stack.is_empty()).then(|| "left".to_owned()));
                    }
                }
            }
        });
        lines
    }

    #[test]
    fn what_is_listed_ahead_is_what_a_walk_meets() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(met(temp.path(), true), met(temp.path(), false));
        for number in 0..20 {
            let dir = temp.path().join(format!("{number}/below/{number}"));
            fs::create_dir_all(&dir).unwrap();
            (0..2 * BATCH).for_each(|file| fs::write(dir.join(format!("{file}")), "").unwrap());
        }
        let lines = met(temp.path(), true);
        assert!(lines.len() > 2 * BATCH * WAITING, "{}", lines.len());
        assert_eq!(lines, met(temp.path(), false));
    }

    #[test]
    fn whoever_takes_up_no_more_ends_the_listing() {
        let temp = tempfile::tempdir().unwrap();
        (0..4 * BATCH * WAITING).for_each(|file| fs::write(temp.path().join(format!("{file}")), "").unwrap());
        let source = disk(&[temp.path()]);
        let root = source.root().unwrap();
        // Would wait forever for the thread if it went on.
        std::thread::scope(|scope| {
            let ahead = Ahead::start(scope, &source, &root, false).unwrap();
            assert_eq!(ahead.list().unwrap().take(3).filter(Result::is_ok).count(), 3);
        });
    }
}
