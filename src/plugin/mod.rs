//! Lua rules: everything that knows mlua is here.
