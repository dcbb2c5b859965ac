//! Text on a terminal: cells of a fixed width, inks, and nothing that a log line could smuggle in.

/// How a text stands out. Never the only carrier of a meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    Plain,
    Dim,
    Bold,
    Red,
    Green,
    Yellow,
    Cyan,
}

impl Ink {
    const fn code(self) -> &'static str {
        match self {
            Ink::Plain => "",
            Ink::Dim => "2",
            Ink::Bold => "1",
            Ink::Red => "31",
            Ink::Green => "32",
            Ink::Yellow => "33",
            Ink::Cyan => "36",
        }
    }
}

/// A row of at most so many columns.
pub(super) struct Row {
    out: String,
    color: bool,
    left: usize,
    /// Blanks that are only written once something follows.
    blanks: usize,
}

impl Row {
    pub(super) fn new(width: usize, color: bool) -> Row {
        Row {
            out: String::new(),
            color,
            left: width,
            blanks: 0,
        }
    }

    pub(super) fn left(&self) -> usize {
        self.left
    }

    pub(super) fn gap(&mut self, columns: usize) {
        let columns = columns.min(self.left);
        self.left -= columns;
        self.blanks += columns;
    }

    /// A cell with its text on the left.
    pub(super) fn cell(&mut self, text: &str, width: usize, ink: Ink) {
        let used = self.put(text, width, ink);
        self.gap(width - used);
    }

    /// A cell with its text on the right.
    pub(super) fn right(&mut self, text: &str, width: usize, ink: Ink) {
        self.gap(width.saturating_sub(columns(text)));
        self.put(text, width, ink);
    }

    /// As much of `text` as `most` columns hold; says how many it took.
    pub(super) fn put(&mut self, text: &str, most: usize, ink: Ink) -> usize {
        let text = clip(text, most.min(self.left));
        if text.is_empty() {
            return 0;
        }
        self.out.extend(std::iter::repeat_n(' ', self.blanks));
        self.blanks = 0;
        if self.color && ink != Ink::Plain {
            self.out.push_str("\x1b[");
            self.out.push_str(ink.code());
            self.out.push('m');
            self.out.push_str(&text);
            self.out.push_str("\x1b[0m");
        } else {
            self.out.push_str(&text);
        }
        let used = columns(&text);
        self.left -= used;
        used
    }

    pub(super) fn finish(self) -> String {
        self.out
    }
}

/// The text, or as much of it as `most` columns hold with `…` last.
fn clip(text: &str, most: usize) -> String {
    if columns(text) <= most {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut room = most.saturating_sub(1);
    for symbol in text.chars() {
        let wide = symbol_columns(symbol);
        if wide > room {
            break;
        }
        room -= wide;
        kept.push(symbol);
    }
    if most > 0 {
        kept.push('…');
    }
    kept
}

/// How many columns a text takes.
pub(super) fn columns(text: &str) -> usize {
    text.chars().map(symbol_columns).sum()
}

/// The ranges of Unicode's East Asian Width that are wide, and the usual combining marks.
fn symbol_columns(symbol: char) -> usize {
    match u32::from(symbol) {
        0x0300..=0x036F | 0xFE00..=0xFE0F | 0x20D0..=0x20FF => 0,
        0x1100..=0x115F
        | 0x2E80..=0xA4CF
        | 0xAC00..=0xD7A3
        | 0xF900..=0xFAFF
        | 0xFE30..=0xFE6F
        | 0xFF00..=0xFF60
        | 0xFFE0..=0xFFE6
        | 0x1F300..=0x1FAFF
        | 0x20000..=0x3FFFD => 2,
        _ => 1,
    }
}

/// One line of plain text: no control characters, which would steer the terminal, no marks that
/// turn the direction of writing, blanks never doubled.
pub(super) fn tame(text: &str) -> String {
    let mut tame = String::with_capacity(text.len());
    for symbol in text.chars() {
        match symbol {
            '\u{200B}'..='\u{200F}'
            | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{2069}'
            | '\u{FEFF}' => {}
            _ if symbol.is_whitespace() || symbol.is_control() => {
                if !tame.ends_with(' ') {
                    tame.push(' ');
                }
            }
            _ => tame.push(symbol),
        }
    }
    tame.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_never_grows_beyond_its_width() {
        let mut row = Row::new(10, false);
        row.cell("abc", 5, Ink::Plain);
        row.right("12345678", 8, Ink::Plain);
        row.put("more", 4, Ink::Plain);
        assert_eq!(row.finish(), "abc  1234…");
    }

    #[test]
    fn wide_letters_take_two_columns() {
        assert_eq!(columns("狐と雪"), 6);
        assert_eq!(clip("狐と雪", 5), "狐と…");
        assert_eq!(clip("狐と雪", 4), "狐…");
        assert_eq!(clip("fox", 0), "");
    }

    #[test]
    fn a_prompt_cannot_steer_the_terminal() {
        assert_eq!(
            tame("a\x1b[31m fox\r\n\tin\u{202E} snow\u{7}"),
            "a [31m fox in snow"
        );
    }

    #[test]
    fn ink_is_put_only_where_colour_is_wanted() {
        let mut row = Row::new(20, true);
        row.gap(1);
        row.cell("a", 3, Ink::Red);
        assert_eq!(row.finish(), " \x1b[31ma\x1b[0m");
    }
}
