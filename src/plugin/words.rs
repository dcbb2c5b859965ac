//! Looking for words in a prompt, many times over.
//!
//! A hook of many rules asks for a word in each of them, and most are not there. Which letters words
//! begin with is noted once, and answers for nearly all of those.

/// A prompt in lower case.
pub(super) struct Prompt {
    text: String,
    /// A bit for the first two bytes of every word. What is not set begins no word; what is set need
    /// not be right.
    begins: [u64; 16],
}

impl Prompt {
    pub(super) fn of(prompt: &str) -> Prompt {
        let text = prompt.to_lowercase();
        let mut begins = [0; 16];
        let mut before = b' ';
        for (at, &byte) in text.as_bytes().iter().enumerate() {
            // A letter beyond ASCII may end a word or be a mark between two: both are taken for the
            // latter.
            if byte.is_ascii_alphanumeric() && !before.is_ascii_alphanumeric() {
                let next = text.as_bytes().get(at + 1).copied().unwrap_or_default();
                let (place, bit) = bit(byte, next);
                begins[place] |= bit;
            }
            before = byte;
        }
        Prompt { text, begins }
    }

    /// Whether `word`, in lower case, stands in it with no letter or digit next to it.
    pub(super) fn has(&self, word: &str) -> bool {
        if let [first, second, ..] = *word.as_bytes()
            && first.is_ascii_alphanumeric()
        {
            let (place, bit) = bit(first, second);
            if self.begins[place] & bit == 0 {
                return false;
            }
        }
        has_word(&self.text, word)
    }
}

/// Where the bit of two bytes is: which number, and the bit of it.
fn bit(first: u8, second: u8) -> (usize, u64) {
    let index = usize::from(first & 31) << 5 | usize::from(second & 31);
    (index / 64, 1 << (index % 64))
}

/// Whether `word` stands in `text` with no letter or digit next to it; both in lower case.
fn has_word(text: &str, word: &str) -> bool {
    memchr::memmem::find_iter(text.as_bytes(), word.as_bytes()).any(|start| {
        // A match of valid UTF-8 in valid UTF-8 begins and ends between characters.
        let before = text[..start].chars().next_back();
        let after = text[start + word.len()..].chars().next();
        ![before, after]
            .into_iter()
            .flatten()
            .any(char::is_alphanumeric)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_word_is_whole_or_not_there() {
        for (text, word, there) in [
            ("an icon of a cat", "icon", true),
            ("icon", "icon", true),
            ("iconic poses", "icon", false),
            ("silicon, then an icon.", "icon", true),
            ("app-icon_set", "icon", true),
            ("ein größeres bild", "größeres", true),
            ("ein größeres bild", "größere", false),
            ("über", "ber", false),
            ("アイコン", "アイ", false),
            ("a line art icon", "line art", true),
            ("c++ code", "c++", true),
            ("the letter a", "a", true),
            ("a cat — icon", "icon", true),
        ] {
            assert_eq!(Prompt::of(text).has(word), there, "{word} in {text}");
        }
    }

    proptest! {
        #[test]
        fn the_first_letters_leave_no_word_out(text in "[abé—+. ]{0,24}", word in "[abé+]{1,3}") {
            prop_assert_eq!(Prompt::of(&text).has(&word), has_word(&text, &word));
        }
    }
}
