//! Where a status comes from.

use rand_core::RngCore;
use rollcall_wire::Status;

/// Something that can be asked for its status.
pub trait Sensor {
    /// Takes one sample. May wait for a bus, never for the network; while it waits, no other is taken.
    fn sample(&mut self) -> impl Future<Output = Status>;
}

/// A sensor of uniformly random statuses, for trying out a fleet without hardware.
#[derive(Clone, Debug)]
pub struct RandomSensor<R>(pub R);

impl<R: RngCore> Sensor for RandomSensor<R> {
    async fn sample(&mut self) -> Status {
        loop {
            // Three bits give 0 to 7; drawing again on 7 keeps the other seven equally likely.
            if let Some(status) = Status::new((self.0.next_u32() >> 29) as u8) {
                return status;
            }
        }
    }
}
