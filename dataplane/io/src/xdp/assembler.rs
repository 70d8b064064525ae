//! A small assembler for BPF: only the instructions that steering needs, with labels.
//!
//! Pure. One instruction is 64 bits: opcode 8, destination and source register 4 each, jump or
//! memory offset 16, immediate 32. Source: RFC 9669 §3.

/// A register. `R1` holds the context at the start and, with `R2`, `R3`, the arguments of a call;
/// `R0` its result; calls keep `R6` to `R9`; `R10` is the end of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reg {
    R0 = 0,
    R1 = 1,
    R2 = 2,
    R3 = 3,
    R6 = 6,
    R7 = 7,
    R8 = 8,
    R9 = 9,
    R10 = 10,
}

/// Bytes of a memory access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Size {
    Byte = 0x10,
    Half = 0x08,
    Word = 0x00,
}

/// A comparison of a register with a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Equal = 0x10,
    NotEqual = 0x50,
    /// Any of the constant's bits is set.
    AnyBit = 0x40,
}

/// A place in the program, given before or after its position is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// The helper `bpf_map_lookup_elem`.
pub(super) const MAP_LOOKUP: i32 = 1;
/// The helper `bpf_redirect_map`.
pub(super) const REDIRECT_MAP: i32 = 51;

/// A program under construction.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    code: Vec<u64>,
    /// Where each label stands.
    labels: Vec<Option<usize>>,
    /// Jumps whose offset is written at the end.
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    /// A place to jump to, [placed](Self::place) later.
    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len().saturating_sub(1))
    }

    /// The label stands before the next instruction.
    pub(super) fn place(&mut self, label: Label) {
        let here = self.code.len();
        if let Some(place) = self.labels.get_mut(label.0) {
            *place = Some(here);
        }
    }

    fn emit(&mut self, opcode: u8, dst: Reg, src: Reg, offset: i16, immediate: i32) {
        let registers = dst as u64 | (src as u64) << 4;
        let offset = u64::from(u16::from_ne_bytes(offset.to_ne_bytes()));
        let immediate = u64::from(u32::from_ne_bytes(immediate.to_ne_bytes()));
        // The fields stand in memory order: this packing is the little-endian one, and `finish`
        // turns it round where the machine is not.
        self.code
            .push(u64::from(opcode) | registers << 8 | offset << 16 | immediate << 32);
    }

    fn jump(&mut self, opcode: u8, dst: Reg, src: Reg, immediate: i32, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.emit(opcode, dst, src, 0, immediate);
    }

    /// `dst = *(src + offset)`, zero extended.
    pub(super) fn load(&mut self, size: Size, dst: Reg, src: Reg, offset: i16) {
        self.emit(0x61 | size as u8, dst, src, offset, 0);
    }

    /// `*(dst + offset) = src`, 32 bits.
    pub(super) fn store(&mut self, dst: Reg, offset: i16, src: Reg) {
        self.emit(0x63, dst, src, offset, 0);
    }

    /// `*(dst + offset) = constant`, 32 bits.
    pub(super) fn store_constant(&mut self, dst: Reg, offset: i16, constant: i32) {
        self.emit(0x62, dst, Reg::R0, offset, constant);
    }

    /// `dst = src`.
    pub(super) fn copy(&mut self, dst: Reg, src: Reg) {
        self.emit(0xbf, dst, src, 0, 0);
    }

    /// `dst = constant`.
    pub(super) fn set(&mut self, dst: Reg, constant: i32) {
        self.emit(0xb7, dst, Reg::R0, 0, constant);
    }

    /// `dst += constant`.
    pub(super) fn add(&mut self, dst: Reg, constant: i32) {
        self.emit(0x07, dst, Reg::R0, 0, constant);
    }

    /// `dst &= constant`.
    pub(super) fn and(&mut self, dst: Reg, constant: i32) {
        self.emit(0x57, dst, Reg::R0, 0, constant);
    }

    /// `dst = ` the address of the map with this descriptor; two instructions.
    pub(super) fn load_map(&mut self, dst: Reg, descriptor: i32) {
        // A source register of 1 says that the immediate is a map's descriptor.
        self.emit(0x18, dst, Reg::R1, 0, descriptor);
        self.emit(0, Reg::R0, Reg::R0, 0, 0);
    }

    /// Jumps when the low 32 bits of `register` compare so with `constant`.
    pub(super) fn jump_if(&mut self, register: Reg, test: Test, constant: i32, to: Label) {
        self.jump(0x06 | test as u8, register, Reg::R0, constant, to);
    }

    /// Jumps when `left` is greater than `right`, unsigned, 64 bits.
    pub(super) fn jump_if_greater(&mut self, left: Reg, right: Reg, to: Label) {
        self.jump(0x2d, left, right, 0, to);
    }

    /// Jumps when `register` is zero, 64 bits.
    pub(super) fn jump_if_zero(&mut self, register: Reg, to: Label) {
        self.jump(0x15, register, Reg::R0, 0, to);
    }

    /// Jumps always.
    pub(super) fn jump_always(&mut self, to: Label) {
        self.jump(0x05, Reg::R0, Reg::R0, 0, to);
    }

    /// Calls a helper of the kernel.
    pub(super) fn call(&mut self, helper: i32) {
        self.emit(0x85, Reg::R0, Reg::R0, 0, helper);
    }

    /// Ends with the verdict in `R0`.
    pub(super) fn exit(&mut self) {
        self.emit(0x95, Reg::R0, Reg::R0, 0, 0);
    }

    /// The program in the kernel's layout. A jump to a label that was never placed leads behind
    /// the end, which the verifier refuses.
    pub(super) fn finish(mut self) -> Vec<u64> {
        let end = self.code.len();
        for (at, label) in std::mem::take(&mut self.jumps) {
            let target = self.labels.get(label.0).copied().flatten().unwrap_or(end);
            // Relative to the instruction behind the jump.
            let distance = i64::try_from(target)
                .unwrap_or(i64::MAX)
                .saturating_sub(i64::try_from(at).unwrap_or(0))
                .saturating_sub(1);
            let offset = i16::try_from(distance).unwrap_or(i16::MAX);
            if let Some(instruction) = self.code.get_mut(at) {
                *instruction |= u64::from(u16::from_ne_bytes(offset.to_ne_bytes())) << 16;
            }
        }
        self.code.into_iter().map(in_memory_order).collect()
    }
}

/// The instruction as the machine must store it: fields in the order of the drawing above, the
/// offset and the immediate in the machine's own byte order.
#[cfg(target_endian = "little")]
const fn in_memory_order(instruction: u64) -> u64 {
    instruction
}

/// See above; the two register numbers change places too.
#[cfg(target_endian = "big")]
const fn in_memory_order(instruction: u64) -> u64 {
    let opcode = instruction & 0xff;
    let registers = ((instruction >> 8 & 0x0f) << 4) | (instruction >> 12 & 0x0f);
    let offset = instruction >> 16 & 0xffff;
    let immediate = instruction >> 32;
    opcode << 56 | registers << 48 | offset << 32 | immediate
}

#[cfg(test)]
mod tests {
    use super::*;

    // Encodings by hand from RFC 9669 §3 to §5.
    #[test]
    #[cfg(target_endian = "little")]
    fn instructions_are_encoded_as_the_standard_says() {
        let mut code = Assembler::default();
        code.load(Size::Half, Reg::R2, Reg::R7, 12);
        code.store_constant(Reg::R10, -24, 128);
        code.add(Reg::R2, -24);
        code.load_map(Reg::R1, 5);

        assert_eq!(
            code.finish(),
            [
                0x0000_0000_000c_7269,
                0x0000_0080_ffe8_0a62,
                0xffff_ffe8_0000_0207,
                0x0000_0005_0000_1118,
                0,
            ]
        );
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn jumps_count_from_the_instruction_behind_them_in_both_directions() {
        let mut code = Assembler::default();
        let (start, end) = (code.label(), code.label());
        code.place(start);
        code.jump_if(Reg::R2, Test::Equal, 1, end);
        code.jump_always(start);
        code.place(end);
        code.exit();

        let program = code.finish();

        assert_eq!(program[0] >> 16 & 0xffff, 1);
        assert_eq!(program[1] >> 16 & 0xffff, 0xfffe);
    }
}
