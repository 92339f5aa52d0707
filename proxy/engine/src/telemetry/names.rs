//! The names of everything that is counted. One table per sort; the reconciler reads them from the
//! header of the shared memory and puts them into its metrics, so a name here is public.

/// Declares an enum whose variants are indexes into an array and have public names.
macro_rules! named_indexes {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$doc])* $variant,)+
        }

        impl $name {
            /// Every one, in the order of the shared memory.
            pub const ALL: [Self; [$($text),+].len()] = [$(Self::$variant),+];

            /// Its public name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}

named_indexes! {
    /// A number about the worker as a whole. `_total` only grows, `_now` goes up and down.
    Counter {
        /// Requests whose head was complete and valid.
        RequestsTotal = "requests_total",
        /// Those of them, and connections passed on unread, that ended whole: with all of a response, of
        /// a backend or of our own. `requests + passthroughs = served + cut + in flight`, exactly.
        RequestsServedTotal = "requests_served_total",
        /// Those of them that ended before that, whoever left.
        RequestsCutTotal = "requests_cut_total",
        /// Interim responses passed on.
        Responses1xxTotal = "responses_1xx_total",
        /// Responses by status, backends' and our own.
        Responses2xxTotal = "responses_2xx_total",
        /// See [`Counter::Responses2xxTotal`].
        Responses3xxTotal = "responses_3xx_total",
        /// See [`Counter::Responses2xxTotal`].
        Responses4xxTotal = "responses_4xx_total",
        /// See [`Counter::Responses2xxTotal`].
        Responses5xxTotal = "responses_5xx_total",
        /// Client connections accepted.
        ConnectionsAcceptedTotal = "connections_accepted_total",
        /// Client connections open.
        ConnectionsNow = "connections_now",
        /// Requests in flight.
        RequestsNow = "requests_now",
        /// Upstream connections begun.
        UpstreamConnectsTotal = "upstream_connects_total",
        /// Requests sent over an upstream connection that was idle.
        UpstreamReusesTotal = "upstream_reuses_total",
        /// Upstream connections that failed or took too long to connect.
        UpstreamConnectErrorsTotal = "upstream_connect_errors_total",
        /// Upstream connections for which this machine had no descriptor, port or memory left.
        UpstreamExhaustedTotal = "upstream_exhausted_total",
        /// Upstream connections whose TLS handshake failed.
        UpstreamTlsErrorsTotal = "upstream_tls_errors_total",
        /// Upstream connections open, idle ones included.
        UpstreamConnectionsNow = "upstream_connections_now",
        /// Bytes read from clients.
        BytesFromClientsTotal = "bytes_from_clients_total",
        /// Bytes written to clients.
        BytesToClientsTotal = "bytes_to_clients_total",
        /// Connections closed at once because of a limit.
        RefusedConnectionsTotal = "refused_connections_total",
        /// Requests answered 503 at once because of a limit.
        RefusedRequestsTotal = "refused_requests_total",
        /// Connections given up for a fault of the worker's own.
        MishapsTotal = "mishaps_total",
        /// Idle connections that gave way to fresh ones.
        EvictedIdleTotal = "evicted_idle_total",
        /// Requests that are not valid HTTP, or ambiguous.
        Rejected400Total = "rejected_400_total",
        /// Requests of clients that have shown no password that is right.
        Rejected401Total = "rejected_401_total",
        /// TRACE, which no frontend has named.
        Rejected405Total = "rejected_405_total",
        /// Requests that did not arrive in time.
        Rejected408Total = "rejected_408_total",
        /// Requests of clients that may not ask: by their address, origin or want of a certificate.
        Rejected403Total = "rejected_403_total",
        /// Request bodies over the limit.
        Rejected413Total = "rejected_413_total",
        /// Request targets over the limit.
        Rejected414Total = "rejected_414_total",
        /// Requests over TLS of ours for a host whose TLS is passed on.
        Rejected421Total = "rejected_421_total",
        /// Requests that came as early data, and that only a complete handshake makes safe to serve.
        Rejected425Total = "rejected_425_total",
        /// Handshakes for WebSocket in a version that is not carried.
        Rejected426Total = "rejected_426_total",
        /// Requests that came too often.
        Rejected429Total = "rejected_429_total",
        /// Request heads over a limit.
        Rejected431Total = "rejected_431_total",
        /// Requests for what is not implemented, such as an unknown transfer coding.
        Rejected501Total = "rejected_501_total",
        /// Requests that have come through too many of us: they go in a circle.
        Rejected508Total = "rejected_508_total",
        /// Requests that no frontend matches.
        NotFound404Total = "not_found_404_total",
        /// Requests for a cluster without a ready backend.
        Unavailable503Total = "unavailable_503_total",
        /// Requests whose backend failed or spoke no valid HTTP.
        BadGateway502Total = "bad_gateway_502_total",
        /// Requests whose backend took too long.
        GatewayTimeout504Total = "gateway_timeout_504_total",
        /// Further backends tried.
        RetriesTotal = "retries_total",
        /// Those of them after there was no connection.
        RetriesConnectTotal = "retries_connect_total",
        /// The same after a backend had not looked at a request.
        RetriesRefusedStreamTotal = "retries_refused_stream_total",
        /// The same after a connection had ended before an answer.
        RetriesResetTotal = "retries_reset_total",
        /// The same after there was no answer in time.
        RetriesTimeoutTotal = "retries_timeout_total",
        /// The same after an answer by its status.
        RetriesStatusTotal = "retries_status_total",
        /// The same by its status of gRPC.
        RetriesGrpcTotal = "retries_grpc_total",
        /// Requests that are to go to a mirror as well.
        MirrorsTotal = "mirrors_total",
        /// Those of them that a mirror did not get, or not whole: it was slow, or the client has left.
        MirrorsDroppedTotal = "mirrors_dropped_total",
        /// Those of them that a mirror has not answered.
        MirrorsFailedTotal = "mirrors_failed_total",
        /// Passwords that were hashed, since nobody had shown them before.
        PasswordsHashedTotal = "passwords_hashed_total",
        /// Signatures of tokens that were looked at, since these were not known (`jwt`).
        TokensVerifiedTotal = "tokens_verified_total",
        /// Tokens by keys that are not among those of their issuer.
        TokensUnknownKeyTotal = "tokens_unknown_key_total",
        /// Questions whether a request may pass (`forward_auth`).
        AuthorisationsTotal = "authorisations_total",
        /// Requests of which nobody was asked, since the word about an earlier one counted.
        AuthorisationsKnownTotal = "authorisations_known_total",
        /// Those of them that were answered by a refusal, which its client got.
        AuthorisationsRefusedTotal = "authorisations_refused_total",
        /// Those of them to which there was no verdict: the request was answered 503.
        AuthorisationsFailedTotal = "authorisations_failed_total",
        /// Requests over a rate that is only tried.
        RateLimitDryRunTotal = "rate_limit_dry_run_total",
        /// Requests refused by a rate, whatever the status that says so.
        RateLimitedTotal = "rate_limited_total",
        /// Requests whose number in flight a worker has counted by itself, and not for the host.
        ConcurrencyAloneTotal = "concurrency_alone_total",
        /// Whether it counts all of them so, since it has no memory of the host.
        ConcurrencyAloneNow = "concurrency_alone_now",
        /// Keys of rates whose places others have taken before they were free.
        RateKeysEvictedTotal = "rate_keys_evicted_total",
        /// Requests refused since there was no room for their keys.
        RateKeysRefusedTotal = "rate_keys_refused_total",
        /// Answers that were compressed.
        CompressionResponsesTotal = "compression_responses_total",
        /// What of them has come, in bytes.
        CompressionBytesInTotal = "compression_bytes_in_total",
        /// What of them has left.
        CompressionBytesOutTotal = "compression_bytes_out_total",
        /// Answers that were not, where that is asked for: of other types.
        CompressionSkippedTypeTotal = "compression_skipped_type_total",
        /// The same, shorter than is worth it.
        CompressionSkippedShortTotal = "compression_skipped_short_total",
        /// The same, compressed already.
        CompressionSkippedEncodedTotal = "compression_skipped_encoded_total",
        /// The same, with cookies or private.
        CompressionSkippedPrivateTotal = "compression_skipped_private_total",
        /// The same, whose origin forbids it or vouches for their bytes.
        CompressionSkippedForbiddenTotal = "compression_skipped_forbidden_total",
        /// The same, whose clients do not take it.
        CompressionSkippedUnacceptedTotal = "compression_skipped_unaccepted_total",
        /// The same, beyond the memory or the time that there is for it.
        CompressionSkippedBudgetTotal = "compression_skipped_budget_total",
        /// Times that an answer has waited for its bandwidth.
        BandwidthPausesTotal = "bandwidth_pauses_total",
        /// Answers of backends in whose place a page of our own was sent.
        InterceptedTotal = "intercepted_total",
        /// Tunnels opened.
        TunnelsTotal = "tunnels_total",
        /// Tunnels open.
        TunnelsNow = "tunnels_now",
        /// TLS handshakes completed with clients.
        TlsHandshakesTotal = "tls_handshakes_total",
        /// Those of them that were shortened by a ticket.
        TlsResumptionsTotal = "tls_resumptions_total",
        /// TLS handshakes with early data.
        TlsEarlyDataTotal = "tls_early_data_total",
        /// TLS handshakes that failed or took too long.
        TlsHandshakeErrorsTotal = "tls_handshake_errors_total",
        /// Connections whose TLS is passed on unread.
        PassthroughsTotal = "passthroughs_total",
        /// Client connections that chose HTTP/2.
        Http2ConnectionsTotal = "http2_connections_total",
        /// HTTP/2 connections that broke the protocol, or made more work than they had a right to.
        Http2ErrorsTotal = "http2_errors_total",
        /// Connections of load balancers that did not say who the client is, or not as they should.
        ProxyProtocolErrorsTotal = "proxy_protocol_errors_total",
        /// Turns of the event loop.
        LoopTurnsTotal = "loop_turns_total",
        /// Access log records that were dropped.
        AccessLogDroppedTotal = "access_log_dropped_total",
        /// The generation that new requests are served by.
        GenerationNow = "generation_now",
        /// Failures to accept, such as having no file descriptor left.
        AcceptErrorsTotal = "accept_errors_total",
        /// Timeouts of any sort that ended a request or a connection with one in flight.
        TimeoutsTotal = "timeouts_total",
        /// Requests whose client left before the response was complete.
        AbortedByClientTotal = "aborted_by_client_total",
        /// Responses whose backend left before they were complete.
        AbortedByBackendTotal = "aborted_by_backend_total",
        /// Entities that found all slots taken since there may be so many, and are counted nowhere.
        UncountedEntitiesNow = "uncounted_entities_now",
        /// Memory behind bytes that wait for peers, or for the rest of a message.
        BufferedBytesNow = "buffered_bytes_now",
    }
}

named_indexes! {
    /// A number about one entity, in its slot. The first shares a cache line with the entity's name,
    /// so it is one that is seldom written.
    Field {
        /// Why the last TLS handshake with it failed, see [`crate::tls::fault::TlsFault`]; 0 when it
        /// did not.
        TlsFault = "tls_fault",
        /// Requests.
        Requests = "requests",
        /// Interim responses passed on.
        Responses1xx = "responses_1xx",
        /// Responses by status.
        Responses2xx = "responses_2xx",
        /// See [`Field::Responses2xx`].
        Responses3xx = "responses_3xx",
        /// See [`Field::Responses2xx`].
        Responses4xx = "responses_4xx",
        /// See [`Field::Responses2xx`].
        Responses5xx = "responses_5xx",
        /// Connections that failed or took too long to connect.
        ConnectErrors = "connect_errors",
        /// Requests in flight; goes up and down.
        Active = "active",
        /// Upstream connections open; goes up and down.
        Connections = "connections",
        /// Bytes of request bodies.
        BytesIn = "bytes_in",
        /// Bytes of responses.
        BytesOut = "bytes_out",
        /// Sum of the durations of its requests, in microseconds.
        DurationUs = "duration_us",
        /// Further backends tried.
        Retries = "retries",
        /// 1 while an operator drains it.
        Drained = "drained",
        /// Timeouts while it was waited for.
        Timeouts = "timeouts",
        /// Requests sent over a connection that was idle.
        Reuses = "reuses",
    }
}

named_indexes! {
    /// What is measured as a distribution of durations.
    Histogram {
        /// From the first byte of a request to the last of its response.
        RequestDuration = "request_duration",
        /// From handing a request to a backend to the head of its response.
        UpstreamResponse = "upstream_response",
        /// From beginning to connect to being connected.
        ConnectDuration = "connect_duration",
    }
}

/// What a slot belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotKind {
    /// A frontend.
    Frontend = 0,
    /// A cluster.
    Cluster = 1,
    /// A backend.
    Backend = 2,
    /// A policy.
    Policy = 3,
}

impl SlotKind {
    /// Its word, as kinds of entities have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Frontend => "frontend",
            Self::Cluster => "cluster",
            Self::Backend => "backend",
            Self::Policy => "policy",
        }
    }
}

impl Counter {
    /// The counter of responses with this status.
    #[inline]
    pub fn of_status(status: u16) -> Self {
        match status / 100 {
            0 | 1 => Self::Responses1xxTotal,
            2 => Self::Responses2xxTotal,
            3 => Self::Responses3xxTotal,
            4 => Self::Responses4xxTotal,
            _ => Self::Responses5xxTotal,
        }
    }
}

impl Field {
    /// What a frontend counts in a field that is about connections to backends, of which it has none: answers
    /// by the statuses of those who may not. So that its slot is no larger for them.
    pub const OF_FRONTENDS: [(Self, u16, &'static str); 4] = [
        (Self::ConnectErrors, 401, "responses_401"),
        (Self::Connections, 403, "responses_403"),
        (Self::Timeouts, 413, "responses_413"),
        (Self::Reuses, 429, "responses_429"),
    ];

    /// What a cluster counts in fields that are about a backend alone.
    pub const OF_CLUSTERS: [(Self, &'static str); 2] = [
        (Self::FALLBACKS, "fallbacks"),
        (Self::OVER_BUDGET, "retries_over_budget"),
    ];
    /// Attempts that were not made, since that would have been more than `retry.budget` allows.
    pub const OVER_BUDGET: Self = Self::Timeouts;
    /// Requests of a cluster that another one, or an answer of the configuration, has served in its place.
    pub const FALLBACKS: Self = Self::ConnectErrors;

    /// What a policy counts, and nothing else.
    pub const OF_POLICIES: [(Self, &'static str); 3] = [
        (Self::RATE_LIMITED, "rate_limited"),
        (Self::CROWDED, "crowded"),
        (Self::DRY_RUN, "dry_run"),
    ];
    /// Requests that a rate of it has refused.
    pub const RATE_LIMITED: Self = Self::Responses1xx;
    /// Requests that its bound of those in flight has refused.
    pub const CROWDED: Self = Self::Responses2xx;
    /// Requests that one of these has let through, since it is only tried.
    pub const DRY_RUN: Self = Self::Responses3xx;

    /// The field of responses with this status; none where nothing was answered.
    #[inline]
    pub fn of_status(status: u16) -> Option<Self> {
        Some(match status / 100 {
            0 => return None,
            1 => Self::Responses1xx,
            2 => Self::Responses2xx,
            3 => Self::Responses3xx,
            4 => Self::Responses4xx,
            _ => Self::Responses5xx,
        })
    }

    /// The field in which a frontend counts those of this status alone, if it does.
    #[inline]
    pub fn of_refusal(status: u16) -> Option<Self> {
        if status / 100 != 4 {
            return None;
        }
        let mut fields = Self::OF_FRONTENDS.iter();
        fields
            .find(|(_, counted, _)| *counted == status)
            .map(|(field, ..)| *field)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_indexes_dense() {
        let names: HashSet<_> = Counter::ALL
            .iter()
            .map(|counter| counter.as_str())
            .collect();
        assert_eq!(names.len(), Counter::ALL.len());
        for (index, counter) in Counter::ALL.into_iter().enumerate() {
            assert_eq!(counter as usize, index);
            let name = counter.as_str();
            assert!(name.ends_with("_total") || name.ends_with("_now"), "{name}");
        }
        for (index, field) in Field::ALL.into_iter().enumerate() {
            assert_eq!(field as usize, index);
        }
    }

    #[test]
    fn statuses_fall_into_classes() {
        assert_eq!(Counter::of_status(204), Counter::Responses2xxTotal);
        assert_eq!(Counter::of_status(599), Counter::Responses5xxTotal);
        assert_eq!(Field::of_status(101), Some(Field::Responses1xx));
        assert_eq!(Field::of_status(404), Some(Field::Responses4xx));
        assert_eq!(Field::of_status(0), None, "nothing was answered");
        assert_eq!(Field::of_refusal(429), Some(Field::Reuses));
        assert_eq!([404, 200, 0].map(Field::of_refusal), [None; 3]);
    }
}
