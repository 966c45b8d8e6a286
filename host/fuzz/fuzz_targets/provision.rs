//! Any block in a board's flash is settings or an error with a name, and settings make a block of which they are read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rollcall_provision::{BLOCK_SIZE, Block, BlockError};

fuzz_target!(|bytes: &[u8]| {
    let mut block = [0xff; BLOCK_SIZE];
    let length = bytes.len().min(BLOCK_SIZE);
    block[..length].copy_from_slice(&bytes[..length]);
    if let Err(BlockError::Crc) = check(block) {
        // Nobody guesses a CRC.
        let end = 8 + usize::from(u16::from_le_bytes([block[6], block[7]]));
        let crc = crc32fast::hash(&block[..end]);
        block[end..end + 4].copy_from_slice(&crc.to_le_bytes());
        assert_ne!(check(block), Err(BlockError::Crc));
    }
});

fn check(block: [u8; BLOCK_SIZE]) -> Result<(), BlockError> {
    let block = Block::from_bytes(block);
    let settings = block.settings()?;
    assert_eq!(Block::encode(&settings).settings().unwrap(), settings);
    Ok(())
}
