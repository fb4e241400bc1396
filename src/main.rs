//! The program: everything is in the library's floors, the uppermost of which is the command line.

fn main() -> std::process::ExitCode {
    snapfold::cli::main()
}
