//! Flag, environment, profile: what a profile sets becomes the default of the options it names, so that it takes the
//! same way as flags do and gives way to both. Knows nothing of what the options are for.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};

use super::failure::Failure;
use super::global::{Global, Keys};
use super::password::Source;
use super::{Cli, from};
use crate::base::environment::{Variables, in_home};
use crate::host::profile::{self, ConfigError, Found, PATHS, S3, Setting};

/// Why there is no command to run.
pub enum Refusal {
    /// Also help and the version.
    Usage(clap::Error),
    Failure(Failure),
}

impl<E: Into<Failure>> From<E> for Refusal {
    fn from(failure: E) -> Self {
        Self::Failure(failure.into())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(error.to_string()).maybe_hint(error.hint)
    }
}

/// Options of which one is enough, with the variables that go before a profile.
const ALTERNATIVES: [(&[&str], &[&str]); 11] = [
    (&["repository", "repository-file"], &["SNAPFOLD_REPOSITORY", "SNAPFOLD_REPOSITORY_FILE"]),
    (
        &["password-file", "password-command"],
        &["SNAPFOLD_PASSWORD", "SNAPFOLD_PASSWORD_FILE", "SNAPFOLD_PASSWORD_COMMAND"],
    ),
    (&["from-repository", "from-repository-file"], &["SNAPFOLD_FROM_REPOSITORY", "SNAPFOLD_FROM_REPOSITORY_FILE"]),
    (
        &["from-password-file", "from-password-command"],
        &["SNAPFOLD_FROM_PASSWORD", "SNAPFOLD_FROM_PASSWORD_FILE", "SNAPFOLD_FROM_PASSWORD_COMMAND"],
    ),
    (&["cacert"], &["SNAPFOLD_CACERT"]),
    (&["cache-dir"], &["SNAPFOLD_CACHE_DIR"]),
    (&["log-to"], &["SNAPFOLD_LOG_TO"]),
    (&["log-format"], &["SNAPFOLD_LOG_FORMAT"]),
    (&["log-level"], &["SNAPFOLD_LOG"]),
    (&["sources", "stdin", "files-from", "files-from-verbatim", "files-from-raw", "stdin-from-command"], &[]),
    (&["read-data", "read-data-subset"], &[]),
];

/// The command line as it was given, above the environment, above the profile that either names.
pub fn parse(args: &[OsString], var: Variables<'_>) -> Result<Cli, Refusal> {
    let command = Cli::command();
    let matches = command.clone().try_get_matches_from(args).map_err(Refusal::Usage)?;
    let mut given = read(&command, &matches)?;
    let name = matches.subcommand_name().unwrap_or_default().to_owned();
    given.global.command.clone_from(&name);
    let Some(found) = chosen(&given, var)? else {
        return match &given.global.tier {
            Some(_) => Err(Failure::new("--tier is a tier of a profile: use it with --profile").into()),
            None => Ok(given),
        };
    };
    let tier = given.global.tier.clone();
    check_tier(&found, tier.as_deref())?;
    let settings = effective(&found, &name, tier.as_deref(), &matches, var);
    judge(&command, &found, &name, &settings)?;
    let command = with_defaults(command, &name, &settings, var);
    let matches = command.clone().try_get_matches_from(args).map_err(Refusal::Usage)?;
    let mut cli = read(&command, &matches)?;
    let own = found.profile.s3.as_ref();
    let of_tier = tier.as_ref().and_then(|tier| found.profile.tier.get(tier));
    cli.global.from_keys = keys(own, var);
    cli.global.remote.keys = of_tier.map_or_else(|| keys(own, var), |tier| keys(tier.s3.as_ref().or(own), var));
    cli.global.command = name;
    cli.global.found = Some(Box::new(found));
    Ok(cli)
}

fn read(command: &Command, matches: &ArgMatches) -> Result<Cli, Refusal> {
    Cli::from_arg_matches(matches).map_err(|error| Refusal::Usage(error.format(&mut command.clone())))
}

/// The files in which profiles are looked for.
pub fn files(global: &Global, var: Variables<'_>) -> Vec<PathBuf> {
    let one = global.config.clone().or_else(|| var("SNAPFOLD_CONFIG").map(PathBuf::from));
    one.map_or_else(|| profile::candidates(var), |path| vec![std::path::absolute(&path).unwrap_or(path)])
}

/// The profile that the command line or the environment names.
fn chosen(given: &Cli, var: Variables<'_>) -> Result<Option<Found>, Failure> {
    let named = match (given.command.profile(), given.global.profile.as_deref()) {
        (Some(one), Some(other)) if one != other => {
            return Err(Failure::new(format!("two profiles are named, {one:?} and {other:?}")));
        }
        (Some(name), _) | (None, Some(name)) => Some(name.to_owned()),
        (None, None) => var("SNAPFOLD_PROFILE").map(|name| name.to_string_lossy().into_owned()),
    };
    Ok(named.map(|name| profile::find(&name, &files(&given.global, var))).transpose()?)
}

fn check_tier(found: &Found, tier: Option<&str>) -> Result<(), Failure> {
    match tier {
        Some(tier) if !found.profile.tier.contains_key(tier) => {
            let tiers: Vec<&str> = found.profile.tier.keys().map(String::as_str).collect();
            let failure = Failure::new(format!("profile {:?} has no tier {tier:?}", found.name));
            Err(failure
                .hint(format!("tiers it has: {}", if tiers.is_empty() { "none".into() } else { tiers.join(", ") })))
        }
        _ => Ok(()),
    }
}

/// What goes before a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    /// The name of a flag.
    Flag(String),
    Variable(&'static str),
}

/// What has set an option already, or one that stands for the same.
pub fn before(setting: &Setting, matches: &ArgMatches, var: Variables<'_>) -> Option<Before> {
    let (options, variables) = ALTERNATIVES
        .iter()
        .find(|(options, _)| options.contains(&&*setting.option))
        .map_or((vec![&*setting.option], &[][..]), |(options, variables)| (options.to_vec(), *variables));
    if let Some(flag) = options.iter().find(|option| is_explicit(matches, &id(option))) {
        return Some(Before::Flag((*flag).to_owned()));
    }
    // A tier is chosen by a flag.
    if setting.key.first().is_some_and(|part| part == "tier") {
        return None;
    }
    variables.iter().copied().find(|name| var(name).is_some()).map(Before::Variable)
}

/// What the profile sets, of what neither a flag nor a variable does.
fn effective(
    found: &Found,
    command: &str,
    tier: Option<&str>,
    matches: &ArgMatches,
    var: Variables<'_>,
) -> Vec<Setting> {
    let mut settings = profile::settings(&found.profile, command, tier);
    if command == "copy" && tier.is_some() {
        primary_of_environment(&mut settings, var);
    }
    settings.retain(|setting| before(setting, matches, var).is_none());
    // Snapshots that are named are meant, whatever the policy is about.
    if command == "forget" && is_explicit(matches, "snapshots") {
        settings.retain(|setting| !["host", "tag", "path", "group-by"].contains(&&*setting.option));
    }
    settings
}

/// A copy to a tier is from the repository that commands without `--tier` use, which the environment may name.
fn primary_of_environment(settings: &mut Vec<Setting>, var: Variables<'_>) {
    for (options, variables) in &ALTERNATIVES[..2] {
        let set = variables.iter().find_map(|name| Some((*name, var(name)?.into_string().ok()?)));
        let Some((name, value)) = set else { continue };
        let option = from::variable(name).trim_start_matches("SNAPFOLD_").to_lowercase().replace('_', "-");
        settings.retain(|one| !options.iter().any(|option| one.option == format!("from-{option}")));
        // A password itself is no option, and is not repeated where options are.
        if option != "from-password" {
            settings.push(Setting { option, values: vec![value], key: vec![name.to_owned()] });
        }
    }
}

/// The name that clap knows an option by.
fn id(option: &str) -> String {
    if option == "sources" { "paths".to_owned() } else { option.replace('-', "_") }
}

/// The values of a flag as they were given.
pub fn given(matches: &ArgMatches, option: &str) -> Vec<OsString> {
    let here = matches.try_get_raw(&id(option)).ok().flatten().filter(|_| is_explicit(matches, &id(option)));
    match (here, matches.subcommand()) {
        (Some(values), _) => values.map(OsStr::to_owned).collect(),
        (None, Some((_, below))) => given(below, option),
        (None, None) => Vec::new(),
    }
}

fn is_explicit(matches: &ArgMatches, id: &str) -> bool {
    let here = matches.ids().any(|one| one == id) && matches.value_source(id) == Some(ValueSource::CommandLine);
    here || matches.subcommand().is_some_and(|(_, below)| is_explicit(below, id))
}

/// # Errors
/// A value that its option does not take, with the line it is written on.
pub fn judge(command: &Command, found: &Found, name: &str, settings: &[Setting]) -> Result<(), ConfigError> {
    let mut line = vec![OsString::from("snapfold"), name.into()];
    let takes_value = |option: &str| argument(command, name, option).is_none_or(|arg| arg.get_action().takes_values());
    for setting in settings.iter().filter(|setting| setting.option != "sources") {
        let flag = format!("--{}", setting.option);
        match takes_value(&setting.option) {
            true => line.extend(setting.values.iter().map(|value| format!("{flag}={value}").into())),
            false => line.push(flag.into()),
        }
    }
    let Err(error) = command.clone().try_get_matches_from(line) else { return Ok(()) };
    // What is missing, or said twice, is judged with the flags that were given.
    if !matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue) {
        return Ok(());
    }
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    let (arg, value) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue));
    let option = arg.trim_start_matches('-').split([' ', '=']).next().unwrap_or_default().to_owned();
    let Some(setting) = settings.iter().find(|setting| setting.option == option) else { return Ok(()) };
    let why =
        std::error::Error::source(&error).map_or_else(|| format!("not such a value: {value:?}"), ToString::to_string);
    let key: Vec<&str> = ["profile", &found.name].into_iter().chain(setting.key.iter().map(String::as_str)).collect();
    Err(found.file.mistake(&key, why))
}

/// An option of a command, or of every command.
fn argument<'a>(command: &'a Command, name: &str, option: &str) -> Option<&'a clap::Arg> {
    let own =
        command.find_subcommand(name).and_then(|sub| sub.get_arguments().find(|arg| arg.get_id() == &*id(option)));
    own.or_else(|| command.get_arguments().find(|arg| arg.get_id() == &*id(option)))
}

fn with_defaults(mut command: Command, name: &str, settings: &[Setting], var: Variables<'_>) -> Command {
    for setting in settings {
        let id = id(&setting.option);
        let values: Vec<OsString> = setting.values.iter().map(|value| expand(&setting.option, value, var)).collect();
        let of_all = command.get_arguments().any(|arg| arg.get_id() == &*id);
        let set = |arg: clap::Arg| arg.default_values(values.clone());
        if of_all {
            command = command.mut_arg(&id, set);
        } else if argument(&command, name, &setting.option).is_some() {
            command = command.mut_subcommand(name, |sub| sub.mut_arg(&id, set));
        }
    }
    command
}

/// `~/` before a path is the user's home.
fn expand(option: &str, value: &str, var: Variables<'_>) -> OsString {
    if PATHS.contains(&option) { in_home(value, var).into() } else { value.into() }
}

/// Who asks for buckets, unless the environment says so.
fn keys(s3: Option<&S3>, var: Variables<'_>) -> Option<Keys> {
    let s3 = s3.filter(|_| var("AWS_ACCESS_KEY_ID").is_none() && var("AWS_PROFILE").is_none())?;
    let path = |path: &String| Source::File(expand("password-file", path, var).into());
    let given = s3.secret_access_key.as_ref().map(|secret| Source::Given(secret.reveal().as_bytes().to_vec().into()));
    let from_file = s3.secret_access_key_file.as_ref().map(path);
    let from_command = s3.secret_access_key_command.as_ref().map(|command| Source::Command(OsStr::new(command).into()));
    let pair = s3.access_key_id.clone().zip(given.or(from_file).or(from_command));
    Some(Keys { pair, region: s3.region.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::profile::{ConfigFile, Profile};

    const TEXT: &str = r#"
[profile.web]
repository = "/r"
password-file = "~/pw"
jobs = 3
[profile.web.backup]
sources = ["/srv", "/etc"]
exclude = ["*.o", "*.tmp"]
one-file-system = true
[profile.web.forget]
keep-daily = 7
[profile.web.check]
read-data-subset = "5%"
[profile.web.tier.far]
repository = "/far"
password-command = "pass far"
keep-monthly = 12
"#;

    fn parse_with(line: &str, var: Variables<'_>) -> Result<Cli, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("snapfold.toml");
        std::fs::write(&file, TEXT).unwrap();
        let mut args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        args.extend(["--config".into(), file.into()]);
        parse(&args, var).map_err(|refusal| match refusal {
            Refusal::Usage(error) => error.to_string(),
            Refusal::Failure(failure) => failure.message,
        })
    }

    fn home(name: &str) -> Option<OsString> {
        (name == "HOME").then(|| "/home/me".into())
    }

    fn backup(line: &str) -> String {
        let cli = parse_with(line, &home).unwrap();
        format!("{:?}", cli.command)
    }

    #[test]
    fn a_profile_stands_where_no_flag_does() {
        let cli = parse_with("snapfold --profile web snapshots", &home).unwrap();
        assert_eq!(cli.global.repository.as_deref(), Some("/r".as_ref()));
        assert_eq!(cli.global.password_file.as_deref(), Some("/home/me/pw".as_ref()));
        assert_eq!(cli.global.remote.jobs, 3);
        let cli = parse_with("snapfold -r /x --jobs 9 --profile web snapshots", &home).unwrap();
        assert_eq!((cli.global.repository.as_deref(), cli.global.remote.jobs), (Some("/x".as_ref()), 9));
        let cli = parse_with("snapfold --profile web snapshots --password-command p", &home).unwrap();
        assert!(cli.global.password_file.is_none() && cli.global.password_command.is_some());
        assert!(parse_with("snapfold snapshots", &home).unwrap().global.repository.is_none());
    }

    #[test]
    fn the_environment_goes_before_a_profile_and_after_a_tier() {
        let var = |name: &str| match name {
            "SNAPFOLD_REPOSITORY" => Some("/env".into()),
            "SNAPFOLD_PROFILE" => Some("web".into()),
            other => home(other),
        };
        let cli = parse_with("snapfold snapshots", &var).unwrap();
        assert!(cli.global.repository.is_none(), "left to the environment");
        assert!(cli.global.password_file.is_some());
        let cli = parse_with("snapfold --tier far copy", &var).unwrap();
        assert_eq!(cli.global.repository.as_deref(), Some("/far".as_ref()));
        let shown = format!("{:?}", cli.command);
        assert!(shown.contains(r#"from_repository: Some("/env")"#), "{shown}");
        assert!(shown.contains(r#"from_password_file: Some("/home/me/pw")"#), "{shown}");
        assert!(shown.contains("keep_monthly: Some(Of(12))"), "{shown}");
    }

    #[test]
    fn lists_of_a_profile_give_way_as_a_whole() {
        let shown = backup("snapfold --profile web backup");
        assert!(
            shown.contains(r#"paths: ["/srv", "/etc"]"#) && shown.contains(r#"exclude: ["*.o", "*.tmp"]"#),
            "{shown}"
        );
        assert!(shown.contains("one_file_system: true"), "{shown}");
        let shown = backup("snapfold --profile web backup /x --exclude a");
        assert!(shown.contains(r#"paths: ["/x"]"#) && shown.contains(r#"exclude: ["a"]"#), "{shown}");
        let shown = backup("snapfold --profile web backup --stdin");
        assert!(shown.contains("paths: []"), "{shown}");
        let shown = backup("snapfold --profile web check --read-data");
        assert!(shown.contains("read_data_subset: None"), "{shown}");
        let shown = backup("snapfold --profile web forget 1a2b");
        assert!(shown.contains(r#"snapshots: ["1a2b"]"#), "{shown}");
    }

    #[test]
    fn what_is_not_there_is_told() {
        assert!(parse_with("snapfold --profile wep snapshots", &home).unwrap_err().contains("no profile \"wep\""));
        assert!(parse_with("snapfold --profile web --tier near snapshots", &home).unwrap_err().contains("no tier"));
        assert!(parse_with("snapfold --tier far snapshots", &home).unwrap_err().contains("--profile"));
    }

    #[test]
    fn every_key_of_a_profile_is_an_option_of_its_command() {
        let text = |keys: &[&str]| keys.iter().map(|key| format!("{key} = 'x'\n")).collect::<String>();
        let serde_keys = |section: &str| -> Vec<&'static str> {
            // What serde knows, it tells when it is given something else.
            let error = toml::from_str::<Profile>(&format!("{section}\n'no such key' = 1")).unwrap_err();
            let message: &'static str = error.message().to_owned().leak();
            message.split('`').skip(3).step_by(2).collect()
        };
        for (section, command) in [
            ("[backup]", "backup"),
            ("[forget]", "forget"),
            ("[prune]", "prune"),
            ("[check]", "check"),
            ("[drill]", "drill"),
        ] {
            let keys = serde_keys(section);
            assert!(keys.len() > 2, "{section} {keys:?} {}", text(&keys));
            for key in keys {
                assert!(argument(&Cli::command(), command, key).is_some(), "{section} {key}");
            }
        }
        for key in profile::ACCESS {
            assert!(argument(&Cli::command(), "ls", key).is_some(), "{key}");
        }
        assert!(argument(&Cli::command(), "init", "parity").is_some());
        let own = ["s3", "password-file", "parity"];
        for key in serde_keys("[tier.x]").into_iter().filter(|key| !own.contains(key)) {
            assert!(argument(&Cli::command(), "copy", key).is_some(), "tier {key}");
        }
    }

    #[test]
    fn a_value_that_its_option_does_not_take_is_told_with_its_line() {
        let judged = |text: &str, command: &str| {
            let file = ConfigFile::parse("f".into(), text.to_owned()).unwrap();
            let found = Found { name: "p".to_owned(), profile: file.config.profile["p"].clone(), file };
            judge(&Cli::command(), &found, command, &profile::settings(&found.profile, command, None))
        };
        let error = judged("[profile.p.forget]\nkeep-last = 1\nkeep-daily = \"some\"", "forget").unwrap_err();
        assert_eq!(error.line, Some(3));
        assert!(error.what.starts_with("forget.keep-daily: not a number"), "{error}");
        assert!(judged("[profile.p]\njobs = 0", "ls").unwrap_err().what.starts_with("jobs: "));
        assert!(judged("[profile.p.backup]\nsources = '/a'\nexclude-caches = true", "backup").is_ok());
    }
}
