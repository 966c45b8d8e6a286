//! The last line on the serial line: the totals as JSON, in the form that the Linux board uses, and what
//! only firmware can tell.

use core::fmt;

use rollcall_device::Snapshot;

use crate::{executor, stack, time};

/// What a machine says of itself at the end.
pub(crate) struct Report {
    counters: Snapshot,
    first_acknowledged_ms: Option<u64>,
    uptime_ms: u64,
    awake_cycles: u64,
    stack_peak: usize,
}

impl Report {
    /// The counters as they are now, and the time from boot to the first PUBACK, in milliseconds.
    pub(crate) fn new(counters: Snapshot, first_acknowledged_ms: Option<u64>) -> Self {
        Self {
            counters,
            first_acknowledged_ms,
            uptime_ms: time::uptime_ms(),
            awake_cycles: executor::awake_cycles(),
            stack_peak: stack::peak(),
        }
    }

    /// Whether nothing is left to send.
    pub(crate) fn is_drained(&self) -> bool {
        self.counters.outbox == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Snapshot { sampled, missed, published, acknowledged, acknowledged_by_status, .. } = self.counters;
        let (dropped, reconnects) = (self.counters.dropped(), self.counters.reconnects());
        let Snapshot { rejected, refused, outbox, .. } = self.counters;
        write!(
            f,
            r#"{{"devices":1,"sampled":{sampled},"missed":{missed},"published":{published},"acknowledged":{acknowledged},"#
        )?;
        // Not as `{:?}`, which would bring what it takes to show any array nicely.
        for (status, count) in acknowledged_by_status.iter().enumerate() {
            f.write_str(if status == 0 { r#""acknowledged_by_status":["# } else { "," })?;
            write!(f, "{count}")?;
        }
        write!(f, r#"],"rejected":{rejected},"#)?;
        write!(f, r#""dropped":{dropped},"outbox":{outbox},"reconnects":{reconnects},"refused":{refused},"#)?;
        if let Some(first) = self.first_acknowledged_ms {
            write!(f, r#""first_acknowledged_ms":{first},"#)?;
        }
        let Self { uptime_ms, awake_cycles, stack_peak, .. } = self;
        write!(f, r#""uptime_ms":{uptime_ms},"awake_cycles":{awake_cycles},"stack_peak":{stack_peak}}}"#)
    }
}
