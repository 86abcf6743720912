//! Stores behind a connection, with the real program at the other end.

mod conformance;
