//! kcat: the one in `PATH`, or one unpacked under `target/tools`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::outcome::{Result, ensure, failure};

const REMEDY: &str =
    "kcat is not in PATH and could not be fetched. Install it: apt-get install kcat";

/// How to run kcat.
struct Kcat {
    program: PathBuf,
    /// Where its libraries lie, if not in the system's places.
    libraries: Option<String>,
}

/// Runs kcat against `address` and answers its output; whatever goes wrong is a failure.
pub(crate) fn run(address: &str, arguments: &[&str]) -> Result<Vec<u8>> {
    static KCAT: OnceLock<std::result::Result<Kcat, String>> = OnceLock::new();
    let kcat = KCAT.get_or_init(|| find().map_err(|e| format!("{e:?}")));
    let kcat = kcat.as_ref().map_err(|e| failure(e.clone()))?;
    let output = kcat
        .command()
        .args(["-b", address, "-m", "30"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure(output.status.success(), || format!("kcat {arguments:?}: {}\n{said}", output.status))?;
    Ok(output.stdout)
}

impl Kcat {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        // A user's own defaults have no place in a test.
        command.env("KCAT_CONFIG", "/dev/null");
        command
    }

    fn works(&self) -> bool {
        self.command()
            .arg("-V")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    }
}

fn find() -> Result<Kcat> {
    let installed = Kcat { program: PathBuf::from("kcat"), libraries: None };
    if installed.works() {
        return Ok(installed);
    }
    // CARGO_TARGET_TMPDIR is the folder `tmp` of the target folder.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .ok_or_else(|| failure("no target folder"))?;
    let folder = target.join("tools/kcat");
    let fetched = unpacked(&folder)?;
    if fetched.works() {
        return Ok(fetched);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/fetch-kcat.sh");
    let output = Command::new("sh").arg(script).arg(&folder).stdin(Stdio::null()).output()?;
    let fetched = unpacked(&folder)?;
    ensure(output.status.success() && fetched.works(), || {
        format!("{REMEDY}\n{}", String::from_utf8_lossy(&output.stderr))
    })?;
    Ok(fetched)
}

fn unpacked(folder: &Path) -> Result<Kcat> {
    let root = folder.join("unpacked");
    let mut libraries = Vec::new();
    for base in ["usr/lib", "lib"] {
        libraries.push(root.join(base));
        // The architecture's own folder, such as x86_64-linux-gnu.
        for entry in fs::read_dir(root.join(base)).into_iter().flatten() {
            let path = entry?.path();
            if path.is_dir() {
                libraries.push(path);
            }
        }
    }
    let libraries = libraries.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    Ok(Kcat { program: root.join("usr/bin/kcat"), libraries: Some(libraries.join(":")) })
}
