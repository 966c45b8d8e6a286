//! What a board brings: a clock, a sensor, and a store that tells the oracle what it keeps.

use rand_core::RngCore;
use rollcall_device::outbox::{Contents, Sample};
use rollcall_device::store::{NotKept, Store};
use rollcall_device::{BootId, Clock, Sensor, Status};

use super::Device;
use crate::chance::Chance;
use crate::time::{now_ms, sleep_until};

/// A clock that begins with the boot, and runs a little fast or slow.
#[derive(Clone, Copy)]
pub(super) struct DeviceClock {
    pub(super) begun_ms: u64,
    pub(super) fast_ppm: i64,
}

const MILLION: i64 = 1_000_000;

impl Clock for DeviceClock {
    fn now_ms(&self) -> u64 {
        let passed = now_ms() - self.begun_ms;
        passed.saturating_add_signed(passed as i64 * self.fast_ppm / MILLION)
    }

    async fn sleep_until(&self, at_ms: u64) {
        let passed = at_ms as i64 * MILLION / (MILLION + self.fast_ppm);
        sleep_until(self.begun_ms.saturating_add(passed as u64)).await;
        while self.now_ms() < at_ms {
            sleep_until(now_ms() + 1).await;
        }
    }
}

/// A sensor of random statuses.
pub(super) struct Sampler(pub(super) Chance);

impl Sensor for Sampler {
    async fn sample(&mut self) -> Status {
        let status = (self.0.next_u32() % Status::COUNT as u32) as u8;
        Status::new(status).expect("it is below the count")
    }
}

/// A store whose doings the oracle hears of.
pub(super) struct Kept<'a, S> {
    pub(super) device: &'a Device,
    pub(super) boot: BootId,
    pub(super) store: S,
}

impl<S: Store> Store for Kept<'_, S> {
    async fn keep(&mut self, sample: Sample, others: impl FnOnce() -> Contents) -> Result<(), NotKept> {
        let Device { id, scene, .. } = self.device;
        let wall = scene.wall().now();
        scene.note(format_args!("{id} takes {}", sample.seq.get()));
        let outcome = scene.oracle().taken(*id, self.boot, sample, wall);
        scene.expect(outcome);
        if self.store.keep(sample, others).await.is_err() {
            self.device.fails_or_dies("it does not keep a sample").await;
        }
        scene.oracle().kept(*id, self.boot, sample.seq);
        Ok(())
    }
}
