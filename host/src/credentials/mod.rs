//! Who may come in, and how that is kept: files of salted hashes, a line each, that are edited while a server reads
//! them. Nothing here knows MQTT or HTTP; no secret shows in a `Debug`, an error or a line of log.
//!
//! `secret` makes secrets and hashes, `list` is a file's text, `file` reads and writes it, `live` reads it again
//! when it changes; `devices` and `tokens` say what a line means, and `brokers` tells it to other programs.

mod brokers;
mod devices;
mod file;
mod list;
mod live;
mod login;
mod mosquitto_hash;
mod secret;
mod tokens;

pub use self::brokers::{MOSQUITTO_ACL, NoMosquittoHash, mosquitto_passwords, rabbitmq_definitions};
pub use self::devices::{Device, Devices};
pub use self::file::{Edit, FileError, Written};
pub use self::list::{Entry, List, ListError};
pub use self::live::{Kept, Live, Rereader};
pub use self::login::Credentials;
pub use self::secret::{NoRandomness, SaltedHash, Secret};
pub use self::tokens::{InvalidTokenName, Role, Token, TokenName, Tokens};
