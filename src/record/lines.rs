//! Lines on their way to the file: one text, so that a batch is one write.

/// Memory that an emptied buffer keeps for the next batch.
const KEPT: usize = 1 << 20;

/// Whole lines, each with its newline, one after the other.
#[derive(Debug, Default)]
pub(super) struct Lines {
    text: String,
    /// Where each line ends.
    ends: Vec<usize>,
}

impl Lines {
    pub(super) fn push(&mut self, line: &str) {
        self.text.push_str(line);
        self.ends.push(self.text.len());
    }

    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }

    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    /// The line at `from` and as many behind it as fit into `most` bytes together; with it, how
    /// many lines that is. The first comes along however long it is.
    pub(super) fn chunk(&self, from: usize, most: u64) -> (&str, usize) {
        let start = self.start(from);
        let fits = |end: &usize| (end - start) as u64 <= most;
        let count = self.ends[from..].partition_point(fits).max(1);
        let last = (from + count).min(self.ends.len());
        (&self.text[start..self.start(last)], last - from)
    }

    fn start(&self, line: usize) -> usize {
        line.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    /// Forgets the lines; the memory of a usual batch is kept.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
        self.text.shrink_to(KEPT);
        self.ends.shrink_to(KEPT / 64);
    }
}

impl<'a> FromIterator<&'a str> for Lines {
    fn from_iter<I: IntoIterator<Item = &'a str>>(lines: I) -> Lines {
        let mut all = Lines::default();
        lines.into_iter().for_each(|line| all.push(line));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_whole_lines_and_at_least_one() {
        let lines = Lines::from_iter(["one\n", "two\n", "three\n"]);
        assert_eq!((lines.count(), lines.bytes()), (3, 14));
        let check = |from, most, text, count| assert_eq!(lines.chunk(from, most), (text, count));
        check(0, 100, "one\ntwo\nthree\n", 3);
        check(0, 8, "one\ntwo\n", 2);
        check(0, 7, "one\n", 1);
        check(1, 2, "two\n", 1);
        check(2, 6, "three\n", 1);
    }
}
