//! Bytes of both protocols, in every version where they differ, and what foreign bytes can do.

mod foreign;
mod golden;
