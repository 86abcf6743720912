//! The build init with this crate's builtin builders, for tests; the shipped program holds the same entry point.

fn main() {
    firn_sandbox::run_init_if_requested(&firn_build::builtins::run);
    eprintln!("this program only starts builds; it is run by others");
    std::process::exit(2);
}
