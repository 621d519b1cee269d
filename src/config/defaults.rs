//! What holds where nobody says otherwise. `config.toml` shows the same values; a test compares them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use http::{Method, StatusCode, Uri};

use super::kinds::{GIB, KIB, MIB};
use super::{
    Admin, Cache, Cluster, Config, FilesystemStore, Lifetime, Limits, Log, LogFormat, Memory, Origin, QueryPolicy,
    S3Store, Secret, Store, StoreKind, UnkeyedHeaders,
};

/// Cookies that say "this visitor is somebody". One too many costs a page its cache, one too few could cost a visitor
/// a message or a cart, so the list is generous.
const BYPASS_COOKIES: &[&str] = &[
    "sessionid",                // Django
    "messages",                 // Django: what to tell this visitor once
    "session",                  // Flask, Starlette
    "*_session",                // Rails, Laravel, CodeIgniter, MediaWiki
    "*-session",                // Laravel from 12
    "*session-token",           // Auth.js
    "PHPSESSID",                // PHP, Symfony, Magento
    "SESS*",                    // Drupal
    "SSESS*",                   // Drupal over TLS
    "wordpress_logged_in_*",    // WordPress
    "wordpress_sec_*",          // WordPress
    "wp-postpass_*",            // WordPress: pages behind a password
    "comment_author_*",         // WordPress: comments that wait for approval
    "woocommerce_*",            // WooCommerce: the cart
    "wp_woocommerce_session_*", // WooCommerce
    "fe_typo_user",             // TYPO3
    "be_typo_user",             // TYPO3
    "joomla_user_state",        // Joomla
    "__ac",                     // Plone
    "connect.sid",              // Express
    "koa.sess",                 // Koa
    "_*_key",                   // Phoenix
    "JSESSIONID*",              // Java
    "ASP.NET_SessionId",        // ASP.NET
    ".ASPXAUTH",                // ASP.NET
    ".AspNet.*",                // ASP.NET
    ".AspNetCore.*",            // ASP.NET Core
    "remember_*",               // Laravel, Devise
    "REMEMBERME",               // Symfony
    "access_token",             // tokens in cookies
    "auth_token",               // tokens in cookies
    "jwt",                      // tokens in cookies
    "__Host-*",                 // only what matters is named so
    "__Secure-*",               // only what matters is named so
];

impl Default for Config {
    /// All defaults; valid.
    fn default() -> Self {
        Config {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            hosts: Vec::new(),
            purge_from: Vec::new(),
            trusted_proxies: Vec::new(),
            limits: Limits::default(),
            origin: Origin::default(),
            cache: Cache::default(),
            store: Store::default(),
            memory: Memory::default(),
            admin: Admin::default(),
            cluster: Cluster::default(),
            log: Log::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections: 10_000,
            head_bytes: 64 * KIB as usize,
            head_fields: 100,
            target_bytes: 8 * KIB as usize,
            body_bytes: None,
            head_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

impl Default for Origin {
    fn default() -> Self {
        Origin {
            url: Uri::from_static("http://127.0.0.1:8000"),
            connect_timeout: Duration::from_secs(3),
            first_byte_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(30),
            max_requests: 512,
            pool_idle: 32,
            pool_idle_timeout: Duration::from_secs(30),
            preserve_host: true,
            ca_file: None,
            verify: true,
        }
    }
}

impl Default for Cache {
    fn default() -> Self {
        Cache {
            ignore: vec!["^/admin/".to_owned()],
            methods: vec![Method::GET, Method::HEAD],
            statuses: vec![StatusCode::OK],
            lifetime: Lifetime::Forever,
            query: QueryPolicy::Include,
            ignored_params: ["utm_*", "gclid", "fbclid"].map(str::to_owned).to_vec(),
            bypass_cookies: BYPASS_COOKIES.iter().map(|&glob| glob.to_owned()).collect(),
            key_headers: Vec::new(),
            unkeyed_headers: UnkeyedHeaders::Forward,
            honor_reload: false,
            max_variants: 64,
            // A tenth of the filesystem store's default: a larger body would drive too many pages out, and what never ends ends here.
            max_body: GIB,
            max_memory_size: 8 * MIB,
            temporary_folder: None,
            max_temporary_bytes: 4 * GIB,
            max_fill_bytes: 512 * MIB,
            uncacheable_for: Duration::from_secs(120),
            settle: Duration::ZERO,
            flavor: String::new(),
            version: 1,
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Store { kind: StoreKind::Filesystem, filesystem: FilesystemStore::default(), s3: S3Store::default() }
    }
}

impl Default for FilesystemStore {
    fn default() -> Self {
        FilesystemStore { path: PathBuf::from("everpage-data"), max_bytes: 10 * GIB }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Memory { capacity: 256 * MIB }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Admin { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)), token: Secret::default() }
    }
}

impl Default for Log {
    fn default() -> Self {
        Log { level: "info".to_owned(), format: LogFormat::Text, access: false }
    }
}
