//! Where the password comes from: a file, a command, the environment or a prompt; never an argument, which other users
//! could see. Knows nothing of what it opens.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use super::failure::{Failure, Kind, shown_path};

/// Longer is taken for the wrong file.
const LONGEST: u64 = 64 << 10;

pub type Password = Zeroizing<Vec<u8>>;

/// One way to come by a password.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    File(PathBuf),
    /// Run by `sh -c`; its output is the password.
    Command(std::ffi::OsString),
    /// From the environment.
    Given(Zeroizing<Vec<u8>>),
    /// Asked for on the terminal.
    Prompt,
}

/// Says of which kind it is, and no secret.
impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Command(_) => f.write_str("Command"),
            Self::Given(_) => f.write_str("Given"),
            Self::Prompt => f.write_str("Prompt"),
        }
    }
}

impl Source {
    /// The password for the repository at `place`, which exists.
    pub fn get(&self, place: &str) -> Result<Password, Failure> {
        match self {
            Self::File(path) => from_file(path),
            Self::Command(command) => from_command(command),
            Self::Given(password) => Ok(password.clone()),
            Self::Prompt => prompt(&format!("enter password for repository {place}: ")),
        }
    }

    /// A password that is being chosen for `what`: typed twice if it is typed, and not empty.
    pub fn choose(&self, what: &str) -> Result<Password, Failure> {
        let password = self.get_for_choice(what)?;
        if password.is_empty() {
            return Err(Failure::new("the password is empty").hint("an empty password protects nothing"));
        }
        Ok(password)
    }

    fn get_for_choice(&self, what: &str) -> Result<Password, Failure> {
        if *self != Self::Prompt {
            return self.get("");
        }
        let first = prompt(&format!("enter password for {what}: "))?;
        if first.is_empty() {
            return Ok(first);
        }
        if prompt("enter password again: ")? != first {
            return Err(Failure::new("the passwords do not match"));
        }
        Ok(first)
    }
}

fn from_file(path: &Path) -> Result<Password, Failure> {
    let fail = |error: io::Error| Failure::new(format!("password file {}: {error}", shown_path(path)));
    let file = File::open(path).map_err(fail)?;
    let meta = file.metadata().map_err(fail)?;
    if meta.is_dir() {
        return Err(Failure::new(format!("password file {}: is a directory", shown_path(path))));
    }
    // A pipe or a terminal in /dev/fd is nobody else's to read.
    if meta.is_file() && !meta.file_type().is_fifo() && meta.permissions().mode() & 0o044 != 0 {
        log::warn!(
            "password file {} can be read by others (mode {:04o}); chmod 600 makes it yours alone",
            shown_path(path),
            meta.permissions().mode() & 0o7777
        );
    }
    let mut password = Zeroizing::new(Vec::with_capacity(4096));
    file.take(LONGEST + 1).read_to_end(&mut password).map_err(fail)?;
    trimmed(password, &format!("password file {}", shown_path(path)))
}

fn from_command(command: &std::ffi::OsStr) -> Result<Password, Failure> {
    let fail = |what: String| Failure::new(format!("password command: {what}"));
    let mut child = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::inherit())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| fail(format!("cannot be started: {error}")))?;
    let mut password = Zeroizing::new(Vec::with_capacity(4096));
    let read = match child.stdout.take() {
        Some(out) => out.take(LONGEST + 1).read_to_end(&mut password),
        None => Ok(0),
    };
    let status = child.wait().map_err(|error| fail(error.to_string()))?;
    read.map_err(|error| fail(error.to_string()))?;
    if !status.success() {
        return Err(fail(format!("failed with {status}")));
    }
    trimmed(password, "password command")
}

/// Without the line end that editors and `echo` leave behind.
fn trimmed(mut password: Password, from: &str) -> Result<Password, Failure> {
    if password.len() as u64 > LONGEST {
        return Err(Failure::new(format!("{from}: longer than {LONGEST} bytes, not a password")));
    }
    for end in [b'\n', b'\r'] {
        if password.last() == Some(&end) {
            password.pop();
        }
    }
    if password.contains(&b'\n') {
        log::warn!("{from}: more than one line; all of it, line ends included, is the password");
    }
    if password.is_empty() {
        return Err(Failure::new(format!("{from}: empty")));
    }
    Ok(password)
}

fn prompt(text: &str) -> Result<Password, Failure> {
    // The prompt uses the terminal itself, so that standard input and output stay free for data.
    if !io::stdin().is_terminal() && File::open("/dev/tty").is_err() {
        return Err(Failure::new("no password given, and no terminal to ask for it")
            .hint("set SNAPFOLD_PASSWORD_FILE, SNAPFOLD_PASSWORD_COMMAND or SNAPFOLD_PASSWORD"));
    }
    match rpassword::prompt_password(text) {
        Ok(password) => Ok(Zeroizing::new(password.into_bytes())),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(Failure::of(Kind::Interrupted, "interrupted")),
        Err(error) => Err(Failure::new(format!("cannot ask for the password: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_with(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn one_line_end_is_no_part_of_the_password() {
        for (bytes, password) in
            [(&b"a b"[..], &b"a b"[..]), (b"a\n", b"a"), (b"a\r\n", b"a"), (b" a \n\n", b" a \n"), (b"\xff\n", b"\xff")]
        {
            let file = file_with(bytes);
            assert_eq!(&**Source::File(file.path().into()).get("").unwrap(), password);
        }
    }

    #[test]
    fn no_password_is_found_where_there_is_none() {
        assert!(Source::File("/nonexistent/file".into()).get("").is_err());
        assert!(Source::File("/".into()).get("").is_err());
        assert!(Source::File(file_with(b"\n").path().into()).get("").is_err());
        assert!(Source::File(file_with(&vec![b'a'; LONGEST as usize + 1]).path().into()).get("").is_err());
        assert!(Source::Command("exit 3".into()).get("").unwrap_err().message.contains("exit status: 3"));
        assert!(Source::Given(Zeroizing::new(vec![])).choose("x").is_err());
    }

    #[test]
    fn a_command_s_output_is_the_password() {
        assert_eq!(&**Source::Command("echo 'x y'".into()).get("").unwrap(), b"x y");
    }
}
