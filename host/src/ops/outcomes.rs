//! What may become of a message besides being stored or rejected, and of a query.

/// Why a message that was received is neither stored nor rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// Its client left while the inbox was full.
    ClientLeft,
    /// The process ends.
    Draining,
    /// Of QoS 0, and the connection to the broker was lost before it was looked at.
    ConnectionLost,
    /// The ingest loop failed while it held it.
    IngestFailed,
}

impl Dropped {
    pub(super) const ALL: [Self; 4] =
        [Self::ClientLeft, Self::Draining, Self::ConnectionLost, Self::IngestFailed];

    /// The name in metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::ClientLeft => "client_left",
            Self::Draining => "draining",
            Self::ConnectionLost => "connection_lost",
            Self::IngestFailed => "ingest_failed",
        }
    }
}

/// How a query was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answered {
    /// By what was asked for.
    Ok,
    /// It has to be asked otherwise.
    Refused,
    /// It could not be answered now.
    Failed,
}

impl Answered {
    pub(super) const ALL: [Self; 3] = [Self::Ok, Self::Refused, Self::Failed];

    /// The name in metrics.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}
