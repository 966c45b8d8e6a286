//! Faults of kinds that really happened, switched on in the system that is simulated: to show that they are found.

pub use rollcall_wire::mutant::Mutant;

/// The one that is called so on the command line.
///
/// # Errors
/// Says which there are.
pub fn named(text: &str) -> Result<Mutant, String> {
    Mutant::ALL.iter().copied().find(|mutant| mutant.name() == text).ok_or_else(|| {
        let names: Vec<_> = Mutant::ALL.iter().map(|mutant| mutant.name()).collect();
        format!("there is no mutant {text:?}: write one of {}", names.join(", "))
    })
}
