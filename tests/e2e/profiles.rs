//! Profiles: settings that stand where neither a flag nor a variable does, and mistakes in them.

use crate::harness::{Ran, World, kill, run, shell, wait_until};
use std::process::{Command, Stdio};

/// A world whose commands find a repository and a password in a profile alone.
fn world_with(profile: &str) -> World {
    let world = World::on_disk();
    world.write(".config/snapfold/snapfold.toml", text(&world, profile).as_bytes());
    bare(&world, &["--profile", "web", "init", "--kdf-memory", "8M", "--kdf-passes", "1"]).good();
    world
}

/// `@` is the world's directory.
fn text(world: &World, profile: &str) -> String {
    profile.replace('@', world.path("").to_str().expect("UTF-8").trim_end_matches('/'))
}

/// Runs what has neither a repository nor a password in its environment.
fn bare(world: &World, args: &[&str]) -> Ran {
    run(without(&mut world.command(args)))
}

fn without(command: &mut Command) -> &mut Command {
    command.env_remove("SNAPFOLD_REPOSITORY").env_remove("SNAPFOLD_PASSWORD_FILE")
}

const WEB: &str = "
[profile.web]
repository = \"@/repo\"
password-file = \"~/password\"

[profile.web.backup]
sources = \"@/site\"
exclude = [\"*.tmp\", \"cache\"]
tag = [\"web\", \"nightly\"]

[profile.web.forget]
keep-last = 2

[profile.web.tier.far]
repository = \"@/far\"
password-command = \"echo other\"
keep-last = 1
";

fn site(world: &World) {
    world.mkdir("site/cache");
    shell(&world.path("site"), "echo a >index.html; echo b >x.tmp; echo c >cache/y");
}

#[test]
fn every_command_takes_from_the_profile_what_nothing_else_says() {
    let world = world_with(WEB);
    site(&world);
    for _ in 0..3 {
        bare(&world, &["--profile", "web", "backup"]).good();
    }
    let listed = bare(&world, &["snapshots", "--profile", "web", "--json"]).good().stdout;
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    assert_eq!(listed[2]["tags"], serde_json::json!(["nightly", "web"]));
    let names = bare(&world, &["--profile", "web", "ls", "latest", "-R"]).good().stdout;
    assert!(names.contains("index.html") && !names.contains("x.tmp") && !names.contains("cache"), "{names}");
    let said = bare(&world, &["--profile", "web", "forget"]).good().stdout;
    assert!(said.contains("1 snapshot removed, 2 kept"), "{said}");

    // The environment may name the profile, a flag outweighs it, and a file of one's own takes the place of the usual.
    let ran = run(without(&mut world.command(&["snapshots"])).env("SNAPFOLD_PROFILE", "web")).good();
    assert!(ran.stdout.contains("2 snapshots"), "{}", ran.stdout);
    bare(&world, &["--profile", "web", "snapshots", "-r", "/nonexistent"]).bad(10, "/nonexistent");
    let elsewhere = world.write("own.toml", text(&world, &WEB.replace("@/repo", "@/none")).as_bytes());
    let elsewhere = elsewhere.to_str().expect("UTF-8");
    bare(&world, &["--config", elsewhere, "--profile", "web", "snapshots"]).bad(10, "none");
    // A variable outweighs it as well.
    run(world.command(&["--profile", "web", "snapshots"]).env("SNAPFOLD_REPOSITORY", "/nonexistent"))
        .bad(10, "/nonexistent");
}

#[test]
fn a_tier_is_a_repository_of_its_own_with_copies_of_the_profiles() {
    let world = world_with(WEB);
    site(&world);
    bare(&world, &["--profile", "web", "--tier", "far", "init", "--kdf-memory", "8M", "--kdf-passes", "1"]).good();
    for _ in 0..2 {
        bare(&world, &["--profile", "web", "backup"]).good();
    }
    let said = bare(&world, &["--profile", "web", "--tier", "far", "copy"]).good().stdout;
    assert!(said.contains("1 snapshot copied"), "{said}");
    let listed = bare(&world, &["--profile", "web", "--tier", "far", "snapshots"]).good().stdout;
    assert!(listed.contains("1 snapshot"), "{listed}");
    // Variables are about the profile's own repository: the tier was named by a flag.
    let ran = run(&mut world.command(&["--profile", "web", "--tier", "far", "snapshots"])).good();
    assert!(ran.stdout.contains("1 snapshot"), "{}", ran.stdout);
    bare(&world, &["--profile", "web", "--tier", "near", "snapshots"]).bad(1, "no tier \"near\"");
}

#[test]
fn mistakes_are_told_with_their_line_and_the_nearest_known_key() {
    let world = World::on_disk();
    for (profile, says, hint) in [
        ("[profile.web]\nrepositry = \"/r\"\n", "snapfold.toml:2: unknown key \"repositry\"", "\"repository\""),
        ("[profile.web.backup]\nexlude = \"x\"\n", "snapfold.toml:2: unknown key \"exlude\"", "\"exclude\""),
        ("[profile.web]\n\nrepository = 7\n", "snapfold.toml:3: invalid type", ""),
        ("[profile.web\n", "snapfold.toml:1: ", ""),
        ("[profile.web.forget]\nkeep-daily = \"some\"\n", "snapfold.toml:2: forget.keep-daily: not a number", ""),
        (
            "[[profile.web.hook]]\non = [\"eny-error\"]\n",
            "snapfold.toml:2: unknown word \"eny-error\"",
            "\"any-error\"",
        ),
        ("[profile.web]\nrepository = \"here\"\n", "snapfold.toml:2: repository: not a path from the root", ""),
    ] {
        world.write(".config/snapfold/snapfold.toml", profile.as_bytes());
        let ran = bare(&world, &["config", "check"]).bad(1, says);
        assert!(ran.stderr.contains(hint), "{}", ran.stderr);
        // Also for who uses it.
        let ran = bare(&world, &["--profile", "web", "forget", "--json"]);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(ran.stderr.starts_with("{\"message_type\":\"exit_error\""), "{}", ran.stderr);
    }
    world.write(".config/snapfold/snapfold.toml", b"[profile.web]\n");
    let ran = bare(&world, &["--profile", "wep", "snapshots"]).bad(1, "no profile \"wep\"");
    assert!(ran.stderr.contains("\"web\""), "{}", ran.stderr);
    let said = bare(&world, &["config", "check"]).good().stdout;
    assert!(said.ends_with("snapfold.toml: 1 profile: web\n"), "{said}");
    std::fs::remove_file(world.path(".config/snapfold/snapfold.toml")).expect("rm");
    bare(&world, &["config", "check"]).bad(1, "there is no snapfold.toml");
}

#[test]
fn what_is_in_force_is_shown_with_its_source_and_without_secrets() {
    let world = World::on_disk();
    let profile = "
[profile.web]
repository = \"s3:http://localhost:1/bucket\"
s3.access-key-id = \"AKID\"
s3.secret-access-key = \"hunter2\"
[[profile.web.hook]]
on = [\"any-error\"]
slack.url = \"https://hooks.example/hunter2\"
[[profile.web.hook]]
on = [\"CONDITION_SNAPSHOT_SUCCESS\"]
webhook = { url = \"https://hooks.example/hunter2\", headers = { Authorization = \"hunter2\" } }
";
    world.write(".config/snapfold/snapfold.toml", profile.as_bytes());
    for json in [&[][..], &["--json"]] {
        let ran = bare(&world, &[&["--profile", "web", "config", "show", "--jobs", "3"], json].concat()).good();
        assert!(!ran.stdout.contains("hunter2") && !ran.stderr.contains("hunter2"), "{}", ran.stdout);
        assert!(ran.stderr.contains("warning: ") && ran.stderr.contains("others can read it"), "{}", ran.stderr);
        for word in ["s3.access-key-id", "AKID", "(hidden)", "snapfold.toml:3", "hook.1.webhook.headers.Authorization"]
        {
            assert!(ran.stdout.contains(word), "{word}: {}", ran.stdout);
        }
    }
    let shown = run(&mut world.command(&["--profile", "web", "config", "show"])).good().stdout;
    assert!(shown.contains("environment SNAPFOLD_REPOSITORY"), "{shown}");
    let shown = bare(&world, &["--profile", "web", "-r", "/x", "config", "show"]).good().stdout;
    assert!(shown.contains("/x") && shown.contains("flag --repository"), "{shown}");
}

#[test]
fn a_dump_whose_command_fails_is_no_snapshot() {
    let world = World::with_repository();
    let args = ["backup", "--stdin-filename", "all.sql", "--stdin-from-command"];
    world.ok(&[&args[..], &["echo whole"]].concat());
    assert_eq!(world.ok(&["cat", "latest:/all.sql"]).stdout, "whole\n");
    let ran = world.run(&[&args[..], &["echo half; exit 7"]].concat());
    assert!(ran.code == 1 && ran.stderr.contains("exit status: 7"), "{} {}", ran.code, ran.stderr);
    assert_eq!(world.snapshots().len(), 1);
}

#[test]
fn a_dump_of_which_nothing_comes_is_stopped_by_a_signal() {
    let world = World::with_repository();
    let here = world.path("here");
    let dump = format!("touch {}; exec sleep 1000", here.display());
    let mut command = world.command(&["backup", "--stdin-filename", "all.sql", "--stdin-from-command", &dump]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawn");
    wait_until("the dump is under way", || here.exists());
    kill(child.id() as i32, libc::SIGTERM);
    let ended = child.wait_with_output().expect("its end");
    assert_eq!(ended.status.code(), Some(130), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(world.snapshots().is_empty() && world.processes().is_empty());
}

#[test]
fn a_profile_says_which_parity_its_repositories_are_made_with() {
    let world = World::on_disk();
    let profile = WEB.replace("keep-last = 1", "keep-last = 1\nparity = \"10%\"");
    world.write(
        ".config/snapfold/snapfold.toml",
        text(&world, &profile.replace("password-file", "parity = \"0%\"\npassword-file")).as_bytes(),
    );
    bare(&world, &["config", "check"]).bad(1, "snapfold.toml:4: parity: not a share");
    world.write(".config/snapfold/snapfold.toml", text(&world, &profile).as_bytes());
    let init = |tier: &[&str]| {
        let cost = ["init", "--kdf-memory", "8M", "--kdf-passes", "1", "--json"];
        bare(&world, &[&["--profile", "web"], tier, &cost].concat()).good().stdout
    };
    let made: serde_json::Value = serde_json::from_str(&init(&[])).expect("JSON");
    assert_eq!(made["parity_percent"], serde_json::Value::Null, "{made}");
    let made: serde_json::Value = serde_json::from_str(&init(&["--tier", "far"])).expect("JSON");
    assert_eq!(made["parity_percent"], 10, "{made}");
    // What a repository was made with is no option of other commands.
    site(&world);
    bare(&world, &["--profile", "web", "backup"]).good();
    bare(&world, &["--profile", "web", "--tier", "far", "copy"]).good();
}
