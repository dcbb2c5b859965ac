//! What would be said with every call, said once an hour.
//!
//! A price book that has fallen behind is wrong for every call of a model. The decision log notes
//! each of them; on the terminal the same line a thousand times hides all others.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::image::ModelId;

const AGAIN: Duration = Duration::from_secs(3600);
/// Models that are remembered. When there are more, all are forgotten, and said once more.
const MODELS: usize = 1000;

/// When something was last said of each model.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<HashMap<ModelId, Instant>>);

impl Seldom {
    /// Whether it is to be said now.
    pub(super) fn due(&self, model: &ModelId) -> bool {
        let now = Instant::now();
        let mut said = self.0.lock();
        if let Some(last) = said.get_mut(model) {
            let due = now.duration_since(*last) >= AGAIN;
            if due {
                *last = now;
            }
            return due;
        }
        if said.len() >= MODELS {
            said.clear();
        }
        said.insert(model.clone(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_model_is_told_of_once() {
        let seldom = Seldom::default();
        let (one, two) = (ModelId::new("a", "one"), ModelId::new("a", "two"));
        let due = [&one, &one, &two, &one, &two].map(|model| seldom.due(model));
        assert_eq!(due, [true, false, true, false, false]);
    }

    #[test]
    fn memory_is_bounded() {
        let seldom = Seldom::default();
        for number in 0..3000 {
            assert!(seldom.due(&ModelId::new("a", &number.to_string())));
        }
        assert!(seldom.0.lock().len() <= MODELS);
    }
}
