//! The table of results: what was measured, how much, and what it is meant to be.

use std::fmt;

/// What a figure is meant to be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// Told for information.
    None,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => f.pad(&format!("≥ {}", number(*least))),
            Self::AtMost(most) => f.pad(&format!("≤ {}", number(*most))),
            Self::None => f.pad(""),
        }
    }
}

impl Target {
    /// Is it reached?
    pub(super) fn verdict(self, value: f64) -> &'static str {
        match self {
            Self::AtLeast(least) if value < least => "missed",
            Self::AtMost(most) if value > most => "missed",
            Self::None => "",
            _ => "met",
        }
    }
}

/// Prints one line of the table, at once: a bench takes minutes.
pub(super) fn print(what: &str, value: f64, unit: &str, target: Target) {
    let verdict = target.verdict(value);
    println!("{what:<66} {:>11} {unit:<5} {target:<9} {verdict}", number(value));
}

/// Prints a line above figures that belong together.
pub(super) fn heading(text: &str) {
    println!("\n{text}");
}

/// Three digits that count at least, and groups of three before the point.
pub(super) fn number(value: f64) -> String {
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if fraction.is_empty() { grouped } else { format!("{grouped}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_grouped_and_short() {
        let shown = [0.0, 0.456, 12.34, 999.4, 1000.0, 1_234_567.8].map(number);
        assert_eq!(shown, ["0.00", "0.46", "12.3", "999", "1,000", "1,234,568"]);
    }
}
