//! Several mongods as one replica set on this machine.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;

use super::Mongod;
use crate::{tools, wait};

const NAME: &str = "rs0";

/// An election takes 10 s by default; ours 2 s.
const ELECTION_LIMIT: Duration = Duration::from_secs(60);

/// Initiates the set that argument 1 describes, or prints the port of the primary, if there is one.
const SCRIPT: &str = "
import json, sys, pymongo
ports = json.loads(sys.argv[2])
def admin(port):
    return pymongo.MongoClient('127.0.0.1', port, directConnection=True, serverSelectionTimeoutMS=2000).admin
if sys.argv[1] == 'initiate':
    members = [{'_id': n, 'host': f'127.0.0.1:{port}'} for n, port in enumerate(ports)]
    admin(ports[0]).command('replSetInitiate', {'_id': 'rs0', 'members': members,
        'settings': {'electionTimeoutMillis': 2000, 'heartbeatIntervalMillis': 500}})
else:
    for port in ports:
        try:
            if admin(port).command('hello').get('isWritablePrimary'):
                print(port)
                break
        except pymongo.errors.PyMongoError:
            pass
";

/// A running replica set; dropped, all its members have ended.
pub struct ReplicaSet {
    members: Vec<Mongod>,
}

impl ReplicaSet {
    /// Starts `count` members on free ports with data in `dir`, and waits for a primary.
    ///
    /// # Errors
    /// When they cannot be fetched or started, or elect nobody.
    pub fn start(dir: &Path, count: usize) -> Result<Self> {
        let mut members = Vec::with_capacity(count);
        for number in 0..count {
            let dir = dir.join(format!("member-{number}"));
            fs::create_dir_all(&dir)?;
            members.push(Mongod::start_member(&dir, NAME)?);
        }
        let set = Self { members };
        set.ask("initiate")?;
        set.primary()?;
        Ok(set)
    }

    /// The address of the set with a database.
    pub fn url(&self, database: &str) -> String {
        let hosts: Vec<_> =
            self.members.iter().map(|member| format!("127.0.0.1:{}", member.port())).collect();
        format!("mongodb://{}/{database}?replicaSet={NAME}", hosts.join(","))
    }

    /// The index of the primary, as soon as there is one.
    ///
    /// # Errors
    /// When none is elected in time.
    pub fn primary(&self) -> Result<usize> {
        wait::until("a primary", ELECTION_LIMIT, || {
            let port = self.ask("primary")?;
            Ok(self.members.iter().position(|member| member.port().to_string() == port.trim()))
        })
    }

    /// One of the members.
    pub fn member(&mut self, index: usize) -> &mut Mongod {
        &mut self.members[index]
    }

    fn ask(&self, what: &str) -> Result<String> {
        let ports: Vec<Value> = self.members.iter().map(|member| member.port().into()).collect();
        let mut python = tools::python_with_pymongo()?.command();
        let result = python.args(["-c", SCRIPT, what, &Value::from(ports).to_string()]).output()?;
        ensure!(result.status.success(), "python failed: {}", String::from_utf8_lossy(&result.stderr));
        Ok(String::from_utf8_lossy(&result.stdout).into_owned())
    }
}
