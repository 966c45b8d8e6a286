//! The one seed of a test run, and the environment variable that repeats it.

use std::sync::LazyLock;

/// Whoever sets it to what a failed test printed gets the same run again.
const VARIABLE: &str = "ROLLCALL_SEED";

/// The seed of this process, printed, so that a failed test shows it.
///
/// # Panics
/// When the variable holds something else than a whole number.
pub fn seed() -> u64 {
    static SEED: LazyLock<u64> =
        LazyLock::new(|| number_from_environment(VARIABLE).unwrap_or_else(|| fastrand::u64(..)));
    println!("seed: {seed} (repeat with {VARIABLE}={seed})", seed = *SEED);
    *SEED
}

/// Random numbers from [`seed`].
pub fn random() -> fastrand::Rng {
    fastrand::Rng::with_seed(seed())
}

/// What the environment says under `name`; `None` when it says nothing.
///
/// # Panics
/// When that is no whole number: a test that ran all the same would not be the one that was asked for.
#[expect(clippy::panic, reason = "it fails the test that asks")]
pub fn number_from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text} is not a whole number: {error}")))
}
