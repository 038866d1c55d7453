//! Tells the binary what it was built from. Never fails: whatever is not known is left out.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let mut details = Vec::new();
    // A development build does not follow the commits: each one would rebuild everything.
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        if let Some(head) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
            println!("cargo::rerun-if-changed={head}");
        }
        details.extend(git(&["rev-parse", "--short=12", "HEAD"]).map(|hash| format!("git {hash}")));
    } else {
        details.push("development build".to_owned());
    }
    details.extend(std::env::var("TARGET"));
    let runtime = std::env::var_os("CARGO_FEATURE_RUNTIME").is_some();
    details.push(format!("features: {}", if runtime { "runtime" } else { "none" }));
    println!("cargo::rustc-env=MILLSTREAM_BUILD={}", details.join(", "));
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(arguments)
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
