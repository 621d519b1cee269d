//! Runs this program under callgrind and reads what was counted.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Where callgrind's own output stays, for `callgrind_annotate`.
pub(crate) const OUTPUT: &str = "target/callgrind";

/// The file in [`OUTPUT`] that tells about the scenario, line by line.
pub(crate) fn output_file(scenario: &str) -> String {
    let name: String =
        scenario.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
    format!("{OUTPUT}/{name}.out")
}

/// Instructions in the counted parts of a scenario, all rounds together.
///
/// # Errors
/// valgrind is missing, the scenario fails, or nothing was counted.
pub(crate) fn count(scenario: &str) -> Result<u64> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::create_dir_all(package.join(OUTPUT)).context(OUTPUT)?;
    let file = package.join(output_file(scenario));
    let run = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*everpage_counted_part*"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(std::env::current_exe().context("this program")?)
        .args(["--play", scenario])
        .stdin(Stdio::null())
        .output()
        .context("valgrind cannot be started: install it (Debian: apt-get install valgrind)")?;
    ensure!(run.status.success(), "{scenario}: {}: {}", run.status, String::from_utf8_lossy(&run.stderr));
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")).context("callgrind wrote no totals")?;
    let total = total.trim().parse().with_context(|| format!("totals: {total}"))?;
    ensure!(total > 0, "{scenario}: callgrind saw no call of everpage_counted_part: has it been inlined?");
    Ok(total)
}
