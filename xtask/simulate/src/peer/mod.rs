//! Who speaks MQTT with the devices: a gateway, which is a part of the host's process, or a broker, from which the
//! host takes what it holds.

pub(crate) mod broker;
pub(crate) mod consumer;
pub(crate) mod gateway;
mod incoming;
mod taking;

pub(crate) use self::incoming::Publish;
use self::incoming::{FromClient, Reader};
pub(crate) use self::taking::{Echoes, Taking};
