//! What does a visitor of the shop see? HTML of the menu, and nothing that changes the menu.
//!
//! Whatever comes from the menu or from a form goes through [`Text`]; no other value is typed in by visitors.

use std::fmt::{self, Display, Write};
use std::time::Duration;

use axum::http::StatusCode;

use super::menu::{Draft, Flavor, Menu, Mistake, Topping, price, topping_path};
use crate::clock::UnixMillis;

/// A page without its frame.
pub(super) struct Page {
    pub(super) status: StatusCode,
    /// Of the browser's tab, not escaped.
    title: String,
    /// HTML.
    main: String,
}

/// What the bar at the foot of a page tells of its making.
pub(super) struct Rendering<'a> {
    pub(super) number: u64,
    pub(super) at: UnixMillis,
    pub(super) took: Duration,
    pub(super) dashboard_url: &'a str,
}

/// The page in its frame: a whole HTML document.
pub(super) fn document(page: &Page, rendering: &Rendering<'_>) -> String {
    let instant = humantime::format_rfc3339_millis(rendering.at.to_system_time()).to_string();
    format!(
        include_str!("document.html"),
        title = Text(&page.title),
        main = page.main,
        dashboard = Text(rendering.dashboard_url),
        instant = instant,
        clock = instant.get(11..23).unwrap_or(&instant),
        milliseconds = rendering.took.as_millis(),
        number = rendering.number,
    )
}

/// `/`: all flavors.
pub(super) fn home(menu: &Menu) -> Page {
    let cards: String = menu.flavors.iter().map(card).collect();
    page(
        "Ice cream",
        format!(
            "<header class=\"hero\"><h1>Slow pages,<br>served at once.</h1>\
             <p>Every page of this shop takes its app a moment. Visit one twice, then change a price: \
             only the pages that show it are made anew.</p></header>\n\
             <ul class=\"cards\">\n{cards}</ul>"
        ),
    )
}

/// `/flavors/<slug>/`
pub(super) fn flavor(menu: &Menu, flavor: &Flavor) -> Page {
    let toppings: String = flavor.toppings.iter().filter_map(|slug| menu.topping(slug)).map(chip).collect();
    let toppings = if toppings.is_empty() { "<li>Nothing but itself.</li>".to_owned() } else { toppings };
    page(
        &flavor.name,
        format!(
            "<article class=\"single\">{picture}<div><p class=\"back\"><a href=\"/\">All flavors</a></p>\
             <h1>{name}</h1><p class=\"lead\">{description}</p>\
             <p class=\"offer\"><span class=\"price\">€ {price}</span> {stock}</p>\
             <h2>Goes with</h2><ul class=\"chips\">{toppings}</ul>\
             <p><a class=\"button\" href=\"/edit/{slug}/\">Change this flavor</a></p></div></article>",
            picture = ice_cream(&flavor.color),
            name = Text(&flavor.name),
            description = Text(&flavor.description),
            price = price(flavor.price_cents),
            stock = stock(flavor),
            slug = Text(&flavor.slug),
        ),
    )
}

/// `/toppings/<slug>/`: the topping, and the flavors that it goes with.
pub(super) fn topping(menu: &Menu, topping: &Topping) -> Page {
    let cards: String =
        menu.flavors.iter().filter(|flavor| flavor.toppings.contains(&topping.slug)).map(card).collect();
    page(
        &topping.name,
        format!(
            "<header class=\"hero\"><p class=\"back\"><a href=\"/\">All flavors</a></p>\
             <h1><span class=\"dot\" style=\"--color: {color}\"></span>{name}</h1><p>{description} Goes with:</p></header>\n\
             <ul class=\"cards\">\n{cards}</ul>",
            color = Text(&topping.color),
            name = Text(&topping.name),
            description = Text(&topping.description),
        ),
    )
}

/// `/edit/<slug>/`: the form for the flavor that is `slug` now, filled with the draft, its mistakes beside it.
pub(super) fn edit(menu: &Menu, slug: &str, draft: &Draft, mistakes: &[Mistake]) -> Page {
    let boxes = menu.toppings.iter().fold(String::new(), |mut boxes, topping| {
        let ticked = checked(draft.toppings.contains(&topping.slug));
        let (slug, name) = (Text(&topping.slug), Text(&topping.name));
        let _ = writeln!(
            boxes,
            "<label class=\"tick\"><input type=\"checkbox\" name=\"topping\" value=\"{slug}\"{ticked}> {name}</label>"
        );
        boxes
    });
    let note = |field| Note(mistakes.iter().copied().find(|mistake| mistake.field() == field));
    let form = format!(
        include_str!("form.html"),
        path = Text(&format!("/edit/{slug}/")),
        back = Text(&format!("/flavors/{slug}/")),
        name = Text(&draft.name),
        name_note = note("name"),
        slug = Text(&draft.slug),
        slug_note = note("slug"),
        price = Text(&draft.price),
        price_note = note("price"),
        description = Text(&draft.description),
        description_note = note("description"),
        in_stock = checked(draft.in_stock),
        toppings = boxes,
    );
    let status = if mistakes.is_empty() { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY };
    Page { status, ..page("Change a flavor", form) }
}

/// The change is made, but the cache has not been told.
pub(super) fn undelivered(flavor: &Flavor, why: &str) -> Page {
    let main = format!(
        "<header class=\"hero\"><h1>Saved, but not everywhere.</h1><p>The shop has the change, the cache did not \
         take the call: {why}. Old copies of some pages may still be shown. The call is made again with the next \
         save.</p><p><a class=\"button\" href=\"/edit/{slug}/\">Save once more</a></p></header>",
        why = Text(why),
        slug = Text(&flavor.slug),
    );
    Page { status: StatusCode::BAD_GATEWAY, ..page("Saved, but not everywhere", main) }
}

/// For whatever does not exist.
pub(super) fn not_found() -> Page {
    let main = "<header class=\"hero\"><h1>Melted.</h1><p>There is nothing at this address, or not any more.</p>\
                <p><a class=\"button\" href=\"/\">All flavors</a></p></header>";
    Page { status: StatusCode::NOT_FOUND, ..page("Not found", main.to_owned()) }
}

fn page(title: &str, main: String) -> Page {
    Page { status: StatusCode::OK, title: title.to_owned(), main }
}

/// A flavor in a list.
fn card(flavor: &Flavor) -> String {
    format!(
        "<li class=\"card\">{picture}<h2><a href=\"{path}\">{name}</a></h2>\
         <p class=\"offer\"><span class=\"price\">€ {price}</span> {stock}</p></li>\n",
        picture = ice_cream(&flavor.color),
        path = Text(&flavor.path()),
        name = Text(&flavor.name),
        price = price(flavor.price_cents),
        stock = stock(flavor),
    )
}

/// A topping in a list.
fn chip(topping: &Topping) -> String {
    format!(
        "<li><a href=\"{path}\"><span class=\"dot\" style=\"--color: {color}\"></span>{name}</a></li>",
        path = Text(&topping_path(&topping.slug)),
        color = Text(&topping.color),
        name = Text(&topping.name),
    )
}

fn stock(flavor: &Flavor) -> &'static str {
    if flavor.in_stock { "<span class=\"stock\">in stock</span>" } else { "<span class=\"stock out\">sold out</span>" }
}

/// A scoop of this colour in a cone.
fn ice_cream(color: &str) -> String {
    format!(include_str!("ice-cream.svg"), color = Text(color))
}

fn checked(ticked: bool) -> &'static str {
    if ticked { " checked" } else { "" }
}

/// Closes an input's tag; of a mistake, the message follows, tied to the input for those who listen to the page.
struct Note(Option<Mistake>);

impl Display for Note {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(mistake) = self.0 else { return out.write_str(">") };
        let (field, message) = (mistake.field(), mistake.as_str());
        write!(
            out,
            " aria-invalid=\"true\" aria-describedby=\"{field}-note\"><span class=\"note\" id=\"{field}-note\">{message}</span>"
        )
    }
}

/// Text of unknown origin, safe between tags and in quoted attributes.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => out.write_str("&amp;")?,
                '<' => out.write_str("&lt;")?,
                '>' => out.write_str("&gt;")?,
                '"' => out.write_str("&quot;")?,
                '\'' => out.write_str("&#39;")?,
                other => out.write_char(other)?,
            }
        }
        Ok(())
    }
}
