//! What no compiler checks: which crate and which of the host's folders may use which, and how long a file may be.
//!
//! The tables here are the rule. An exception is a line in a list, so that everybody sees it; one that is needed no
//! longer is a failure too. Not seen: names by way of `super`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rollcall_harness::cargo::Workspace;
use rollcall_harness::workspace;
use serde_json::Value;

/// A crate of the root workspace, what it may link, and what its tests may use besides.
const CRATES: [(&str, &[&str], &[&str]); 8] = [
    ("rollcall-wire", &[], &[]),
    // These three name themselves, with features for their tests.
    ("rollcall-provision", &["rollcall-wire"], &["rollcall-provision"]),
    ("rollcall-device", &["rollcall-wire"], &["rollcall-device", "rollcall-harness"]),
    ("rollcall-host", &["rollcall-wire"], &["rollcall-host", "rollcall-harness"]),
    ("rollcall-device-tls", &[], &["rollcall-harness"]),
    ("rollcall-harness", &["rollcall-provision", "rollcall-wire"], &[]),
    ("rollcall-simulate", &["rollcall-device", "rollcall-harness", "rollcall-host", "rollcall-wire"], &[]),
    ("xtask", &["rollcall-harness", "rollcall-provision", "rollcall-wire"], &[]),
];

/// What every crate of the boards' workspace may link, beside other crates of that workspace.
const BOARDS: [&str; 4] = ["rollcall-device", "rollcall-device-tls", "rollcall-provision", "rollcall-wire"];

/// A folder of `host/src`, from the ground floor up, and the folders that it may name.
const FOLDERS: [(&str, &[&str]); 10] = [
    ("model", &[]),
    ("ops", &["model"]),
    ("log", &["model", "ops"]),
    ("credentials", &["model", "ops"]),
    ("tls", &["model", "ops"]),
    ("source", &["model", "ops", "credentials", "tls"]),
    ("intake", &["model", "ops", "log"]),
    ("fleet", &["model", "log"]),
    ("api", &["model", "ops", "log", "credentials", "fleet"]),
    ("bin", &["model", "ops", "log", "credentials", "tls", "source", "intake", "fleet", "api"]),
];

/// What stands in `host/src` and in none of its folders.
const OUTSIDE_FOLDERS: [&str; 1] = ["lib.rs"];

/// The longest file, in lines.
const LINES_MAX: usize = 400;

/// Where that holds.
const MEASURED: [&str; 4] = ["device/src", "device/tls", "host/src", "xtask"];

/// Files that are longer.
const LONG_FILES: [&str; 0] = [];

/// Fails when a crate depends on one that it may not know.
pub(super) fn check_crates() -> Result<()> {
    let mut found = Vec::new();
    for workspace in Workspace::ALL {
        let mut command = workspace.cargo(&["metadata", "--no-deps", "--format-version", "1"]);
        let output = command.output().context("cannot start cargo")?;
        ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        let metadata = serde_json::from_slice(&output.stdout).context("cargo metadata is not JSON")?;
        found.extend(crate_breaches(workspace, &metadata)?);
    }
    report(found)
}

fn crate_breaches(workspace: Workspace, metadata: &Value) -> Result<Vec<String>> {
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let members: Vec<_> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut found = Vec::new();
    for package in packages {
        let name = package["name"].as_str().context("a package has no name")?;
        let rule = CRATES.iter().find(|(listed, ..)| *listed == name);
        if rule.is_none() && workspace == Workspace::Root {
            found.push(format!("{name} is not in the table of crates"));
            continue;
        }
        let dependencies = package["dependencies"].as_array().context("a package has no dependencies")?;
        for dependency in dependencies.iter().filter(|dependency| dependency["path"].is_string()) {
            let used = dependency["name"].as_str().context("a dependency has no name")?;
            let in_tests = dependency["kind"] == "dev";
            let may = match rule {
                Some((_, links, tests)) => links.contains(&used) || in_tests && tests.contains(&used),
                None => BOARDS.contains(&used) || members.contains(&used),
            };
            if !may {
                found.push(format!("{name} depends on {used}"));
            }
        }
    }
    Ok(found)
}

/// Fails when a folder of the host names one that it may not know, or something lies in no folder.
pub(super) fn check_host_folders() -> Result<()> {
    let src = workspace::root().join("host/src");
    let mut found = Vec::new();
    let mut outside = BTreeSet::new();
    for path in rust_files(&src)? {
        let name = relative(&path, &src);
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?;
        let top = name.split('/').next().unwrap_or_default();
        let Some((_, may)) = FOLDERS.iter().find(|(folder, _)| *folder == top) else {
            outside.insert(top.to_owned());
            continue;
        };
        for named in folders_named(&text) {
            if named != top && !may.contains(&named) {
                found.push(format!("host/src/{name} names {named}, which its folder may not know"));
            }
        }
    }
    let listed = OUTSIDE_FOLDERS.map(str::to_owned).into();
    found.extend(differences(&outside, &listed, |name| format!("host/src/{name} is in no known folder")));
    report(found)
}

/// Which of the host's folders a file names: as `crate::log::…`, or in `crate::{log::…, …}`.
fn folders_named(text: &str) -> BTreeSet<&str> {
    let mut words = BTreeSet::new();
    for (at, path) in text.match_indices("crate::") {
        let line = text[..at].rsplit('\n').next().unwrap_or_default();
        // A comment links nothing, and `some_crate::` is another crate.
        if line.contains("//") || line.ends_with(|before: char| before.is_alphanumeric() || before == '_') {
            continue;
        }
        let rest = &text[at + path.len()..];
        match rest.strip_prefix('{') {
            None => words.extend(first_word(rest)),
            Some(group) => words.extend(members(group)),
        }
    }
    words.retain(|word| FOLDERS.iter().any(|(folder, _)| folder == word));
    words
}

/// The first word of each member of a group, whose opening bracket is gone already.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut words) = (1, 0, Vec::new());
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || depth == 1 && character == ',' {
            words.extend(first_word(&group[start..at]));
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    words
}

fn first_word(text: &str) -> Option<&str> {
    text.trim_start().split(|character: char| !character.is_alphanumeric() && character != '_').next()
}

/// Fails when a file is too long.
pub(super) fn check_lengths() -> Result<()> {
    let root = workspace::root();
    let mut long = BTreeSet::new();
    for folder in MEASURED {
        for path in rust_files(&root.join(folder))? {
            let name = relative(&path, root);
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {name}"))?;
            if text.lines().count() > LINES_MAX {
                long.insert(name);
            }
        }
    }
    let listed = LONG_FILES.map(str::to_owned).into();
    report(differences(&long, &listed, |name| format!("{name} has more than {LINES_MAX} lines")))
}

/// What was found and is not listed, as `breach` words it; and what is listed and was not found.
fn differences(
    found: &BTreeSet<String>,
    listed: &BTreeSet<String>,
    breach: impl Fn(&String) -> String,
) -> Vec<String> {
    let unlisted = found.difference(listed).map(breach);
    let stale = listed.difference(found).map(|item| format!("{item} is listed and needs no exception"));
    unlisted.chain(stale).collect()
}

fn report(found: Vec<String>) -> Result<()> {
    ensure!(found.is_empty(), "{}; the rule is in xtask/src/ci/tidy.rs", found.join("; "));
    Ok(())
}

/// Every file of Rust below `folder`.
fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(files)
}

fn relative(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_arrow_that_is_not_in_the_table_is_found() {
        let package = |name: &str, used: &str, kind: Value| {
            json!({"name": name, "dependencies": [
                {"name": used, "kind": kind, "path": "somewhere"},
                {"name": "of-a-registry", "kind": null},
            ]})
        };
        let breaches = |workspace, package| {
            crate_breaches(
                workspace,
                &json!({"packages": [package, {"name": "rollcall-qemu-support", "dependencies": []}]}),
            )
            .unwrap()
            .into_iter()
            .filter(|breach| !breach.contains("not in the table"))
            .collect::<Vec<_>>()
        };
        let root = |name: &str, used: &str, kind| breaches(Workspace::Root, package(name, used, kind));
        assert_eq!(root("rollcall-host", "rollcall-wire", Value::Null), [""; 0]);
        assert_eq!(root("rollcall-host", "rollcall-harness", json!("dev")), [""; 0]);
        let linked = root("rollcall-host", "rollcall-harness", Value::Null);
        assert_eq!(linked, ["rollcall-host depends on rollcall-harness"]);
        let upwards = root("rollcall-harness", "rollcall-host", json!("dev"));
        assert_eq!(upwards, ["rollcall-harness depends on rollcall-host"]);
        let boards =
            |used: &str| breaches(Workspace::Boards, package("rollcall-device-new", used, Value::Null));
        assert_eq!(boards("rollcall-device"), [""; 0]);
        assert_eq!(boards("rollcall-qemu-support"), [""; 0]);
        assert_eq!(boards("xtask"), ["rollcall-device-new depends on xtask"]);
    }

    #[test]
    fn a_crate_that_is_not_in_the_table_is_found() {
        let metadata = json!({"packages": [{"name": "rollcall-new", "dependencies": []}]});
        let breaches = crate_breaches(Workspace::Root, &metadata).unwrap();
        assert_eq!(breaches, ["rollcall-new is not in the table of crates"]);
        assert_eq!(crate_breaches(Workspace::Boards, &metadata).unwrap(), [""; 0]);
    }

    #[test]
    fn the_folders_that_a_file_names_are_found() {
        let text = "\
            //! [`crate::bin`] is a comment.\n\
            use crate::log::{Entry, model};\n\
            use crate::{\n    api::{ops, Router},\n    intake, // crate::bin\n};\n\
            use other_crate::bin::Thing;\n\
            fn f() { source(crate::model::now(), crate::elsewhere()) }\n";
        assert_eq!(folders_named(text), BTreeSet::from(["log", "api", "intake", "model"]));
        assert_eq!(folders_named("use crate::{ops, source::Inbox"), BTreeSet::from(["ops"]));
    }

    #[test]
    fn each_folder_knows_lower_floors_only() {
        for (floor, (folder, may)) in FOLDERS.iter().enumerate() {
            for named in *may {
                assert!(FOLDERS[..floor].iter().any(|(lower, _)| lower == named), "{folder} names {named}");
            }
        }
    }

    #[test]
    fn an_exception_that_nobody_needs_is_found() {
        let names = |names: [&str; 2]| names.map(str::to_owned).into();
        let (found, listed) = (names(["new", "known"]), names(["known", "old"]));
        let differences = differences(&found, &listed, |name| format!("{name} is too long"));
        assert_eq!(differences, ["new is too long", "old is listed and needs no exception"]);
    }
}
