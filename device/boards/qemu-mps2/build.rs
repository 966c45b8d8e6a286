//! Tells the linker where the memory is and which sections go where.

use std::path::PathBuf;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::copy("memory.x", out.join("memory.x"))?;
    // cortex-m-rt's link.x includes it; this machine names its interrupt handlers in interrupts.rs.
    fs::write(out.join("device.x"), "")?;
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=memory.x");
    println!("cargo::rustc-link-search={}", out.display());
    println!("cargo::rustc-link-arg=-Tlink.x");
    // The first segment starts at the flash's first byte; a page's alignment would move it.
    println!("cargo::rustc-link-arg=--nmagic");
    Ok(())
}
