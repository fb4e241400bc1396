//! Floor 7: the command line. Alone prints, prompts and exits. One file per command: its flags as clap reads them, and
//! a function that turns them into the options of the floors below, calls these, and shows what came of it.

mod args;
mod backup;
mod cache;
mod cat;
mod check;
mod commit;
mod commit_monitor;
mod config;
mod copy;
mod daemon;
mod diff;
mod discard;
mod drill;
mod failure;
mod find;
mod forget;
mod from;
mod generate;
mod global;
mod health;
mod hints;
mod init;
mod inside;
mod key;
mod key_file;
mod layers;
mod location;
mod logs;
mod ls;
mod mount;
mod mountpoint;
mod nodes;
mod output;
mod password;
mod policy;
mod printed;
mod process;
mod progress;
mod prune;
mod receipt;
mod repair;
mod restore;
mod rewrite;
mod run;
mod schedule;
mod selection;
mod serve;
mod session;
mod signals;
mod snapshots;
mod stage;
mod stages;
mod stats;
mod stream;
mod tag;
mod umount;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};

use failure::{Done, Failure, Kind};
use global::Global;
use layers::Refusal;
use session::Session;

/// Encrypted, deduplicated snapshots that are directories: mount them, or write the next one into a mount
///
/// A repository holds snapshots of directories, encrypted and deduplicated. `snapfold backup` adds one, `snapfold
/// mount` shows all of them as a read-only tree, and `snapfold stage` gives a writable tree whose unmount becomes the
/// next snapshot.
#[derive(Debug, Parser)]
#[command(
    name = "snapfold",
    version,
    propagate_version = false,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_long_help = "\
Environment:
  SNAPFOLD_REPOSITORY, SNAPFOLD_REPOSITORY_FILE
         where the repository is, or a file that says so
  SNAPFOLD_PASSWORD_FILE, SNAPFOLD_PASSWORD_COMMAND, SNAPFOLD_PASSWORD
         where the password comes from, at most one of them; else it is asked for
  SNAPFOLD_CACHE_DIR, SNAPFOLD_STATE_DIR
         where caches are kept, and stages with their logs
  SNAPFOLD_PROFILE, SNAPFOLD_CONFIG
         the profile that says what neither flags nor variables do, and the file it is in
  SNAPFOLD_LOG_TO, SNAPFOLD_LOG_FORMAT, SNAPFOLD_LOG
         where lines are logged to, how they look, and which: `debug`, or `warn,snapfold::repo=trace`

A flag goes before the environment, and that before a profile.

Exit codes:
  0    done
  1    failed, or the command line made no sense
  3    done, but some of the source data could not be read
  10   there is no repository at that place
  11   the repository is leased to somebody else
  12   wrong password
  13   the profile is being run already
  130  stopped by a signal

Examples:
  export SNAPFOLD_REPOSITORY=/srv/backup SNAPFOLD_PASSWORD_FILE=~/.snapfold-password
  snapfold init
  snapfold backup ~/work --tag daily
  snapfold mount /mnt/past
  snapfold stage /mnt/next --from latest
  rsync -aHAX --delete ~/work/ /mnt/next/
  snapfold umount /mnt/next"
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Init),
    Backup(Box<backup::Backup>),
    Mount(mount::Mount),
    Umount(umount::Umount),
    Stage(stage::Stage),
    Stages(stages::Stages),
    Commit(commit::Commit),
    Snapshot(commit::Snapshot),
    Discard(discard::Discard),
    Snapshots(snapshots::Snapshots),
    Ls(ls::Ls),
    Cat(cat::Cat),
    Find(find::Find),
    Diff(diff::Diff),
    Restore(restore::Restore),
    Stats(stats::Stats),
    Copy(Box<copy::Copy>),
    Forget(Box<forget::Forget>),
    Prune(prune::Prune),
    Tag(tag::Tag),
    Rewrite(rewrite::Rewrite),
    Check(check::Check),
    Repair(repair::Repair),
    Key(key::Key),
    Cache(cache::Cache),
    Config(config::Config),
    Run(run::Run),
    Drill(drill::Drill),
    Schedule(schedule::Schedule),
    Health(health::Health),
    Serve(serve::Serve),
    Generate(generate::Generate),
}

impl Command {
    /// The profile that it is about, where that is an argument of its own.
    fn profile(&self) -> Option<&str> {
        match self {
            Self::Run(run) => Some(&run.name),
            Self::Schedule(schedule) => Some(schedule.profile()),
            _ => None,
        }
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let cli = match layers::parse(&args, &crate::base::environment::variable) {
        Ok(cli) => cli,
        Err(Refusal::Usage(error)) => return refused(&error),
        Err(Refusal::Failure(failure)) => {
            failure.tell(args.iter().any(|arg| arg == "--json"));
            return ExitCode::from(failure.kind.code());
        }
    };
    process::tell_panics(cli.global.json);
    process::give_memory_back();
    let json = cli.global.json;
    let log = logs::settings(&cli.global, &crate::base::environment::variable).and_then(logs::start);
    process::raise_file_limit();
    let command = cli.global.command.clone();
    let code = match log.and_then(|()| run(cli)) {
        Ok(done) => done.code(),
        Err(failure) => {
            logs::tell_end(&failure, json);
            failure.kind.code()
        }
    };
    log::info!(target: logs::TOLD, "snapfold {command}: exit code {code}");
    ExitCode::from(code)
}

fn run(cli: Cli) -> Result<Done, Failure> {
    let session = Session::new(&cli.global);
    if let Some(found) = session.profile().filter(|found| found.is_exposed()) {
        log::warn!(
            "{}: has secrets, and others can read it; chmod 600 makes it yours alone",
            found.file.path.display()
        );
    }
    match cli.command {
        Command::Init(args) => args.run(session),
        Command::Backup(args) => args.run(session),
        Command::Mount(args) => args.run(session),
        Command::Umount(args) => args.run(&session),
        Command::Stage(args) => args.run(session),
        Command::Stages(args) => args.run(session),
        Command::Commit(args) => args.run(session),
        Command::Snapshot(args) => args.run(session),
        Command::Discard(args) => args.run(session),
        Command::Snapshots(args) => args.run(session),
        Command::Ls(args) => args.run(session),
        Command::Cat(args) => args.run(session),
        Command::Find(args) => args.run(session),
        Command::Diff(args) => args.run(session),
        Command::Restore(args) => args.run(session),
        Command::Stats(args) => args.run(session),
        Command::Copy(args) => args.run(session),
        Command::Forget(args) => args.run(session),
        Command::Prune(args) => args.run(session),
        Command::Tag(args) => args.run(session),
        Command::Rewrite(args) => args.run(session),
        Command::Check(args) => args.run(session),
        Command::Repair(args) => args.run(session),
        Command::Key(args) => args.run(session),
        Command::Cache(args) => args.run(&session),
        Command::Config(args) => args.run(&cli.global, &session),
        Command::Run(args) => args.run(&session),
        Command::Schedule(args) => args.run(&session),
        Command::Drill(args) => args.run(session),
        Command::Health(args) => args.run(&cli.global, &session),
        Command::Serve(args) => args.run(&cli.global, &session),
        Command::Generate(args) => args.run(Cli::command()),
    }
}

/// Help and the version go to standard output; a command line that makes no sense is a failure.
fn refused(error: &clap::Error) -> ExitCode {
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    match error.print() {
        Ok(()) if asked => ExitCode::SUCCESS,
        Err(error) if asked => ExitCode::from(Failure::output(&error).kind.code()),
        // With standard error closed there is nobody to tell.
        _ => ExitCode::from(Kind::Failed.code()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_flags_stand_before_or_after_the_command() {
        for line in ["snapfold -r /r --json init", "snapfold init -r /r --json", "snapfold init --repo /r --json"] {
            let cli = parse(line).unwrap();
            assert_eq!(cli.global.repository.as_deref(), Some("/r".as_ref()), "{line}");
            assert!(cli.global.json);
        }
    }

    #[test]
    fn a_password_is_never_an_argument() {
        assert!(parse("snapfold init --password secret").is_err());
    }

    #[test]
    fn command_lines_as_people_write_them_are_understood() {
        for line in [
            "init --kdf-memory 64M --kdf-passes 2",
            "backup /a /b -e *.o --iexclude X --exclude-file f --exclude-caches -x --tag a,b --tag c -n -f",
            "backup --exclude-if-present .nobackup:x --exclude-larger-than 1G --ignore-file .gitignore /a",
            "backup --host h --time 2026-11-20 --parent latest --skip-if-unchanged --no-scan a",
            "backup --stdin --stdin-filename x.sql",
            "backup --files-from - --files-from-raw x",
            "mount /mnt",
            "mount latest:/etc /mnt --foreground --allow-other --owner 0:0 --threads 4 --log-to l",
            "stage /mnt --from latest~2:/a --tag t --host h --time @5 --path /p --spool s",
            "stage --resume 1a2b /mnt",
            "umount /mnt",
            "commit 1a2b --spool s",
            "snapshot /mnt",
            "discard 1a2b 3c4d --force",
            "stages --all --json",
            "snapshots latest --host a --tag b,c --path /x --latest 3",
            "ls",
            "ls latest:/a -l -R",
            "cat latest:/a 1a:/b",
            "dump latest:/a",
            "find *.c -i --type file --newer 2026-01-01 --larger 1M -s latest",
            "diff latest~1 latest --metadata",
            "restore latest:/a -t /tmp/x -i *.c -e *.o --delete --verify",
            "stats latest --host a",
            "copy --from-repo /b --from-password-file f latest -n --tag x",
            "forget 1a2b latest~3",
            "forget -l 1 -d 7 -w 4 -m unlimited -y 3 --keep-hourly 2 --keep-within-daily 1y5m7d2h --host h -n",
            "forget --keep-tag a,b --keep-id 1a2b --group-by host,tags --unsafe-allow-remove-all",
            "check --read-data --max-age 30d",
            "check --read-data-subset 5%",
            "forget --keep-last 3 --prune --grace 0",
            "prune --grace 0 --max-unused 10% --max-repack-size 1G -n",
            "prune --max-unused unlimited",
            "tag --add a,b --remove c latest",
            "tag --set a --host h",
            "rewrite -e *.iso --forget --tag a -n",
            "prune --max-unused unlimited --reencrypt",
            "key list",
            "key add --new-password-file f --write-only --kdf-memory 64M",
            "key add --new-key-file f",
            "key remove 1a2b --yes",
            "key passwd --new-password-command pass",
            "key rotate",
            "key export",
            "key import keys.txt --new-password-file f",
            "repair index --read-all-packs -n",
            "repair packs --yes",
            "repair snapshots latest --host h --yes --forget",
            "cache --cleanup",
            "ls --no-cache --jobs 2 --limit-upload 1M --limit-download 2M --retry 5 --cacert c",
            "--log-to journald --log-format json --log-level warn,snapfold::repo=trace ls",
            "mount --log-file l /mnt",
            "config check",
            "run web --resume",
            "run web --if-due",
            "drill latest --sample 5% --scratch /tmp --verify-command true --verify-timeout 5m --target-time 4h",
            "drill --sample all --keep",
            "health --profile web",
            "serve --listen [::1]:8080 --token-file t",
            "schedule install web --cron",
            "schedule remove web --unit-dir /etc/systemd/system",
            "--profile web config show",
            "--profile web --tier far copy",
            "generate bash",
        ] {
            let parsed = parse(&format!("snapfold {line}"));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }

    #[test]
    fn command_lines_that_make_no_sense_are_refused() {
        for line in [
            "",
            "backup --stdin /a",
            "backup --stdin-from-command x --stdin",
            "config",
            "drill --sample some",
            "schedule web",
            "serve --listen 8080",
            "backup --time yesterday /a",
            "backup --exclude-larger-than big /a",
            "mount",
            "mount a b c",
            "mount --threads 0 /mnt",
            "stage",
            "stage --from latest --resume 1a /mnt",
            "stage --resume 1a --time now /mnt",
            "restore latest",
            "restore latest -t /x -n --verify",
            "check --read-data --read-data-subset 5%",
            "repair",
            "repair packs 1a2b",
            "key",
            "key add --password-file a --new-password-file b --new-password-command c",
            "key import",
            "key add --new-key-file a --new-password-file b",
            "key add --new-key-file a --kdf-passes 2",
            "init --new-key-file a --kdf-memory 1G",
            "repair snapshots --forget",
            "ls -0 --json",
            "cat",
            "discard",
            "diff latest",
            "forget --keep-last -1",
            "forget --keep-last 1 latest",
            "forget --keep-within 7",
            "forget --keep-last 1 --group-by colour",
            "find --type door",
            "generate cobol",
            "tag latest",
            "tag --set a --add b",
            "rewrite latest",
            "prune --grace 5",
            "prune --max-unused 101%",
            "snapshots -q -v",
            "snapshots --log-level loud",
            "snapshots --log-format xml",
        ] {
            assert!(parse(&format!("snapfold {line}")).is_err(), "{line}");
        }
    }

    #[test]
    fn every_command_and_flag_has_help() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
        }
    }
}
