//! What to do about a broker that does not take us.

use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, DisconnectReasonCode};

use super::link::LinkError;

/// What to do about an error that does not pass by itself.
pub(super) fn advice(error: &LinkError) -> &'static str {
    match error {
        LinkError::Refused(ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized) => {
            "; check user and password (--broker mqtt://USER:PASSWORD@…, or --broker-password-file)"
        }
        LinkError::Refused(
            ConnectReturnCode::RefusedProtocolVersion | ConnectReturnCode::UnsupportedProtocolVersion,
        ) => "; it does not speak MQTT 5 (RabbitMQ does from 3.13 on)",
        LinkError::Dismissed { code: DisconnectReasonCode::SessionTakenOver, .. } => {
            "; another process uses the same client id: give each ingest its own --slots or --client-id"
        }
        _ => "",
    }
}
