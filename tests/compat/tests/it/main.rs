//! What scripts look at: exit codes, standard output, messages.

mod command_line;
mod nix_build_command;
mod nix_env_queries;
mod nix_store_commands;
