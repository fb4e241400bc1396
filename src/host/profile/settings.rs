//! What a profile amounts to as options of commands: a name of an option, and its values. Knows nothing of how the
//! command line takes them.

use serde::Serialize;
use serde_json::Value;

use super::Profile;

/// Options of every command that a profile or a tier may set, by their names.
pub const ACCESS: [&str; 15] = [
    "repository",
    "repository-file",
    "password-file",
    "password-command",
    "cache-dir",
    "cacert",
    "limit-upload",
    "limit-download",
    "jobs",
    "retry",
    "no-cache",
    "cache-size",
    "log-to",
    "log-format",
    "log-level",
];

/// Options whose values are paths, or locations that may be.
pub const PATHS: [&str; 15] = [
    "repository",
    "repository-file",
    "from-repository",
    "from-repository-file",
    "from-password-file",
    "password-file",
    "cache-dir",
    "cacert",
    "sources",
    "files-from",
    "files-from-verbatim",
    "files-from-raw",
    "exclude-file",
    "scratch",
    "log-to",
];

/// An option, and what the profile sets it to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The option's long name, or `sources` for a backup's paths.
    pub option: String,
    pub values: Vec<String>,
    /// Where in the profile it is written: `["backup", "tag"]`.
    pub key: Vec<String>,
}

/// What the profile sets of `command`, with the repository of `tier` instead of the profile's own if one is named,
/// which has to be there.
pub fn settings(profile: &Profile, command: &str, tier: Option<&str>) -> Vec<Setting> {
    let own = table(profile, &[]);
    let mut all: Vec<Setting> = own.iter().filter(|one| ACCESS.contains(&&*one.option)).cloned().collect();
    let prune = || profile.prune.iter().flat_map(|prune| table(prune, &["prune"]));
    let named = tier.and_then(|name| Some((name, profile.tier.get(name)?)));
    if let Some((name, tier)) = named {
        let (access, mut others): (Vec<_>, Vec<_>) =
            table(tier, &["tier", name]).into_iter().partition(|one| ACCESS.contains(&&*one.option));
        // What a repository is made with concerns no other command.
        let made = others.extract_if(.., |one| one.option == "parity").collect::<Vec<_>>();
        // What the tier says of a repository or a password takes the place of all that the profile says of it.
        let pairs = [["repository", "repository-file"], ["password-file", "password-command"]];
        for pair in pairs {
            if access.iter().any(|one| pair.contains(&&*one.option)) {
                all.retain(|one| !pair.contains(&&*one.option));
            }
        }
        all.retain(|one| !access.iter().any(|other| other.option == one.option));
        all.extend(access);
        match command {
            "init" => all.extend(made),
            "copy" => {
                all.extend(from(&own));
                all.extend(others);
            }
            "forget" => all.extend(others.into_iter().filter(|one| one.option != "prune")),
            "prune" => {
                let how = ["grace", "max-unused", "max-repack-size"];
                all.extend(others.into_iter().filter(|one| how.contains(&&*one.option)));
            }
            _ => {}
        }
    }
    match command {
        "init" if named.is_none() => all.extend(own.iter().filter(|one| one.option == "parity").cloned()),
        "backup" => all.extend(profile.backup.iter().flat_map(|backup| table(backup, &["backup"]))),
        "stage" => {
            let about = profile.backup.iter().flat_map(|backup| table(backup, &["backup"]));
            all.extend(about.filter(|one| ["tag", "host"].contains(&&*one.option)));
        }
        "forget" if named.is_none() => {
            all.extend(profile.forget.iter().flat_map(|forget| table(forget, &["forget"])));
            all.extend(prune());
        }
        "prune" if named.is_none() => all.extend(prune()),
        "check" => all.extend(profile.check.iter().flat_map(|check| table(check, &["check"]))),
        "drill" => all.extend(profile.drill.iter().flat_map(|drill| table(drill, &["drill"]))),
        _ => {}
    }
    all
}

/// The profile's own repository as the one to copy from.
fn from(own: &[Setting]) -> Vec<Setting> {
    let of = |one: &Setting| Setting { option: format!("from-{}", one.option), ..one.clone() };
    let wanted = &ACCESS[..4];
    own.iter().filter(|one| wanted.contains(&&*one.option)).map(of).collect()
}

/// The values of one table, each under its key; tables in it are passed over.
fn table(table: &impl Serialize, below: &[&str]) -> Vec<Setting> {
    // A structure of texts, numbers and lists has a JSON form.
    let Ok(Value::Object(members)) = serde_json::to_value(table) else { return Vec::new() };
    let texts = |value: Value| match value {
        Value::String(text) => Some(vec![text]),
        Value::Number(number) => Some(vec![number.to_string()]),
        Value::Bool(true) => Some(vec!["true".to_owned()]),
        Value::Array(list) if !list.is_empty() => {
            list.into_iter().map(|one| one.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        }
        _ => None,
    };
    let setting = |(option, value): (String, Value)| {
        let values = texts(value)?;
        let key = below.iter().map(|part| (*part).to_owned()).chain([option.clone()]).collect();
        Some(Setting { option, values, key })
    };
    members.into_iter().filter_map(setting).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::profile::fixture::profile;

    const TEXT: &str = "
        [profile.web]
        repository = '/r'
        password-command = 'pass'
        jobs = 4
        parity = '5%'
        [profile.web.backup]
        sources = '/srv'
        exclude = ['a', 'b']
        exclude-caches = true
        one-file-system = false
        [profile.web.forget]
        keep-daily = 7
        keep-weekly = 'unlimited'
        [profile.web.prune]
        grace = '2d'
        [profile.web.tier.far]
        repository = '/far'
        password-file = '/pw'
        parity = '10%'
        keep-monthly = 12
        prune = true";

    fn of(command: &str, tier: Option<&str>) -> Vec<String> {
        let mut all: Vec<String> = settings(&profile(TEXT), command, tier)
            .iter()
            .map(|one| format!("{}={}", one.option, one.values.join(",")))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn keys_become_options_of_the_command_they_are_for() {
        let access = ["jobs=4", "password-command=pass", "repository=/r"];
        assert_eq!(of("snapshots", None), access);
        assert_eq!(of("init", None), ["jobs=4", "parity=5%", access[1], access[2]]);
        assert_eq!(
            of("backup", None),
            ["exclude-caches=true", "exclude=a,b", access[0], access[1], access[2], "sources=/srv"]
        );
        let forget = of("forget", None);
        assert!(forget.contains(&"keep-weekly=unlimited".to_owned()) && forget.contains(&"grace=2d".to_owned()));
    }

    #[test]
    fn a_tier_has_its_own_repository_and_copies_from_the_profiles() {
        assert_eq!(of("snapshots", Some("far")), ["jobs=4", "password-file=/pw", "repository=/far"]);
        assert_eq!(
            of("copy", Some("far")),
            [
                "from-password-command=pass",
                "from-repository=/r",
                "jobs=4",
                "keep-monthly=12",
                "password-file=/pw",
                "prune=true",
                "repository=/far",
            ]
        );
        assert_eq!(of("init", Some("far")), ["jobs=4", "parity=10%", "password-file=/pw", "repository=/far"]);
        assert_eq!(of("forget", Some("far")), ["jobs=4", "keep-monthly=12", "password-file=/pw", "repository=/far"]);
    }
}
