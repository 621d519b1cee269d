//! What does the shop sell? The data that a real app keeps in its database, and the rules for changing it.
//!
//! It knows nothing of HTTP and HTML.

use serde::Deserialize;

/// Flavors and toppings; a flavor goes with several toppings and a topping with several flavors.
#[derive(Deserialize)]
pub(super) struct Menu {
    pub(super) flavors: Vec<Flavor>,
    pub(super) toppings: Vec<Topping>,
}

/// A kind of ice cream.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Flavor {
    /// Its place in URLs: `a-z`, `0-9` and `-`.
    pub(super) slug: String,
    pub(super) name: String,
    pub(super) price_cents: u32,
    pub(super) description: String,
    pub(super) in_stock: bool,
    /// Slugs of the toppings that go with it.
    pub(super) toppings: Vec<String>,
    /// Of its picture, as in CSS.
    pub(super) color: String,
}

impl Flavor {
    /// Path of its page.
    pub(super) fn path(&self) -> String {
        format!("/flavors/{}/", self.slug)
    }
}

/// What is put on top.
#[derive(Deserialize)]
pub(super) struct Topping {
    pub(super) slug: String,
    pub(super) name: String,
    pub(super) description: String,
    /// Of its picture, as in CSS.
    pub(super) color: String,
}

/// Path of a topping's page.
pub(super) fn topping_path(slug: &str) -> String {
    format!("/toppings/{slug}/")
}

impl Menu {
    /// What the shop opens with.
    pub(super) fn usual() -> Self {
        toml::from_str(include_str!("menu.toml")).expect("the menu is part of the program, and a test reads it")
    }

    pub(super) fn flavor(&self, slug: &str) -> Option<&Flavor> {
        self.flavors.iter().find(|flavor| flavor.slug == slug)
    }

    pub(super) fn topping(&self, slug: &str) -> Option<&Topping> {
        self.toppings.iter().find(|topping| topping.slug == slug)
    }

    /// Puts `new` where the flavor `slug` is.
    pub(super) fn replace(&mut self, slug: &str, new: Flavor) {
        if let Some(place) = self.flavors.iter_mut().find(|flavor| flavor.slug == slug) {
            *place = new;
        }
    }
}

/// A flavor as typed into the form, right or wrong.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) slug: String,
    pub(super) name: String,
    pub(super) price: String,
    pub(super) description: String,
    pub(super) in_stock: bool,
    pub(super) toppings: Vec<String>,
}

impl Draft {
    /// What the form shows before anything was typed.
    pub(super) fn of(flavor: &Flavor) -> Self {
        Draft {
            slug: flavor.slug.clone(),
            name: flavor.name.clone(),
            price: price(flavor.price_cents),
            description: flavor.description.clone(),
            in_stock: flavor.in_stock,
            toppings: flavor.toppings.clone(),
        }
    }

    /// Names and values as the browser sends them: `topping` once for each ticked box. Unknown names count for nothing.
    pub(super) fn from_fields(fields: Vec<(String, String)>) -> Self {
        let mut draft = Draft::default();
        for (name, value) in fields {
            match name.as_str() {
                "slug" => draft.slug = value.trim().to_owned(),
                "name" => draft.name = value.trim().to_owned(),
                "price" => draft.price = value.trim().to_owned(),
                "description" => draft.description = value.trim().to_owned(),
                "in_stock" => draft.in_stock = true,
                "topping" => draft.toppings.push(value),
                _ => {}
            }
        }
        draft
    }

    /// The flavor that `old` becomes, or all that is wrong with the draft.
    pub(super) fn check(&self, menu: &Menu, old: &Flavor) -> Result<Flavor, Vec<Mistake>> {
        let price_cents = price_cents(&self.price);
        let slug_fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let mistakes: Vec<Mistake> = [
            (self.name.is_empty(), Mistake::NameMissing),
            (self.name.chars().count() > 60, Mistake::NameLong),
            (!(1..=40).contains(&self.slug.len()) || !self.slug.bytes().all(slug_fits), Mistake::SlugForm),
            (self.slug != old.slug && menu.flavor(&self.slug).is_some(), Mistake::SlugTaken),
            (price_cents.is_none(), Mistake::Price),
            (self.description.chars().count() > 500, Mistake::DescriptionLong),
        ]
        .into_iter()
        .filter_map(|(wrong, mistake)| wrong.then_some(mistake))
        .collect();
        match price_cents {
            Some(price_cents) if mistakes.is_empty() => Ok(Flavor {
                slug: self.slug.clone(),
                name: self.name.clone(),
                price_cents,
                description: self.description.clone(),
                in_stock: self.in_stock,
                toppings: menu
                    .toppings
                    .iter()
                    .filter(|topping| self.toppings.contains(&topping.slug))
                    .map(|topping| topping.slug.clone())
                    .collect(),
                color: old.color.clone(),
            }),
            _ => Err(mistakes),
        }
    }
}

/// Why a form is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    /// The name is empty.
    NameMissing,
    /// The name has more than 60 characters.
    NameLong,
    /// The slug is empty, longer than 40, or has other characters than a slug may have.
    SlugForm,
    /// Another flavor has the slug.
    SlugTaken,
    /// The price is not a number from 0.01 to 99.99.
    Price,
    /// The description has more than 500 characters.
    DescriptionLong,
}

impl Mistake {
    /// The form's field that has to be changed.
    pub(super) fn field(self) -> &'static str {
        match self {
            Mistake::NameMissing | Mistake::NameLong => "name",
            Mistake::SlugForm | Mistake::SlugTaken => "slug",
            Mistake::Price => "price",
            Mistake::DescriptionLong => "description",
        }
    }

    /// What the visitor reads.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Mistake::NameMissing => "An ice cream needs a name.",
            Mistake::NameLong => "At most 60 characters, please: it has to fit on the sign.",
            Mistake::SlugForm => "1 to 40 of a to z, 0 to 9 and the hyphen.",
            Mistake::SlugTaken => "Another flavor lives at this address.",
            Mistake::Price => "A price from 0.01 to 99.99, such as 3.20.",
            Mistake::DescriptionLong => "At most 500 characters, please.",
        }
    }
}

/// `3.20`
pub(super) fn price(cents: u32) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// The inverse of [`price`]; also takes `3`, `3.2` and `3,20`.
fn price_cents(text: &str) -> Option<u32> {
    let (whole, rest) = text.split_once(['.', ',']).unwrap_or((text, "0"));
    let digits = |text: &str| (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(rest) {
        return None;
    }
    let cents = whole.parse::<u32>().ok()? * 100 + format!("{rest:0<2}").parse::<u32>().ok()?;
    (cents > 0).then_some(cents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_as_people_write_them() {
        for (text, cents) in [("3.20", 320), ("3,20", 320), ("3.2", 320), ("3", 300), ("0.01", 1), ("99.99", 9999)] {
            assert_eq!(price_cents(text), Some(cents), "{text}");
        }
        for text in ["", "0", "0.00", "-1", "+1", "1.234", "100", "1.", ".5", "free", "1 0", "1.2.3", "٣"] {
            assert_eq!(price_cents(text), None, "{text}");
        }
    }

    #[test]
    fn every_topping_of_the_usual_menu_exists() {
        let menu = Menu::usual();
        for flavor in &menu.flavors {
            assert!(flavor.toppings.iter().all(|slug| menu.topping(slug).is_some()), "{}", flavor.name);
            assert_eq!(Draft::of(flavor).check(&menu, flavor).as_ref(), Ok(flavor));
        }
    }
}
