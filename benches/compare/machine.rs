//! What is it measured on? Cores to pin to, and what a reader must know of the machine and the programs.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::process::TICKS_A_SECOND;

/// The cores of a run, as taskset names them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cores {
    pub(crate) server: String,
    pub(crate) load: String,
    /// Of the comparison of one worker with two: two for the server, and those of the load, others if there are.
    pub(crate) two_servers: String,
    pub(crate) two_loads: String,
}

impl Cores {
    /// Of those that this process may use: the load's is no sibling (hyperthread) of the server's if that can be.
    ///
    /// # Errors
    /// There is only one.
    pub(crate) fn choose() -> Result<Self> {
        let status = fs::read_to_string("/proc/self/status").context("this bench needs Linux")?;
        let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let all = listed(allowed.context("Linux tells the cores of a process")?.trim());
        ensure!(all.len() >= 2, "two cores are needed: one for the server, one for the load");
        let server = all[0];
        let siblings = format!("/sys/devices/system/cpu/cpu{server}/topology/thread_siblings_list");
        let siblings = listed(fs::read_to_string(siblings).unwrap_or_default().trim());
        let load = all.iter().copied().find(|core| !siblings.contains(core)).unwrap_or(all[1]);
        let others: Vec<usize> = all.iter().copied().filter(|core| *core != server && *core != load).collect();
        let two_servers = format!("{server},{load}");
        let two_loads = match others[..] {
            [one, other, ..] => format!("{one},{other}"),
            _ => two_servers.clone(),
        };
        Ok(Cores { server: server.to_string(), load: load.to_string(), two_servers, two_loads })
    }

    /// Moves this process to the core of the load: what it does must not cost the servers.
    pub(crate) fn step_aside(&self) -> Result<()> {
        let this = std::process::id().to_string();
        let done = Command::new("taskset").args(["-a", "-c", "-p", &self.load, &this]).output();
        ensure!(done.context("taskset cannot be run")?.status.success(), "taskset cannot pin to core {}", self.load);
        Ok(())
    }
}

/// `0,2-4` is 0, 2, 3, 4.
fn listed(cores: &str) -> Vec<usize> {
    let ranges = cores.split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

/// Where the figures come from.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    processor: String,
    processors: usize,
    memory_gib: u64,
    kernel: String,
    everpage: String,
    nginx: String,
    varnish: String,
    wrk: String,
}

impl Machine {
    pub(crate) fn look(everpage: &std::path::Path) -> Self {
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let field = |text: &str, name: &str| -> String {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim_start_matches([' ', '\t', ':']).to_owned()
        };
        let kib: u64 = field(&memory, "MemTotal").trim_end_matches(" kB").parse().unwrap_or_default();
        Machine {
            processor: field(&processors, "model name"),
            processors: processors.lines().filter(|line| line.starts_with("processor")).count(),
            memory_gib: (kib + (1 << 19)) >> 20,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            everpage: version(Command::new(everpage).arg("--version"), "everpage "),
            nginx: version(Command::new("nginx").arg("-v"), "nginx/"),
            varnish: version(Command::new("varnishd").arg("-V"), "varnish-"),
            wrk: version(Command::new("wrk").arg("-v"), "wrk "),
        }
    }

    /// For people.
    pub(crate) fn line(&self) -> String {
        let Machine { processor, processors, memory_gib, kernel, everpage, nginx, varnish, wrk } = self;
        format!(
            "{processor}, {processors} cores, {memory_gib} GiB, Linux {kernel}; \
             everpage {everpage}, nginx {nginx}, Varnish {varnish}, wrk {wrk}"
        )
    }
}

/// The word after `before` in whatever the program says.
fn version(command: &mut Command, before: &str) -> String {
    let Ok(output) = command.output() else { return "unknown".to_owned() };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let after = said.split_once(before).map(|(_, after)| after);
    let word = after.and_then(|after| after.split([' ', ')', '\n']).next());
    word.unwrap_or("unknown").to_owned()
}

/// Memory that can be had now.
pub(crate) fn available_gib() -> u64 {
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or_default() >> 20
}

/// Since the start of the machine, seconds in which this core did anything.
pub(crate) fn busy_seconds(core: &str) -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let name = format!("cpu{core} ");
    let ticks = stat.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or_default();
    // user, nice, system, idle, iowait, irq, softirq, steal: proc(5); what follows is counted in the first two.
    let ticks = ticks.split_whitespace().take(8).enumerate().filter(|(place, _)| ![3, 4].contains(place));
    ticks.filter_map(|(_, ticks)| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_A_SECOND
}
