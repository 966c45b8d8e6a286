//! What the Python demo stored moves into the log, each document once.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use rollcall_harness::counts::StatusCounts;
use rollcall_harness::host::{HostProcess, HostSettings, Role};
use rollcall_harness::process::Process;
use rollcall_harness::services::Mongod;
use rollcall_harness::tools;

use crate::setup::TestSystem;

/// Some ten thousand documents.
const IMPORT_LIMIT: Duration = Duration::from_secs(60);

/// What a demo's consumer has written, some of it badly; prints the counts of the good ones.
const OLD_DOCUMENTS: &str = "
import sys, json, datetime, random, pymongo
url, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
random.seed(first)
moment = lambda second: datetime.datetime.fromtimestamp(second, datetime.timezone.utc)
counts, documents = [0] * 7, []
for n in range(first, first + count):
    status, second = random.randrange(7), 1700000000 + n
    counts[status] += 1
    time = random.choice([second, float(second) + 0.25, moment(second)])
    # Some after and some before those of an earlier run, in the order of their ids.
    documents.append({'_id': n if n % 2 else -n, 'status': status, 'timestamp': time})
documents += [{'status': 7, 'timestamp': 1}, {'timestamp': 1}, {'status': 1}, {'status': 1, 'timestamp': 'now'}]
pymongo.MongoClient(url).get_default_database().messages.insert_many(documents)
print(json.dumps(counts))
";

fn write(mongod: &Mongod, first: u32, count: u32) -> Result<StatusCounts> {
    let mut python = tools::python_with_pymongo()?.command();
    python.args(["-c", OLD_DOCUMENTS, &mongod.url("demo"), &first.to_string(), &count.to_string()]);
    let output = python.output()?;
    ensure!(output.status.success(), "pymongo: {}", String::from_utf8_lossy(&output.stderr));
    StatusCounts::from_array(&serde_json::from_slice(&output.stdout)?)
}

fn import(settings: &HostSettings, mongod: &Mongod) -> Command {
    let mut command = Command::new(&settings.binary);
    command.args(["import", "--from", &mongod.url("demo.messages"), "--store", &mongod.url("rollcall")]);
    command
}

#[test]
fn the_demos_documents_are_imported_once_however_often_it_is_done() -> Result<()> {
    let Some(system) = TestSystem::new()? else { return Ok(()) };
    let mongod = system.mongod()?;
    let settings = system.host("api", Role::Api, "", &mongod.url("rollcall"))?;
    let import = || -> Result<String> {
        let output = import(&settings, &mongod).output()?;
        // One document has no status, which the exit status says too.
        ensure!(output.status.code() == Some(1), "import: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    };
    let mut expected = write(&mongod, 1, 10_000)?;
    let summary = import()?;
    assert!(summary.contains("10000 imported") && summary.contains("1 refused: no status"), "{summary}");
    let api = HostProcess::start(&settings)?;
    assert_eq!(api.all_counts()?, expected);
    let summary = import()?;
    assert!(summary.contains("\n0 imported") && summary.contains("10000 were there already"), "{summary}");
    assert_eq!(api.all_counts()?, expected);
    expected += write(&mongod, 10_001, 500)?;
    assert!(import()?.contains("\n500 imported"));
    assert_eq!(api.all_counts()?, expected);
    let second = api.counts(1_700_000_007, 1_700_000_008)?;
    assert_eq!(second.total(), 1, "a document is counted in its own second");
    api.stop()
}

#[test]
fn two_imports_at_once_count_each_document_once() -> Result<()> {
    let Some(system) = TestSystem::new()? else { return Ok(()) };
    let mongod = system.mongod()?;
    let settings = system.host("api", Role::Api, "", &mongod.url("rollcall"))?;
    let expected = write(&mongod, 1, 20_000)?;
    let start = |name: &str| Process::start("import", import(&settings, &mongod), &system.folder(name)?);
    for mut import in [start("first")?, start("second")?] {
        let status = import.wait(IMPORT_LIMIT)?;
        println!("{}", import.stdout()?);
        ensure!(status.code() == Some(1), "{}: {status}", import.last_words());
    }
    let api = HostProcess::start(&settings)?;
    assert_eq!(api.all_counts()?, expected);
    api.stop()
}
