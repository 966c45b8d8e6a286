//! Properties of MQTT 5 (section 2.2.2.2) as bytes; several are simply put behind each other.

/// Message Expiry Interval, of a PUBLISH.
pub fn message_expiry_interval(seconds: u32) -> [u8; 5] {
    with_four_bytes(0x02, seconds)
}

/// Session Expiry Interval, of a CONNECT.
pub fn session_expiry_interval(seconds: u32) -> [u8; 5] {
    with_four_bytes(0x11, seconds)
}

/// Maximum Packet Size, of a CONNECT or CONNACK.
pub fn maximum_packet_size(bytes: u32) -> [u8; 5] {
    with_four_bytes(0x27, bytes)
}

/// Receive Maximum, of a CONNECT or CONNACK.
pub fn receive_maximum(count: u16) -> [u8; 3] {
    let [high, low] = count.to_be_bytes();
    [0x21, high, low]
}

/// Server Keep Alive, of a CONNACK.
pub fn server_keep_alive(seconds: u16) -> [u8; 3] {
    let [high, low] = seconds.to_be_bytes();
    [0x13, high, low]
}

/// Maximum QoS, of a CONNACK.
pub fn maximum_qos(qos: u8) -> [u8; 2] {
    [0x24, qos]
}

/// Reason String, of an acknowledgement.
pub fn reason_string(text: &str) -> Vec<u8> {
    [&[0x1f][..], &super::encode::string(text.as_bytes())].concat()
}

fn with_four_bytes(identifier: u8, value: u32) -> [u8; 5] {
    let [a, b, c, d] = value.to_be_bytes();
    [identifier, a, b, c, d]
}
