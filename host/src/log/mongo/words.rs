//! The driver's errors as a sentence for people. Its own texts carry labels, dumps of documents and raw replies,
//! and what it says of an address may quote a password: none of that is passed on.

use mongodb::error::{Error, ErrorKind, InsertManyError, WriteConcernError, WriteFailure};
use mongodb::options::ClientOptions;

/// Longer texts are cut: a reply of the API has one line for it.
const LENGTH_MAX: usize = 300;

/// The server's code for what our user may not do; its text quotes the whole command.
const UNAUTHORIZED: i32 = 13;

/// What went wrong, in one sentence.
pub(super) fn plain(error: &Error) -> String {
    match error.kind.as_ref() {
        ErrorKind::ServerSelection { message, .. } => unreachable(message),
        ErrorKind::Command(error) => refused(error.code, &error.code_name, &error.message),
        ErrorKind::InsertMany(error) => insert(error),
        ErrorKind::Write(WriteFailure::WriteConcernError(error)) => unconfirmed(error),
        ErrorKind::Write(WriteFailure::WriteError(error)) => {
            refused(error.code, error.code_name.as_deref().unwrap_or_default(), &error.message)
        }
        // The driver quotes what it was given.
        ErrorKind::InvalidArgument { .. } => {
            "the driver of MongoDB refuses an option of its address".to_owned()
        }
        kind => sentence(&kind.to_string()),
    }
}

/// The server has the write, but not yet on the disks of a majority.
pub(super) fn unconfirmed(error: &WriteConcernError) -> String {
    format!("MongoDB has not confirmed a write: {}", sentence(&error.message))
}

/// The server does not do what it was asked for.
pub(super) fn refused(code: i32, name: &str, message: &str) -> String {
    if code == UNAUTHORIZED {
        return "our user at MongoDB may not do this: give it the role readWrite on the database".to_owned();
    }
    let name = if name.is_empty() { code.to_string() } else { format!("{name}, {code}") };
    format!("MongoDB refused: {} ({name})", sentence(message))
}

fn insert(error: &InsertManyError) -> String {
    if let Some(error) = &error.write_concern_error {
        return unconfirmed(error);
    }
    match error.write_errors.as_ref().and_then(|errors| errors.first()) {
        Some(error) => refused(error.code, error.code_name.as_deref().unwrap_or_default(), &error.message),
        None => "MongoDB refused to insert, and gave no reason".to_owned(),
    }
}

fn unreachable(message: &str) -> String {
    let what =
        if message.contains("No available servers") { "no server answers" } else { "no primary answers" };
    let reasons = reasons(message);
    if reasons.is_empty() { what.to_owned() } else { format!("{what}: {}", shortened(&reasons.join("; "))) }
}

/// The readable part of a text of the driver or the server.
pub(super) fn sentence(text: &str) -> String {
    let end = text.find("Kind: ").into_iter().chain(text.find('{')).min().unwrap_or(text.len());
    let head = text[..end].trim_end_matches([' ', ':', ',']).to_owned();
    let parts: Vec<_> = std::iter::once(head).chain(reasons(text)).filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "no reason was given".to_owned() } else { shortened(&parts.join(": ")) }
}

/// The errors that the driver wraps in a text, each once: `Kind: <what is wanted>, labels: {…}, source: …`.
fn reasons(text: &str) -> Vec<String> {
    let mut reasons = Vec::new();
    for wrapped in text.split("Kind: ").skip(1) {
        let Some((reason, _)) = wrapped.split_once(", labels:") else { continue };
        let reason = reason.split('{').next().unwrap_or_default();
        let reason = reason.trim_end_matches([' ', ':', ',']).to_owned();
        if !reason.is_empty() && !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    reasons
}

/// One line, and not a long one.
fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LENGTH_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// What is wrong with an address that the driver does not take. Options are named, values are not.
pub(super) async fn address_fault(address: &str, error: &Error) -> String {
    match wrong_option(address).await {
        Some(name) if unknown_option(error) => {
            format!("there is no option {name}{}", similar(error).map_or_else(String::new, |similar| format!("; is it {similar}?")))
        }
        Some(name) => format!("the value of its option {name} is not usable, or not with the other options"),
        None => "write mongodb://[USER:PASSWORD@]HOST[:PORT][,…][/DATABASE][?OPTIONS], with %-escapes for the signs : / ? # [ ] @ in a user or password".to_owned(),
    }
}

/// The option without which the driver would take the address.
async fn wrong_option(address: &str) -> Option<&str> {
    let (place, options) = address.split_once('?')?;
    // A question mark in a password that should have been escaped: what follows is the password's rest.
    if options.contains('@') {
        return None;
    }
    let pairs: Vec<_> = options.split('&').collect();
    for (left_out, pair) in pairs.iter().enumerate() {
        let others = pairs.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, pair)| *pair);
        let others = others.collect::<Vec<_>>().join("&");
        let without = if others.is_empty() { place.to_owned() } else { format!("{place}?{others}") };
        if ClientOptions::parse(&without).await.is_ok() {
            let (name, _) = pair.split_once('=')?;
            return (!name.is_empty() && name.bytes().all(|sign| sign.is_ascii_alphanumeric()))
                .then_some(name);
        }
    }
    None
}

fn unknown_option(error: &Error) -> bool {
    message(error).contains(" is an invalid option")
}

/// The driver's own list of options has one that looks like it.
fn similar(error: &Error) -> Option<&str> {
    message(error).split_once("An option with a similar name exists: ").map(|(_, name)| name)
}

fn message(error: &Error) -> &str {
    match error.kind.as_ref() {
        ErrorKind::InvalidArgument { message, .. } => message,
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mongodb::bson::{Document, doc, from_document};
    use mongodb::error::CommandError;

    fn command(reply: Document) -> Error {
        ErrorKind::Command(from_document::<CommandError>(reply).unwrap()).into()
    }

    async fn fault(address: &str) -> String {
        let error = ClientOptions::parse(address).await.expect_err(address);
        address_fault(address, &error).await
    }

    #[tokio::test]
    async fn a_wrong_option_is_named_and_neither_its_value_nor_a_password_is() {
        for (options, named) in [
            ("conectTimeoutMS=secret", "no option conectTimeoutMS; is it connecttimeoutms?"),
            ("tls=true&nonsense=secret&appName=a", "no option nonsense"),
            ("tls=secret", "option tls"),
            ("readPreference=secret&appName=b", "option readPreference"),
            ("maxPoolSize=secret", "option maxPoolSize"),
        ] {
            let fault = fault(&format!("mongodb://me:secret@a/rollcall?{options}")).await;
            assert!(fault.contains(named) && !fault.contains("secret"), "{options}: {fault}");
        }
        for escapes in
            ["me:sec?ret=1@a/b", "me:sec/ret@a/b", "me:s@ecret@a", "a?secret", "me:%secret@a?tls=true"]
        {
            let fault = fault(&format!("mongodb://{escapes}")).await;
            assert!(fault.contains("with %-escapes") && !fault.contains("ret"), "{escapes}: {fault}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_a_short_sentence_with_the_reason() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let address = format!("mongodb://{nobody}/?serverSelectionTimeoutMS=300");
        let client = mongodb::Client::with_uri_str(address).await.unwrap();
        let error = client.database("rollcall").run_command(doc! { "ping": 1 }).await.unwrap_err();
        let said = plain(&error);
        assert!(said.starts_with("no server answers: ") && said.contains("refused"), "{said}");
        assert!(!said.contains('{') && !said.contains("labels") && !said.contains("Topology"), "{said}");
    }

    #[test]
    fn a_refused_command_is_told_without_what_was_asked() {
        let text =
            "not authorized on rollcall to execute command { find: \"meta\", lsid: { id: UUID(\"0\") } }";
        let said = plain(&command(doc! { "code": 13, "codeName": "Unauthorized", "errmsg": text }));
        assert!(said.contains("readWrite") && !said.contains("lsid"), "{said}");
        let said = plain(&command(
            doc! { "code": 10107, "codeName": "NotWritablePrimary", "errmsg": "not primary" },
        ));
        assert_eq!(said, "MongoDB refused: not primary (NotWritablePrimary, 10107)");
        let said = plain(&command(doc! { "code": 2, "errmsg": "bad\nvalue { x: 1 }" }));
        assert_eq!(said, "MongoDB refused: bad value (2)");
    }

    #[test]
    fn a_write_that_was_not_confirmed_is_told_without_its_details() {
        let reply = doc! { "code": 64, "codeName": "WriteConcernTimeout", "errmsg": "waiting for replication timed out",
        "errInfo": { "wtimeout": true } };
        let error: WriteConcernError = from_document(reply.clone()).unwrap();
        let told = "MongoDB has not confirmed a write: waiting for replication timed out";
        assert_eq!(plain(&ErrorKind::Write(WriteFailure::WriteConcernError(error)).into()), told);
        let many: InsertManyError = from_document(doc! { "writeConcernError": reply }).unwrap();
        assert_eq!(plain(&ErrorKind::InsertMany(many).into()), told);
    }

    #[test]
    fn what_the_driver_wraps_is_unwrapped() {
        let wrapped = "Connection pool for a:27017 cleared because another operation failed with: Kind: I/O error: \
            unexpected end of file, labels: {\"RetryableWriteError\"}, source: None, server response: None";
        assert_eq!(
            sentence(wrapped),
            "Connection pool for a:27017 cleared because another operation failed with: I/O error: unexpected end of file"
        );
        for text in ["", "{ a: 1 }", "Kind: ", "Kind: {, labels: {}"] {
            assert_eq!(sentence(text), "no reason was given", "{text}");
        }
        assert_eq!(sentence(&"ü".repeat(1_000)).chars().count(), LENGTH_MAX + 1);
    }
}
