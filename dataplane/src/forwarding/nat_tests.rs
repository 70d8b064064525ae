use super::*;

fn table(value: serde_json::Value) -> Result<NatTable, serde_json::Error> {
    serde_json::from_value(value)
}

#[test]
fn a_pool_is_of_addresses_and_prefixes_and_survives_the_configuration_file() {
    let pool = serde_json::json!({"pool": ["198.51.100.7", "203.0.113.0/30"]});
    let nat = table(pool).unwrap();

    let last = nat.addresses().last().unwrap();
    assert_eq!(nat.addresses().count(), 5);
    assert_eq!(last, Ipv4Addr::new(203, 0, 113, 3));
    assert!(nat.validate(16).is_ok());
    let written = serde_json::to_value(&nat).unwrap();
    assert_eq!(written["pool"][1], "203.0.113.0/30");
    assert_eq!(table(written).unwrap(), nat);
}

#[test]
fn every_wrong_value_is_named_with_what_is_allowed() {
    for wrong in [
        "198.51.100",
        "203.0.113.1/28",
        "10.0.0.0/8",
        "2001:db8::/64",
    ] {
        let error = table(serde_json::json!({ "pool": [wrong] })).unwrap_err();
        assert!(error.to_string().contains(wrong), "{error}");
    }
    let one = serde_json::json!(["198.51.100.7"]);
    let wrong = [
        (serde_json::json!({ "pool": [] }), "0 addresses"),
        (serde_json::json!({ "pool": ["10.0.0.0/16"] }), "65536"),
        (
            serde_json::json!({ "pool": one, "block_ports": 100 }),
            "100",
        ),
        (
            serde_json::json!({ "pool": one, "block_ports": 4096 }),
            "share 0 of 16",
        ),
        (
            serde_json::json!({ "pool": one, "ipv4": "leave" }),
            "nat.nat64_prefix",
        ),
        (serde_json::json!({ "pool": one, "hold": "61min" }), "hold"),
        (
            serde_json::json!({ "pool": one, "nat64_prefix": "64:ff9b::1" }),
            "64:ff9b::1",
        ),
    ];
    for (value, named) in wrong {
        let nat = table(value.clone());
        let told = match nat {
            Ok(nat) => nat.validate(16).unwrap_err().to_string(),
            Err(error) => error.to_string(),
        };
        assert!(told.contains(named), "{value}: {told}");
    }
}
