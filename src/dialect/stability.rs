//! Stability AI: the v2beta image routes.
