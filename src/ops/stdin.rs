//! A stream as a source of one file: what `backup --stdin` stores.

use std::io::{self, Read};
use std::sync::Mutex;

use crate::base::Timestamp;
use crate::tree::{Body, Content, Data, DirRef, Entries, Entry, Meta, Node, Run, Source, TreeError};

/// A directory that holds one file, whose data is read from a stream, once.
pub struct StreamSource<R> {
    name: Vec<u8>,
    meta: Meta,
    stream: Mutex<Option<R>>,
}

impl<R: Read + Send> StreamSource<R> {
    /// The file is called `name` (its last part, should it have several) and belongs to this process's user.
    ///
    /// # Errors
    /// A name that a file cannot have.
    pub fn new(name: &[u8], mtime: Timestamp, stream: R) -> Result<Self, TreeError> {
        let name = name.rsplit(|&byte| byte == b'/').find(|part| !part.is_empty()).unwrap_or_default();
        if matches!(name, b"" | b"." | b"..") || name.len() > 255 || name.contains(&0) {
            return Err(TreeError::Unstorable { name: name.to_vec(), what: "not a file's name" });
        }
        let meta = Meta {
            mode: 0o600,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            mtime,
            nlink: 1,
            ..Meta::default()
        };
        Ok(Self { name: name.to_vec(), meta, stream: Mutex::new(Some(stream)) })
    }
}

impl<R: Read + Send> Source for StreamSource<R> {
    /// Whether it is the file.
    type Place = bool;

    fn root(&self) -> Result<Entry<bool>, TreeError> {
        let meta = Meta { mode: 0o700, nlink: 2, ..self.meta.clone() };
        // A placeholder: what is in it is not known yet.
        let nothing = DirRef { id: crate::base::ChunkId([0; 32]), entries: 0, nodes: 0, bytes: 0 };
        Ok(Entry::new(Node { name: Vec::new(), meta, body: Body::Dir(nothing) }, false))
    }

    fn list<'a>(&'a self, _dir: &Entry<bool>) -> Result<Entries<'a, bool>, TreeError> {
        let body = Body::File(Content::default());
        let node = Node { name: self.name.clone(), meta: self.meta.clone(), body };
        Ok(Box::new(std::iter::once(Ok(Entry::new(node, true)))))
    }

    fn open<'a>(&'a self, _file: &Entry<bool>) -> Result<Box<dyn Data + Send + 'a>, TreeError> {
        let stream = self.stream.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        match stream {
            Some(stream) => Ok(Box::new(StreamData(stream))),
            None => Err(TreeError::io(self.name.clone(), io::Error::other("a stream can be read only once"))),
        }
    }

    fn settled(&self, _file: &Entry<bool>) -> Result<Option<Meta>, TreeError> {
        Ok(None)
    }
}

struct StreamData<R>(R);

impl<R: Read> Data for StreamData<R> {
    fn next(&mut self, buf: &mut [u8]) -> io::Result<Run> {
        match self.0.read(buf) {
            Ok(0) => Ok(Run::End),
            Ok(count) => Ok(Run::Data(count)),
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                Ok(Run::Nothing)
            }
            Err(error) => Err(error),
        }
    }
}
