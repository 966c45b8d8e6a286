//! smoltcp, the firmware's own TCP/IP stack, through embassy-net on a TAP interface of this process.
//!
//! The interface, its address and the relay to the broker live as long as the process, `kill -9`
//! included: nothing is set that outlasts the interface's file descriptor.

mod interface;
mod relay;

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use async_executor::LocalExecutor;
use embassy_net::tcp::client::{TcpClient, TcpClientState};
use embassy_net::{Config, Ipv4Cidr, StackResources, StaticConfigV4};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use self::interface::Interface;
use self::relay::Relay;

/// Devices that share the one stack, whose sockets have fixed places.
const DEVICES_MAX: usize = 64;

/// A socket's buffers, in bytes: a full window of publishes, and its acknowledgements.
const TX_SIZE: usize = 1536;
const RX_SIZE: usize = 512;

/// The stack, and where the broker is to be reached through it.
pub(crate) struct Tap {
    pub(crate) net: &'static TcpClient<'static, DEVICES_MAX, TX_SIZE, RX_SIZE>,
    pub(crate) broker: SocketAddr,
}

impl Tap {
    /// Makes an interface, sets both its ends up, and starts the stack on it and a relay to `broker`.
    ///
    /// # Errors
    /// Without the right to make an interface, with what to run; with more devices than fit.
    pub(crate) fn start(executor: &LocalExecutor<'_>, devices: usize, broker: SocketAddr) -> Result<Self> {
        ensure!(devices <= DEVICES_MAX, "--net tap has room for {DEVICES_MAX} devices, not for {devices}");
        let Interface { device, subnet } = Interface::make()?;
        let config = Config::ipv4_static(StaticConfigV4 {
            address: Ipv4Cidr::new(subnet.device, subnet.prefix_len),
            gateway: Some(subnet.host),
            dns_servers: Default::default(),
        });
        // Leaked, as all of this is used until the process ends.
        let resources = Box::leak(Box::new(StackResources::<DEVICES_MAX>::new()));
        let state = Box::leak(Box::new(TcpClientState::new()));
        // It picks the ports and sequence numbers of the connections.
        let seed = SmallRng::from_os_rng().random();
        let (stack, mut runner) = embassy_net::new(device, config, resources, seed);
        executor.spawn(async move { runner.run().await }).detach();
        let relay = Relay::listen(subnet, broker)?;
        let broker = relay.address();
        executor.spawn(relay.run()).detach();
        Ok(Self { net: Box::leak(Box::new(TcpClient::new(stack, state))), broker })
    }
}
