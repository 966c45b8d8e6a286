//! `rollcall devices`: makes, changes and hands on the passwords of devices.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{Context, bail};
use rollcall_host::credentials::{
    Device, Edit, List, MOSQUITTO_ACL, Secret, mosquitto_passwords, rabbitmq_definitions,
};
use rollcall_host::ops::write_for_owner;
use rollcall_wire::DeviceId;

use crate::config::{DevicesArgs, DevicesCommand, ExportArgs, IssueArgs, RevokeArgs, RotateArgs};
use crate::output::Output;

/// Does it.
///
/// # Errors
/// What is wrong with the file or the devices; then nothing in the file has changed.
pub(crate) fn devices(args: DevicesArgs) -> anyhow::Result<()> {
    match args.command {
        DevicesCommand::Issue(args) => issue(&args),
        DevicesCommand::Rotate(args) => rotate(&args),
        DevicesCommand::Revoke(args) => revoke(&args),
        DevicesCommand::List(file) => list(&file.path),
        DevicesCommand::Export(args) => export(&args),
    }
}

fn issue(args: &IssueArgs) -> anyhow::Result<()> {
    let mut edit = Edit::<Device>::open(&args.file.path)?;
    let ids = match (args.count, &args.prefix) {
        (Some(count), Some(prefix)) => numbered(&edit.list, prefix, count.get())?,
        _ => args.ids.clone(),
    };
    let mut issued = Vec::new();
    for id in ids {
        let secret = Secret::random()?;
        let added = edit.list.add(Device::new(id, &secret)?);
        added.with_context(|| {
            format!(
                "{}: to give a device another password, say rollcall devices rotate",
                edit.path().display()
            )
        })?;
        issued.push((id, secret));
    }
    hand_out(edit, &issued)
}

/// The next `count` ids that begin with `prefix`.
fn numbered(list: &List<Device>, prefix: &str, count: u32) -> anyhow::Result<Vec<DeviceId>> {
    let number = |device: &Device| -> Option<u32> {
        device.id().as_str().strip_prefix(prefix)?.strip_prefix('-')?.parse().ok()
    };
    let next = list.entries().filter_map(number).max().map_or(Some(0), |highest| highest.checked_add(1));
    let numbers = next.and_then(|next| Some(next..next.checked_add(count)?));
    let ids = numbers.with_context(|| format!("--prefix {prefix}: there are no numbers left"))?;
    let id = |number| DeviceId::new(&format!("{prefix}-{number}"));
    ids.map(id).collect::<Result<_, _>>().with_context(|| format!("--prefix {prefix}"))
}

fn rotate(args: &RotateArgs) -> anyhow::Result<()> {
    let mut edit = Edit::<Device>::open(&args.file.path)?;
    let mut issued = Vec::new();
    for id in &args.ids {
        let secret = Secret::random()?;
        let rotated = known(&edit, id)?.with(&secret)?;
        edit.list.replace(rotated);
        issued.push((*id, secret));
    }
    hand_out(edit, &issued)
}

/// Prints the passwords, and lets them in once they are printed: nobody has to look for one that was lost.
fn hand_out(edit: Edit<Device>, issued: &[(DeviceId, Secret)]) -> anyhow::Result<()> {
    let written = edit.write()?;
    let mut output = Output::default();
    for (id, secret) in issued {
        output.line(format_args!("{id},{}", secret.text()));
    }
    output.end()?;
    written.put_in_place().context("the passwords that were printed are not valid")
}

fn revoke(args: &RevokeArgs) -> anyhow::Result<()> {
    let mut edit = Edit::<Device>::open(&args.file.path)?;
    for id in &args.ids {
        let device = known(&edit, id)?;
        if !args.previous {
            edit.list.remove(id.as_str());
        } else if let Some(device) = device.without_previous() {
            edit.list.replace(device);
        } else {
            bail!("{id} has one password only; without --previous, revoke ends that one");
        }
    }
    Ok(edit.write()?.put_in_place()?)
}

fn known<'a>(edit: &'a Edit<Device>, id: &DeviceId) -> anyhow::Result<&'a Device> {
    edit.list.get(id.as_str()).with_context(|| format!("{id} is not in {}", edit.path().display()))
}

fn list(path: &Path) -> anyhow::Result<()> {
    let mut output = Output::default();
    for device in List::<Device>::open(path)?.entries() {
        output.line(format_args!("{},{}", device.id(), device.passwords()));
    }
    Ok(output.end()?)
}

fn export(args: &ExportArgs) -> anyhow::Result<()> {
    let list = List::<Device>::open(&args.file.path)?;
    let Some(directory) = &args.mosquitto else {
        let mut output = Output::default();
        output.line(format_args!("{:#}", rabbitmq_definitions(list.entries(), &args.vhost)));
        return Ok(output.end()?);
    };
    let passwords = mosquitto_passwords(list.entries())?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    for (name, text) in [("passwords", passwords.as_str()), ("acl", MOSQUITTO_ACL)] {
        let path = directory.join(name);
        write_for_owner(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_after_the_highest() {
        let mut list = List::default();
        let mut number = |prefix, count| {
            let ids = numbered(&list, prefix, count)?;
            for id in &ids {
                list.add(Device::new(*id, &Secret::random()?)?)?;
            }
            anyhow::Ok(ids.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(number("sim", 2).unwrap(), ["sim-0", "sim-1"]);
        assert_eq!(number("sim", 1).unwrap(), ["sim-2"]);
        assert_eq!(number("sim-2", 1).unwrap(), ["sim-2-0"]);
        assert_eq!(number("si", 1).unwrap(), ["si-0"]);
        let error = format!("{:#}", number("Sim", 1).unwrap_err());
        assert!(error.contains("--prefix Sim") && error.contains("a device id is"), "{error}");
        list.add(Device::new("sim-4294967295".parse().unwrap(), &Secret::random().unwrap()).unwrap())
            .unwrap();
        assert!(numbered(&list, "sim", 1).is_err());
    }
}
