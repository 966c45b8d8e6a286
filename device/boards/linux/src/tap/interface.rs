//! A TAP interface with an address, made by ioctls so that no tool need be installed.

use std::fs;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, anyhow, bail};
use embassy_net_tuntap::TunTapDevice;
use libc::{c_char, ifreq, sockaddr};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Interfaces are called this and a number.
const NAME_PREFIX: &str = "rollcall";

/// Numbers, and with them subnets, that are tried.
const NUMBERS: std::ops::Range<u8> = 0..64;

/// Two addresses at the two ends of the interface, in 198.18.0.0/15: networks under test (RFC 2544), so
/// that a network in use is hardly met.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subnet {
    pub(crate) host: Ipv4Addr,
    pub(crate) device: Ipv4Addr,
    pub(crate) prefix_len: u8,
}

impl Subnet {
    fn number(number: u8) -> Self {
        let address = |last| Ipv4Addr::new(198, 18, number, last);
        Self { host: address(1), device: address(2), prefix_len: 30 }
    }

    fn mask(&self) -> u32 {
        u32::MAX << (u32::BITS - u32::from(self.prefix_len))
    }

    /// Whether `routes`, in the format of /proc/net/route, lead any of its addresses elsewhere.
    fn is_routed(&self, routes: &str) -> bool {
        // The kernel prints network byte order as a native number.
        let field = |text: Option<&str>| u32::from_str_radix(text?, 16).ok().map(u32::from_be);
        routes.lines().skip(1).any(|line| {
            let mut fields = line.split_whitespace();
            let (destination, mask) = (field(fields.nth(1)), field(fields.nth(5)));
            let (Some(destination), Some(mask)) = (destination, mask) else { return false };
            let common = mask & self.mask();
            mask != 0 && destination & common == u32::from(self.host) & common
        })
    }
}

/// An interface that vanishes with this value.
pub(crate) struct Interface {
    pub(crate) device: TunTapDevice,
    pub(crate) subnet: Subnet,
}

impl Interface {
    /// Makes one under the first free name and subnet.
    pub(crate) fn make() -> Result<Self> {
        let routes = fs::read_to_string("/proc/net/route").context("cannot read the routes")?;
        for number in NUMBERS {
            let (name, subnet) = (format!("{NAME_PREFIX}{number}"), Subnet::number(number));
            if fs::exists(format!("/sys/class/net/{name}"))? || subnet.is_routed(&routes) {
                continue;
            }
            match TunTapDevice::new(&name) {
                Ok(mut device) => {
                    device.set_hardware_address(hardware_address());
                    bring_up(&name, subnet).map_err(|error| explain(&name, error))?;
                    eprintln!("{name}: {} here, {} in the stack", subnet.host, subnet.device);
                    return Ok(Self { device, subnet });
                }
                // Another process was quicker.
                Err(error) if error.kind() == ErrorKind::ResourceBusy => {}
                Err(error) => return Err(explain(&name, error)),
            }
        }
        let last = Subnet::number(NUMBERS.end - 1);
        bail!("every interface {NAME_PREFIX}N or subnet from 198.18.0.0 to {} is in use", last.device)
    }
}

/// A random unicast address of local administration (IEEE 802, the two lowest bits of the first byte).
fn hardware_address() -> [u8; 6] {
    let mut address: [u8; 6] = SmallRng::from_os_rng().random();
    address[0] = (address[0] & !0b11) | 0b10;
    address
}

fn explain(name: &str, error: io::Error) -> anyhow::Error {
    let advice = match error.kind() {
        ErrorKind::PermissionDenied => {
            let program = std::env::current_exe().unwrap_or_default();
            let program = program.display();
            format!(
                "making it needs CAP_NET_ADMIN: run this with sudo, or once \
                 `sudo setcap cap_net_admin+ep {program}`"
            )
        }
        ErrorKind::NotFound => "there is no /dev/net/tun: run `sudo modprobe tun`; \
            in a container, start it with `--device /dev/net/tun --cap-add NET_ADMIN`"
            .to_owned(),
        _ => format!("look at `ip link show {name}`"),
    };
    anyhow!(error).context(format!("no TAP interface {name}; {advice}"))
}

fn bring_up(name: &str, subnet: Subnet) -> io::Result<()> {
    // Any socket will do to speak to the kernel's IPv4.
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut request = request_for(name);
    request.ifr_ifru.ifru_addr = socket_address(subnet.host);
    ioctl(&socket, libc::SIOCSIFADDR, &mut request)?;
    request.ifr_ifru.ifru_addr = socket_address(Ipv4Addr::from(subnet.mask()));
    ioctl(&socket, libc::SIOCSIFNETMASK, &mut request)?;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    ioctl(&socket, libc::SIOCSIFFLAGS, &mut request)
}

#[expect(unsafe_code, reason = "the kernel's request has a union in it")]
fn request_for(name: &str) -> ifreq {
    // SAFETY: ifreq is plain data, for which all zeroes is a value.
    let mut request: ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as c_char;
    }
    request
}

fn socket_address(address: Ipv4Addr) -> sockaddr {
    // As in sockaddr_in: two bytes of port before the address.
    let mut sa_data = [0; 14];
    for (to, from) in sa_data[2..].iter_mut().zip(address.octets()) {
        *to = from as c_char;
    }
    sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data }
}

#[expect(unsafe_code, reason = "the standard library has no ioctl")]
fn ioctl(socket: &UdpSocket, code: libc::c_ulong, request: &mut ifreq) -> io::Result<()> {
    // SAFETY: the socket is open, and `request` is the ifreq that the codes above read and write.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), code as _, &raw mut *request) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n";

    fn is_routed(line: &str) -> bool {
        Subnet::number(1).is_routed(&format!("{HEADER}{line}"))
    }

    #[test]
    fn a_default_route_does_not_take_a_subnet() {
        assert!(!is_routed("eth0 00000000 010200C0 0003 0 0 0 00000000 0 0 0"));
    }

    #[test]
    fn a_neighbouring_network_does_not_take_a_subnet() {
        assert!(!is_routed("eth0 000212C6 00000000 0001 0 0 0 00FFFFFF 0 0 0"));
    }

    #[test]
    fn a_wider_an_equal_and_a_narrower_network_take_a_subnet() {
        assert!(is_routed("eth0 000012C6 00000000 0001 0 0 0 0000FEFF 0 0 0"));
        assert!(is_routed("eth0 000112C6 00000000 0001 0 0 0 FCFFFFFF 0 0 0"));
        assert!(is_routed("eth0 020112C6 00000000 0001 0 0 0 FFFFFFFF 0 0 0"));
    }
}
