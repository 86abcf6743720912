//! The build init alone, for this crate's tests: the shipped program holds the same entry point.

fn main() {
    firn_sandbox::run_init_if_requested(&|call, _env| {
        Err(format!("no builtin builder '{}' here", call.name))
    });
    eprintln!("this program only starts builds; it is run by others");
    std::process::exit(2);
}
