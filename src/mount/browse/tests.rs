//! Through the kernel, where there is /dev/fuse and the right to mount: what only the two together can show.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::push::Pushes;
use super::requests::BrowseFilesystem;
use crate::mount::{Cause, Ended, MountError, Pulse, Session, SessionOptions, Stopper};
use crate::view::browse::fixture::{Library, Spec};

use Spec::{Crowd, Dir, File as Text, Link, Shared, Sparse};

struct Mounted {
    place: tempfile::TempDir,
    stopper: Stopper,
    waiting: Option<JoinHandle<Ended>>,
}

fn options(place: &Path, pulse: &Pulse) -> SessionOptions {
    SessionOptions {
        mountpoint: place.to_owned(),
        source: "test, with a comma".into(),
        read_only: true,
        allow_other: false,
        default_permissions: false,
        nonempty: false,
        threads: 3,
        read_ahead_kib: 256,
        pulse: Some(pulse.clone()),
        linger: Duration::from_millis(100),
    }
}

/// `None` where this machine does not let tests mount.
fn mount(library: &Arc<Library>) -> Option<Mounted> {
    let place = tempfile::tempdir().unwrap();
    let pushes = Arc::new(Pushes::new());
    let pulse = Pulse::default();
    let filesystem = BrowseFilesystem::new(library.browse(), pushes.clone(), pulse.clone(), false);
    match Session::mount(filesystem, &options(place.path(), &pulse)) {
        Ok(session) => {
            pushes.begin(session.notifier());
            let stopper = session.stopper();
            Some(Mounted { place, stopper, waiting: Some(std::thread::spawn(move || session.wait())) })
        }
        Err(MountError::NoDevice { .. } | MountError::NoHelper { .. } | MountError::Refused { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

impl Mounted {
    fn path(&self, rest: &str) -> PathBuf {
        self.place.path().join(rest)
    }

    fn end(mut self) -> Ended {
        self.stopper.stop();
        self.waiting.take().unwrap().join().unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(waiting) = self.waiting.take() {
            let _ = waiting.join();
        }
    }
}

fn library() -> Arc<Library> {
    let library = Library::new();
    let tree = vec![
        ("crowd", Crowd(20_000)),
        ("dir", Dir(vec![("f", Text("in dir"))])),
        ("holes", Sparse(5000, 1 << 32, 100)),
        ("link", Link("dir/f")),
        ("one", Shared(3, "shared")),
        ("tagged", Text("t")),
        ("two", Shared(3, "shared")),
    ];
    library.add(0, "host", &["tag"], tree);
    library
}

#[test]
fn a_tree_reads_through_the_kernel_as_it_was_stored() {
    let Some(mounted) = mount(&library()) else { return };
    assert_eq!(fs::read(mounted.path("latest/link")).unwrap(), b"in dir");
    assert_eq!(fs::read(mounted.path("hosts/host/latest/dir/f")).unwrap(), b"in dir");
    let (one, two) =
        (fs::metadata(mounted.path("latest/one")).unwrap(), fs::metadata(mounted.path("latest/two")).unwrap());
    assert_eq!((one.ino(), one.nlink(), one.mode()), (two.ino(), 2, libc::S_IFREG | 0o644));
    assert_eq!((one.uid(), one.gid(), one.mtime_nsec()), (1000, 100, 123_456_789));
    assert_eq!(fs::read_dir(mounted.path("latest/crowd")).unwrap().count(), 20_000);
    assert_eq!(fs::read_dir(mounted.path("latest/crowd")).unwrap().count(), 20_000, "from the kernel's cache");
    let holes = File::open(mounted.path("latest/holes")).unwrap();
    let mut data = vec![1; 8192];
    assert_eq!(holes.read_at(&mut data, 1 << 31).unwrap(), 8192);
    assert!(data.iter().all(|&byte| byte == 0));
    assert_eq!(holes.read_at(&mut data, (1 << 32) + 5000).unwrap(), 100);
    let seek = |offset: u64, whence| rustix::fs::seek(&holes, whence_at(whence, offset)).unwrap();
    assert_eq!((seek(0, false), seek(5000, true)), (5000, (1 << 32) + 5000));
    let mut value = [0u8; 16];
    let length = rustix::fs::getxattr(mounted.path("latest/tagged"), "user.colour", &mut value).unwrap();
    assert_eq!(&value[..length], b"blue");
    let written = File::options().write(true).open(mounted.path("latest/one")).unwrap_err();
    assert_eq!(written.raw_os_error(), Some(libc::EROFS));
    assert_eq!(fs::create_dir(mounted.path("new")).unwrap_err().raw_os_error(), Some(libc::EROFS));
    assert_eq!(fs::read(mounted.path("latest/none")).unwrap_err().kind(), ErrorKind::NotFound);
    let space = rustix::fs::statvfs(mounted.place.path()).unwrap();
    assert_eq!((space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize), (4 << 20, 3 << 20));
    drop(holes);
    let ended = mounted.end();
    assert!(matches!(ended, Ended { cause: Cause::Stopped, quiet: true }), "{ended:?}");
}

fn whence_at(data: bool, offset: u64) -> rustix::fs::SeekFrom {
    if data { rustix::fs::SeekFrom::Data(offset) } else { rustix::fs::SeekFrom::Hole(offset) }
}

#[test]
fn a_new_snapshot_appears_while_mounted() {
    let library = library();
    let Some(mounted) = mount(&library) else { return };
    assert_eq!(fs::read_dir(mounted.path("snapshots")).unwrap().count(), 1);
    library.add(100, "other", &[], vec![("x", Text("y"))]);
    let deadline = Instant::now() + Duration::from_secs(10);
    while fs::read_dir(mounted.path("snapshots")).unwrap().count() < 2 {
        assert!(Instant::now() < deadline, "no new snapshot in sight");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(fs::read(mounted.path("hosts/other/latest/x")).unwrap(), b"y");
}

#[test]
fn the_mount_goes_away_also_while_files_are_open() {
    let Some(mounted) = mount(&library()) else { return };
    let mut open = File::open(mounted.path("latest/dir/f")).unwrap();
    let place = mounted.place.path().to_owned();
    let mut byte = [0];
    open.read_exact(&mut byte).unwrap();
    mounted.stopper.stop();
    let deadline = Instant::now() + Duration::from_secs(10);
    while fs::metadata(place.join("latest")).is_ok() {
        assert!(Instant::now() < deadline, "still mounted");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(open);
    assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
}

#[test]
fn unmounting_from_outside_ends_the_session() {
    let Some(mut mounted) = mount(&library()) else { return };
    let second = Session::mount(
        BrowseFilesystem::new(library().browse(), Arc::new(Pushes::new()), Pulse::default(), false),
        &options(mounted.place.path(), &Pulse::default()),
    );
    assert!(matches!(second, Err(MountError::Busy { .. })));
    crate::mount::unmount(mounted.place.path()).unwrap();
    let ended = mounted.waiting.take().unwrap().join().unwrap();
    assert!(matches!(ended, Ended { cause: Cause::Unmounted, quiet: true }), "{ended:?}");
}
