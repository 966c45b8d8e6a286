//! What the status lamp shows. Pure.

use rollcall_device::stats::State;

/// What there is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Two short flashes every 2 s: there are no settings to work with.
    Unconfigured,
    /// Five flashes a second: no link or no address yet.
    NoAddress,
    /// One flash a second: no broker yet.
    NoBroker,
    /// Steady light: connected to the broker.
    Connected,
}

/// How often the lamp is looked after, in milliseconds: half of the shortest flash.
pub const STEP_MS: u64 = 50;

impl Signal {
    /// What to show of an emitter's state.
    pub fn of(state: State, has_address: bool) -> Self {
        match state {
            State::Connected => Self::Connected,
            _ if has_address => Self::NoBroker,
            _ => Self::NoAddress,
        }
    }

    /// Whether the lamp is lit at `now_ms`.
    pub fn is_lit(self, now_ms: u64) -> bool {
        match self {
            Self::Unconfigured => matches!(now_ms % 2000, 0..100 | 300..400),
            Self::NoAddress => now_ms % 200 < 100,
            Self::NoBroker => now_ms % 1000 < 100,
            Self::Connected => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often the lamp goes on in 2 s.
    fn flashes(signal: Signal) -> usize {
        let lit = |step: u64| signal.is_lit(10_000 + step * STEP_MS);
        (0..2000 / STEP_MS).filter(|step| lit(step + 1) && !lit(*step)).count()
    }

    #[test]
    fn each_signal_has_its_own_rhythm() {
        assert_eq!(flashes(Signal::Unconfigured), 2);
        assert_eq!(flashes(Signal::NoAddress), 10);
        assert_eq!(flashes(Signal::NoBroker), 2);
        assert_eq!(flashes(Signal::Connected), 0);
        assert!(Signal::Connected.is_lit(0) && !Signal::NoBroker.is_lit(300));
        assert!(Signal::Unconfigured.is_lit(300));
    }

    #[test]
    fn a_connection_outshines_a_lost_address() {
        assert_eq!(Signal::of(State::Connected, false), Signal::Connected);
        assert_eq!(Signal::of(State::BackingOff, true), Signal::NoBroker);
        assert_eq!(Signal::of(State::Connecting, false), Signal::NoAddress);
    }
}
