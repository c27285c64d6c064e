//! Loads one HTTP/1.1 server, checks every response and reports latencies.

use std::process::ExitCode;

use carboy_benchmark_load::{arguments, closed_loop, fixed_rate};

fn main() -> ExitCode {
    let arguments = match arguments::parse(lexopt::Parser::from_env()) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{}", arguments::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("load_generator: {error}");
            return ExitCode::from(2);
        }
    };
    let result = match arguments.rate {
        Some(rate) => fixed_rate::run(&arguments, rate),
        None => closed_loop::run(&arguments),
    };
    match result {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("load_generator: {error}");
            ExitCode::FAILURE
        }
    }
}
