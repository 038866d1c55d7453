//! Correcting a CRC-32C after a change in the middle, without reading what follows.
//!
//! A CRC is linear: the CRCs of two texts of equal length differ by a value that depends only on
//! where they differ, and each byte that follows carries that value on by one fixed linear step.

/// The CRC of a text after `old` in it became `new`, `following` bytes before its end. The two must
/// have the same length; `crc` is the text's CRC before.
#[must_use]
pub fn crc_patch(crc: u32, old: &[u8], new: &[u8], following: usize) -> u32 {
    debug_assert_eq!(old.len(), new.len(), "a change keeps the length");
    crc ^ carry(crc32c::crc32c(old) ^ crc32c::crc32c(new), following)
}

/// [`crc_patch`] for one fixed place, prepared: four table look-ups per change. For the load
/// generator, which changes the same bytes of the same batch millions of times.
#[derive(Clone, Debug)]
pub struct CrcShift {
    tables: Box<[[u32; 256]; 4]>,
}

impl CrcShift {
    /// Prepares changes that end `following` bytes before the end of the text.
    #[must_use]
    pub fn new(following: usize) -> CrcShift {
        let mut tables = Box::new([[0; 256]; 4]);
        for (position, table) in tables.iter_mut().enumerate() {
            // The image of every byte is the sum of the images of its bits.
            for bit in 0..8 {
                let image = carry(1 << (8 * position + bit), following);
                for (byte, entry) in table.iter_mut().enumerate() {
                    if byte & (1 << bit) != 0 {
                        *entry ^= image;
                    }
                }
            }
        }
        CrcShift { tables }
    }

    /// The text's CRC after `old` became `new` at the prepared place.
    #[must_use]
    pub fn patch(&self, crc: u32, old: &[u8], new: &[u8]) -> u32 {
        debug_assert_eq!(old.len(), new.len(), "a change keeps the length");
        let change = crc32c::crc32c(old) ^ crc32c::crc32c(new);
        let images = self.tables.iter().zip(change.to_le_bytes());
        images.fold(crc, |crc, (table, byte)| {
            crc ^ table.get(usize::from(byte)).copied().unwrap_or(0)
        })
    }
}

/// CRC-32C's polynomial, the coefficient of x^31 in the lowest bit, as the CRCs themselves.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// x to the power of 8, 16, 32 ... modulo the polynomial: the steps over 1, 2, 4 ... bytes.
#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const STEPS: [u32; usize::BITS as usize] = {
    let mut steps = [1 << (31 - 8); usize::BITS as usize];
    let mut i = 1;
    while i < steps.len() {
        steps[i] = multiply(steps[i - 1], steps[i - 1]);
        i += 1;
    }
    steps
};

/// A difference of CRCs carried over `following` bytes: times x^(8 * following). The crate's
/// `crc32c_combine` does the same with matrices, in longer than it takes to read 16 KiB again.
fn carry(difference: u32, following: usize) -> u32 {
    let steps = STEPS.iter().enumerate().filter(|(bit, _)| following >> bit & 1 == 1);
    steps.fold(difference, |product, (_, step)| multiply(*step, product))
}

/// The product of two polynomials modulo CRC-32C's.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 1 << 31;
    while bit != 0 {
        if a & bit != 0 {
            product ^= b;
        }
        b = (b >> 1) ^ (POLYNOMIAL & (b & 1).wrapping_neg());
        bit >>= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carrying_equals_the_crates_combination() {
        for following in [0, 1, 2, 3, 63, 64, 4096, 1 << 20, (1 << 31) + 5] {
            assert_eq!(
                carry(0xdead_beef, following),
                crc32c::crc32c_combine(0xdead_beef, 0, following)
            );
        }
    }

    #[test]
    fn a_patched_crc_equals_a_recomputed_one() {
        let mut text: Vec<u8> = (0..5000u32).map(|i| (i * 7 % 251) as u8).collect();
        for (position, length) in
            [(0, 1), (0, 8), (1, 3), (2047, 100), (4992, 8), (4999, 1), (0, 5000)]
        {
            let crc = crc32c::crc32c(&text);
            let old = text[position..position + length].to_vec();
            text[position..position + length]
                .iter_mut()
                .for_each(|b| *b = b.wrapping_mul(31) ^ 0x5a);
            let new = &text[position..position + length];
            let following = text.len() - position - length;
            assert_eq!(
                crc_patch(crc, &old, new, following),
                crc32c::crc32c(&text),
                "at {position}"
            );
            assert_eq!(
                CrcShift::new(following).patch(crc, &old, new),
                crc32c::crc32c(&text),
                "at {position}"
            );
        }
    }
}
