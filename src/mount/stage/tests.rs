//! Stages from beginning to end: over a repository, and through the kernel where there is /dev/fuse and the right to
//! mount.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::Receiver;

use super::{StageMountOptions, mount_stage};
use crate::base::{Monitor, Silent, SnapshotId, Timestamp};
use crate::codec::kdf::KdfCost;
use crate::mount::MountError;
use crate::mount::commit::{CommitError, commit_stage, open_stage};
use crate::mount::control::{Event, Request, ask, stage_at};
use crate::ops::{BackupRequest, backup};
use crate::repo::{Indexed, Params, Repository};
use crate::store::LocalStore;
use crate::view::stage::{
    BaseRef, Caller, Keeper, Ledger, NewStage, ROOT, Receipt, Stage, StageHome, StageState, find,
};

const CALLER: Caller = Caller { uid: 0, gid: 0, pid: 1 };

struct Place {
    dir: tempfile::TempDir,
    repo: Arc<Indexed>,
}

fn silent() -> Arc<dyn Monitor> {
    Arc::new(Silent)
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(LocalStore::new(dir.path().join("repo")));
        let repo = Repository::init(store, b"secret", KdfCost::LEAST, Params::default()).unwrap();
        let repo = Arc::new(repo.with_index(&dir.path().join("cache")).unwrap());
        Self { dir, repo }
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn stage(&self, base: Option<SnapshotId>) -> Arc<Stage> {
        let new = NewStage {
            repository: self.repo.id(),
            place: "here".into(),
            base: base.map(|snapshot| BaseRef { snapshot, path: Vec::new() }),
            host: b"h".to_vec(),
            user: b"u".to_vec(),
            paths: vec![b"/x".to_vec()],
            tags: vec!["t".into()],
            time: None,
            keeper: Keeper::Journal,
        };
        open_stage(&self.repo, StageHome::create(&self.state(), new).unwrap()).unwrap()
    }

    fn resume(&self, id: &str) -> Arc<Stage> {
        for _ in 0..100 {
            if let Ok(home) = StageHome::open(&find(&self.state(), id).unwrap()) {
                return open_stage(&self.repo, home).unwrap();
            }
            // Its sweeper may hold it for a moment.
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        panic!("the stage stays locked");
    }

    fn commit(&self, stage: &Arc<Stage>, last: bool) -> Receipt {
        commit_stage(&self.repo, stage, last, &silent()).unwrap()
    }
}

fn write(stage: &Stage, name: &str, data: &[u8]) {
    let ino = match stage.lookup(ROOT, name.as_bytes()) {
        Ok(attr) => attr.ino,
        Err(_) => stage.mknod(ROOT, name.as_bytes(), libc::S_IFREG | 0o644, 0, 0, CALLER).unwrap().ino,
    };
    stage.write(ino, 0, data, false).unwrap();
}

fn id(receipt: &Receipt) -> SnapshotId {
    receipt.snapshot.as_ref().unwrap().parse().unwrap()
}

#[test]
fn only_what_changed_is_read_and_a_stage_without_changes_makes_no_snapshot() {
    let place = Place::new();
    let stage = place.stage(None);
    for i in 0..50 {
        write(&stage, &format!("f{i}"), &[i; 5000]);
    }
    stage.mkdir(ROOT, b"d", 0o755, 0, CALLER).unwrap();
    let first = place.commit(&stage, true);
    assert_eq!((first.files_read, first.files, first.unchanged), (50, 50, false));
    drop(stage);

    let stage = place.stage(Some(id(&first)));
    write(&stage, "f7", b"changed");
    stage.unlink(ROOT, b"f8").unwrap();
    let second = place.commit(&stage, true);
    assert_eq!((second.files_read, second.files), (1, 49));
    assert!(matches!(StageHome::receipt(stage.home().dir()), Ok(Some(receipt)) if receipt == second));
    drop(stage);

    let stage = place.stage(Some(id(&second)));
    stage.lookup(ROOT, b"f7").unwrap();
    let third = place.commit(&stage, true);
    assert_eq!((third.unchanged, third.snapshot), (true, None));
    assert_eq!(place.repo.snapshots().unwrap().len(), 2);
}

#[test]
fn a_snapshot_in_between_spares_the_next_commit_the_reading() {
    let place = Place::new();
    let stage = place.stage(None);
    write(&stage, "a", &[1; 100_000]);
    write(&stage, "b", &[2; 100_000]);
    let first = place.commit(&stage, false);
    assert_eq!((first.files_read, first.last), (2, false));
    let again = place.commit(&stage, false);
    assert_eq!((again.files_read, again.unchanged, &again.snapshot), (0, true, &first.snapshot));
    write(&stage, "b", &[3; 10]);
    let last = place.commit(&stage, true);
    assert_eq!(last.files_read, 1);
    assert_eq!(place.repo.snapshots().unwrap().len(), 2);
    assert!(stage.write(ROOT, 0, b"late", false).is_err());
}

#[test]
fn a_commit_killed_between_its_snapshot_and_its_receipt_is_not_made_twice() {
    let place = Place::new();
    let stage = place.stage(None);
    write(&stage, "a", b"data");
    let stage_id = stage.home().info().id;
    let made = {
        let frozen = stage.freeze();
        let source = frozen.source(false, &|_| false).unwrap();
        stage.begin().unwrap();
        let request = BackupRequest {
            time: Timestamp::now(),
            host: Vec::new(),
            user: Vec::new(),
            paths: Vec::new(),
            tags: Vec::new(),
            stage: Some(stage.commit_id(0)),
            based_on: Vec::new(),
            program: String::new(),
            problems_before: 0,
            force_read: false,
            skip_if_unchanged: true,
            dry_run: false,
            whole: true,
        };
        backup(&place.repo, &source, None, &request, &silent()).unwrap().snapshot
    };
    // Killed here.
    drop(stage);
    let info = find(&place.state(), &stage_id.to_string()).unwrap();
    assert_eq!(info.state, StageState::Resumable);
    let stage = place.resume(&stage_id.to_string());
    let receipt = place.commit(&stage, true);
    assert_eq!((receipt.snapshot.clone(), receipt.unchanged), (made.map(|id| id.to_string()), false));
    assert_eq!(place.repo.snapshots().unwrap().len(), 1);
    drop(stage);
    assert_eq!(find(&place.state(), &stage_id.to_string()).unwrap().state, StageState::Committed { snapshot: made });
}

struct Mounted {
    point: PathBuf,
    dir: PathBuf,
    serving: Option<JoinHandle<Result<Receipt, CommitError>>>,
    _ready: Receiver<PathBuf>,
}

/// `None` where this machine does not let tests mount.
fn mount(place: &Place, stage: Arc<Stage>) -> Option<Mounted> {
    let point = place.dir.path().join("mnt");
    fs::create_dir_all(&point).unwrap();
    let dir = stage.home().dir().to_owned();
    let options = StageMountOptions { mountpoint: point.clone(), allow_other: false, nonempty: false, threads: 2 };
    let (sender, ready) = crossbeam_channel::bounded(1);
    let repo = place.repo.clone();
    let serving = std::thread::spawn(move || {
        mount_stage(&repo, stage, &options, silent(), |point| sender.send(point.to_owned()).unwrap(), || Ok(()))
    });
    match ready.recv() {
        Ok(_) => Some(Mounted { point, dir, serving: Some(serving), _ready: ready }),
        Err(_) => match serving.join().unwrap() {
            Err(CommitError::Mount(
                MountError::NoDevice { .. } | MountError::NoHelper { .. } | MountError::Refused { .. },
            )) => None,
            other => panic!("{other:?}"),
        },
    }
}

impl Mounted {
    fn ask(&self, request: Request) -> Event {
        ask(&self.dir, request, &mut |_| {}).unwrap()
    }

    fn end(mut self) -> Receipt {
        self.serving.take().unwrap().join().unwrap().unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            let _ = crate::mount::unmount(&self.point);
            let _ = serving.join();
        }
    }
}

fn read(path: &Path) -> Vec<u8> {
    let mut data = Vec::new();
    fs::File::open(path).unwrap().read_to_end(&mut data).unwrap();
    data
}

#[test]
fn a_mounted_stage_is_written_to_snapshotted_and_unmounted_into_a_snapshot() {
    let place = Place::new();
    let Some(mounted) = mount(&place, place.stage(None)) else { return };
    assert_eq!(stage_at(&mounted.point).unwrap(), mounted.dir);
    fs::create_dir(mounted.point.join("d")).unwrap();
    fs::write(mounted.point.join("d/f"), vec![7; 3 << 20]).unwrap();
    fs::hard_link(mounted.point.join("d/f"), mounted.point.join("g")).unwrap();
    let file = fs::File::options().write(true).open(mounted.point.join("g")).unwrap();
    file.write_all_at(b"in the middle", 1 << 20).unwrap();
    assert_eq!(fs::metadata(mounted.point.join("d/f")).unwrap().nlink(), 2);

    let Event::Done(between) = mounted.ask(Request::Snapshot) else { panic!("no snapshot") };
    assert!(!between.last && between.files_read == 1);
    assert_eq!(mounted.ask(Request::Unmount), Event::Busy);
    file.write_all_at(b"at the end", 3 << 20).unwrap();
    drop(file);
    let Event::Done(last) = mounted.ask(Request::Unmount) else { panic!("not unmounted") };
    assert_eq!(mounted.end(), last);
    assert_ne!(last.snapshot, between.snapshot);

    let Some(mounted) = mount(&place, place.stage(Some(id(&last)))) else { return };
    let mut wanted = vec![7; 3 << 20];
    wanted[1 << 20..][..13].copy_from_slice(b"in the middle");
    wanted.extend_from_slice(b"at the end");
    assert!(read(&mounted.point.join("d/f")) == wanted);
    fs::File::options().write(true).open(mounted.point.join("g")).unwrap().write_all_at(b"X", 100_000).unwrap();
    wanted[100_000] = b'X';
    assert!(read(&mounted.point.join("d/f")) == wanted);
    fs::rename(mounted.point.join("d"), mounted.point.join("e")).unwrap();
    assert_eq!(fs::read_dir(mounted.point.join("e")).unwrap().count(), 1);
    let Event::Done(third) = mounted.ask(Request::Unmount) else { panic!("not unmounted") };
    assert_eq!((third.files_read, third.files, third.dirs), (1, 2, 2));
    mounted.end();
}

#[test]
fn a_directory_that_is_no_stage_is_told_from_one() {
    let place = tempfile::tempdir().unwrap();
    assert!(stage_at(place.path()).is_err());
}
