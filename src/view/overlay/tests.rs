//! Upper layers made by hand, as the kernel makes them, over a base in memory.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps, UTIME_OMIT, XattrFlags, mknodat, setxattr};

use super::{OverlaySource, OverlayStage};
use crate::base::{SnapshotId, Timestamp};
use crate::repo::MemoryChunks;
use crate::tree::{Body, ContentWriter, Data, DirBuilder, Meta, Node, Run, Source, Step, Stored, TreeError, Walk};
use crate::view::stage::{Keeper, Ledger, NewStage, Receipt, StageHome, find};

struct Place {
    state: tempfile::TempDir,
    base: Option<(Arc<Stored>, Node)>,
}

/// Whiteouts and the overlay's attributes can be made by root alone.
fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("left out: needs root");
    }
    is_root
}

struct Bytes<'a>(&'a [u8]);

impl Data for Bytes<'_> {
    fn next(&mut self, buf: &mut [u8]) -> std::io::Result<Run> {
        let count = self.0.len().min(buf.len());
        buf[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(if count == 0 { Run::End } else { Run::Data(count) })
    }
}

fn meta(nlink: u32) -> Meta {
    let mtime = Timestamp::new(1_700_000_000, 123_456_789);
    Meta { mode: 0o750, user: b"somebody".to_vec(), group: b"some".to_vec(), mtime, nlink, ..Meta::default() }
}

fn file(chunks: &MemoryChunks, name: &str) -> Node {
    let text = name.repeat(1000);
    let mut writer = ContentWriter::new(chunks);
    let length = text.len() as u64;
    let content = writer.store(&mut Bytes(text.as_bytes()), length, name.as_bytes(), &mut |_| Ok(())).unwrap();
    Node { name: name.into(), meta: Meta { size: length, ..meta(1) }, body: Body::File(content) }
}

fn dir(chunks: &MemoryChunks, name: &str, children: &[Node]) -> Node {
    let mut builder = DirBuilder::new(chunks);
    children.iter().for_each(|child| builder.push(child).unwrap());
    Node { name: name.into(), meta: meta(2), body: Body::Dir(builder.finish().unwrap()) }
}

impl Place {
    fn empty() -> Self {
        Self { state: tempfile::tempdir().unwrap(), base: None }
    }

    /// Over `a/{one,two/deep}` and `f`.
    fn over_a_base() -> Self {
        let chunks = Arc::new(MemoryChunks::new());
        let two = dir(&chunks, "two", &[file(&chunks, "deep")]);
        let a = dir(&chunks, "a", &[file(&chunks, "one"), two]);
        let root = dir(&chunks, "", &[a, file(&chunks, "f")]);
        let stored = Arc::new(Stored::new(chunks, Stored::PAGE_BUDGET));
        Self { state: tempfile::tempdir().unwrap(), base: Some((stored, root)) }
    }

    fn stage(&self) -> Arc<OverlayStage> {
        self.open(StageHome::create(self.state.path(), NewStage::of_nothing(Keeper::Overlay)).unwrap())
    }

    fn open(&self, home: StageHome) -> Arc<OverlayStage> {
        let dress = |dir: &File, root: &Node| {
            dir.set_permissions(fs::Permissions::from_mode(root.meta.mode))?;
            set_time(dir, root.meta.mtime);
            Ok(())
        };
        OverlayStage::open(home, self.base.clone(), dress).unwrap()
    }
}

fn set_time(file: &File, time: Timestamp) {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: time.secs, tv_nsec: time.nanos.into() },
    };
    rustix::fs::futimens(file, &times).unwrap();
}

fn whiteout(path: &Path) {
    mknodat(CWD, path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
}

fn mark(path: &Path, name: &str, value: &str) {
    setxattr(path, format!("trusted.overlay.{name}"), value.as_bytes(), XattrFlags::empty()).unwrap();
}

/// Each path with a word for what it is: a directory that was taken over, one that is walked, a file of the base, ...
fn shown(stage: &OverlayStage) -> Result<BTreeMap<String, &'static str>, TreeError> {
    let source = OverlaySource::new(stage).unwrap();
    let mut walk = Walk::new(&source, &source.root()?)?;
    let mut all = BTreeMap::new();
    while let Some(step) = walk.next() {
        let Step::Met(entry) = step? else { continue };
        let word = match (&entry.node.body, entry.known) {
            (Body::Dir(_), true) => "base dir",
            (Body::Dir(_), false) => "dir",
            (Body::File(_), true) => "base",
            (Body::File(_), false) => "file",
            _ => "other",
        };
        all.insert(String::from_utf8_lossy(walk.path()).into_owned(), word);
    }
    Ok(all)
}

fn expect(stage: &OverlayStage, list: &[(&str, &'static str)]) {
    let wanted: BTreeMap<String, &str> = list.iter().map(|(path, word)| ((*path).to_owned(), *word)).collect();
    assert_eq!(shown(stage).unwrap(), wanted);
}

#[test]
fn what_the_upper_layer_does_not_speak_of_is_the_bases() {
    let place = Place::over_a_base();
    let stage = place.stage();
    assert!(OverlaySource::new(&stage).unwrap().is_untouched().unwrap());
    expect(
        &stage,
        &[("a", "base dir"), ("a/one", "base"), ("a/two", "base dir"), ("a/two/deep", "base"), ("f", "base")],
    );
}

#[test]
fn whiteouts_hide_and_directories_are_merged_or_opaque() {
    if !is_root() {
        return;
    }
    let place = Place::over_a_base();
    let stage = place.stage();
    let upper = stage.upper();
    fs::create_dir_all(upper.join("a/two")).unwrap();
    fs::write(upper.join("a/new"), "x").unwrap();
    whiteout(&upper.join("a/one"));
    whiteout(&upper.join("nothing"));
    fs::write(upper.join("f"), "written").unwrap();
    let merged = [("a", "dir"), ("a/new", "file"), ("a/two", "dir"), ("a/two/deep", "base"), ("f", "file")];
    expect(&stage, &merged);
    mark(&upper.join("a/two"), "opaque", "y");
    mark(&upper.join("a"), "impure", "y");
    expect(&stage, &[("a", "dir"), ("a/new", "file"), ("a/two", "dir"), ("f", "file")]);
    assert!(!OverlaySource::new(&stage).unwrap().is_untouched().unwrap());
    // A file in the place of a directory, and the other way round.
    fs::remove_dir(upper.join("a/two")).unwrap();
    fs::write(upper.join("a/two"), "now a file").unwrap();
    fs::remove_file(upper.join("f")).unwrap();
    fs::create_dir(upper.join("f")).unwrap();
    expect(&stage, &[("a", "dir"), ("a/new", "file"), ("a/two", "file"), ("f", "dir")]);
}

#[test]
fn renamed_directories_are_found_where_they_were() {
    if !is_root() {
        return;
    }
    let place = Place::over_a_base();
    let stage = place.stage();
    let upper = stage.upper();
    // a became b, and a/two b/dos; then b/dos/deep was removed and made anew.
    whiteout(&upper.join("a"));
    fs::create_dir_all(upper.join("b/dos")).unwrap();
    mark(&upper.join("b"), "redirect", "a");
    whiteout(&upper.join("b/two"));
    mark(&upper.join("b/dos"), "redirect", "two");
    let all = [("b", "dir"), ("b/dos", "dir"), ("b/dos/deep", "base"), ("b/one", "base"), ("f", "base")];
    expect(&stage, &all);
    // Far from where it was, in a directory that the base does not have.
    fs::create_dir(upper.join("far")).unwrap();
    mark(&upper.join("far"), "opaque", "y");
    fs::rename(upper.join("b/dos"), upper.join("far/away")).unwrap();
    mark(&upper.join("far/away"), "redirect", "/a/two");
    let all = [("b", "dir"), ("b/one", "base"), ("f", "base"), ("far", "dir"), ("far/away", "dir")];
    expect(&stage, &[&all[..], &[("far/away/deep", "base")]].concat());
    mark(&upper.join("far/away"), "redirect", "/a/nothing");
    assert!(shown(&stage).unwrap_err().to_string().contains("away: redirected"));
}

#[test]
fn a_file_whose_attributes_alone_changed_has_the_bases_data() {
    if !is_root() {
        return;
    }
    let place = Place::over_a_base();
    let stage = place.stage();
    let upper = stage.upper();
    let stub = |name: &str| {
        let file = File::create(upper.join(name)).unwrap();
        file.set_len(7).unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
        mark(&upper.join(name), "metacopy", "");
    };
    stub("f");
    stub("elsewhere");
    mark(&upper.join("elsewhere"), "redirect", "/a/one");
    fs::hard_link(upper.join("elsewhere"), upper.join("too")).unwrap();
    let source = OverlaySource::new(&stage).unwrap();
    let all: Vec<_> = source.list(&source.root().unwrap()).unwrap().map(Result::unwrap).collect();
    let node = |name: &str| all.iter().find(|entry| entry.node.name == name.as_bytes()).unwrap();
    let text = |name: &str| {
        let mut data = source.open(node(name)).unwrap();
        let mut buf = [0; 8192];
        let Run::Data(count) = data.next(&mut buf).unwrap() else { panic!("no data") };
        String::from_utf8_lossy(&buf[..count]).into_owned()
    };
    for (name, of) in [("f", "f"), ("elsewhere", "one"), ("too", "one")] {
        assert!(node(name).known && node(name).node.meta.mode == 0o600);
        assert_eq!((node(name).node.meta.size, text(name)), (of.len() as u64 * 1000, of.repeat(1000)));
        assert!(node(name).node.meta.xattrs.is_empty());
    }
    let (one, too) = (&node("elsewhere").node.meta, &node("too").node.meta);
    assert_eq!((one.nlink, one.link), (2, too.link));
    // An inode number would be a link id that the base may have as well.
    assert!(one.link.is_some() && one.link != Some(fs::metadata(upper.join("too")).unwrap().ino()));
    stub("stray");
    let stray = source.list(&source.root().unwrap()).unwrap().find_map(Result::err);
    assert!(stray.unwrap().to_string().contains("stray: its data"));
}

#[test]
fn a_directory_copied_up_for_what_is_below_it_is_the_bases_to_the_last_attribute() {
    let place = Place::over_a_base();
    let stage = place.stage();
    let dir = stage.upper().join("a");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("one"), "changed").unwrap();
    let source = OverlaySource::new(&stage).unwrap();
    let read = || source.list(&source.root().unwrap()).unwrap().next().unwrap().unwrap().node.meta;
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let open = File::open(&dir).unwrap();
    open.set_permissions(fs::Permissions::from_mode(0o750)).unwrap();
    set_time(&open, meta(2).mtime);
    if (uid, gid) == (0, 0) {
        assert_eq!(read(), meta(2));
    }
    open.set_permissions(fs::Permissions::from_mode(0o700)).unwrap();
    let now = read();
    assert_eq!((now.mode, now.mtime, now.stamp, now.nlink), (0o700, meta(2).mtime, None, 2));
    // Names that this machine does not know stay with the numbers that they came with.
    assert_eq!(now.user == b"somebody", uid == 0);
}

#[test]
fn an_overlay_without_a_base_is_what_was_written() {
    let place = Place::empty();
    let stage = place.stage();
    let source = OverlaySource::new(&stage).unwrap();
    assert!(source.is_untouched().unwrap());
    assert_eq!(source.root().unwrap().node.meta.mode, 0o755);
    fs::create_dir(stage.upper().join("d")).unwrap();
    expect(&stage, &[("d", "dir")]);
    fs::remove_dir(stage.upper().join("d")).unwrap();
    // Something happened: the directory has another time.
    assert!(!OverlaySource::new(&stage).unwrap().is_untouched().unwrap());
}

#[test]
fn what_is_known_of_commits_outlives_the_process() {
    let place = Place::empty();
    let stage = place.stage();
    let id = stage.home().info().id;
    assert_eq!((stage.sequence().unwrap(), stage.last_snapshot().unwrap()), (0, None));
    stage.begin().unwrap();
    assert_eq!(stage.commit_id(0), id);
    drop(stage);
    let info = || find(place.state.path(), &id.to_string()).unwrap();
    let stage = place.open(StageHome::open(&info()).unwrap());
    assert!(stage.is_undecided().unwrap());
    stage.finish(Some(SnapshotId([5; 32]))).unwrap();
    stage.begin().unwrap();
    stage.finish(None).unwrap();
    drop(stage);
    let stage = place.open(StageHome::open(&info()).unwrap());
    assert_eq!((stage.sequence().unwrap(), stage.is_undecided().unwrap()), (2, false));
    assert_eq!(stage.last_snapshot().unwrap(), Some(SnapshotId([5; 32])));
    stage.close(&Receipt::default()).unwrap();
    stage.clear();
    assert!(!stage.upper().exists() && !stage.work().exists() && !stage.lower().exists());
}
