//! Log macros over `log` or `defmt`, whichever feature is on; over nothing when neither is.
//!
//! With both features on, `defmt` wins. Messages hold only what both can format.

#![allow(unused_macros, reason = "each level exists, whether or not it is used today")]

use core::fmt;

use rollcall_wire::DeviceId;

/// A device id in a message. As a `str` it would bring what it takes to pad one, 700 bytes of flash.
pub(crate) struct Name<'a>(pub(crate) &'a DeviceId);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Name<'_> {
    fn format(&self, formatter: defmt::Formatter<'_>) {
        defmt::write!(formatter, "{=str}", self.0.as_str());
    }
}

macro_rules! log_with {
    ($level:ident, $($arg:tt)*) => {{
        #[cfg(feature = "defmt")]
        ::defmt::$level!($($arg)*);
        #[cfg(all(feature = "log", not(feature = "defmt")))]
        ::log::$level!($($arg)*);
        #[cfg(not(any(feature = "log", feature = "defmt")))]
        let _ = ::core::format_args!($($arg)*);
    }};
}

macro_rules! info {
    ($($arg:tt)*) => { $crate::fmt::log_with!(info, $($arg)*) };
}

macro_rules! warning {
    ($($arg:tt)*) => { $crate::fmt::log_with!(warn, $($arg)*) };
}

pub(crate) use {info, log_with, warning};
