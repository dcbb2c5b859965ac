//! The values of a line as JSON text.
//!
//! A line has a hundred keys, and all of them are known when the program is built. `serde_json`
//! looks for characters to escape in each of them, in every line, which is most of what a line
//! costs. Here the keys of structs go out as they are, and a text without such characters in one
//! piece; all else is left to `serde_json`.

use std::fmt::{self, Write as _};

use serde::ser::{
    Error as _, Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct, Serializer,
};
use serde_json::Error;

use crate::money::AS_WRITTEN;

/// Writes `value` behind what stands in `to`.
///
/// # Errors
/// Where a value is of a kind that no line has: bytes, tuples, variants with content.
pub(super) fn write<T: Serialize>(to: &mut Vec<u8>, value: &T) -> Result<(), Error> {
    value.serialize(Text(to))
}

/// Whether a text may stand between quotes as it is.
fn is_plain(text: &str) -> bool {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    // The highest bit of each byte that is below `bound`, as far as it is plain ASCII.
    let below = |eight: u64, bound: u8| eight.wrapping_sub(EACH * u64::from(bound)) & !eight;
    let (eights, rest) = text.as_bytes().as_chunks();
    let marks = eights.iter().fold(0, |marks, eight| {
        let eight = u64::from_le_bytes(*eight);
        let quote = below(eight ^ (EACH * u64::from(b'"')), 1);
        let backslash = below(eight ^ (EACH * u64::from(b'\\')), 1);
        marks | below(eight, b' ') | quote | backslash
    });
    let escaped = |byte: &u8| *byte < b' ' || *byte == b'"' || *byte == b'\\';
    marks & (EACH << 7) == 0 && !rest.iter().any(escaped)
}

struct Text<'a>(&'a mut Vec<u8>);

impl<'a> Text<'a> {
    /// A value of a kind that `serde_json` writes as fast.
    fn scalar(self, value: impl Serialize) -> Result<(), Error> {
        serde_json::to_writer(self.0, &value)
    }

    /// A text without characters to escape.
    fn quoted(self, text: &str) {
        self.0.reserve(text.len() + 2);
        self.0.push(b'"');
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(b'"');
    }

    fn open(self, bracket: u8, close: u8) -> Several<'a> {
        self.0.push(bracket);
        Several {
            text: self.0,
            first: true,
            close: Some(close),
        }
    }
}

fn unknown<T>(what: &str) -> Result<T, Error> {
    Err(Error::custom(format_args!("no line has {what}")))
}

macro_rules! scalars {
    ($($method:ident: $kind:ty,)+) => {
        $(fn $method(self, value: $kind) -> Result<(), Error> { self.scalar(value) })+
    };
}

impl<'a> Serializer for Text<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Several<'a>;
    type SerializeMap = Several<'a>;
    type SerializeStruct = Several<'a>;
    type SerializeTuple = Impossible<(), Error>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeStructVariant = Impossible<(), Error>;

    scalars! {
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_f32: f32,
        serialize_f64: f64,
        serialize_char: char,
    }

    fn serialize_str(self, text: &str) -> Result<(), Error> {
        if !is_plain(text) {
            return self.scalar(text);
        }
        self.quoted(text);
        Ok(())
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), Error> {
        self.0.push(b'"');
        let written = write!(Pieces(self.0), "{value}");
        self.0.push(b'"');
        written.map_err(|_| Error::custom("a value cannot be printed"))
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), Error> {
        unknown("bytes")
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.0.extend_from_slice(b"null");
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        self.quoted(variant); // a word of ours
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Error> {
        unknown("a variant with content")
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Several<'a>, Error> {
        Ok(self.open(b'[', b']'))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Several<'a>, Error> {
        Ok(self.open(b'{', b'}'))
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Several<'a>, Error> {
        if name != AS_WRITTEN {
            return Ok(self.open(b'{', b'}'));
        }
        Ok(Several {
            text: self.0,
            first: true,
            close: None,
        })
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Error> {
        unknown("a tuple")
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Error> {
        unknown("a tuple")
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        unknown("a variant with content")
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        unknown("a variant with content")
    }
}

/// What is printed between quotes, as it comes.
struct Pieces<'a>(&'a mut Vec<u8>);

impl fmt::Write for Pieces<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if is_plain(text) {
            self.0.extend_from_slice(text.as_bytes());
            return Ok(());
        }
        let quoted = serde_json::to_vec(text).map_err(|_| fmt::Error)?;
        self.0.extend_from_slice(&quoted[1..quoted.len() - 1]);
        Ok(())
    }
}

/// A list or an object that is being written; without a bracket to close it with, a number as it
/// is written.
struct Several<'a> {
    text: &'a mut Vec<u8>,
    first: bool,
    close: Option<u8>,
}

impl Several<'_> {
    fn comma(&mut self) {
        if !std::mem::take(&mut self.first) {
            self.text.push(b',');
        }
    }

    fn end(self) {
        self.text.extend(self.close);
    }

    /// The number comes as a text: its quotes are taken away.
    fn as_written<T: Serialize + ?Sized>(&mut self, number: &T) -> Result<(), Error> {
        let before = self.text.len();
        number.serialize(Text(self.text))?;
        self.text.pop();
        self.text.remove(before);
        Ok(())
    }
}

impl SerializeSeq for Several<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.comma();
        value.serialize(Text(self.text))
    }

    fn end(self) -> Result<(), Error> {
        Several::end(self);
        Ok(())
    }
}

/// Keys are texts: no line has others.
impl SerializeMap for Several<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.comma();
        key.serialize(Text(self.text))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.text.push(b':');
        value.serialize(Text(self.text))
    }

    fn end(self) -> Result<(), Error> {
        Several::end(self);
        Ok(())
    }
}

impl SerializeStruct for Several<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        if self.close.is_none() {
            return self.as_written(value);
        }
        self.comma();
        self.text.reserve(key.len() + 3);
        self.text.push(b'"');
        self.text.extend_from_slice(key.as_bytes());
        self.text.extend_from_slice(b"\":");
        value.serialize(Text(self.text))
    }

    fn end(self) -> Result<(), Error> {
        Several::end(self);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::decision::tests::full;
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn text<T: Serialize>(value: &T) -> String {
        let mut bytes = Vec::new();
        write(&mut bytes, value).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_line_is_what_serde_json_makes_of_it() {
        let line = full();
        assert_eq!(text(&line), serde_json::to_string(&line).unwrap());
    }

    #[test]
    fn whatever_a_rule_sets_is_what_serde_json_makes_of_it() {
        for value in [
            json!(null),
            json!([]),
            json!({}),
            json!({"a": [1, -2, 3.5, true, "x\"\\\n\u{7f}ü"], "b\u{1}": {"c": null}}),
        ] {
            assert_eq!(text(&value), value.to_string());
        }
    }

    #[test]
    fn what_no_line_has_is_an_error() {
        assert!(write(&mut Vec::new(), &(1, 2)).is_err());
        assert!(write(&mut Vec::new(), &Ok::<u8, u8>(1)).is_err());
    }

    proptest! {
        #[test]
        fn every_text_reads_back(given in any::<String>()) {
            prop_assert_eq!(text(&given), serde_json::to_string(&given).unwrap());
            let mut printed = Vec::new();
            Text(&mut printed).collect_str(&given).unwrap();
            let read: Value = serde_json::from_slice(&printed).unwrap();
            prop_assert_eq!(read, Value::String(given));
        }
    }
}
