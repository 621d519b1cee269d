//! `everpage demo`: a shop, the proxy before it and the dashboard, in one process and on the embedded store.
//!
//! Nothing is short-circuited: visitors and invalidations go over HTTP as they would between three machines.

mod folder;
pub mod shop;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use tokio::net::TcpListener;

use self::folder::Folder;
use self::shop::{Invalidate, Shop};
use super::Failure;
use super::client::Client;
use super::output::print;
use super::serve::not_started;
use super::signals::Signals;
use crate::config::{Config, Secret};
use crate::logging;
use crate::server::Server;

/// What an uncached page takes: long enough to be felt.
const RENDER_TIME: Duration = Duration::from_millis(300);

/// A small ice-cream shop with everpage before it: the whole idea in one command
#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Where the shop is; without it, 127.0.0.1:8080 or a free port
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Where the dashboard is, on this machine only; without it, 127.0.0.1:8081 or a free port
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// Keep the pages in this folder; without it, in one that is removed at the end
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Demo {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let signals = Signals::listen()?;
        if self.admin.is_some_and(|admin| !admin.ip().is_loopback()) {
            return Err(Failure::usage("--admin: the demo has no token, so a loopback address such as 127.0.0.1:8081"));
        }
        let mut config = Config::default();
        logging::start(&crate::config::Log { level: "warn".to_owned(), ..config.log.clone() })?;
        let (listen, listen_taken) = choose(self.listen, config.listen);
        let (admin, admin_taken) = choose(self.admin, config.admin.listen);
        // Declared before the server: it is removed when the server has let go of it.
        let folder = Folder::new(self.data).context("cannot make a folder for the pages")?;
        let counter = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("the shop cannot listen")?;
        let shop_address = counter.local_addr().context("the system does not tell the shop's address")?;
        config.listen = listen;
        config.admin.listen = admin;
        config.origin.url = format!("http://{shop_address}").parse().expect("an address makes a URL");
        config.cache.ignore = vec!["^/edit/".to_owned()];
        folder.path().clone_into(&mut config.store.filesystem.path);

        let server = Server::bind(config).await.map_err(|error| not_started(&error))?;
        let public = super::access::reachable(server.address().context("the system does not tell the address")?);
        let admin = server.admin_address().context("the system does not tell the admin address")?;
        let (public_url, admin_url) = (format!("http://{public}/"), format!("http://{admin}/"));
        let shop = Shop::new(RENDER_TIME, hook(&admin_url)?, &admin_url);
        let serving = tokio::spawn(axum::serve(counter, shop::router(shop)).into_future());
        let taken: Vec<String> = [listen_taken, admin_taken].into_iter().flatten().collect();
        print(&welcome(&public_url, &admin_url, &taken))?;
        let ended = signals.run(server).await;
        serving.abort();
        ended
    }
}

/// The address that was asked for, else the usual one if it is free, else any free port; and the usual one if it was taken.
fn choose(wanted: Option<SocketAddr>, usual: SocketAddr) -> (SocketAddr, Option<String>) {
    if let Some(wanted) = wanted {
        return (wanted, None);
    }
    match std::net::TcpListener::bind(usual) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            (SocketAddr::new(usual.ip(), 0), Some(usual.port().to_string()))
        }
        _ => (usual, None),
    }
}

/// What the shop calls after a save, as any app would.
fn hook(admin_url: &str) -> Result<Invalidate, Failure> {
    let client = Arc::new(Client::new(admin_url, &Secret::default())?);
    Ok(Arc::new(move |paths| {
        let client = Arc::clone(&client);
        Box::pin(async move {
            let body = json!({"paths": paths, "reason": "a flavor was saved"});
            client.post("/invalidate", &body).await.map(drop).map_err(|failure| failure.to_string())
        })
    }))
}

fn welcome(public_url: &str, admin_url: &str, taken: &[String]) -> String {
    let taken = match taken {
        [] => String::new(),
        [port] => format!("(port {port} is taken, so a free one is used)\n"),
        ports => format!("(the ports {} are taken, so free ones are used)\n", ports.join(" and ")),
    };
    format!(
        "shop through everpage: {public_url}\n\
         dashboard: {admin_url}\n\
         {taken}\n\
         Open a page twice: the app takes 300 ms, the cache does not.\n\
         Change a flavor's price: the pages that show it are new at once, all others stay in the cache.\n\
         Ctrl-C ends the demo.\n"
    )
}
