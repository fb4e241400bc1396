//! Foreign test suites run inside a stage: fsx for data, pjdfstest for everything else.

use crate::harness::{World, full, leave_out, root, run, shell, tool};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

const FSX: &str = "flen = 1048576
[opsize]
max = 131072
[weights]
close_open = 1.0
mapread = 10.0
mapwrite = 10.0
read = 10.0
write = 10.0
truncate = 5.0
fsync = 0.2
fdatasync = 0.2
posix_fallocate = 2.0
punch_hole = 5.0
sendfile = 1.0
copy_file_range = 1.0
";

#[test]
fn fsx_finds_every_byte_where_it_left_it() {
    let Some(fsx) = tool("fsx") else {
        if full() {
            leave_out("no fsx: scripts/test builds it");
        }
        return;
    };
    let world = World::with_repository();
    fs::write(world.path("fsx.toml"), FSX).expect("write");
    let operations = if full() { 100_000 } else { 5_000 };
    let stage = world.stage::<&str>(&[]);
    let exercise = |dir: &Path, seed: u64| {
        let mut command = Command::new(&fsx);
        command
            .args(["-q", "-N", &operations.to_string(), "-S", &seed.to_string()])
            .arg("-f")
            .arg(world.path("fsx.toml"));
        run(command.arg("-P").arg(world.path("")).arg(dir.join(format!("fsx{seed}"))).current_dir(world.path("")))
    };
    exercise(stage.path(), 1).good();
    let sum = shell(stage.path(), "md5sum fsx1");
    let id = stage.commit();
    let mount = world.mount(&[&id]);
    assert_eq!(sum, shell(mount.path(), "md5sum fsx1"));
    mount.umount();
    // A new file beside one of the base, which stays as it is. fsx empties its file first: none begins in the base.
    let stage = world.stage(&["--from", "latest"]);
    exercise(stage.path(), 2).good();
    assert_eq!(sum, shell(stage.path(), "md5sum fsx1"));
    stage.commit();
}

/// Cases that pass on ext4 and not in a stage, each with its reason in snapfold-semantics(7).
const EXCUSED: [&str; 0] = [];

#[test]
fn pjdfstest_passes_in_a_stage_what_passes_on_a_plain_filesystem() {
    if !root() {
        return;
    }
    let Some(pjdfstest) = tool("pjdfstest") else {
        if full() {
            leave_out("no pjdfstest: scripts/test builds it");
        }
        return;
    };
    let world = World::with_repository();
    shell(&world.path(""), "chmod 755 .");
    let config = "[features]\nposix_fallocate = {}\nutimensat = {}\nutime_now = {}\nrename_ctime = {}\n[settings]
naptime = 0.01\nallow_remount = false\n[dummy_auth]\nentries = [[\"nobody\", \"nogroup\"], [\"daemon\", \"daemon\"]]\n";
    fs::write(world.path("pjdfstest.toml"), config).expect("write");
    let failures = |dir: &Path| -> BTreeSet<String> {
        let mut command = Command::new(&pjdfstest);
        command.arg("-c").arg(world.path("pjdfstest.toml")).arg("-p").arg(dir).current_dir(dir);
        if !full() {
            command.args(["open", "rename", "unlink", "chmod"]);
        }
        let ran = run(&mut command);
        let failed = ran.stdout.lines().filter(|line| line.trim_end().ends_with("FAILED") || line.contains(" failed"));
        let names: BTreeSet<String> = failed
            .filter_map(|line| line.split_whitespace().next())
            .filter(|word| word.contains("::"))
            .map(str::to_owned)
            .collect();
        let last = ran.stdout.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("").to_owned();
        eprintln!("{}: {last}", dir.display());
        assert!(last.starts_with("Summary: ") && (ran.code == 0 || !names.is_empty()), "it ran, and was read: {ran:?}");
        names
    };
    let plain = world.mkdir("plain");
    shell(&plain, "chmod 777 .");
    let on_plain = failures(&plain);
    let stage = world.stage(&["--allow-other"]);
    shell(stage.path(), "chmod 777 .");
    let on_stage = failures(stage.path());
    let excused: BTreeSet<String> = EXCUSED.iter().map(|&case| case.to_owned()).collect();
    let new: Vec<_> = on_stage.iter().filter(|case| !on_plain.contains(*case) && !excused.contains(*case)).collect();
    assert!(new.is_empty(), "fail in a stage alone: {new:#?}");
    shell(stage.path(), "find . -mindepth 1 -delete");
    stage.umount();
}
