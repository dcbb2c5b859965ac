//! `pixtoll check`: every mistake in configuration, plugins and prices, without starting anything.

use serde_json::{Value, json};

use super::{DONE, Global, complain, envelope, load};
use crate::app::{self, StartError};

pub(super) fn run(global: &Global) -> u8 {
    match checked(global) {
        Ok((text, data)) => {
            if global.json {
                println!("{}", envelope("check", true, data, &[]));
            } else {
                println!("{text}");
            }
            DONE
        }
        Err(error) => complain(&error, global, "check"),
    }
}

fn checked(global: &Global) -> Result<(String, Value), StartError> {
    let settings = load(global)?;
    let (book, plugins) = app::prepare(&settings)?;
    let book = book.get();
    let names: Vec<String> = plugins
        .iter()
        .map(|plugin| format!("{} ({})", plugin.name(), plugin.digest()))
        .collect();
    let models = book.models().count();
    let plugins = if names.is_empty() {
        "no plugins".to_owned()
    } else {
        format!("plugins {}", names.join(", "))
    };
    let text = format!(
        "all in order: {plugins}; price book {} with {models} models",
        book.digest()
    );
    Ok((
        text,
        json!({"plugins": names, "models": models, "book": book.digest()}),
    ))
}
