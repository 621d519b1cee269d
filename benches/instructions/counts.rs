//! The figures that are known, and what differs from them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::callgrind;

/// The figures that are known.
const FILE: &str = "benches/instructions/counts.toml";
const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions/counts.toml");
/// Written above them.
const HEADER: &str = "\
# Instructions per request, counted by callgrind. Made by
#
#     cargo bench --profile instructions --bench instructions -- --write
#
# They hold for one compiler, C library and kind of processor: with others, nothing is compared.

";
/// A count that grew by more per cent is told of.
const WARNED_PER_CENT: f64 = 5.0;
/// A count that grew by more per cent fails the run.
const FAILED_PER_CENT: f64 = 25.0;

/// Counts, and what they depend on beside the code.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Counts {
    pub(crate) made_with: MadeWith,
    pub(crate) per_request: BTreeMap<String, u64>,
}

/// What the counts depend on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MadeWith {
    compiler: String,
    c_library: String,
    /// Which of their forms memchr and the C library's copies take. Nothing newer matters: callgrind shows no processor with AVX-512 or
    /// instructions for SHA-1.
    avx2: bool,
}

impl MadeWith {
    /// What is here.
    ///
    /// # Errors
    /// `rustc` or `getconf` cannot be asked.
    pub(crate) fn find_out() -> Result<Self> {
        #[cfg(target_arch = "x86_64")]
        let avx2 = std::is_x86_feature_detected!("avx2");
        #[cfg(not(target_arch = "x86_64"))]
        let avx2 = false;
        Ok(MadeWith {
            compiler: said_by("rustc", "--version")?,
            c_library: said_by("getconf", "GNU_LIBC_VERSION")?,
            avx2,
        })
    }
}

impl fmt::Display for MadeWith {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let avx2 = if self.avx2 { "with" } else { "without" };
        write!(f, "{}, {}, {avx2} AVX2", self.compiler, self.c_library)
    }
}

fn said_by(program: &str, argument: &str) -> Result<String> {
    let said = Command::new(program).arg(argument).output().with_context(|| format!("{program} cannot be started"))?;
    ensure!(said.status.success(), "{program} {argument}: {}", said.status);
    Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
}

impl Counts {
    /// None yet.
    pub(crate) fn empty(made_with: MadeWith) -> Self {
        Counts { made_with, per_request: BTreeMap::new() }
    }

    /// Those of the file.
    ///
    /// # Errors
    /// It is missing, or no table of counts.
    pub(crate) fn read() -> Result<Self> {
        let text = fs::read_to_string(PATH).with_context(|| format!("{FILE}: make it with --write"))?;
        toml::from_str(&text).context(FILE)
    }

    /// Puts them into the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn write(&self) -> Result<()> {
        fs::write(PATH, format!("{HEADER}{}", toml::to_string(self)?)).context(FILE)
    }
}

/// How a count compares with the known one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    New,
    Same(f64),
    Less(f64),
    More(f64),
    FarMore(f64),
}

impl Change {
    fn of(known: Option<u64>, counted: u64) -> Self {
        let Some(known) = known else { return Change::New };
        match (counted as f64 / known as f64 - 1.0) * 100.0 {
            per_cent if per_cent > FAILED_PER_CENT => Change::FarMore(per_cent),
            per_cent if per_cent > WARNED_PER_CENT => Change::More(per_cent),
            per_cent if per_cent < -WARNED_PER_CENT => Change::Less(per_cent),
            per_cent => Change::Same(per_cent),
        }
    }
}

/// Prints the table and what to do; fails where a count grew by far.
///
/// With `all`, a known scenario that was not counted is an error too.
pub(crate) fn report(known: &Counts, counted: &Counts, all: bool) -> ExitCode {
    println!("\n| instructions per request | known | now | change |\n| --- | ---: | ---: | ---: |");
    let mut warnings = Vec::new();
    let mut has_failed = false;
    for (name, &now) in &counted.per_request {
        let before = known.per_request.get(name).copied();
        let change = Change::of(before, now);
        let before = before.map_or_else(|| "-".to_owned(), |before| before.to_string());
        let shown = match change {
            Change::New => "new".to_owned(),
            Change::Same(by) | Change::Less(by) | Change::More(by) | Change::FarMore(by) => format!("{by:+.1} %"),
        };
        println!("| {name} | {before} | {now} | {shown} |");
        has_failed |= matches!(change, Change::FarMore(_));
        let is_first = known.per_request.is_empty();
        let advice = advice(change, name).filter(|_| !is_first);
        warnings.extend(advice.map(|advice| format!("{name}: {before} -> {now} ({shown}). {advice}")));
    }
    for name in known.per_request.keys().filter(|name| all && !counted.per_request.contains_key(*name)) {
        warnings.push(format!("{name}: is known, but no scenario. Write the figures anew with --write."));
    }
    warnings.iter().for_each(|warning| eprintln!("WARNING: {warning}"));
    if has_failed {
        eprintln!("FAILED: a request costs more than {FAILED_PER_CENT} % above the figure in {FILE}.");
    }
    ExitCode::from(u8::from(has_failed))
}

/// What to do about it.
fn advice(change: Change, name: &str) -> Option<String> {
    let file = callgrind::output_file(name);
    match change {
        Change::Same(_) => None,
        Change::New => Some("Nothing is known of it: write the figures anew with --write.".to_owned()),
        Change::Less(_) => Some("It fell: write the figures anew with --write, so that it stays so.".to_owned()),
        Change::More(_) | Change::FarMore(_) => Some(format!(
            "It grew: see where with `callgrind_annotate {file}`; if it is worth it, write the figures anew with --write."
        )),
    }
}
