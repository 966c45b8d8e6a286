//! Flags as they are read.

use std::fs;

use super::*;
use rollcall_host::source::{Admission, Credentials};

fn serve(arguments: &[&str]) -> ServeArgs {
    let all = ["rollcall", "serve"].iter().chain(arguments);
    match Cli::try_parse_from(all).unwrap().command {
        Command::Serve(serve) => serve,
        other => panic!("{other:?}"),
    }
}

fn doors(serve: &ServeArgs) -> anyhow::Result<()> {
    let certificates = serve.certificate.certificates()?;
    let (source, http) =
        (serve.source.source(certificates.as_ref())?, serve.http.http(certificates.as_ref())?);
    serve.listen.check(source.listens_on().into_iter().chain(http.listens_on()), certificates.is_some())
}

#[test]
fn the_defaults_listen_on_this_machine_only() {
    let serve = serve(&[]);
    doors(&serve).unwrap();
    assert!(
        matches!(serve.source.source(None).unwrap(), SourceSettings::Gateway { admission, .. } if admission.is_open())
    );
}

#[test]
fn messages_are_kept_for_ever_or_for_31_days_at_least() {
    assert_eq!(serve(&[]).intake.keep_messages, None);
    let keep = serve(&["--keep-messages", "90d"]).intake.keep_messages;
    assert_eq!(keep, Some("90d".parse().unwrap()));
    for command in ["serve", "ingest"] {
        let refused = Cli::try_parse_from(["rollcall", command, "--keep-messages", "30d"]);
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("--keep-messages") && refused.contains("31d at least"), "{refused}");
    }
    assert!(Cli::try_parse_from(["rollcall", "api", "--keep-messages", "90d"]).is_err());
}

#[test]
fn an_open_door_without_credentials_is_refused_by_its_flag() {
    let error = doors(&serve(&["--mqtt-listen", "0.0.0.0:1883"])).unwrap_err().to_string();
    assert!(error.contains("--mqtt-listen 0.0.0.0:1883") && error.contains("--allow-anonymous"), "{error}");
    let error = doors(&serve(&["--http-listen", "[::]:5000"])).unwrap_err().to_string();
    assert!(error.contains("--http-listen [::]:5000"), "{error}");
    let open = ["--mqtt-listen", "0.0.0.0:1883", "--allow-anonymous"];
    let error = doors(&serve(&open)).unwrap_err().to_string();
    assert!(error.contains("listen in") && error.contains("--allow-plaintext"), "{error}");
    assert!(doors(&serve(&[&open[..], &["--allow-plaintext"]].concat())).is_ok());
}

#[test]
fn tls_needs_a_certificate_and_opens_a_door_that_nobody_can_listen_in_at() {
    let directory = tempfile::tempdir().unwrap();
    let [certificate, key] =
        rollcall_host::tls::issue(directory.path(), &["localhost".to_owned()]).unwrap().server;
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let tls = ["--mqtt-tls-listen", "0.0.0.0:8883", "--allow-anonymous", "--tls-cert", certificate];
    assert!(doors(&serve(&[&tls[..], &["--tls-key", key]].concat())).is_ok());
    let error = doors(&serve(&[&tls[..], &["--tls-key", certificate]].concat())).unwrap_err();
    assert!(format!("{error:#}").contains("--tls-cert"), "{error:#}");
    let unused = ["--tls-cert", certificate, "--tls-key", key];
    let error = doors(&serve(&unused)).unwrap_err().to_string();
    assert!(error.contains("--mqtt-tls-listen"), "{error}");
    for some in [&tls[..], &tls[..2]] {
        assert!(Cli::try_parse_from(["rollcall", "serve"].iter().chain(some)).is_err(), "{some:?}");
    }
}

#[test]
fn credentials_guard_mqtt_but_not_http() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    fs::write(&file, "long and secret\n").unwrap();
    let file = file.to_str().unwrap();
    let user = ["--mqtt-user", "fleet", "--mqtt-password-file", file];
    let mqtt = serve(&[&user[..], &["--mqtt-listen", "0.0.0.0:1883", "--allow-plaintext"]].concat());
    doors(&mqtt).unwrap();
    match mqtt.source.source(None).unwrap() {
        SourceSettings::Gateway { admission: Admission { fleet: Some(fleet), devices: None }, .. } => {
            assert_eq!(fleet.password, "long and secret");
        }
        other => panic!("{other:?}"),
    }
    assert!(
        doors(&serve(&[&user[..], &["--http-listen", "0.0.0.0:5000", "--allow-plaintext"]].concat()))
            .is_err()
    );
    assert!(doors(&serve(&user[..2])).is_err());
    assert!(doors(&serve(&user[2..])).is_err());
}

#[test]
fn a_password_shows_in_no_debug_output() {
    let credentials = Credentials { user: "fleet".into(), password: "secret".into() };
    assert!(!format!("{credentials:?}").contains("secret"));
    let serve = serve(&["--broker", "mqtt://fleet:secret@a", "--store", "mongodb://fleet:secret@b/rollcall"]);
    let source = serve.source.source(None).unwrap();
    assert!(!format!("{serve:?} {source:?}").contains("secret"));
}

#[test]
fn no_error_and_no_help_text_quotes_a_password() {
    for arguments in [
        ["--broker", "mqtt:/fleet:secret@a"],
        ["--broker", "mqtt://fleet:secret@a/b"],
        ["--store", "mongo://fleet:secret@b/rollcall"],
        ["--store", "mongodb:fleet:secret@b"],
    ] {
        let serve = serve(&arguments);
        let errors = [serve.source.source(None).err(), serve.store.store().err()];
        let errors: Vec<_> = errors.iter().flatten().map(|error| format!("{error:#}")).collect();
        assert!(!errors.is_empty(), "{arguments:?}");
        assert!(errors.iter().all(|error| !error.contains("secret")), "{errors:?}");
    }
}

#[test]
#[cfg(feature = "mongodb")]
fn a_stores_password_is_read_from_a_file_and_given_once_and_to_a_user() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    fs::write(&file, "p@ss/ w%rd\n").unwrap();
    let with = |store: &str| {
        serve(&["--store", store, "--store-password-file", file.to_str().unwrap()]).store.store()
    };
    let whole = serve(&["--store", "mongodb://me:p%40ss%2F%20w%25rd@a,b/rollcall?tls=true"]).store.store();
    assert_eq!(with("mongodb://me@a,b/rollcall?tls=true").unwrap(), whole.unwrap());
    for (store, reason) in [
        ("mongodb://me:secret@a/rollcall", "not both"),
        ("mongodb://a/rollcall", "has no user"),
        ("mongodb://a/rollcall?appName=me@b", "has no user"),
        ("redb:data", "needs no password"),
    ] {
        let error = with(store).unwrap_err().to_string();
        assert!(error.contains(reason) && !error.contains("secret"), "{store}: {error}");
    }
    assert!(Cli::try_parse_from(["rollcall", "serve", "--store-password-file", "password"]).is_err());
    let arguments = ["rollcall", "import", "--from", "mongodb://me@a/b.c", "--from-password-file"];
    let import = Cli::try_parse_from(arguments.into_iter().chain(file.to_str())).unwrap();
    let Command::Import(import) = import.command else { panic!("{import:?}") };
    assert!(import.from().is_ok());
}

#[test]
fn a_broker_and_a_gateway_exclude_each_other() {
    let both = ["rollcall", "serve", "--broker", "mqtt://a", "--mqtt-listen", "127.0.0.1:1"];
    assert!(Cli::try_parse_from(both).is_err());
    assert!(Cli::try_parse_from(["rollcall", "serve", "--slots", "0-7"]).is_err());
}

#[test]
fn a_store_that_is_not_known_is_refused() {
    for text in ["", "redb", "redb:", "sqlite:x", "./data"] {
        assert!(serve(&["--store", text]).store.store().is_err(), "{text}");
    }
}
