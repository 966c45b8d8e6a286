//! The semihosting command line: `broker=10.0.2.2:1883 device=porch period_ms=500 …`.

use core::fmt;
use core::net::SocketAddrV4;
use core::num::NonZeroU32;
use core::str;

use embassy_net::{Ipv4Address, Ipv4Cidr};
use rollcall_device::{Config, DeviceId};

#[cfg(feature = "tls")]
use rollcall_provision::Pin;

use crate::parse;

/// Where the user network of QEMU has the host's loopback.
const DEFAULT_BROKER: SocketAddrV4 = SocketAddrV4::new(Ipv4Address::new(10, 0, 2, 2), 1883);

/// What the machine is told at run time.
pub(crate) struct Options {
    /// `broker=ADDRESS:PORT`. The stack has no IPv6, and reading and showing it would take 5 KB of flash.
    pub(crate) broker: SocketAddrV4,
    /// `device=ID`
    pub(crate) device: DeviceId,
    /// `period_ms=N`: from one sample to the next.
    pub(crate) period_ms: NonZeroU32,
    /// `address=ADDRESS/LENGTH`, with `gateway=ADDRESS`; DHCP when absent.
    pub(crate) address: Option<Ipv4Cidr>,
    pub(crate) gateway: Option<Ipv4Address>,
    /// `lease_s=N`: an address from DHCP is given back after so many seconds, if the server does not renew it.
    pub(crate) lease_s: Option<NonZeroU32>,
    /// `seed=N`: makes the statuses repeatable.
    pub(crate) seed: Option<u64>,
    /// `seconds=N`: sampling stops after so many seconds; without it, when Ctrl-C is received.
    pub(crate) seconds: Option<NonZeroU32>,
    /// `start_ms=N`: what the clock shows at boot, in milliseconds.
    pub(crate) start_ms: u64,
    /// `pin=PIN`, with `pin_next=PIN`: the public key of the server, as `rollcall tls init` prints it.
    #[cfg(feature = "tls")]
    pub(crate) pin: Option<Pin>,
    #[cfg(feature = "tls")]
    pub(crate) pin_next: Option<Pin>,
}

/// A word that is none of the above.
pub(crate) struct Unknown<'a>(&'a str);

impl fmt::Display for Unknown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`")?;
        f.write_str(self.0)?;
        f.write_str(
            "` is none of broker=ADDRESS:PORT device=ID period_ms=N address=ADDRESS/LENGTH \
             gateway=ADDRESS lease_s=N seed=N seconds=N start_ms=N",
        )?;
        #[cfg(feature = "tls")]
        f.write_str(" pin=PIN pin_next=PIN")?;
        Ok(())
    }
}

impl Options {
    /// Reads what follows the program's name; `device` is who it is when nothing else is said.
    pub(crate) fn parse<'a>(line: &'a str, device: &'a str) -> Result<Self, Unknown<'a>> {
        let mut options = Self {
            broker: DEFAULT_BROKER,
            device: device.parse().map_err(|_| Unknown(device))?,
            period_ms: Config::DEFAULT_PERIOD_MS,
            address: None,
            gateway: None,
            lease_s: None,
            seed: None,
            seconds: None,
            start_ms: 0,
            #[cfg(feature = "tls")]
            pin: None,
            #[cfg(feature = "tls")]
            pin_next: None,
        };
        for word in line.as_bytes().split(|byte| *byte == b' ').skip(1).filter(|word| !word.is_empty()) {
            options.set(word).ok_or(Unknown(str::from_utf8(word).unwrap_or_default()))?;
        }
        Ok(options)
    }

    fn set(&mut self, word: &[u8]) -> Option<()> {
        let (name, value) = parse::split_once(word, b'=')?;
        match name {
            b"broker" => self.broker = parse::broker(value)?,
            b"device" => self.device = str::from_utf8(value).ok()?.parse().ok()?,
            b"period_ms" => self.period_ms = parse::positive(value)?,
            b"address" => self.address = Some(parse::cidr(value)?),
            b"gateway" => self.gateway = Some(parse::address(value)?),
            b"lease_s" => self.lease_s = Some(parse::positive(value)?),
            b"seed" => self.seed = Some(parse::number(value)?),
            b"seconds" => self.seconds = Some(parse::positive(value)?),
            b"start_ms" => self.start_ms = parse::number(value)?,
            #[cfg(feature = "tls")]
            b"pin" => self.pin = Some(Pin::parse(str::from_utf8(value).ok()?).ok()?),
            #[cfg(feature = "tls")]
            b"pin_next" => self.pin_next = Some(Pin::parse(str::from_utf8(value).ok()?).ok()?),
            _ => return None,
        }
        Some(())
    }
}
