//! Of whom it is one client, and what clients are told.

use super::*;

fn network(address: &str, bits: u8) -> String {
    let address = address.parse().unwrap();
    let network = network_of(address, bits);
    Who::Client(network, bits).shown("a").into()
}

#[test]
fn a_client_has_an_address_or_a_network_of_so_many_bits() {
    let address = "2001:db8:1:2ff:a::7";
    for (bits, shown) in [
        (32, "2001:db8::/32"),
        (48, "2001:db8:1::/48"),
        (56, "2001:db8:1:200::/56"),
        (64, "2001:db8:1:2ff::/64"),
        (96, "2001:db8:1:2ff:a::/96"),
        (127, "2001:db8:1:2ff:a::6/127"),
        (128, "2001:db8:1:2ff:a::7"),
    ] {
        assert_eq!(network(address, bits), shown);
    }
    for address in ["192.0.2.7", "::ffff:192.0.2.7"] {
        assert_eq!(network(address, 32), "192.0.2.7");
    }
}
