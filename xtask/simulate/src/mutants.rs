//! Faults of kinds that really happened, switched on in the system that is simulated: to show that they are found.

use std::fmt;
use std::str::FromStr;

use rollcall_device::Mutant as OfDevice;
use rollcall_host::model::Mutant as OfHost;

/// A fault in the host's code or in the device's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// See `host/src/model/mutant.rs`.
    Host(OfHost),
    /// See `device/src/mutant.rs`.
    Device(OfDevice),
}

impl Mutant {
    /// All that there are.
    pub fn all() -> impl Iterator<Item = Self> {
        let of_host = OfHost::ALL.iter().copied().map(Self::Host);
        of_host.chain(OfDevice::ALL.iter().copied().map(Self::Device))
    }

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host(mutant) => mutant.name(),
            Self::Device(mutant) => mutant.name(),
        }
    }

    /// Switches it on in this process, and all others off.
    pub fn switch_on(mutant: Option<Self>) {
        let (host, device) = match mutant {
            Some(Self::Host(mutant)) => (Some(mutant), None),
            Some(Self::Device(mutant)) => (None, Some(mutant)),
            None => (None, None),
        };
        OfHost::switch_on(host);
        OfDevice::switch_on(device);
    }
}

impl FromStr for Mutant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::all().find(|mutant| mutant.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::all().map(Self::name).collect();
            format!("there is no mutant {text:?}: write one of {}", names.join(", "))
        })
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
