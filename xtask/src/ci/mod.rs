//! `cargo xtask ci`: what CI runs, so that a developer can run the same.

use std::process::{Command, ExitCode};

use anyhow::Result;
use pico_args::Arguments;
use rollcall_harness::cargo::{self, Workspace};
use rollcall_harness::emulated_board::EmulatedBoard;
use rollcall_harness::hardware_board;

use crate::tally::TestTally;
use crate::{firmware, fuzz, help, simulate, test};

mod deny;
mod tidy;

pub(crate) const HELP: &str = "\
Checks everything that CI checks: which crate and which folder of the host uses which, the length of files,
the licences and sources of all that is linked, and what is linked twice (cargo-deny, by .cargo/deny.toml),
formatting, clippy and documentation of both workspaces, firmware for its own targets among them, without a warning,
200 seeds of cargo xtask simulate and those that are kept, each fuzz target for ten seconds (cargo xtask fuzz), and
then every test (cargo xtask test).

  cargo xtask ci

With CI=true in the environment, a test that had to be skipped counts as a failure.
";

const CLIPPY: [&str; 3] = ["--", "--deny", "warnings"];

pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    help::reject_unknown(arguments, HELP)?;
    let mut tally = TestTally::new();
    tally.check("the dependencies between crates", tidy::check_crates());
    tally.check("the dependencies between the host's folders", tidy::check_host_folders());
    tally.check("the length of files", tidy::check_lengths());
    deny::check(&mut tally);
    for workspace in Workspace::ALL {
        let packages = workspace.hosted_packages();
        let checks = [
            workspace.cargo(&["fmt", "--all", "--check"]),
            workspace.cargo(&[&["clippy", "--all-targets"], packages, &CLIPPY].concat()),
            workspace.cargo(&[&["doc", "--no-deps"], packages].concat()),
        ];
        for check in checks {
            self::check(&mut tally, workspace.name(), check);
        }
    }
    let mut lean = Workspace::Root.cargo(&[
        "clippy",
        "--package",
        "rollcall-host",
        "--all-targets",
        "--no-default-features",
    ]);
    lean.args(CLIPPY);
    tally.check("clippy of the host without MongoDB", cargo::run(lean));
    let mut tls = Workspace::Root.cargo(&["clippy", "--package", "xtask", "--features", "tls"]);
    tls.args(CLIPPY);
    tally.check("clippy of the benchmark with TLS", cargo::run(tls));
    let mut mutants = Workspace::Root.cargo(&["clippy", "--package", "rollcall-simulate"]);
    mutants.args(["--all-targets", "--features", "mutants"]).args(CLIPPY);
    tally.check("clippy of the simulation with mutants", cargo::run(mutants));
    for board in EmulatedBoard::EMULATED {
        match (board.cargo("clippy"), board.cargo("clippy"), board.cargo("doc")) {
            (Ok(mut clippy), Ok(mut with_tls), Ok(mut doc)) => {
                clippy.args(CLIPPY);
                with_tls.args(["--features", "tls"]).args(CLIPPY);
                doc.arg("--no-deps");
                check(&mut tally, board.name(), clippy);
                check(&mut tally, &format!("{board} with TLS"), with_tls);
                check(&mut tally, board.name(), doc);
            }
            (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => {
                tally.skipped.push(format!("checks of {board}: {error:#}"));
            }
        }
    }
    for board in hardware_board::all()? {
        let name = format!("clippy of {}'s firmware", board.name);
        match board.add_target() {
            Ok(()) => tally.check(&name, board.clippy()),
            Err(error) => tally.skipped.push(format!("{name}: {error:#}")),
        }
    }
    tally.check("sizes of the firmware (cargo xtask firmware)", firmware::check());
    tally.check("the simulation (cargo xtask simulate)", simulate::check());
    fuzz::check(&mut tally);
    test::everything(tally)
}

fn check(tally: &mut TestTally, of: &str, mut command: Command) {
    command.env("RUSTDOCFLAGS", "--deny warnings");
    let what = command.get_args().next().unwrap_or_default().display().to_string();
    tally.check(&format!("{what} of the {of}"), cargo::run(command));
}
