//! Random histories of what reaches the intake, and how often its process ends.

use proptest::prelude::*;
use rollcall_host::log::rollup::CHUNK_ENTRIES;
use rollcall_host::log::row::{OPEN_BOOTS_MAX, RANGES_MAX};
use rollcall_host::model::Sender;
use rollcall_wire::Sequence;

use super::store::{Call, Fault};

/// Everything that happens.
#[derive(Clone, Debug)]
pub(crate) struct History {
    pub(crate) workers: usize,
    /// So many entries are in each log already.
    pub(crate) entries: u64,
    pub(crate) flush_interval: &'static str,
    /// Before and after a call of the store, others go on so often at most.
    pub(crate) pauses_max: u8,
    pub(crate) random: u64,
    pub(crate) steps: Vec<Step>,
}

/// One thing that happens. After it, the workers go on a little.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Connections send, each its messages in their order, and those of different connections in any.
    Send { worker: usize, connections: Vec<Connection> },
    /// Messages that were sent before come again: a broker's redelivery, a device without its acknowledgement.
    Again { worker: usize, from: prop::sample::Index, messages: usize },
    /// A call of the store fails, after so many others.
    Fault { calls: u32, of: Call, fault: Fault },
    /// A process ends at once, wherever it is, and another takes its place.
    Crash { worker: usize },
    /// A process ends when it has stored what it had taken, and another takes its place.
    Drain { worker: usize },
    /// Nothing comes until all is settled.
    Settle,
    /// Nothing comes until rows are written because time has passed.
    Wait,
}

/// What a connection sends at once.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    pub(crate) sender: Sender,
    pub(crate) device: u64,
    pub(crate) content: Content,
}

/// What messages say.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Samples of one boot.
    Samples { boot: u64, first: u64, count: u64, order: Order },
    /// A sample of each of so many boots, as somebody forges them.
    Boots { first: u64, count: u64, seq: u64 },
    /// Samples of one boot with a gap after each, more than are kept.
    Gaps { boot: u64, count: u64, order: Order },
    /// Samples without a name.
    Bare { count: u64 },
    /// What is no sample: presence, a retained status, and a payload that is none.
    Others,
}

/// In which order the samples of a connection come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    AsTaken,
    NewestFirst,
    Any,
}

/// Histories of so many workers on the same slots. More than one is a mistake that must cost nothing.
pub(crate) fn history(workers: usize) -> impl Strategy<Value = History> {
    let entries = prop_oneof![1 => Just(0), 2 => CHUNK_ENTRIES - 8..CHUNK_ENTRIES];
    let interval = prop_oneof![3 => Just("0"), 1 => Just("20ms")];
    let steps = prop::collection::vec(step(workers), 1..14);
    (entries, interval, 0..4_u8, any::<u64>(), steps).prop_map(
        move |(entries, flush_interval, pauses_max, random, steps)| History {
            workers,
            entries,
            flush_interval,
            pauses_max,
            random,
            steps,
        },
    )
}

fn step(workers: usize) -> impl Strategy<Value = Step> {
    // The embedded store alone forgets what was made from the log, and one process has it for itself.
    let forget = if workers == 1 { 2 } else { 0 };
    let fault = || {
        prop_oneof![
            2 => Just(Fault::FailBefore),
            2 => Just(Fault::FailAfter),
            1 => (0..3_usize).prop_map(Fault::Tear),
            forget => (0..=100_usize).prop_map(Fault::Forget),
        ]
    };
    prop_oneof![
        8 => (0..workers, prop::collection::vec(connection(), 1..4))
            .prop_map(|(worker, connections)| Step::Send { worker, connections }),
        4 => (0..workers, any::<prop::sample::Index>(), 1..20_usize)
            .prop_map(|(worker, from, messages)| Step::Again { worker, from, messages }),
        2 => (0..60_u32, fault()).prop_map(|(calls, fault)| Step::Fault { calls, of: Call::Any, fault }),
        1 => (0..3_u32, fault()).prop_map(|(calls, fault)| Step::Fault { calls, of: Call::Append, fault }),
        1 => fault().prop_map(|fault| Step::Fault { calls: 0, of: Call::Rows, fault }),
        2 => (0..workers).prop_map(|worker| Step::Crash { worker }),
        1 => (0..workers).prop_map(|worker| Step::Drain { worker }),
        3 => Just(Step::Settle),
        2 => Just(Step::Wait),
    ]
}

fn connection() -> impl Strategy<Value = Connection> {
    let sender = prop_oneof![Just(Sender::HearsRefusal), Just(Sender::HearsNothing)];
    (sender, 0..3_u64, content()).prop_map(|(sender, device, content)| Connection { sender, device, content })
}

fn content() -> impl Strategy<Value = Content> {
    let order =
        || prop_oneof![3 => Just(Order::AsTaken), 1 => Just(Order::NewestFirst), 2 => Just(Order::Any)];
    let first = prop_oneof![
        20 => 0..40_u64,
        2 => 0..10_000_u64,
        1 => Sequence::MAX.get() - 20..=Sequence::MAX.get(),
        1 => 0..=Sequence::MAX.get(),
    ];
    let boots = OPEN_BOOTS_MAX as u64;
    prop_oneof![
        400 => (boot(), first, 1..9_u64, order())
            .prop_map(|(boot, first, count, order)| Content::Samples { boot, first, count, order }),
        30 => (0..3 * boots, 1..boots + 4, 0..3_u64)
            .prop_map(|(first, count, seq)| Content::Boots { first, count, seq }),
        1 => (boot(), RANGES_MAX as u64 - 1..RANGES_MAX as u64 + 60, order())
            .prop_map(|(boot, count, order)| Content::Gaps { boot, count, order }),
        12 => (1..4_u64).prop_map(|count| Content::Bare { count }),
        12 => Just(Content::Others),
    ]
}

fn boot() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0..3_u64, 1 => 0..40_u64]
}
