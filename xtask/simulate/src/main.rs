//! `cargo xtask simulate`.

use std::time::Instant;

use rollcall_simulate::coverage::{Coverage, Kind};
use rollcall_simulate::{Settings, run};

fn main() {
    let number = |at| std::env::args().nth(at).and_then(|text| text.parse::<u64>().ok());
    let (first, seeds) = (number(1).unwrap_or(0), number(2).unwrap_or(10));
    std::panic::set_hook(Box::new(|info| {
        if !info.to_string().contains("injected") {
            eprintln!("{info}");
        }
    }));
    let (start, mut seconds, mut coverage, mut lines) = (Instant::now(), 0, Coverage::default(), 0);
    let mut failed = 0;
    for seed in first..first + seeds {
        let outcome = run(&Settings::of(seed));
        seconds += outcome.device_seconds;
        lines += outcome.lines;
        coverage.add(&outcome.coverage);
        if let Some(failure) = &outcome.failure {
            failed += 1;
            println!("{seed} {failure}");
            if seeds > 1 {
                continue;
            }
            let outcome = run(&Settings { keep_trace: true, ..Settings::of(seed) });
            let path = "/tmp/trace.txt";
            std::fs::write(path, outcome.trace.concat()).expect("written");
        }
    }
    for kind in Kind::ALL {
        println!("{:>8}  {}", coverage.count(*kind), kind.name());
    }
    println!(
        "{failed} failed; {lines} lines; {} device-seconds a second",
        seconds as f64 / start.elapsed().as_secs_f64()
    );
}
