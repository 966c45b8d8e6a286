//! The sums over a fleet.

use rollcall_device::stats::State;
use rollcall_device::{Snapshot, Status};

/// Sums over every device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) devices: u64,
    pub(crate) connected: u64,
    pub(crate) sampled: u64,
    pub(crate) published: u64,
    pub(crate) acknowledged: u64,
    pub(crate) acknowledged_by_status: [u64; Status::COUNT],
    pub(crate) rejected: u64,
    pub(crate) refused: u64,
    pub(crate) dropped: u64,
    pub(crate) outbox: u64,
    pub(crate) reconnects: u64,
}

impl Totals {
    pub(crate) fn add(mut self, device: &Snapshot) -> Self {
        self.devices += 1;
        self.connected += u64::from(device.state == State::Connected);
        self.sampled += device.sampled;
        self.published += device.published;
        self.acknowledged += device.acknowledged;
        for (sum, count) in self.acknowledged_by_status.iter_mut().zip(device.acknowledged_by_status) {
            *sum += count;
        }
        self.rejected += device.rejected;
        self.refused += device.refused;
        self.dropped += device.dropped();
        self.outbox += device.outbox;
        self.reconnects += device.reconnects();
        self
    }

    /// The line that other programs read.
    pub(crate) fn to_json(self) -> String {
        let Self { devices, sampled, published, acknowledged, acknowledged_by_status, .. } = self;
        let Self { rejected, dropped, outbox, reconnects, refused, .. } = self;
        format!(
            r#"{{"devices":{devices},"sampled":{sampled},"published":{published},"acknowledged":{acknowledged},"#
        ) + &format!(r#""acknowledged_by_status":{acknowledged_by_status:?},"rejected":{rejected},"#)
            + &format!(
                r#""dropped":{dropped},"outbox":{outbox},"reconnects":{reconnects},"refused":{refused}}}"#
            )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_line_has_its_fields_in_order() {
        let totals = Totals { devices: 2, sampled: 9, acknowledged_by_status: [1; 7], ..Totals::default() };
        assert_eq!(
            totals.to_json(),
            r#"{"devices":2,"sampled":9,"published":0,"acknowledged":0,"acknowledged_by_status":[1, 1, 1, 1, 1, 1, 1],"rejected":0,"dropped":0,"outbox":0,"reconnects":0,"refused":0}"#
        );
    }
}
