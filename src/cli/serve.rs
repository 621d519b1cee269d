//! `everpage serve`: the proxy, until a signal ends it.

use std::io;

use clap::Args;

use super::Failure;
use super::failure::causes;
use super::open_files;
use super::settings::{self, Settings};
use super::signals::Signals;
use crate::config::{Config, Loaded, StoreKind};
use crate::logging;
use crate::server::{ListenError, Server};
use crate::store::filesystem::OpenError;

/// Run the proxy
#[derive(Debug, Args)]
#[command(after_help = "Every setting can also come from the environment: EVERPAGE_ORIGIN__URL is origin.url.\n\
    SIGTERM and SIGINT let what is under way end; a second one ends at once.")]
pub(super) struct Serve {
    #[command(flatten)]
    settings: Settings,
    /// The app behind (origin.url)
    #[arg(long, value_name = "URL")]
    origin: Option<String>,
    /// The public address (listen)
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// The address of the admin API and the dashboard (admin.listen)
    #[arg(long, value_name = "ADDR")]
    admin: Option<String>,
    /// The folder of the pages (store.filesystem.path)
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
}

impl Serve {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let signals = Signals::listen()?;
        let loaded = self.settings.load(vec![
            ("origin.url", self.origin),
            ("listen", self.listen),
            ("admin.listen", self.admin),
            ("store.filesystem.path", self.data),
        ])?;
        logging::start(&loaded.config.log)?;
        open_files::raise_limit(&loaded.config);
        let server = Server::bind(loaded.config.clone()).await.map_err(|error| not_started(&error))?;
        announce(&loaded, &server)?;
        signals.run(server).await?;
        tracing::info!("ended");
        Ok(())
    }
}

fn announce(loaded: &Loaded, server: &Server) -> Result<(), Failure> {
    let unknown = |error: io::Error| Failure::failed(format_args!("the system does not tell the address: {error}"));
    let (listen, admin) = (server.address().map_err(unknown)?, server.admin_address().map_err(unknown)?);
    let Config { origin, hosts, .. } = &loaded.config;
    tracing::info!(
        "everpage {} answers on http://{listen}/ for {}; admin API and dashboard on http://{admin}/",
        env!("CARGO_PKG_VERSION"),
        origin.url.to_string().trim_end_matches('/'),
    );
    tracing::info!("settings: {}; pages: {}", settings::source(loaded), pages(&loaded.config));
    if hosts.is_empty() {
        tracing::info!("hosts is empty: every Host is served, each with pages of its own");
    }
    Ok(())
}

/// Where they are kept: for people.
pub(super) fn pages(config: &Config) -> String {
    match config.store.kind {
        StoreKind::Filesystem => format!("in {}", config.store.filesystem.path.display()),
        StoreKind::S3 => format!("in the bucket {}", config.store.s3.bucket),
        StoreKind::Memory => "in memory only, a restart forgets them".to_owned(),
    }
}

/// What stands in the way of a start, what to do about it, and whose fault it is.
pub(super) fn not_started(error: &anyhow::Error) -> Failure {
    let message = format!("not started: {}", causes(error));
    let kind = error.root_cause().downcast_ref::<io::Error>().map(io::Error::kind);
    let listens = error.downcast_ref::<ListenError>().is_some();
    match kind {
        Some(io::ErrorKind::AddrNotAvailable) if listens => {
            Failure::usage(format_args!("{message}\nThis machine has no such address."))
        }
        Some(io::ErrorKind::AddrInUse) if listens => Failure::failed(format_args!(
            "{message}\nAnother program listens there: stop it, or choose another address with --listen or --admin."
        )),
        Some(io::ErrorKind::PermissionDenied) if listens => Failure::failed(format_args!(
            "{message}\nPorts below 1024 need a right of their own (CAP_NET_BIND_SERVICE); others do not."
        )),
        Some(io::ErrorKind::PermissionDenied) if error.downcast_ref::<OpenError>().is_some() => Failure::failed(
            format_args!("{message}\nThe folder must belong to the user who runs everpage; --data names another one."),
        ),
        _ => Failure::failed(message),
    }
}
