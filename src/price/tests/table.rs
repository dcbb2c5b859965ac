//! The book against a table of prices that somebody else worked out.

use super::*;

const TABLE: &str = include_str!("../../../tests/fixtures/price/table.tsv");
pub(super) const TEXTBOOK: (&str, &str) = (
    "textbook.yaml",
    include_str!("../../../tests/fixtures/price/textbook.yaml"),
);

/// An exact fraction, for expressions of the table alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Exact(i128, i128);

impl Exact {
    fn new(numerator: i128, denominator: i128) -> Exact {
        let (mut a, mut b) = (numerator.abs(), denominator.abs());
        while b != 0 {
            (a, b) = (b, a % b);
        }
        let divisor = a.max(1) * denominator.signum();
        Exact(numerator / divisor, denominator / divisor)
    }

    /// To the nano-dollar, halves up.
    fn nano(self) -> i128 {
        (self.0 * 2_000_000_000 + self.1).div_euclid(2 * self.1)
    }
}

/// Reads `2 * (0.03 + 0.015) / ceil(7 / 3)`.
struct Expression<'a>(&'a str);

impl Expression<'_> {
    fn value(text: &str) -> Exact {
        let mut rest = Expression(text);
        let value = rest.sum();
        assert_eq!(rest.0.trim(), "", "`{text}` goes on after its end");
        value
    }

    fn take(&mut self, sign: &str) -> bool {
        let rest = self.0.trim_start();
        let taken = rest.strip_prefix(sign);
        self.0 = taken.unwrap_or(rest);
        taken.is_some()
    }

    fn sum(&mut self) -> Exact {
        let mut left = self.product();
        loop {
            let sign = if self.take("+") {
                1
            } else if self.take("-") {
                -1
            } else {
                return left;
            };
            let right = self.product();
            left = Exact::new(left.0 * right.1 + sign * right.0 * left.1, left.1 * right.1);
        }
    }

    fn product(&mut self) -> Exact {
        let mut left = self.atom();
        loop {
            if self.take("*") {
                let right = self.atom();
                left = Exact::new(left.0 * right.0, left.1 * right.1);
            } else if self.take("/") {
                let right = self.atom();
                left = Exact::new(left.0 * right.1, left.1 * right.0);
            } else {
                return left;
            }
        }
    }

    fn atom(&mut self) -> Exact {
        let up = self.take("ceil");
        if self.take("(") {
            let inner = self.sum();
            assert!(self.take(")"), "a bracket is open before `{}`", self.0);
            let whole = (inner.0 + inner.1 - 1).div_euclid(inner.1);
            return if up { Exact(whole, 1) } else { inner };
        }
        let rest = self.0.trim_start();
        let digit = |c: char| !c.is_ascii_digit() && c != '.';
        let (number, rest) = rest.split_at(rest.find(digit).unwrap_or(rest.len()));
        self.0 = rest;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let places = u32::try_from(fraction.len()).unwrap();
        let digits = format!("{whole}{fraction}");
        Exact::new(digits.parse().unwrap(), 10_i128.pow(places))
    }
}

/// The request of one row.
fn request(fields: &[&str]) -> ImageRequest {
    let &[model, size, quality, tier, n, other, ..] = fields else {
        panic!("a row has eight fields: {fields:?}");
    };
    let mut request = ImageRequest::new(id(model), "");
    request.size = match size.split_once('@') {
        Some((shape, step)) => Size::Aspect {
            aspect: crate::image::Aspect::parse(shape).unwrap(),
            step: Some(step.to_owned()),
        },
        None => Size::parse(size).unwrap(),
    };
    request.quality = (quality != "-").then(|| Quality::parse(quality).unwrap());
    request.tier = Tier::parse(tier).unwrap();
    request.n = n.parse().unwrap();
    for (key, value) in other.split(';').filter_map(|one| one.split_once('=')) {
        match key {
            "steps" => request.steps = Some(value.parse().unwrap()),
            "partial" => {
                request.stream = true;
                request.partial_images = value.parse().unwrap();
            }
            "style" => request.style = Some(value.to_owned()),
            "input" => {
                let (width, height) = Size::parse(value).unwrap().pixels().unwrap();
                let bytes = InputSource::Bytes(png(width, height));
                request.inputs.push(input(InputRole::Image, bytes));
            }
            "inputs" => {
                let one = || input(InputRole::Image, InputSource::Url("https://x/y".into()));
                let count: usize = value.parse().unwrap();
                request
                    .inputs
                    .extend(std::iter::repeat_with(one).take(count));
            }
            field => {
                request.extra.insert(field.to_owned(), value.into());
            }
        }
    }
    request
}

#[test]
fn every_row_of_the_table_is_quoted_to_the_nano_dollar() {
    let book = Book::with(&[TEXTBOOK]).unwrap();
    let (mut rows, mut by_hand) = (0, 0);
    let mut wrong = Vec::new();
    for (line, text) in TABLE.lines().enumerate() {
        if text.starts_with('#') {
            continue;
        }
        let fields: Vec<&str> = text.split('\t').collect();
        assert!(
            fields.len() == 8 && !fields[7].is_empty(),
            "line {}",
            line + 1
        );
        rows += 1;
        by_hand += usize::from(fields[6].contains(['*', '/', '+']));
        let quote = book.quote(&request(&fields));
        // What a prompt comes to is an estimate, and no part of the table.
        let pictures = quote.map(|quote| {
            let lines = quote.lines.iter().filter(|line| line.what != "text in");
            i128::from(lines.map(|line| line.amount).sum::<Usd>().nano())
        });
        let price = Expression::value(fields[6]).nano();
        // Each line of a price is rounded for itself.
        if pictures
            .is_none_or(|pictures| (pictures - price).abs() > i128::from(text.contains("markup")))
        {
            wrong.push(format!(
                "line {}: {price} by hand, {pictures:?} by the book: {text}",
                line + 1
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        rows >= 600 && by_hand >= 400,
        "{rows} rows, {by_hand} by hand"
    );
}

#[test]
fn every_priced_model_stands_in_the_table() {
    let listed: std::collections::HashSet<&str> = TABLE
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split('\t').next())
        .collect();
    let book = Book::embedded();
    let named = |row: &&ModelRow| {
        let alias =
            |(alias, of): (&ModelId, &ModelId)| *of == row.id && listed.contains(alias.as_str());
        listed.contains(row.id.as_str()) || book.aliases().any(alias)
    };
    let missing: Vec<&ModelId> = book
        .models()
        .filter(|row| !row.price.terms.is_empty() && !named(row))
        .map(|row| &row.id)
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_table_reckons_exactly() {
    let nano = |text| Expression::value(text).nano();
    assert_eq!(nano("4 * 0.040 * 1.4"), 224_000_000);
    assert_eq!(
        nano("0.03 + 0.015 * (ceil(1536 * 1024 / 1048576) - 1)"),
        45_000_000
    );
    assert_eq!(nano("1 / 3"), 333_333_333);
    assert_eq!(nano("0.0000000005"), 1);
    assert_eq!(nano("2 - 1 - 1"), 0);
}
