//! Checks of this project that no common tool makes: `cargo xtask layers`, `cargo xtask tidy`.

mod layers;
mod source;
mod tidy;

use std::process::ExitCode;

fn main() -> ExitCode {
    let task = std::env::args().nth(1);
    let problems = match task.as_deref() {
        Some("layers") => layers::problems(),
        Some("tidy") => tidy::problems(),
        _ => {
            eprintln!("usage: cargo xtask layers|tidy");
            return ExitCode::FAILURE;
        }
    };
    match problems {
        Ok(problems) if problems.is_empty() => ExitCode::SUCCESS,
        Ok(problems) => {
            for problem in &problems {
                eprintln!("{problem}");
            }
            eprintln!("{} problem(s)", problems.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
