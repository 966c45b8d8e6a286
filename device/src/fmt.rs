//! Log macros over `log` or `defmt`, whichever feature is on; over nothing when neither is.
//!
//! With both features on, `defmt` wins. Messages hold only what both can format.

#![allow(unused_macros, reason = "each level exists, whether or not it is used today")]

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
