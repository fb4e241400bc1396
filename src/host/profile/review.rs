//! What in a profile makes no sense although every key is known: paths that depend on where one stands, two answers to
//! one question, hooks without an action. Knows nothing of values that options of commands have to judge.

use super::settings::{PATHS, settings};
use super::steps::{self, Step};
use super::{ConfigError, ConfigFile, Hook, Profile, S3, StepHow};
use crate::host::health::least_room;
use crate::host::schedule;

impl ConfigFile {
    pub(super) fn review(&self, name: &str, profile: &Profile) -> Result<(), ConfigError> {
        let wrong = |key: &[&str], what: &str| {
            let key: Vec<&str> = ["profile", name].iter().chain(key).copied().collect();
            Err(self.mistake(&key, what))
        };
        if !is_name(name) {
            let what = format!("not a profile's name, which has letters, digits, `-`, `_` and `.`: {name:?}");
            return Err(ConfigError { what, ..self.mistake(&["profile", name], "") });
        }
        let twice = "both are given, one is enough";
        if profile.repository.is_some() && profile.repository_file.is_some() {
            return wrong(&["repository-file"], &format!("repository, too: {twice}"));
        }
        if profile.password_file.is_some() && profile.password_command.is_some() {
            return wrong(&["password-command"], &format!("password-file, too: {twice}"));
        }
        if let Some(s3) = &profile.s3 {
            self.review_s3(&["profile", name, "s3"], s3)?;
        }
        for (tier_name, tier) in &profile.tier {
            let key = ["profile", name, "tier", tier_name];
            if !is_name(tier_name) {
                return wrong(&key[2..], "not a tier's name, which has letters, digits, `-`, `_` and `.`");
            }
            match (&tier.repository, &tier.repository_file) {
                (None, None) => return wrong(&key[2..], "a tier needs a repository"),
                (Some(_), Some(_)) => return wrong(&key[2..], &format!("repository and repository-file: {twice}")),
                _ => {}
            }
            if tier.password_file.is_some() && tier.password_command.is_some() {
                return wrong(&key[2..], &format!("password-file and password-command: {twice}"));
            }
            if let Some(s3) = &tier.s3 {
                self.review_s3(&["profile", name, "tier", tier_name, "s3"], s3)?;
            }
        }
        self.review_paths(name, profile)?;
        if let Some(backup) = &profile.backup {
            let lists = [&backup.sources, &backup.files_from, &backup.files_from_verbatim, &backup.files_from_raw];
            let paths = lists.iter().any(|list| !list.0.is_empty());
            if paths && backup.stdin_from_command.is_some() {
                return wrong(&["backup", "stdin-from-command"], "there are paths to back up, too: one or the other");
            }
        }
        if profile.stage.is_some() && profile.backup.as_ref().is_some_and(|backup| !backup.sources.0.is_empty()) {
            return wrong(&["stage"], "there are sources to back up, too: one or the other");
        }
        for (step, how) in &profile.steps {
            self.review_step(name, profile, step, how)?;
        }
        if let Err(step) = steps::order(profile) {
            return wrong(&["steps", &step, "after"], "these steps wait for one another");
        }
        if let Some((key, what)) = schedule::wrong(&profile.schedule) {
            return wrong(&["schedule", key], &what);
        }
        if let Some(Err(what)) = profile.health.min_free.as_ref().map(|text| least_room(&text.0, 0)) {
            return wrong(&["health", "min-free"], &what);
        }
        if let Some(heartbeat) = &profile.heartbeat {
            if heartbeat.url.is_some() == heartbeat.url_file.is_some() {
                return wrong(&["heartbeat"], "needs url or url-file, one of them");
            }
            if heartbeat.every.is_some_and(|every| every.0.is_zero()) {
                return wrong(&["heartbeat", "every"], "not so often: at least 1ms lies between two");
            }
        }
        for (at, hook) in profile.hook.iter().enumerate() {
            self.review_hook(name, at, hook)?;
        }
        Ok(())
    }

    fn review_s3(&self, key: &[&str], s3: &S3) -> Result<(), ConfigError> {
        let secrets = [
            s3.secret_access_key.is_some(),
            s3.secret_access_key_file.is_some(),
            s3.secret_access_key_command.is_some(),
        ];
        let secrets = secrets.iter().filter(|given| **given).count();
        match (s3.access_key_id.is_some(), secrets) {
            (false, 0) | (true, 1) => Ok(()),
            (true, 0) => Err(self.mistake(key, "access-key-id needs a secret-access-key, its -file or its -command")),
            (false, _) => Err(self.mistake(key, "secret-access-key needs an access-key-id")),
            (true, _) => Err(self.mistake(key, "secret-access-key, its -file and its -command: one is enough")),
        }
    }

    /// A job runs from anywhere: by hand, from cron, from systemd.
    fn review_paths(&self, name: &str, profile: &Profile) -> Result<(), ConfigError> {
        let tiers = profile.tier.keys().map(|tier| ("copy", Some(tier.as_str())));
        let commands = ["backup", "check", "drill"].map(|command| (command, None)).into_iter().chain(tiers);
        for setting in commands.flat_map(|(command, tier)| settings(profile, command, tier)) {
            if !PATHS.contains(&&*setting.option) {
                continue;
            }
            let is_word = |value: &str| setting.option == "log-to" && ["journald", "stderr"].contains(&value);
            let standing = |value: &&String| {
                !(value.starts_with('/') || value.starts_with("~/") || value.contains(':') || is_word(value))
            };
            if let Some(value) = setting.values.iter().find(standing) {
                let key: Vec<&str> = ["profile", name].into_iter().chain(setting.key.iter().map(|s| &**s)).collect();
                return Err(self.mistake(&key, format!("not a path from the root or from ~/: {value:?}")));
            }
        }
        Ok(())
    }

    fn review_step(&self, name: &str, profile: &Profile, step: &str, how: &StepHow) -> Result<(), ConfigError> {
        let key = ["profile", name, "steps", step];
        let known = steps::known(profile);
        let unknown = |word: &str| {
            let names: Vec<String> = known.iter().map(ToString::to_string).collect();
            !Step::is_word(word) && !names.iter().any(|known| known == word)
        };
        let hint = || Some(format!("steps there are: {}", Step::WORDS.join(", ")));
        if unknown(step) {
            return Err(ConfigError { hint: hint(), ..self.mistake(&key, "no such step") });
        }
        let after = ["profile", name, "steps", step, "after"];
        if let Some(word) = how.after.0.iter().find(|word| unknown(word)) {
            return Err(ConfigError { hint: hint(), ..self.mistake(&after, format!("no such step: {word:?}")) });
        }
        if how.nice > 19 {
            return Err(self.mistake(&["profile", name, "steps", step, "nice"], "0 to 19"));
        }
        Ok(())
    }

    fn review_hook(&self, name: &str, at: usize, hook: &Hook) -> Result<(), ConfigError> {
        let place = at.to_string();
        let key = ["profile", name, "hook", &*place];
        let kinds = hook.kinds();
        let wrong = |what: String| Err(self.mistake(&key, what));
        match kinds.as_slice() {
            [] => return wrong("a hook needs an action, such as command or webhook".to_owned()),
            [_] => {}
            several => return wrong(format!("a hook has one action, not {}", several.join(" and "))),
        }
        if hook.on.is_empty() && hook.ping.is_none() {
            return wrong("`on` says on which conditions it is called".to_owned());
        }
        if hook.mail.as_ref().is_some_and(|mail| mail.to.0.is_empty()) {
            return wrong("a mail needs `to`".to_owned());
        }
        let addresses = [&hook.ping, &hook.slack, &hook.discord, &hook.wecom, &hook.dingtalk];
        let addresses = addresses.into_iter().flatten().map(|one| (&one.url, &one.url_file));
        let webhooks = hook.webhook.iter().map(|one| (&one.url, &one.url_file));
        let gotify = hook.gotify.iter().map(|one| (&one.url, &None));
        for (url, file) in addresses.chain(webhooks).chain(gotify) {
            match (url, file) {
                (None, None) => return wrong("`url` says where to".to_owned()),
                (Some(_), Some(_)) => return wrong("url and url-file: one is enough".to_owned()),
                // The address is a secret: the message does not repeat it.
                (Some(url), None) if !["http://", "https://"].iter().any(|it| url.reveal().starts_with(it)) => {
                    return wrong("`url` begins with http:// or https://".to_owned());
                }
                _ => {}
            }
        }
        if hook.gotify.as_ref().is_some_and(|gotify| gotify.token.is_some() == gotify.token_file.is_some()) {
            return wrong("gotify needs one of token and token-file".to_owned());
        }
        Ok(())
    }
}

/// Names become names of files.
fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !name.is_empty() && name.len() <= 100 && !name.starts_with(['.', '-']) && name.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_refused_with_its_line() {
        for (text, line, says) in [
            ("repository = \"/a\"\nrepository-file = \"/b\"", 3, "one is enough"),
            ("password-file = \"/a\"\npassword-command = \"b\"", 3, "one is enough"),
            ("repository = \"relative\"", 2, "not a path from the root"),
            ("log-to = \"journal\"", 2, "not a path from the root"),
            ("backup.sources = [\"/a\",\n \"b\"]", 2, "not a path from the root"),
            ("[profile.p.tier.x]\nkeep-last = 1", 2, "needs a repository"),
            ("s3.access-key-id = \"x\"", 2, "needs a secret"),
            ("s3.secret-access-key = \"hunter2\"", 2, "needs an access-key-id"),
            ("steps.bakup.nice = 1", 2, "no such step"),
            ("steps.backup.nice = 20", 2, "0 to 19"),
            ("steps.backup.after = \"chek\"", 2, "no such step"),
            ("check = {}\nsteps.check.after = \"prune\"\nprune = {}\nsteps.prune.after = \"check\"", 5, "wait for"),
            ("[[profile.p.hook]]\non = [\"any-error\"]", 2, "needs an action"),
            ("[[profile.p.hook]]\ncommand = \"x\"", 2, "`on` says"),
            ("[[profile.p.hook]]\non = [\"any-error\"]\ncommand = \"x\"\nmail.to = \"y\"", 2, "one action"),
            ("[[profile.p.hook]]\nping.url = \"hunter2\"", 2, "begins with http"),
            ("[[profile.p.hook]]\nping = {}", 2, "where to"),
            ("health.min-free = \"much\"", 2, "not a size"),
            ("schedule.cron = \"1 2 3\"", 2, "five fields"),
            ("stage.commit = \"/m\"\nbackup.sources = \"/a\"", 2, "one or the other"),
            ("backup.sources = \"/a\"\nbackup.stdin-from-command = \"x\"", 3, "one or the other"),
        ] {
            let error = ConfigFile::parse("f".into(), format!("[profile.p]\n{text}\n")).unwrap_err();
            assert_eq!(error.line, Some(line), "{text}: {error}");
            assert!(error.what.contains(says) && !error.what.contains("hunter2"), "{text}: {error}");
        }
        for log in ["journald", "stderr", "~/log", "/log"] {
            assert!(ConfigFile::parse("f".into(), format!("[profile.p]\nlog-to = {log:?}\n")).is_ok(), "{log}");
        }
        assert!(ConfigFile::parse("f".into(), "[profile.\"a/b\"]".to_owned()).is_err());
    }
}
