//! What a device says of its presence, as JSON: that a connection of it has come, or has ended. The latter is also the
//! last will of that connection.
//!
//! | field | what | absent |
//! | --- | --- | --- |
//! | `state` | `"online"` or `"offline"` | not understood |
//! | `boot`, `connection` | which connection: the boot that made it, and its number | both: nobody knows which |
//! | `run` | the run of the boot, where the boot id goes on over resets | the boot is the run |
//!
//! Numbers grow within a run. So a will that comes late, when its device has long been connected again, can be told from
//! one that is news. The bare words, which older devices say, are read as well. Unknown fields are checked and ignored.

use core::fmt::{self, Write as _};

use heapless::String;

use crate::codec::{PAYLOAD_MAX, Rejection, boot, run, set_once};
use crate::reading::{BootId, RunId};
use crate::scan::{BadJson, Number, Scanner, Value};

/// A device is there.
const ONLINE: &str = "online";

/// It is not any more.
const OFFLINE: &str = "offline";

/// The longest payload that [`encode`] writes.
pub const ENCODED_MAX: usize = concat!(
    r#"{"state":"offline","boot":"ffffffffffffffff","run":"ffffffffffffffff","#,
    r#""connection":4294967295}"#
)
.len();

const _: () = assert!(ENCODED_MAX <= PAYLOAD_MAX, "what is written must be read");

/// Names a connection of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionId {
    /// The boot that made it.
    pub boot: BootId,
    /// The run of it; `None` where each reset begins a boot of its own.
    pub run: Option<RunId>,
    /// Larger than that of each connection that the same run made before.
    pub number: u32,
}

/// A message of a device's presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Has it come? Otherwise it has left.
    pub is_online: bool,
    /// By which connection; `None` where a device does not say.
    pub connection: Option<ConnectionId>,
}

/// Writes that a connection has come, or has ended.
pub fn encode(is_online: bool, connection: &ConnectionId) -> String<ENCODED_MAX> {
    let mut json = String::new();
    // ENCODED_MAX has room for the widest of each number, so the write cannot fail.
    let _ = write(&mut json, is_online, connection);
    json
}

fn write(json: &mut String<ENCODED_MAX>, is_online: bool, connection: &ConnectionId) -> fmt::Result {
    let ConnectionId { boot, run, number } = connection;
    json.write_str(r#"{"state":""#)?;
    json.write_str(if is_online { ONLINE } else { OFFLINE })?;
    write!(json, r#"","boot":"{boot}""#)?;
    if let Some(run) = run {
        write!(json, r#","run":"{run}""#)?;
    }
    write!(json, r#","connection":{number}}}"#)
}

/// Reads a payload. `None` when it is something else, which says nothing of its device.
pub fn decode(payload: &[u8]) -> Option<Announcement> {
    if payload.len() > PAYLOAD_MAX {
        return None;
    }
    let text = core::str::from_utf8(payload).ok()?;
    if let Some(is_online) = is_online(text) {
        return Some(Announcement { is_online, connection: None });
    }
    let mut fields = Fields::default();
    Scanner::new(text).object(|name, value| fields.set(name, value)).ok()?;
    fields.announcement()
}

fn is_online(word: &str) -> Option<bool> {
    match word {
        ONLINE => Some(true),
        OFFLINE => Some(false),
        _ => None,
    }
}

/// The known fields as they are met; the last check is for the whole.
#[derive(Default)]
struct Fields {
    is_online: Option<bool>,
    boot: Option<BootId>,
    run: Option<RunId>,
    number: Option<u32>,
}

impl Fields {
    /// Nobody asks why a payload is something else.
    fn set(&mut self, name: &str, value: Value<'_>) -> Result<(), Rejection> {
        match (name, value) {
            ("state", Value::String(word)) => set_once(&mut self.is_online, is_online(word).ok_or(BadJson)?),
            ("boot", _) => set_once(&mut self.boot, boot(value)?),
            ("run", _) => set_once(&mut self.run, run(value)?),
            ("connection", Value::Number(Number::Unsigned(number))) => {
                set_once(&mut self.number, u32::try_from(number).map_err(|_| BadJson)?)
            }
            ("state" | "connection", _) => Err(Rejection::BadJson),
            _ => Ok(()),
        }
    }

    fn announcement(self) -> Option<Announcement> {
        let Self { is_online, boot, run, number } = self;
        let connection = match (boot, number) {
            (Some(boot), Some(number)) => Some(ConnectionId { boot, run, number }),
            (None, None) => None,
            _ => return None,
        };
        Some(Announcement { is_online: is_online?, connection })
    }
}
