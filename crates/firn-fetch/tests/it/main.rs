//! Fetching from servers and programs that tests start.

mod forges;
mod mercurial;
mod world;
