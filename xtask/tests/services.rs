//! RabbitMQ, mosquitto and mongod come up, come back on the same data after `kill -9`, and leave nothing behind.

use std::process::Command;
use std::thread;

use anyhow::Result;
use rollcall_harness::cargo::{self, Profile, Program};
use rollcall_harness::host::tls_init;
use rollcall_harness::services::{self, Mongod, Mosquitto, Rabbitmq, RabbitmqNode, ReplicaSet};
use rollcall_harness::{ports, tools, workspace};

#[test]
fn rabbitmq_takes_mqtt_5_with_its_password_only_for_its_user_and_again_after_a_kill() -> Result<()> {
    if !services::can_run(thread::current().name().unwrap_or("services"))? {
        return Ok(());
    }
    let dir = workspace::temporary_dir()?;
    let mut rabbitmq = Rabbitmq::start(dir.path())?;
    let publish = |address: &str, user: &[&str]| -> Result<bool> {
        let (host, port) = address.split_once(':').unwrap_or((address, ""));
        let mut command = tools::mosquitto_pub()?.command();
        command.args(["-V", "5", "-h", host, "-p", port, "-q", "1", "-t", "t", "-m", "m"]).args(user);
        Ok(command.output()?.status.success())
    };
    assert!(publish(&rabbitmq.address(), &["-u", "rollcall", "-P", "rollcall"])?);
    assert!(!publish(&rabbitmq.address(), &["-u", "rollcall", "-P", "wrong"])?);
    rabbitmq.restart()?;
    assert!(publish(&rabbitmq.address(), &[])?, "anonymous devices are let in for tests");
    let port = rabbitmq.address().rsplit(':').next().and_then(|port| port.parse().ok());
    drop(rabbitmq);
    assert!(port.is_some_and(ports::is_free));
    Ok(())
}

#[test]
fn both_brokers_take_mqtt_5_over_tls_with_a_certificate_that_rollcall_made() -> Result<()> {
    if !services::can_run(thread::current().name().unwrap_or("services"))? {
        return Ok(());
    }
    let dir = workspace::temporary_dir()?;
    tls_init(&cargo::build(Program::LeanHost, Profile::Dev)?, dir.path())?;
    let node = RabbitmqNode::new(&dir.path().join("rabbitmq"), ports::free()?)?;
    let rabbitmq = Rabbitmq::start_node(node.with_tls(dir.path(), ports::free()?)?)?;
    let mosquitto = Mosquitto::start_with_tls(dir.path(), dir.path())?;
    for address in [rabbitmq.tls_address(), mosquitto.tls_address()].into_iter().flatten() {
        let (_, port) = address.split_once(':').unwrap_or_default();
        for (authority, is_taken) in [("ca.pem", true), ("server.key", false)] {
            let mut command = tools::mosquitto_pub()?.command();
            command.args(["-V", "5", "-h", "localhost", "-p", port, "-q", "1", "-t", "t", "-m", "m"]);
            let output = command.arg("--cafile").arg(dir.path().join(authority)).output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.success(), is_taken, "{address} with {authority}: {said}");
        }
    }
    Ok(())
}

#[test]
fn what_mongod_acknowledged_is_there_after_a_kill() -> Result<()> {
    if !services::can_run(thread::current().name().unwrap_or("services"))? {
        return Ok(());
    }
    let dir = workspace::temporary_dir()?;
    let mut mongod = Mongod::start(dir.path())?;
    python(
        &mongod.url("d"),
        "db.get_default_database().c.with_options(write_concern=pymongo.WriteConcern(j=True)).insert_one({'_id': 7})",
    )?;
    mongod.restart()?;
    assert_eq!(python(&mongod.url("d"), "print(db.get_default_database().c.count_documents({}))")?, "1");
    mongod.stop()
}

#[test]
fn a_replica_set_elects_another_primary_when_its_primary_is_killed() -> Result<()> {
    if !services::can_run(thread::current().name().unwrap_or("services"))? {
        return Ok(());
    }
    let dir = workspace::temporary_dir()?;
    let mut set = ReplicaSet::start(dir.path(), 3)?;
    let first = set.primary()?;
    set.member(first).kill();
    assert_ne!(set.primary()?, first);
    Ok(())
}

fn python(url: &str, what: &str) -> Result<String> {
    let script = format!("import pymongo\ndb = pymongo.MongoClient('{url}')\n{what}");
    let mut python: Command = tools::python_with_pymongo()?.command();
    let output = python.args(["-c", &script]).output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
