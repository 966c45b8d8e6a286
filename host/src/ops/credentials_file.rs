//! The files of who may come in, by name.

/// Where it stands who may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialsFile {
    /// Of devices, over MQTT.
    Devices,
    /// Of programs and people, over HTTP.
    Tokens,
}

impl CredentialsFile {
    /// The name in metrics and lines of log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Devices => "devices",
            Self::Tokens => "tokens",
        }
    }
}
