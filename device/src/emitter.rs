//! One device: samples on a fixed cadence, and keeps a link to the broker that empties the outbox.

use core::num::NonZeroU32;

use embassy_futures::join::join;
use embassy_futures::select::{Either, select};
use embedded_io_async::Error as _;
use embedded_nal_async::TcpConnect;
use rand_core::RngCore;

use crate::backoff::{Backoff, HEALTHY_AFTER_MS};
use crate::cadence::Cadence;
use crate::clock::Clock;
use crate::config::{CONNECT_TIMEOUT_MS, Config, OUTBOX_CAPACITY};
use crate::fmt::{Name, warning};
use crate::ledger::Ledger;
use crate::outbox::Sample;
use crate::sensor::Sensor;
use crate::session;
use crate::sharing::{OneTask, Sharing};
use crate::stats::{LinkError, Snapshot, State, Stats};
use crate::store::{NotKept, Store, Volatile};
use crate::wait::within;

/// What a board brings.
pub struct Board<'b, T, C, R, S> {
    /// The network stack.
    pub net: &'b T,
    /// The time.
    pub clock: &'b C,
    /// Randomness for the waits between attempts. It need not be a secret.
    pub rng: &'b mut R,
    /// What is sampled.
    pub sensor: &'b mut S,
}

/// One device with its outbox of `N` samples, whose sampler and session share it as `S` says.
pub struct Emitter<'a, const N: usize = OUTBOX_CAPACITY, S: Sharing = OneTask> {
    config: Config<'a>,
    ledger: Ledger<'a, S, N>,
}

/// The half of an emitter that samples.
pub struct Sampler<'e, const N: usize, S: Sharing> {
    period_ms: NonZeroU32,
    ledger: &'e Ledger<'e, S, N>,
}

/// The half of an emitter that keeps a link to the broker.
pub struct Sender<'e, const N: usize, S: Sharing> {
    config: &'e Config<'e>,
    ledger: &'e Ledger<'e, S, N>,
}

impl<'a, const N: usize, S: Sharing> Emitter<'a, N, S> {
    /// An emitter with an empty outbox. It counts in `stats`, which must be its alone.
    pub const fn new(config: Config<'a>, stats: &'a Stats<S>) -> Self {
        Self { config, ledger: Ledger::new(stats) }
    }

    /// Samples and sends until `stop` completes with an instant of the clock in milliseconds; then takes
    /// no more samples, sends what is left until that instant, says `offline` and returns.
    ///
    /// A board that never stops passes [`core::future::pending`]. Dropping the future is safe at any
    /// await: the samples stay in the emitter, and another call goes on with them.
    pub fn run<T, C, R, X>(
        &mut self,
        board: Board<'_, T, C, R, X>,
        stop: impl Future<Output = u64>,
    ) -> impl Future<Output = Snapshot>
    where
        T: TcpConnect,
        C: Clock,
        R: RngCore,
        X: Sensor,
    {
        self.run_with(board, Volatile, stop)
    }

    /// Puts a sample of an earlier run under the same boot id back into the outbox. Numbers go on after it,
    /// and it is sent as one whose age is not known exactly.
    pub fn restore(&mut self, sample: Sample) {
        self.ledger.restore(sample);
    }

    /// As [`run`](Self::run), with a store that keeps each sample before it is sent. One that it does not
    /// keep is dropped and counted.
    pub async fn run_with<T, C, R, X>(
        &mut self,
        board: Board<'_, T, C, R, X>,
        store: impl Store,
        stop: impl Future<Output = u64>,
    ) -> Snapshot
    where
        T: TcpConnect,
        C: Clock,
        R: RngCore,
        X: Sensor,
    {
        let Self { config, ledger } = self;
        let Board { net, clock, rng, sensor } = board;
        ledger.open();
        // The sampler is polled first, so the session sees a sample in the poll that took it.
        join(
            sample_until(
                stop,
                &*ledger,
                clock,
                sensor,
                store,
                Cadence::new(clock.now_ms(), config.period_ms),
            ),
            transmit(config, &*ledger, clock, net, rng),
        )
        .await;
        ledger.state(State::Idle);
        ledger.snapshot()
    }

    /// The two halves, for two tasks: with [`TwoTasks`](crate::TwoTasks) the sampler may be polled in an interrupt,
    /// where nothing that the session calculates holds it up. Both are to run with the same clock; as in
    /// [`run`](Self::run), their futures may be dropped, and another call goes on.
    pub fn split(&mut self) -> (Sampler<'_, N, S>, Sender<'_, N, S>) {
        let Self { config, ledger } = self;
        ledger.open();
        (Sampler { period_ms: config.period_ms, ledger }, Sender { config, ledger })
    }
}

impl<const N: usize, S: Sharing> Sampler<'_, N, S> {
    /// Samples until `stop` completes, with the instant at which the other half is to end at the latest.
    pub async fn run(
        self,
        clock: &impl Clock,
        sensor: &mut impl Sensor,
        store: impl Store,
        stop: impl Future<Output = u64>,
    ) {
        let cadence = Cadence::new(clock.now_ms(), self.period_ms);
        sample_until(stop, self.ledger, clock, sensor, store, cadence).await;
    }
}

impl<const N: usize, S: Sharing> Sender<'_, N, S> {
    /// Sends until sampling has stopped and the outbox is empty, or its time is up.
    pub async fn run(self, net: &impl TcpConnect, clock: &impl Clock, rng: &mut impl RngCore) -> Snapshot {
        let Self { config, ledger } = self;
        transmit(config, ledger, clock, net, rng).await;
        ledger.state(State::Idle);
        ledger.snapshot()
    }
}

async fn sample_until<S: Sharing, const N: usize>(
    stop: impl Future<Output = u64>,
    ledger: &Ledger<'_, S, N>,
    clock: &impl Clock,
    sensor: &mut impl Sensor,
    mut store: impl Store,
    mut cadence: Cadence,
) {
    let sampling = async {
        loop {
            clock.sleep_until(cadence.due_ms()).await;
            let taken_at_ms = clock.now_ms();
            let sample = ledger.number(sensor.sample().await, taken_at_ms);
            match store.keep(sample, || ledger.contents()).await {
                Ok(()) => ledger.kept(sample),
                Err(NotKept) => ledger.not_kept(),
            }
            ledger.missed(cadence.advance(clock.now_ms()));
        }
    };
    // `stop` is asked first: a stop that is already due takes no sample.
    let (Either::First(drain_until_ms) | Either::Second(drain_until_ms)) = select(stop, sampling).await;
    // A stop may come while a sample is being stored.
    ledger.not_kept();
    ledger.stop(drain_until_ms);
}

async fn transmit<S: Sharing, const N: usize>(
    config: &Config<'_>,
    ledger: &Ledger<'_, S, N>,
    clock: &impl Clock,
    net: &impl TcpConnect,
    rng: &mut impl RngCore,
) {
    let mut backoff = Backoff::new();
    loop {
        ledger.state(State::Connecting);
        let Err(error) = link(config, ledger, clock, net, rng).await else { return };
        let held_ms = ledger.link_failed(error, clock.now_ms());
        if held_ms >= HEALTHY_AFTER_MS {
            backoff.reset();
        }
        let wait_ms = backoff.next_ms(rng);
        warning!("{}: {}; next attempt in {} ms", Name(&config.device), error, wait_ms);
        ledger.state(State::BackingOff);
        rest(ledger, clock, wait_ms).await;
    }
}

/// One connection, from TCP to its end; `Ok` once sampling has stopped and there is nothing left to do.
async fn link<S: Sharing, const N: usize>(
    config: &Config<'_>,
    ledger: &Ledger<'_, S, N>,
    clock: &impl Clock,
    net: &impl TcpConnect,
    rng: &mut impl RngCore,
) -> Result<(), LinkError> {
    let connect = within(clock, CONNECT_TIMEOUT_MS, net.connect(config.broker));
    let io = match select(ledger.over(clock), connect).await {
        Either::First(()) => return Ok(()),
        Either::Second(Either::First(connected)) => {
            connected.map_err(|error| LinkError::Connect(error.kind()))?
        }
        Either::Second(Either::Second(())) => return Err(LinkError::ConnectTimeout),
    };
    session::serve(io, config, ledger, clock, rng).await
}

/// Waits before the next attempt. A request to stop cuts it short once: what is left in the outbox has
/// until the deadline, and the broker may be back.
async fn rest<S: Sharing, const N: usize>(ledger: &Ledger<'_, S, N>, clock: &impl Clock, wait_ms: u64) {
    let waited = clock.sleep_until(clock.now_ms() + wait_ms);
    if ledger.is_stopping() {
        select(waited, ledger.over(clock)).await;
    } else {
        select(waited, ledger.until(|| ledger.is_stopping())).await;
    }
}
