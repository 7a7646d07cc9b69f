//! A key of an event, and what its value has to be.

use crate::copying::Kind;

/// A key that a shape has, and what its value has to be. `path` is a JSON path without `$.`.
#[derive(Debug)]
pub struct Field {
    pub path: String,
    pub nullable: bool,
    pub kind: Kind,
}

/// A field with the place of its value among an event's tokens.
#[derive(Debug)]
pub struct Placed {
    pub place: usize,
    pub nullable: bool,
    pub kind: Kind,
}
