//! A figure that is still open: the least it can be, what it usually is, the most.

/// `low <= expected <= high` in whatever order `T` has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread<T> {
    pub low: T,
    pub expected: T,
    pub high: T,
}

impl<T: Copy> Spread<T> {
    /// A figure about which nothing is open.
    pub const fn exact(figure: T) -> Spread<T> {
        Spread {
            low: figure,
            expected: figure,
            high: figure,
        }
    }

    /// The same function of all three.
    pub fn map<U>(self, f: impl Fn(T) -> U) -> Spread<U> {
        Spread {
            low: f(self.low),
            expected: f(self.expected),
            high: f(self.high),
        }
    }

    /// The figure at one end.
    pub const fn at(&self, end: End) -> T {
        match end {
            End::Low => self.low,
            End::Expected => self.expected,
            End::High => self.high,
        }
    }
}

/// Which of the three figures is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Low,
    Expected,
    High,
}
