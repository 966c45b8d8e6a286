//! Whom a source lets in, and what each may publish: the whole fleet with one password, or each device with its own.

use rollcall_wire::{DeviceId, Topic};

use crate::credentials::{Credentials, Devices, Live, SaltedHash};

/// Who may come in. With neither a password nor devices, everybody.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    /// Who shows these may publish for every device.
    pub fleet: Option<Credentials>,
    /// Who is one of these may publish for itself.
    pub devices: Option<Live<Devices>>,
}

impl From<Option<Credentials>> for Admission {
    fn from(fleet: Option<Credentials>) -> Self {
        Self { fleet, devices: None }
    }
}

/// Why a client is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotAdmitted {
    /// Nobody has that name and password.
    BadUserNameOrPassword,
    /// It is a device, and its client id is another device's, whose connection it would end.
    OtherDevicesClientId,
}

/// What a client may do.
#[derive(Clone, Debug, Default)]
pub(super) enum Rights {
    /// Nothing: it is not let in yet.
    #[default]
    None,
    /// Publish for every device.
    Fleet,
    /// Publish for itself, as long as the password that it showed is valid.
    Device { id: DeviceId, password: SaltedHash, devices: Live<Devices> },
}

impl Admission {
    /// Does everybody come in?
    pub fn is_open(&self) -> bool {
        self.fleet.is_none() && self.devices.is_none()
    }

    /// Who says `user` and `password`, and calls its connection `client_id`, gets these rights.
    pub(super) fn admit(
        &self,
        user: Option<&[u8]>,
        password: Option<&[u8]>,
        client_id: &str,
    ) -> Result<Rights, NotAdmitted> {
        if self.is_open() || self.fleet.as_ref().is_some_and(|fleet| fleet.admit(user, password)) {
            return Ok(Rights::Fleet);
        }
        let bad = NotAdmitted::BadUserNameOrPassword;
        let devices = self.devices.as_ref().ok_or(bad)?;
        let in_force = devices.get();
        let (user, password) = (user.unwrap_or_default(), password.unwrap_or_default());
        let (id, password) = in_force.admit(user, password).ok_or(bad)?;
        if client_id != id.as_str() && in_force.knows(client_id) {
            return Err(NotAdmitted::OtherDevicesClientId);
        }
        Ok(Rights::Device { id, password, devices: devices.clone() })
    }
}

impl Rights {
    /// May it publish there? What is no topic of ours may pass: it is refused by its own name, and nobody's.
    pub(super) fn may_publish(&self, topic: &str) -> bool {
        match self {
            Self::None => false,
            Self::Fleet => true,
            Self::Device { id, .. } => Topic::parse(topic).map_or(true, |topic| topic.device == *id),
        }
    }

    /// Is what it came in with still valid?
    pub(super) fn are_valid(&self) -> bool {
        match self {
            Self::None => false,
            Self::Fleet => true,
            Self::Device { id, password, devices } => devices.get().has(id, password),
        }
    }

    /// Completes when that is valid no longer.
    pub(super) async fn revoked(&mut self) {
        while self.are_valid() {
            match self {
                Self::Device { devices, .. } => devices.changed().await,
                Self::None | Self::Fleet => std::future::pending().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::credentials::{Device, Secret};

    /// Who may come in, and the passwords of `porch` and `attic`.
    fn admission(directory: &Path) -> (Admission, [Secret; 2]) {
        let secrets: [Secret; 2] = std::array::from_fn(|_| Secret::random().unwrap());
        let line = |name: &str, secret| format!("{}\n", Device::new(name.parse().unwrap(), secret).unwrap());
        let path = directory.join("devices");
        fs::write(&path, line("porch", &secrets[0]) + &line("attic", &secrets[1])).unwrap();
        let fleet = Some(Credentials { user: "fleet".into(), password: "of the whole fleet".into() });
        (Admission { fleet, devices: Some(Live::open(&path).unwrap().0) }, secrets)
    }

    fn topic(device: &str) -> String {
        let device = device.parse().unwrap();
        Topic { device, kind: rollcall_wire::Kind::Status }.name().to_string()
    }

    #[test]
    fn a_device_publishes_for_itself_and_the_fleets_password_for_all() {
        let directory = tempfile::tempdir().unwrap();
        let (admission, [porch, _]) = admission(directory.path());
        let porch = admission.admit(Some(b"porch"), Some(porch.text().as_bytes()), "porch").unwrap();
        assert!(porch.may_publish(&topic("porch")));
        assert!(porch.may_publish(&topic("porch").replace("/status", "/presence")));
        assert!(!porch.may_publish(&topic("attic")) && !porch.may_publish(&topic("nobody")));
        let fleet = admission.admit(Some(b"fleet"), Some(b"of the whole fleet"), "attic").unwrap();
        assert!(fleet.may_publish(&topic("porch")) && fleet.may_publish(&topic("attic")));
        assert!(!Rights::default().may_publish(&topic("porch")) && !Rights::default().are_valid());
    }

    #[test]
    fn nobody_comes_in_with_another_name_password_or_client_id() {
        let directory = tempfile::tempdir().unwrap();
        let (admission, [porch, attic]) = admission(directory.path());
        let refused = |user: Option<&str>, password: Option<&str>, client_id: &str| {
            let (user, password) = (user.map(str::as_bytes), password.map(str::as_bytes));
            admission.admit(user, password, client_id).err()
        };
        let (porch, attic) = (porch.text(), attic.text());
        let bad = Some(NotAdmitted::BadUserNameOrPassword);
        for (user, password) in [
            (None, None),
            (Some("porch"), None),
            (None, Some(porch)),
            (Some("porch"), Some(attic)),
            (Some("fleet"), Some(porch)),
            (Some("porch"), Some("of the whole fleet")),
            (Some("nobody"), Some(porch)),
        ] {
            assert_eq!(refused(user, password, "porch"), bad, "{user:?}");
        }
        assert_eq!(refused(Some("porch"), Some(porch), "attic"), Some(NotAdmitted::OtherDevicesClientId));
        for client_id in ["porch", "", "mosq-123", "Attic"] {
            assert_eq!(refused(Some("porch"), Some(porch), client_id), None, "{client_id}");
        }
    }
}
