//! A directory of a snapshot, or a file, as a tar archive: POSIX's pax form, which keeps names of any bytes and length,
//! sizes, owners, and times to the nanosecond. Streams, with bounded memory. Holes come out as zeros, and sockets,
//! which tar knows nothing of, are left out. Knows nothing of where it goes.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use tar::{Builder, EntryType, Header};

use super::list::{StoredWalk, Visit};
use super::{OpError, error::lossy};
use crate::base::Monitor;
use crate::tree::{Body, Content, Meta, Node, Stored};

/// Bytes that are read of a file at a time.
const PIECE: usize = 1 << 20;
/// What is fetched before it is written.
const AHEAD: u64 = 4 << 20;
/// Names of files that have further names are remembered up to this number; of further ones each name has the data.
const MOST_LINKS: usize = 65_536;
/// What fits into a header's field of octal digits: uid and gid, and size.
const MOST_OWNER: u32 = 0o7_777_777;
const MOST_SIZE: u64 = 0o77_777_777_777;

/// Why an archive, or a file, is not whole. What was written of it does not look whole, either.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Of this path.
    #[error("{}: {source}", lossy(path))]
    Read { path: Vec<u8>, source: OpError },
    /// Whoever it is for takes no more.
    #[error(transparent)]
    Out(#[from] io::Error),
}

/// Writes the data of a file.
///
/// # Errors
/// A part of it that cannot be read, `Interrupted`, and what `out` says.
pub fn write_file(
    stored: &Stored,
    content: &Content,
    out: &mut dyn Write,
    monitor: &dyn Monitor,
) -> Result<(), ArchiveError> {
    let mut data = Data::new(stored, content, monitor);
    match io::copy(&mut data, out) {
        Ok(_) => Ok(()),
        Err(error) => Err(data.failed.map_or(ArchiveError::Out(error), |source| unread(b"", source))),
    }
}

/// Writes `node`, and all below it, with paths that begin with `name`.
///
/// # Errors
/// What cannot be read, `Interrupted`, and what `out` says.
pub fn archive(
    stored: &Stored,
    node: &Node,
    name: &[u8],
    out: &mut dyn Write,
    monitor: &dyn Monitor,
) -> Result<(), ArchiveError> {
    let builder = Builder::new(Gate { out, shut: false });
    let mut archiver = Archiver { stored, builder, links: HashMap::new(), monitor };
    let done = archiver.all(node, name);
    if done.is_err() {
        // A builder that is dropped writes what ends an archive.
        archiver.builder.get_mut().shut = true;
    }
    done?;
    Ok(archiver.builder.into_inner()?.flush()?)
}

fn unread(path: &[u8], source: impl Into<OpError>) -> ArchiveError {
    ArchiveError::Read { path: path.to_vec(), source: source.into() }
}

/// Lets everything through until it is shut.
struct Gate<'a> {
    out: &'a mut dyn Write,
    shut: bool,
}

impl Write for Gate<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.shut { Err(io::ErrorKind::BrokenPipe.into()) } else { self.out.write(bytes) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.shut { Ok(()) } else { self.out.flush() }
    }
}

struct Archiver<'a> {
    stored: &'a Stored,
    builder: Builder<Gate<'a>>,
    /// Paths of files that have further names, by link id, and how many of their names are still to come.
    links: HashMap<u64, (Vec<u8>, u32)>,
    monitor: &'a dyn Monitor,
}

impl Archiver<'_> {
    fn all(&mut self, node: &Node, name: &[u8]) -> Result<(), ArchiveError> {
        self.one(node, name)?;
        let stored = self.stored;
        let mut walk = StoredWalk::new(stored, node, name);
        while let Some(visit) = walk.next().map_err(|error| unread(walk.path(), error))? {
            self.monitor.check().map_err(|interrupted| unread(walk.path(), interrupted))?;
            if let Visit::Met(node) = visit {
                self.one(&node, walk.path())?;
                walk.enter(&node);
            }
        }
        Ok(())
    }

    fn one(&mut self, node: &Node, path: &[u8]) -> Result<(), ArchiveError> {
        let mut records = Records::default();
        let mut header = header(&node.meta, &mut records);
        let linked = self.linked(node);
        let (kind, name) = match &node.body {
            Body::Socket => return Ok(()),
            _ if linked.is_some() => (EntryType::Link, path.to_vec()),
            Body::File(_) => (EntryType::Regular, path.to_vec()),
            Body::Dir(_) => (EntryType::Directory, [path, b"/"].concat()),
            Body::Symlink(_) => (EntryType::Symlink, path.to_vec()),
            Body::BlockDevice(_) => (EntryType::Block, path.to_vec()),
            Body::CharDevice(_) => (EntryType::Char, path.to_vec()),
            Body::Fifo => (EntryType::Fifo, path.to_vec()),
        };
        header.set_entry_type(kind);
        records.text("path", &name, &mut header.as_old_mut().name);
        match (&node.body, &linked) {
            (_, Some(target)) | (Body::Symlink(target), None) => {
                records.text("linkpath", target, &mut header.as_old_mut().linkname);
            }
            (Body::BlockDevice(rdev) | Body::CharDevice(rdev), None) => {
                header.set_device_major(libc::major(*rdev))?;
                header.set_device_minor(libc::minor(*rdev))?;
            }
            (Body::File(content), None) => {
                let length = content.length();
                header.set_size(length);
                records.number("size", length, length > MOST_SIZE);
            }
            _ => {}
        }
        if linked.is_none() {
            self.remember(node, path);
        }
        header.set_cksum();
        self.builder.append_pax_extensions(records.all())?;
        match &node.body {
            Body::File(content) if linked.is_none() => {
                let mut data = Data::new(self.stored, content, self.monitor);
                let written = self.builder.append(&header, &mut data);
                written.map_err(|error| match data.failed {
                    Some(source) => unread(path, source),
                    None => ArchiveError::Out(error),
                })
            }
            _ => Ok(self.builder.append(&header, io::empty())?),
        }
    }

    /// The first name of a file that has been met by another one.
    fn linked(&mut self, node: &Node) -> Option<Vec<u8>> {
        let link = node.meta.link?;
        let (path, left) = self.links.get_mut(&link)?;
        *left -= 1;
        if *left == 0 {
            return self.links.remove(&link).map(|(path, _)| path);
        }
        Some(path.clone())
    }

    fn remember(&mut self, node: &Node, path: &[u8]) {
        let further = node.meta.nlink.saturating_sub(1);
        if let Some(link) = node.meta.link
            && further > 0
            && !node.is_dir()
            && self.links.len() < MOST_LINKS
        {
            self.links.insert(link, (path.to_vec(), further));
        }
    }
}

fn header(meta: &Meta, records: &mut Records) -> Header {
    let mut header = Header::new_ustar();
    header.set_mode(meta.mode);
    header.set_size(0);
    for (key, number) in [("uid", meta.uid), ("gid", meta.gid)] {
        records.number(key, number.into(), number > MOST_OWNER);
    }
    header.set_uid(meta.uid.min(MOST_OWNER).into());
    header.set_gid(meta.gid.min(MOST_OWNER).into());
    header.set_mtime(u64::try_from(meta.mtime.secs).unwrap_or(0).min(MOST_SIZE));
    // As a decimal fraction it counts away from zero, whichever side it is on.
    let time = i128::from(meta.mtime.secs) * 1_000_000_000 + i128::from(meta.mtime.nanos);
    let sign = if time < 0 { "-" } else { "" };
    let (seconds, nanos) = (time.unsigned_abs() / 1_000_000_000, time.unsigned_abs() % 1_000_000_000);
    records.put("mtime", format!("{sign}{seconds}.{nanos:09}").into_bytes());
    if let Some(ustar) = header.as_ustar_mut() {
        records.text("uname", &meta.user, &mut ustar.uname);
        records.text("gname", &meta.group, &mut ustar.gname);
    }
    for xattr in &meta.xattrs {
        // Names that are no text are nobody's.
        if let Ok(name) = str::from_utf8(&xattr.name) {
            records.put(&format!("SCHILY.xattr.{name}"), xattr.value.clone());
        }
    }
    header
}

/// What does not fit into a header.
#[derive(Default)]
struct Records(Vec<(String, Vec<u8>)>);

impl Records {
    fn put(&mut self, key: &str, value: Vec<u8>) {
        self.0.push((key.to_owned(), value));
    }

    fn number(&mut self, key: &str, number: u64, is_needed: bool) {
        if is_needed {
            self.put(key, number.to_string().into_bytes());
        }
    }

    /// Puts what fits into the field, and all of it into a record if it does not fit or is no plain ASCII.
    fn text(&mut self, key: &str, text: &[u8], field: &mut [u8]) {
        let fits = text.len().min(field.len());
        field.fill(0);
        field[..fits].copy_from_slice(&text[..fits]);
        if fits < text.len() || !text.is_ascii() {
            if str::from_utf8(text).is_err() && !self.0.iter().any(|(key, _)| key == "hdrcharset") {
                self.0.insert(0, ("hdrcharset".to_owned(), b"BINARY".to_vec()));
            }
            self.put(key, text.to_vec());
        }
    }

    fn all(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }
}

/// The data of a file, read in pieces of a good size.
struct Data<'a> {
    stored: &'a Stored,
    content: &'a Content,
    monitor: &'a dyn Monitor,
    offset: u64,
    piece: Vec<u8>,
    /// What of the piece has been given.
    given: usize,
    failed: Option<OpError>,
}

impl<'a> Data<'a> {
    fn new(stored: &'a Stored, content: &'a Content, monitor: &'a dyn Monitor) -> Self {
        Self { stored, content, monitor, offset: 0, piece: Vec::new(), given: 0, failed: None }
    }

    fn fill(&mut self) -> Result<(), OpError> {
        self.monitor.check()?;
        let reader = self.stored.content(self.content);
        let left = reader.length().saturating_sub(self.offset);
        self.piece.resize(usize::try_from(left).map_or(PIECE, |left| left.min(PIECE)), 0);
        self.given = 0;
        if !self.piece.is_empty() {
            // What comes next is fetched while this is written.
            reader.hint(self.offset, AHEAD)?;
            reader.read_at(self.offset, &mut self.piece)?;
            self.offset += self.piece.len() as u64;
        }
        Ok(())
    }
}

impl Read for Data<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.given == self.piece.len()
            && let Err(error) = self.fill()
        {
            self.failed = Some(error);
            return Err(io::ErrorKind::InvalidData.into());
        }
        let rest = &self.piece[self.given..];
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        self.given += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::base::Silent;
    use crate::ops::fixture::{Place, Watch};

    #[test]
    fn an_archive_of_what_is_damaged_does_not_look_whole() {
        let place = Place::new();
        let source = place.dir("source");
        fs::write(source.join("a"), vec![7; 100_000]).unwrap();
        let outcome = place.backup(&source, None, &Watch::new());
        let place = place.afresh();
        for pack in place.packs() {
            fs::remove_file(pack).unwrap();
        }
        let (stored, root) = (place.stored(), place.root(&outcome));
        let mut out = Vec::new();
        let failed = archive(&stored, &root, b".", &mut out, &Silent).unwrap_err();
        assert!(matches!(failed, ArchiveError::Read { .. }), "{failed}");
        assert!(!out.ends_with(&[0; 1024]), "no end");
    }

    #[test]
    fn who_takes_no_more_is_not_written_to_again() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::BrokenPipe)?;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let place = Place::new();
        let source = place.dir("source");
        fs::write(source.join("a"), vec![7; 100_000]).unwrap();
        let outcome = place.backup(&source, None, &Watch::new());
        let (stored, root) = (place.stored(), place.root(&outcome));
        let failed = archive(&stored, &root, b".", &mut Full(10_000), &Silent).unwrap_err();
        assert!(matches!(failed, ArchiveError::Out(_)), "{failed}");
    }
}
