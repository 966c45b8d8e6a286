//! Logs to stderr, a bounded number of lines a second: ten thousand devices lose their broker at once.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use log::{LevelFilter, Log, Metadata, Record};

/// Lines that are shown within [`WINDOW`]; the others are counted.
const LINES_MAX: u32 = 10;

const WINDOW: Duration = Duration::from_secs(1);

/// What is shown. The crates below log nothing above that helps an operator.
const LEVEL: LevelFilter = LevelFilter::Info;

static LOGGER: Logger = Logger { budget: Mutex::new(None) };

/// Starts logging.
pub(crate) fn init() {
    // It fails only when a logger is there already.
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(LEVEL);
    }
}

struct Logger {
    budget: Mutex<Option<Budget>>,
}

struct Budget {
    since: Instant,
    lines: u32,
}

impl Logger {
    /// Whether this line is shown, and how many lines of the window before were not.
    fn admit(&self) -> (bool, u32) {
        let Ok(mut budget) = self.budget.lock() else { return (true, 0) };
        let now = Instant::now();
        let (budget, hidden) = match &mut *budget {
            Some(budget) if now - budget.since < WINDOW => (budget, 0),
            slot => {
                let hidden = slot.as_ref().map_or(0, |old| old.lines.saturating_sub(LINES_MAX));
                (slot.insert(Budget { since: now, lines: 0 }), hidden)
            }
        };
        budget.lines += 1;
        (budget.lines <= LINES_MAX, hidden)
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= LEVEL && metadata.target().starts_with("rollcall")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let (shown, hidden) = self.admit();
        if hidden > 0 {
            eprintln!("... and {hidden} lines more");
        }
        if shown {
            eprintln!("{}: {}", record.level().as_str().to_lowercase(), record.args());
        }
    }

    fn flush(&self) {}
}
