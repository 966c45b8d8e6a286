//! The devices file: `ID PASSWORD [PASSWORD]`, the newest password first, each as its hash and, after a comma, the one
//! that mosquitto reads. Two passwords are valid while a device is given the new one.

use std::collections::HashMap;
use std::fmt;

use rollcall_wire::DeviceId;

use super::list::{Entry, List};
use super::live::Kept;
use super::mosquitto_hash::MosquittoHash;
use super::secret::{NoRandomness, SaltedHash, Secret};
use crate::ops::CredentialsFile;

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    id: DeviceId,
    newest: Password,
    previous: Option<Password>,
}

/// What is kept of a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Password {
    hash: SaltedHash,
    /// It cannot be made of the other. A line of other origin, as out of RabbitMQ, has none.
    mosquitto: Option<MosquittoHash>,
}

impl Device {
    /// A device and its first password.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn new(id: DeviceId, secret: &Secret) -> Result<Self, NoRandomness> {
        Ok(Self { id, newest: Password::of(secret)?, previous: None })
    }

    /// The same device with a further password; of those before, the newest stays valid.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn with(&self, secret: &Secret) -> Result<Self, NoRandomness> {
        Ok(Self { id: self.id, newest: Password::of(secret)?, previous: Some(self.newest) })
    }

    /// The same device with its newest password only; `None` when it has no other.
    pub fn without_previous(&self) -> Option<Self> {
        self.previous.map(|_| Self { previous: None, ..self.clone() })
    }

    /// Who it is.
    pub fn id(&self) -> DeviceId {
        self.id
    }

    /// How many passwords are valid: 1, or 2.
    pub fn passwords(&self) -> usize {
        1 + usize::from(self.previous.is_some())
    }

    /// The newest password's hash, in RabbitMQ's form.
    pub(super) fn rabbitmq(&self) -> SaltedHash {
        self.newest.hash
    }

    /// The newest password's hash, in mosquitto's form.
    pub(super) fn mosquitto(&self) -> Option<MosquittoHash> {
        self.newest.mosquitto
    }
}

impl Entry for Device {
    fn parse(words: &[&str]) -> Result<Self, String> {
        let (id, newest, previous) = match words {
            [id, newest] => (id, newest, None),
            [id, newest, previous] => (id, newest, Some(previous)),
            [_] => return Err("the device has no password: take the line out, or issue one".into()),
            _ => return Err("there are more than a device and two passwords".into()),
        };
        let id = DeviceId::new(id).map_err(|error| format!("does not begin with a device: {error}"))?;
        let newest = Password::parse(newest)?;
        Ok(Self { id, newest, previous: previous.map(|previous| Password::parse(previous)).transpose()? })
    }

    fn name(&self) -> &str {
        self.id.as_str()
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.id, self.newest)?;
        self.previous.iter().try_for_each(|previous| write!(f, " {previous}"))
    }
}

impl Password {
    fn of(secret: &Secret) -> Result<Self, NoRandomness> {
        Ok(Self { hash: SaltedHash::of(secret)?, mosquitto: Some(MosquittoHash::of(secret)?) })
    }

    fn parse(word: &str) -> Result<Self, &'static str> {
        let (hash, mosquitto) = match word.split_once(',') {
            Some((hash, mosquitto)) => (hash, Some(mosquitto)),
            None => (word, None),
        };
        let hash = SaltedHash::parse(hash)
            .ok_or("a password is not there as its hash: base64 of 4 bytes of salt and 32 of SHA-256")?;
        let mosquitto = mosquitto.map(MosquittoHash::parse).map(|parsed| {
            parsed.ok_or(
                "what follows a comma is not mosquitto's hash of the password: $7$…, with a salt of 12 bytes",
            )
        });
        Ok(Self { hash, mosquitto: mosquitto.transpose()? })
    }
}

impl fmt::Display for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.hash)?;
        self.mosquitto.iter().try_for_each(|mosquitto| write!(f, ",{mosquitto}"))
    }
}

/// Which device has which passwords: what a server keeps of the file.
#[derive(Debug)]
pub struct Devices(HashMap<DeviceId, (SaltedHash, Option<SaltedHash>)>);

impl Devices {
    /// Every device that has a credential.
    pub fn ids(&self) -> impl Iterator<Item = DeviceId> + '_ {
        self.0.keys().copied()
    }

    /// Has a device a credential?
    pub fn contains(&self, device: &DeviceId) -> bool {
        self.0.contains_key(device)
    }

    /// The device that a client is, and the password that it showed; `None` when it is none.
    pub(crate) fn admit(&self, user: &[u8], password: &[u8]) -> Option<(DeviceId, SaltedHash)> {
        let id = str::from_utf8(user).ok().and_then(|user| DeviceId::new(user).ok());
        let device = id.and_then(|id| Some((id, self.0.get(&id)?)));
        let Some((id, (newest, previous))) = device else {
            let _ = SaltedHash::NOBODY.is_of(password);
            return None;
        };
        let passwords = [Some(*newest), *previous];
        let shown = passwords.into_iter().flatten().find(|hash| hash.is_of(password))?;
        Some((id, shown))
    }

    /// Is that still a password of the device?
    pub(crate) fn has(&self, device: &DeviceId, password: &SaltedHash) -> bool {
        self.0
            .get(device)
            .is_some_and(|(newest, previous)| newest == password || previous.as_ref() == Some(password))
    }

    /// Is there a device of that name?
    pub(crate) fn knows(&self, name: &str) -> bool {
        DeviceId::new(name).is_ok_and(|id| self.0.contains_key(&id))
    }
}

impl Kept for Devices {
    type Entry = Device;
    const FILE: CredentialsFile = CredentialsFile::Devices;

    fn of(list: &List<Device>) -> Self {
        let hash = |password: &Password| password.hash;
        let entry = |device: &Device| (device.id, (hash(&device.newest), device.previous.as_ref().map(hash)));
        Self(list.entries().map(entry).collect())
    }

    fn entries(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn porch() -> DeviceId {
        DeviceId::new("porch").unwrap()
    }

    fn devices(of: &[&Device]) -> Devices {
        let text: String = of.iter().map(|device| format!("{device}\n")).collect();
        Devices::of(&List::read(text.as_bytes()).unwrap())
    }

    fn admits(devices: &Devices, user: &str, secret: &Secret) -> bool {
        devices.admit(user.as_bytes(), secret.text().as_bytes()).is_some()
    }

    #[test]
    fn two_passwords_are_valid_while_a_device_is_given_the_new_one() {
        let secrets: [Secret; 3] = std::array::from_fn(|_| Secret::random().unwrap());
        let valid =
            |device: &Device| secrets.each_ref().map(|secret| admits(&devices(&[device]), "porch", secret));
        let first = Device::new(porch(), &secrets[0]).unwrap();
        assert_eq!((valid(&first), first.passwords()), ([true, false, false], 1));
        let second = first.with(&secrets[1]).unwrap();
        assert_eq!((valid(&second), second.passwords()), ([true, true, false], 2));
        assert_eq!(valid(&second.with(&secrets[2]).unwrap()), [false, true, true]);
        assert_eq!(valid(&second.without_previous().unwrap()), [false, true, false]);
        assert_eq!(first.without_previous(), None);
    }

    #[test]
    fn a_password_lets_in_its_own_device_only_and_stops_when_its_line_goes() {
        let secrets: [Secret; 2] = std::array::from_fn(|_| Secret::random().unwrap());
        let porch = Device::new(porch(), &secrets[0]).unwrap();
        let attic = Device::new(DeviceId::new("attic").unwrap(), &secrets[1]).unwrap();
        let both = devices(&[&porch, &attic]);
        assert!(admits(&both, "porch", &secrets[0]) && admits(&both, "attic", &secrets[1]));
        for user in ["attic", "cellar", "", "PORCH", "porch ", "porch\0"] {
            assert!(!admits(&both, user, &secrets[0]), "{user}");
        }
        assert!(both.admit(b"porch", b"").is_none() && both.admit(b"\xff", b"").is_none());
        let (id, shown) = both.admit(b"porch", secrets[0].text().as_bytes()).unwrap();
        assert!(both.has(&id, &shown) && !devices(&[&attic]).has(&id, &shown));
        assert!(!devices(&[&porch.with(&secrets[1]).unwrap().without_previous().unwrap()]).has(&id, &shown));
    }

    #[test]
    fn a_line_out_of_rabbitmq_is_taken_and_one_that_makes_no_sense_is_not() {
        let hash = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";
        let list = List::<Device>::read(format!("porch {hash}").as_bytes()).unwrap();
        assert!(Devices::of(&list).admit(b"porch", b"test12").is_some());
        for (line, reason) in [
            ("porch".to_owned(), "has no password"),
            (format!("Porch {hash}"), "a device id is 1 to 32"),
            (format!("porch {hash} {hash} {hash}"), "more than"),
            ("porch test12".to_owned(), "not there as its hash"),
            (format!("porch {hash},"), "mosquitto"),
            (format!("porch {hash},{hash}"), "mosquitto"),
            (format!("porch,{hash}"), "has no password"),
        ] {
            let error = List::<Device>::read(line.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("line 1: ") && error.contains(reason), "{line}: {error}");
            assert!(!error.contains("test12") && !error.contains(hash), "{error}");
        }
    }

    fn any_password() -> impl Strategy<Value = Password> {
        any::<bool>().prop_map(|with_mosquitto| {
            let password = Password::of(&Secret::random().unwrap()).unwrap();
            Password { mosquitto: password.mosquitto.filter(|_| with_mosquitto), ..password }
        })
    }

    proptest! {
        #[test]
        fn a_device_that_is_written_is_read_back(
            id in "[a-z0-9_-]{1,32}",
            newest in any_password(),
            previous in prop::option::of(any_password()),
        ) {
            let device = Device { id: DeviceId::new(&id).unwrap(), newest, previous };
            let list = List::<Device>::read(device.to_string().as_bytes()).unwrap();
            assert_eq!(list.entries().collect::<Vec<_>>(), [&device]);
        }

        #[test]
        fn any_line_is_a_device_or_an_error_that_does_not_quote_it(line in "[a-z]{0,3} ?[A-Za-z0-9+/=,$]{0,60}") {
            match List::<Device>::read(line.as_bytes()) {
                Ok(list) => assert_eq!(list.text(), line),
                Err(error) => assert!(line.len() < 10 || !error.to_string().contains(&line)),
            }
        }
    }
}
