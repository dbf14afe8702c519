//! The program. All of it is in the library; this hands over arguments and exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(sealift::cli::run(std::env::args_os()).code())
}
