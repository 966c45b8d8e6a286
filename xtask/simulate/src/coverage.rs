//! The kinds of faults, each named once, and how often each came to pass. A fault that never comes to pass tests
//! nothing, so a long run fails for it.

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident => $name:literal,)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// Every kind, in the order of declaration.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// The name in traces and tables.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

kinds! {
    /// A connection ended with bytes on their way.
    LinkCut => "a connection is cut",
    /// Nothing arrives any more, and nobody is told.
    HalfOpen => "a connection is half-open",
    /// Nobody listens.
    Refused => "connections are refused",
    /// Nobody answers.
    Silent => "nobody answers a connection",
    /// Bytes take long.
    SlowLink => "a link is slow",
    /// A device lost its memory.
    Reset => "a device is reset",
    /// A device lost its memory again and again.
    BootLoop => "a device is reset again and again",
    /// A device did nothing for a while.
    DeviceFrozen => "a device is frozen",
    /// A device's power went while it wrote.
    PowerCutInFlash => "the power goes while flash is written",
    /// A message came twice at once.
    ComesTwice => "a message comes twice",
    /// A message came again much later.
    ComesLate => "a message comes again late",
    /// `kill -9`.
    HostKilled => "the host is killed",
    /// What was not synced may be gone.
    PowerLoss => "the host loses its power",
    /// The host did nothing for a while.
    HostFrozen => "the host is frozen",
    /// The host was stopped and started by an operator.
    HostRestarted => "the host is restarted",
    /// Two processes wrote the same slots.
    SecondWorker => "a second worker",
    /// Nothing was appended.
    AppendRefused => "an append fails",
    /// One of the entries was appended.
    AppendTorn => "an append is torn",
    /// The log could not be read.
    ReadRefused => "a read fails",
    /// Nothing was rolled up.
    RollRefused => "a roll-up fails",
    /// No row was written.
    RowsRefused => "rows cannot be written",
    /// The work was done, and nobody heard of it.
    ReplyLost => "an answer of the store is lost",
    /// The process died when it was about to store.
    KilledBeforeStoring => "the host is killed before it stores",
    /// The process died before it heard that something was stored.
    KilledAfterStoring => "the host is killed after it has stored",
    /// The ingest loop panicked.
    IngestPanic => "the ingest loop panics",
    /// Calls of the store took long.
    SlowStore => "the store is slow",
    /// ENOSPC.
    DiskFull => "the disk is full",
    /// EIO of writes and syncs.
    WritesFail => "writes fail",
    /// EIO of everything.
    DiskFails => "the disk fails",
    /// What was not synced may be gone, in the middle of a transaction.
    PowerLossInWrite => "the power goes while the disk is written",
    /// A bit flipped.
    BitFlip => "a bit flips on the disk",
    /// The wall clock stepped back.
    ClockBack => "the host's clock steps back",
    /// The wall clock stepped forward.
    ClockForward => "the host's clock steps forward",
    /// The wall clock stood still.
    ClockFrozen => "the host's clock stands still",
    /// The wall clock ran fast or slow.
    ClockDrift => "the host's clock drifts",
    /// The broker was killed, and started again.
    BrokerKilled => "the broker is killed",
    /// The broker did nothing for a while.
    BrokerFrozen => "the broker is frozen",
    /// A publish was refused for now.
    BrokerRefuses => "the broker refuses a message",
    /// What was not acknowledged was delivered after what was newer.
    Overtaken => "messages are overtaken",
    /// Samples of boots that a device never had.
    ForgedBoots => "a client invents boots",
    /// Numbers that a device has not reached.
    ForgedSequences => "a client invents numbers",
    /// What is no message of Rollcall's.
    Garbage => "a client sends garbage",
    /// Messages without an identity.
    Bare => "a client sends bare messages",
}

/// How often each kind came to pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage([u64; Kind::ALL.len()]);

impl Default for Coverage {
    fn default() -> Self {
        Self([0; Kind::ALL.len()])
    }
}

impl Coverage {
    /// It came to pass once more.
    pub fn fired(&mut self, kind: Kind) {
        self.0[kind as usize] += 1;
    }

    /// How often it did.
    pub fn count(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Self) {
        for (sum, add) in self.0.iter_mut().zip(other.0) {
            *sum += add;
        }
    }
}
