//! The load generator as a program: a plan by its arguments, and what became of it as JSON.

use std::process::ExitCode;
use std::time::Duration;

use kakehi_traffic::arguments::Arguments;
use kakehi_traffic::load::{self, Pace, Plan};

const KNOWN: [&str; 8] = [
    "address",
    "path",
    "rate",
    "in-flight",
    "seconds",
    "warm-up",
    "timeout-ms",
    "connections",
];

fn main() -> ExitCode {
    match measured() {
        Ok(told) => {
            println!("{told}");
            ExitCode::SUCCESS
        }
        Err(said) => {
            eprintln!("load: {said}");
            ExitCode::FAILURE
        }
    }
}

fn measured() -> Result<String, String> {
    let said = Arguments::parse(std::env::args().skip(1), &KNOWN, &["fresh"])?;
    let plan = plan(&said)?;
    let tally = load::run(&plan).map_err(|error| error.to_string())?;
    Ok(tally.to_json(plan.measured).to_string())
}

fn plan(said: &Arguments) -> Result<Plan, String> {
    let fresh = said.has("fresh");
    let path = said.find("path")?.unwrap_or_else(|| "/".to_owned());
    let pace = match (said.find("rate")?, said.find("in-flight")?) {
        (Some(rate), None) if rate > 0.0 => Pace::Rate(rate),
        (None, Some(most)) if most > 0 => Pace::InFlight(most),
        _ => return Err("either --rate or --in-flight is needed, above 0".into()),
    };
    let close = if fresh { "Connection: close\r\n" } else { "" };
    let seconds = |value: Option<f64>, otherwise| {
        Duration::try_from_secs_f64(value.unwrap_or(otherwise)).map_err(|error| error.to_string())
    };
    Ok(Plan {
        address: said.get("address")?,
        request: format!("GET {path} HTTP/1.1\r\nHost: bench.test\r\n{close}\r\n").into(),
        pace,
        warm_up: seconds(said.find("warm-up")?, 1.0)?,
        measured: seconds(said.find("seconds")?, 5.0)?,
        timeout: Duration::from_millis(said.find("timeout-ms")?.unwrap_or(1000)),
        connections: said.find("connections")?.unwrap_or(64),
        fresh,
    })
}
