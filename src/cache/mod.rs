//! The same picture is bought once.
