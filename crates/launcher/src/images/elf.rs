//! Whether a file is a static executable for an architecture: nothing else runs in a scratch image.

/// Whether `binary` is a 64-bit little-endian ELF file for `arch` that asks for no interpreter.
pub fn is_static(binary: &[u8], arch: &str) -> bool {
    let machine = match arch {
        "x86_64" => 62,
        "aarch64" => 183,
        _ => return false,
    };
    let number = |at: usize, width: usize| -> Option<usize> {
        let field = binary.get(at..at.checked_add(width)?)?;
        Some(field.iter().rev().fold(0, |number, byte| (number << 8) | usize::from(*byte)))
    };
    // "\x7fELF", 64-bit, little-endian.
    if !binary.starts_with(b"\x7fELF\x02\x01") || number(18, 2) != Some(machine) {
        return false;
    }
    // e_phoff, e_phentsize, e_phnum of the header; p_type of each program header.
    let (Some(offset), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2)) else {
        return false;
    };
    (0..count).all(|index| {
        let at = offset.checked_add(index * size);
        at.and_then(|at| number(at, 4)).is_some_and(|kind| kind != PT_INTERP)
    })
}

/// `elf(5)`: the path of the dynamic loader.
const PT_INTERP: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with one program header of the given type.
    fn elf(machine: u16, kind: u32) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18..20].copy_from_slice(&machine.to_le_bytes());
        file[32] = 64;
        file[54] = 56;
        file[56] = 1;
        file.extend(kind.to_le_bytes());
        file.resize(64 + 56, 0);
        file
    }

    #[test]
    fn only_static_executables_of_the_architecture_pass() {
        assert!(is_static(&elf(62, 1), "x86_64"));
        assert!(is_static(&elf(183, 1), "aarch64"));
        assert!(!is_static(&elf(183, 1), "x86_64"), "another architecture");
        assert!(!is_static(&elf(62, 3), "x86_64"), "dynamically linked");
        assert!(!is_static(&elf(62, 1)[..64], "x86_64"), "cut off");
        assert!(!is_static(b"#!/bin/sh\n", "x86_64"), "a script");
    }
}
