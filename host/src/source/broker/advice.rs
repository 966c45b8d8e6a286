//! What to do about a broker that does not take us.

use rumqttc::v5::ConnectionError;
use rumqttc::v5::mqttbytes::v5::ConnectReturnCode;

/// What to do about an error that does not pass by itself.
pub(super) fn advice(error: &ConnectionError) -> &'static str {
    match error {
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized,
        ) => "; check user and password (--broker mqtt://USER:PASSWORD@…, or --broker-password-file)",
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::RefusedProtocolVersion | ConnectReturnCode::UnsupportedProtocolVersion,
        ) => "; it does not speak MQTT 5 (RabbitMQ does from 3.13 on)",
        ConnectionError::MqttState(state) if state.to_string().contains("SessionTakenOver") => {
            "; another process uses the same client id: give each ingest its own --slots or --client-id"
        }
        _ => "",
    }
}
