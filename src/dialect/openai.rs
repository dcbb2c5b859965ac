//! OpenAI Images: generations, edits and variations.
