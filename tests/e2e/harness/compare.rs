//! Whether two trees are the same, as foreign programs see it.

use super::{run, shell};
use std::path::Path;
use std::process::Command;

/// How much of two trees has to be equal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Exact {
    /// Everything, sizes and blocks of directories included: a snapshot shows what it took.
    Shown,
    /// Everything but what a filesystem decides for itself: size and blocks of directories.
    Made,
    /// As `Made`, but blocks of files may differ: the two sides are on different filesystems.
    Elsewhere,
    /// As `Elsewhere`, but counts of links may differ: some of the names are outside of the tree. rsync compares which
    /// names inside of it are one file.
    Inside,
}

/// Asserts that two trees are equal: by rsync with checksums, and by what find prints of each entry.
#[track_caller]
pub fn same(left: &Path, right: &Path, exact: Exact) {
    same_by_rsync(left, right);
    same_by_find(left, right, exact);
}

/// `rsync -aHAXnc --delete --itemize-changes` prints nothing.
#[track_caller]
pub fn same_by_rsync(left: &Path, right: &Path) {
    let slashed = |path: &Path| {
        let mut path = path.as_os_str().to_owned();
        path.push("/");
        path
    };
    let mut rsync = Command::new("rsync");
    rsync
        .args(["-aHAXnc", "--delete", "--itemize-changes", "--modify-window=-1"])
        .arg(slashed(left))
        .arg(slashed(right));
    let ran = run(&mut rsync).good();
    assert!(ran.stdout.is_empty(), "rsync sees differences:\n{}", head(&ran.stdout));
}

/// Type, mode, owner, times in ns, links, size and blocks of every entry, and targets of symlinks.
#[track_caller]
pub fn same_by_find(left: &Path, right: &Path, exact: Exact) {
    if matches!(exact, Exact::Shown | Exact::Made) {
        [left, right].into_iter().for_each(settle_blocks);
    }
    let (left, right) = (listing(left, exact), listing(right, exact));
    if left == right {
        return;
    }
    let (only_left, only_right) = (missing(&left, &right), missing(&right, &left));
    panic!("find sees differences:\n- {}\n+ {}", only_left.join("\n- "), only_right.join("\n+ "));
}

/// A filesystem that has not written a file yet may not tell its final blocks.
#[track_caller]
pub fn settle_blocks(dir: &Path) {
    let dir = std::fs::File::open(dir).expect("open");
    rustix::fs::syncfs(dir).expect("syncfs");
}

/// One line per entry, sorted; the fields are in front of the path.
#[track_caller]
pub fn listing(dir: &Path, exact: Exact) -> Vec<String> {
    let (dirs, others) = match exact {
        Exact::Shown => ("%n %s %b", "%n %s %b"),
        Exact::Made => ("%n - -", "%n %s %b"),
        Exact::Elsewhere => ("- - -", "%n %s -"),
        Exact::Inside => ("- - -", "- %s -"),
    };
    let print = |fields: &str, target: &str| format!(r"-printf '%y %m %U:%G %T@ {fields} %P -> {target}\0'");
    let script = format!(r"find . \( -type d {} \) -o {}", print(dirs, ""), print(others, "%l"));
    let output = Command::new("bash").args(["-euc", &script]).current_dir(dir).env("LC_ALL", "C.UTF-8").output();
    let output = output.expect("find");
    assert!(output.status.success(), "find: {}", String::from_utf8_lossy(&output.stderr));
    let records = output.stdout.split(|&byte| byte == 0).filter(|record| !record.is_empty());
    let mut lines: Vec<String> = records.map(|record| record.escape_ascii().to_string()).collect();
    lines.sort();
    lines
}

fn missing(from: &[String], other: &[String]) -> Vec<String> {
    from.iter().filter(|line| other.binary_search(line).is_err()).take(20).cloned().collect()
}

fn head(text: &str) -> String {
    text.lines().take(40).collect::<Vec<_>>().join("\n")
}

/// Extended attributes, ACLs and capabilities of every entry, as getfattr tells; rsync compares them too, but passes
/// over those outside the namespaces it knows.
#[track_caller]
pub fn xattrs(dir: &Path) -> String {
    shell(dir, "find . -print0 | sort -z | xargs -0 getfattr -h -d -m - -e hex --absolute-names 2>/dev/null || true")
}

/// The same but for times: for trees that were made apart from each other.
#[track_caller]
pub fn same_by_rsync_untimed(left: &Path, right: &Path) {
    let script = format!("rsync -rlpgoDHAXnc --delete --itemize-changes '{}/' '{}/'", left.display(), right.display());
    let printed = shell(left, &script);
    assert!(printed.is_empty(), "rsync sees differences:\n{printed}");
}

#[test]
fn the_comparison_sees_every_kind_of_difference() {
    let world = super::World::new();
    let left = world.mkdir("left");
    crate::oddities::make(&left);
    // It takes rsync long, many times over.
    std::fs::remove_dir_all(left.join("deep")).expect("rm");
    let right = world.path("right");
    let copy = || {
        let script = format!(
            "rm -rf right; rsync -aHAXS --modify-window=-1 left/ right/; cp -a --sparse=auto left/holes {}/",
            right.display()
        );
        shell(&world.path(""), &script);
    };
    copy();
    same(&left, &right, Exact::Elsewhere);
    for change in [
        "echo x >>names/upper",
        "chmod 700 'empty/also empty'",
        "touch -h links/dangling",
        "touch -d '1970-01-01 00:00:00.000000002' 'times/file 1'",
        "rm links/again; cp -p links/one/hard links/again",
        "setfattr -n user.colour -v red attributes/few",
        "setfacl -m u:1234:r attributes/acl",
        "rm kinds/fifo; touch kinds/fifo",
        "rmdir 'empty/also empty/empty as well'",
        "printf X | dd of='holes/comb' bs=1 seek=70000 conv=notrunc status=none",
    ] {
        copy();
        let keep_times = format!("touch -r names/upper stamp; {change}; rm -f stamp");
        shell(&right, &keep_times);
        let seen = std::panic::catch_unwind(|| same(&left, &right, Exact::Elsewhere));
        assert!(seen.is_err(), "not seen: {change}");
    }
}
