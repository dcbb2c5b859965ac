//! Money on disk: journal, database, holds and charges.
