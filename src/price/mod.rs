//! What a request costs: the book, the quote, the charge.
