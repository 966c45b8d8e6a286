//! The devices in the words of other programs, so that the same device settings work there: RabbitMQ's definitions, and
//! mosquitto's password and ACL files. Both know one password a user: the newest.

use std::fmt::Write;

use serde_json::{Value, json};

use super::devices::Device;
use super::list::Entry;

/// Which topics a device may publish to at RabbitMQ, where levels end with dots. `{username}` and not `{client_id}`:
/// a client chooses its id as it likes.
const RABBITMQ_TOPICS: &str = r"^rollcall\.[0-9a-f]\.{username}\.(status|presence)$";

/// The exchange that MQTT's topics are at.
const RABBITMQ_EXCHANGE: &str = "amq.topic";

/// Matches the empty name only, so nothing.
const NOTHING: &str = "^$";

/// The same for every device.
pub const MOSQUITTO_ACL: &str = "\
# What a Rollcall device may publish to; %u is its user name. Written by rollcall devices export.
pattern write rollcall/+/%u/status
pattern write rollcall/+/%u/presence
";

/// A device whose password mosquitto cannot check.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{device} has no hash that mosquitto reads, and none can be made without its password: rotate it")]
pub struct NoMosquittoHash {
    device: String,
}

/// What `rabbitmqctl import_definitions` reads: a user for each device, who may publish to its own topics in `vhost`
/// and do nothing else.
pub fn rabbitmq_definitions<'a>(devices: impl Iterator<Item = &'a Device>, vhost: &str) -> Value {
    let (mut users, mut permissions, mut topic_permissions) = (Vec::new(), Vec::new(), Vec::new());
    for device in devices {
        let name = device.name();
        users.push(json!({
            "name": name,
            "password_hash": device.rabbitmq().to_string(),
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": [],
        }));
        permissions.push(json!({
            "user": name,
            "vhost": vhost,
            "configure": NOTHING,
            "write": r"^amq\.topic$",
            "read": NOTHING,
        }));
        // A user without such an entry may publish to every topic.
        topic_permissions.push(json!({
            "user": name,
            "vhost": vhost,
            "exchange": RABBITMQ_EXCHANGE,
            "write": RABBITMQ_TOPICS,
            "read": NOTHING,
        }));
    }
    json!({"users": users, "permissions": permissions, "topic_permissions": topic_permissions})
}

/// mosquitto's password file.
///
/// # Errors
/// [`NoMosquittoHash`] for the first device that has none.
pub fn mosquitto_passwords<'a>(devices: impl Iterator<Item = &'a Device>) -> Result<String, NoMosquittoHash> {
    let mut text = String::new();
    for device in devices {
        let none = || NoMosquittoHash { device: device.name().to_owned() };
        let hash = device.mosquitto().ok_or_else(none)?;
        writeln!(text, "{}:{hash}", device.name()).expect("a string takes all that is written to it");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::{List, Secret};
    use super::*;

    #[test]
    fn a_broker_is_told_the_newest_password_and_the_devices_own_topics() {
        let secret = Secret::random().unwrap();
        let device = Device::new("porch".parse().unwrap(), &secret).unwrap();
        let rotated = device.with(&Secret::random().unwrap()).unwrap();
        let text = rotated.to_string();
        let [newest, previous] = text.strip_prefix("porch ").unwrap().split(' ').collect::<Vec<_>>()[..]
        else {
            panic!("{text}")
        };
        let (rabbitmq, mosquitto) = newest.split_once(',').unwrap();
        let definitions = rabbitmq_definitions([&rotated].into_iter(), "/");
        assert_eq!(definitions["users"][0]["password_hash"], rabbitmq);
        assert_eq!(definitions["users"][0]["name"], "porch");
        assert_eq!(definitions["permissions"][0]["configure"], "^$");
        let topics = &definitions["topic_permissions"][0];
        assert_eq!(topics["write"], r"^rollcall\.[0-9a-f]\.{username}\.(status|presence)$");
        assert_eq!((&topics["user"], &topics["exchange"]), (&json!("porch"), &json!("amq.topic")));
        assert!(!definitions.to_string().contains(previous));
        assert_eq!(mosquitto_passwords([&rotated].into_iter()), Ok(format!("porch:{mosquitto}\n")));
    }

    #[test]
    fn a_device_that_mosquitto_could_not_let_in_is_named() {
        let list = List::<Device>::read(b"porch kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR").unwrap();
        let error = mosquitto_passwords(list.entries()).unwrap_err().to_string();
        assert!(error.starts_with("porch has no hash") && error.contains("rotate"), "{error}");
    }
}
