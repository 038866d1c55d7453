//! `quick --short` against the real broker: every part of it runs, its data is intact, its file of ratios
//! and its page are complete, and the page opens in a browser without an error. No figure is looked at.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use bench_harness::ratios::KEYS;

type Outcome = Result<(), Box<dyn Error>>;

const PROGRAM: &str = env!("CARGO_BIN_EXE_millstream-bench");

/// The broker beside the harness: `cargo test --workspace` has built it, other calls may not have.
fn broker() -> Result<PathBuf, Box<dyn Error>> {
    let path = Path::new(PROGRAM).with_file_name("millstream");
    if !path.exists() {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let status = Command::new(cargo)
            .args(["build", "--package", "millstream", "--bin", "millstream"])
            .status()?;
        if !status.success() {
            return Err("the broker cannot be built".into());
        }
    }
    Ok(path)
}

/// Not a temporary filesystem: direct I/O needs a real one.
fn scratch() -> Result<tempfile::TempDir, Box<dyn Error>> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(target)?;
    Ok(tempfile::tempdir_in(target)?)
}

fn browser() -> Result<&'static str, Box<dyn Error>> {
    let find = || {
        ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
            Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success())
        })
    };
    if find().is_none() {
        // As root on Debian, which is what CI is.
        Command::new("apt-get")
            .args(["-qq", "-y", "install", "--no-install-recommends", "chromium"])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .output()?;
    }
    find().ok_or_else(|| "there is no Chromium: install the package chromium".into())
}

#[test]
fn quick_short_is_complete_and_its_page_opens_without_errors() -> Outcome {
    let directory = scratch()?;
    let (json, html) = (directory.path().join("ratios.json"), directory.path().join("page.html"));
    let mut command = Command::new(PROGRAM);
    command.args(["quick", "--short", "--broker"]).arg(broker()?);
    command.arg("--data-dir").arg(directory.path().join("data"));
    command.arg("--json").arg(&json).arg("--html").arg(&html);
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let summary = String::from_utf8(output.stdout)?;
    assert!(summary.contains("every run was clean") && summary.contains("integrity clean"));

    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(&json)?)?;
    let ratios = file["ratios"].as_object().ok_or("no ratios")?;
    assert_eq!(ratios.len(), KEYS.len());
    for (key, _) in KEYS {
        let measured =
            matches!(key, "produce_1m" | "produce_64k_100p" | "fetch_tail_64k" | "single_record");
        assert_eq!(ratios[key].is_number(), measured, "{key}: {}", ratios[key]);
    }

    let page = std::fs::read_to_string(&html)?;
    for heading in ["Ratios", "Latency by percentile", "Over time", "What it cost", "Machine"] {
        assert!(page.contains(&format!("<h2>{heading}</h2>")), "{heading}");
    }
    let opened = Command::new(browser()?)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"])
        .arg(format!("--user-data-dir={}", directory.path().join("profile").display()))
        .args(["--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("file://{}", html.display()))
        .output()?;
    let dom = String::from_utf8_lossy(&opened.stdout);
    let log = String::from_utf8_lossy(&opened.stderr);
    let complaints: Vec<&str> =
        log.lines().filter(|l| l.contains("CONSOLE") || l.contains("Uncaught")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
    assert!(dom.contains("data-drawn=\"3\""), "percentiles, throughput and latency over time");
    assert_eq!(dom.matches("<canvas").count(), 3, "each chart is drawn");
    Ok(())
}
