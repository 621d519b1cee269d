//! What does everpage stand before in `everpage demo`? A small ice-cream shop, slow as real web apps are.
//!
//! The shop renders each page anew for each request and never asks whether somebody keeps it. All it does for its cache
//! is one call after a save: the paths of the pages that show what has changed.

mod menu;
mod pages;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::FormRejection;
use axum::extract::{DefaultBodyLimit, Form, Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, StatusCode};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::get;
use parking_lot::{Mutex, RwLock};

use self::menu::{Draft, Flavor, Menu, Mistake};
use self::pages::{Page, Rendering};
use crate::clock::Clock;

/// The hook after a save: makes the pages of these paths invalid, or says in a sentence why it could not.
///
/// Once it has answered `Ok`, no old copy of them may be served any more.
pub type Invalidate =
    Arc<dyn Fn(Vec<String>) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

/// Bytes of a submitted form: its longest valid content takes about a tenth of it.
const FORM_BYTES: usize = 16 * 1024;

/// What a browser may keep: nothing unasked. The proxy keeps the page all the same (`cache.lifetime = "forever"`).
const ASK_EACH_TIME: (HeaderName, &str) = (CACHE_CONTROL, "max-age=0, must-revalidate");

/// The shop: its menu, and who is told when the menu changes.
#[derive(Clone)]
pub struct Shop(Arc<Inner>);

struct Inner {
    menu: RwLock<Menu>,
    /// Paths whose invalidation is not confirmed yet. What could not be delivered goes along with the next save.
    owed: Mutex<Vec<String>>,
    /// Held during a call: a save whose paths went along with another one's call waits for that answer.
    calling: tokio::sync::Mutex<()>,
    renders: AtomicU64,
    render_time: Duration,
    invalidate: Invalidate,
    dashboard_url: String,
}

impl Shop {
    /// Opens with the usual menu. Each page takes `render_time`; `invalidate` is called after each save;
    /// `dashboard_url` is where the pages' link to the dashboard leads.
    #[must_use]
    pub fn new(render_time: Duration, invalidate: Invalidate, dashboard_url: &str) -> Self {
        Shop(Arc::new(Inner {
            menu: RwLock::new(Menu::usual()),
            owed: Mutex::default(),
            calling: tokio::sync::Mutex::default(),
            renders: AtomicU64::new(0),
            render_time,
            invalidate,
            dashboard_url: dashboard_url.to_owned(),
        }))
    }
}

/// The shop as a web app: `/`, `/flavors/<slug>/`, `/toppings/<slug>/`, `/edit/<slug>/` and two files.
///
/// `/edit/` belongs into `cache.ignore`: a form shows what is true now, and its mistakes.
pub fn router(shop: Shop) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/flavors/{slug}/", get(flavor))
        .route("/toppings/{slug}/", get(topping))
        .route("/edit/{slug}/", get(edit).post(save))
        .route("/style.css", get(async || file("text/css; charset=utf-8", include_str!("shop/style.css"))))
        .route("/shop.js", get(async || file("text/javascript; charset=utf-8", include_str!("shop/shop.js"))))
        .fallback(not_found)
        .layer(DefaultBodyLimit::max(FORM_BYTES))
        .with_state(shop)
}

async fn home(State(shop): State<Shop>) -> Response {
    shop.page(|menu| Some(pages::home(menu))).await
}

async fn flavor(State(shop): State<Shop>, Path(slug): Path<String>) -> Response {
    shop.page(|menu| Some(pages::flavor(menu, menu.flavor(&slug)?))).await
}

async fn topping(State(shop): State<Shop>, Path(slug): Path<String>) -> Response {
    shop.page(|menu| Some(pages::topping(menu, menu.topping(&slug)?))).await
}

async fn edit(State(shop): State<Shop>, Path(slug): Path<String>) -> Response {
    shop.page(|menu| Some(pages::edit(menu, &slug, &Draft::of(menu.flavor(&slug)?), &[]))).await
}

async fn not_found(State(shop): State<Shop>) -> Response {
    shop.page(|_| None).await
}

/// Saves, tells the cache, and only then sends the visitor to the flavor's page.
async fn save(
    State(shop): State<Shop>,
    Path(slug): Path<String>,
    form: Result<Form<Vec<(String, String)>>, FormRejection>,
) -> Response {
    let draft = match form {
        Ok(Form(fields)) => Draft::from_fields(fields),
        Err(rejection) => return rejection.into_response(),
    };
    match shop.store(&slug, &draft) {
        Saved::Unknown => shop.page(|_| None).await,
        Saved::Refused(mistakes) => shop.page(|menu| Some(pages::edit(menu, &slug, &draft, &mistakes))).await,
        Saved::As(flavor) => match shop.deliver().await {
            Ok(()) => Redirect::to(&flavor.path()).into_response(),
            Err(why) => shop.page(|_| Some(pages::undelivered(&flavor, &why))).await,
        },
    }
}

/// What became of a submitted form.
enum Saved {
    /// It is the flavor now.
    As(Flavor),
    /// Nothing was changed: the form has mistakes.
    Refused(Vec<Mistake>),
    /// There is no such flavor.
    Unknown,
}

impl Shop {
    /// Renders a page of the menu as it is now; `None` is the page for what does not exist.
    async fn page(&self, draw: impl FnOnce(&Menu) -> Option<Page>) -> Response {
        let started = tokio::time::Instant::now();
        let page = draw(&self.0.menu.read()).unwrap_or_else(pages::not_found);
        // The stand-in for templates and SQL. It comes after the menu was read, as in any app: a save in the meantime
        // makes this page old before it is out, and no cache may keep it.
        tokio::time::sleep(self.0.render_time).await;
        let html = pages::document(
            &page,
            &Rendering {
                number: self.0.renders.fetch_add(1, Ordering::Relaxed) + 1,
                at: Clock::Wall.now(),
                took: started.elapsed(),
                dashboard_url: &self.0.dashboard_url,
            },
        );
        (page.status, [ASK_EACH_TIME], Html(html)).into_response()
    }

    /// Puts the draft in place of the flavor and notes, in the same step, which pages that makes old.
    fn store(&self, slug: &str, draft: &Draft) -> Saved {
        let mut menu = self.0.menu.write();
        let Some(old) = menu.flavor(slug).cloned() else { return Saved::Unknown };
        let new = match draft.check(&menu, &old) {
            Ok(new) => new,
            Err(mistakes) => return Saved::Refused(mistakes),
        };
        menu.replace(slug, new.clone());
        let mut owed = self.0.owed.lock();
        for path in dependent_paths(&old).into_iter().chain(dependent_paths(&new)) {
            if !owed.contains(&path) {
                owed.push(path);
            }
        }
        Saved::As(new)
    }

    /// Makes the call for all that is owed. It runs to its end even if the visitor hangs up: the menu has changed.
    async fn deliver(&self) -> Result<(), String> {
        let shop = Arc::clone(&self.0);
        let call = tokio::spawn(async move {
            let _calling = shop.calling.lock().await;
            // Taken out, not copied: a save during the call owes its paths anew.
            let paths = std::mem::take(&mut *shop.owed.lock());
            if paths.is_empty() {
                return Ok(());
            }
            let answer = (shop.invalidate)(paths.clone()).await;
            if answer.is_err() {
                let mut owed = shop.owed.lock();
                owed.extend(paths);
                owed.sort();
                owed.dedup();
            }
            answer
        });
        call.await.unwrap_or_else(|failure| Err(failure.to_string()))
    }
}

/// The pages that show something of this flavor: its own, the list, and those of its toppings.
///
/// Of a change, both sides count: where the flavor was shown before, and where it is shown from now on.
fn dependent_paths(flavor: &Flavor) -> Vec<String> {
    let toppings = flavor.toppings.iter().map(|topping| menu::topping_path(topping));
    [flavor.path(), "/".to_owned()].into_iter().chain(toppings).collect()
}

fn file(kind: &'static str, content: &'static str) -> impl IntoResponse {
    (StatusCode::OK, [(CONTENT_TYPE, kind), ASK_EACH_TIME], content)
}
