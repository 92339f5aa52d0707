//! The relay as a program.

use std::process::ExitCode;
use std::time::Duration;

use kakehi_traffic::arguments::Arguments;
use kakehi_traffic::relay::Relay;

fn main() -> ExitCode {
    let said = relay().and_then(|mut relay| relay.run().map_err(|error| error.to_string()));
    if let Err(said) = said {
        eprintln!("relay: {said}");
    }
    ExitCode::FAILURE
}

fn relay() -> Result<Relay, String> {
    let said = Arguments::parse(std::env::args().skip(1), &["listen", "to", "delay-us"], &[])?;
    let delay = Duration::from_micros(said.find("delay-us")?.unwrap_or(0));
    Relay::new(said.get("listen")?, said.get("to")?, delay).map_err(|error| error.to_string())
}
