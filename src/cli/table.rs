//! Columns that align, in colour where a terminal shows it.

use std::io::{self, IsTerminal};

use super::paint::{Ink, Row, columns, tame};
use super::tail::terminal_style;

/// Where text goes, and what it can show.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    color: bool,
    /// In columns. A file or a pipe has no edge.
    width: usize,
}

impl Screen {
    pub(super) fn stdout() -> Screen {
        let style = terminal_style(false);
        Screen {
            color: style.color,
            width: match io::stdout().is_terminal() {
                true => style.width,
                false => usize::MAX,
            },
        }
    }

    /// One line of text.
    pub(super) fn line(self, text: &str, ink: Ink) -> String {
        let mut row = Row::new(usize::MAX, self.color);
        row.put(text, usize::MAX, ink);
        format!("{}\n", row.finish())
    }
}

/// Where a column's texts stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// A table as it is filled.
#[derive(Debug)]
pub(super) struct Table {
    heads: Vec<(&'static str, Side)>,
    rows: Vec<Vec<(String, Ink)>>,
    indent: usize,
}

impl Table {
    /// Heads that are all empty are not printed.
    pub(super) fn new(heads: &[(&'static str, Side)]) -> Table {
        Table {
            heads: heads.to_vec(),
            rows: Vec::new(),
            indent: 0,
        }
    }

    /// Every row begins so many columns further right.
    pub(super) fn indented(self, indent: usize) -> Table {
        Table { indent, ..self }
    }

    pub(super) fn row<const N: usize>(&mut self, cells: [(String, Ink); N]) {
        self.push(cells.into());
    }

    /// A row of as many cells as there are heads.
    pub(super) fn push(&mut self, cells: Vec<(String, Ink)>) {
        let cells = cells.into_iter().map(|(text, ink)| (tame(&text), ink));
        self.rows.push(cells.collect());
    }

    pub(super) fn render(&self, screen: Screen) -> String {
        let titled = self.heads.iter().any(|(head, _)| !head.is_empty());
        let mut widths: Vec<usize> = self.heads.iter().map(|(head, _)| columns(head)).collect();
        for row in &self.rows {
            for (width, (text, _)) in widths.iter_mut().zip(row) {
                *width = columns(text).max(*width);
            }
        }
        let mut out = String::new();
        if titled {
            let heads = self.heads.iter();
            let heads: Vec<_> = heads
                .map(|(head, _)| ((*head).to_owned(), Ink::Dim))
                .collect();
            self.render_row(&heads, &widths, screen, &mut out);
        }
        for row in &self.rows {
            self.render_row(row, &widths, screen, &mut out);
        }
        out
    }

    fn render_row(
        &self,
        cells: &[(String, Ink)],
        widths: &[usize],
        screen: Screen,
        out: &mut String,
    ) {
        let mut row = Row::new(screen.width, screen.color);
        row.gap(self.indent);
        for (((text, ink), width), (_, side)) in cells.iter().zip(widths).zip(&self.heads) {
            match side {
                Side::Left => row.cell(text, *width, *ink),
                Side::Right => row.right(text, *width, *ink),
            }
            row.gap(2);
        }
        out.push_str(&row.finish());
        out.push('\n');
    }
}

/// A cell without colour.
pub(super) fn plain(text: impl Into<String>) -> (String, Ink) {
    (text.into(), Ink::Plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: Screen = Screen {
        color: false,
        width: usize::MAX,
    };

    #[test]
    fn columns_align_and_nothing_trails() {
        let mut table = Table::new(&[
            ("MODEL", Side::Left),
            ("PRICE", Side::Right),
            ("", Side::Left),
        ]);
        table.row([plain("a/long-name"), plain("$0.04"), plain("")]);
        table.row([plain("b"), plain("$12.00"), plain("note")]);
        assert_eq!(
            table.render(FILE),
            "MODEL         PRICE\na/long-name   $0.04\nb            $12.00  note\n"
        );
    }

    #[test]
    fn a_table_without_heads_has_rows_alone() {
        let mut table = Table::new(&[("", Side::Left), ("", Side::Left)]).indented(2);
        table.row([plain("a"), plain("b")]);
        assert_eq!(table.render(FILE), "  a  b\n");
    }
}
