//! The program. All of it is in the library's `cli`.

fn main() -> std::process::ExitCode {
    snapfold::cli::main()
}
