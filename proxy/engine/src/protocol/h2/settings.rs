//! Settings (RFC 9113 §6.5): ours, which never change, and what the peer has said.

use super::error::ConnectionFault;
use super::flow::WINDOW_DEFAULT;
use super::flow::WINDOW_MAX;
use super::frame::{self, Kind};
use crate::protocol::h1::HeadLimits;

/// What a connection grants.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Of requests, or of responses. All of the limits of HTTP/1.1 hold, cookie crumbs count as
    /// fields, and each field as 32 bytes more (T04).
    pub head_limits: HeadLimits,
    /// Streams that the peer may have at a time. 100 is what RFC 9113 §6.5.2 asks for at least,
    /// and what nearly all have; more only helps those who reset them.
    pub streams_max: u32,
    /// Bytes of one body that may wait in us. For a server not below 64 KiB - 1, which a client may use
    /// before it has read our settings.
    pub stream_window: u32,
    /// Bytes of all bodies that may wait in us; what a connection can make us hold.
    pub connection_window: u32,
    /// Take requests of RFC 8441, which is WebSocket over HTTP/2.
    pub extended_connect: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            head_limits: HeadLimits {
                head_bytes_max: 32 << 10,
                header_count_max: 100,
            },
            streams_max: 100,
            stream_window: 128 << 10,
            // As much as one receive buffer, which is what may wait for an HTTP/1.1 connection.
            connection_window: 256 << 10,
            extended_connect: true,
        }
    }
}

impl Settings {
    /// With windows that a peer cannot overrun by not knowing them.
    pub(super) fn normalised(mut self, is_server: bool) -> Self {
        // A server has read our settings before it has anything to send us.
        let least = if is_server { WINDOW_DEFAULT } else { 1 };
        self.stream_window = self.stream_window.clamp(least, WINDOW_MAX);
        self.connection_window = self.connection_window.clamp(WINDOW_DEFAULT, WINDOW_MAX);
        self
    }

    /// Appends the frames that announce them.
    pub(super) fn write(&self, out: &mut Vec<u8>, is_server: bool) {
        let mut payload = Vec::with_capacity(36);
        let mut put = |id: u16, value: u32| {
            payload.extend_from_slice(&id.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        };
        if is_server {
            put(MAX_CONCURRENT_STREAMS, self.streams_max);
        } else {
            put(ENABLE_PUSH, 0);
        }
        put(INITIAL_WINDOW_SIZE, self.stream_window);
        let list_bytes_max = u32::try_from(self.head_limits.head_bytes_max);
        put(MAX_HEADER_LIST_SIZE, list_bytes_max.unwrap_or(u32::MAX));
        if is_server {
            put(ENABLE_CONNECT_PROTOCOL, u32::from(self.extended_connect));
        }
        put(NO_RFC7540_PRIORITIES, 1);
        frame::write(out, Kind::Settings, 0, 0, &payload);
        let more = self.connection_window - WINDOW_DEFAULT;
        if more > 0 {
            frame::write(out, Kind::WindowUpdate, 0, 0, &more.to_be_bytes());
        }
    }
}

/// What the peer has said.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerSettings {
    pub(super) initial_window: u32,
    pub(super) streams_max: u32,
    pub(super) extended_connect: bool,
    pub(super) table_bytes: Option<u32>,
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            initial_window: WINDOW_DEFAULT,
            // Until it says otherwise; without a setting there would be no limit at all.
            streams_max: 100,
            extended_connect: false,
            table_bytes: None,
        }
    }
}

impl PeerSettings {
    /// Takes over a payload (RFC 9113 §6.5.2).
    pub(super) fn apply(&mut self, payload: &[u8], is_server: bool) -> Result<(), ConnectionFault> {
        if payload.len() % 6 != 0 {
            return Err(ConnectionFault::FrameSize);
        }
        for setting in payload.chunks_exact(6) {
            let &[i0, i1, v0, v1, v2, v3] = setting else {
                continue;
            };
            let value = u32::from_be_bytes([v0, v1, v2, v3]);
            match u16::from_be_bytes([i0, i1]) {
                HEADER_TABLE_SIZE => self.table_bytes = Some(value),
                // Only a client may ask for pushes, and we make none.
                ENABLE_PUSH if value > u32::from(is_server) => {
                    return Err(ConnectionFault::BadSetting);
                }
                MAX_CONCURRENT_STREAMS => self.streams_max = value,
                INITIAL_WINDOW_SIZE if value > WINDOW_MAX => {
                    return Err(ConnectionFault::Window);
                }
                INITIAL_WINDOW_SIZE => self.initial_window = value,
                MAX_FRAME_SIZE if !(16_384..=0xff_ffff).contains(&value) => {
                    return Err(ConnectionFault::BadSetting);
                }
                ENABLE_CONNECT_PROTOCOL if value > 1 => return Err(ConnectionFault::BadSetting),
                ENABLE_CONNECT_PROTOCOL => self.extended_connect = value == 1,
                _ => {}
            }
        }
        Ok(())
    }
}

const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;
const MAX_HEADER_LIST_SIZE: u16 = 6;
/// RFC 8441 §3.
const ENABLE_CONNECT_PROTOCOL: u16 = 8;
/// RFC 9218 §2.1.
const NO_RFC7540_PRIORITIES: u16 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(settings: &[(u16, u32)], is_server: bool) -> Result<PeerSettings, ConnectionFault> {
        let mut payload = Vec::new();
        for (id, value) in settings {
            payload.extend_from_slice(&id.to_be_bytes());
            payload.extend_from_slice(&value.to_be_bytes());
        }
        let mut peer = PeerSettings::default();
        peer.apply(&payload, is_server).map(|()| peer)
    }

    #[test]
    fn settings_are_taken_over() {
        let peer = apply(
            &[(3, 7), (4, 1), (5, 1 << 20), (8, 1), (1, 0), (99, 9)],
            true,
        )
        .unwrap();
        assert_eq!((peer.streams_max, peer.initial_window), (7, 1));
        assert_eq!(peer.table_bytes, Some(0));
        assert!(peer.extended_connect);
    }

    #[test]
    fn a_setting_out_of_range_ends_the_connection() {
        for (setting, is_server, fault) in [
            ((2, 2), true, ConnectionFault::BadSetting),
            ((2, 1), false, ConnectionFault::BadSetting),
            ((4, 1 << 31), true, ConnectionFault::Window),
            ((5, 16_383), true, ConnectionFault::BadSetting),
            ((5, 1 << 24), true, ConnectionFault::BadSetting),
            ((8, 2), true, ConnectionFault::BadSetting),
        ] {
            assert_eq!(
                apply(&[setting], is_server).err(),
                Some(fault),
                "{setting:?}"
            );
        }
        assert!(apply(&[(2, 1)], true).is_ok());
        let mut peer = PeerSettings::default();
        assert_eq!(peer.apply(b"12345", true), Err(ConnectionFault::FrameSize));
    }
}
