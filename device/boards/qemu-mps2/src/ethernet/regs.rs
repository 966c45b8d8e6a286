//! The registers of the LAN9118 (its data sheet, chapter 5; table 5.1 lists them).

/// Where the board has it: AN385, table 3-1.
const BASE: usize = 0x4020_0000;

/// Byte offsets from [`BASE`].
const RX_DATA: usize = 0x00;
const TX_DATA: usize = 0x20;
const RX_STATUS: usize = 0x40;
const TX_STATUS: usize = 0x48;
const IRQ_CFG: usize = 0x54;
const INT_STS: usize = 0x58;
const INT_EN: usize = 0x5c;
const FIFO_INT: usize = 0x68;
const TX_CFG: usize = 0x70;
const HW_CFG: usize = 0x74;
const RX_FIFO_INF: usize = 0x7c;
const TX_FIFO_INF: usize = 0x80;
const MAC_CSR_CMD: usize = 0xa4;
const MAC_CSR_DATA: usize = 0xa8;

/// IRQ_CFG: enabled, active high, push-pull. Otherwise the line is active low, which the processor would take
/// for an interrupt that never ends.
const IRQ_EN: u32 = 1 << 8;
const IRQ_POL: u32 = 1 << 4;
const IRQ_TYPE: u32 = 1 << 0;

/// INT_STS, INT_EN: more frames wait than FIFO_INT says; the PHY has something to tell.
const RSFL: u32 = 1 << 3;
const PHY: u32 = 1 << 18;

/// HW_CFG: soft reset, and a bit that must be one; 5 KB of the 16 KB are for frames to send, the reset value.
const SRST: u32 = 1 << 0;
const MBO: u32 = 1 << 20;
const TX_FIFO_5K: u32 = 5 << 16;

/// TX_CFG: transmit.
const TX_ON: u32 = 1 << 1;

/// Transmit command A: this buffer is the first and the last of its frame.
const FIRST: u32 = 1 << 13;
const LAST: u32 = 1 << 12;

/// MAC_CSR_CMD: go, and busy while it reads as 1; read.
const CSR_BUSY: u32 = 1 << 31;
const CSR_READ: u32 = 1 << 30;

/// The registers of the MAC.
const MAC_CR: u32 = 1;
const ADDRH: u32 = 2;
const ADDRL: u32 = 3;
const MII_ACC: u32 = 6;
const MII_DATA: u32 = 7;

/// MAC_CR: full duplex, transmit, receive.
const FDPX: u32 = 1 << 20;
const TXEN: u32 = 1 << 3;
const RXEN: u32 = 1 << 2;

/// MII_ACC: the PHY's address, which is 1; write; busy.
const PHY_ADDRESS: u32 = 1 << 11;
const MII_WRITE: u32 = 1 << 1;
const MII_BUSY: u32 = 1 << 0;

/// The registers of the PHY.
const BASIC_STATUS: u32 = 1;
const INTERRUPT_SOURCE: u32 = 29;
const INTERRUPT_MASK: u32 = 30;

/// BASIC_STATUS: the link is up.
const LINK: u32 = 1 << 2;

/// INTERRUPT_SOURCE: energy on the line, the link went down.
const ENERGY_ON: u32 = 1 << 7;
const LINK_DOWN: u32 = 1 << 4;

/// The registers. Whoever has the one value of this type owns the controller, the masks of its interrupt
/// apart.
pub(super) struct Registers(());

impl Registers {
    /// Sets the controller up to receive and transmit, with interrupts for received frames and for the link.
    pub(super) fn start() -> Self {
        write(HW_CFG, SRST);
        while read(HW_CFG) & SRST != 0 {}
        write(HW_CFG, MBO | TX_FIFO_5K);
        // More than none.
        write(FIFO_INT, 0);
        write(TX_CFG, TX_ON);
        let mut registers = Self(());
        registers.write_mac(MAC_CR, FDPX | TXEN | RXEN);
        registers.write_phy(INTERRUPT_MASK, ENERGY_ON | LINK_DOWN);
        write(IRQ_CFG, IRQ_EN | IRQ_POL | IRQ_TYPE);
        write(INT_EN, RSFL | PHY);
        registers
    }

    /// The address that the controller read from its EEPROM: in QEMU, what the emulator was given.
    pub(super) fn hardware_address(&mut self) -> [u8; 6] {
        let ([a, b, c, d], [e, f, ..]) =
            (self.read_mac(ADDRL).to_le_bytes(), self.read_mac(ADDRH).to_le_bytes());
        [a, b, c, d, e, f]
    }

    /// Whether the link is up. It is asked twice: data sheet, 5.5.2, the bit stays low until it was read once.
    pub(super) fn is_link_up(&mut self) -> bool {
        self.read_phy(INTERRUPT_SOURCE);
        self.read_phy(BASIC_STATUS);
        self.read_phy(BASIC_STATUS) & LINK != 0
    }

    /// How many received frames wait.
    pub(super) fn frames(&self) -> u8 {
        let [_, _, frames, _] = read(RX_FIFO_INF).to_le_bytes();
        frames
    }

    /// Lets the next frame interrupt, once all were read. The level was reached in the past and does not go
    /// away by itself.
    pub(super) fn expect_frames(&mut self) {
        write(INT_STS, RSFL);
        write(INT_EN, RSFL | PHY);
    }

    /// The length of the next received frame in bytes, its CRC included.
    pub(super) fn pop_length(&mut self) -> usize {
        (read(RX_STATUS) >> 16 & 0x3fff) as usize
    }

    /// The next four bytes of the receive FIFO.
    pub(super) fn pop(&mut self) -> [u8; 4] {
        read(RX_DATA).to_le_bytes()
    }

    /// Announces a frame of `length` bytes.
    pub(super) fn push_command(&mut self, length: u16) {
        let length = u32::from(length);
        write(TX_DATA, FIRST | LAST | length);
        write(TX_DATA, length);
    }

    /// The next four bytes of the announced frame.
    pub(super) fn push(&mut self, bytes: [u8; 4]) {
        write(TX_DATA, u32::from_le_bytes(bytes));
    }

    /// Bytes of room in the transmit FIFO.
    pub(super) fn room(&self) -> u16 {
        let [low, high, ..] = read(TX_FIFO_INF).to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    /// Forgets what became of the frames that were sent; their FIFO would fill up, and stop the sending.
    pub(super) fn forget_sent(&mut self) {
        let used = || read(TX_FIFO_INF).to_le_bytes()[2];
        while used() > 0 {
            read(TX_STATUS);
        }
    }

    fn read_mac(&mut self, register: u32) -> u32 {
        self.command_mac(CSR_READ | register);
        read(MAC_CSR_DATA)
    }

    fn write_mac(&mut self, register: u32, value: u32) {
        write(MAC_CSR_DATA, value);
        self.command_mac(register);
    }

    fn command_mac(&mut self, command: u32) {
        write(MAC_CSR_CMD, CSR_BUSY | command);
        while read(MAC_CSR_CMD) & CSR_BUSY != 0 {}
    }

    fn read_phy(&mut self, register: u32) -> u32 {
        self.command_phy(register << 6);
        self.read_mac(MII_DATA)
    }

    fn write_phy(&mut self, register: u32, value: u32) {
        self.write_mac(MII_DATA, value);
        self.command_phy(register << 6 | MII_WRITE);
    }

    fn command_phy(&mut self, command: u32) {
        self.write_mac(MII_ACC, PHY_ADDRESS | command | MII_BUSY);
        while self.read_mac(MII_ACC) & MII_BUSY != 0 {}
    }
}

/// What the interrupt handler does: masks what interrupted, frames until all were read and the PHY until it
/// was asked. Says whether it was the PHY.
pub(super) fn mask() -> bool {
    let interrupted = read(INT_STS) & read(INT_EN);
    write(INT_EN, read(INT_EN) & !interrupted);
    interrupted & PHY != 0
}

#[expect(unsafe_code, reason = "memory-mapped registers")]
fn read(offset: usize) -> u32 {
    // SAFETY: an aligned register of the controller; only the FIFOs change by being read, and only the owner
    // of `Registers` reads those.
    unsafe { core::ptr::with_exposed_provenance::<u32>(BASE + offset).read_volatile() }
}

#[expect(unsafe_code, reason = "memory-mapped registers")]
fn write(offset: usize, value: u32) {
    // SAFETY: an aligned register of the controller, which has no access to memory.
    unsafe { core::ptr::with_exposed_provenance_mut::<u32>(BASE + offset).write_volatile(value) }
}
