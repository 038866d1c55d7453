//! `docs/compatibility.md` says of every key what the code does with it. To write it anew:
//! `MILLSTREAM_WRITE_DOCS=1 cargo test --test config_reference`.

use std::fs;
use std::path::Path;

use millstream::config::effect;

const BEGIN: &str = "<!-- keys: written by tests/config_reference.rs -->\n";
const END: &str = "<!-- end of keys -->\n";

#[test]
fn the_reference_of_keys_is_what_the_code_does() -> Result<(), Box<dyn std::error::Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/compatibility.md");
    let text = fs::read_to_string(&path)?;
    let (before, rest) = text.split_once(BEGIN).ok_or("the beginning is not marked")?;
    let (written, after) = rest.split_once(END).ok_or("the end is not marked")?;
    let expected = format!("\n{}\n", effect::reference());
    if std::env::var_os("MILLSTREAM_WRITE_DOCS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{expected}{END}{after}"))?;
        return Ok(());
    }
    let stale = written.lines().zip(expected.lines()).find(|(found, wanted)| found != wanted);
    assert!(
        written == expected,
        "docs/compatibility.md is stale, first at {stale:?}; run with MILLSTREAM_WRITE_DOCS=1"
    );
    Ok(())
}
