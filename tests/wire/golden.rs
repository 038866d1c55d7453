//! The golden frames of `data/wire`, read.

use std::error::Error;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use millstream::protocol::{ApiKey, SUPPORTED};
use serde_json::Value;

/// A frame that Kafka's own message classes made.
#[derive(Debug)]
pub(crate) struct Golden {
    /// Its API.
    pub(crate) key: ApiKey,
    /// Whether it is a request or a response.
    pub(crate) request: bool,
    /// Its version.
    pub(crate) version: i16,
    /// `full`, `null` or `empty`.
    pub(crate) shape: String,
    /// The frame without its length.
    pub(crate) frame: Bytes,
    /// What was put into the body.
    pub(crate) json: Value,
}

/// Every golden frame of every API served.
///
/// # Errors
/// A file is missing or not in its format.
pub(crate) fn golden_frames() -> Result<Vec<Golden>, Box<dyn Error>> {
    let mut frames = Vec::new();
    for api in SUPPORTED {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("tests/data/wire/{}.txt", snake(api.name)));
        let text =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        for line in text.lines() {
            let mut words = line.splitn(5, ' ');
            let mut word = || words.next().ok_or_else(|| format!("short line: {line}"));
            frames.push(Golden {
                key: api.key,
                request: word()? == "request",
                version: word()?.parse()?,
                shape: word()?.to_owned(),
                frame: bytes_of_hex(word()?)?,
                json: serde_json::from_str(word()?)?,
            });
        }
    }
    Ok(frames)
}

/// The bytes that `hex` writes.
///
/// # Errors
/// It is not hexadecimal.
pub(crate) fn bytes_of_hex(hex: &str) -> Result<Bytes, Box<dyn Error>> {
    let byte = |pair: &[u8]| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?);
    hex.as_bytes().chunks(2).map(byte).collect()
}

/// `ListOffsets` as `list_offsets`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}
