//! The boards that QEMU runs, and how their firmware is built.

use std::fmt;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::{cargo, workspace};

/// An emulated board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmulatedBoard {
    /// An LM3S6965 in QEMU.
    QemuLm3s6965,
    /// An MPS2 with the AN385 image in QEMU.
    QemuMps2,
}

impl EmulatedBoard {
    /// Every one.
    pub const EMULATED: [Self; 2] = [Self::QemuLm3s6965, Self::QemuMps2];

    /// As the command line and the folder call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::QemuLm3s6965 => "qemu-lm3s6965",
            Self::QemuMps2 => "qemu-mps2",
        }
    }

    /// The board that is called `name`.
    ///
    /// # Errors
    /// When there is none; with those that there are.
    pub fn find(name: &str) -> Result<Self> {
        let Some(board) = Self::EMULATED.into_iter().find(|board| board.name() == name) else {
            bail!(
                "there is no firmware for {name:?}; the boards are: {}",
                Self::EMULATED.map(Self::name).join(", ")
            )
        };
        Ok(board)
    }

    /// Its package in the boards' workspace; the program has the same name.
    pub fn package(self) -> String {
        format!("rollcall-device-{}", self.name())
    }

    /// What its processor is to the compiler.
    pub fn target(self) -> &'static str {
        match self {
            Self::QemuLm3s6965 | Self::QemuMps2 => "thumbv7m-none-eabi",
        }
    }

    /// A cargo command about the firmware, for its target.
    ///
    /// # Errors
    /// When the target cannot be had.
    pub fn cargo(self, command: &str) -> Result<Command> {
        cargo::add_target(self.target())?;
        let package = self.package();
        let arguments = [command, "--package", &package, "--profile", "firmware", "--target", self.target()];
        Ok(cargo::firmware(&arguments))
    }

    /// Builds an example that stands beside the firmware, and says where it is.
    ///
    /// # Errors
    /// As [`EmulatedBoard::build`].
    pub fn build_example(self, name: &str) -> Result<PathBuf> {
        let mut command = self.cargo("build")?;
        command.args(["--example", name, "--message-format=json-render-diagnostics"]);
        cargo::executable(command, name)
    }

    /// Builds the firmware, with cargo's progress on stderr, and says where it is.
    ///
    /// # Errors
    /// When it does not build, or its target cannot be had.
    pub fn build(self) -> Result<PathBuf> {
        let mut command = self.cargo("build")?;
        command.arg("--message-format=json-render-diagnostics");
        cargo::executable(command, &self.package())
    }

    /// As [`EmulatedBoard::build`], of the firmware with TLS, which knows nothing else.
    ///
    /// # Errors
    /// As [`EmulatedBoard::build`].
    pub fn build_with_tls(self) -> Result<PathBuf> {
        let mut command = self.cargo("build")?;
        command.args(["--features", "tls", "--message-format=json-render-diagnostics"]);
        // Not where the other is, whose place it would take.
        command.env("CARGO_TARGET_DIR", workspace::boards().join("target/with-tls"));
        cargo::executable(command, &self.package())
    }
}

impl fmt::Display for EmulatedBoard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
