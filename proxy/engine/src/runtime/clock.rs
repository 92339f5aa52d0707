//! Time, read once a loop turn and handed to everything else as an argument.
//!
//! Deadlines count time in which we ran: a worker that was stopped, or whose machine was suspended, wakes up
//! with peers that had no chance to be in time, and with answers that it has not read yet.

use std::time::{SystemTime, UNIX_EPOCH};

/// A turn, or a sleep beyond its end, that takes longer is no work of ours.
const PAUSE_US_MIN: u64 = 1_000_000;

/// How old the difference of both clocks may be: a turn takes less than a tenth of it.
const DIFFERENCE_US_MAX: u64 = 1000;

/// The turn's notion of now.
pub struct Clock {
    /// What all processes of the host call the moment at which it starts.
    start_host_ns: u64,
    monotonic_us: u64,
    /// For how long we did not run.
    paused_us: u64,
    unix_us: u64,
    /// When both clocks were read last, and what 1970 is before the start by that.
    compared_us: u64,
    start_unix_us: u64,
    date: [u8; 29],
    date_second: u64,
}

impl Clock {
    /// A clock that starts at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut clock = Self {
            start_host_ns: host_ns(),
            monotonic_us: 0,
            paused_us: 0,
            unix_us: 0,
            compared_us: 0,
            start_unix_us: unix_us(),
            date: [b' '; 29],
            date_second: u64::MAX,
        };
        clock.tick();
        clock
    }

    /// Reads the system's clocks; called once a turn.
    pub fn tick(&mut self) {
        self.monotonic_us = self.us_now();
        if self.monotonic_us - self.compared_us >= DIFFERENCE_US_MAX {
            self.compared_us = self.monotonic_us;
            self.start_unix_us = unix_us().saturating_sub(self.monotonic_us);
        }
        self.unix_us = self.start_unix_us + self.monotonic_us;
        let second = self.unix_us / 1_000_000;
        if second != self.date_second {
            self.date_second = second;
            self.date = http_date(second);
        }
    }

    /// [`Clock::tick`] behind a turn and a sleep of at most `sleep_ms` (`None` = for ever: no deadline is
    /// waited for then). Where both took longer than they can, nobody knows when we were stopped, and none of
    /// it counts.
    pub fn tick_after(&mut self, sleep_ms: Option<u64>) {
        let before_us = self.monotonic_us;
        self.tick();
        let Some(sleep_ms) = sleep_ms else { return };
        let passed_us = self.monotonic_us - before_us;
        if passed_us > PAUSE_US_MIN.saturating_add(sleep_ms.saturating_mul(1000)) {
            self.paused_us += passed_us;
        }
    }

    /// Microseconds since the engine's start; never goes back.
    #[must_use]
    pub fn us(&self) -> u64 {
        self.monotonic_us
    }

    /// The same in nanoseconds since something that all processes of the host have in common; what one of them writes
    /// down is true for the others.
    #[must_use]
    pub fn host_ns(&self) -> u64 {
        self.start_host_ns + self.monotonic_us * 1000
    }

    /// Microseconds since the engine's start as they are at this very moment, to measure what a turn's work takes.
    #[must_use]
    pub fn us_now(&self) -> u64 {
        (host_ns() - self.start_host_ns) / 1000
    }

    /// Milliseconds since the engine's start in which it ran; deadlines are given in it.
    #[must_use]
    pub fn ms(&self) -> u64 {
        self.ran_us() / 1000
    }

    /// The same in microseconds, for what is to become a deadline.
    #[must_use]
    pub fn ran_us(&self) -> u64 {
        self.monotonic_us - self.paused_us
    }

    /// Microseconds since 1970, for logs.
    #[must_use]
    pub fn unix_us(&self) -> u64 {
        self.unix_us
    }

    /// IMF-fixdate of this second (RFC 9110 §5.6.7).
    #[must_use]
    pub fn date(&self) -> &[u8; 29] {
        &self.date
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}

/// CLOCK_MONOTONIC, which [`std::time::Instant`] reads too and does not tell.
fn host_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: plain call that writes to what it is given; it cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn http_date(unix_seconds: u64) -> [u8; 29] {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (days, rest) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let (year, month, day) = civil_from_days(days);
    let text = format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        MONTHS[(month - 1) as usize],
        rest / 3600,
        rest / 60 % 60,
        rest % 60,
    );
    let mut date = [b' '; 29];
    for (to, from) in date.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    date
}

/// Days since 1970-01-01 to (year, month, day) of the proleptic Gregorian calendar: eras of 400
/// years of 146,097 days, counted from 1 March so that the leap day comes last.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn deadlines_leave_out_what_is_longer_than_a_sleep() {
        for (sleep_ms, left_out) in [
            (Some(0), true),
            (Some(3000), true),
            (None, false),
            (Some(u64::MAX / 1000), false),
        ] {
            let mut clock = Clock::new();
            clock.start_host_ns -= 5_000_000_000;
            clock.tick_after(sleep_ms);
            assert!(clock.us() >= 5_000_000);
            assert_eq!(clock.ms() < 1000, left_out, "{sleep_ms:?}");
        }
    }

    #[test]
    fn clocks_of_one_host_agree() {
        let mut one = Clock::new();
        std::thread::sleep(Duration::from_millis(20));
        let mut other = Clock::new();
        one.tick();
        other.tick();
        assert!(one.us() >= 20_000);
        let (before, after) = (one.host_ns(), other.host_ns());
        assert!(after + 1_000_000 > before && after < before + 500_000_000);
    }

    #[test]
    fn a_clock_that_was_set_is_followed() {
        let mut clock = Clock::new();
        // As if it had been an hour earlier by the other clock until now.
        clock.start_unix_us -= 3_600_000_000;
        clock.tick();
        let before = clock.unix_us();
        std::thread::sleep(Duration::from_millis(3));
        clock.tick();
        assert!(clock.unix_us() - before >= 3_600_000_000);
        assert!(clock.unix_us().abs_diff(unix_us()) < 1_000_000);
    }

    #[test]
    fn a_turn_of_much_work_counts() {
        let mut clock = Clock::new();
        clock.start_host_ns -= (PAUSE_US_MIN - 100_000) * 1000;
        clock.tick_after(Some(0));
        assert!(clock.ms() >= 900);
    }

    #[test]
    fn dates_match_known_ones() {
        assert_eq!(&http_date(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&http_date(0), b"Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(&http_date(1_709_164_800), b"Thu, 29 Feb 2024 00:00:00 GMT");
    }
}
