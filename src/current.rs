//! A value that many read and that is replaced whole.

use std::sync::Arc;

use parking_lot::RwLock;

/// The value in force. Whoever took it keeps what it took, whatever comes after.
#[derive(Debug)]
pub struct Current<T>(RwLock<Arc<T>>);

impl<T> Current<T> {
    pub fn new(value: Arc<T>) -> Current<T> {
        Current(RwLock::new(value))
    }

    /// The value as it stands.
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read())
    }

    /// Puts in its place what `make` makes of it. Nobody else can replace it meanwhile.
    pub fn change(&self, make: impl FnOnce(&T) -> T) {
        let mut held = self.0.write();
        *held = Arc::new(make(&held));
    }

    /// Puts another in its place.
    pub fn put(&self, value: Arc<T>) {
        *self.0.write() = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_took_a_value_keeps_it() {
        let current = Current::new(Arc::new(1));
        let taken = current.get();
        current.put(Arc::new(2));
        assert_eq!((*taken, *current.get()), (1, 2));
        current.change(|two| two + 1);
        assert_eq!((*taken, *current.get()), (1, 3));
    }
}
