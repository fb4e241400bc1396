//! `snapfold serve`: health, metrics and runs over HTTP.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};

use super::failure::{Done, Failure, shown_path};
use super::global::Global;
use super::health;
use super::layers::{self, Refusal};
use super::mount::tell_manager;
use super::output::{Object, Out};
use super::run::Launcher;
use super::session::Session;
use super::signals;
use crate::base::environment::variable;
use crate::host::notify::State;
use crate::host::profile::{self, Found};
use crate::host::serve::{self, Launch, Open, Options, Served, Token};

/// A longer file is no token's.
const LONGEST: u64 = 4096;

/// Tell over HTTP how profiles are, and run them when asked
///
/// Answers /health with 200 or 503, /metrics in the form of Prometheus, and /api with JSON, for the profile that is
/// named or for all, and pushes the heartbeats that profiles have. Runs of profiles and snapshots of stages can be
/// asked for by whoever has the token. Only this machine can ask, unless another address is given. Ends with SIGINT
/// and SIGTERM.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  snapfold serve
  snapfold serve --listen 127.0.0.1:8080 --token-file ~/.snapfold-token
  curl http://127.0.0.1:9674/health")]
pub struct Serve {
    /// Answer at this address; port 0 is any that is free
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:9674")]
    listen: SocketAddr,
    /// Who sends the first line of this file may ask for runs and snapshots
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    token_file: Option<PathBuf>,
    /// Without a token, let everybody who reaches the loopback read what is in snapshots
    #[arg(long, conflicts_with = "token_file")]
    browse_without_token: bool,
    /// Answer also to who asks for this name, as a reverse proxy may pass it on (may be repeated)
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
}

impl Serve {
    pub fn run(self, global: &Global, session: &Session) -> Result<Done, Failure> {
        signals::install()?;
        if self.browse_without_token && !self.listen.ip().is_loopback() {
            let failure = Failure::new("--browse-without-token is for addresses of the loopback alone");
            return Err(failure.hint("with --token-file, who has the token may browse"));
        }
        let profiles = served(&health::profiles(global, session)?)?;
        let state = session.state_dir()?;
        let options = Options {
            profiles,
            read: read(global, session),
            state_dir: state.to_owned(),
            dirs: vec![session.cache_dir()?.to_owned(), state.to_owned()],
            token: self.token_file.as_deref().map(token).transpose()?,
            lets_browse: self.browse_without_token,
            names: self.allow_host,
            launch: launch(Launcher::of_none()?),
            stop: Box::new(signals::asked),
        };
        let fail = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => Failure::new(format!("{}: another program listens there", self.listen))
                .hint("take another port: --listen ADDRESS:PORT"),
            _ => Failure::new(format!("{}: {error}", self.listen)),
        };
        let listener = TcpListener::bind(self.listen).map_err(fail)?;
        let url = format!("http://{}", listener.local_addr().map_err(fail)?);
        let mut out = Out::new();
        if session.style().json {
            out.json(&Object::message("serve").put("url", url.as_str()))?;
        } else if !session.style().quiet {
            out.line(&format!("listening at {url}"))?;
        }
        out.finish()?;
        tell_manager(&State::Ready(&format!("listening at {url}")));
        serve::serve(listener, options).map_err(fail)?;
        tell_manager(&State::Stopping);
        Ok(Done::Whole)
    }
}

/// The profiles as they are whenever that is asked, of the one name if one was named.
fn read(global: &Global, session: &Session) -> serve::Read {
    let files = layers::files(global, &variable);
    let name = session.profile().map(|found| found.name.clone());
    Box::new(move || {
        let found = match &name {
            Some(name) => profile::find(name, &files).map(|found| vec![found]).map_err(Failure::from),
            None => health::all(&files),
        };
        found.and_then(|found| served(&found)).map_err(|failure| failure.message)
    })
}

fn served(found: &[Found]) -> Result<Vec<Served>, Failure> {
    let one = |found: &Found| {
        let launch = launch(Launcher::new(found)?);
        Ok(Served { found: found.clone(), host: health::host(found), launch, open: open(found) })
    };
    found.iter().map(one).collect()
}

/// Opens the repository of a profile as a command that names the profile does, but asks nobody.
fn open(found: &Found) -> Open {
    let name = OsString::from(&found.name);
    let args: Vec<OsString> = vec![
        "snapfold".into(),
        "--config".into(),
        found.file.path.clone().into(),
        "--profile".into(),
        name,
        "ls".into(),
    ];
    Box::new(move || {
        let cli = layers::parse(&args, &variable).map_err(|refusal| match refusal {
            Refusal::Usage(error) => error.to_string(),
            Refusal::Failure(failure) => failure.message,
        })?;
        let mut session = Session::new(&cli.global);
        if session.is_password_typed() {
            return Err("its password is typed: a profile needs password-file or password-command".to_owned());
        }
        session.open_reader().map_err(|failure| failure.message)
    })
}

fn launch(launcher: Launcher) -> Launch {
    Box::new(move |args, tier| launcher.command(args, tier))
}

fn token(path: &Path) -> Result<Token, Failure> {
    let fail = |error: io::Error| Failure::path(path, error);
    let meta = fs::metadata(path).map_err(fail)?;
    if meta.len() > LONGEST {
        return Err(Failure::path(path, format!("longer than {LONGEST} bytes: no token")));
    }
    let text = fs::read_to_string(path).map_err(fail)?;
    let token = Token::parse(&text).map_err(|what| Failure::path(path, what))?;
    if meta.permissions().mode() & 0o044 != 0 {
        log::warn!("{}: others can read the token; chmod 600 makes it yours alone", shown_path(path));
    }
    Ok(token)
}
