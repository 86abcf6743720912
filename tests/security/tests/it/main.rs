//! Attacks, tried for real: one module for each class of bug that programs of this kind have shipped.

mod archives;
mod build_directory;
mod builtins;
mod cgroups;
mod clients;
mod configuration;
mod descriptors;
mod downloads;
mod faults;
mod limits;
mod outputs;
mod raw_protocol;
mod recursive;

/// A program that is none of Nix's, started in the world's working directory.
#[expect(clippy::disallowed_methods, reason = "tests run programs")]
fn tool(world: &firn_testkit::World, name: &str) -> std::process::Command {
    let mut command = std::process::Command::new(name);
    command.current_dir(world.work_dir()).stdin(std::process::Stdio::null());
    command
}
