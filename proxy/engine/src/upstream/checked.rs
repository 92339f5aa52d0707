//! The backends of a cluster that is checked: who of them may be asked, by what the prober has found.
//!
//! Rule: who is not healthy is left out like one that is drained, unless so few are that it is not believed
//! (`panic`), or none. One that is to have a good check first is left out in any case until then.

use std::rc::Rc;

use super::backend::Backend;
use super::health::{Health, SharedMemory};
use crate::state::entity::{Cluster, Initial};

/// What of a cluster says who of its backends may be asked.
pub(super) struct Checked {
    shared: Rc<SharedMemory>,
    initial: Initial,
    /// With a smaller share of healthy ones all are tried, in percent.
    panic: u64,
    /// Somebody else serves requests while none is healthy.
    has_fallback: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stand {
    Well,
    Ill,
    /// It is to have a good check first.
    Unchecked,
}

impl Checked {
    /// Of a cluster that is checked.
    pub(super) fn of(cluster: &Cluster, shared: &Rc<SharedMemory>) -> Option<Box<Self>> {
        let check = cluster.health_check.as_ref()?;
        Some(Box::new(Self {
            shared: shared.clone(),
            initial: check.initial,
            panic: u64::from(cluster.panic.unwrap_or(0)),
            has_fallback: cluster.fallback.is_some(),
        }))
    }

    /// Who may be asked of all of them, as it is in this moment.
    pub(super) fn admitting<'a>(
        &self,
        all: impl Iterator<Item = &'a Rc<Backend>>,
    ) -> impl Fn(&Backend) -> bool {
        let is_panic = self.is_panic(all);
        move |backend| self.admits(backend, is_panic)
    }

    /// Whether so few are healthy that all are tried.
    fn is_panic<'a>(&self, all: impl Iterator<Item = &'a Rc<Backend>>) -> bool {
        let (mut healthy, mut total) = (0, 0);
        for backend in all.filter(|backend| backend.accepts_requests()) {
            let weight = u64::from(backend.weight.get());
            total += weight;
            if self.stand(backend) == Stand::Well {
                healthy += weight;
            }
        }
        healthy * 100 < total * self.panic || healthy == 0 && !self.has_fallback
    }

    /// Whether one may be asked.
    fn admits(&self, backend: &Backend, is_panic: bool) -> bool {
        match self.stand(backend) {
            Stand::Well => true,
            Stand::Ill => is_panic,
            Stand::Unchecked => false,
        }
    }

    fn stand(&self, backend: &Backend) -> Stand {
        let found = self.shared.health.look(backend.watched());
        match found.map_or(Health::Unknown, |it| it.health) {
            Health::Healthy => Stand::Well,
            Health::Unhealthy => Stand::Ill,
            Health::Unknown if self.initial == Initial::Healthy => Stand::Well,
            Health::Unknown => Stand::Unchecked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::socket::Endpoint;
    use crate::state::slot::Slot;
    use crate::telemetry::counters::Metrics;
    use crate::upstream::health::tests::file;
    use crate::upstream::health::{BackendKey, Found, HealthWords};

    struct Host {
        words: HealthWords,
        shared: Rc<SharedMemory>,
    }

    impl Host {
        fn begin(name: &str) -> Self {
            let file = file(name);
            let metrics = Rc::new(Metrics::create(0).unwrap());
            let shared = SharedMemory::new(metrics);
            shared.health.share(HealthWords::of(&file).unwrap());
            Self {
                words: HealthWords::of(&file).unwrap(),
                shared: Rc::new(shared),
            }
        }

        fn find(&self, backend: &Backend, health: Health) {
            let key = BackendKey::of(&backend.name, &backend.address);
            let place = self.words.claim(key).unwrap();
            self.words.write(
                place,
                Found {
                    health,
                    since_ms: 1,
                },
            );
        }

        /// Who of them may be asked.
        fn admitted(&self, cluster: &str, backends: &[Rc<Backend>]) -> Vec<usize> {
            let cluster: Cluster = serde_json::from_str(cluster).unwrap();
            let checked = Checked::of(&cluster, &self.shared).unwrap();
            let admits = checked.admitting(backends.iter());
            (0..backends.len())
                .filter(|&at| admits(&backends[at]))
                .collect()
        }
    }

    fn backends(weights: &[u16]) -> Vec<Rc<Backend>> {
        let make = |(at, &weight): (usize, &u16)| {
            let address = Endpoint::Tcp("127.0.0.1:9".parse().unwrap());
            Rc::new(Backend::new(
                format!("c/{at}"),
                address,
                weight,
                Slot::none(),
            ))
        };
        weights.iter().enumerate().map(make).collect()
    }

    #[test]
    fn who_is_not_healthy_is_left_out_and_none_is_too_few() {
        let (host, all) = (Host::begin("checked-out"), backends(&[1, 1, 1]));
        let cluster = r#"{"health_check":{"http":{}}}"#;
        assert_eq!(
            host.admitted(cluster, &all),
            [0, 1, 2],
            "nobody has said anything"
        );
        host.find(&all[1], Health::Unhealthy);
        assert_eq!(host.admitted(cluster, &all), [0, 2]);
        host.find(&all[0], Health::Unhealthy);
        assert_eq!(host.admitted(cluster, &all), [2]);
        // Who is drained is none that could be asked.
        all[2].set_drained(true);
        assert_eq!(
            host.admitted(cluster, &all),
            [0, 1, 2],
            "up to whoever chooses"
        );
        all[2].set_drained(false);
        host.find(&all[2], Health::Unhealthy);
        assert_eq!(host.admitted(cluster, &all), [0, 1, 2]);
        host.find(&all[1], Health::Healthy);
        assert_eq!(host.admitted(cluster, &all), [1]);
    }

    #[test]
    fn with_too_few_healthy_ones_all_are_tried() {
        let (host, all) = (Host::begin("checked-panic"), backends(&[60, 20, 20]));
        let cluster = r#"{"health_check":{"http":{}},"panic":30}"#;
        host.find(&all[1], Health::Unhealthy);
        host.find(&all[2], Health::Unhealthy);
        assert_eq!(host.admitted(cluster, &all), [0]);
        host.find(&all[1], Health::Healthy);
        host.find(&all[0], Health::Unhealthy);
        assert_eq!(host.admitted(cluster, &all), [0, 1, 2]);
        host.find(&all[2], Health::Healthy);
        assert_eq!(host.admitted(cluster, &all), [1, 2]);
    }

    #[test]
    fn none_is_tried_where_somebody_else_serves_requests_then() {
        let (host, all) = (Host::begin("checked-fallback"), backends(&[1, 1]));
        let fallback = r#"{"fallback":{"cluster":"other"},"health_check":{"http":{}}}"#;
        host.find(&all[0], Health::Unhealthy);
        assert_eq!(host.admitted(fallback, &all), [1]);
        host.find(&all[1], Health::Unhealthy);
        assert!(host.admitted(fallback, &all).is_empty());
        let panic = r#"{"fallback":{"cluster":"other"},"health_check":{"http":{}},"panic":10}"#;
        assert_eq!(host.admitted(panic, &all), [0, 1]);
    }

    #[test]
    fn one_that_is_to_have_a_good_check_first_is_left_out_until_then() {
        let (host, all) = (Host::begin("checked-initial"), backends(&[1, 1]));
        let cluster = r#"{"health_check":{"http":{},"initial":"unchecked"},"panic":100}"#;
        assert!(host.admitted(cluster, &all).is_empty());
        host.find(&all[0], Health::Unhealthy);
        assert_eq!(host.admitted(cluster, &all), [0]);
        host.find(&all[1], Health::Healthy);
        assert_eq!(
            host.admitted(cluster, &all),
            [0, 1],
            "half of them are well"
        );
    }
}
