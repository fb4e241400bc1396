//! The recipes of the pages: each is a sound profile, and does what it is there for, with programs in the place of
//! those that a test cannot have.

use crate::harness::http::Server;
use crate::harness::job::outcomes;
use crate::harness::{Ran, World, run, shell};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

const PROFILES: &str = include_str!("../../man/snapfold.toml.5");
const HOOKS: &str = include_str!("../../man/snapfold-hooks.5");
const README: &str = include_str!("../../README.md");

/// What a page shows as it is: its literal displays, as a reader sees them.
fn displays(page: &str) -> Vec<String> {
    let all = page.split("\n.Bd -literal").skip(1);
    let body = |display: &str| {
        let text = display.split_once('\n').expect("a display").1.split("\n.Ed").next().expect("an end").to_owned();
        text.replace("\\(dq", "\"").replace("\\-", "-").replace("\\&", "").replace("\\e", "\\") + "\n"
    };
    all.map(body).collect()
}

/// Those that are TOML.
fn recipes(page: &str) -> Vec<String> {
    displays(page).into_iter().filter(|text| text.starts_with('[')).collect()
}

/// The one that has `mark` in it.
fn recipe(page: &str, mark: &str) -> String {
    recipes(page).into_iter().find(|text| text.contains(mark)).unwrap_or_else(|| panic!("no recipe with {mark}"))
}

/// A machine on which paths of recipes are below the world's directory, and programs that they call only tell of it.
struct Machine {
    world: World,
}

impl Machine {
    fn new(recipe: &str) -> Self {
        let machine = Self { world: World::on_disk() };
        let root = machine.world.path("").to_str().expect("UTF-8").trim_end_matches('/').to_owned();
        let text = recipe.replace("\"s3:https://s3.example.org/", "\"/s3/").replace("\"/", &format!("\"{root}/"));
        machine.world.write_private(".config/snapfold/snapfold.toml", text.as_bytes());
        for secret in ["web.password", "db.password", "containers.password", "far.secret"] {
            machine.world.write_private(&format!("etc/snapfold/{secret}"), b"correct horse\n");
        }
        for program in ["systemctl", "docker", "rclone"] {
            machine.program(program, &format!("echo {program} \"$@\" >>{root}/calls"));
        }
        machine
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.world.write(&format!("bin/{name}"), format!("#!/bin/sh\n{script}\n").as_bytes());
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("chmod");
    }

    fn cli(&self, args: &[&str]) -> Ran {
        let path = format!("{}:{}", self.world.path("bin").display(), std::env::var("PATH").expect("a path"));
        let mut command = self.world.command(args);
        command.env_remove("SNAPFOLD_REPOSITORY").env_remove("SNAPFOLD_PASSWORD_FILE").env("PATH", path);
        run(&mut command)
    }

    fn init(&self, profile: &[&str]) {
        self.cli(&[profile, &["init", "--kdf-memory", "8M", "--kdf-passes", "1"]].concat()).good();
    }

    #[track_caller]
    fn run(&self, profile: &str) -> String {
        let ran = self.cli(&["run", profile, "--json"]);
        assert_eq!(ran.code, 0, "{} {}", ran.stdout, ran.stderr);
        outcomes(&serde_json::from_str(&ran.stdout).expect("JSON")).join(" ")
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.world.path("calls")).unwrap_or_default()
    }
}

#[test]
fn every_recipe_of_the_pages_is_a_sound_profile() {
    let world = World::on_disk();
    let readme = README.split("```toml\n").skip(1).map(|rest| rest.split("```").next().expect("an end").to_owned());
    let all: Vec<String> = recipes(PROFILES).into_iter().chain(recipes(HOOKS)).chain(readme).collect();
    assert!(all.len() >= 8, "{all:?}");
    for text in all {
        world.write_private("recipe.toml", text.as_bytes());
        let ran = world.run(&["--config", "recipe.toml", "config", "check"]);
        assert_eq!(ran.code, 0, "{text}\n{}", ran.stderr);
    }
}

#[test]
fn a_service_with_three_tiers_by_a_line_of_cron() {
    let machine = Machine::new(&recipe(PROFILES, "[profile.web.tier.far]"));
    let server = Server::start();
    machine.world.write("etc/snapfold/ping.url", format!("{}/ping\n", server.url).as_bytes());
    shell(&machine.world.path(""), "mkdir -p srv/www/cache etc/nginx; echo a >srv/www/index; echo b >etc/nginx/conf");
    machine.init(&["--profile", "web"]);
    for tier in ["nas", "far"] {
        machine.init(&["--profile", "web", "--tier", tier]);
    }
    let line = displays(PROFILES).into_iter().find(|text| text.starts_with("17 3 * * *")).expect("a line for cron");
    let words: Vec<&str> = line.split_whitespace().skip(5).collect();
    assert_eq!(words[0], "snapfold");
    let ran = machine.cli(&words[1..]).good();
    assert_eq!((&*ran.stdout, &*ran.stderr), ("", ""), "cron has nothing to mail");
    assert_eq!(machine.calls(), "systemctl stop web\nsystemctl start web\n");
    assert_eq!(server.asked().iter().map(|asked| &*asked.path).collect::<Vec<_>>(), ["/ping/start", "/ping"]);
    for tier in [&[][..], &["--tier", "nas"], &["--tier", "far"]] {
        let listed = machine.cli(&[&["--profile", "web"], tier, &["snapshots"]].concat()).good().stdout;
        assert!(listed.contains("1 snapshot"), "{tier:?}: {listed}");
    }
    // A service that cannot be stopped is not backed up.
    machine.program("systemctl", "exit 1");
    let said = machine.run("web");
    assert!(said.contains("backup=skipped") && said.contains("check=not-due"), "{said}");
}

#[test]
fn a_database_is_dumped_and_a_dump_that_fails_is_no_snapshot() {
    let machine = Machine::new(&recipe(PROFILES, "pg_dumpall"));
    machine.program("pg_dumpall", "echo 'create table a();'");
    machine.init(&["--profile", "db"]);
    machine.run("db");
    let dump = || machine.cli(&["--profile", "db", "cat", "latest:/all.sql"]).good().stdout;
    assert_eq!(dump(), "create table a();\n");
    machine.program("pg_dumpall", "echo 'create'; exit 1");
    assert_eq!(machine.cli(&["run", "db"]).code, 1);
    assert_eq!(dump(), "create table a();\n");
}

#[test]
fn containers_stand_still_while_their_volumes_are_backed_up() {
    let machine = Machine::new(&recipe(PROFILES, "[profile.containers]"));
    shell(
        &machine.world.path(""),
        "mkdir -p var/lib/docker/volumes/db srv/compose
         echo a >var/lib/docker/volumes/db/a; echo b >srv/compose/app.yml",
    );
    machine.init(&["--profile", "containers"]);
    machine.run("containers");
    let compose = "docker compose -f /srv/compose/app.yml";
    assert_eq!(machine.calls(), format!("{compose} stop\n{compose} start\n"));
    machine.program("docker", "exit 1");
    let ran = machine.cli(&["run", "containers"]);
    assert!(ran.code == 1 && ran.stderr.contains("a hook failed on snapshot-start"), "{}", ran.stderr);
}

#[test]
fn a_check_that_found_no_damage_has_the_repository_uploaded() {
    let base = "[profile.web]\nrepository = \"/srv/backup/web\"\npassword-file = \"/etc/snapfold/web.password\"\n\
        backup = { sources = \"/srv/www\" }\ncheck = {}\n";
    let machine = Machine::new(&format!("{base}{}", recipe(HOOKS, "rclone")));
    shell(&machine.world.path(""), "mkdir -p srv/www; echo a >srv/www/index");
    machine.init(&["--profile", "web"]);
    machine.run("web");
    assert_eq!(machine.calls(), "rclone sync /srv/backup/web remote:web\n");
    for name in fs::read_dir(machine.world.path("srv/backup/web/packs")).expect("packs").flatten() {
        fs::remove_dir_all(name.path()).or_else(|_| fs::remove_file(name.path())).expect("rm");
    }
    assert_eq!(machine.cli(&["run", "web"]).code, 1);
    assert_eq!(machine.calls().lines().count(), 1, "nothing is uploaded after a check that found damage");
}
