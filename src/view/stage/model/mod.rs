//! Tests of the whole overlay: random operations on a stage and on a simple model in memory, crashes in between,
//! commits that become the base of the next stage; all the while both must show the same.

pub(super) mod fixture;
mod reference;

use std::sync::Arc;

use proptest::prelude::*;

use self::fixture::{Place, store};
use self::reference::{Reference, compare, dirs, files, path_to};
use crate::repo::MemoryChunks;
use crate::tree::Stored;
use crate::view::FsError;
use crate::view::stage::{Caller, ROOT, RenameHow, SetAttr, SetHow, SetTime, Stage};

pub(super) const ROOT_CALLER: Caller = Caller { uid: 0, gid: 0, pid: 1 };

/// One operation. Numbers choose among what there is.
#[derive(Debug, Clone)]
enum Op {
    Create(u8, u8),
    Mkdir(u8, u8),
    Symlink(u8, u8),
    Fifo(u8, u8),
    Link(u8, u8, u8),
    Unlink(u8, u8),
    Rmdir(u8, u8),
    Rename((u8, u8), (u8, u8), u8),
    Write(u8, u32, u32, u8),
    Truncate(u8, u32),
    Punch(u8, u32, u32),
    Zero(u8, u32, u32, bool),
    Allocate(u8, u32, u32, bool),
    Copy(u8, u32, u8, u32, u32),
    Chmod(u8, u16),
    Mtime(u8, u32),
    Xattr(u8, u8, Option<u8>),
    Fsync(u8),
    /// Lose the last name, write and read, be forgotten.
    Orphan(u8, u8),
    Crash,
}

/// Around the blocks in which the base is overwritten.
fn offset() -> impl Strategy<Value = u32> {
    prop_oneof![0..300u32, 65_400..65_700u32, 131_000..131_200u32, 0..200_000u32, Just(65_536), Just(131_072)]
}

fn length() -> impl Strategy<Value = u32> {
    prop_oneof![1..200u32, 1..70_000u32, Just(65_536)]
}

fn op() -> impl Strategy<Value = Op> {
    let name = || 0..6u8;
    prop_oneof![
        4 => (any::<u8>(), name()).prop_map(|(d, n)| Op::Create(d, n)),
        3 => (any::<u8>(), name()).prop_map(|(d, n)| Op::Mkdir(d, n)),
        1 => (any::<u8>(), name()).prop_map(|(d, n)| Op::Symlink(d, n)),
        1 => (any::<u8>(), name()).prop_map(|(d, n)| Op::Fifo(d, n)),
        2 => (any::<u8>(), any::<u8>(), name()).prop_map(|(f, d, n)| Op::Link(f, d, n)),
        3 => (any::<u8>(), name()).prop_map(|(d, n)| Op::Unlink(d, n)),
        2 => (any::<u8>(), name()).prop_map(|(d, n)| Op::Rmdir(d, n)),
        5 => ((any::<u8>(), name()), (any::<u8>(), name()), 0..6u8).prop_map(|(a, b, h)| Op::Rename(a, b, h)),
        6 => (any::<u8>(), offset(), length(), 1..255u8).prop_map(|(f, o, l, b)| Op::Write(f, o, l, b)),
        3 => (any::<u8>(), offset()).prop_map(|(f, s)| Op::Truncate(f, s)),
        2 => (any::<u8>(), offset(), length()).prop_map(|(f, o, l)| Op::Punch(f, o, l)),
        1 => (any::<u8>(), offset(), length(), any::<bool>()).prop_map(|(f, o, l, k)| Op::Zero(f, o, l, k)),
        1 => (any::<u8>(), offset(), length(), any::<bool>()).prop_map(|(f, o, l, k)| Op::Allocate(f, o, l, k)),
        1 => (any::<u8>(), offset(), any::<u8>(), offset(), length())
            .prop_map(|(f, a, t, b, l)| Op::Copy(f, a, t, b, l)),
        1 => (any::<u8>(), 0..0o1000u16).prop_map(|(f, m)| Op::Chmod(f, m)),
        1 => (any::<u8>(), any::<u32>()).prop_map(|(f, t)| Op::Mtime(f, t)),
        2 => (any::<u8>(), 0..3u8, any::<Option<u8>>()).prop_map(|(f, n, v)| Op::Xattr(f, n, v)),
        1 => any::<u8>().prop_map(Op::Fsync),
        1 => (any::<u8>(), name()).prop_map(|(d, n)| Op::Orphan(d, n)),
        1 => Just(Op::Crash),
    ]
}

fn ino_of(stage: &Stage, path: &[Vec<u8>]) -> u64 {
    path.iter().fold(ROOT, |ino, name| stage.lookup(ino, name).unwrap().ino)
}

fn kind<T: std::fmt::Debug>(result: &Result<T, FsError>) -> String {
    match result {
        Ok(_) => "done".into(),
        Err(error) => error.to_string(),
    }
}

fn name(number: u8) -> Vec<u8> {
    // Of different lengths, and in an order that is not that of the numbers.
    [&b"f"[..], b"b", b"file", b"a\xff", b"zz", b"0"][number as usize % 6].to_vec()
}

/// Applies an operation to both, which must agree on how it ends.
fn apply(stage: &Stage, model: &mut Reference, op: &Op) {
    let dir = |model: &Reference, number: u8| dirs(model)[number as usize % dirs(model).len()].clone();
    let all = files(model);
    let file = |number: u8| (!all.is_empty()).then(|| all[number as usize % all.len()].clone());
    let ino = |path: &[Vec<u8>]| ino_of(stage, path);
    let (got, wanted) = match op {
        Op::Create(d, n) => {
            let (path, name) = (dir(model, *d), name(*n));
            let made = stage.mknod(ino(&path), &name, libc::S_IFREG | 0o644, 0o022, 0, ROOT_CALLER);
            (kind(&made), model.make(&path, &name, reference::Body::File(Vec::new()), 0o644))
        }
        Op::Mkdir(d, n) => {
            let (path, name) = (dir(model, *d), name(*n));
            let made = stage.mkdir(ino(&path), &name, 0o777, 0o027, ROOT_CALLER);
            (kind(&made), model.make(&path, &name, reference::Body::Dir(Default::default()), 0o750))
        }
        Op::Symlink(d, n) => {
            let (path, name) = (dir(model, *d), name(*n));
            let made = stage.symlink(ino(&path), &name, b"../target", ROOT_CALLER);
            (kind(&made), model.make(&path, &name, reference::Body::Symlink(b"../target".to_vec()), 0o777))
        }
        Op::Fifo(d, n) => {
            let (path, name) = (dir(model, *d), name(*n));
            let made = stage.mknod(ino(&path), &name, libc::S_IFIFO | 0o600, 0, 0, ROOT_CALLER);
            (kind(&made), model.make(&path, &name, reference::Body::Fifo, 0o600))
        }
        Op::Link(f, d, n) => {
            let Some(from) = file(*f) else { return };
            let (path, name) = (dir(model, *d), name(*n));
            (kind(&stage.link(ino(&from), ino(&path), &name)), model.link(&from, &path, &name))
        }
        Op::Unlink(d, n) => {
            let (path, name) = (dir(model, *d), name(*n));
            (kind(&stage.unlink(ino(&path), &name)), model.unlink(&path, &name))
        }
        Op::Rmdir(d, n) => {
            let (path, name) = (dir(model, *d), name(*n));
            (kind(&stage.rmdir(ino(&path), &name)), model.rmdir(&path, &name))
        }
        Op::Rename((d, n), (e, m), how) => {
            let (from, from_name, to, to_name) = (dir(model, *d), name(*n), dir(model, *e), name(*m));
            let how = RenameHow { no_replace: *how == 0, exchange: *how == 1, whiteout: false };
            // The kernel sees to it that nothing is moved into itself.
            if path_to(&to).starts_with(&[path_to(&from), from_name.clone(), b"/".to_vec()].concat())
                || path_to(&from).starts_with(&[path_to(&to), to_name.clone(), b"/".to_vec()].concat())
            {
                return;
            }
            let done = stage.rename((ino(&from), &from_name), (ino(&to), &to_name), how, ROOT_CALLER);
            (kind(&done), model.rename(&from, &from_name, &to, &to_name, how))
        }
        Op::Write(f, offset, len, byte) => {
            let Some(path) = file(*f) else { return };
            let data = vec![*byte; *len as usize];
            let done = stage.write(ino(&path), u64::from(*offset), &data, false);
            assert_eq!(done.as_ref().ok(), Some(&data.len()));
            (kind(&done), model.write(&path, *offset as usize, &data))
        }
        Op::Truncate(f, size) => {
            let Some(path) = file(*f) else { return };
            let set = SetAttr { size: Some(u64::from(*size)), ..SetAttr::default() };
            (kind(&stage.setattr(ino(&path), &set, ROOT_CALLER)), model.truncate(&path, *size as usize))
        }
        Op::Punch(f, offset, len) => {
            let Some(path) = file(*f) else { return };
            let mode = (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE) as u32;
            let done = stage.fallocate(ino(&path), mode, (*offset).into(), (*len).into(), ROOT_CALLER);
            (kind(&done), model.zero(&path, *offset as usize, *len as usize, true))
        }
        Op::Zero(f, offset, len, keep) => {
            let Some(path) = file(*f) else { return };
            let keep_size = if *keep { libc::FALLOC_FL_KEEP_SIZE } else { 0 };
            let mode = (libc::FALLOC_FL_ZERO_RANGE | keep_size) as u32;
            let done = stage.fallocate(ino(&path), mode, (*offset).into(), (*len).into(), ROOT_CALLER);
            (kind(&done), model.zero(&path, *offset as usize, *len as usize, *keep))
        }
        Op::Allocate(f, offset, len, keep) => {
            let Some(path) = file(*f) else { return };
            let mode = if *keep { libc::FALLOC_FL_KEEP_SIZE as u32 } else { 0 };
            let done = stage.fallocate(ino(&path), mode, (*offset).into(), (*len).into(), ROOT_CALLER);
            let end = if *keep { 0 } else { (*offset + *len) as usize };
            (kind(&done), model.grow(&path, end))
        }
        Op::Copy(f, from, g, to, len) => {
            let (Some(source), Some(target)) = (file(*f), file(*g)) else { return };
            if model.same(&source, &target) {
                return;
            }
            let places = ((ino(&source), u64::from(*from)), (ino(&target), u64::from(*to)));
            let done = stage.copy_range(places.0, places.1, u64::from(*len), ROOT_CALLER);
            (kind(&done), model.copy(&source, *from as usize, &target, *to as usize, *len as usize))
        }
        Op::Chmod(f, mode) => {
            let Some(path) = file(*f) else { return };
            let set = SetAttr { mode: Some((*mode).into()), ..SetAttr::default() };
            (kind(&stage.setattr(ino(&path), &set, ROOT_CALLER)), model.chmod(&path, (*mode).into()))
        }
        Op::Mtime(f, secs) => {
            let Some(path) = file(*f) else { return };
            let time = crate::base::Timestamp::new((*secs).into(), *secs % 1_000_000_000);
            let set = SetAttr { mtime: Some(SetTime::At(time)), ..SetAttr::default() };
            (kind(&stage.setattr(ino(&path), &set, ROOT_CALLER)), model.mtime(&path, time))
        }
        Op::Xattr(f, n, value) => {
            let Some(path) = file(*f) else { return };
            let attr = format!("user.{n}").into_bytes();
            let done = match value {
                Some(byte) => stage.setxattr(ino(&path), &attr, &[*byte], SetHow::Any, ROOT_CALLER),
                None => stage.removexattr(ino(&path), &attr),
            };
            (kind(&done), model.xattr(&path, &attr, *value))
        }
        Op::Fsync(f) => {
            let Some(path) = file(*f) else { return };
            (kind(&stage.fsync(ino(&path), false)), "done".into())
        }
        Op::Orphan(d, n) => {
            let (path, name) = (dir(model, *d), name(*n));
            let Ok(attr) = stage.lookup(ino(&path), &name) else { return };
            if attr.st_mode & libc::S_IFMT != libc::S_IFREG {
                return;
            }
            let wanted = model.unlink(&path, &name);
            let done = stage.unlink(ino(&path), &name);
            if attr.nlink == 1 {
                assert_eq!(stage.getattr(attr.ino).unwrap().nlink, 0);
                stage.write(attr.ino, 70_000, b"orphan", false).unwrap();
                let mut data = [0; 6];
                assert_eq!(stage.read(attr.ino, 70_000, &mut data).unwrap(), 6);
                assert_eq!(&data, b"orphan");
                assert!(stage.link(attr.ino, ROOT, b"never").is_err());
                assert!(stage.is_orphan(attr.ino));
            }
            stage.forgotten(attr.ino).unwrap();
            assert!(!stage.is_orphan(attr.ino));
            (kind(&done), wanted)
        }
        Op::Crash => return,
    };
    assert_eq!(got, wanted, "{op:?}");
}

fn play(place: &Place, mut stage: Arc<Stage>, model: &mut Reference, ops: &[Op]) -> Arc<Stage> {
    for op in ops {
        if let Op::Crash = op {
            drop(stage);
            stage = place.resume();
            compare(&stage, model);
        }
        apply(&stage, model, op);
    }
    compare(&stage, model);
    stage
}

/// Plays rounds, each in a stage over the commit of the one before.
fn play_all(rounds: &[Vec<Op>]) {
    let chunks = Arc::new(MemoryChunks::new());
    let mut model = Reference::new();
    let mut place = Place::new();
    for ops in rounds {
        let stage = play(&place, place.stage(), &mut model, ops);
        let root = store(&stage, &chunks, true);
        // The next commit takes over what this one stored, and stores the same.
        assert_eq!(&store(&stage, &chunks, false), &root);
        drop(stage);
        compare(&place.resume(), &model);
        place = Place::over(Arc::new(Stored::new(chunks.clone(), Stored::PAGE_BUDGET)), root);
        compare(&place.stage(), &model);
        place = place.again();
    }
}

#[test]
fn a_file_of_the_base_that_lost_its_last_name_is_gone_from_the_commit() {
    let made = vec![Op::Create(0, 0), Op::Create(0, 4), Op::Mkdir(0, 1), Op::Symlink(0, 0)];
    play_all(&[made, vec![Op::Orphan(104, 4)], vec![Op::Create(0, 0)]]);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        max_shrink_iters: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_stage_shows_what_was_done_through_crashes_and_commits(
        rounds in prop::collection::vec(prop::collection::vec(op(), 1..50), 3),
    ) {
        play_all(&rounds);
    }
}
