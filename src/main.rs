fn main() -> std::process::ExitCode {
    snapfold::cli::main()
}
