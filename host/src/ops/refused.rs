//! Why a client or something that it sent was refused, by name: at the gateway, and over HTTP.

/// A refusal that is no message's: those are [`rollcall_wire::codec::Rejection`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// CONNECT with another user or password.
    BadUserNameOrPassword,
    /// CONNECT with a name that has come with too many wrong passwords from that address: it is not looked at.
    TooManyFailedLogins,
    /// CONNECT with the client id of another device.
    OtherDevicesClientId,
    /// A message to a topic of another device.
    OtherDevicesTopic,
    /// The password with which the client came in is valid no longer.
    PasswordRevoked,
    /// CONNECT with an authentication method.
    BadAuthenticationMethod,
    /// The store is not there yet.
    ServerUnavailable,
    /// CONNECT of a version that is not spoken.
    UnsupportedProtocolVersion,
    /// The first packet is no CONNECT, or not well formed.
    NoConnect,
    /// CONNECT of 3.1.1 without a client id, for a session that lasts.
    IdentifierRejected,
    /// No CONNECT came in time.
    ConnectTimeout,
    /// What came to the listener with TLS is no TLS, or not as it should be.
    TlsFailed,
    /// A packet that cannot be read.
    MalformedPacket,
    /// A packet above the announced maximum, or a CONNACK above the client's.
    PacketTooLarge,
    /// A packet that may not come here.
    ProtocolError,
    /// An empty topic or one with a wildcard, of a message or a will.
    TopicNameInvalid,
    /// A topic alias above the announced maximum.
    TopicAliasInvalid,
    /// A message or a will of QoS 2.
    QosNotSupported,
    /// More unacknowledged messages than announced.
    ReceiveMaximumExceeded,
    /// A message with the packet id of one that is not acknowledged yet.
    PacketIdInUse,
    /// A subscription: there is nothing to subscribe to.
    Subscription,
    /// Nothing was heard for one and a half times the keep-alive.
    KeepAliveTimeout,
    /// More packets a second than are read, besides messages: the rest waits.
    PacketRate,
    /// Another client came with the same client id.
    SessionTakenOver,
    /// A message of the connection may not be stored, so it cannot go on.
    NotStored,
}

impl Refused {
    /// Every refusal, in the order of declaration.
    pub const ALL: [Self; 25] = [
        Self::BadUserNameOrPassword,
        Self::TooManyFailedLogins,
        Self::OtherDevicesClientId,
        Self::OtherDevicesTopic,
        Self::PasswordRevoked,
        Self::BadAuthenticationMethod,
        Self::ServerUnavailable,
        Self::UnsupportedProtocolVersion,
        Self::NoConnect,
        Self::IdentifierRejected,
        Self::ConnectTimeout,
        Self::TlsFailed,
        Self::MalformedPacket,
        Self::PacketTooLarge,
        Self::ProtocolError,
        Self::TopicNameInvalid,
        Self::TopicAliasInvalid,
        Self::QosNotSupported,
        Self::ReceiveMaximumExceeded,
        Self::PacketIdInUse,
        Self::Subscription,
        Self::KeepAliveTimeout,
        Self::PacketRate,
        Self::SessionTakenOver,
        Self::NotStored,
    ];

    /// The name in metrics and lines of log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadUserNameOrPassword => "bad_user_name_or_password",
            Self::TooManyFailedLogins => "too_many_failed_logins",
            Self::OtherDevicesClientId => "other_devices_client_id",
            Self::OtherDevicesTopic => "other_devices_topic",
            Self::PasswordRevoked => "password_revoked",
            Self::BadAuthenticationMethod => "bad_authentication_method",
            Self::ServerUnavailable => "server_unavailable",
            Self::UnsupportedProtocolVersion => "unsupported_protocol_version",
            Self::NoConnect => "no_connect",
            Self::IdentifierRejected => "identifier_rejected",
            Self::ConnectTimeout => "connect_timeout",
            Self::TlsFailed => "tls_failed",
            Self::MalformedPacket => "malformed_packet",
            Self::PacketTooLarge => "packet_too_large",
            Self::ProtocolError => "protocol_error",
            Self::TopicNameInvalid => "topic_name_invalid",
            Self::TopicAliasInvalid => "topic_alias_invalid",
            Self::QosNotSupported => "qos_not_supported",
            Self::ReceiveMaximumExceeded => "receive_maximum_exceeded",
            Self::PacketIdInUse => "packet_id_in_use",
            Self::Subscription => "subscription",
            Self::KeepAliveTimeout => "keep_alive_timeout",
            Self::PacketRate => "packet_rate",
            Self::SessionTakenOver => "session_taken_over",
            Self::NotStored => "not_stored",
        }
    }
}

/// A refusal over HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpRefused {
    /// No Host header, more than one, or one that is none.
    BadHost,
    /// The Host header has a name that is not ours.
    OtherHost,
    /// No token, where one is needed.
    NoToken,
    /// A token that is none of ours.
    BadToken,
    /// A token whose role is not enough.
    RoleTooLow,
    /// What came to the listener with TLS is no TLS, or not as it should be, or late.
    TlsFailed,
    /// The first request of a connection did not come in time.
    HeadTimeout,
    /// A request with more headers than are read.
    HeadTooLarge,
    /// What is no request.
    MalformedRequest,
}

impl HttpRefused {
    /// Every refusal, in the order of declaration.
    pub const ALL: [Self; 9] = [
        Self::BadHost,
        Self::OtherHost,
        Self::NoToken,
        Self::BadToken,
        Self::RoleTooLow,
        Self::TlsFailed,
        Self::HeadTimeout,
        Self::HeadTooLarge,
        Self::MalformedRequest,
    ];

    /// The name in metrics and lines of log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadHost => "bad_host",
            Self::OtherHost => "other_host",
            Self::NoToken => "no_token",
            Self::BadToken => "bad_token",
            Self::RoleTooLow => "role_too_low",
            Self::TlsFailed => "tls_failed",
            Self::HeadTimeout => "head_timeout",
            Self::HeadTooLarge => "head_too_large",
            Self::MalformedRequest => "malformed_request",
        }
    }
}
