//! Faults of kinds that really happened, in device and host, to be switched on in a build with the feature `mutants`: they
//! show that the simulation of all of Rollcall finds them. In every other build there are none, and nothing of what asks
//! for them is compiled.

/// `mutant!(Name => this)` does this if it is switched on; `mutant!(Name, this, that)` is this then, and otherwise that.
#[cfg(feature = "mutants")]
#[macro_export]
macro_rules! mutant {
    ($mutant:ident => $this:expr) => {
        if $crate::mutant::Mutant::$mutant.is_on() {
            $this;
        }
    };
    ($mutant:ident, $this:expr, $that:expr) => {
        if $crate::mutant::Mutant::$mutant.is_on() { $this } else { $that }
    };
}

/// `mutant!(Name => this)` is nothing in this build, and `mutant!(Name, this, that)` is that.
#[cfg(not(feature = "mutants"))]
#[macro_export]
macro_rules! mutant {
    ($mutant:ident => $this:expr) => {};
    ($mutant:ident, $this:expr, $that:expr) => {
        $that
    };
}

#[cfg(feature = "mutants")]
mod switch {
    use core::fmt;
    use core::sync::atomic::{AtomicUsize, Ordering};

    /// The place of the mutant that is switched on, from 1.
    static ACTIVE: AtomicUsize = AtomicUsize::new(0);

    macro_rules! mutants {
        ($($(#[$doc:meta])* $mutant:ident => $name:literal,)*) => {
            /// A fault that can be switched on.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum Mutant {
                $($(#[$doc])* $mutant,)*
            }

            impl Mutant {
                /// Every mutant, in the order of declaration.
                pub const ALL: &[Self] = &[$(Self::$mutant,)*];

                /// The name on a command line.
                pub const fn name(self) -> &'static str {
                    match self {
                        $(Self::$mutant => $name,)*
                    }
                }
            }
        };
    }

    impl Mutant {
        /// Switches it on in this process, and all others off.
        pub fn switch_on(mutant: Option<Self>) {
            ACTIVE.store(mutant.map_or(0, |mutant| mutant as usize + 1), Ordering::Relaxed);
        }

        /// Is it switched on?
        pub fn is_on(self) -> bool {
            ACTIVE.load(Ordering::Relaxed) == self as usize + 1
        }
    }

    impl fmt::Display for Mutant {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.pad(self.name())
        }
    }

    mutants! {
        /// Success is answered for what a store did not take.
        AckBeforeCommit => "ack-before-commit",
        /// Success is answered for what may have been counted or not.
        SuccessForUnknown => "success-for-unknown",
        /// A repetition is counted.
        DuplicateCounted => "duplicate-counted",
        /// A repetition within one flush is counted.
        DuplicateInFlushCounted => "duplicate-in-flush-counted",
        /// What was appended without an answer is not recognised, and appended again.
        InDoubtForgotten => "in-doubt-forgotten",
        /// An entry that another writer has appended is taken for ours.
        FenceIgnored => "fence-ignored",
        /// After an error of the store, what is known stays although the store has forgotten it.
        StateKeptAfterError => "state-kept-after-error",
        /// After an error of the store, rows that may not be stored are not written again.
        SweepForgotten => "sweep-forgotten",
        /// The checkpoint of rows is stored before they are.
        CheckpointBeforeRows => "checkpoint-before-rows",
        /// A sequence that is one ahead closes the gap before it.
        GapClosed => "gap-closed",
        /// A boot is forgotten as soon as there is another.
        BootsForgotten => "boots-forgotten",
        /// What is forgotten after a time is forgotten by a clock that people set.
        LogTimeFollowsClock => "log-time-follows-clock",
        /// A log that was empty has its time of each worker's clock.
        LogTimeOfEachWorker => "log-time-of-each-worker",
        /// What a device has counted is added to its hours as often as its row is written.
        SealedAddedTwice => "sealed-added-twice",
        /// A sample is dated by when its message came.
        DatedByArrival => "dated-by-arrival",
        /// The samples of a boot change their order in a flush.
        OrderLost => "order-lost",
        /// What is undecided is counted in windows.
        UndecidedCounted => "undecided-counted",
        /// An append is not durable when it returns.
        AppendNotDurable => "append-not-durable",
        /// When a store is opened, what is not rolled up is counted twice.
        TailCountedTwice => "tail-counted-twice",
        /// A PUBACK counts as success whatever it says.
        RefusalIsSuccess => "refusal-is-success",
        /// What was in flight when a link failed is not sent again.
        InFlightKept => "in-flight-kept",
        /// After a reset, numbers begin at 0 again under the same boot id.
        NumberReused => "number-reused",
    }
}

#[cfg(feature = "mutants")]
pub use self::switch::Mutant;
