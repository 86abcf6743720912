//! What scripts look at: exit codes, standard output, messages.

mod command_line;
