//! Rounds: each server in turn does the same for some seconds, there and back again, so that what changes on the machine meets all of them.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::limit::Manner;
use crate::machine::{self, Cores};
use crate::origin::Origin;
use crate::pages::Pages;
use crate::peers::{Peer, Place};
use crate::process::Process;
use crate::visitor;
use crate::wrk::{CONNECTIONS, Counted, Load};

/// Of the mix, pages that are looked at before each run.
const SAMPLES: usize = 50;
/// Bytes of an answer's head: fewer than the first, more than the last are no answer of ours.
const HEAD_BYTES: [f64; 2] = [100.0, 1000.0];
/// Of the mix, how far the mean size of the answers may be from that of the pages: the order in which they are served is not that of asking.
const MIX_TOLERANCE: f64 = 0.1;

/// What is asked of all servers alike.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) manner: Manner,
    /// Of the page.
    pub(crate) bytes: usize,
    /// Requests per second; none: as many as come.
    pub(crate) rate: Option<f64>,
}

/// What one server did in one round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) requests_per_second: f64,
    /// CPU time of the server's processes for one request.
    pub(crate) cpu_us: f64,
    /// Part of one core that they took: well below 1, it is not the server that limits what comes.
    pub(crate) busy: f64,
    /// Part of the server's core that others took, if it has one to itself: they cost it its caches and its time.
    pub(crate) others: Option<f64>,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
}

/// A server that took part in a case.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) rounds: Vec<Round>,
    pub(crate) memory_mib: Option<f64>,
}

/// A server with the cores of its load.
pub(crate) struct Party<'a> {
    pub(crate) name: &'static str,
    pub(crate) peer: Peer,
    pub(crate) process: &'a Process,
    pub(crate) load_cores: &'a str,
    /// The core of the server, if the load has others.
    pub(crate) own_core: Option<&'a str>,
}

/// What all cases need.
pub(crate) struct Bench {
    pub(crate) rounds: usize,
    pub(crate) seconds: u64,
    pub(crate) cores: Cores,
    pub(crate) place: Place,
    pub(crate) origin: Origin,
    pub(crate) pages: Arc<Pages>,
    pub(crate) draws: Vec<u32>,
    pub(crate) draws_file: PathBuf,
}

impl Bench {
    /// Everyone does what the case asks for.
    pub(crate) async fn compare(&self, case: &Case, caches: &[(Peer, Process)]) -> Result<Vec<Row>> {
        let limit = self.place.start_limit(case.manner, case.bytes, &self.cores.server)?;
        let (load_cores, own_core) = (&self.cores.load, Some(self.cores.server.as_str()));
        let party = |peer: Peer, process| Party { name: peer.name(), peer, process, load_cores, own_core };
        let mut parties: Vec<Party> = caches.iter().map(|(peer, process)| party(*peer, process)).collect();
        parties.push(party(Peer::Limit, &limit));
        self.rounds(case, &parties).await
    }

    /// The rounds of these parties, after a second each that does not count.
    pub(crate) async fn rounds(&self, case: &Case, parties: &[Party<'_>]) -> Result<Vec<Row>> {
        for party in parties {
            self.run(case, party, 1).await?;
        }
        let mut rows: Vec<Row> =
            parties.iter().map(|party| Row { name: party.name, rounds: Vec::new(), memory_mib: None }).collect();
        for round in 0..self.rounds {
            let forth = 0..parties.len();
            let order: Vec<usize> = if round % 2 == 0 { forth.collect() } else { forth.rev().collect() };
            for place in order {
                rows[place].rounds.push(self.run(case, &parties[place], self.seconds).await?);
            }
        }
        for (row, party) in rows.iter_mut().zip(parties) {
            row.memory_mib = Some(party.process.memory_mib());
        }
        Ok(rows)
    }

    /// One server for some seconds: before it, its answers are looked at; after it, that all came, whole and without the origin.
    async fn run(&self, case: &Case, party: &Party<'_>, seconds: u64) -> Result<Round> {
        let path = format!("/page/{}", case.bytes);
        let etag = self.check(case, party, &path).await?;
        let fields = match case.manner {
            Manner::Close => vec![("connection".to_owned(), "close".to_owned())],
            Manner::NotModified => vec![("if-none-match".to_owned(), etag)],
            Manner::Keep | Manner::Mix => Vec::new(),
        };
        let load = Load {
            cores: party.load_cores,
            seconds,
            path: &path,
            fields: &fields,
            draws: (case.manner == Manner::Mix).then_some(&self.draws_file),
            rate: case.rate,
        };
        let all_spent = || party.own_core.map(machine::busy_seconds);
        let (asked, spent, all) = (self.origin.requests(), party.process.cpu_seconds(), all_spent());
        let counted = load.run(party.process.address).await?;
        let spent = party.process.cpu_seconds() - spent;
        let others = all_spent().zip(all).map(|(after, before)| (after - before - spent).max(0.0));
        let what = || format!("{}, {}: {counted:?}", case.name, party.name);
        ensure!(counted.errors == 0, "{}: there were errors", what());
        let asked = self.origin.requests() - asked;
        ensure!(asked == 0, "{}: {asked} requests went to the origin", what());
        self.check_bytes(case, &counted).with_context(what)?;
        let duration = counted.duration_us as f64 / 1e6;
        Ok(Round {
            requests_per_second: counted.requests as f64 / duration,
            cpu_us: spent / counted.requests as f64 * 1e6,
            busy: spent / duration,
            others: others.map(|seconds| seconds / duration),
            p50_us: counted.p50_us,
            p99_us: counted.p99_us,
            p999_us: counted.p999_us,
        })
    }

    /// Returns the ETag that this server gives the page.
    async fn check(&self, case: &Case, party: &Party<'_>, path: &str) -> Result<String> {
        let at = party.process.address;
        match (party.peer, case.manner) {
            (Peer::Limit, _) => Ok("\"page\"".to_owned()),
            (peer, Manner::Mix) => {
                for number in self.draws.iter().rev().take(SAMPLES) {
                    visitor::check(peer, at, &format!("/mix/{number}"), &self.pages).await?;
                }
                Ok(String::new())
            }
            (peer, manner) => {
                let etag = visitor::check(peer, at, path, &self.pages).await?;
                if manner == Manner::NotModified {
                    visitor::check_not_modified(peer, at, path, &etag).await?;
                }
                Ok(etag)
            }
        }
    }

    /// wrk tells no statuses below 400, but how much it read: the size of the answers shows that each was the one that was meant.
    fn check_bytes(&self, case: &Case, counted: &Counted) -> Result<()> {
        let requests = counted.requests as f64;
        let (body, slack) = match case.manner {
            Manner::NotModified => (0.0, 0.0),
            Manner::Mix => {
                let drawn = usize::try_from(counted.requests).unwrap_or(usize::MAX).min(self.draws.len());
                let mean = self.pages.mix_mean_bytes(&self.draws[..drawn]);
                (mean, mean * MIX_TOLERANCE)
            }
            Manner::Keep | Manner::Close => (case.bytes as f64, 0.0),
        };
        // Those that were under way at the end are read in part and not counted.
        let unfinished = CONNECTIONS as f64 * (body + HEAD_BYTES[1]) / requests;
        let each = counted.bytes as f64 / requests;
        let (least, most) = (body - slack + HEAD_BYTES[0], body + slack + HEAD_BYTES[1] + unfinished);
        ensure!((least..most).contains(&each), "answers of {each:.0} bytes; {least:.0} to {most:.0} would be right");
        Ok(())
    }
}
