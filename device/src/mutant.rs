//! Faults of kinds that really happened, to be switched on in a build with the feature `mutants`: they show that the
//! simulation of all of Rollcall finds them. In every other build there are none, and nothing of what asks for them
//! is compiled.

/// `mutant!(Name => this)` does this if it is switched on; `mutant!(Name, this, that)` is this then, and otherwise that.
#[cfg(feature = "mutants")]
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

#[cfg(not(feature = "mutants"))]
macro_rules! mutant {
    ($mutant:ident => $this:expr) => {};
    ($mutant:ident, $this:expr, $that:expr) => {
        $that
    };
}

pub(crate) use mutant;

#[cfg(feature = "mutants")]
mod switch {
    use core::sync::atomic::{AtomicU8, Ordering};

    static ACTIVE: AtomicU8 = AtomicU8::new(0);

    /// A fault that can be switched on.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Mutant {
        /// A PUBACK counts as success whatever it says.
        RefusalIsSuccess = 1,
        /// What was in flight when a link failed is not sent again.
        InFlightKept = 2,
        /// After a reset, numbers begin at 0 again under the same boot id.
        NumberReused = 3,
    }

    impl Mutant {
        /// Every mutant, in the order of declaration.
        pub const ALL: &[Self] = &[Self::RefusalIsSuccess, Self::InFlightKept, Self::NumberReused];

        /// The name on a command line.
        pub const fn name(self) -> &'static str {
            match self {
                Self::RefusalIsSuccess => "refusal-is-success",
                Self::InFlightKept => "in-flight-kept",
                Self::NumberReused => "number-reused",
            }
        }

        /// Switches it on in this process, or none.
        pub fn switch_on(mutant: Option<Self>) {
            ACTIVE.store(mutant.map_or(0, |mutant| mutant as u8), Ordering::Relaxed);
        }

        /// Is it switched on?
        pub(crate) fn is_on(self) -> bool {
            ACTIVE.load(Ordering::Relaxed) == self as u8
        }
    }
}

#[cfg(feature = "mutants")]
pub use self::switch::Mutant;
