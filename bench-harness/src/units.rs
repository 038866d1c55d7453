//! Sizes as people write and read them.

/// A number of bytes with an optional unit: `64KiB`, `1MiB`, `4GiB`, `10GB`.
///
/// # Errors
/// In words, if it is none.
pub fn parse_bytes(text: &str) -> std::result::Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "" | "B" => 1,
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => {
            return Err(format!("{unit:?} is no unit: use KiB, MiB, GiB, KB, MB or GB"));
        }
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is no number of bytes"))?;
    number.checked_mul(factor).ok_or_else(|| format!("{text:?} is too much"))
}

/// The same for things that fit into memory.
///
/// # Errors
/// In words, if it is none.
pub fn parse_size(text: &str) -> std::result::Result<usize, String> {
    usize::try_from(parse_bytes(text)?).map_err(|_| format!("{text:?} is too much"))
}

/// Bytes for a person.
#[must_use]
pub fn human_bytes(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes >= 1 << shift {
            let value = bytes as f64 / f64::from(1_u32 << shift);
            return if value.fract() == 0.0 {
                format!("{value} {unit}")
            } else {
                format!("{value:.1} {unit}")
            };
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_units() {
        assert_eq!(parse_bytes("64KiB"), Ok(65_536));
        assert_eq!(parse_bytes("4GiB"), Ok(4 << 30));
        assert_eq!(parse_bytes("3GB"), Ok(3_000_000_000));
        assert_eq!(parse_bytes("17"), Ok(17));
        for wrong in ["", "GiB", "1 GiB", "5TB", "99999999999GiB"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
        assert_eq!(human_bytes(65_536), "64 KiB");
        assert_eq!(human_bytes(1_500_000), "1.4 MiB");
    }
}
