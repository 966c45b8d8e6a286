//! A number that no other boot has, kept in two sectors of a flash. Pure.
//!
//! Guarantees, power cut at any write: [`next`] gives each number once, and each is larger than those before. A record
//! is written before its number is given, to memory that was erased, and is read back. Wear is level: a sector is erased
//! once in as many boots as it has records.
//!
//! Not held: after both sectors were erased, numbers begin anew. Who erases the whole chip writes another configuration,
//! and with it another seed, for that was in the same chip.

use core::fmt;

use embedded_storage::nor_flash::NorFlash;

/// A number, and the same with all bits turned round: what a power cut left half written is neither.
const RECORD_SIZE: usize = 16;

/// What erased NOR flash reads as.
const ERASED: [u8; RECORD_SIZE] = [0xff; RECORD_SIZE];

/// How many sectors there are: one is there while the other is erased.
pub const SECTORS: u32 = 2;

/// The flash fails, or does not keep what was written: no number is known to be new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoNumber;

impl fmt::Display for NoNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the flash keeps no number for this boot")
    }
}

impl core::error::Error for NoNumber {}

/// The number of this boot, from the two sectors that begin at `start`, whose bytes nobody else writes.
///
/// # Errors
/// [`NoNumber`].
pub fn next<F: NorFlash>(flash: &mut F, start: u32) -> Result<u64, NoNumber> {
    let sector = F::ERASE_SIZE as u32;
    let records = start..start + SECTORS * sector;
    let mut newest: Option<(u64, u32)> = None;
    for at in records.clone().step_by(RECORD_SIZE) {
        if let Some(number) =
            number(read(flash, at)?).filter(|number| newest.is_none_or(|(most, _)| *number > most))
        {
            newest = Some((number, at));
        }
    }
    let (number, mut at) = match newest {
        Some((number, at)) => (number.checked_add(1).ok_or(NoNumber)?, at + RECORD_SIZE as u32),
        None => (0, start),
    };
    // Whatever a cut left behind is passed over, up to the end of the sector; then it is the other's turn.
    let is_boundary = |at: u32| (at - start).is_multiple_of(sector);
    let begins_sector = newest.is_none() || is_boundary(at);
    if !begins_sector {
        while !is_boundary(at) && read(flash, at)? != ERASED {
            at += RECORD_SIZE as u32;
        }
    }
    if begins_sector || is_boundary(at) {
        at = if at == records.end { start } else { at };
        flash.erase(at, at + sector).map_err(|_| NoNumber)?;
    }
    let written = record(number);
    flash.write(at, &written).map_err(|_| NoNumber)?;
    if read(flash, at)? == written { Ok(number) } else { Err(NoNumber) }
}

fn read<F: NorFlash>(flash: &mut F, at: u32) -> Result<[u8; RECORD_SIZE], NoNumber> {
    let mut bytes = ERASED;
    flash.read(at, &mut bytes).map_err(|_| NoNumber)?;
    Ok(bytes)
}

fn record(number: u64) -> [u8; RECORD_SIZE] {
    let mut bytes = ERASED;
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[8..].copy_from_slice(&(!number).to_le_bytes());
    bytes
}

fn number(bytes: [u8; RECORD_SIZE]) -> Option<u64> {
    let number = u64::from_le_bytes(*bytes.first_chunk()?);
    (record(number) == bytes).then_some(number)
}

#[cfg(test)]
mod tests {
    use embedded_storage::nor_flash::{ErrorType, NorFlashErrorKind, ReadNorFlash};

    use super::*;

    const SECTOR: usize = 4 * RECORD_SIZE;
    const START: u32 = SECTOR as u32;

    /// Two sectors behind one of somebody else's. The power goes after so many bytes that were written or erased.
    struct Chip {
        bytes: [u8; 3 * SECTOR],
        power: usize,
    }

    impl Chip {
        fn new(fill: u8) -> Self {
            Self { bytes: [fill; 3 * SECTOR], power: usize::MAX }
        }

        fn change(&mut self, at: usize, byte: u8) -> Result<(), NorFlashErrorKind> {
            self.power = self.power.checked_sub(1).ok_or(NorFlashErrorKind::Other)?;
            assert!(at >= START as usize, "that is somebody else's");
            self.bytes[at] = byte;
            Ok(())
        }
    }

    impl ErrorType for Chip {
        type Error = NorFlashErrorKind;
    }

    impl ReadNorFlash for Chip {
        const READ_SIZE: usize = 1;

        fn read(&mut self, at: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
            bytes.copy_from_slice(&self.bytes[at as usize..][..bytes.len()]);
            Ok(())
        }

        fn capacity(&self) -> usize {
            self.bytes.len()
        }
    }

    impl NorFlash for Chip {
        const WRITE_SIZE: usize = 1;
        const ERASE_SIZE: usize = SECTOR;

        fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
            assert_eq!((from as usize % SECTOR, (to - from) as usize), (0, SECTOR));
            (from..to).try_for_each(|at| self.change(at as usize, 0xff))
        }

        /// Bits only fall.
        fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
            (at as usize..).zip(bytes).try_for_each(|(at, byte)| self.change(at, self.bytes[at] & byte))
        }
    }

    #[test]
    fn each_boot_has_the_next_number() {
        for fill in [0xff, 0, 0x5a] {
            let mut chip = Chip::new(fill);
            for boot in 0..100 {
                assert_eq!(next(&mut chip, START), Ok(boot));
            }
            assert_eq!(chip.bytes[..SECTOR], [fill; SECTOR]);
        }
    }

    #[test]
    fn no_number_is_given_twice_wherever_the_power_goes() {
        // Longer than a sector's erasure and a record.
        for first in 0..=SECTOR + RECORD_SIZE {
            for second in [0, 1, RECORD_SIZE - 1, SECTOR, SECTOR + 1, usize::MAX] {
                let mut chip = Chip::new(0xff);
                let mut last = None;
                for boot in 0..40 {
                    chip.power = match boot % 3 {
                        0 => first,
                        1 => second,
                        _ => usize::MAX,
                    };
                    let given = next(&mut chip, START).ok();
                    assert!(
                        given.is_none() || given > last,
                        "{given:?} after {last:?}, cut at {first}, {second}"
                    );
                    assert!(given.is_some() || chip.power == 0);
                    last = given.or(last);
                }
                assert!(last.is_some());
            }
        }
    }

    #[test]
    fn a_flash_that_keeps_nothing_gives_no_number() {
        let mut chip = Chip::new(0);
        chip.power = 0;
        assert_eq!(next(&mut chip, START), Err(NoNumber));
        struct Stuck(Chip);
        impl ErrorType for Stuck {
            type Error = NorFlashErrorKind;
        }
        impl ReadNorFlash for Stuck {
            const READ_SIZE: usize = 1;
            fn read(&mut self, at: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
                self.0.read(at, bytes)
            }
            fn capacity(&self) -> usize {
                self.0.capacity()
            }
        }
        impl NorFlash for Stuck {
            const WRITE_SIZE: usize = 1;
            const ERASE_SIZE: usize = SECTOR;
            fn erase(&mut self, _: u32, _: u32) -> Result<(), NorFlashErrorKind> {
                Ok(())
            }
            fn write(&mut self, _: u32, _: &[u8]) -> Result<(), NorFlashErrorKind> {
                Ok(())
            }
        }
        assert_eq!(next(&mut Stuck(Chip::new(0xff)), START), Err(NoNumber));
    }
}
