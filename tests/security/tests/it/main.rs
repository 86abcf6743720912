//! One module for each class of bug that this field has shipped; see ARCHITECTURE.md, "Security".

mod configuration;
