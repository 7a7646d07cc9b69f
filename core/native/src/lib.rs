//! The collector's parser, made fast: a message's events in, rows in PostgreSQL's binary COPY format out.
//!
//!     line --json--> tokens of the known keys --pg_copy--> row of its day
//!        \__ not proved to be valid __ Python reference __ row, or why not
//!
//! The Python reference is `collector/parse/python.py`. This one only takes what it can prove to be valid, so that whatever
//! is rejected, and the reason, is the reference's own word.
//!
//! The gateway's door reads arrays of events by the same cursor and the same fields (`door`), and keeps their bytes.

mod batch_reader;
#[cfg(not(test))]
mod binding;
mod counts;
mod field;
mod instant;
mod json;
mod native_schema;
mod pg_copy;
mod rows;
mod slots;
mod text;
