use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode, header};
use parking_lot::Mutex;
use tower::ServiceExt;

use super::{FORM_BYTES, Invalidate, Shop, router};

/// The calls that the shop has made, and what they are answered.
#[derive(Clone)]
struct Hook {
    calls: Arc<Mutex<Vec<Vec<String>>>>,
    answer: Arc<Mutex<Result<(), String>>>,
}

impl Hook {
    /// The paths of the newest call, in the order of the alphabet.
    fn last_call(&self) -> Vec<String> {
        let mut paths = self.calls.lock().last().cloned().unwrap_or_default();
        paths.sort();
        paths
    }
}

fn shop() -> (Router, Hook) {
    let hook = Hook { calls: Arc::default(), answer: Arc::new(Mutex::new(Ok(()))) };
    let seen = hook.clone();
    let invalidate: Invalidate = Arc::new(move |paths| {
        seen.calls.lock().push(paths);
        let answer = seen.answer.lock().clone();
        Box::pin(async move { answer })
    });
    (router(Shop::new(Duration::from_millis(300), invalidate, "http://127.0.0.1:8081/")), hook)
}

async fn text(response: Response<Body>) -> String {
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn visit(shop: &Router, path: &str) -> (StatusCode, String) {
    let response = shop.clone().oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
    (response.status(), text(response).await)
}

async fn submit(shop: &Router, path: &str, form: &str) -> Response<Body> {
    let request = Request::post(path)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(form.to_owned()))
        .unwrap();
    shop.clone().oneshot(request).await.unwrap()
}

const VANILLA: &str =
    "name=Vanilla&slug=vanilla&price=2.80&description=Good&in_stock=yes&topping=hot-fudge&topping=sprinkles";

#[tokio::test(start_paused = true)]
async fn every_page_renders_and_says_when() {
    let (shop, _) = shop();
    for (number, path) in ["/", "/flavors/vanilla/", "/toppings/hot-fudge/", "/edit/vanilla/"].iter().enumerate() {
        let (status, html) = visit(&shop, path).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert!(html.contains("Vanilla"), "{path}");
        assert!(html.contains("in 300 ms"), "{path}");
        assert!(html.contains(&format!("render no. <b>{}</b>", number + 1)), "{path}");
        assert!(html.contains("http://127.0.0.1:8081/"), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_page_takes_its_render_time_and_a_file_does_not() {
    let (shop, _) = shop();
    let started = tokio::time::Instant::now();
    assert!(visit(&shop, "/style.css").await.1.contains("--paper"));
    assert!(visit(&shop, "/shop.js").await.1.contains("navigation"));
    assert_eq!(started.elapsed(), Duration::ZERO);
    visit(&shop, "/").await;
    assert_eq!(started.elapsed(), Duration::from_millis(300));
}

#[tokio::test(start_paused = true)]
async fn nothing_comes_from_another_site() {
    let (shop, _) = shop();
    for path in ["/", "/flavors/vanilla/", "/style.css", "/shop.js"] {
        let (_, content) = visit(&shop, path).await;
        let own = content.replace("http://www.w3.org/2000/svg", "").replace("http://127.0.0.1:8081/", "");
        assert!(!own.contains("//") || path == "/shop.js", "{path}");
        assert!(!own.contains("http"), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_does_not_exist_is_404() {
    let (shop, hook) = shop();
    for path in ["/flavors/beer/", "/toppings/beer/", "/edit/beer/", "/beer"] {
        assert_eq!(visit(&shop, path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(submit(&shop, "/edit/beer/", VANILLA).await.status(), StatusCode::NOT_FOUND);
    assert!(hook.calls.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_save_invalidates_its_page_the_list_and_its_toppings_then_shows_the_page() {
    let (shop, hook) = shop();
    let form = format!("{VANILLA}&topping=waffle-cone").replace("2.80", "2.90");
    let response = submit(&shop, "/edit/vanilla/", &form).await;
    assert_eq!(response.status(), StatusCode::SEE_OTHER);
    assert_eq!(response.headers()[header::LOCATION], "/flavors/vanilla/");
    let toppings = ["/toppings/hot-fudge/", "/toppings/sprinkles/", "/toppings/waffle-cone/"];
    assert_eq!(hook.last_call(), [&["/", "/flavors/vanilla/"], toppings.as_slice()].concat());
    assert!(visit(&shop, "/flavors/vanilla/").await.1.contains("€ 2.90"));
}

#[tokio::test(start_paused = true)]
async fn a_new_address_invalidates_the_old_one_too() {
    let (shop, hook) = shop();
    let form = "name=Lemon&slug=lemon&price=2.60&description=Cold&topping=fresh-berries";
    let response = submit(&shop, "/edit/lemon-sorbet/", form).await;
    assert_eq!(response.headers()[header::LOCATION], "/flavors/lemon/");
    assert_eq!(hook.last_call(), ["/", "/flavors/lemon-sorbet/", "/flavors/lemon/", "/toppings/fresh-berries/"]);
    assert_eq!(visit(&shop, "/flavors/lemon-sorbet/").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test(start_paused = true)]
async fn a_topping_that_was_taken_away_is_invalidated_as_well_as_one_that_was_added() {
    let (shop, hook) = shop();
    let form = "name=Lemon&slug=lemon-sorbet&price=2.60&description=Cold&topping=sprinkles&topping=no-such";
    submit(&shop, "/edit/lemon-sorbet/", form).await;
    let expected = ["/", "/flavors/lemon-sorbet/", "/toppings/fresh-berries/", "/toppings/sprinkles/"];
    assert_eq!(hook.last_call(), expected);
}

#[tokio::test(start_paused = true)]
async fn what_visitors_type_is_text() {
    let (shop, _) = shop();
    let evil = "%3Cscript%3Ealert(1)%3C%2Fscript%3E%22%27%26";
    let form = format!("name={evil}&slug=vanilla&price=1&description={evil}&topping=sprinkles");
    assert_eq!(submit(&shop, "/edit/vanilla/", &form).await.status(), StatusCode::SEE_OTHER);
    for path in ["/", "/flavors/vanilla/", "/toppings/sprinkles/", "/edit/vanilla/"] {
        let (_, html) = visit(&shop, path).await;
        assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;"), "{path}");
        assert!(!html.contains("<script>"), "{path}");
    }
    let form = format!("name=V&slug={evil}&price={evil}&description=");
    assert!(!text(submit(&shop, "/edit/vanilla/", &form).await).await.contains("<script>"));
}

#[tokio::test(start_paused = true)]
async fn a_form_with_mistakes_comes_back_with_what_was_typed_and_changes_nothing() {
    let (shop, hook) = shop();
    for (form, message) in [
        (VANILLA.replace("name=Vanilla", "name=+"), "An ice cream needs a name."),
        (VANILLA.replace("2.80", "free"), "A price from 0.01 to 99.99"),
        (VANILLA.replace("slug=vanilla", "slug=Va/ni"), "1 to 40 of a to z"),
        (VANILLA.replace("slug=vanilla", "slug=chocolate"), "Another flavor lives at this address."),
        (VANILLA.replace("Good", &"x".repeat(501)), "At most 500 characters"),
    ] {
        let response = submit(&shop, "/edit/vanilla/", &form).await;
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY, "{message}");
        let html = text(response).await;
        assert!(html.contains(message), "{message}");
        assert!(html.contains("action=\"/edit/vanilla/\""), "{message}");
    }
    assert!(hook.calls.lock().is_empty());
    assert!(visit(&shop, "/flavors/vanilla/").await.1.contains("€ 2.80"));
}

#[tokio::test(start_paused = true)]
async fn what_the_cache_did_not_take_goes_along_with_the_next_save() {
    let (shop, hook) = shop();
    *hook.answer.lock() = Err("connection refused".to_owned());
    let renamed = VANILLA.replace("slug=vanilla", "slug=bourbon");
    let response = submit(&shop, "/edit/vanilla/", &renamed).await;
    assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    assert!(text(response).await.contains("connection refused"));
    *hook.answer.lock() = Ok(());
    submit(&shop, "/edit/bourbon/", &renamed).await;
    assert!(hook.last_call().contains(&"/flavors/vanilla/".to_owned()));
    submit(&shop, "/edit/bourbon/", &renamed).await;
    assert!(!hook.last_call().contains(&"/flavors/vanilla/".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn the_cache_is_told_even_if_the_visitor_hangs_up() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&told);
    let slow: Invalidate = Arc::new(move |paths| {
        let seen = Arc::clone(&seen);
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            seen.lock().extend(paths);
            Ok(())
        })
    });
    let shop = router(Shop::new(Duration::ZERO, slow, "http://127.0.0.1:8081/"));
    tokio::time::timeout(Duration::from_secs(1), submit(&shop, "/edit/vanilla/", VANILLA)).await.unwrap_err();
    assert!(told.lock().is_empty());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(told.lock().contains(&"/flavors/vanilla/".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_form_has_a_bound() {
    let (shop, hook) = shop();
    let form = format!("{VANILLA}&more={}", "x".repeat(FORM_BYTES));
    assert_eq!(submit(&shop, "/edit/vanilla/", &form).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(hook.calls.lock().is_empty());
}
