//! `everpage warm`: fetches pages before visitors do, through the public listener, as a browser would.

mod fetch;
mod sitemap;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use clap::{ArgGroup, Args};
use serde_json::json;
use tokio::task::JoinSet;

use self::fetch::{Fetcher, Outcome, Page};
use self::sitemap::{Sitemap, URLS_MAX};
use super::Failure;
use super::access::reachable;
use super::client::server_url;
use super::output::{count, harmless, print, print_json};
use super::settings::Settings;
use crate::config::Config;
use crate::policy::host::normalise_host;

/// Requests at the same time: the app behind has visitors, too.
const AT_ONCE: usize = 4;
/// Pages of one kind that are shown to people; programs get them all.
const SHOWN: usize = 20;

/// Fetch pages ahead, through the public listener
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("pages").required(true).multiple(true), after_help = "At most 4 pages are fetched at a time, and at most 50000 in all. A page that was invalidated less than cache.settle ago is tried until it is kept.")]
pub(super) struct Warm {
    /// Paths, which need one name in hosts or --host, or whole URLs
    #[arg(value_name = "PATH", group = "pages")]
    paths: Vec<String>,
    /// The pages of this sitemap, or of the sitemaps it names; it is fetched through everpage, too
    #[arg(long, value_name = "URL", group = "pages", conflicts_with = "paths")]
    sitemap: Option<String>,
    /// The site that paths belong to
    #[arg(long)]
    host: Option<String>,
    /// Where visitors reach everpage; without it, listen of the configuration
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Answer as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

impl Warm {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let config = self.settings.load(Vec::new())?.config;
        let url = self.public_url.clone().unwrap_or_else(|| format!("http://{}", reachable(config.listen)));
        let fetcher = Arc::new(Fetcher::new(&server_url("--public-url", &url)?)?);
        let pages = match &self.sitemap {
            Some(url) => pages_of(&fetcher, &Page::from_url(url).map_err(Failure::usage)?).await?,
            None => self.named(&config)?,
        };
        if self.public_url.is_none() && pages.iter().any(|page| page.https) {
            believed(&config)?;
        }
        let report = Report { fetched: fetch_all(&fetcher, pages).await };
        if self.json {
            print_json(&report.json())?
        } else {
            print(&report.text())?
        }
        report.failure().map_or(Ok(()), Err)
    }

    fn named(&self, config: &Config) -> Result<Vec<Page>, Failure> {
        if let Some(Err(error)) = self.host.as_deref().map(normalise_host) {
            return Err(Failure::usage(format_args!("--host: {error}")));
        }
        let host = self.host.as_ref().or_else(|| config.hosts.first());
        let page = |path: &String| {
            if !path.starts_with('/') {
                return Page::from_url(path).map_err(Failure::usage);
            }
            let host = host.ok_or_else(|| {
                Failure::usage(format_args!(
                    "{path}: of which site? hosts is empty: add --host, or write the whole URL"
                ))
            })?;
            Page::from_url(&format!("http://{host}{path}")).map_err(Failure::usage)
        };
        self.paths.iter().map(page).collect()
    }
}

/// Pages of https visitors have a scheme of their own, if everpage knows it: then it must believe us as well.
fn believed(config: &Config) -> Result<(), Failure> {
    let own: IpAddr = reachable(config.listen).ip();
    if config.trusted_proxies.is_empty() || config.trusted_proxies.iter().any(|network| network.contains(&own)) {
        return Ok(());
    }
    Err(Failure::usage(format_args!(
        "pages of https visitors can only be fetched ahead by whom everpage believes that it came over https: \
         add {own} to trusted_proxies, or fetch through the proxy before everpage with --public-url"
    )))
}

/// The pages of a sitemap, without repetitions; an index is followed one level down.
async fn pages_of(fetcher: &Fetcher, sitemap: &Page) -> Result<Vec<Page>, Failure> {
    let unusable = |page: &Page, why: &dyn std::fmt::Display| Failure::failed(format_args!("{page}: {why}"));
    let mut urls = Vec::new();
    match sitemap::read(&fetcher.text(sitemap).await?).map_err(|error| unusable(sitemap, &error))? {
        Sitemap::Pages(pages) => urls = pages,
        Sitemap::Index(sitemaps) => {
            for url in sitemaps {
                let page = Page::from_url(&url).map_err(|error| unusable(sitemap, &error))?;
                match sitemap::read(&fetcher.text(&page).await?).map_err(|error| unusable(&page, &error))? {
                    Sitemap::Pages(pages) => urls.extend(pages),
                    Sitemap::Index(_) => return Err(unusable(&page, &"it is an index within an index")),
                }
                if urls.len() > URLS_MAX {
                    return Err(unusable(sitemap, &format_args!("its sitemaps name more than {URLS_MAX} URLs")));
                }
            }
        }
    }
    let mut seen = HashSet::new();
    let pages = urls.iter().filter(|url| seen.insert(url.as_str())).map(|url| Page::from_url(url));
    pages.collect::<Result<_, _>>().map_err(|error| unusable(sitemap, &error))
}

/// In the order in which they were done.
async fn fetch_all(fetcher: &Arc<Fetcher>, pages: Vec<Page>) -> Vec<(Page, Outcome)> {
    let (mut running, mut done) = (JoinSet::new(), Vec::new());
    for page in pages {
        if running.len() == AT_ONCE {
            done.extend(running.join_next().await.and_then(Result::ok));
        }
        let fetcher = Arc::clone(fetcher);
        running.spawn(async move {
            let outcome = fetcher.warm(&page).await;
            (page, outcome)
        });
    }
    while let Some(ended) = running.join_next().await {
        done.extend(ended);
    }
    done
}

struct Report {
    fetched: Vec<(Page, Outcome)>,
}

impl Report {
    fn count(&self, wanted: &Outcome) -> usize {
        self.fetched.iter().filter(|(_, outcome)| outcome == wanted).count()
    }

    fn not_kept(&self) -> Vec<(&Page, &str)> {
        self.reasons(|outcome| if let Outcome::NotKept(reason) = outcome { Some(reason) } else { None })
    }

    fn failed(&self) -> Vec<(&Page, &str)> {
        self.reasons(|outcome| if let Outcome::Failed(reason) = outcome { Some(reason) } else { None })
    }

    fn reasons(&self, reason: fn(&Outcome) -> Option<&str>) -> Vec<(&Page, &str)> {
        self.fetched.iter().filter_map(|(page, outcome)| Some((page, reason(outcome)?))).collect()
    }

    fn text(&self) -> String {
        let not_kept = self.not_kept();
        let mut text = format!(
            "{}: {} fetched, {} kept already, {} not kept, {} failed\n",
            count(self.fetched.len() as u64, "page"),
            self.count(&Outcome::Kept),
            self.count(&Outcome::KeptAlready),
            not_kept.len(),
            self.failed().len(),
        );
        if !not_kept.is_empty() {
            write!(text, "not kept:\n{}", listed(&not_kept)).expect("a String takes every write");
        }
        text
    }

    fn json(&self) -> serde_json::Value {
        let reasons = |pages: Vec<(&Page, &str)>| -> Vec<_> {
            pages.into_iter().map(|(page, reason)| json!({"url": page.to_string(), "reason": reason})).collect()
        };
        json!({
            "fetched": self.count(&Outcome::Kept),
            "kept_already": self.count(&Outcome::KeptAlready),
            "not_kept": reasons(self.not_kept()),
            "failed": reasons(self.failed()),
        })
    }

    fn failure(&self) -> Option<Failure> {
        let failed = self.failed();
        let pages = count(failed.len() as u64, "page");
        (!failed.is_empty()).then(|| Failure::failed(format_args!("{pages} failed:\n{}", listed(&failed).trim_end())))
    }
}

fn listed(pages: &[(&Page, &str)]) -> String {
    let mut text = String::new();
    for (page, reason) in pages.iter().take(SHOWN) {
        writeln!(text, "  {}  {}", harmless(&page.to_string()), harmless(reason)).expect("a String takes every write");
    }
    if pages.len() > SHOWN {
        writeln!(text, "  and {} more", pages.len() - SHOWN).expect("a String takes every write");
    }
    text
}
