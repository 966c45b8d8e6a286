//! The command line and the environment → what to run. Every mistake is found here, before anything starts.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand};
use rollcall_host::source::gateway::Credentials;
use tracing::level_filters::LevelFilter;

/// Rollcall's host: every device answers, every answer is counted exactly once.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to log: error, warn, info, debug or trace.
    #[arg(long, env = "ROLLCALL_LOG", default_value = "info", global = true, value_name = "LEVEL")]
    pub(crate) log: LevelFilter,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The roles of the program.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Take messages over MQTT, store each once, and answer over HTTP; all in this process.
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Serve),
}

const SERVE_EXAMPLES: &str = "\
Examples:
  rollcall serve
      MQTT on 127.0.0.1:1883, HTTP on 127.0.0.1:5000, data in ./rollcall-data
  curl 'http://127.0.0.1:5000/status_count?start=1721433676&end=1721437276'
      how many of each status were sampled from start to just before end
  rollcall serve --mqtt-listen 0.0.0.0:1883 --mqtt-user fleet --mqtt-password-file ./password
      take devices from the network
  rollcall serve --mqtt-listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --store redb:/var/lib/rollcall
      free ports (the log says which) and a data directory

SIGTERM and Ctrl-C drain: what was received is stored and acknowledged, then the process ends with 0.
A second one ends it at once; what was not acknowledged, devices send again.";

/// Flags of `rollcall serve`.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Where the MQTT gateway listens (5 and 3.1.1). Port 0 takes a free one.
    #[arg(long, env = "ROLLCALL_MQTT_LISTEN", default_value = "127.0.0.1:1883", value_name = "IP:PORT")]
    pub(crate) mqtt_listen: SocketAddr,
    /// Where the HTTP API listens. Port 0 takes a free one.
    #[arg(long, env = "ROLLCALL_HTTP_LISTEN", default_value = "127.0.0.1:5000", value_name = "IP:PORT")]
    pub(crate) http_listen: SocketAddr,
    /// Where messages are stored: redb:DIRECTORY.
    #[arg(long, env = "ROLLCALL_STORE", default_value = "redb:./rollcall-data", value_name = "STORE")]
    pub(crate) store: Store,
    /// The user name that MQTT clients must show.
    #[arg(long, env = "ROLLCALL_MQTT_USER", value_name = "NAME")]
    pub(crate) mqtt_user: Option<String>,
    /// A file whose first line is the password that MQTT clients must show. It can also be given in the
    /// environment, as ROLLCALL_MQTT_PASSWORD.
    #[arg(long, env = "ROLLCALL_MQTT_PASSWORD_FILE", value_name = "FILE")]
    pub(crate) mqtt_password_file: Option<PathBuf>,
    /// Let anyone who can reach the listening addresses in. Needed to listen beyond this machine without
    /// credentials; HTTP has none.
    #[arg(long, env = "ROLLCALL_ALLOW_ANONYMOUS")]
    pub(crate) allow_anonymous: bool,
}

/// Where messages are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    /// The embedded store, in this directory.
    Redb(PathBuf),
}

impl FromStr for Store {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("redb", directory)) if !directory.is_empty() => Ok(Self::Redb(directory.into())),
            _ => Err("a store is written redb:DIRECTORY, as redb:./rollcall-data".into()),
        }
    }
}

impl Serve {
    /// What MQTT clients must show, if anything.
    ///
    /// # Errors
    /// Half of a credential, an unreadable file, or an open door that nobody asked for.
    pub(crate) fn credentials(&self) -> anyhow::Result<Option<Credentials>> {
        let password = self.password()?;
        let credentials = match (self.mqtt_user.clone(), password) {
            (Some(user), Some(password)) => Some(Credentials { user, password }),
            (None, None) => None,
            (Some(_), None) => bail!("--mqtt-user needs --mqtt-password-file or ROLLCALL_MQTT_PASSWORD"),
            (None, Some(_)) => bail!("an MQTT password needs --mqtt-user"),
        };
        self.refuse_open_doors(credentials.is_some())?;
        Ok(credentials)
    }

    fn password(&self) -> anyhow::Result<Option<String>> {
        let password = match (&self.mqtt_password_file, std::env::var("ROLLCALL_MQTT_PASSWORD").ok()) {
            (Some(_), Some(_)) => bail!("give --mqtt-password-file or ROLLCALL_MQTT_PASSWORD, not both"),
            (Some(file), None) => {
                let text = fs::read_to_string(file)
                    .with_context(|| format!("cannot read the MQTT password from {}", file.display()))?;
                Some(text.lines().next().unwrap_or_default().to_owned())
            }
            (None, password) => password,
        };
        if password.as_deref() == Some("") {
            bail!("the MQTT password is empty");
        }
        Ok(password)
    }

    fn refuse_open_doors(&self, mqtt_has_credentials: bool) -> anyhow::Result<()> {
        let open = |what: &'static str, address: &SocketAddr, guarded: bool| {
            (!address.ip().is_loopback() && !guarded).then(|| format!("{what} {address}"))
        };
        let doors = [
            open("--mqtt-listen", &self.mqtt_listen, mqtt_has_credentials),
            open("--http-listen", &self.http_listen, false),
        ];
        let doors = doors.into_iter().flatten().collect::<Vec<_>>().join(" and ");
        if doors.is_empty() {
            return Ok(());
        }
        if !self.allow_anonymous {
            bail!(
                "{doors} would let anyone on the network in: listen on 127.0.0.1 (for HTTP, behind a proxy that asks \
                 for credentials), give --mqtt-user and --mqtt-password-file for MQTT, or say --allow-anonymous"
            );
        }
        tracing::warn!("ANONYMOUS ACCESS: {doors} is open to everyone who can reach it");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(arguments: &[&str]) -> Serve {
        let all = ["rollcall", "serve"].iter().chain(arguments);
        match Cli::try_parse_from(all).unwrap().command {
            Command::Serve(serve) => serve,
        }
    }

    #[test]
    fn the_defaults_listen_on_this_machine_only() {
        assert!(serve(&[]).credentials().unwrap().is_none());
    }

    #[test]
    fn an_open_door_without_credentials_is_refused_by_its_flag() {
        let error = serve(&["--mqtt-listen", "0.0.0.0:1883"]).credentials().unwrap_err().to_string();
        assert!(
            error.contains("--mqtt-listen 0.0.0.0:1883") && error.contains("--allow-anonymous"),
            "{error}"
        );
        let error = serve(&["--http-listen", "[::]:5000"]).credentials().unwrap_err().to_string();
        assert!(error.contains("--http-listen [::]:5000"), "{error}");
        assert!(serve(&["--mqtt-listen", "0.0.0.0:1883", "--allow-anonymous"]).credentials().is_ok());
    }

    #[test]
    fn credentials_guard_mqtt_but_not_http() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        fs::write(&file, "secret\n").unwrap();
        let file = file.to_str().unwrap();
        let user = ["--mqtt-user", "fleet", "--mqtt-password-file", file];
        let mqtt = serve(&[&user[..], &["--mqtt-listen", "0.0.0.0:1883"]].concat());
        assert_eq!(mqtt.credentials().unwrap().unwrap().password, "secret");
        assert!(serve(&[&user[..], &["--http-listen", "0.0.0.0:5000"]].concat()).credentials().is_err());
        assert!(serve(&user[..2]).credentials().is_err());
        assert!(serve(&user[2..]).credentials().is_err());
    }

    #[test]
    fn a_password_shows_in_no_debug_output() {
        let credentials = Credentials { user: "fleet".into(), password: "secret".into() };
        assert!(!format!("{credentials:?}").contains("secret"));
    }

    #[test]
    fn a_store_that_is_not_known_is_refused() {
        for text in ["", "redb", "redb:", "sqlite:x", "./data"] {
            assert!(text.parse::<Store>().is_err(), "{text}");
        }
    }
}
