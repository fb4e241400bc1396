//! Several processes on one repository, and processes that are killed at any moment.

use super::*;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

const PLACE: &str = "SNAPFOLD_TEST_PLACE";
const SEEDS: &str = "SNAPFOLD_TEST_SEEDS";

/// The other process: this program, running `victim` alone.
fn start(place: &Place, seeds: std::ops::Range<u64>) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "repo::tests::killed::victim", "--ignored", "--nocapture"])
        .env(PLACE, place.0.path())
        .env(SEEDS, format!("{} {}", seeds.start, seeds.end))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// How far the child says it has committed, by the lines it has printed.
fn committed(child: &mut Child, from: u64) -> u64 {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.filter_map(|line| line.unwrap().strip_prefix("committed ")?.parse().ok()).last().unwrap_or(from)
}

#[test]
#[ignore = "what other tests run in a process of its own"]
fn victim() {
    let Some(path) = std::env::var_os(PLACE) else { return };
    let seeds = std::env::var(SEEDS).unwrap();
    let (start, end) = seeds.split_once(' ').unwrap();
    let (mut next, end) = (start.parse::<u64>().unwrap(), end.parse::<u64>().unwrap());
    let path = Path::new(&path);
    let store = Arc::new(LocalStore::new(path.join("repo")));
    let indexed = Repository::open(store, PASSWORD).unwrap().with_index(&path.join("cache")).unwrap();
    let indexed = Arc::new(indexed);
    while next < end {
        let to = end.min(next + 40);
        write(&indexed, next..to).unwrap();
        next = to;
        println!("committed {next}");
    }
}

#[test]
fn what_was_committed_before_a_kill_is_there_and_nothing_is_stored_twice() {
    let place = Place::new();
    let repository = place.init();
    let mut next = 0;
    for round in 0..12u64 {
        let mut child = start(&place, next..10_000);
        std::thread::sleep(std::time::Duration::from_millis(150 + round * 61));
        child.kill().unwrap();
        next = committed(&mut child, next);
        child.wait().unwrap();
        let indexed = place.open();
        assert!(indexed.writes_index(), "the dead hold no lock");
        let ids: Vec<_> = (0..next).map(|seed| repository.keys().chunk_id(&plain(seed))).collect();
        check(&*indexed, &ids, 0..next);
        if round % 4 == 3 {
            drop(indexed);
            std::fs::remove_dir_all(place.cache()).unwrap();
            check(&*place.open(), &ids, 0..next);
        }
    }
    assert!(next > 0, "no child committed anything");
    let indexed = place.open();
    write(&indexed, 0..next + 100).unwrap();
    assert_eq!(indexed.totals().unwrap().chunks, next + 100, "each chunk once");
}

#[test]
fn processes_at_once_share_an_index_and_lose_nothing() {
    let place = Place::new();
    let repository = place.init();
    let mut children = [start(&place, 0..200), start(&place, 100..300)];
    let beside = place.open();
    let ends = children.each_mut().map(|child| committed(child, 0));
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(ends, [200, 300]);
    let ids: Vec<_> = (0..300).map(|seed| repository.keys().chunk_id(&plain(seed))).collect();
    check(&*beside, &ids, 0..300);
    drop(beside);
    check(&*place.open(), &ids, 0..300);
    let left = files(&place.cache());
    assert!(left.iter().all(|path| !path.to_string_lossy().contains("scratch")), "{left:?}");
}
