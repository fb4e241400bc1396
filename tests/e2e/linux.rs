//! Trees of real size: two point versions of the kernel's sources from Debian, and `/usr`. Without `SNAPFOLD_TEST=full`
//! a part of `/usr` stands for them.

use crate::harness::compare::{self, Exact};
use crate::harness::{World, full, root, run, shell};
use crate::round_trip::rsync;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Two versions of one tree, unpacked below the world.
fn versions(world: &World) -> (PathBuf, PathBuf) {
    if !full() {
        let (old, new) = (world.mkdir("old"), world.mkdir("new"));
        let kept = ["/usr/include/linux", "/usr/include/asm-generic", "/usr/lib/git-core"];
        for kept in kept.iter().filter(|path| Path::new(path).exists()) {
            run(Command::new("cp").args(["-a", kept]).arg(&old)).good();
        }
        run(Command::new("rsync").args(["-aHAX"]).arg(format!("{}/", old.display())).arg(&new)).good();
        change(&new);
        return (old, new);
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache"));
    let cache = cache.join("snapfold/linux");
    fs::create_dir_all(&cache).expect("mkdir");
    // The oldest and the newest that the mirrors offer; kept, so that they are fetched once.
    let script = r#"
        all() { ls -v linux-source-6.1_*.deb 2>/dev/null || true; }
        newest=$(all | tail -1) oldest=$(all | head -1)
        if [ -z "$newest" ] || [ "$newest" = "$oldest" ]; then
            versions=$(apt-cache madison linux-source-6.1 | cut -d'|' -f2 | tr -d ' ' | sort -Vu)
            for version in $(head -1 <<<"$versions") $(tail -1 <<<"$versions"); do
                apt-get download -qq "linux-source-6.1=$version" >&2
            done
        fi
        all | sed -n '1p;$p' | uniq"#;
    let debs: Vec<String> = shell(&cache, script).lines().map(str::to_owned).collect();
    let unpack = |deb: &str, name: &str| {
        let dir = world.mkdir(name);
        let script = format!(
            "dpkg-deb --fsys-tarfile '{}' | tar -xO ./usr/src/linux-source-6.1.tar.xz | tar -xJ --strip-components=1",
            cache.join(deb).display()
        );
        shell(&dir, &script);
        dir
    };
    let old = unpack(&debs[0], "old");
    let new = world.mkdir("new");
    run(Command::new("cp").args(["-a", "--"]).arg(old.join(".")).arg(&new)).good();
    if debs.len() == 1 {
        change(&new);
    } else {
        // As a patch would have it: files that are equal in both versions keep their times.
        let raw = unpack(debs.last().expect("a package"), "raw");
        shell(&raw, &format!("rsync -rlpgoDc --delete ./ '{}/'", new.display()));
        fs::remove_dir_all(raw).expect("rm");
    }
    (old, new)
}

/// What a point version changes: lines in some files, some files new, some gone, a directory renamed.
fn change(dir: &Path) {
    shell(
        dir,
        "find . -type f -size +1k -size -60k | sort | awk 'NR % 60 == 0' | while read -r f; do
             sed -i '10s/$/ changed/; 20a a new line' \"$f\"; done
         find . -type f | sort | awk 'NR % 200 == 7' | xargs rm -f
         for i in $(seq 20); do seq $i 700 >new-$i.c; done
         d=$(find . -mindepth 1 -maxdepth 2 -type d | sort | tail -1); mv \"$d\" \"$d-renamed\"",
    );
}

/// Regular files of `new` that rsync sends over `old`, NUL-separated.
fn changed(old: &Path, new: &Path) -> Vec<String> {
    let script = format!("rsync -aHAXn --delete --out-format='%i %n' '{}/' '{}/'", new.display(), old.display());
    let lines = shell(new, &script);
    lines
        .lines()
        .filter(|line| line.starts_with(">f"))
        .filter_map(|line| Some(line.split_once(' ')?.1.to_owned()))
        .collect()
}

#[test]
fn a_tree_of_real_size_goes_in_both_ways_and_comes_back() {
    let world = World::with_repository();
    let (old, new) = versions(&world);
    let first = world.backup(&old);
    {
        let mount = world.mount(&[&first]);
        compare::same(&old, mount.path(), Exact::Shown);
        mount.umount();
    }
    let target = world.mkdir("target");
    world.ok(&["restore", &first, "--target", target.to_str().expect("UTF-8")]);
    compare::same(&old, &target, Exact::Made);

    // The second version comes by rsync into a stage of the first.
    let files = changed(&old, &new);
    let before = world.stored();
    let stage = world.stage(&["--from", "latest"]);
    rsync(&new, stage.path());
    compare::same(&new, stage.path(), Exact::Elsewhere);
    let summary = stage.summary();
    let second = summary["snapshot_id"].as_str().expect("an id").to_owned();
    let grown = world.stored() - before;
    let mount = world.mount(&[&second]);
    compare::same(&new, mount.path(), Exact::Elsewhere);
    mount.umount();

    // Only what changed was read, and the repository grew by no more than twice its compressed size.
    let read = summary["files_read"].as_u64().expect("files read");
    assert!(read <= files.len() as u64 + 5, "{read} files read, {} changed", files.len());
    fs::write(world.path("changed"), files.join("\n")).expect("write");
    let script = format!("tar -C '{}' -T changed -c | zstd -3 -c 2>/dev/null | wc -c", new.display());
    let script = if crate::harness::tool("zstd").is_some() { script } else { script.replace("zstd -3", "gzip -6") };
    let compressed: u64 = shell(&world.path(""), &script).trim().parse().expect("a number");
    eprintln!("{} files changed, {read} read; {compressed} bytes compressed, grown by {grown}", files.len());
    assert!(grown <= 2 * compressed + (64 << 10), "grown by {grown}, {compressed} compressed");

    world.ok(&["restore", &second, "--target", target.to_str().expect("UTF-8"), "--delete"]);
    compare::same(&new, &target, Exact::Elsewhere);

    // And by backup: the same data once more is next to nothing.
    let before = world.stored();
    let third = world.backup(&new);
    let grown = world.stored() - before;
    assert!(grown < before / 10, "the same data again took {grown} bytes");
    let mount = world.mount(&[&third]);
    compare::same(&new, mount.path(), Exact::Shown);
    mount.umount();
}

#[test]
fn usr_comes_back() {
    if !root() {
        return;
    }
    let source = if full() { Path::new("/usr") } else { Path::new("/usr/share/bash-completion") };
    let world = World::with_repository();
    world.ok(&["backup", "--one-file-system", source.to_str().expect("UTF-8")]);
    let mount = world.mount(&["latest"]);
    compare::same(source, mount.path(), Exact::Shown);
    mount.umount();
    let target = world.mkdir("target");
    world.ok(&["restore", "latest", "--target", target.to_str().expect("UTF-8")]);
    // Files have names outside of /usr, and how many blocks map a large file depends on where it came to lie.
    compare::same(source, &target, Exact::Inside);
}
