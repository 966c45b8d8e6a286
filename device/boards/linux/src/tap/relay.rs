//! Hands connections that leave the stack on to the broker.
//!
//! A broker mostly listens on the host's 127.0.0.1, where the kernel takes nothing from another
//! interface. A relay in this process reaches that and every other broker, and leaves no route, sysctl or
//! translation rule behind. Acknowledgements stay the broker's own: the relay passes bytes on.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};
use async_executor::LocalExecutor;
use async_io::{Async, Timer};
use futures_lite::future::or;
use futures_lite::io::copy;

use super::interface::Subnet;

/// After a failed accept, which mostly means that there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener at the host's end of the interface.
pub(crate) struct Relay {
    listener: Async<TcpListener>,
    address: SocketAddr,
    device: IpAddr,
    broker: SocketAddr,
}

impl Relay {
    /// Listens on a free port.
    pub(crate) fn listen(subnet: Subnet, broker: SocketAddr) -> Result<Self> {
        let listener = Async::<TcpListener>::bind((subnet.host, 0)).context("cannot listen for the stack")?;
        let address = listener.get_ref().local_addr()?;
        Ok(Self { listener, address, device: subnet.device.into(), broker })
    }

    /// Where the stack finds it.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it is dropped.
    pub(crate) async fn run(self) {
        let connections = LocalExecutor::new();
        let accept = async {
            loop {
                match self.listener.accept().await {
                    // Hosts beyond the interface must not reach a loopback broker through it.
                    Ok((_, from)) if from.ip() != self.device => {}
                    Ok((stream, _)) => connections.spawn(self.serve(stream)).detach(),
                    Err(_) => drop(Timer::after(ACCEPT_PAUSE).await),
                }
            }
        };
        connections.run(accept).await
    }

    async fn serve(&self, device: Async<TcpStream>) {
        if let Err(error) = self.pass_on(&device).await {
            log::warn!("{}: {error}", self.broker);
        }
    }

    /// Until either side closes.
    async fn pass_on(&self, device: &Async<TcpStream>) -> io::Result<()> {
        let broker = &Async::<TcpStream>::connect(self.broker).await?;
        device.get_ref().set_nodelay(true)?;
        broker.get_ref().set_nodelay(true)?;
        or(copy(device, broker), copy(broker, device)).await.map(drop)
    }
}
