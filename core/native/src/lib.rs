//! The fast implementation of the collector's parser: events of a message in, rows in PostgreSQL's binary COPY format
//! out.
//!
//!     line --json--> tokens of the known keys --pg_copy--> row of its day
//!        \__ not proved to be valid __ Python reference __ row, or a reason
//!
//! The Python reference is `collector/parse/python.py`. This parser accepts only events that it can prove to be valid.
//! The reference decides about all others, and gives the reason for a rejection.
//!
//! The gateway's `batch_reader` reads arrays of events with the same cursor and the same fields, and keeps their bytes.

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
