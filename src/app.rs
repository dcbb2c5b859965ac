//! Builds every part once, from valid settings.
