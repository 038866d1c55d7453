//! The batches the generator sends and the oracle recognises: encoded once, then only stamped.

mod stamp;
mod template;
mod walk;

pub use stamp::{STAMP_BYTES, Stamp, VALUE_BYTES_MIN, read_stamp};
pub use template::{Template, filler};
pub(crate) use walk::values;
pub use walk::{Disorder, examine};
