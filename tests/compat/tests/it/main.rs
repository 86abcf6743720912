//! What scripts look at: exit codes, standard output, messages.

mod bad_input;
mod caches;
mod channels;
mod command_line;
mod comparing;
mod daemon;
mod evaluation_access;
mod evaluation_builds;
mod evaluation_cores;
mod evaluation_output;
mod evaluation_watch;
mod fetching;
mod full_disk;
mod generated;
mod grammar;
mod manual;
mod nix_build_command;
mod nix_env_queries;
mod nix_profile;
mod nix_store_commands;
mod profiles;
mod repl;
mod shell_memory;
mod shells;
mod takeover;
mod together;
