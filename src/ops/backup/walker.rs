//! The walk of a backup: a source and the parent's tree in lock-step, with a stack of its own. Each directory is
//! written when all that is in it has been.

use std::thread::Scope;

use crate::base::{ChunkId, Counter, Monitor, Problem, Timestamp};
use crate::repo::{ChunkSink, Era, Indexed, Totals};
use crate::tree::{
    Body, Content, ContentWriter, DirBuilder, Entries, Entry, Listing, Merge, Meta, Named, Node, Pair, Placed,
    SideError, Source, Start, Stored, TreeError, merge_by_name,
};

use super::BackupRequest;
use super::ahead::Ahead;
use super::count::{NOTHING, count_entry};
use super::links::{Linked, Links};
use crate::ops::OpError;

/// What a walk made.
pub struct Made {
    pub root: Node,
    /// Without what only the writer knows.
    pub totals: Totals,
    /// Whether directories were taken over unwalked, so that the totals do not count what is in them.
    pub taken_over: bool,
    /// Whether all files' data was stored, or found in the repository: nothing was taken over on the source's word.
    pub found: bool,
}

pub struct Walker<'a, S: Source> {
    repo: &'a Indexed,
    source: &'a S,
    sink: &'a dyn ChunkSink,
    /// Where the parent's tree is read.
    stored: &'a Stored,
    request: &'a BackupRequest,
    monitor: &'a dyn Monitor,
    contents: ContentWriter<'a>,
    links: Links,
    made: Made,
    /// Whether chunks of the parent, or of what the source takes things over from, may be gone.
    has_lost: bool,
    /// While it lasts, what the parent's tree needs is known to be in the local index.
    whole: Option<Era>,
    /// Where the source is listed by another thread.
    ahead: Option<Ahead<S::Place>>,
    /// Of what is being worked on, below the root.
    path: Vec<u8>,
}

type Base<'a> = std::iter::Flatten<std::option::IntoIter<Listing<'a>>>;

/// A directory that is being walked.
struct Frame<'a, P> {
    node: Node,
    pairs: Merge<Entry<P>, Placed, Entries<'a, P>, Base<'a>>,
    builder: DirBuilder<'a>,
    /// The length of the path of the directory it is in.
    above: usize,
}

/// Coarsest steps of the clocks that filesystems stamp changes with: a change within one step of an earlier one may
/// leave the same stamp. Filesystems whose stamps show no nanoseconds count in seconds, the worst in two.
const FINE_CLOCK_NS: i128 = 20_000_000;
const COARSE_CLOCK_NS: i128 = 2_000_000_000;

impl<'a, S: Source> Walker<'a, S> {
    pub fn new(
        repo: &'a Indexed,
        source: &'a S,
        sink: &'a dyn ChunkSink,
        stored: &'a Stored,
        request: &'a BackupRequest,
        has_lost: bool,
        monitor: &'a dyn Monitor,
    ) -> Self {
        let nothing = Node { name: Vec::new(), meta: Meta::default(), body: Body::Fifo };
        Self {
            repo,
            source,
            sink,
            stored,
            request,
            monitor,
            contents: ContentWriter::new(sink),
            links: Links::default(),
            made: Made { root: nothing, totals: NOTHING, taken_over: false, found: true },
            path: Vec::new(),
            has_lost,
            whole: None,
            ahead: None,
        }
    }

    /// As long as the era lasts, what the parent's tree needs is taken to be in the local index.
    pub fn relying_on(self, whole: Option<Era>) -> Self {
        Self { whole, ..self }
    }

    pub fn run(self, base: Option<&Node>) -> Result<Made, OpError> {
        std::thread::scope(|scope| self.run_in(scope, base))
    }

    fn run_in<'scope>(mut self, scope: &'scope Scope<'scope, '_>, base: Option<&Node>) -> Result<Made, OpError>
    where
        'a: 'scope,
    {
        let mut root = self.source.root()?;
        root.known = root.known && self.is_sound(&root.node)?;
        self.count(&root.node, root.known);
        self.tell(root.problem.as_deref())?;
        if root.known {
            self.made.taken_over = true;
            self.made.found = false;
            self.made.root = root.node;
            return Ok(self.made);
        }
        if self.source.lists_ahead() {
            self.ahead = Ahead::start(scope, self.source, &root, self.has_lost);
        }
        let listing = self.list(&root)?;
        let mut stack = vec![self.frame(root.node, listing, base, 0)];
        while let Some(frame) = stack.last_mut() {
            self.monitor.check()?;
            match frame.pairs.next() {
                Some(Ok(Pair::Right(_))) => {}
                Some(Ok(Pair::Left(entry))) => self.meet(entry, None, &mut stack)?,
                Some(Ok(Pair::Both(entry, base))) => self.meet(entry, Some(&base.node), &mut stack)?,
                Some(Err(SideError::Left(error))) => self.leave_out(error)?,
                // The parent only spares work: what cannot be read of it is read from the source.
                Some(Err(SideError::Right(error))) => log::warn!("parent snapshot: {error}"),
                None => self.close(&mut stack)?,
            }
        }
        Ok(self.made)
    }

    fn frame(
        &self,
        node: Node,
        listing: Entries<'a, S::Place>,
        base: Option<&Node>,
        above: usize,
    ) -> Frame<'a, S::Place> {
        let base = base.and_then(Node::dir).map(|dir| self.stored.entries(dir, Start::Beginning));
        let pairs = merge_by_name(listing, base.into_iter().flatten());
        Frame { node, pairs, builder: DirBuilder::new(self.sink), above }
    }

    /// The entries of the root, or of the directory that was met last.
    fn list(&self, dir: &Entry<S::Place>) -> Result<Entries<'a, S::Place>, TreeError> {
        self.ahead.as_ref().map_or_else(|| self.source.list(dir), Ahead::list)
    }

    /// Deals with one entry of the directory on top of the stack.
    fn meet(
        &mut self,
        mut entry: Entry<S::Place>,
        base: Option<&Node>,
        stack: &mut Vec<Frame<'a, S::Place>>,
    ) -> Result<(), OpError> {
        let above = self.path.len();
        if above > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(entry.name());
        self.source.complete(&mut entry);
        entry.known = entry.known && self.is_sound(&entry.node)?;
        if entry.node.is_dir() && !entry.known {
            match self.list(&entry) {
                Ok(listing) => {
                    self.count(&entry.node, false);
                    self.tell(entry.problem.as_deref())?;
                    stack.push(self.frame(entry.node, listing, base, above));
                    return Ok(());
                }
                Err(error) => self.leave_out(error)?,
            }
        } else if let Some(node) = self.complete(entry, base)? {
            self.push(&node, stack)?;
        }
        self.path.truncate(above);
        Ok(())
    }

    /// Writes the directory on top of the stack, of which everything was met.
    fn close(&mut self, stack: &mut Vec<Frame<'a, S::Place>>) -> Result<(), OpError> {
        let Some(Frame { mut node, builder, above, .. }) = stack.pop() else { return Ok(()) };
        node.body = Body::Dir(builder.finish()?);
        if stack.is_empty() {
            self.made.root = node;
        } else {
            self.push(&node, stack)?;
        }
        self.path.truncate(above);
        Ok(())
    }

    fn push(&mut self, node: &Node, stack: &mut [Frame<'a, S::Place>]) -> Result<(), OpError> {
        match stack.last_mut().map(|frame| frame.builder.push(node)) {
            Some(Err(error)) => self.leave_out(error),
            _ => Ok(()),
        }
    }

    /// The entry's node with its data stored; `None` where it cannot be had.
    fn complete(&mut self, mut entry: Entry<S::Place>, base: Option<&Node>) -> Result<Option<Node>, OpError> {
        self.monitor.current(&self.path);
        if entry.known || !matches!(entry.node.body, Body::File(_)) {
            self.made.taken_over |= entry.node.is_dir();
            self.made.found &= !entry.known;
            self.count(&entry.node, entry.known);
            self.tell(entry.problem.as_deref())?;
            return Ok(Some(entry.node));
        }
        if let Some(content) = self.unchanged(&entry.node, base)? {
            self.count(&entry.node, entry.known);
            self.tell(entry.problem.as_deref())?;
            return Ok(Some(Node { body: Body::File(content), ..entry.node }));
        }
        if let Some(Linked { content, stamp }) = self.links.take(&entry.node.meta) {
            return Ok(Some(self.read_file(entry, content, stamp)?));
        }
        if self.ahead.is_some() {
            self.look_again(&mut entry);
        }
        let before = Timestamp::now();
        match self.read(&entry) {
            Ok(content) => {
                let stamp = entry.node.meta.stamp.filter(|stamp| is_settled(stamp.ctime, before));
                self.links.remember(&entry.node.meta, || Linked { content: content.clone(), stamp });
                if let Err(error) = self.source.stored(&entry, &content) {
                    log::warn!("{error}");
                }
                self.notice_change(&entry, &content)?;
                Ok(Some(self.read_file(entry, content, stamp)?))
            }
            Err(OpError::Tree(error)) => self.leave_out(error).map(|()| None),
            Err(error) => Err(error),
        }
    }

    /// Brings up to date what was seen of a file a while ago: that it changed since is no change while it is read.
    fn look_again(&self, entry: &mut Entry<S::Place>) {
        // One that is gone shows when it is opened.
        if let Ok(Some(now)) = self.source.settled(entry) {
            let meta = &mut entry.node.meta;
            *meta = Meta { xattrs: std::mem::take(&mut meta.xattrs), ..now };
        }
    }

    fn read_file(
        &mut self,
        entry: Entry<S::Place>,
        content: Content,
        stamp: Option<crate::tree::Stamp>,
    ) -> Result<Node, OpError> {
        let mut node = entry.node;
        node.meta.size = content.length();
        node.meta.stamp = stamp;
        node.body = Body::File(content);
        self.count(&node, false);
        self.tell(entry.problem.as_deref())?;
        Ok(node)
    }

    /// The parent's content, if it surely is the file's and still in the repository.
    fn unchanged(&self, node: &Node, base: Option<&Node>) -> Result<Option<Content>, OpError> {
        let Some(Node { meta, body: Body::File(content), .. }) = base else { return Ok(None) };
        let same = meta.stamp.is_some()
            && meta.stamp == node.meta.stamp
            && meta.mtime == node.meta.mtime
            && meta.size == node.meta.size;
        if !same || self.request.force_read {
            return Ok(None);
        }
        let known = !self.has_lost && self.whole.is_some_and(|era| self.repo.era() == Some(era));
        Ok((known || self.is_there(content)?).then(|| content.clone()))
    }

    /// Whether stored content is in the repository: its topmost chunks, and if anything at all is lost, every chunk.
    fn is_there(&self, content: &Content) -> Result<bool, OpError> {
        let mut there = true;
        for id in content.pieces.iter().filter_map(|piece| piece.id.as_ref()) {
            there = there && self.repo.contains(id)?;
        }
        if !there || content.level == 0 || !self.has_lost {
            return Ok(there);
        }
        let mut each = |id: &ChunkId, _| {
            there = there && self.repo.contains(id)?;
            Ok::<(), OpError>(())
        };
        match self.stored.each_chunk(content, &mut each) {
            Ok(()) => Ok(there),
            Err(error) if error.is_damage() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether what the source knows without looking can be taken over. If anything is lost, directories are walked
    /// all the same, and files must be there.
    fn is_sound(&self, node: &Node) -> Result<bool, OpError> {
        match &node.body {
            _ if !self.has_lost => Ok(true),
            Body::Dir(_) => Ok(false),
            Body::File(content) => self.is_there(content),
            _ => Ok(true),
        }
    }

    fn read(&mut self, entry: &Entry<S::Place>) -> Result<Content, OpError> {
        let mut data = self.source.open(entry)?;
        self.monitor.count(Counter::FilesRead, 1);
        let monitor = self.monitor;
        let mut progress = |bytes| {
            monitor.count(Counter::BytesRead, bytes);
            monitor.check()
        };
        Ok(self.contents.store(&mut *data, entry.node.meta.size, &self.path, &mut progress)?)
    }

    fn notice_change(&mut self, entry: &Entry<S::Place>, content: &Content) -> Result<(), OpError> {
        let seen = &entry.node.meta;
        let changed = match self.source.settled(entry) {
            Ok(None) => false,
            Ok(Some(now)) => now.size != content.length() || now.mtime != seen.mtime || now.stamp != seen.stamp,
            Err(error) if error.is_local() => true,
            Err(error) => return Err(error.into()),
        };
        if changed { self.problem("changed while it was read; stored as read".to_owned()) } else { Ok(()) }
    }

    fn count(&mut self, node: &Node, known: bool) {
        count_entry(&mut self.made.totals, node);
        self.monitor.count(if node.is_dir() { Counter::Dirs } else { Counter::Files }, 1);
        let bytes = match &node.body {
            Body::File(_) => node.meta.size,
            // Of a directory that will be walked, this is a placeholder.
            Body::Dir(dir) if known => dir.bytes,
            _ => 0,
        };
        self.monitor.count(Counter::Bytes, bytes);
    }

    /// Reports what cannot be had; an error that is not of one path only is passed on.
    fn leave_out(&mut self, error: TreeError) -> Result<(), OpError> {
        match error {
            TreeError::Io { path, source } => self.problem_at(path, source.to_string()),
            TreeError::Unstorable { what, .. } => self.problem(format!("cannot be stored: {what}")),
            other => Err(other.into()),
        }
    }

    fn tell(&mut self, problem: Option<&str>) -> Result<(), OpError> {
        problem.map_or(Ok(()), |message| self.problem(message.to_owned()))
    }

    fn problem(&mut self, message: String) -> Result<(), OpError> {
        self.problem_at(self.path.clone(), message)
    }

    fn problem_at(&mut self, path: Vec<u8>, message: String) -> Result<(), OpError> {
        if self.request.whole {
            return Err(OpError::Incomplete { path, message });
        }
        self.made.totals.problems += 1;
        self.monitor.problem(Problem { path, message });
        Ok(())
    }
}

/// Whether a change that happens at `now` or later surely gets another stamp.
fn is_settled(ctime: Timestamp, now: Timestamp) -> bool {
    let nanos = |time: Timestamp| i128::from(time.secs) * 1_000_000_000 + i128::from(time.nanos);
    let step = if ctime.nanos == 0 { COARSE_CLOCK_NS } else { FINE_CLOCK_NS };
    nanos(now) - nanos(ctime) > step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_as_young_as_a_clock_step_does_not_count() {
        let at = |nanos: i64| Timestamp::new(100 + nanos / 1_000_000_000, (nanos % 1_000_000_000) as u32);
        assert!(!is_settled(at(5), at(10_000_005)) && is_settled(at(5), at(30_000_005)));
        assert!(!is_settled(at(0), at(1_500_000_000)) && is_settled(at(0), at(2_500_000_000)));
        assert!(!is_settled(at(5_000_000_005), at(5)), "a stamp of the future");
    }
}
