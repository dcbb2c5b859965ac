//! The language of the house: what a call asks for, what came back, and why nothing did.
//!
//! Free of any dialect, price, socket or clock. Everything above is written in these words.

pub mod capability;
pub mod failure;
pub mod header;
pub mod request;
pub mod response;
pub mod size;

pub use capability::{Capability, Fitted, Misfit};
pub use failure::{Billed, Failure, FailureKind, SafetyBlock, SafetyStage, Sent};
pub use request::{
    Delivery, Format, ImageRequest, Input, InputRole, InputSource, ModelId, Operation, Quality,
    Safety, Tier,
};
pub use response::{Image, ImageResponse, Picture};
pub use size::{Aspect, Size};

/// Declares a closed set of words: the enum, its spelling, and the list of all, in one place.
///
/// The words are those of the decision log and of Lua; parsing an unknown one yields `None`, so
/// that the caller can say where it stood.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant,)+ }

        impl $name {
            /// Every word, in the order of the definition.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The word as it stands in configuration, log and Lua.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }

            /// The word's meaning; `None` when there is no such word.
            pub fn parse(word: &str) -> Option<$name> {
                match word { $($word => Some($name::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_unit_variant(stringify!($name), *self as u32, self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                let word = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                $name::parse(&word).ok_or_else(|| {
                    let all: Vec<&str> = $name::ALL.iter().map(|w| w.as_str()).collect();
                    serde::de::Error::custom(format!("`{word}` is none of {}", all.join(", ")))
                })
            }
        }
    };
}
pub(crate) use words;
