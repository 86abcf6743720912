//! Values as text: the language's own form, JSON and XML.

mod grisu;
pub mod json;
pub mod print;
pub mod suggest;
pub mod xml;
